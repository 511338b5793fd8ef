//! Joins: what was sent together, and how much of it has ended.
//!
//! A join is a *set* of members that ended, added idempotently: whoever adds the last one, or finds it full later, fires
//! what follows, and what follows is recorded before it is done. Each step may be repeated by anybody.
//!
//! Sending → open → fired → closed. Costs per member: one entry, whatever the number of members.

pub mod record;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Effects, Lifetime};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{GroupId, MessageKey, TaskId};

/// What is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tasks beside each other; nothing follows.
    Group,
    /// Tasks beside each other, and one more behind them all.
    Chord,
    /// Tasks one behind the other; each is sent by the end of the one before.
    Chain,
}

/// What follows a chord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The task that is sent, as it is: no results are in it yet.
    pub body: Bytes,
    /// Sent however the members ended, with their outcomes; else only if all of them succeeded, with their results.
    pub is_always: bool,
}

/// What a join is, without its members: what is read of it again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub id: GroupId,
    /// What it is.
    pub kind: Kind,
    /// The sending of its members, see [`crate::task::Order::generation`]; 0: another program sent them.
    pub generation: u64,
    /// Keys of the messages of its members and of its callback are derived from this one.
    pub message: MessageKey,
    /// Digest of what was asked: the same again is the same join.
    pub digest: [u8; 32],
    /// How many members have to end: different ids, 1 or more.
    pub count: u32,
    /// What follows.
    pub callback: Option<Callback>,
    /// When it was opened.
    pub at: WallTime,
    /// Another program sent it, or may end its members: they are looked for in the backend.
    pub is_shared: bool,
    /// How long it is remembered once it is closed.
    pub keep: Duration,
}

/// A join that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// What it is.
    pub head: Head,
    /// The ids of its members, all different, in order: as many as [`Head::count`]. Empty: nobody knows them, and each one that
    /// ends counts, in the order in which they do.
    pub members: Vec<TaskId>,
    /// Its members are about to be sent; until [`Joins::sent`] says that they are, whoever looks knows that they may not be.
    pub is_sending: bool,
    /// When to look at it first.
    pub look_at: WallTime,
}

/// The answer to an [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is open now.
    New,
    /// There is one under this id; nothing was changed.
    Known(Standing),
}

/// A member that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Of which join.
    pub group: GroupId,
    /// Which task.
    pub task: TaskId,
    /// Badly.
    pub is_failure: bool,
    /// How, for whoever reads the members; opaque here.
    pub outcome: Bytes,
}

/// How far a join is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its members are being sent, or were left unsent.
    Sending,
    /// Its members are sent, and not all have ended, or nobody has said so yet.
    Open,
    /// All have ended, and what follows is recorded.
    Fired,
    /// What follows is done.
    Closed,
}

/// How a join stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is.
    pub head: Head,
    /// How far it is.
    pub stage: Stage,
    /// How many members ended, those that failed among them.
    pub ended: u32,
    /// How many failed.
    pub failed: u32,
}

impl Standing {
    /// All members have ended.
    pub fn is_full(&self) -> bool {
        self.ended >= self.head.count
    }
}

/// What follows a join, recorded when it is full.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Firing {
    /// States, messages, and members of other joins that can never run.
    pub effects: Effects,
    /// Lifetimes of the tasks that are sent.
    pub begins: Vec<Lifetime>,
}

/// The answer to a [`Firing`].
#[derive(Debug, Clone, PartialEq)]
pub enum Fired {
    /// Recorded now.
    Recorded,
    /// Something was recorded before: do that.
    Known(Box<Firing>),
    /// It is closed, or nobody knows it: there is nothing to do.
    Over,
}

/// A member of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The task.
    pub task: TaskId,
    /// How it ended, see [`Ended::outcome`], and whether badly; `None`: it has not. Nothing is told of a closed join.
    pub outcome: Option<(Bytes, bool)>,
}

/// Joins, compared and set. All methods take what may be repeated, and change nothing the second time.
///
/// # Errors
/// As [`super::Ledger`].
#[async_trait]
pub trait Joins: Send + Sync {
    /// Opens joins, one answer each. Each for itself: of several, some may be open when an error is answered.
    async fn open(&self, openings: &[Opening]) -> Result<Vec<Opened>, StoreError>;

    /// Says that all members of these joins are sent. [`Stage::Sending`] becomes [`Stage::Open`]; others stay.
    async fn sent(&self, groups: &[GroupId]) -> Result<(), StoreError>;

    /// Forgets joins of which nothing was sent.
    async fn forget(&self, groups: &[GroupId]) -> Result<(), StoreError>;

    /// Adds members that ended. One that was added before stays as it was. Of a join that is fired or closed, or that nobody
    /// knows, or that has members and not this one, it is passed over. A join that is full from now on is due at once.
    async fn add(&self, ended: &[Ended]) -> Result<(), StoreError>;

    /// How joins stand; `None`: not known, or forgotten.
    async fn standing(&self, groups: &[GroupId]) -> Result<Vec<Option<Standing>>, StoreError>;

    /// Members in their order, from position `from` on, at most `max`. Fewer than `max`: these were the last. Of a join without
    /// known members those that ended, in the order in which they were added.
    async fn members(&self, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError>;

    /// Members that have not ended, in their order, from position `from` on, at most `max`; looks at a bounded number of them, and
    /// answers from where to go on (`None`: there are no more). Of a closed join, or one whose members nobody knows: none.
    async fn missing(&self, group: &GroupId, from: u32, max: usize) -> Result<(Vec<TaskId>, Option<u32>), StoreError>;

    /// Records what follows joins, unless something is recorded already.
    async fn fire(&self, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError>;

    /// Says that what follows is done. Members and outcomes need not be kept with what is remembered, ids and counts are,
    /// for [`Head::keep`] from `at`; then it is forgotten ([`super::Ledger::sweep`]).
    async fn close(&self, groups: &[GroupId], at: WallTime) -> Result<(), StoreError>;

    /// Joins that are due to be looked at `now`, the longest due first, at most `max`. They stay due until [`Joins::look`] or
    /// [`Joins::close`].
    async fn due(&self, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError>;

    /// When to look at joins next; of one that is closed or not known nothing. One that is full, and not looked at since it
    /// is, stays due at once: `seen` is the number of members that had ended when it was looked at.
    async fn look(&self, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError>;
}
