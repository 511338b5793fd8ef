//! What a replica knows of one queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::layout::Keys;
use crate::task::QueueName;

/// What a usual body is taken to have until some were seen, bytes.
const USUAL_BYTES: usize = 1_024;
/// How long it counts that a look found nothing, while a task waits at Redis and nothing was told.
const EMPTY_KNOWN: Duration = Duration::from_millis(500);
/// A queue that this replica feeds is looked at often, and Redis is not asked to wait for it within this time.
const FED: Duration = Duration::from_millis(10);

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    /// Its keys.
    pub(super) keys: Arc<Keys>,
    /// Redis knows its name.
    pub(super) is_named: AtomicBool,
    /// The last take left something.
    pub(super) has_more: AtomicBool,
    /// How many wait for it.
    pub(super) waiting: watch::Sender<usize>,
    /// Counts that something may be there.
    pub(super) told: watch::Sender<u64>,
    /// Somebody looked, found nothing, and wants to be woken.
    pub(super) wanted: Notify,
    /// A task waits at Redis.
    pub(super) is_watched: Mutex<bool>,
    /// When a look found nothing, and what had been told before it.
    empty: Mutex<Option<(Instant, u64)>>,
    /// When this replica last put something there.
    fed: Mutex<Option<Instant>>,
    usual: AtomicUsize,
}

impl Queue {
    /// A queue of which nothing is known.
    pub(super) fn of(name: &QueueName) -> Self {
        Self {
            keys: Keys::of(name),
            is_named: AtomicBool::new(false),
            has_more: AtomicBool::new(false),
            waiting: watch::Sender::new(0),
            told: watch::Sender::new(0),
            wanted: Notify::new(),
            is_watched: Mutex::new(false),
            empty: Mutex::new(None),
            fed: Mutex::new(None),
            usual: AtomicUsize::new(USUAL_BYTES),
        }
    }

    /// Something may be there.
    pub(super) fn tell(&self) {
        self.told.send_modify(|count| *count += 1);
    }

    /// This replica put something there.
    pub(super) fn feed(&self) {
        *self.fed.lock() = Some(Instant::now());
        self.tell();
    }

    /// How long Redis need not be asked to wait for it: what this replica puts there is told without it.
    pub(super) fn is_fed_for(&self) -> Duration {
        let fed = *self.fed.lock();
        fed.map_or(Duration::ZERO, |fed| FED.saturating_sub(fed.elapsed()))
    }

    /// A look, begun when `told` had been told, found nothing.
    pub(super) fn found_empty(&self, told: u64) {
        *self.empty.lock() = Some((Instant::now(), told));
    }

    /// Nothing has come since a look found nothing: whatever comes is told, as a task waits at Redis.
    pub(super) fn is_known_empty(&self) -> bool {
        let empty = *self.empty.lock();
        let is_recent = |(at, told): (Instant, u64)| at.elapsed() < EMPTY_KNOWN && told == *self.told.borrow();
        *self.is_watched.lock() && empty.is_some_and(is_recent)
    }

    /// Bytes of a usual body: an average that follows the latest.
    pub(super) fn usual(&self) -> usize {
        self.usual.load(Ordering::Relaxed)
    }

    /// Some bodies were seen.
    pub(super) fn seen(&self, count: usize, bytes: usize) {
        if let Some(average) = bytes.checked_div(count) {
            self.usual.store(((self.usual() + average) / 2).max(1), Ordering::Relaxed);
        }
    }

    /// One more waits, until the answer is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Waiting {
        self.waiting.send_modify(|count| *count += 1);
        Waiting(Arc::clone(self))
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Queue>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|count| *count -= 1);
    }
}
