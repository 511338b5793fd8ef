//! What waits, what is delayed, what is held: in memory, rebuilt from the table at start, changed only after commits.
//!
//! A message is in exactly one of *ready*, *delayed* and *held*. Its [`Rank`] is its name here: unique, and the order in
//! which messages are taken. Messages of one queue and one name form a *lane*, so that taking by name looks at heads of
//! lanes only, and a name that nobody takes stands in nobody's way.
//!
//! A waiting message costs about 80 bytes (measured with a million): its body and names stay in the table, its key is
//! packed. Finding it by its task costs about 50 more: a digest and the key, again packed, in one ordered set.

use std::cmp::Reverse;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::broker::Receipt;
use crate::clock::WallTime;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

use super::key::Key;

/// Most delayed messages of one name that become ready in one step, so that a million that fall due together do not
/// hold the lock for a second. The rest follow with the next call.
const DUE_MAX: usize = 4096;

/// Place of a message in its queue: priority downwards, then the order in which messages were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rank(pub(super) u64);

impl Rank {
    /// `order` grows with each message ever published; 56 bits last for two thousand years at a million a second.
    pub(super) fn new(priority: u8, order: u64) -> Self {
        Self(u64::from(u8::MAX - priority) << 56 | order & (u64::MAX >> 8))
    }
}

/// A message that waits.
#[derive(Debug, Clone)]
struct Entry {
    key: Key,
    body_bytes: u32,
    redelivered: bool,
}

/// A message to be entered.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) queue: QueueName,
    pub(super) name: TaskName,
    pub(super) rank: Rank,
    pub(super) key: MessageKey,
    pub(super) task: TaskId,
    pub(super) body_bytes: u32,
    pub(super) available_at: Option<WallTime>,
    pub(super) redelivered: bool,
}

/// Where a message may be found.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) queue: QueueName,
    pub(super) name: TaskName,
    pub(super) rank: Rank,
    pub(super) key: MessageKey,
    pub(super) task: TaskId,
    /// When it becomes or became due.
    pub(super) available_at: Option<WallTime>,
}

/// A message that was taken out for a caller.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) receipt: Receipt,
    pub(super) rank: Rank,
    pub(super) key: MessageKey,
    pub(super) redelivered: bool,
}

/// A message seen in passing.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) position: Position,
    pub(super) rank: Rank,
    pub(super) key: MessageKey,
}

/// Position in the listing of a queue: first what is ready, then what is delayed, by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Position {
    Ready(Rank),
    Delayed(WallTime, Rank),
}

#[derive(Debug, Default)]
struct Lane {
    ready: BTreeMap<Rank, Entry>,
    delayed: BTreeMap<(WallTime, Rank), Entry>,
    waiters: Vec<Arc<Notify>>,
}

#[derive(Debug)]
struct Held {
    nonce: u64,
    queue: QueueName,
    name: TaskName,
    entry: Entry,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<QueueName, HashMap<TaskName, Lane>>,
    held: HashMap<Rank, Held>,
    /// Digest of the task and key of every message, wherever it stands.
    tasks: BTreeSet<(u64, Key)>,
    nonce: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Index(Mutex<State>);

/// A caller of `ready`, until dropped.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    index: &'a Index,
    queue: &'a QueueName,
    names: &'a [TaskName],
    pub(super) notify: Arc<Notify>,
}

