//! The reference model of a broker: one mutex, ordered maps, nothing clever. Every other room is compared with it.
//!
//! A [`Broker`] is the handle of one replica on a store that several may share ([`Broker::replica`]). What a replica holds
//! waits again when its handle is dropped or [`Broker::crash`]ed, as a process-bound broker behaves when a process dies.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::{
    Capabilities, Delivery, Depth, Find, Found, Holding, Inspect, NewTask, PendingPage, PendingQuery, Published,
    Recall, Receipt, Settle, StaleAck, Support, Waiting, Want,
};
use crate::clock::{Clock, WallTime};
use crate::error::StoreError;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

const NAME: &str = "memory";

// A wall clock may be stepped while a timer for a delayed message runs; this is how late such a step is noticed.
const RECHECK: Duration = Duration::from_secs(1);

/// Which broker to model. The default has every power that a room may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// [`Capabilities::by_name`]. Default: true.
    pub by_name: bool,
    /// [`super::Broker::recall`] is there. Default: true.
    pub recall: bool,
    /// [`super::Broker::inspect`] is there. Default: true.
    pub inspect: bool,
    /// [`super::Broker::find`] is there, if `recall` is. Default: true.
    pub find: bool,
    /// 256 levels of priority instead of none. Default: true.
    pub priorities: bool,
    /// [`Capabilities::exact_redelivery`]; where false every delivery says that it may not be the first. Default: true.
    pub exact_redelivery: bool,
    /// [`Capabilities::stale_ack`]. Default: [`StaleAck::Rejected`].
    pub stale_ack: StaleAck,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            by_name: true,
            recall: true,
            inspect: true,
            find: true,
            priorities: true,
            exact_redelivery: true,
            stale_ack: StaleAck::Rejected,
        }
    }
}

impl Options {
    fn capabilities(self) -> Capabilities {
        Capabilities {
            name: NAME,
            durability: "an acknowledged publish lives as long as the process",
            holding: Holding::Process,
            stale_ack: self.stale_ack,
            delay: Support::Native(Duration::from_secs(10 * 365 * 24 * 3600)),
            priorities: if self.priorities { Support::Native(256) } else { Support::Unsupported },
            by_name: self.by_name,
            exact_redelivery: self.exact_redelivery,
            carries_keys: true,
            recognises: true,
            keeps_place: true,
            routing_keys: false,
            shared: false,
            replicas: true,
            batch_max: NonZeroUsize::new(1_000).unwrap_or(NonZeroUsize::MIN),
            body_bytes_max: 16 << 20,
        }
    }
}

/// One replica's handle of a broker in memory.
#[derive(Debug)]
pub struct Broker {
    store: Arc<Store>,
    // Whose holdings these are.
    replica: u64,
    crashed: AtomicBool,
}

#[derive(Debug)]
struct Store {
    options: Options,
    capabilities: Capabilities,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    // Something may have become takeable: every waiter looks again.
    changed: Notify,
}

/// What the broker carries. `pub(crate)`, so that the fused model can change it together with its neighbours.
#[derive(Debug, Default)]
pub(crate) struct State {
    // Invariant: every message is in `messages` and `keys`, and, as its `place` says, in exactly one of `ready`,
    // `delayed`, or neither (held).
    messages: BTreeMap<u64, Message>,
    keys: HashMap<MessageKey, u64>,
    ready: BTreeSet<(QueueName, Rank)>,
    delayed: BTreeSet<(QueueName, WallTime, Rank)>,
    next_sequence: u64,
    next_nonce: u64,
    next_replica: u64,
}

// Order of taking: priority, then age.
type Rank = (Reverse<u8>, u64);

#[derive(Debug)]
struct Message {
    task: NewTask,
    // Already zero where the room has no priorities.
    priority: u8,
    taken_before: bool,
    place: Place,
}

