//! The ledger in Redis: the truth about attempts, shared by every replica.
//!
//! What changes a record is one script, so calls are compared one after another, whichever replica makes them. See
//! `README.md` for the keys and what they cost.

mod attempt;
mod cancels;
pub(crate) mod claims;
mod dead;
pub(crate) mod decisions;
mod ends;
pub(crate) mod joins;
mod layout;
mod leases;
mod lifetimes;
mod notices;
mod pauses;
mod sessions;
mod store;

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::{Clock, WallTime};
use crate::error::StoreError;
use crate::link::redis::Link;
use crate::task::{LeaseId, MessageKey, QueueName, SessionId, TaskId};

use super::claim::{Claim, ClaimName, Claimed, Claims};
use super::join::Joins;
use super::{
    Begun, CancelMark, DeadTask, Decision, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Lifetime, Lifetimes, Notices,
    Session, Standing, Undone, Verdict,
};

use store::Store;

/// The ledger in a Redis. Each replica has its own.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    clock: Arc<dyn Clock>,
    marks: leases::Marks,
    notices: notices::Channel,
}

impl Ledger {
    /// The ledger behind `link`. Begins to listen to the other replicas; call it within a runtime.
    pub fn new(link: Link, clock: Arc<dyn Clock>) -> Self {
        let notices = notices::Channel::start(&link);
        Self { store: Store::new(link), clock, marks: leases::Marks::default(), notices }
    }

    /// The command that remembers `lifetimes`, to be carried out together with others.
    pub(crate) fn limiting(&self, lifetimes: &[Lifetime]) -> redis::Cmd {
        lifetimes::limiting(lifetimes)
    }
}

#[async_trait]
impl super::Ledger for Ledger {
    fn name(&self) -> &'static str {
        store::NAME
    }

    fn replicas(&self) -> bool {
        true
    }

    async fn attach(&self, session: &Session) -> Result<bool, StoreError> {
        sessions::attach(&self.store, session).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        sessions::read(&self.store, id).await
    }

    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
        sessions::page(&self.store, after, max).await
    }

    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
        sessions::renew(&self.store, sessions).await
    }

    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        sessions::renewals(&self.store).await
    }

    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError> {
        sessions::close(&self.store, session, renewal).await
    }

    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError> {
        leases::orphans(&self.store, max).await
    }

    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError> {
        leases::begin(&self.store, &self.marks, grants, self.clock.wall()).await
    }

    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
        leases::lookup(&self.store, leases).await
    }

    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
        leases::standing(&self.store, messages).await
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        leases::list(&self.store, query).await
    }

    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError> {
        ends::release(&self.store, items, self.clock.wall()).await
    }

    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        ends::decide(&self.store, decisions).await
    }

    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
        ends::undone(&self.store, before, max).await
    }

    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
        ends::done(&self.store, messages, at).await
    }

    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError> {
        dead::bury(&self.store, dead).await
    }

    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
        dead::page(&self.store, after, max).await
    }

    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        dead::read(&self.store, messages).await
    }

    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        dead::begin_requeue(&self.store, items).await
    }

    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
        dead::forget(&self.store, messages).await
    }

    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        cancels::mark(&self.store, marks).await
    }

    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
        cancels::marked(&self.store, sendings).await
    }

    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
        cancels::page(&self.store, after, max).await
    }

    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        cancels::unmark(&self.store, marks).await
    }

    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError> {
        leases::counts(&self.store).await
    }

    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
        pauses::pause(&self.store, queues, at).await
    }

    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError> {
        pauses::resume(&self.store, queues).await
    }

    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
        pauses::all(&self.store).await
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        let mut pieces = store::Pieces::default();
        let records = pieces.next(ends::sweep(&self.store, now).await)?;
        let claims = pieces.next(claims::sweep(&self.store, now).await)?;
        Ok(records + claims + pieces.next(joins::sweep(&self.store, now).await)?)
    }

    fn claims(&self) -> &dyn Claims {
        self
    }

    fn lifetimes(&self) -> &dyn Lifetimes {
        self
    }

    fn joins(&self) -> &dyn Joins {
        self
    }

    async fn sweep_dead(&self, before: WallTime) -> Result<usize, StoreError> {
        dead::sweep(&self.store, before).await
    }

    fn notices(&self) -> &dyn Notices {
        &self.notices
    }
}

#[async_trait]
impl Claims for Ledger {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
        claims::claim(&self.store, claims).await
    }

    async fn published(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
        claims::published(&self.store, items).await
    }

    async fn unclaim(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
        claims::unclaim(&self.store, items).await
    }
}

#[async_trait]
impl Lifetimes for Ledger {
    async fn limit(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        lifetimes::limit(&self.store, lifetimes).await
    }

    async fn over(&self, now: WallTime, after: Option<&Lifetime>, max: usize) -> Result<Vec<Lifetime>, StoreError> {
        lifetimes::over(&self.store, now, after, max).await
    }

    async fn forget(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        lifetimes::forget(&self.store, lifetimes).await
    }
}
