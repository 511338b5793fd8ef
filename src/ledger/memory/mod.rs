//! The reference model of a ledger: one mutex, ordered maps. Every other room is compared with it.

mod joins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::claim::{Claim, ClaimName, Claimed, Claims, Held, Step};
use super::join;
use super::{
    Begun, CancelMark, DeadTask, Decision, Effects, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Lifetime, Lifetimes,
    LocalNotices, LostAttempt, NOBODY, Notices, OPEN_KEPT, Session, Standing, Undone, Verdict,
};
use crate::clock::{Clock, WallTime};
use crate::error::StoreError;
use crate::task::{FencingToken, LeaseId, MessageKey, QueueName, SessionId, TaskId};

// Records forgotten in one call of `sweep`.
const SWEEP_MAX: usize = 1_000;

// Dead tasks forgotten in one call of `sweep_dead`: as many as in the embedded room.
const SWEEP_DEAD_MAX: usize = 100;

/// A ledger in memory. Several services may share one: they are then replicas on one store.
#[derive(Debug)]
pub struct Ledger {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    notices: LocalNotices,
}

/// What the ledger remembers. `pub(crate)`, so that the fused model can change it together with its neighbours.
#[derive(Debug, Default)]
pub(crate) struct State {
    last_token: u64,
    sessions: BTreeMap<SessionId, (Session, u64)>,
    records: BTreeMap<MessageKey, Record>,
    dead: BTreeMap<MessageKey, DeadTask>,
    cancels: BTreeMap<TaskId, u64>,
    claims: BTreeMap<ClaimName, Held>,
    paused: BTreeMap<QueueName, WallTime>,
    lifetimes: BTreeSet<Lifetime>,
    pub(crate) joins: joins::Joins,
}

/// A message that was granted at least once.
#[derive(Debug)]
struct Record {
    /// As of the last grant; its counters are those of the message until now.
    lease: Lease,
    stands: Stands,
    /// When it was last touched, for the time after which a record without decision is forgotten.
    touched: WallTime,
}

#[derive(Debug)]
enum Stands {
    Live,
    Released(Ending),
    Decided(Decided),
}