impl Index {
    /// An empty index, whose receipts differ from those of every other one.
    pub(super) fn new() -> Self {
        // Not the time: a clock may show the same twice.
        let (nonce, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self(Mutex::new(State { nonce, ..State::default() }))
    }

    /// Enters messages, and wakes who waits for them.
    pub(super) fn insert(&self, arrivals: impl IntoIterator<Item = Arrival>, now: WallTime) {
        let mut state = self.0.lock();
        for arrival in arrivals {
            let entry = Entry {
                key: Key::pack(arrival.key.as_str()),
                body_bytes: arrival.body_bytes,
                redelivered: arrival.redelivered,
            };
            state.tasks.insert((digest(&arrival.task), entry.key.clone()));
            let lane = state.lane_mut(&arrival.queue, &arrival.name);
            lane.insert(arrival.rank, entry, arrival.available_at.filter(|at| *at > now));
        }
    }

    /// Removes a message wherever it is.
    pub(super) fn remove(&self, place: &Place) {
        let mut state = self.0.lock();
        state.tasks.remove(&(digest(&place.task), Key::pack(place.key.as_str())));
        if state.held.remove(&place.rank).is_some() {
            return;
        }
        let Some(lane) = state.queues.get_mut(&place.queue).and_then(|lanes| lanes.get_mut(&place.name)) else {
            return;
        };
        // A message whose time has come may be in either.
        if lane.ready.remove(&place.rank).is_none()
            && let Some(at) = place.available_at
        {
            lane.delayed.remove(&(at, place.rank));
        }
        state.tidy(&place.queue, &place.name);
    }

    /// Holds what is first among `names`, at most `max` messages, ending with the one that brings the bodies to
    /// `body_bytes_max`.
    pub(super) fn take(
        &self,
        queue: &QueueName,
        names: &[TaskName],
        max: usize,
        body_bytes_max: usize,
        now: WallTime,
    ) -> Vec<Taken> {
        let mut state = self.0.lock();
        let State { queues, held, nonce, .. } = &mut *state;
        let Some(lanes) = queues.get_mut(queue) else { return Vec::new() };
        let mut heads = BinaryHeap::new();
        for name in names {
            let Some(lane) = lanes.get_mut(name) else { continue };
            lane.promote(now);
            if let Some((rank, _)) = lane.ready.first_key_value() {
                heads.push(Reverse((*rank, name)));
            }
        }
        let mut taken = Vec::new();
        let mut body_bytes = 0usize;
        while taken.len() < max
            && (taken.is_empty() || body_bytes < body_bytes_max)
            && let Some(Reverse((rank, name))) = heads.pop()
        {
            let Some(lane) = lanes.get_mut(name) else { continue };
            // A name that was given twice: its second head is gone.
            let Some(entry) = lane.ready.remove(&rank) else { continue };
            if let Some((next, _)) = lane.ready.first_key_value() {
                heads.push(Reverse((*next, name)));
            }
            body_bytes = body_bytes.saturating_add(entry.body_bytes as usize);
            *nonce = nonce.wrapping_add(1);
            taken.push(Taken {
                receipt: receipt(rank, *nonce),
                rank,
                key: entry.key.unpack(),
                redelivered: entry.redelivered,
            });
            held.insert(rank, Held { nonce: *nonce, queue: queue.clone(), name: name.clone(), entry });
        }
        for name in names {
            state.tidy(queue, name);
        }
        taken
    }

    /// Puts a held message back to where it was taken from. `delivered`: its next delivery is marked redelivered.
    /// `false`: the receipt is void.
    pub(super) fn put_back(&self, receipt: &Receipt, delivered: bool) -> bool {
        self.release(receipt, None, delivered)
    }

    /// Makes a held message wait until `at`. `false`: the receipt is void.
    pub(super) fn put_off(&self, receipt: &Receipt, at: WallTime) -> bool {
        self.release(receipt, Some(at), true)
    }

    fn release(&self, receipt: &Receipt, at: Option<WallTime>, delivered: bool) -> bool {
        let mut state = self.0.lock();
        let Some(rank) = state.holding(receipt) else { return false };
        let Some(Held { queue, name, mut entry, .. }) = state.held.remove(&rank) else { return false };
        entry.redelivered |= delivered;
        state.lane_mut(&queue, &name).insert(rank, entry, at);
        true
    }

    /// The messages of a task, and maybe, as digests may be equal, of others.
    pub(super) fn of_task(&self, task: &TaskId) -> Vec<MessageKey> {
        let digest = digest(task);
        let state = self.0.lock();
        let from = state.tasks.range((digest, Key::FIRST)..);
        from.take_while(|(of, _)| *of == digest).map(|(_, key)| key.unpack()).collect()
    }

    /// The message that `receipt` holds; `None`: it is void.
    pub(super) fn held(&self, receipt: &Receipt) -> Option<(MessageKey, Rank)> {
        let state = self.0.lock();
        let rank = state.holding(receipt)?;
        state.held.get(&rank).map(|held| (held.entry.key.unpack(), rank))
    }

    /// Messages of `queue` after `after` in the order of the listing, at most `max`, ending with the one that brings the
    /// bodies to `body_bytes_max`; and whether more follow.
    pub(super) fn list(
        &self,
        queue: &QueueName,
        after: Option<Position>,
        with_delayed: bool,
        max: usize,
        body_bytes_max: usize,
        now: WallTime,
    ) -> (Vec<Seen>, bool) {
        let mut state = self.0.lock();
        let Some(lanes) = state.queues.get_mut(queue) else { return (Vec::new(), false) };
        for lane in lanes.values_mut() {
            lane.promote(now);
        }
        // One iterator for each lane, merged: constant in the length of the queue.
        let from_ready = match after {
            None => Some(Bound::Unbounded),
            Some(Position::Ready(rank)) => Some(Bound::Excluded(rank)),
            Some(Position::Delayed(..)) => None,
        };
        let from_delayed = match after {
            Some(Position::Delayed(at, rank)) => Bound::Excluded((at, rank)),
            _ => Bound::Unbounded,
        };
        let ready = merged(lanes.values().filter_map(|lane| {
            let from = from_ready?;
            Some(lane.ready.range((from, Bound::Unbounded)).map(|(rank, entry)| (Position::Ready(*rank), *rank, entry)))
        }));
        let delayed = merged(lanes.values().filter(|_| with_delayed).map(|lane| {
            let range = lane.delayed.range((from_delayed, Bound::Unbounded));
            range.map(|((at, rank), entry)| (Position::Delayed(*at, *rank), *rank, entry))
        }));
        let mut seen = Vec::new();
        let mut body_bytes = 0usize;
        for (position, rank, entry) in ready.chain(delayed) {
            if seen.len() >= max || (!seen.is_empty() && body_bytes >= body_bytes_max) {
                return (seen, true);
            }
            body_bytes = body_bytes.saturating_add(entry.body_bytes as usize);
            seen.push(Seen { position, rank, key: entry.key.unpack() });
        }
        (seen, false)
    }

    /// Queues after `after` in order of their names, at most `max`, of which something waits or is waited for.
    pub(super) fn queues(&self, after: Option<&QueueName>, max: usize) -> Vec<QueueName> {
        let state = self.0.lock();
        let mut names: Vec<&QueueName> =
            state.queues.keys().filter(|name| after.is_none_or(|after| *name > after)).collect();
        names.sort_unstable();
        names.into_iter().take(max).cloned().collect()
    }

    /// Registers a caller of `ready`.
    pub(super) fn waiter<'a>(&'a self, queue: &'a QueueName, names: &'a [TaskName]) -> Waiter<'a> {
        let notify = Arc::new(Notify::new());
        let mut state = self.0.lock();
        for name in names {
            state.lane_mut(queue, name).waiters.push(Arc::clone(&notify));
        }
        Waiter { index: self, queue, names, notify }
    }

    /// Messages: ready and delayed, held.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.0.lock();
        let waiting = state.queues.values().flat_map(|lanes| lanes.values());
        (waiting.map(|lane| lane.ready.len() + lane.delayed.len()).sum(), state.held.len())
    }
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    Ready,
    /// The first delayed message is due then.
    Due(WallTime),
    Nothing,
}

