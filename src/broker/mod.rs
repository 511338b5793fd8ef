//! The broker seam: carries tasks from producers to workers, as opaque bytes.
//!
//! A room holds what was taken until it is settled. What "holds" is worth when a replica dies differs by room
//! ([`Holding`]); `service` makes a lease of it with the ledger's help, and never trusts a delivery to be the only one.

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod memory;
mod pick;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

pub use pick::{Pick, Place, Spot, Wanted};

/// A message to be carried.
///
/// The attributes beside `body` repeat what is inside it, so that a room can index without opening it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Names the message. A room that is given a key it still carries answers [`Published::Already`], if it
    /// [recognises](Capabilities::recognises) keys.
    pub key: MessageKey,
    /// The task.
    pub task: TaskId,
    /// Its registered name.
    pub name: TaskName,
    /// The queue.
    pub queue: QueueName,
    /// Routing key, where it differs from the queue.
    pub routing_key: Option<String>,
    /// The envelope.
    pub body: Bytes,
    /// Not before; `None`: at once.
    pub available_at: Option<WallTime>,
    /// 0 to 255, higher first, where the room has priorities.
    pub priority: u8,
}

/// What became of a message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The broker has it now.
    New,
    /// The broker had a message of this key already and kept that one. Only where it [`Capabilities::recognises`] keys;
    /// elsewhere a message that is published again is there twice, and the ledger's fence keeps one outcome.
    Already,
}

/// A room's own handle of one delivery: opaque, void once settled, never stored inside a task.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub Bytes);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({} bytes)", self.0.len())
    }
}

/// A message taken from a queue, held for the caller until settled.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// To settle it with.
    pub receipt: Receipt,
    /// The key it was published under; `None`: the broker carries none (a foreign message).
    pub key: Option<MessageKey>,
    /// The envelope, byte for byte as published.
    pub body: Bytes,
    /// It may have been taken before, by whomever, and came back. `false` proves a first delivery where [`Capabilities::exact_redelivery`].
    pub redelivered: bool,
}

/// What to take.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// From this queue.
    pub queue: &'a QueueName,
    /// Only these names, where the room selects ([`Capabilities::by_name`]; then none means nothing); elsewhere whatever
    /// comes.
    pub names: &'a [TaskName],
    /// At most this many messages.
    pub max: NonZeroUsize,
    /// Stop after the message that brings the bodies to this many bytes.
    pub body_bytes_max: usize,
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Done: the message is gone.
    Ack,
    /// Back to its queue, after this long; zero: at once, to the place it was taken from where the room
    /// [keeps places](Capabilities::keeps_place).
    Return {
        /// How long.
        after: Duration,
        /// An attempt may have begun under this delivery: where other programs take from the same queue
        /// ([`Capabilities::shared`]), it comes back to our servers only, which know of that attempt. `false`: to whoever
        /// takes next.
        began: bool,
    },
}

