//! A ledger whose calls can be held back, one kind at a time: what happens meanwhile is what the service does without
//! waiting for the ledger.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use lineshaft::clock::WallTime;
use lineshaft::error::StoreError;
use lineshaft::ledger::claim::Claims;
use lineshaft::ledger::{
    Begun, CancelMark, DeadTask, Decision, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Ledger, Lifetimes, Notices,
    Session, Standing, Undone, Verdict,
};
use lineshaft::task::{LeaseId, MessageKey, QueueName, SessionId, TaskId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// [`Ledger::begin`].
    Begin,
    /// [`Ledger::decide`].
    Decide,
    /// [`Ledger::leases`].
    Leases,
    /// [`Ledger::release`].
    Release,
}

/// Holds calls back while it is shut for their kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// How many calls still pass, and how many behind them are held back; the rest passes.
    shut: Mutex<HashMap<Call, (u32, u32)>>,
    opened: Notify,
}

impl Gate {
    /// Calls of this kind wait from now on.
    pub(crate) fn shut(&self, call: Call) {
        self.0.shut.lock().insert(call, (0, u32::MAX));
    }

    /// One call of this kind waits, after `passing` others; those behind it pass.
    pub(crate) fn shut_for_one(&self, call: Call, passing: u32) {
        self.0.shut.lock().insert(call, (passing, 1));
    }

    /// Those that wait go on, and new ones pass.
    pub(crate) fn open(&self, call: Call) {
        self.0.shut.lock().remove(&call);
        self.0.opened.notify_waiters();
    }

    async fn pass(&self, call: Call) {
        match self.0.shut.lock().get_mut(&call) {
            None | Some((0, 0)) => return,
            Some((0, held)) => *held -= 1,
            Some((passing, _)) => {
                *passing -= 1;
                return;
            }
        }
        loop {
            let opened = self.0.opened.notified();
            if !self.0.shut.lock().contains_key(&call) {
                return;
            }
            opened.await;
        }
    }
}

/// A ledger behind a gate.
#[derive(Debug)]
pub(crate) struct Gated {
    gate: Gate,
    room: Arc<dyn Ledger>,
}

impl Gated {
    /// Puts `gate` in front of `room`.
    pub(crate) fn new(room: Arc<dyn Ledger>, gate: Gate) -> Self {
        Self { gate, room }
    }
}

#[async_trait]
impl Ledger for Gated {
    fn name(&self) -> &'static str {
        self.room.name()
    }

    fn replicas(&self) -> bool {
        self.room.replicas()
    }

    async fn attach(&self, session: &Session) -> Result<bool, StoreError> {
        self.room.attach(session).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.room.session(id).await
    }

    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
        self.room.sessions(after, max).await
    }

    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
        self.room.renew(sessions).await
    }

    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        self.room.renewals().await
    }

    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError> {
        self.room.close(session, renewal).await
    }

    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError> {
        self.room.orphans(max).await
    }

    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError> {
        self.gate.pass(Call::Begin).await;
        self.room.begin(grants).await
    }

    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
        self.room.lookup(leases).await
    }

    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
        self.room.standing(messages).await
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        self.gate.pass(Call::Leases).await;
        self.room.leases(query).await
    }

    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError> {
        self.gate.pass(Call::Release).await;
        self.room.release(items).await
    }

    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        self.gate.pass(Call::Decide).await;
        self.room.decide(decisions).await
    }

    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
        self.room.undone(before, max).await
    }

    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
        self.room.done(messages, at).await
    }

    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError> {
        self.room.bury(dead).await
    }

    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
        self.room.dead(after, max).await
    }

    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        self.room.dead_of(messages).await
    }

    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        self.room.begin_requeue(items).await
    }

    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
        self.room.forget_dead(messages).await
    }

    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        self.room.mark(marks).await
    }

    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
        self.room.marked(sendings).await
    }

    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
        self.room.marks(after, max).await
    }

    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        self.room.unmark(marks).await
    }

    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError> {
        self.room.leased().await
    }

    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
        self.room.pause(queues, at).await
    }

    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError> {
        self.room.resume(queues).await
    }

    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
        self.room.paused().await
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        self.room.sweep(now).await
    }

    fn claims(&self) -> &dyn Claims {
        self.room.claims()
    }

    fn lifetimes(&self) -> &dyn Lifetimes {
        self.room.lifetimes()
    }

    fn joins(&self) -> &dyn lineshaft::ledger::join::Joins {
        self.room.joins()
    }

    async fn sweep_dead(&self, before: WallTime) -> Result<usize, StoreError> {
        self.room.sweep_dead(before).await
    }

    fn notices(&self) -> &dyn Notices {
        self.room.notices()
    }
}
