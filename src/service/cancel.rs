//! Ending tasks that nobody wants any more.
//!
//! First a mark, durable in the ledger: from then on no message of the task is run, whichever replica meets it. Then the
//! task is pursued: what waits is granted to nobody and decided as cancelled, a worker that runs it is told, and once its
//! grace time is over its lease is decided from here. Every replica goes through all marks again and again until their
//! tasks have ended, so a crash between any two steps costs a second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::envelope::{self, Opened};
use super::nobody::{self, is_nobodys};
use super::outcome::Attempt;
use super::types::{CancelAnswer, Outcome, Report, Revoked};
use super::{Inner, Service};
use crate::broker::Found;
use crate::clock::{Instant, WallTime};
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::{Begun, CancelMark, Decision, Grant, Lease, LeaseQuery, LeaseStatus, Notice, Standing, Verdict};
use crate::task::{FencingToken, LeaseId, TaskId};

/// How often all marks are gone through.
const PERIOD: Duration = Duration::from_secs(1);
/// Marks set elsewhere that wait to be looked at.
const TOLD_MAX: usize = 4096;
/// Marks read in one go.
const PAGE: usize = 256;
/// Looks at a task that is on its way from one place to another, and the pause between two.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// A signalled lease that was not met for this long is forgotten.
const SIGNAL_KEPT: Duration = Duration::from_secs(60);
/// Leases read from the ledger in one go, where the broker cannot find messages.
const LEASES_PAGE: usize = 1000;

/// What this replica knows of cancellations under way.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    /// Live leases of cancelled tasks: since when this replica knows, and when it met them last.
    signalled: Mutex<HashMap<LeaseId, (Instant, Instant)>>,
    /// Marks that some replica has set and that were not looked at here.
    told: Mutex<Vec<CancelMark>>,
    wake: Notify,
    /// Held by the one search that is under way, see `picked`.
    pub(super) searching: tokio::sync::Mutex<()>,
}

impl Cancels {
    /// True if the task of this lease was cancelled, as far as this replica knows.
    pub(super) fn is_signalled(&self, lease: &LeaseId) -> bool {
        self.signalled.lock().contains_key(lease)
    }

    /// A replica has set a mark. One too many is met by the next round over all marks.
    pub(super) fn hear(&self, mark: CancelMark) {
        let mut told = self.told.lock();
        if told.len() < TOLD_MAX {
            told.push(mark);
            self.wake.notify_one();
        }
    }

    /// Meets a lease at `now`; answers since when it is known.
    fn meet(&self, lease: &LeaseId, now: Instant) -> Instant {
        let mut signalled = self.signalled.lock();
        let (since, last) = signalled.entry(lease.clone()).or_insert((now, now));
        *last = now;
        *since
    }

    fn tidy(&self, now: Instant) {
        self.signalled.lock().retain(|_, (_, last)| now.duration_since(*last) < SIGNAL_KEPT);
    }
}

/// A message of a task that is to end.
pub(super) struct Message {
    pub(super) found: Found,
    pub(super) opened: Opened,
}

impl Service {
    /// Cancels a task. The answer is given once the mark is durable, or the task has ended.
    ///
    /// # Errors
    /// [`Error::TaskUnknown`]; [`Error::Store`]: cancel again.
    pub async fn cancel(&self, task: TaskId) -> Result<CancelAnswer, Error> {
        let inner = self.inner.clone();
        self.inner.finished(async move { inner.cancel(task).await }).await.unwrap_or(Err(Error::Draining))
    }
}

