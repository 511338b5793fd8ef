//! Ending tasks that were not begun in their time.
//!
//! A lifetime is wall-clock time on purpose: its sender means a moment, and the task may outlive any process. The moment is in
//! the message, where whoever is about to offer it sees it, and in the ledger's index, which every replica goes through each
//! second: what waits is found by its task, granted to nobody and decided, as `cancel` does it, so neither a worker nor a look
//! at the queue is needed, and exactly one of an attempt and the end wins. A running attempt goes on; its entry stays, for its
//! retry, until a decision ends the task. An entry without a task, left by a crash, is dropped when nothing of it is found.
//! Where the broker finds no messages, each entry is searched for once, and its task ends then or when it is met.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Inner;
use super::cancel::Message;
use super::envelope::{self, Opened};
use super::nobody::{self, CANCELLING, is_nobodys};
use super::outcome::Attempt;
use crate::broker::Found;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::failpoint::Point;
use crate::ledger::{Begun, CancelMark, Decision, Grant, Lease, Lifetime, NOBODY};
use crate::task::{QueueName, Signature, TaskId};

/// How often lifetimes are looked for that are over.
const PERIOD: Duration = Duration::from_secs(1);
/// Lifetimes read in one go.
const PAGE: usize = 256;
/// Tasks looked for in one go: with the largest bodies, 64 MiB by default.
const FIND_MAX: usize = 64;
/// How often those are looked at again that are over and were left, since their tasks were running.
const PASS_PERIOD: Duration = Duration::from_secs(10);
/// Lifetimes to be looked at again at once; one too many is met by the next pass.
const TOLD_MAX: usize = 4096;
/// How long after its moment an entry is kept of whose task nothing is found: it may be on its way from one place to another,
/// or its sender may be slow between its steps.
const LOST_KEPT: Duration = Duration::from_secs(60);

/// What this replica is to look at again.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    told: Mutex<HashSet<Lifetime>>,
}

impl Lifetimes {
    fn hear(&self, lifetime: Lifetime) {
        let mut told = self.told.lock();
        if told.len() < TOLD_MAX {
            told.insert(lifetime);
        }
    }
}

/// True if no attempt of this task may begin any more.
pub(super) fn is_over(signature: &Signature, now: WallTime) -> bool {
    envelope::expires_at(signature).is_some_and(|at| at <= now)
}

impl Inner {
    /// The decision that a task was not begun in its time.
    pub(super) fn expired(&self, lease: &Lease, opened: &Opened, body: bytes::Bytes) -> Decision {
        let (now, settings) = (self.clock.wall(), &self.settings());
        Attempt { lease, signature: &opened.signature, now, settings }.expire(body)
    }

    /// A task stops running without an end: if its time is over, it is ended soon.
    pub(super) fn waits_again(&self, signature: &Signature) {
        if is_over(signature, self.clock.wall())
            && let Some(lifetime) = envelope::lifetime(signature)
        {
            self.lifetimes.hear(lifetime);
        }
    }

    /// Ends the tasks that wait although their time is over, and drops what is left of tasks that are gone.
    async fn end_over(self: &Arc<Self>, lifetimes: &[Lifetime], now: WallTime) -> Result<(), StoreError> {
        let stores = &self.stores;
        let Some(find) = stores.broker.find() else {
            // What a search does not come upon is ended when it is met, by what its message says.
            self.end_lapsed(lifetimes).await?;
            return stores.ledger.lifetimes().forget(lifetimes).await;
        };
        let tasks: Vec<TaskId> = lifetimes.iter().map(|lifetime| lifetime.task.clone()).collect();
        // Both before the messages are looked for: a retry that is decided and not published is in no place where it could be
        // found, and what ends between the looks is seen with the next one.
        let all_published = stores.ledger.undone(WallTime(u64::MAX), 1).await?.is_empty();
        let states = stores.backend.read(&tasks, now).await?;
        let wanted: HashSet<&Lifetime> = lifetimes.iter().collect();
        let read = |found: Found| Some(Message { opened: envelope::open(&found.body).ok()?, found });
        let mut messages: Vec<Message> = find.find(&tasks).await?.into_iter().flatten().filter_map(read).collect();
        messages.retain(|message| lifetime_of(message).is_some_and(|lifetime| wanted.contains(&lifetime)));
        let found: HashSet<Lifetime> = messages.iter().filter_map(lifetime_of).collect();
        let (running, waiting) = self.sort(messages).await?;
        let met: HashSet<Lifetime> =
            running.iter().map(|(_, message)| message).chain(&waiting).filter_map(lifetime_of).collect();
        let mut queues: BTreeMap<QueueName, Vec<Message>> = BTreeMap::new();
        for message in waiting {
            queues.entry(message.found.queue.clone()).or_default().push(message);
        }
        for (queue, messages) in queues {
            self.end_waiting_over(&queue, messages).await?;
        }
        let (mut gone, mut decided) = (Vec::new(), Vec::new());
        for (lifetime, state) in lifetimes.iter().zip(states).filter(|(lifetime, _)| !met.contains(lifetime)) {
            let is_old = lifetime.at.until(now) >= LOST_KEPT;
            // A program that knows no generations writes none.
            let of_this = state.filter(|state| [0, lifetime.generation].contains(&state.generation));
            let is_gone = match of_this {
                // Decided: its message is about to go, or was left by a crash.
                _ if found.contains(lifetime) => {
                    decided.push(CancelMark { task: lifetime.task.clone(), generation: lifetime.generation });
                    false
                }
                Some(state) => state.status.is_final(),
                None => is_old && all_published,
            };
            if is_gone {
                gone.push(lifetime.clone());
            } else if !is_old {
                self.lifetimes.hear(lifetime.clone());
            }
        }
        if !decided.is_empty() {
            self.clear(&decided).await?;
        }
        if gone.is_empty() { Ok(()) } else { stores.ledger.lifetimes().forget(&gone).await }
    }

