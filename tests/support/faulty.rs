//! A store that fails on demand: a wrapper around any room, with a switch.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lineshaft::backend::{Backend, Ended, EndedPage, EndedQuery, GroupMeta, StateWrite, Triggered, Watch, Written};
use lineshaft::broker::{
    Broker, Capabilities, Delivery, Depth, Find, Found, Inspect, NewTask, PendingPage, PendingQuery, Pick, Published,
    Recall, Receipt, Settle, Spot, Want, Wanted,
};
use lineshaft::clock::WallTime;
use lineshaft::error::StoreError;
use lineshaft::fused::Fused;
use lineshaft::ledger::claim::{Claim, ClaimName, Claimed, Claims, Sending};
use lineshaft::ledger::join::{self, Fired, Firing, Joins, Member, Opened, Opening};
use lineshaft::ledger::{
    Begun, CancelMark, DeadTask, Decision, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Ledger, Lifetime, Lifetimes,
    Notices, Session, Standing, Undone, Verdict,
};
use lineshaft::task::{GroupId, LeaseId, MessageKey, Order, QueueName, SessionId, TaskId, TaskName, TaskState};
use parking_lot::Mutex;

const STORE: &str = "faulty";

/// How a store fails. Reads are [`StoreError::Unavailable`] in every mode but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// It does not.
    #[default]
    Works,
    /// It cannot be reached.
    Unavailable,
    /// The connection breaks before the store has written: [`StoreError::OutcomeUnknown`].
    UnknownBefore,
    /// The connection breaks after the store has written: [`StoreError::OutcomeUnknown`].
    UnknownAfter,
}

/// Sets the mode of all wrappers that share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switch(Arc<Mutex<(Mode, Option<usize>)>>);

impl Switch {
    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        *self.0.lock() = (mode, None);
    }

    /// For the next `calls` calls; then it works again.
    pub(crate) fn next(&self, calls: usize, mode: Mode) {
        *self.0.lock() = (mode, Some(calls));
    }

    fn mode(&self) -> Mode {
        let mut state = self.0.lock();
        let (mode, left) = *state;
        match left {
            Some(0) => Mode::Works,
            Some(left) => {
                *state = (mode, Some(left - 1));
                mode
            }
            None => mode,
        }
    }

    fn read(&self) -> Result<(), StoreError> {
        if self.mode() == Mode::Works { Ok(()) } else { Err(unavailable()) }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { store: STORE, why: "the switch says so".to_owned() }
}

fn unknown() -> StoreError {
    StoreError::OutcomeUnknown { store: STORE, why: "the switch says so".to_owned() }
}

/// A room that fails when its switch says so.
#[derive(Debug)]
pub(crate) struct Faulty<T: ?Sized> {
    switch: Switch,
    room: Arc<T>,
}

impl<T: ?Sized> Faulty<T> {
    /// Puts `switch` in front of `room`.
    pub(crate) fn new(room: Arc<T>, switch: Switch) -> Self {
        Self { switch, room }
    }
}

/// A write that answers as a whole.
macro_rules! write {
    ($self:ident, $call:expr) => {
        match $self.switch.mode() {
            Mode::Works => $call.await,
            Mode::Unavailable => Err(unavailable()),
            Mode::UnknownBefore => Err(unknown()),
            Mode::UnknownAfter => $call.await.and(Err(unknown())),
        }
    };
}

/// A write that answers for each of `$items`.
macro_rules! write_each {
    ($self:ident, $items:ident, $call:expr) => {
        match $self.switch.mode() {
            Mode::Works => $call.await,
            Mode::Unavailable => $items.iter().map(|_| Err(unavailable())).collect(),
            Mode::UnknownBefore => $items.iter().map(|_| Err(unknown())).collect(),
            Mode::UnknownAfter => $call.await.into_iter().map(|answer| answer.and(Err(unknown()))).collect(),
        }
    };
}

#[async_trait]
impl Broker for Faulty<dyn Broker> {
    fn capabilities(&self) -> &Capabilities {
        self.room.capabilities()
    }

    fn durability(&self) -> &'static str {
        self.room.durability()
    }

    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        write_each!(self, tasks, self.room.publish(tasks))
    }

    async fn ready(&self, queue: &QueueName, names: &[TaskName]) -> Result<(), StoreError> {
        self.switch.read()?;
        self.room.ready(queue, names).await
    }

    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        self.switch.read()?;
        self.room.take(want).await
    }

    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>> {
        write_each!(self, items, self.room.settle(items))
    }

    async fn hasten(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.room.hasten(queue).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.room.close().await
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.room.inspect().map(|_| self as &dyn Inspect)
    }

    fn find(&self) -> Option<&dyn Find> {
        self.room.find().map(|_| self as &dyn Find)
    }

    fn recall(&self) -> Option<&dyn Recall> {
        self.room.recall().map(|_| self as &dyn Recall)
    }

    fn pick(&self) -> Option<&dyn Pick> {
        self.room.pick().map(|_| self as &dyn Pick)
    }
}