impl Inner {
    async fn cancel(self: &Arc<Self>, task: TaskId) -> Result<CancelAnswer, Error> {
        let state = self.stores.backend.read(std::slice::from_ref(&task), self.clock.wall()).await?.pop().flatten();
        if state.as_ref().is_some_and(|state| state.status.is_final()) {
            return Ok(CancelAnswer::Ended);
        }
        let messages = self.messages_of(&task).await?.unwrap_or_default();
        let found = messages.iter().map(|message| envelope::generation(&message.opened.signature)).max();
        let sending = state.map(|state| match state.generation {
            // Another program wrote its state, by a clock of its own: whatever was sent until now is meant.
            0 => state.sending().max(self.clock.wall().0),
            generation => generation,
        });
        let Some(generation) = sending.max(found) else {
            return Err(Error::TaskUnknown(task.to_string()));
        };
        let mark = CancelMark { task: task.clone(), generation };
        self.stores.ledger.mark(std::slice::from_ref(&mark)).await?;
        self.failpoints.reach(Point::CancelMarked).await;
        let answer = match self.reach(&mark).await {
            // What is durable already is not taken back by a store that fails now: the loop goes on with it.
            Err(error) => {
                tracing::warn!(%error, task = %mark.task, "a marked task is pursued later");
                CancelAnswer::Marked
            }
            Ok(answer) => answer,
        };
        if self.stores.ledger.replicas() {
            self.stores.ledger.notices().tell(Notice::Marked(mark));
        }
        Ok(answer)
    }

    /// Pursues a mark that was just set, and searches for what waits where nothing finds it.
    pub(super) async fn reach(self: &Arc<Self>, mark: &CancelMark) -> Result<CancelAnswer, StoreError> {
        let answer = self.pursue(mark, LOOKS).await?;
        let is_searched = answer == CancelAnswer::Marked && self.end_searched(mark).await?;
        Ok(if is_searched { CancelAnswer::Removed } else { answer })
    }