/// Carries tasks from producers to workers, as opaque bytes. Every method takes and answers batches.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Guarantees and limits of this room as configured.
    fn capabilities(&self) -> &Capabilities;

    /// What an acknowledged publish survives at present, as a sentence. [`Capabilities::durability`] is what it was when the
    /// room was opened; only a server of its own, which others set up, makes a difference.
    fn durability(&self) -> &'static str {
        self.capabilities().durability
    }

    /// Makes the messages durable, one answer each, in order. `Ok` only once the broker has confirmed.
    ///
    /// # Errors
    /// Per item: [`StoreError::Unavailable`] nothing was written; [`StoreError::OutcomeUnknown`] may have been written,
    /// publish again under the same key.
    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>>;

    /// Resolves when [`Broker::take`] may find something: at once if something waits, else when it comes or becomes due.
    /// May resolve too often, never too seldom. Takes nothing; dropping the future is safe.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: call again after a pause.
    async fn ready(&self, queue: &QueueName, names: &[TaskName]) -> Result<(), StoreError>;

    /// Takes what is there, without waiting: the highest priority first, then the oldest. What was returned comes before
    /// younger messages of its priority.
    ///
    /// Age counts from publishing, delay or not, where delays are [`Support::Native`]; a room that emulates them may
    /// count from when the message became due.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing was taken, or what was taken returns by itself.
    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError>;

    /// Settles deliveries, one answer each, in order.
    ///
    /// # Errors
    /// Per item: [`StoreError::Stale`] the receipt is void (settled before, or delivered again since); harmless.
    /// [`StoreError::Unavailable`] still held; settle again. [`StoreError::OutcomeUnknown`] settle again; `Stale` then
    /// says that it was done.
    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>>;

    /// Makes what was returned to the queue with a delay and not begun come now, in no particular order, as far as the
    /// room can tell it from what is delayed by its sender and finds it without a long search. Rooms that hand out by
    /// name, and those that cannot, do nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`]: it comes when its delay is over.
    async fn hasten(&self, queue: &QueueName) -> Result<(), StoreError> {
        let _ = queue;
        Ok(())
    }

    /// Ends the use of the room by this process: what it still holds waits again without anybody finding out first, and
    /// nothing can be taken afterwards. Rooms whose holdings end with the process do nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::OutcomeUnknown`]: it is found out, as after a crash.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looking into queues without disturbing them; `None`: this room cannot.
    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    /// Finding the messages of a task; `None`: they are known when they are met.
    fn find(&self) -> Option<&dyn Find> {
        None
    }

    /// Finding the body of a message that is held or waits, by key; `None`: the ledger must keep a copy.
    fn recall(&self) -> Option<&dyn Recall> {
        None
    }

    /// Taking messages from where they wait; `None`: this room can [`Broker::find`] them, or cannot do either.
    fn pick(&self) -> Option<&dyn Pick> {
        None
    }
}

/// Looking into a queue. Changes nothing.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The messages that wait in `queue`, in the order of [`Broker::take`], a page at a time; delayed ones after them, by
    /// time and then in that order, if asked for. Held ones do not wait.
    ///
    /// While pages are read, other messages may come and go: one that waits all the while, in its place, is in exactly
    /// one page.
    ///
    /// - `after`: opaque position from the page before; `None`: from the start.
    /// - A page ends after `max` messages, or with the message that brings it to `body_bytes_max`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Position`] if `after` is not a position of this room.
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError>;

    /// The queues in which anything waits, delayed or not, in order of their names: those after `after` that begin with
    /// `prefix`, at most `max`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError>;

    /// How much waits in each queue, one answer each, in order. Costs as much as there are names in the queue, however many
    /// messages wait.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`].
    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError>;
}

/// How much waits in a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are due. Where many fall due at once, some may be counted as delayed until they are looked at.
    pub waiting: u64,
    /// Messages that are not.
    pub delayed: u64,
    /// The envelope of the oldest of `waiting`, whatever its priority; `None`: nothing is due, or it was taken meanwhile.
    pub oldest: Option<Bytes>,
}

/// A question to [`Inspect::pending`].
#[derive(Debug, Clone, Copy)]
pub struct PendingQuery<'a> {
    /// The queue.
    pub queue: &'a QueueName,
    /// The delayed ones too.
    pub delayed: bool,
    /// Position from the page before.
    pub after: Option<&'a [u8]>,
    /// 1 to 1,000.
    pub max: NonZeroUsize,
    /// Bytes of bodies after which the page ends.
    pub body_bytes_max: usize,
}

/// A page of waiting messages.
#[derive(Debug, Clone, Default)]
pub struct PendingPage {
    /// In order.
    pub items: Vec<Waiting>,
    /// Position behind the last item; `None`: nothing follows.
    pub next: Option<Vec<u8>>,
}

/// A message that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The key it was published under; `None`: the broker carries none.
    pub key: Option<MessageKey>,
    /// The envelope.
    pub body: Bytes,
    /// Not before; `None`: due.
    pub available_at: Option<WallTime>,
    /// Where it stands, to [`Pick::pick`] it there; `None`: it cannot be picked.
    pub place: Option<Place>,
}

