//! Who lives, and what the dead have held.
//!
//! A replica beats: its counter grows. Those who watch see a counter that stands still *while Redis could be reached*, by
//! their own monotonic clock; nobody compares clocks. What that replica held waits again. One that was only slow finds
//! itself struck off, and goes on under a new id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;
use tokio::sync::Notify;

use super::layout::{QUEUES, REPLICAS, WAKE};
use super::queue::Queue;
use super::settle::End;
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, NAME, read, told, unexpected};
use crate::clock::Instant;
use crate::error::StoreError;
use crate::link::redis::{Access, Script};
use crate::task::QueueName;

static BEAT: Script = Script::new(include_str!("scripts/beat.lua"));
static BURY: Script = Script::new(include_str!("scripts/bury.lua"));
static REAP: Script = Script::new(include_str!("scripts/reap.lua"));

/// Queues that are looked at in one round trip.
const PAGE: usize = 256;
/// How late a beat may be, beyond one that was missed, for the time since the last to count.
const LATE_MAX: Duration = Duration::from_millis(100);
/// Beats for which a queue is looked at again after a take whose answer was lost: the call may be carried out late.
const DOUBT_BEATS: u32 = 15;
/// Most messages that one sweep puts from an inbox back into its queue.
const INBOX_MAX: usize = 64;

/// An id that no replica had before.
pub(super) fn new_id() -> Arc<str> {
    uuid::Uuid::new_v4().simple().to_string()[..16].into()
}

/// What is known of beats.
#[derive(Debug)]
pub(super) struct Pulse {
    // When Redis last answered that this replica lives.
    last: Mutex<Instant>,
    // Counter of each other replica, and how long it stood still.
    seen: Mutex<HashMap<String, (u64, Duration)>>,
    // Struck off, and not reaped yet.
    dead: Mutex<Vec<Arc<str>>>,
    died: Notify,
    // One beat at a time: two at once would count the time between them twice.
    beating: tokio::sync::Mutex<()>,
}

impl Pulse {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Self {
        let (seen, dead, beating) = Default::default();
        Self { last: Mutex::new(now), seen, dead, died: Notify::new(), beating }
    }
}

/// Beats and watches, for as long as the handle lives.
pub(super) fn start_beating(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(inner.options.beat) => {}
                () = inner.closing.cancelled() => return,
            }
            if let Err(error) = inner.beat().await {
                tracing::debug!(%error, "a beat was missed");
            }
        }
    });
}

/// Reaps, pays what is owed and sweeps, for as long as the handle lives.
pub(super) fn start_keeping(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        let mut doubts: HashMap<QueueName, u32> = HashMap::new();
        let mut swept: Option<Instant> = None;
        loop {
            let keeping = async {
                if swept.is_none_or(|at| at.elapsed() >= inner.options.sweep) {
                    inner.sweep().await?;
                    swept = Some(inner.clock.now());
                }
                inner.reap_dead().await?;
                inner.pay().await;
                doubts.extend(inner.holdings.doubtful().into_iter().map(|queue| (queue, DOUBT_BEATS)));
                for name in doubts.keys() {
                    inner.audit(&inner.queue(name)).await?;
                }
                doubts.retain(|_, beats| {
                    *beats -= 1;
                    *beats > 0
                });
                Ok::<_, StoreError>(())
            };
            tokio::select! {
                kept = keeping => {
                    if let Err(error) = kept {
                        tracing::debug!(%error, "looking after what is held was cut off");
                    }
                }
                () = inner.closing.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(inner.options.beat) => {}
                () = inner.pulse.died.notified() => {}
                () = inner.closing.cancelled() => return,
            }
        }
    });
}

impl Inner {
    /// Puts a new id among the replicas, before it holds anything.
    pub(super) async fn register(&self, replica: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("HSET");
        command.arg(REPLICAS).arg(replica).arg(1);
        self.link.command(Access::Write, &command).await.map_err(told)?;
        *self.pulse.last.lock() = self.clock.now();
        Ok(())
    }

    /// Refuses to go on under an id that others may have taken for dead.
    pub(super) async fn living(&self) -> Result<(), StoreError> {
        if self.closing.is_cancelled() {
            return Err(StoreError::Unavailable { store: NAME, why: "this replica has left".to_owned() });
        }
        let last = *self.pulse.last.lock();
        if last.elapsed() < self.options.dead_after / 2 { Ok(()) } else { self.beat().await }
    }

