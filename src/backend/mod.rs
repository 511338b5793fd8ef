//! The backend seam: what Machinery programs can see, task states in its format under its keys.

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod memory;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{GroupId, MessageKey, Order, TaskId, TaskState, Timestamp};

/// A state to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StateWrite {
    /// The state. `created_at` [`crate::task::Timestamp::ZERO`] and an empty `task_name` mean: as stored.
    pub state: TaskState,
    /// Forgotten this long after it was written, unless something was written since.
    pub keep: Duration,
}

/// Whether a write was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Applied.
    Applied,
    /// The stored state is the same or later: nothing was changed.
    Behind,
}

/// A group as Machinery programs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMeta {
    /// Its id.
    pub id: GroupId,
    /// The ids of its members, in order. Another program may have written the same one twice.
    pub tasks: Vec<TaskId>,
    /// Somebody has set out to send its callback.
    pub is_triggered: bool,
    /// When it was sent; [`Timestamp::ZERO`]: not known.
    pub created_at: Timestamp,
}

/// The answer to [`Backend::trigger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triggered {
    /// The flag is set, by this call or by one before for the same message: send the callback.
    Ours,
    /// Another program has set the flag: it sends the callback, or died before it did.
    Theirs,
    /// Another program is about to look at the flag of some group: ask again in a moment.
    Busy,
    /// There is no record of the group: it has expired.
    Unknown,
}

/// What Machinery programs can see.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The room's name: `embedded`, `redis`, …
    fn name(&self) -> &'static str;

    /// Stores states, one answer each, in order. A write whose [`Order`] is not greater than the stored one changes
    /// nothing, nor does it prolong; several of one task in a batch are applied in order. What has expired at `now` is as
    /// if it had never been.
    ///
    /// # Errors
    /// Per item: [`StoreError::Unavailable`] nothing was written; [`StoreError::OutcomeUnknown`]: write again.
    async fn write(&self, states: &[StateWrite], now: WallTime) -> Vec<Result<Written, StoreError>>;

    /// Reads states, in order; `None`: unknown or expired at `now`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`].
    async fn read(&self, ids: &[TaskId], now: WallTime) -> Result<Vec<Option<TaskState>>, StoreError>;

    /// Removes states that are still exactly of this order, and tells watchers: a PENDING whose message was definitely not sent.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn retract(&self, states: &[(TaskId, Order)]) -> Result<(), StoreError>;

    /// Stores the record of a group, whatever stood there; forgotten `keep` after `now`, at once if that is no time at all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::OutcomeUnknown`]: write again.
    async fn put_group(&self, group: &GroupMeta, keep: Duration, now: WallTime) -> Result<(), StoreError>;

    /// Reads records of groups, in order; `None`: unknown or expired at `now`, or no record of a group.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn groups(&self, ids: &[GroupId], now: WallTime) -> Result<Vec<Option<GroupMeta>>, StoreError>;

    /// Sets the flag that says that the callback of a group is being sent, so that of all programs, Machinery's workers among
    /// them, one sends it. The record is kept for `keep` from `now`. Repeated for the same `message` it answers the same.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::OutcomeUnknown`]: call again.
    async fn trigger(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        now: WallTime,
    ) -> Result<Triggered, StoreError>;

    /// Has the record of a group and the final states of these tasks kept for `keep` from `now`, those of them that would be
    /// forgotten in less than half of that; what is not there, or not final, is passed over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::OutcomeUnknown`]: call again.
    async fn refresh(&self, group: &GroupId, tasks: &[TaskId], keep: Duration, now: WallTime)
    -> Result<(), StoreError>;

    /// Forgets what is past its time, a bounded amount; answers how much. Rooms whose store expires by itself answer 0.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError>;

    /// Looking at the tasks that ended; `None`: this room knows states by their id only.
    fn ended(&self) -> Option<&dyn Ended> {
        None
    }

    /// Being told of changes; `None`: `service` polls what is watched.
    fn watch(&self) -> Option<&dyn Watch> {
        None
    }
}

/// Looking at final states. Changes nothing.
#[async_trait]
pub trait Ended: Send + Sync {
    /// The final states that have not expired at `now`, the last written ([`TaskState::updated_at`]) first, a page at a
    /// time. A state that is there while pages are read is in exactly one of them; one that was written since the first
    /// page may be in none.
    ///
    /// A room that others write to lists what was stored through it, in the order in which it was stored: with several
    /// replicas that differs from `updated_at` by their clocks and by what is under way. It forgets the oldest of very many.
    ///
    /// A page may be short, or empty, and not the last.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`]; [`StoreError::Position`] if [`EndedQuery::after`] is not a
    /// position of this room.
    async fn ended(&self, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError>;
}

/// A question to [`Ended::ended`].
#[derive(Debug, Clone, Copy)]
pub struct EndedQuery<'a> {
    /// Position from the page before; `None`: from the newest on.
    pub after: Option<&'a [u8]>,
    /// At most this many states; 0 is taken as 1.
    pub max: usize,
    /// Stop after the state that brings the results and errors to this many bytes, as they are stored.
    pub bytes_max: usize,
}

/// A page of final states.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndedPage {
    /// In order.
    pub states: Vec<TaskState>,
    /// Position behind the last one looked at; `None`: nothing follows.
    pub next: Option<Vec<u8>>,
}

/// Being told that a state changed, whoever wrote it. One listener for each replica; it reads again what it is told of.
pub trait Watch: Send + Sync {
    /// From now on changes of this task are told, until [`Watch::unwatch`]. Counted: as many unwatch as watch.
    fn watch(&self, id: &TaskId);

    /// No longer.
    fn unwatch(&self, id: &TaskId);

    /// Ids that may have changed. A listener that falls behind loses some, and then re-reads all that it watches.
    fn changes(&self) -> tokio::sync::broadcast::Receiver<TaskId>;
}