#[async_trait]
impl Pick for Faulty<dyn Broker> {
    fn picks_delayed(&self) -> bool {
        self.room.pick().is_some_and(Pick::picks_delayed)
    }

    async fn search(&self, wanted: Wanted<'_>, max: usize) -> Result<Vec<Spot>, StoreError> {
        self.switch.read()?;
        self.room.pick().ok_or_else(unavailable)?.search(wanted, max).await
    }

    async fn pick(&self, spots: &[Spot]) -> Result<Vec<Option<Delivery>>, StoreError> {
        self.switch.read()?;
        self.room.pick().ok_or_else(unavailable)?.pick(spots).await
    }
}

#[async_trait]
impl Inspect for Faulty<dyn Broker> {
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError> {
        self.switch.read()?;
        self.room.inspect().ok_or_else(unavailable)?.pending(query).await
    }

    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError> {
        self.switch.read()?;
        self.room.inspect().ok_or_else(unavailable)?.queues(after, prefix, max).await
    }

    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError> {
        self.switch.read()?;
        self.room.inspect().ok_or_else(unavailable)?.depths(queues).await
    }
}

#[async_trait]
impl Find for Faulty<dyn Broker> {
    async fn find(&self, tasks: &[TaskId]) -> Result<Vec<Vec<Found>>, StoreError> {
        self.switch.read()?;
        self.room.find().ok_or_else(unavailable)?.find(tasks).await
    }
}

#[async_trait]
impl Recall for Faulty<dyn Broker> {
    async fn recall(&self, keys: &[MessageKey]) -> Result<Vec<Option<bytes::Bytes>>, StoreError> {
        self.switch.read()?;
        self.room.recall().ok_or_else(unavailable)?.recall(keys).await
    }

    async fn discard(&self, keys: &[MessageKey]) -> Result<(), StoreError> {
        let recall = self.room.recall().ok_or_else(unavailable)?;
        write!(self, recall.discard(keys))
    }
}

#[async_trait]
impl Ledger for Faulty<dyn Ledger> {
    fn name(&self) -> &'static str {
        self.room.name()
    }

    fn replicas(&self) -> bool {
        self.room.replicas()
    }

    async fn attach(&self, session: &Session) -> Result<bool, StoreError> {
        write!(self, self.room.attach(session))
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.switch.read()?;
        self.room.session(id).await
    }

    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
        self.switch.read()?;
        self.room.sessions(after, max).await
    }

    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
        write!(self, self.room.renew(sessions))
    }

    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        self.switch.read()?;
        self.room.renewals().await
    }

    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError> {
        write!(self, self.room.close(session, renewal))
    }

    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError> {
        self.switch.read()?;
        self.room.orphans(max).await
    }

    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError> {
        write!(self, self.room.begin(grants))
    }

    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
        self.switch.read()?;
        self.room.lookup(leases).await
    }

    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
        self.switch.read()?;
        self.room.standing(messages).await
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        self.switch.read()?;
        self.room.leases(query).await
    }

    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError> {
        write!(self, self.room.release(items))
    }

    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        write!(self, self.room.decide(decisions))
    }

    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
        self.switch.read()?;
        self.room.undone(before, max).await
    }

    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
        write!(self, self.room.done(messages, at))
    }

    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError> {
        write!(self, self.room.bury(dead))
    }

    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
        self.switch.read()?;
        self.room.dead(after, max).await
    }

    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        self.switch.read()?;
        self.room.dead_of(messages).await
    }

    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        write!(self, self.room.begin_requeue(items))
    }

    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
        write!(self, self.room.forget_dead(messages))
    }

    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        write!(self, self.room.mark(marks))
    }

    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
        self.switch.read()?;
        self.room.marked(sendings).await
    }

    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
        self.switch.read()?;
        self.room.marks(after, max).await
    }

    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        write!(self, self.room.unmark(marks))
    }

    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError> {
        self.switch.read()?;
        self.room.leased().await
    }

    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
        write!(self, self.room.pause(queues, at))
    }

    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError> {
        write!(self, self.room.resume(queues))
    }

    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
        self.switch.read()?;
        self.room.paused().await
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        write!(self, self.room.sweep(now))
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
        write!(self, self.room.sweep_dead(before))
    }

    fn notices(&self) -> &dyn Notices {
        self.room.notices()
    }
}