    /// Says that this replica lives, and looks at the others.
    async fn beat(&self) -> Result<(), StoreError> {
        let _beating = self.pulse.beating.lock().await;
        let before = *self.pulse.last.lock();
        let replica = self.holdings.replica();
        let value = self.link.script(Access::Write, &BEAT, &[REPLICAS], &[&*replica]).await.map_err(told)?;
        let Value::Array(mut answer) = value else { return Err(unexpected("an answer to a beat")) };
        if answer.is_empty() {
            return Err(unexpected("an answer to a beat"));
        }
        let is_known: bool = read(answer.remove(0), "an answer to a beat")?;
        if !is_known && self.holdings.replica() == replica {
            self.begin_anew(&replica).await?;
        }
        let now = self.clock.now();
        *self.pulse.last.lock() = now;
        let others: HashMap<String, u64> = read(Value::Array(answer), "the beats of others")?;
        // Time during which Redis did not answer, or this process stood still, says nothing about others.
        let passed = now.duration_since(before);
        let counts = passed <= 2 * self.options.beat + LATE_MAX;
        for (replica, counter) in self.still(others, counts.then_some(passed)) {
            self.bury(&replica, counter).await?;
        }
        Ok(())
    }

    /// Those whose counters stood still for too long.
    fn still(&self, others: HashMap<String, u64>, passed: Option<Duration>) -> Vec<(String, u64)> {
        let own = self.holdings.replica();
        let mut seen = self.pulse.seen.lock();
        seen.retain(|replica, _| others.contains_key(replica));
        let mut dead = Vec::new();
        for (replica, counter) in others {
            if *replica == *own {
                continue;
            }
            let entry = seen.entry(replica.clone()).or_insert((counter, Duration::ZERO));
            match passed {
                Some(passed) if entry.0 == counter => entry.1 += passed,
                _ => *entry = (counter, Duration::ZERO),
            }
            if entry.1 >= self.options.dead_after {
                dead.push((replica, counter));
            }
        }
        dead
    }

    async fn bury(&self, replica: &str, counter: u64) -> Result<(), StoreError> {
        let counter = counter.to_string();
        let value = self.link.script(Access::Write, &BURY, &[REPLICAS], &[replica, &counter]).await.map_err(told)?;
        if read(value, "an answer to a burial")? {
            tracing::warn!(replica, "a replica is dead; what it held waits again");
            self.pulse.dead.lock().push(replica.into());
            self.pulse.died.notify_one();
        }
        Ok(())
    }

    /// This replica was taken for dead: it goes on as another, and what it took under the old id since goes back.
    async fn begin_anew(&self, old: &Arc<str>) -> Result<(), StoreError> {
        let new = new_id();
        self.register(&new).await?;
        tracing::warn!(replica = %old, now = %new, "this replica was taken for dead and goes on under a new id");
        self.holdings.renew(new);
        self.pulse.dead.lock().push(Arc::clone(old));
        self.pulse.died.notify_one();
        Ok(())
    }

    /// Leaves the replicas, and lets all that is held wait again.
    pub(super) async fn leave(&self) -> Result<(), StoreError> {
        let replica = self.holdings.replica();
        let mut command = redis::cmd("HDEL");
        command.arg(REPLICAS).arg(&*replica);
        self.link.command(Access::Write, &command).await.map_err(told)?;
        self.reap_everywhere(&replica).await
    }

    async fn reap_dead(&self) -> Result<(), StoreError> {
        loop {
            let Some(replica) = self.pulse.dead.lock().last().cloned() else { return Ok(()) };
            self.reap_everywhere(&replica).await?;
            self.pulse.dead.lock().retain(|dead| *dead != replica);
        }
    }

    async fn reap_everywhere(&self, replica: &str) -> Result<(), StoreError> {
        for names in self.known_queues().await?.chunks(PAGE) {
            let mut asked = redis::pipe();
            for name in names {
                asked.cmd("SISMEMBER").arg(&self.queue(name).keys.holders).arg(replica);
            }
            for (name, is_holder) in names.iter().zip(self.look(&asked).await?) {
                if is_holder != Value::Int(0) {
                    self.reap(&self.queue(name), replica).await?;
                }
            }
        }
        Ok(())
    }

