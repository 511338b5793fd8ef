//! The embedded ledger: the truth about attempts in the engine's file.
//!
//! Each call is one job of the committer, so calls are compared one after another and answered once they are durable.
//! Renewal numbers are in memory, the sessions themselves are not.

mod attempt;
mod cancels;
mod claims;
mod dead;
mod ends;
mod joins;
mod layout;
mod leases;
mod lifetimes;
mod pauses;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::{Clock, WallTime};
use crate::engine::{self, Engine};
use crate::error::StoreError;
use crate::task::{LeaseId, MessageKey, QueueName, SessionId, TaskId};

use super::claim::{Claim, ClaimName, Claimed, Claims, Step};
use super::{
    Begun, CancelMark, DeadTask, Decision, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Lifetime, Lifetimes,
    LocalNotices, Notices, Session, Standing, Undone, Verdict,
};

pub(crate) use claims::{claim_in, is_decided_in, published_in};
pub(crate) use ends::decide_in;
pub(crate) use joins::joins_in;
pub(crate) use layout::restored_in;
pub(crate) use lifetimes::limit_in;

/// The embedded ledger. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger {
    engine: Engine,
    clock: Arc<dyn Clock>,
    renewals: Arc<sessions::Renewals>,
    notices: Arc<LocalNotices>,
    openings: Arc<joins::Openings>,
}

impl Ledger {
    /// The ledger in `engine`. Reads its sessions; all their renewal numbers begin anew.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`] if a session cannot be read.
    pub fn open(engine: Engine, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let renewals = Arc::new(sessions::Renewals::load(&engine)?);
        Ok(Self { engine, clock, renewals, notices: Arc::default(), openings: Arc::default() })
    }
}