impl Waiter<'_> {
    /// What may be taken now or soon. What comes after this was asked wakes [`Waiter::notify`].
    pub(super) fn outlook(&self, now: WallTime) -> Outlook {
        let mut state = self.index.0.lock();
        let Some(lanes) = state.queues.get_mut(self.queue) else { return Outlook::Nothing };
        let mut due: Option<WallTime> = None;
        for name in self.names {
            let Some(lane) = lanes.get_mut(name) else { continue };
            lane.promote(now);
            if !lane.ready.is_empty() {
                return Outlook::Ready;
            }
            if let Some(((at, _), _)) = lane.delayed.first_key_value() {
                due = Some(due.map_or(*at, |due| due.min(*at)));
            }
        }
        due.map_or(Outlook::Nothing, Outlook::Due)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.index.0.lock();
        for name in self.names {
            if let Some(lane) = state.queues.get_mut(self.queue).and_then(|lanes| lanes.get_mut(name)) {
                lane.waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.notify));
            }
            state.tidy(self.queue, name);
        }
    }
}

impl State {
    fn lane_mut(&mut self, queue: &QueueName, name: &TaskName) -> &mut Lane {
        self.queues.entry(queue.clone()).or_default().entry(name.clone()).or_default()
    }

    /// Forgets a lane in which nothing is, so that names which come and go leave nothing behind.
    fn tidy(&mut self, queue: &QueueName, name: &TaskName) {
        let Slot::Occupied(mut lanes) = self.queues.entry(queue.clone()) else { return };
        let is_empty = |lane: &Lane| lane.ready.is_empty() && lane.delayed.is_empty() && lane.waiters.is_empty();
        if lanes.get().get(name).is_some_and(is_empty) {
            lanes.get_mut().remove(name);
            if lanes.get().is_empty() {
                lanes.remove();
            }
        }
    }