#[async_trait]
impl Claims for Faulty<dyn Ledger> {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
        write!(self, self.room.claims().claim(claims))
    }

    async fn published(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
        write!(self, self.room.claims().published(items))
    }

    async fn unclaim(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
        write!(self, self.room.claims().unclaim(items))
    }
}

#[async_trait]
impl Lifetimes for Faulty<dyn Ledger> {
    async fn limit(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        write!(self, self.room.lifetimes().limit(lifetimes))
    }

    async fn over(&self, now: WallTime, after: Option<&Lifetime>, max: usize) -> Result<Vec<Lifetime>, StoreError> {
        self.switch.read()?;
        self.room.lifetimes().over(now, after, max).await
    }

    async fn forget(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        write!(self, self.room.lifetimes().forget(lifetimes))
    }
}

#[async_trait]
impl Joins for Faulty<dyn Ledger> {
    async fn open(&self, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
        write!(self, self.room.joins().open(openings))
    }

    async fn sent(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        write!(self, self.room.joins().sent(groups))
    }

    async fn forget(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        write!(self, self.room.joins().forget(groups))
    }

    async fn add(&self, ended: &[join::Ended]) -> Result<(), StoreError> {
        write!(self, self.room.joins().add(ended))
    }

    async fn standing(&self, groups: &[GroupId]) -> Result<Vec<Option<join::Standing>>, StoreError> {
        self.switch.read()?;
        self.room.joins().standing(groups).await
    }

    async fn members(&self, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError> {
        self.switch.read()?;
        self.room.joins().members(group, from, max).await
    }

    async fn missing(&self, group: &GroupId, from: u32, max: usize) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
        self.switch.read()?;
        self.room.joins().missing(group, from, max).await
    }

    async fn fire(&self, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
        write!(self, self.room.joins().fire(firings))
    }

    async fn close(&self, groups: &[GroupId], at: WallTime) -> Result<(), StoreError> {
        write!(self, self.room.joins().close(groups, at))
    }

    async fn due(&self, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
        self.switch.read()?;
        self.room.joins().due(now, max).await
    }

    async fn look(&self, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError> {
        write!(self, self.room.joins().look(looks))
    }
}

#[async_trait]
impl Backend for Faulty<dyn Backend> {
    fn name(&self) -> &'static str {
        self.room.name()
    }

    async fn write(&self, states: &[StateWrite], now: WallTime) -> Vec<Result<Written, StoreError>> {
        write_each!(self, states, self.room.write(states, now))
    }

    async fn read(&self, ids: &[TaskId], now: WallTime) -> Result<Vec<Option<TaskState>>, StoreError> {
        self.switch.read()?;
        self.room.read(ids, now).await
    }

    async fn retract(&self, states: &[(TaskId, Order)]) -> Result<(), StoreError> {
        write!(self, self.room.retract(states))
    }

    async fn put_group(&self, group: &GroupMeta, keep: Duration, now: WallTime) -> Result<(), StoreError> {
        write!(self, self.room.put_group(group, keep, now))
    }

    async fn groups(&self, ids: &[GroupId], now: WallTime) -> Result<Vec<Option<GroupMeta>>, StoreError> {
        self.switch.read()?;
        self.room.groups(ids, now).await
    }

    async fn trigger(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        now: WallTime,
    ) -> Result<Triggered, StoreError> {
        write!(self, self.room.trigger(group, message, keep, now))
    }

    async fn refresh(
        &self,
        group: &GroupId,
        tasks: &[TaskId],
        keep: Duration,
        now: WallTime,
    ) -> Result<(), StoreError> {
        write!(self, self.room.refresh(group, tasks, keep, now))
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        write!(self, self.room.sweep(now))
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.room.watch()
    }

    fn ended(&self) -> Option<&dyn Ended> {
        self.room.ended().map(|_| self as &dyn Ended)
    }
}

#[async_trait]
impl Ended for Faulty<dyn Backend> {
    async fn ended(&self, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError> {
        self.switch.read()?;
        self.room.ended().ok_or_else(unavailable)?.ended(query, now).await
    }
}

#[async_trait]
impl Fused for Faulty<dyn Fused> {
    fn acknowledges(&self) -> bool {
        self.room.acknowledges()
    }

    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
        write_each!(self, items, self.room.send(items, now))
    }

    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError> {
        write!(self, self.room.send_claimed(claims, now))
    }

    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        write!(self, self.room.settle(decisions))
    }
}