impl Message {
    fn waiting(&self, available_at: Option<WallTime>) -> Waiting {
        Waiting { key: Some(self.task.key.clone()), body: self.task.body.clone(), available_at, place: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Delayed(WallTime),
    Held { replica: u64, nonce: u64 },
}

impl Broker {
    /// An empty broker with every power, and the handle of its first replica.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, Options::default())
    }

    /// An empty broker with chosen powers, and the handle of its first replica.
    pub fn with(clock: Arc<dyn Clock>, options: Options) -> Self {
        let store = Store {
            options,
            capabilities: options.capabilities(),
            clock,
            state: Mutex::default(),
            changed: Notify::new(),
        };
        Self { store: Arc::new(store), replica: 0, crashed: AtomicBool::new(false) }
    }

    /// A handle for another replica on the same store.
    #[must_use]
    pub fn replica(&self) -> Self {
        let mut state = self.store.state.lock();
        state.next_replica += 1;
        Self { store: Arc::clone(&self.store), replica: state.next_replica, crashed: AtomicBool::new(false) }
    }

    /// The end of this replica's process: what it holds waits again, in its old place and marked as redelivered; later
    /// calls on this handle are [`StoreError::Unavailable`] and change nothing.
    pub fn crash(&self) {
        let mut state = self.store.state.lock();
        // Under the lock, so that no call of this replica can still take something afterwards.
        self.crashed.store(true, Ordering::SeqCst);
        let held = |place| matches!(place, Place::Held { replica, .. } if replica == self.replica);
        let lost: Vec<u64> = state.messages.iter().filter(|(_, m)| held(m.place)).map(|(s, _)| *s).collect();
        for sequence in lost {
            state.put(sequence, Place::Ready);
        }
        drop(state);
        self.store.changed.notify_waiters();
    }

    /// Locks the store with all that is due made ready.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.store.state.lock();
        if self.crashed.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { store: NAME, why: "this replica has crashed".to_owned() });
        }
        state.promote(self.store.clock.wall());
        Ok(state)
    }

    /// Puts one message into a locked store; [`Broker::told`] must follow once the lock is gone.
    pub(crate) fn put(&self, state: &mut State, task: &NewTask) -> Published {
        state.publish(task, self.store.options.priorities, self.store.clock.wall())
    }

    /// Tells waiters that something may be ready.
    pub(crate) fn told(&self) {
        self.store.changed.notify_waiters();
    }

    fn names<'a>(&self, names: &'a [TaskName]) -> Names<'a> {
        if self.store.options.by_name { Names::Only(names) } else { Names::Any }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.crash();
    }
}

#[derive(Debug, Clone, Copy)]
enum Names<'a> {
    Any,
    Only(&'a [TaskName]),
}

impl Names<'_> {
    fn wants(self, name: &TaskName) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

impl State {
    fn publish(&mut self, task: &NewTask, priorities: bool, now: WallTime) -> Published {
        if self.keys.contains_key(&task.key) {
            return Published::Already;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.keys.insert(task.key.clone(), sequence);
        let priority = if priorities { task.priority } else { 0 };
        // Placed as held by nobody for a moment, so that one function does all the moving.
        let place = Place::Held { replica: u64::MAX, nonce: u64::MAX };
        self.messages.insert(sequence, Message { task: task.clone(), priority, taken_before: false, place });
        let place = match task.available_at {
            Some(at) if at > now => Place::Delayed(at),
            _ => Place::Ready,
        };
        self.put(sequence, place);
        Published::New
    }

    /// Moves a message to a place, out of the one where it is.
    fn put(&mut self, sequence: u64, place: Place) {
        let Some(message) = self.messages.get_mut(&sequence) else { return };
        let queue = message.task.queue.clone();
        let rank = (Reverse(message.priority), sequence);
        match std::mem::replace(&mut message.place, place) {
            Place::Ready => drop(self.ready.remove(&(queue.clone(), rank))),
            Place::Delayed(at) => drop(self.delayed.remove(&(queue.clone(), at, rank))),
            Place::Held { .. } => {}
        }
        match place {
            Place::Ready => drop(self.ready.insert((queue, rank))),
            Place::Delayed(at) => drop(self.delayed.insert((queue, at, rank))),
            Place::Held { .. } => {}
        }
    }

    /// Removes the message, wherever it stands.
    pub(crate) fn remove(&mut self, key: &MessageKey) {
        let Some(sequence) = self.keys.remove(key) else { return };
        // Out of the indexes first, which `put` does.
        self.put(sequence, Place::Held { replica: u64::MAX, nonce: u64::MAX });
        self.messages.remove(&sequence);
    }

    /// Makes ready what is due. Once ready it stays so, even if the wall clock is stepped back.
    fn promote(&mut self, now: WallTime) {
        let due: Vec<u64> = self.delayed.iter().filter(|(_, at, _)| *at <= now).map(|(_, _, rank)| rank.1).collect();
        for sequence in due {
            self.put(sequence, Place::Ready);
        }
    }

    fn ready_in<'a>(&'a self, queue: &'a QueueName) -> impl Iterator<Item = (Rank, &'a Message)> {
        self.ready
            .range((queue.clone(), (Reverse(u8::MAX), 0))..)
            .take_while(move |(q, _)| q == queue)
            .filter_map(|(_, rank)| Some((*rank, self.messages.get(&rank.1)?)))
    }