    fn holding(&self, receipt: &Receipt) -> Option<Rank> {
        let (rank, nonce) = receipt.0.split_first_chunk::<8>()?;
        let nonce: [u8; 8] = nonce.try_into().ok()?;
        let rank = Rank(u64::from_be_bytes(*rank));
        let held = self.held.get(&rank)?;
        (held.nonce == u64::from_be_bytes(nonce)).then_some(rank)
    }
}

/// Stands for a task in memory: ids may be as long as 200 bytes.
fn digest(task: &TaskId) -> u64 {
    let mut hasher = DefaultHasher::new();
    task.hash(&mut hasher);
    hasher.finish()
}

fn receipt(rank: Rank, nonce: u64) -> Receipt {
    Receipt([rank.0.to_be_bytes(), nonce.to_be_bytes()].concat().into())
}

impl Lane {
    fn insert(&mut self, rank: Rank, entry: Entry, at: Option<WallTime>) {
        // Whoever waits has seen this lane without anything ready, and sleeps until its first delayed one.
        let is_news = match at {
            Some(at) => {
                self.delayed.insert((at, rank), entry);
                self.delayed.first_key_value().is_some_and(|(first, _)| *first == (at, rank))
            }
            None => {
                self.ready.insert(rank, entry);
                self.ready.len() == 1
            }
        };
        if is_news {
            self.waiters.iter().for_each(|waiter| waiter.notify_one());
        }
    }

    /// Makes ready what has become due.
    fn promote(&mut self, now: WallTime) {
        for _ in 0..DUE_MAX {
            let Some(first) = self.delayed.first_entry() else { return };
            if first.key().0 > now {
                return;
            }
            let ((_, rank), entry) = first.remove_entry();
            self.insert(rank, entry, None);
        }
    }
}

/// Merges sorted iterators into one.
fn merged<'a, I>(sources: impl Iterator<Item = I>) -> impl Iterator<Item = (Position, Rank, &'a Entry)>
where
    I: Iterator<Item = (Position, Rank, &'a Entry)>,
{
    let mut sources: Vec<_> = sources.map(Iterator::peekable).collect();
    let mut heads: BinaryHeap<_> = sources
        .iter_mut()
        .enumerate()
        .filter_map(|(at, source)| source.peek().map(|(position, ..)| Reverse((*position, at))))
        .collect();
    std::iter::from_fn(move || {
        let Reverse((_, at)) = heads.pop()?;
        let source = sources.get_mut(at)?;
        let item = source.next();
        if let Some((position, ..)) = source.peek() {
            heads.push(Reverse((*position, at)));
        }
        item
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_sort_by_priority_downwards_then_by_order() {
        let ranks = [Rank::new(255, 9), Rank::new(5, 1), Rank::new(5, 2), Rank::new(0, 0)];
        assert!(ranks.is_sorted());
    }

    #[test]
    fn a_waiting_message_takes_little_memory() {
        // With B-tree nodes two thirds full, 40 bytes become 60.
        assert!(size_of::<(Rank, Entry)>() <= 40, "{}", size_of::<(Rank, Entry)>());
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let index = Index::new();
        let queue = QueueName::trusted("q");
        for order in 0..10 {
            let name = TaskName::trusted(format!("name-{order}"));
            let rank = Rank::new(0, order);
            let arrival = Arrival {
                queue: queue.clone(),
                name: name.clone(),
                rank,
                key: MessageKey::trusted(format!("key-{order}")),
                task: TaskId::trusted("t"),
                body_bytes: 1,
                available_at: None,
                redelivered: false,
            };
            index.insert([arrival], WallTime(0));
            let names = [name.clone()];
            drop(index.waiter(&queue, &names));
            assert_eq!(index.take(&queue, &names, 1, 1, WallTime(0)).len(), 1);
            assert_eq!(index.of_task(&TaskId::trusted("t")).len(), 1);
            let (key, task) = (MessageKey::trusted(format!("key-{order}")), TaskId::trusted("t"));
            index.remove(&Place { queue: queue.clone(), name, rank, key, task, available_at: None });
        }
        assert_eq!(index.counts(), (0, 0));
        assert!(index.0.lock().queues.is_empty() && index.0.lock().tasks.is_empty());
    }
}