    /// Brings the end of a marked task nearer, and tells how far it got. Looks again, at most `looks` times in all, while the
    /// task is nowhere: it is on its way from one place to another.
    async fn pursue(self: &Arc<Self>, mark: &CancelMark, looks: u32) -> Result<CancelAnswer, StoreError> {
        for look in 0..looks {
            if look > 0 {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            // The state is read before the messages are looked for: what ends between the two is seen with the next look.
            let state = self.stores.backend.read(std::slice::from_ref(&mark.task), self.clock.wall()).await?;
            // One that another program wrote counts for this sending: it retries a task as it sends a new one.
            let state = state.into_iter().next().flatten().filter(|state| state.generation <= mark.generation);
            if state.as_ref().is_some_and(|state| state.status.is_final()) {
                self.clear(std::slice::from_ref(mark)).await?;
                self.stores.ledger.unmark(std::slice::from_ref(mark)).await?;
                return Ok(CancelAnswer::Ended);
            }
            // A retry that is decided and not published is in no place where it could be found.
            let all_published = state.is_none() && self.stores.ledger.undone(WallTime(u64::MAX), 1).await?.is_empty();
            let Some(messages) = self.messages_of(&mark.task).await? else {
                return self.pursue_leases(mark).await;
            };
            let of_mark = |message: &Message| envelope::generation(&message.opened.signature) <= mark.generation;
            let messages: Vec<Message> = messages.into_iter().filter(of_mark).collect();
            if messages.is_empty() && all_published {
                // Neither a state nor a message is left: it ended long ago, or a later sending took its place.
                self.stores.ledger.unmark(std::slice::from_ref(mark)).await?;
                return Ok(CancelAnswer::Ended);
            }
            let (running, waiting) = self.sort(messages).await?;
            let mut answer = if self.end_waiting(waiting).await? { Some(CancelAnswer::Removed) } else { None };
            for (lease, message) in running {
                let reached = self.signal(&lease, &message.opened).await?;
                // Of several messages the one that is furthest from its end tells.
                answer = match (answer, reached) {
                    (None | Some(CancelAnswer::Removed), reached) | (Some(_), reached @ CancelAnswer::Marked) => {
                        Some(reached)
                    }
                    (before, _) => before,
                };
            }
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        Ok(CancelAnswer::Marked)
    }

    /// As [`Inner::pursue`] where the broker cannot find messages: what waits ends when it is met.
    async fn pursue_leases(self: &Arc<Self>, mark: &CancelMark) -> Result<CancelAnswer, StoreError> {
        let mut answer = CancelAnswer::Marked;
        for lease in self.leases_of_task(&mark.task).await? {
            let body = match self.hands.get(&lease.id).and_then(|hand| hand.body) {
                Some(body) => Some(body),
                None => super::expiry::recall(self, &lease).await?,
            };
            let Some(opened) = body.as_deref().and_then(|body| envelope::open(body).ok()) else { continue };
            // A later sending of the task is none of this mark's.
            let is_of_mark = envelope::generation(&opened.signature) <= mark.generation;
            if is_of_mark && self.signal(&lease, &opened).await? == CancelAnswer::Signalled {
                answer = CancelAnswer::Signalled;
            }
        }
        Ok(answer)
    }

    /// Removes what a crash left of tasks that have ended: messages that were decided and not acknowledged. Others are removed
    /// when they are met, but perhaps nobody takes the name of these.
    pub(super) async fn clear(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        if self.stores.acknowledges() {
            return Ok(());
        }
        let Some(find) = self.stores.broker.find() else { return Ok(()) };
        let tasks: Vec<TaskId> = marks.iter().map(|mark| mark.task.clone()).collect();
        let keys: Vec<_> = find.find(&tasks).await?.into_iter().flatten().map(|found| found.key).collect();
        let standing = self.stores.ledger.standing(&keys).await?;
        let is_decided = |(key, standing)| (standing == Standing::Decided).then_some(key);
        let decided: Vec<_> = keys.into_iter().zip(standing).filter_map(is_decided).collect();
        self.discard(&decided).await;
        Ok(())
    }

    /// The messages of a task; `None`: the broker cannot find them.
    async fn messages_of(&self, task: &TaskId) -> Result<Option<Vec<Message>>, StoreError> {
        let Some(find) = self.stores.broker.find() else { return Ok(None) };
        let found = find.find(std::slice::from_ref(task)).await?.pop().unwrap_or_default();
        // A body that cannot be read is set aside when it is met; there is nothing to run in it.
        let read = |found: Found| Some(Message { opened: envelope::open(&found.body).ok()?, found });
        Ok(Some(found.into_iter().filter_map(read).collect()))
    }

    /// Sorts messages: those that somebody runs, with their leases, and those that wait. What is decided is neither.
    pub(super) async fn sort(
        &self,
        messages: Vec<Message>,
    ) -> Result<(Vec<(Lease, Message)>, Vec<Message>), StoreError> {
        let keys: Vec<_> = messages.iter().map(|message| message.found.key.clone()).collect();
        let (mut leased, mut waiting) = (Vec::new(), Vec::new());
        for (standing, message) in self.stores.ledger.standing(&keys).await?.into_iter().zip(messages) {
            match standing {
                Standing::Leased(lease) => leased.push((lease, message)),
                Standing::Open => waiting.push(message),
                Standing::Decided => {}
            }
        }
        let ids: Vec<LeaseId> = leased.iter().map(|(id, _)| id.clone()).collect();
        let mut running = Vec::new();
        for (status, (_, message)) in self.stores.ledger.lookup(&ids).await?.into_iter().zip(leased) {
            match status {
                LeaseStatus::Live(lease) if !is_nobodys(&lease) => running.push((lease, message)),
                // Granted only to be ended, by another call or a crashed one; or it has just ended.
                LeaseStatus::Live(_) | LeaseStatus::Released(_) => waiting.push(message),
                LeaseStatus::Decided | LeaseStatus::Gone => {}
            }
        }
        Ok((running, waiting))
    }

    /// The live leases of a task, found the hard way.
    async fn leases_of_task(&self, task: &TaskId) -> Result<Vec<Lease>, StoreError> {
        let mut query = LeaseQuery { session: None, queue: None, after: FencingToken(0), max: LEASES_PAGE };
        let mut of_task = Vec::new();
        loop {
            let page = self.stores.ledger.leases(&query).await?;
            let is_last = page.len() < LEASES_PAGE;
            if let Some(last) = page.last() {
                query.after = last.id.token;
            }
            of_task.extend(page.into_iter().filter(|lease| lease.task == *task));
            if is_last {
                return Ok(of_task);
            }
        }
    }

    /// As [`Inner::pursue`] once, of many marks that were just set, where the broker can find messages; `None`: nothing of the
    /// task was found.
    pub(super) async fn pursue_found(
        self: &Arc<Self>,
        marks: &[CancelMark],
    ) -> Result<Vec<Option<CancelAnswer>>, StoreError> {
        let Some(find) = self.stores.broker.find() else { return Ok(vec![None; marks.len()]) };
        let tasks: Vec<TaskId> = marks.iter().map(|mark| mark.task.clone()).collect();
        let (mut messages, mut of): (Vec<Message>, HashMap<_, usize>) = (Vec::new(), HashMap::new());
        for (at, (mark, found)) in marks.iter().zip(find.find(&tasks).await?).enumerate() {
            for found in found {
                let Ok(opened) = envelope::open(&found.body) else { continue };
                if envelope::generation(&opened.signature) <= mark.generation {
                    of.insert(found.key.clone(), at);
                    messages.push(Message { found, opened });
                }
            }
        }
        let mut answers = vec![None; marks.len()];
        let (running, waiting) = self.sort(messages).await?;
        for message in &waiting {
            if let Some(at) = of.get(&message.found.key) {
                answers[*at] = Some(CancelAnswer::Removed);
            }
        }
        self.end_waiting(waiting).await?;
        for (lease, message) in running {
            let answer = self.signal(&lease, &message.opened).await?;
            if let Some(at) = of.get(&message.found.key) {
                answers[*at] = Some(answer);
            }
        }
        Ok(answers)
    }

    /// Tells the workers of these tasks, each with the sending that is cancelled; answers which were told.
    pub(super) async fn signal_all(
        self: &Arc<Self>,
        tasks: &HashMap<&TaskId, u64>,
    ) -> Result<HashSet<TaskId>, StoreError> {
        let mut told = HashSet::new();
        let mut query = LeaseQuery { session: None, queue: None, after: FencingToken(0), max: LEASES_PAGE };
        loop {
            let page = self.stores.ledger.leases(&query).await?;
            let is_last = page.len() < LEASES_PAGE;
            if let Some(last) = page.last() {
                query.after = last.id.token;
            }
            for lease in page.into_iter().filter(|lease| tasks.contains_key(&lease.task)) {
                let body = match self.hands.get(&lease.id).and_then(|hand| hand.body) {
                    Some(body) => Some(body),
                    None => super::expiry::recall(self, &lease).await?,
                };
                let Some(opened) = body.as_deref().and_then(|body| envelope::open(body).ok()) else { continue };
                let is_of_mark =
                    tasks.get(&lease.task).is_some_and(|max| envelope::generation(&opened.signature) <= *max);
                if is_of_mark && self.signal(&lease, &opened).await? == CancelAnswer::Signalled {
                    told.insert(lease.task);
                }
            }
            if is_last {
                return Ok(told);
            }
        }
    }

    /// Tells the worker of a live lease, or ends the lease once it had its time.
    async fn signal(self: &Arc<Self>, lease: &Lease, opened: &Opened) -> Result<CancelAnswer, StoreError> {
        let now = self.clock.now();
        let since = self.cancels.meet(&lease.id, now);
        if now.duration_since(since) < self.settings().cancel_grace {
            // Said again with each round: the first word may come before the lease itself.
            let is_told = self.sessions.revoke(&lease.session, &lease.id, Revoked::Cancelled);
            return Ok(if is_told { CancelAnswer::Signalled } else { CancelAnswer::Marked });
        }
        let verdict = self.decide_in(Some(&lease.queue), vec![self.cancelled(lease, opened)]).await?;
        self.sessions.revoke(&lease.session, &lease.id, Revoked::Unknown);
        Ok(if verdict == [Verdict::Recorded] { CancelAnswer::Removed } else { CancelAnswer::Marked })
    }

    /// The decision that a message is cancelled.
    pub(super) fn cancelled(&self, lease: &Lease, opened: &Opened) -> Decision {
        let (now, settings) = (self.clock.wall(), &self.settings());
        Attempt { lease, signature: &opened.signature, now, settings }.cancel()
    }

    /// Ends messages that wait; true if one was. Those that are granted or decided meanwhile are left alone.
    async fn end_waiting(self: &Arc<Self>, messages: Vec<Message>) -> Result<bool, StoreError> {
        if messages.is_empty() {
            return Ok(false);
        }
        let at = self.clock.wall();
        let grant = |Message { found, opened }: &Message| {
            nobody::grant(nobody::CANCELLING, &found.key, &found.queue, opened, at, None)
        };
        let grants: Vec<Grant> = messages.iter().map(grant).collect();
        let begun = self.stores.ledger.begin(&grants).await?;
        self.failpoints.reach(Point::CancelBegun).await;
        let decisions: Vec<Decision> = begun
            .iter()
            .zip(&messages)
            .filter_map(|(begun, message)| match begun {
                Begun::Cancelled(lease) => Some(self.cancelled(lease, &message.opened)),
                // Granted to nobody before, by a call that was cut short.
                Begun::Held(lease) if is_nobodys(lease) => Some(self.cancelled(lease, &message.opened)),
                Begun::Held(_) | Begun::Decided | Begun::NoSession | Begun::Run(_) => None,
            })
            .collect();
        if decisions.is_empty() {
            return Ok(false);
        }
        let verdicts = self.decide_in(messages.first().map(|m| &m.found.queue), decisions).await?;
        Ok(verdicts.contains(&Verdict::Recorded))
    }

    /// Which of these reports are failures of tasks that were cancelled: they end so, whatever retries are left.
    pub(super) async fn cancelled_failures(
        &self,
        reports: &[Report],
        hands: &HashMap<LeaseId, super::hands::InHand>,
    ) -> Result<Vec<bool>, StoreError> {
        let mut cancelled = vec![false; reports.len()];
        let (mut asked, mut of) = (Vec::new(), Vec::new());
        for (i, report) in reports.iter().enumerate() {
            if let Outcome::Failure { .. } | Outcome::TimedOut { .. } = report.outcome
                && let Some(hand) = hands.get(&report.lease)
                && let Some(opened) = &hand.opened
            {
                let generation = envelope::generation(&opened.signature);
                asked.push(CancelMark { task: hand.lease.task.clone(), generation });
                of.push(i);
            }
        }
        if asked.is_empty() {
            return Ok(cancelled);
        }
        for (i, is_marked) in of.into_iter().zip(self.stores.ledger.marked(&asked).await?) {
            cancelled[i] = is_marked;
        }
        Ok(cancelled)
    }
}

/// Goes through all marks until their tasks have ended, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut next_round = inner.clock.now();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next_round) => {
                if let Err(error) = round(&inner).await {
                    tracing::warn!(%error, "cancelled tasks are pursued later");
                }
                inner.cancels.tidy(inner.clock.now());
                next_round = inner.clock.now() + PERIOD;
            }
            () = inner.cancels.wake.notified() => {
                let told = std::mem::take(&mut *inner.cancels.told.lock());
                pursue_all(&inner, told).await;
            }
        }
    }
}

