//! What this replica holds, by its own account: one book for all queues.
//!
//! It answers void receipts without asking Redis, and finds what Redis says that this replica holds although nobody
//! here knows of it: taken by a call whose answer was lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::broker::Receipt;
use crate::task::QueueName;

/// A delivery, as its receipt names it: replica, serial, queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Held {
    /// The replica that took it.
    pub(super) replica: Arc<str>,
    /// Its queue.
    pub(super) queue: QueueName,
    /// Its number among all that this process took.
    pub(super) serial: u64,
    /// The value is a frame.
    pub(super) is_frame: bool,
}

impl Held {
    /// Its field in the hash of what its replica holds.
    pub(super) fn field(&self) -> String {
        if self.is_frame { format!("{}f", self.serial) } else { self.serial.to_string() }
    }

    /// Its receipt.
    pub(super) fn receipt(&self) -> Receipt {
        Receipt(Bytes::from(format!("{}.{}.{}", self.replica, self.field(), self.queue)))
    }

    /// Reads a receipt of `replica`; `None`: it is none.
    pub(super) fn read(receipt: &Receipt, replica: &Arc<str>) -> Option<Self> {
        let text = std::str::from_utf8(&receipt.0).ok()?;
        let (field, queue) = text.strip_prefix(&**replica)?.strip_prefix('.')?.split_once('.')?;
        let (serial, is_frame) = read_field(field)?;
        Some(Self { replica: Arc::clone(replica), queue: QueueName::trusted(queue), serial, is_frame })
    }
}

/// Serial, and whether the value is a frame.
pub(super) fn read_field(field: &str) -> Option<(u64, bool)> {
    let (digits, is_frame) = field.strip_suffix('f').map_or((field, false), |digits| (digits, true));
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    Some((digits.parse().ok().filter(|_| canonical)?, is_frame))
}

/// The book.
#[derive(Debug)]
pub(super) struct Holdings {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    replica: Arc<str>,
    next: u64,
    // Serial to bytes of the value.
    held: HashMap<QueueName, HashMap<u64, usize>>,
    // First serial and number of serials that calls under way may use.
    flights: HashMap<QueueName, Vec<(u64, u64)>>,
    // Queues of which Redis may hold more for us than is known here.
    doubtful: HashSet<QueueName>,
}

/// A call under way that takes. Dropped before it has landed, its queue is doubtful.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    holdings: &'a Holdings,
    /// On whose behalf.
    pub(super) replica: Arc<str>,
    /// The first serial.
    pub(super) first: u64,
    count: u64,
    queue: QueueName,
    landed: bool,
}

impl Holdings {
    /// An empty book of `replica`.
    pub(super) fn new(replica: Arc<str>) -> Self {
        let (held, flights, doubtful) = Default::default();
        Self { state: Mutex::new(State { replica, next: 1, held, flights, doubtful }) }
    }

    /// Who this replica is now.
    pub(super) fn replica(&self) -> Arc<str> {
        Arc::clone(&self.state.lock().replica)
    }

    /// This replica is another from now on and holds nothing.
    pub(super) fn renew(&self, replica: Arc<str>) {
        let mut state = self.state.lock();
        state.replica = replica;
        state.held.clear();
        state.doubtful.clear();
    }

    /// Begins to take at most `count` of `queue`.
    pub(super) fn take(&self, queue: &QueueName, count: u64) -> Flight<'_> {
        let mut state = self.state.lock();
        let first = state.next;
        state.next += count;
        state.flights.entry(queue.clone()).or_default().push((first, count));
        Flight {
            holdings: self,
            replica: Arc::clone(&state.replica),
            first,
            count,
            queue: queue.clone(),
            landed: false,
        }
    }

    /// Whether a delivery is held.
    pub(super) fn has(&self, held: &Held) -> bool {
        let state = self.state.lock();
        state.replica == held.replica && state.held.get(&held.queue).is_some_and(|of| of.contains_key(&held.serial))
    }

    /// Bytes of the value of a delivery; `None`: it is not held.
    pub(super) fn size(&self, held: &Held) -> Option<usize> {
        self.state.lock().held.get(&held.queue)?.get(&held.serial).copied()
    }

    /// Deliveries that are held no more.
    pub(super) fn forget<'a>(&self, items: impl IntoIterator<Item = &'a Held>) {
        let mut state = self.state.lock();
        for held in items {
            if state.replica == held.replica
                && let Some(of) = state.held.get_mut(&held.queue)
            {
                of.remove(&held.serial);
                if of.is_empty() {
                    state.held.remove(&held.queue);
                }
            }
        }
    }

    /// Those of `fields`, read from the hash of `queue`, that nobody here knows.
    pub(super) fn strays(&self, queue: &QueueName, fields: &[String]) -> Vec<Held> {
        let state = self.state.lock();
        let known = |serial: u64| {
            state.held.get(queue).is_some_and(|of| of.contains_key(&serial))
                || state
                    .flights
                    .get(queue)
                    .is_some_and(|f| f.iter().any(|(first, n)| (*first..first + n).contains(&serial)))
        };
        let unknown = |field: &String| read_field(field).filter(|(serial, _)| !known(*serial));
        let mut strays: Vec<Held> = fields
            .iter()
            .filter_map(unknown)
            .map(|(serial, is_frame)| Held {
                replica: Arc::clone(&state.replica),
                queue: queue.clone(),
                serial,
                is_frame,
            })
            .collect();
        strays.sort_by_key(|held| held.serial);
        strays
    }

    /// The queues that became doubtful since this was asked last.
    pub(super) fn doubtful(&self) -> Vec<QueueName> {
        self.state.lock().doubtful.drain().collect()
    }
}

impl Flight<'_> {
    /// The answer is here: values of these sizes were taken. `false`: this replica was taken for dead meanwhile; they are not its own.
    pub(super) fn land(mut self, sizes: &[usize]) -> bool {
        let holdings = self.holdings;
        self.landed = true;
        let mut state = holdings.state.lock();
        let is_ours = state.replica == self.replica;
        if is_ours && !sizes.is_empty() {
            state.held.entry(self.queue.clone()).or_default().extend((self.first..).zip(sizes.iter().copied()));
        }
        drop(state);
        is_ours
    }

    /// Certainly nothing was taken.
    pub(super) fn cancel(mut self) {
        self.landed = true;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.holdings.state.lock();
        if let Some(of) = state.flights.get_mut(&self.queue) {
            of.retain(|flight| *flight != (self.first, self.count));
            if of.is_empty() {
                state.flights.remove(&self.queue);
            }
        }
        if !self.landed {
            state.doubtful.insert(self.queue.clone());
        }
    }
}