    fn delayed_in<'a>(&'a self, queue: &'a QueueName) -> impl Iterator<Item = (WallTime, Rank, &'a Message)> {
        self.delayed
            .range((queue.clone(), WallTime(0), (Reverse(u8::MAX), 0))..)
            .take_while(move |(q, _, _)| q == queue)
            .filter_map(|(_, at, rank)| Some((*at, *rank, self.messages.get(&rank.1)?)))
    }

    /// The message that `receipt` holds.
    fn held(&self, receipt: &Receipt) -> Option<u64> {
        let bytes: [u8; 16] = receipt.0.as_ref().try_into().ok()?;
        let packed = u128::from_be_bytes(bytes);
        let (sequence, nonce) = ((packed >> 64) as u64, packed as u64);
        match self.messages.get(&sequence)?.place {
            Place::Held { nonce: held, .. } if held == nonce => Some(sequence),
            _ => None,
        }
    }

    fn hold(&mut self, sequence: u64, replica: u64) -> Receipt {
        self.next_nonce += 1;
        let nonce = self.next_nonce;
        self.put(sequence, Place::Held { replica, nonce });
        Receipt(Bytes::copy_from_slice(&((u128::from(sequence) << 64) | u128::from(nonce)).to_be_bytes()))
    }

    fn settle(&mut self, receipt: &Receipt, how: Settle, now: WallTime) -> Result<(), StoreError> {
        let sequence = self.held(receipt).ok_or(StoreError::Stale)?;
        match how {
            Settle::Ack => {
                if let Some(message) = self.messages.remove(&sequence) {
                    self.keys.remove(&message.task.key);
                }
            }
            Settle::Return { after, .. } if after.is_zero() => self.put(sequence, Place::Ready),
            Settle::Return { after, .. } => self.put(sequence, Place::Delayed(now.plus(after))),
        }
        Ok(())
    }
}

#[async_trait]
impl super::Broker for Broker {
    fn capabilities(&self) -> &Capabilities {
        &self.store.capabilities
    }

    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        let answers = match self.lock() {
            Ok(mut state) => tasks.iter().map(|task| Ok(self.put(&mut state, task))).collect(),
            Err(error) => tasks.iter().map(|_| Err(error.clone())).collect(),
        };
        self.told();
        answers
    }

    async fn ready(&self, queue: &QueueName, names: &[TaskName]) -> Result<(), StoreError> {
        let names = self.names(names);
        loop {
            // Listening begins before looking, so that nothing falls between the two.
            let changed = self.store.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let due = {
                let state = self.lock()?;
                if state.ready_in(queue).any(|(_, m)| names.wants(&m.task.name)) {
                    return Ok(());
                }
                let next = state.delayed_in(queue).find(|(_, _, m)| names.wants(&m.task.name));
                next.map(|(at, _, _)| self.store.clock.wall().until(at).min(RECHECK))
            };
            match due {
                Some(wait) => drop(tokio::time::timeout(wait, changed).await),
                None => changed.await,
            }
        }
    }

    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        let names = self.names(want.names);
        let mut state = self.lock()?;
        let mut chosen = Vec::new();
        let mut bytes = 0;
        for (rank, message) in state.ready_in(want.queue).filter(|(_, m)| names.wants(&m.task.name)) {
            chosen.push(rank.1);
            bytes += message.task.body.len();
            if chosen.len() == want.max.get() || bytes >= want.body_bytes_max {
                break;
            }
        }
        let mut deliveries = Vec::with_capacity(chosen.len());
        for sequence in chosen {
            let receipt = state.hold(sequence, self.replica);
            let Some(message) = state.messages.get_mut(&sequence) else { continue };
            let taken_before = std::mem::replace(&mut message.taken_before, true);
            deliveries.push(Delivery {
                receipt,
                key: Some(message.task.key.clone()),
                body: message.task.body.clone(),
                redelivered: taken_before || !self.store.options.exact_redelivery,
            });
        }
        Ok(deliveries)
    }

    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>> {
        let now = self.store.clock.wall();
        let undetected = self.store.options.stale_ack == StaleAck::Undetected;
        let answers = match self.lock() {
            Ok(mut state) => items
                .iter()
                .map(|(receipt, how)| match state.settle(receipt, *how, now) {
                    Err(StoreError::Stale) if undetected => Ok(()),
                    answer => answer,
                })
                .collect(),
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        };
        self.told();
        answers
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.store.options.inspect.then_some(self)
    }

    fn find(&self) -> Option<&dyn Find> {
        (self.store.options.find && self.store.options.recall).then_some(self)
    }

    fn recall(&self) -> Option<&dyn Recall> {
        self.store.options.recall.then_some(self)
    }
}