    /// Lets what `replica` held of a queue wait again.
    async fn reap(&self, queue: &Queue, replica: &str) -> Result<(), StoreError> {
        let keys = &queue.keys;
        let held = keys.held(replica);
        let limits = [BATCH_MAX, BATCH_BYTES_MAX].map(|limit| limit.to_string());
        let mut total: u64 = 0;
        loop {
            let names = [held.as_str(), &keys.again, &keys.holders];
            let args = [replica, &limits[0], &limits[1], WAKE];
            let value = self.link.script(Access::Write, &REAP, &names, &args).await.map_err(told)?;
            let (moved, left): (u64, u64) = read(value, "what was reaped")?;
            total += moved;
            if left == 0 {
                break;
            }
        }
        if total > 0 {
            queue.tell();
            tracing::info!(queue = %keys.queue, replica, messages = total, "messages of a dead replica wait again");
        }
        Ok(())
    }

    /// The queues that were ever used, those of this process among them.
    pub(super) async fn known_queues(&self) -> Result<Vec<QueueName>, StoreError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(QUEUES);
        let names = self.link.command(Access::Read, &command).await.map_err(told)?;
        let names: Vec<String> = read(names, "the names of queues")?;
        Ok(names.into_iter().map(QueueName::trusted).collect())
    }

    /// Finds what nobody else does: what is held by replicas that are none any more, and what a wake-up moved for
    /// nobody.
    async fn sweep(&self) -> Result<(), StoreError> {
        // Redis may have lost what it was told.
        let ours: Vec<QueueName> = self.queues.lock().keys().cloned().collect();
        for names in ours.chunks(PAGE) {
            let mut command = redis::cmd("SADD");
            command.arg(QUEUES);
            command.arg(names.iter().map(QueueName::as_str).collect::<Vec<_>>());
            self.link.command(Access::Write, &command).await.map_err(told)?;
        }
        for names in self.known_queues().await?.chunks(PAGE) {
            let queues: Vec<Arc<Queue>> = names.iter().map(|name| self.queue(name)).collect();
            let mut asked = redis::pipe();
            for queue in &queues {
                asked.cmd("SMEMBERS").arg(&queue.keys.holders).cmd("LLEN").arg(&queue.keys.inbox);
            }
            let mut found = self.look(&asked).await?.into_iter();
            // Asked afterwards, as a replica is among them before it holds anything; not in the same round trip, as the
            // servers of a cluster answer in any order.
            let mut command = redis::cmd("HKEYS");
            command.arg(REPLICAS);
            let ids = self.link.command(Access::Read, &command).await.map_err(told)?;
            let living: HashSet<String> = read(ids, "the replicas")?;
            for queue in &queues {
                let (holders, inbox) = (found.next().unwrap_or(Value::Nil), found.next().unwrap_or(Value::Nil));
                for holder in read::<Vec<String>>(holders, "the holders")? {
                    if !living.contains(&holder) {
                        self.reap(queue, &holder).await?;
                    } else if *holder == *self.holdings.replica() {
                        self.audit(queue).await?;
                    }
                }
                let moved: usize = read(inbox, "the length of an inbox")?;
                if moved > 0 && *queue.waiting.borrow() == 0 {
                    self.empty_inbox(queue, moved.min(INBOX_MAX)).await?;
                }
            }
        }
        Ok(())
    }

    /// What a wake-up moved and nobody took goes back to the head of its queue, for whoever takes there.
    pub(super) async fn empty_inbox(&self, queue: &Queue, count: usize) -> Result<(), StoreError> {
        let mut moves = redis::pipe();
        for _ in 0..count {
            moves.cmd("LMOVE").arg(&queue.keys.inbox).arg(queue.keys.queue.as_str()).arg("RIGHT").arg("LEFT");
        }
        self.link.pipeline(Access::Write, &moves).await.map_err(told)?;
        Ok(())
    }

    /// Returns what Redis holds for this replica without its knowing: taken by a call whose answer was lost.
    async fn audit(&self, queue: &Queue) -> Result<(), StoreError> {
        let replica = self.holdings.replica();
        let mut command = redis::cmd("HKEYS");
        command.arg(queue.keys.held(&replica));
        let fields = self.link.command(Access::Read, &command).await.map_err(told)?;
        let fields: Vec<String> = read(fields, "what this replica holds")?;
        let strays = self.holdings.strays(&queue.keys.queue, &fields);
        if !strays.is_empty() {
            tracing::info!(queue = %queue.keys.queue, messages = strays.len(), "messages of a lost answer go back");
        }
        // Nobody was offered them.
        let items: Vec<_> = strays.into_iter().map(|held| (held, End::Back { due: None, began: false })).collect();
        for chunk in items.chunks(BATCH_MAX) {
            self.end(chunk).await;
        }
        Ok(())
    }
}