/// Finding messages by task. A room that has this view has [`Recall`] too, so that what was found can be removed.
#[async_trait]
pub trait Find: Send + Sync {
    /// For each task, all its messages that this broker carries, whether they wait, are delayed or held by anybody.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`].
    async fn find(&self, tasks: &[TaskId]) -> Result<Vec<Vec<Found>>, StoreError>;
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key it was published under.
    pub key: MessageKey,
    /// Its queue.
    pub queue: QueueName,
    /// The name of its task.
    pub name: TaskName,
    /// The envelope.
    pub body: Bytes,
}

/// Finding bodies by key.
#[async_trait]
pub trait Recall: Send + Sync {
    /// The body of each message that this broker carries, held or waiting; `None`: it carries no such message.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn recall(&self, keys: &[MessageKey]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Removes the messages wherever they stand, held by anybody, waiting or delayed: they were decided. Unknown keys are
    /// nothing; receipts of removed messages are void.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] nothing was removed; [`StoreError::OutcomeUnknown`] discard again.
    async fn discard(&self, keys: &[MessageKey]) -> Result<(), StoreError>;
}

/// What holds a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// The process of the room: a new process finds the message waiting again.
    Process,
    /// The process of the room, which others watch: they find its messages waiting again once it is seen to be dead.
    Replica {
        /// The longest that takes while the store can be reached.
        noticed_within: Duration,
    },
    /// The connection: the broker delivers the message again when it breaks.
    Connection,
    /// A timer of the broker, renewable up to `max`.
    Timed {
        /// The longest it can be held.
        max: Duration,
    },
}

/// Whether settling with an outdated receipt is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleAck {
    /// Refused with [`StoreError::Stale`].
    Rejected,
    /// It "succeeds".
    Undetected,
}

/// A power that a room has natively, emulates, or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support<T> {
    /// By the broker itself, up to a limit.
    Native(T),
    /// By us, up to a limit.
    Emulated(T),
    /// Not at all: a request for it is refused.
    Unsupported,
}

impl<T: Copy> Support<T> {
    /// The limit, if there is support.
    pub fn limit(self) -> Option<T> {
        match self {
            Self::Native(max) | Self::Emulated(max) => Some(max),
            Self::Unsupported => None,
        }
    }
}

/// Guarantees and limits as data: requests are checked against it, `GetServerInfo` tells it, tests are selected by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The room's name: `embedded`, `redis`, …
    pub name: &'static str,
    /// What an acknowledged publish survives, as a sentence; see [`Broker::durability`].
    pub durability: &'static str,
    /// What holds a delivery.
    pub holding: Holding,
    /// Whether an outdated receipt is noticed.
    pub stale_ack: StaleAck,
    /// The longest delay.
    pub delay: Support<Duration>,
    /// Number of priority levels.
    pub priorities: Support<u16>,
    /// [`Want::names`] is honoured: a message whose name nobody takes waits where it is, visibly.
    pub by_name: bool,
    /// `redelivered == false` proves a first delivery.
    pub exact_redelivery: bool,
    /// [`Delivery::key`] is the key that a message was published under. Where false the room carries bodies alone: a key that
    /// it answers is its own name for a message, the same at each delivery after an attempt may have begun, and `service`
    /// puts ours into the body.
    pub carries_keys: bool,
    /// A key that is still carried is answered [`Published::Already`].
    pub recognises: bool,
    /// What was returned at once comes again from the place it was taken from. Where false it comes before younger messages,
    /// those of one call of settle in their old order.
    pub keeps_place: bool,
    /// Routing keys other than the queue's name mean something.
    pub routing_keys: bool,
    /// Other programs may take from the same queues.
    pub shared: bool,
    /// More than one of our servers may use it at once.
    pub replicas: bool,
    /// Most messages in one call of publish or settle; `service` cuts larger batches.
    pub batch_max: NonZeroUsize,
    /// Largest body, bytes.
    pub body_bytes_max: usize,
}
