//! The broker on Redis: Machinery's lists and its set of delayed tasks, shared with Machinery programs, and keys of ours
//! beside them that make taking safe.
//!
//! What is taken stands in a hash of the replica that holds it, until it is settled. Replicas watch each other: what a dead
//! one held waits again. `README.md` beside this file tells of each key, and why.

mod delayed;
mod durability;
mod frame;
mod holdings;
mod inspect;
mod layout;
mod moving;
mod pick;
pub(crate) mod publish;
mod queue;
mod ready;
mod reaper;
mod settle;
mod take;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::Value;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Capabilities, Delivery, Holding, Inspect, NewTask, Pick, Published, Receipt, Settle, StaleAck, Support, Want,
};
use crate::clock::{Clock, WallTime};
use crate::error::StoreError;
use crate::link::redis::{Access, Failure, Link, Listener};
use crate::task::{QueueName, TaskName};

use holdings::Holdings;
use queue::Queue;
use reaper::Pulse;

const NAME: &str = "redis";
/// Most messages of a script or a command, and most bytes of bodies in one, unless a single body is larger: Redis does
/// nothing else while it runs, and Lua reads each byte.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// The longest delay: a wall time is in nanoseconds.
const DELAY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Wake-ups that are kept for a replica that is slow to hear them; one that lost some looks for itself.
const WAKES_KEPT: usize = 1_024;
/// Queues that are kept in memory without being used.
const QUEUES_KEPT: usize = 10_000;

/// How the room uses its Redis.
#[derive(Debug, Clone)]
pub struct Options {
    /// The queue of delayed bodies that name none. Machinery's `default_queue`; default `machinery_tasks`.
    pub default_queue: QueueName,
    /// The key of Machinery's delayed tasks, `redis.delayed_tasks_key`. Default `delayed_tasks`.
    pub delayed_tasks_key: String,
    /// Largest body, bytes. Default 1 MiB: Redis serves nobody else while a script reads it.
    pub body_bytes_max: usize,
    /// Most connections that wait for a queue each; further queues are looked at each second. Default 256.
    pub blocking_connections_max: usize,
    /// Between two beats of a replica. Default 2 s.
    pub beat: Duration,
    /// How long the beats of a replica stand still until it is taken for dead. More than two beats; default 10 s.
    pub dead_after: Duration,
    /// Between two looks for what nobody else finds, and at how durable Redis is. Default 60 s.
    pub sweep: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            default_queue: QueueName::trusted("machinery_tasks"),
            delayed_tasks_key: "delayed_tasks".to_owned(),
            body_bytes_max: 1 << 20,
            blocking_connections_max: 256,
            beat: Duration::from_secs(2),
            dead_after: Duration::from_secs(10),
            sweep: Duration::from_secs(60),
        }
    }
}

/// A replica's handle of the broker on a Redis. Dropped without [`super::Broker::close`] it is as if its process
/// had died.
#[derive(Debug)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    options: Options,
    clock: Arc<dyn Clock>,
    capabilities: Capabilities,
    holdings: Holdings,
    queues: Mutex<HashMap<QueueName, Arc<Queue>>>,
    /// Numbers of members of `later`; grows over the lives of processes, as long as the wall clock does.
    sequence: AtomicU64,
    /// The mover has something new to look at.
    delayed: Notify,
    pulse: Pulse,
    owed: settle::Owed,
    blocking: Semaphore,
    listener: Listener,
    /// As they were found last.
    durability: Mutex<durability::Settings>,
    /// The end of this handle.
    closing: CancellationToken,
}