async fn pursue_all(inner: &Arc<Inner>, marks: Vec<CancelMark>) {
    for mark in marks {
        if let Err(error) = inner.pursue(&mark, 1).await {
            tracing::warn!(%error, task = %mark.task, "a cancelled task is pursued later");
        }
    }
}

async fn round(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let marks = inner.stores.ledger.marks(after.as_ref(), PAGE).await?;
        let Some(last) = marks.last() else { return Ok(()) };
        after = Some(last.task.clone());
        let ids: Vec<TaskId> = marks.iter().map(|mark| mark.task.clone()).collect();
        // Most have ended: these are taken away in one step.
        let states = inner.stores.backend.read(&ids, inner.clock.wall()).await?;
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for (mark, state) in marks.into_iter().zip(states) {
            let is_over = state.is_some_and(|s| s.generation <= mark.generation && s.status.is_final());
            if is_over { ended.push(mark) } else { open.push(mark) }
        }
        if !ended.is_empty() {
            inner.clear(&ended).await?;
            inner.stores.ledger.unmark(&ended).await?;
        }
        if inner.stores.broker.find().is_some() {
            pursue_all(inner, open).await;
        } else if !open.is_empty() {
            // One look at the leases for all of them.
            let tasks = open.iter().map(|mark| (&mark.task, mark.generation)).collect();
            inner.signal_all(&tasks).await?;
        }
    }
}