#[async_trait]
impl Inspect for Broker {
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError> {
        let after = query.after.map(Position::read).transpose()?;
        let state = self.lock()?;
        let ready = state.ready_in(query.queue).map(|(rank, m)| (Position::Ready(rank), m.waiting(None)));
        let delayed = state
            .delayed_in(query.queue)
            .take_while(|_| query.delayed)
            .map(|(at, rank, m)| (Position::Delayed(at, rank), m.waiting(Some(at))));
        let mut rest = ready.chain(delayed).skip_while(|(position, _)| after.is_some_and(|after| *position <= after));

        let mut page = PendingPage::default();
        let mut bytes = 0;
        let mut last = None;
        for (position, waiting) in rest.by_ref() {
            bytes += waiting.body.len();
            page.items.push(waiting);
            last = Some(position);
            if page.items.len() == query.max.get() || bytes >= query.body_bytes_max {
                break;
            }
        }
        if rest.next().is_some() {
            page.next = last.map(Position::write);
        }
        Ok(page)
    }

    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError> {
        let state = self.lock()?;
        let waits = state.messages.values().filter(|m| !matches!(m.place, Place::Held { .. }));
        let fits = |queue: &&QueueName| after.is_none_or(|after| *queue > after) && queue.as_str().starts_with(prefix);
        let queues: BTreeSet<&QueueName> = waits.map(|m| &m.task.queue).filter(fits).collect();
        Ok(queues.into_iter().take(max).cloned().collect())
    }

    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError> {
        let state = self.lock()?;
        let depth = |queue| Depth {
            waiting: state.ready_in(queue).count() as u64,
            delayed: state.delayed_in(queue).count() as u64,
            oldest: state.ready_in(queue).min_by_key(|(rank, _)| rank.1).map(|(_, m)| m.task.body.clone()),
        };
        Ok(queues.iter().map(depth).collect())
    }
}

/// Where a page ended. Delayed ones follow the ready ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Position {
    Ready(Rank),
    Delayed(WallTime, Rank),
}

impl Position {
    fn write(self) -> Vec<u8> {
        let (kind, at, (Reverse(priority), sequence)) = match self {
            Self::Ready(rank) => (0, WallTime(0), rank),
            Self::Delayed(at, rank) => (1, at, rank),
        };
        [&[kind, priority][..], &at.0.to_be_bytes(), &sequence.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let bytes: &[u8; 18] = bytes.try_into().map_err(|_| StoreError::Position)?;
        let [kind, priority, numbers @ ..] = bytes;
        let numbers = u128::from_be_bytes(*numbers);
        let (at, rank) = (WallTime((numbers >> 64) as u64), (Reverse(*priority), numbers as u64));
        match kind {
            0 => Ok(Self::Ready(rank)),
            1 => Ok(Self::Delayed(at, rank)),
            _ => Err(StoreError::Position),
        }
    }
}

#[async_trait]
impl Find for Broker {
    async fn find(&self, tasks: &[TaskId]) -> Result<Vec<Vec<Found>>, StoreError> {
        let state = self.lock()?;
        let found = |task: &NewTask| Found {
            key: task.key.clone(),
            queue: task.queue.clone(),
            name: task.name.clone(),
            body: task.body.clone(),
        };
        let of = |id: &TaskId| state.messages.values().map(|m| &m.task).filter(|t| t.task == *id).map(found).collect();
        Ok(tasks.iter().map(of).collect())
    }
}

#[async_trait]
impl Recall for Broker {
    async fn recall(&self, keys: &[MessageKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let state = self.lock()?;
        let body = |key| Some(state.messages.get(state.keys.get(key)?)?.task.body.clone());
        Ok(keys.iter().map(body).collect())
    }

    async fn discard(&self, keys: &[MessageKey]) -> Result<(), StoreError> {
        let mut state = self.lock()?;
        keys.iter().for_each(|key| state.remove(key));
        Ok(())
    }
}
