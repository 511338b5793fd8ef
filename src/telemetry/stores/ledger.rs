//! The calls of a ledger.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Measured, Stores, methods};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::claim::{Claim, ClaimName, Claimed, Claims};
use crate::ledger::join::{self, Fired, Firing, Joins, Member, Opened, Opening};
use crate::ledger::lifetime::{Lifetime, Lifetimes};
use crate::ledger::{
    Begun, CancelMark, DeadTask, Decision, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Ledger, Notices, Session,
    Standing, Undone, Verdict,
};
use crate::task::{GroupId, LeaseId, MessageKey, QueueName, SessionId, TaskId};

methods!(attach session sessions renew renewals close orphans begin lookup standing leases release decide undone done bury dead dead_of begin_requeue forget_dead mark marked marks unmark leased pause resume paused sweep sweep_dead claim published unclaim limit over forget joins_open joins_sent joins_forget joins_add joins_standing joins_members joins_missing joins_fire joins_close joins_due joins_look);

impl Stores {
    /// Puts a measure around a ledger.
    pub fn ledger(&self, inner: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        let name = inner.name();
        Arc::new(Measured::new(inner, self, "ledger", name, METHODS))
    }
}

#[async_trait]
impl Ledger for Measured<dyn Ledger> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn replicas(&self) -> bool {
        self.inner.replicas()
    }

    async fn attach(&self, session: &Session) -> Result<bool, StoreError> {
        self.room.whole(Place::attach as usize, self.inner.attach(session)).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.room.whole(Place::session as usize, self.inner.session(id)).await
    }

    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
        self.room.whole(Place::sessions as usize, self.inner.sessions(after, max)).await
    }

    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
        self.room.whole(Place::renew as usize, self.inner.renew(sessions)).await
    }

    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        self.room.whole(Place::renewals as usize, self.inner.renewals()).await
    }

    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError> {
        self.room.whole(Place::close as usize, self.inner.close(session, renewal)).await
    }

    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError> {
        self.room.whole(Place::orphans as usize, self.inner.orphans(max)).await
    }

    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError> {
        self.room.whole(Place::begin as usize, self.inner.begin(grants)).await
    }

    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
        self.room.whole(Place::lookup as usize, self.inner.lookup(leases)).await
    }

    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
        self.room.whole(Place::standing as usize, self.inner.standing(messages)).await
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        self.room.whole(Place::leases as usize, self.inner.leases(query)).await
    }

    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError> {
        self.room.whole(Place::release as usize, self.inner.release(items)).await
    }

    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        self.room.whole(Place::decide as usize, self.inner.decide(decisions)).await
    }

    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
        self.room.whole(Place::undone as usize, self.inner.undone(before, max)).await
    }

    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
        self.room.whole(Place::done as usize, self.inner.done(messages, at)).await
    }

    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError> {
        self.room.whole(Place::bury as usize, self.inner.bury(dead)).await
    }

    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
        self.room.whole(Place::dead as usize, self.inner.dead(after, max)).await
    }

    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        self.room.whole(Place::dead_of as usize, self.inner.dead_of(messages)).await
    }

    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        self.room.whole(Place::begin_requeue as usize, self.inner.begin_requeue(items)).await
    }

    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
        self.room.whole(Place::forget_dead as usize, self.inner.forget_dead(messages)).await
    }

    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        self.room.whole(Place::mark as usize, self.inner.mark(marks)).await
    }

    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
        self.room.whole(Place::marked as usize, self.inner.marked(sendings)).await
    }

    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
        self.room.whole(Place::marks as usize, self.inner.marks(after, max)).await
    }

    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        self.room.whole(Place::unmark as usize, self.inner.unmark(marks)).await
    }

    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError> {
        self.room.whole(Place::leased as usize, self.inner.leased()).await
    }

    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
        self.room.whole(Place::pause as usize, self.inner.pause(queues, at)).await
    }

    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError> {
        self.room.whole(Place::resume as usize, self.inner.resume(queues)).await
    }

    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
        self.room.whole(Place::paused as usize, self.inner.paused()).await
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        self.room.whole(Place::sweep as usize, self.inner.sweep(now)).await
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
        self.room.whole(Place::sweep_dead as usize, self.inner.sweep_dead(before)).await
    }

    fn notices(&self) -> &dyn Notices {
        self.inner.notices()
    }
}

#[async_trait]
impl Claims for Measured<dyn Ledger> {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
        self.room.whole(Place::claim as usize, self.inner.claims().claim(claims)).await
    }

    async fn published(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
        self.room.whole(Place::published as usize, self.inner.claims().published(items)).await
    }

    async fn unclaim(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
        self.room.whole(Place::unclaim as usize, self.inner.claims().unclaim(items)).await
    }
}

#[async_trait]
impl Lifetimes for Measured<dyn Ledger> {
    async fn limit(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        self.room.whole(Place::limit as usize, self.inner.lifetimes().limit(lifetimes)).await
    }

    async fn over(&self, now: WallTime, after: Option<&Lifetime>, max: usize) -> Result<Vec<Lifetime>, StoreError> {
        self.room.whole(Place::over as usize, self.inner.lifetimes().over(now, after, max)).await
    }

    async fn forget(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        self.room.whole(Place::forget as usize, self.inner.lifetimes().forget(lifetimes)).await
    }
}

#[async_trait]
impl Joins for Measured<dyn Ledger> {
    async fn open(&self, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
        self.room.whole(Place::joins_open as usize, self.inner.joins().open(openings)).await
    }

    async fn sent(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        self.room.whole(Place::joins_sent as usize, self.inner.joins().sent(groups)).await
    }

    async fn forget(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        self.room.whole(Place::joins_forget as usize, self.inner.joins().forget(groups)).await
    }

    async fn add(&self, ended: &[join::Ended]) -> Result<(), StoreError> {
        self.room.whole(Place::joins_add as usize, self.inner.joins().add(ended)).await
    }

    async fn standing(&self, groups: &[GroupId]) -> Result<Vec<Option<join::Standing>>, StoreError> {
        self.room.whole(Place::joins_standing as usize, self.inner.joins().standing(groups)).await
    }

    async fn members(&self, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError> {
        self.room.whole(Place::joins_members as usize, self.inner.joins().members(group, from, max)).await
    }

    async fn missing(&self, group: &GroupId, from: u32, max: usize) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
        self.room.whole(Place::joins_missing as usize, self.inner.joins().missing(group, from, max)).await
    }

    async fn fire(&self, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
        self.room.whole(Place::joins_fire as usize, self.inner.joins().fire(firings)).await
    }

    async fn close(&self, groups: &[GroupId], at: WallTime) -> Result<(), StoreError> {
        self.room.whole(Place::joins_close as usize, self.inner.joins().close(groups, at)).await
    }

    async fn due(&self, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
        self.room.whole(Place::joins_due as usize, self.inner.joins().due(now, max)).await
    }

    async fn look(&self, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError> {
        self.room.whole(Place::joins_look as usize, self.inner.joins().look(looks)).await
    }
}