impl Broker {
    /// Takes its place among the replicas on `link`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: Redis cannot be used.
    pub async fn open(link: Link, options: Options, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let replica = reaper::new_id();
        let settings = durability::Settings::read(&link).await.unwrap_or_default();
        for warning in settings.warnings() {
            tracing::warn!(redis = %link.address().shown(), "{warning}");
        }
        let inner = Inner {
            capabilities: capabilities(&options, settings.sentence()),
            holdings: Holdings::new(Arc::clone(&replica)),
            queues: Mutex::default(),
            sequence: AtomicU64::new(0),
            delayed: Notify::new(),
            pulse: Pulse::new(clock.now()),
            owed: settle::Owed::default(),
            blocking: Semaphore::new(options.blocking_connections_max),
            listener: Listener::start(link.clone(), vec![layout::WAKE.to_owned()], WAKES_KEPT),
            closing: CancellationToken::new(),
            durability: Mutex::new(settings),
            link,
            options,
            clock,
        };
        inner.register(&replica).await?;
        let inner = Arc::new(inner);
        let parts = [reaper::start_beating, reaper::start_keeping, delayed::start, ready::start_hearing];
        for run in parts.into_iter().chain([durability::start_looking as fn(&_)]) {
            run(&inner);
        }
        Ok(Self { inner })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.inner.closing.cancel();
    }
}

impl Inner {
    /// What is known of a queue.
    fn queue(&self, name: &QueueName) -> Arc<Queue> {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get(name) {
            return Arc::clone(queue);
        }
        if queues.len() >= QUEUES_KEPT {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let queue = Arc::new(Queue::of(name));
        queues.insert(name.clone(), Arc::clone(&queue));
        queue
    }

    /// A number that no member of `later` had before.
    fn sequence(&self, now: WallTime) -> u64 {
        let next = |last: u64| Some(now.0.max(last + 1));
        let last = self.sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        now.0.max(last + 1)
    }

    /// Runs `commands` that only look, and answers for all or none.
    async fn look(&self, commands: &redis::Pipeline) -> Result<Vec<Value>, StoreError> {
        let answers = self.link.pipeline(Access::Read, commands).await.map_err(told)?;
        answers.into_iter().collect::<Result<_, _>>().map_err(told)
    }
}

fn told(failure: Failure) -> StoreError {
    failure.told_by(NAME)
}

/// An answer of Redis that is not what was asked for.
fn unexpected(what: &'static str) -> StoreError {
    StoreError::Corrupt { store: NAME, why: format!("{what} is of another form") }
}

/// A value as whatever is expected in its place.
fn read<T: redis::FromRedisValue>(value: Value, what: &'static str) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|_| unexpected(what))
}

/// A value that is a string.
fn bytes(value: Value) -> Result<Bytes, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        _ => Err(unexpected("a message")),
    }
}

fn capabilities(options: &Options, durability: &'static str) -> Capabilities {
    Capabilities {
        name: NAME,
        durability,
        holding: Holding::Replica { noticed_within: options.dead_after + 2 * options.beat },
        stale_ack: StaleAck::Rejected,
        delay: Support::Emulated(DELAY_MAX),
        priorities: Support::Unsupported,
        by_name: false,
        exact_redelivery: true,
        carries_keys: false,
        recognises: false,
        keeps_place: false,
        routing_keys: false,
        shared: true,
        replicas: true,
        batch_max: NonZeroUsize::MIN.saturating_add(BATCH_MAX - 1),
        body_bytes_max: options.body_bytes_max,
    }
}

#[async_trait]
impl super::Broker for Broker {
    fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    fn durability(&self) -> &'static str {
        self.inner.durability.lock().sentence()
    }

    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        self.inner.publish(tasks).await
    }

    async fn ready(&self, queue: &QueueName, _names: &[TaskName]) -> Result<(), StoreError> {
        ready::ready(&self.inner, queue).await
    }

    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        self.inner.take(want).await
    }

    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>> {
        self.inner.settle(items).await
    }

    async fn hasten(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.inner.hasten(queue).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.closing.cancel();
        self.inner.leave().await
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(&*self.inner)
    }

    fn pick(&self) -> Option<&dyn Pick> {
        Some(&*self.inner)
    }
}