#[async_trait]
impl super::Ledger for Ledger {
    fn name(&self) -> &'static str {
        engine::NAME
    }

    fn replicas(&self) -> bool {
        false
    }

    async fn attach(&self, session: &Session) -> Result<bool, StoreError> {
        let (renewals, session) = (Arc::clone(&self.renewals), session.clone());
        self.engine.write(move |txn| sessions::attach_in(txn, &renewals, &session)).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.engine.read(|records| sessions::read(records, id))
    }

    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
        self.engine.read(|records| sessions::page(records, after, max))
    }

    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
        Ok(self.renewals.raise(sessions))
    }

    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        Ok(self.renewals.all())
    }

    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (renewals, id) = (Arc::clone(&self.renewals), session.clone());
        let (undo, undo_id) = (Arc::clone(&self.renewals), session.clone());
        // Not `write`: if the commit fails, the session must be renewable again even though nobody waits any more.
        self.engine.enqueue(
            move |txn| sessions::close_in(txn, &renewals, &id, renewal),
            move |result| {
                if result.is_err() {
                    undo.undo_close(&undo_id);
                }
                // An error says that nobody waits any more.
                let _ = answer.send(result);
            },
        )?;
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown { store: engine::NAME, why: "the committer has stopped".to_owned() })
        })
    }

    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError> {
        self.engine.read(|records| leases::orphans(records, max))
    }

    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError> {
        let (grants, now) = (grants.to_vec(), self.clock.wall());
        self.engine.write(move |txn| leases::begin_in(txn, &grants, now)).await
    }

    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
        self.engine.read(|records| {
            let status = |lease: &LeaseId| {
                let attempt = layout::attempt(records, &lease.message)?;
                Ok(attempt.map_or(LeaseStatus::Gone, |attempt| attempt.status(lease)))
            };
            leases.iter().map(status).collect()
        })
    }

    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
        self.engine.read(|records| {
            let standing = |message: &MessageKey| {
                let attempt = layout::attempt(records, message)?;
                Ok(attempt.map_or(Standing::Open, |attempt| attempt.standing(message)))
            };
            messages.iter().map(standing).collect()
        })
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        self.engine.read(|records| leases::list(records, query))
    }

    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError> {
        let (items, now) = (items.to_vec(), self.clock.wall());
        self.engine.write(move |txn| ends::release_in(txn, &items, now)).await
    }

    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        let decisions = decisions.to_vec();
        self.engine.write(move |txn| ends::decide_all_in(txn, &decisions)).await
    }

    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
        self.engine.read(|records| ends::undone(records, before, max))
    }

    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
        let messages = messages.to_vec();
        self.engine.write(move |txn| ends::done_in(txn, &messages, at)).await
    }

    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError> {
        let dead = dead.to_vec();
        self.engine.write(move |txn| dead.iter().try_for_each(|dead| dead::bury_in(txn, dead))).await
    }

    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
        self.engine.read(|records| dead::page(records, after, max))
    }

    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        self.engine.read(|records| messages.iter().map(|message| dead::read(records, message)).collect())
    }

    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        let items = items.to_vec();
        self.engine.write(move |txn| dead::begin_requeue_in(txn, &items)).await
    }

    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
        let messages = messages.to_vec();
        self.engine.write(move |txn| dead::forget_in(txn, &messages)).await
    }

    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        let marks = marks.to_vec();
        self.engine.write(move |txn| cancels::mark_in(txn, &marks)).await
    }

    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
        self.engine.read(|records| cancels::marked(records, sendings))
    }

    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
        self.engine.read(|records| cancels::page(records, after, max))
    }

    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        let marks = marks.to_vec();
        self.engine.write(move |txn| cancels::unmark_in(txn, &marks)).await
    }

    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError> {
        self.engine.read(leases::counts)
    }

    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
        let queues = queues.to_vec();
        self.engine.write(move |txn| pauses::pause_in(txn, &queues, at)).await
    }

    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError> {
        let queues = queues.to_vec();
        self.engine.write(move |txn| pauses::resume_in(txn, &queues)).await
    }

    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
        self.engine.read(pauses::all)
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        loop {
            let openings = Arc::clone(&self.openings);
            let swept = self
                .engine
                .write(move |txn| {
                    let lapsed = claims::sweep_in(txn, now)?;
                    let joined = joins::sweep_in(txn, &openings, now)?;
                    Ok(ends::sweep_in(txn, now)?.and(lapsed).and(joined))
                })
                .await?;
            // A job may meet overtaken entries only; 0 must mean that nothing is left.
            if swept.forgotten > 0 || !swept.is_unfinished {
                return Ok(swept.forgotten);
            }
        }
    }

    fn claims(&self) -> &dyn Claims {
        self
    }

    fn lifetimes(&self) -> &dyn Lifetimes {
        self
    }

    fn joins(&self) -> &dyn crate::ledger::join::Joins {
        self
    }

    async fn sweep_dead(&self, before: WallTime) -> Result<usize, StoreError> {
        loop {
            let swept = self.engine.write(move |txn| dead::sweep_in(txn, before)).await?;
            // A job may meet entries of tasks that were set aside anew; 0 must mean that nothing is left.
            if swept.forgotten > 0 || !swept.is_unfinished {
                return Ok(swept.forgotten);
            }
        }
    }

    fn notices(&self) -> &dyn Notices {
        &*self.notices
    }
}

#[async_trait]
impl Claims for Ledger {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
        let claims = claims.to_vec();
        self.engine.write(move |txn| claims::claim_in(txn, &claims, Step::Claim)).await
    }

    async fn published(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
        let items = items.to_vec();
        self.engine.write(move |txn| claims::published_in(txn, &items)).await
    }

    async fn unclaim(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
        let items = items.to_vec();
        self.engine.write(move |txn| claims::unclaim_in(txn, &items)).await
    }
}

#[async_trait]
impl Lifetimes for Ledger {
    async fn limit(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        let lifetimes = lifetimes.to_vec();
        self.engine.write(move |txn| lifetimes::limit_in(txn, &lifetimes)).await
    }

    async fn over(&self, now: WallTime, after: Option<&Lifetime>, max: usize) -> Result<Vec<Lifetime>, StoreError> {
        self.engine.read(|records| lifetimes::over(records, now, after, max))
    }

    async fn forget(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        let lifetimes = lifetimes.to_vec();
        self.engine.write(move |txn| lifetimes::forget_in(txn, &lifetimes)).await
    }
}