#[derive(Debug)]
struct Decided {
    report: Option<String>,
    digest: [u8; 32],
    at: WallTime,
    keep: Duration,
    /// `None` once they are done.
    effects: Option<Effects>,
    /// Known once they are done.
    forget_at: Option<WallTime>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), notices: LocalNotices::default() }
    }

    /// The store itself.
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn attach(&mut self, session: &Session) -> bool {
        match self.sessions.get_mut(&session.id) {
            Some((stored, renewal)) if stored.attach < session.attach => {
                *stored = session.clone();
                *renewal += 1;
                true
            }
            None if session.attach == 1 => {
                self.sessions.insert(session.id.clone(), (session.clone(), 0));
                true
            }
            _ => false,
        }
    }

    fn close(&mut self, id: &SessionId, renewal: Option<u64>) -> Option<Vec<Lease>> {
        if let (Some((_, actual)), Some(expected)) = (self.sessions.get(id), renewal)
            && *actual != expected
        {
            return None;
        }
        self.sessions.remove(id);
        Some(self.live(|lease| lease.session == *id))
    }

    /// Live leases, oldest token first.
    fn live(&self, wanted: impl Fn(&Lease) -> bool) -> Vec<Lease> {
        let live = self.records.values().filter(|record| matches!(record.stands, Stands::Live));
        let mut leases: Vec<Lease> = live.map(|record| &record.lease).filter(|l| wanted(l)).cloned().collect();
        leases.sort_by_key(|lease| lease.id.token);
        leases
    }

    fn begin(&mut self, grant: &Grant, now: WallTime) -> Begun {
        let earlier = self.records.get(&grant.message);
        match earlier.map(|record| (&record.stands, &record.lease)) {
            Some((Stands::Decided(_), _)) => return Begun::Decided,
            Some((Stands::Live, lease)) => return Begun::Held(lease.clone()),
            Some((Stands::Released(_), _)) | None => {}
        }
        let cancelled = self.is_cancelled(&grant.task, grant.generation);
        let attached = self.sessions.get(&grant.session).map(|(session, _)| session.attach);
        let is_nobodys = grant.session.as_str() == NOBODY;
        if !cancelled && !is_nobodys && attached.is_none_or(|attach| grant.attach != 0 && grant.attach != attach) {
            return Begun::NoSession;
        }
        let (lost, releases) = earlier.map(|r| (r.lease.lost.clone(), r.lease.releases)).unwrap_or_default();
        self.last_token = (self.last_token + 1).max(now.0 / 1_000);
        let lost_attempts = u32::try_from(lost.len()).unwrap_or(u32::MAX);
        let lease = Lease {
            id: LeaseId { message: grant.message.clone(), token: FencingToken(self.last_token) },
            task: grant.task.clone(),
            name: grant.name.clone(),
            queue: grant.queue.clone(),
            session: grant.session.clone(),
            worker: grant.worker.clone(),
            request_id: grant.request_id.clone(),
            attempt: grant.attempts_before.saturating_add(lost_attempts).saturating_add(1),
            lost,
            releases,
            at: grant.at,
            body: grant.body.clone(),
        };
        let record = Record { lease: lease.clone(), stands: Stands::Live, touched: now };
        self.records.insert(grant.message.clone(), record);
        if cancelled { Begun::Cancelled(lease) } else { Begun::Run(lease) }
    }

    fn is_cancelled(&self, task: &TaskId, generation: u64) -> bool {
        self.cancels.get(task).is_some_and(|marked| *marked >= generation)
    }

    /// The record whose last grant was this lease.
    fn record(&mut self, lease: &LeaseId) -> Option<&mut Record> {
        self.records.get_mut(&lease.message).filter(|record| record.lease.id.token == lease.token)
    }

    fn lookup(&mut self, lease: &LeaseId) -> LeaseStatus {
        match self.record(lease) {
            None => LeaseStatus::Gone,
            Some(Record { stands: Stands::Live, lease, .. }) => LeaseStatus::Live(lease.clone()),
            Some(Record { stands: Stands::Released(_), lease, .. }) => LeaseStatus::Released(lease.clone()),
            Some(Record { stands: Stands::Decided(_), .. }) => LeaseStatus::Decided,
        }
    }

    fn standing(&self, message: &MessageKey) -> Standing {
        match self.records.get(message) {
            Some(Record { stands: Stands::Live, lease, .. }) => Standing::Leased(lease.id.clone()),
            Some(Record { stands: Stands::Decided(_), .. }) => Standing::Decided,
            Some(Record { stands: Stands::Released(_), .. }) | None => Standing::Open,
        }
    }

    fn release(&mut self, id: &LeaseId, ending: &Ending, now: WallTime) -> Verdict {
        let Some(record) = self.record(id) else { return Verdict::Superseded };
        match (&record.stands, ending) {
            (Stands::Live, _) => {}
            (Stands::Released(Ending::Free { report: then }), Ending::Free { report }) if then == report => {
                return Verdict::Duplicate;
            }
            (Stands::Released(Ending::Lost { .. }), Ending::Lost { .. }) => return Verdict::Duplicate,
            (Stands::Released(_) | Stands::Decided(_), _) => return Verdict::Conflict,
        }
        match ending {
            Ending::Free { .. } => record.lease.releases += 1,
            Ending::Lost { at } => record.lease.lost.push(LostAttempt {
                attempt: record.lease.attempt,
                worker: record.lease.worker.clone(),
                at: *at,
            }),
        }
        record.stands = Stands::Released(ending.clone());
        record.touched = now;
        Verdict::Recorded
    }

    pub(crate) fn decide(&mut self, decision: &Decision) -> Verdict {
        let Some(record) = self.record(&decision.lease) else { return Verdict::Superseded };
        if let Stands::Decided(first) = &record.stands {
            let same_report = first.report.is_some() && first.report == decision.report;
            let same = same_report || first.digest == decision.digest;
            return if same { Verdict::Duplicate } else { Verdict::Conflict };
        }
        record.stands = Stands::Decided(Decided {
            report: decision.report.clone(),
            digest: decision.digest,
            at: decision.at,
            keep: decision.keep,
            effects: Some(decision.effects.clone()),
            forget_at: None,
        });
        if let Some(dead) = &decision.dead {
            self.dead.insert(dead.message.clone(), dead.clone());
        }
        self.limit(decision.begins.iter().cloned());
        if let Some(lifetime) = &decision.ends {
            self.lifetimes.remove(lifetime);
        }
        Verdict::Recorded
    }

    pub(crate) fn limit(&mut self, lifetimes: impl IntoIterator<Item = Lifetime>) {
        self.lifetimes.extend(lifetimes);
    }

    pub(crate) fn done(&mut self, message: &MessageKey, at: WallTime) {
        let Some(Record { stands: Stands::Decided(decided), .. }) = self.records.get_mut(message) else { return };
        // Marked once: a repeated mark does not prolong the memory.
        if decided.effects.take().is_some() {
            decided.forget_at = Some(at.plus(decided.keep));
        }
    }

    fn undone(&self, before: WallTime, max: usize) -> Vec<Undone> {
        let mut undone: Vec<(WallTime, Undone)> = Vec::new();
        for (message, record) in &self.records {
            if let Stands::Decided(Decided { at, effects: Some(effects), .. }) = &record.stands
                && *at < before
            {
                undone.push((*at, Undone { message: message.clone(), effects: effects.clone() }));
            }
        }
        // Stable: of the same time, in order of their keys.
        undone.sort_by_key(|(at, _)| *at);
        undone.into_iter().map(|(_, undone)| undone).take(max).collect()
    }

    fn sweep(&mut self, now: WallTime) -> usize {
        let past = |record: &Record| match &record.stands {
            Stands::Live => false,
            Stands::Released(_) => record.touched.plus(OPEN_KEPT) <= now,
            Stands::Decided(decided) => decided.forget_at.is_some_and(|at| at <= now),
        };
        let past: Vec<MessageKey> =
            self.records.iter().filter(|(_, r)| past(r)).map(|(key, _)| key.clone()).take(SWEEP_MAX).collect();
        for key in &past {
            self.records.remove(key);
        }
        let lapsed: Vec<ClaimName> = self
            .claims
            .iter()
            .filter(|(_, held)| held.lapses_at <= now)
            .map(|(name, _)| name.clone())
            .take(SWEEP_MAX)
            .collect();
        for name in &lapsed {
            self.claims.remove(name);
        }
        past.len() + lapsed.len() + self.joins.sweep(now)
    }

    fn sweep_dead(&mut self, before: WallTime) -> usize {
        let past = self.dead.values().filter(|dead| dead.at < before);
        let mut past: Vec<(WallTime, MessageKey)> = past.map(|dead| (dead.at, dead.message.clone())).collect();
        past.sort();
        past.truncate(SWEEP_DEAD_MAX);
        for (_, message) in &past {
            self.dead.remove(message);
        }
        past.len()
    }

    pub(crate) fn claim(&mut self, claim: &Claim, step: Step) -> Claimed {
        let under = |name: Option<ClaimName>| name.and_then(|name| self.claims.get(&name).cloned());
        let (answer, writes) = claim.judge(under(claim.request_name()), under(claim.key_name()), step);
        self.claims.extend(writes);
        answer
    }

    pub(crate) fn published(&mut self, names: &[ClaimName], message: &MessageKey) {
        for name in names {
            if let Some(held) = self.claims.get_mut(name)
                && let Some(published) = held.clone().published(message)
            {
                *held = published;
            }
        }
    }

    fn unclaim(&mut self, names: &[ClaimName], message: &MessageKey) -> bool {
        let is_own = |name| self.claims.get(name).is_some_and(|held| held.is_own(message));
        let all = names.iter().all(is_own);
        if all {
            self.claims.retain(|name, _| !names.contains(name));
        }
        all
    }

    /// True if the message has a decision.
    pub(crate) fn is_decided(&self, message: &MessageKey) -> bool {
        self.standing(message) == Standing::Decided
    }
}