    /// Ends messages of one queue that wait. Those that are granted or decided meanwhile are left alone.
    async fn end_waiting_over(self: &Arc<Self>, queue: &QueueName, messages: Vec<Message>) -> Result<(), StoreError> {
        let at = self.clock.wall();
        let grant = |Message { found, opened }: &Message| nobody::grant(NOBODY, &found.key, queue, opened, at, None);
        let grants: Vec<Grant> = messages.iter().map(grant).collect();
        let begun = self.stores.ledger.begin(&grants).await?;
        self.failpoints.reach(Point::LapseBegun).await;
        let (mut decisions, mut decided) = (Vec::with_capacity(messages.len()), Vec::new());
        for (begun, Message { found, opened }) in begun.iter().zip(messages) {
            match begun {
                Begun::Run(lease) => decisions.push(self.expired(lease, &opened, found.body)),
                Begun::Cancelled(lease) => decisions.push(self.cancelled(lease, &opened)),
                // Granted to nobody before, by a call that was cut short or is under way.
                Begun::Held(lease) if lease.session.as_str() == CANCELLING => {
                    decisions.push(self.cancelled(lease, &opened));
                }
                Begun::Held(lease) if is_nobodys(lease) => decisions.push(self.expired(lease, &opened, found.body)),
                Begun::Decided => decided.push(found.key),
                Begun::Held(_) | Begun::NoSession => {}
            }
        }
        self.discard(&decided).await;
        if !self.stores.acknowledges() {
            // Its message goes only after the decision, and perhaps nobody ever meets it: the entry stays until that is seen.
            let kept = decisions.iter_mut().filter_map(|decision| decision.ends.take());
            kept.for_each(|lifetime| self.lifetimes.hear(lifetime));
        }
        if !decisions.is_empty() {
            self.decide_in(Some(queue), decisions).await?;
        }
        Ok(())
    }
}

fn lifetime_of(message: &Message) -> Option<Lifetime> {
    envelope::lifetime(&message.opened.signature)
}

/// Ends tasks whose time is over, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut after: Option<Lifetime> = None;
    let mut next_pass = inner.clock.now() + PASS_PERIOD;
    loop {
        if inner.clock.now() >= next_pass {
            after = None;
            next_pass = inner.clock.now() + PASS_PERIOD;
        }
        if let Err(error) = round(&inner, &mut after).await {
            tracing::warn!(%error, "tasks whose time is over are ended later");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Looks at what was told, then at all that is over, from `after` on.
async fn round(inner: &Arc<Inner>, after: &mut Option<Lifetime>) -> Result<(), StoreError> {
    let now = inner.clock.wall();
    // One that is not over any more, since the clock was stepped back, is found when it is.
    let told = std::mem::take(&mut *inner.lifetimes.told.lock()).into_iter().filter(|lifetime| lifetime.at <= now);
    let told: Vec<Lifetime> = told.collect();
    if inner.stores.broker.pick().is_some() {
        return search(inner, told, now).await;
    }
    for (done, some) in told.chunks(FIND_MAX).enumerate() {
        if let Err(error) = inner.end_over(some, now).await {
            told[done * FIND_MAX..].iter().cloned().for_each(|lifetime| inner.lifetimes.hear(lifetime));
            return Err(error);
        }
    }
    loop {
        let page = inner.stores.ledger.lifetimes().over(now, after.as_ref(), PAGE).await?;
        for some in page.chunks(FIND_MAX) {
            inner.end_over(some, now).await?;
            *after = some.last().cloned();
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// Ends a page of what is over where the broker only comes upon messages: one search a round, as each is long. Those that
/// follow have their turn in the next one.
async fn search(inner: &Arc<Inner>, mut over: Vec<Lifetime>, now: WallTime) -> Result<(), StoreError> {
    if over.len() < PAGE {
        over.extend(inner.stores.ledger.lifetimes().over(now, None, PAGE - over.len()).await?);
    }
    let later = over.split_off(PAGE.min(over.len()));
    later.into_iter().for_each(|lifetime| inner.lifetimes.hear(lifetime));
    if over.is_empty() {
        return Ok(());
    }
    inner
        .end_over(&over, now)
        .await
        .inspect_err(|_| over.into_iter().for_each(|lifetime| inner.lifetimes.hear(lifetime)))
}