#[async_trait]
impl Claims for Ledger {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
        let mut state = self.lock();
        Ok(claims.iter().map(|claim| state.claim(claim, Step::Claim)).collect())
    }

    async fn published(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        items.iter().for_each(|(names, message)| state.published(names, message));
        Ok(())
    }

    async fn unclaim(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
        let mut state = self.lock();
        Ok(items.iter().map(|(names, message)| state.unclaim(names, message)).collect())
    }
}

#[async_trait]
impl Lifetimes for Ledger {
    async fn limit(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        self.lock().limit(lifetimes.iter().cloned());
        Ok(())
    }

    async fn over(&self, now: WallTime, after: Option<&Lifetime>, max: usize) -> Result<Vec<Lifetime>, StoreError> {
        let state = self.lock();
        let over = state.lifetimes.iter().take_while(|lifetime| lifetime.at <= now);
        Ok(over.filter(|lifetime| after.is_none_or(|after| *lifetime > after)).take(max).cloned().collect())
    }

    async fn forget(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.lifetimes.retain(|lifetime| !lifetimes.contains(lifetime));
        Ok(())
    }
}

#[async_trait]
impl super::Ledger for Ledger {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn replicas(&self) -> bool {
        true
    }

    async fn attach(&self, session: &Session) -> Result<bool, StoreError> {
        Ok(self.lock().attach(session))
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self.lock().sessions.get(id).map(|(session, _)| session.clone()))
    }

    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
        let state = self.lock();
        let behind = state.sessions.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(behind.map(|(_, (session, _))| session.clone()).take(max).collect())
    }

    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError> {
        let mut state = self.lock();
        let mut renew = |id| state.sessions.get_mut(id).map(|(_, renewal)| *renewal += 1).is_some();
        Ok(sessions.iter().map(&mut renew).collect())
    }

    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        Ok(self.lock().sessions.iter().map(|(id, (_, renewal))| (id.clone(), *renewal)).collect())
    }

    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError> {
        Ok(self.lock().close(session, renewal))
    }

    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError> {
        let state = self.lock();
        let mut orphans = state.live(|lease| !state.sessions.contains_key(&lease.session));
        orphans.truncate(max);
        Ok(orphans)
    }

    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError> {
        let mut state = self.lock();
        let now = self.clock.wall();
        Ok(grants.iter().map(|grant| state.begin(grant, now)).collect())
    }

    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError> {
        let mut state = self.lock();
        Ok(leases.iter().map(|lease| state.lookup(lease)).collect())
    }

    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError> {
        let state = self.lock();
        Ok(messages.iter().map(|message| state.standing(message)).collect())
    }

    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
        let mut leases = self.lock().live(|lease| {
            query.session.as_ref().is_none_or(|session| lease.session == *session)
                && query.queue.as_ref().is_none_or(|queue| lease.queue == *queue)
                && lease.id.token > query.after
        });
        leases.truncate(query.max);
        Ok(leases)
    }

    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError> {
        let mut state = self.lock();
        let now = self.clock.wall();
        Ok(items.iter().map(|(lease, ending)| state.release(lease, ending, now)).collect())
    }

    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        let mut state = self.lock();
        Ok(decisions.iter().map(|decision| state.decide(decision)).collect())
    }

    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
        Ok(self.lock().undone(before, max))
    }

    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
        let mut state = self.lock();
        messages.iter().for_each(|message| state.done(message, at));
        Ok(())
    }

    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError> {
        self.lock().dead.extend(dead.iter().map(|dead| (dead.message.clone(), dead.clone())));
        Ok(())
    }

    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError> {
        let state = self.lock();
        let behind = state.dead.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        Ok(behind.map(|(_, dead)| dead.clone()).take(max).collect())
    }

    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        let state = self.lock();
        Ok(messages.iter().map(|message| state.dead.get(message).cloned()).collect())
    }

    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError> {
        let mut state = self.lock();
        let mut begin = |(message, generation): &(MessageKey, u64)| {
            let dead = state.dead.get_mut(message)?;
            dead.requeue.get_or_insert(*generation);
            Some(dead.clone())
        };
        Ok(items.iter().map(&mut begin).collect())
    }

    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
        let mut state = self.lock();
        Ok(messages.iter().map(|message| state.dead.remove(message).is_some()).collect())
    }

    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for mark in marks {
            let marked = state.cancels.entry(mark.task.clone()).or_insert(mark.generation);
            *marked = mark.generation.max(*marked);
        }
        Ok(())
    }

    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
        let state = self.lock();
        Ok(sendings.iter().map(|sending| state.is_cancelled(&sending.task, sending.generation)).collect())
    }

    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
        let state = self.lock();
        let behind = state.cancels.iter().filter(|(task, _)| after.is_none_or(|after| *task > after));
        let mark = |(task, generation): (&TaskId, &u64)| CancelMark { task: task.clone(), generation: *generation };
        Ok(behind.map(mark).take(max).collect())
    }

    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for mark in marks {
            if state.is_cancelled(&mark.task, mark.generation.saturating_add(1)) {
                continue;
            }
            state.cancels.remove(&mark.task);
        }
        Ok(())
    }

    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError> {
        let mut counts: BTreeMap<QueueName, u64> = BTreeMap::new();
        for record in self.lock().records.values().filter(|record| matches!(record.stands, Stands::Live)) {
            *counts.entry(record.lease.queue.clone()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
        let mut state = self.lock();
        for queue in queues {
            state.paused.entry(queue.clone()).or_insert(at);
        }
        Ok(())
    }

    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.paused.retain(|queue, _| !queues.contains(queue));
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
        Ok(self.lock().paused.iter().map(|(queue, at)| (queue.clone(), *at)).collect())
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        Ok(self.lock().sweep(now))
    }

    fn claims(&self) -> &dyn Claims {
        self
    }

    fn lifetimes(&self) -> &dyn Lifetimes {
        self
    }

    fn joins(&self) -> &dyn join::Joins {
        self
    }

    async fn sweep_dead(&self, before: WallTime) -> Result<usize, StoreError> {
        Ok(self.lock().sweep_dead(before))
    }

    fn notices(&self) -> &dyn Notices {
        &self.notices
    }
}
