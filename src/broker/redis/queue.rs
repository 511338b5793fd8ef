//! What a replica knows of one queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::layout::Keys;
use crate::task::QueueName;

/// What a usual body is taken to have until some were seen, bytes.
const USUAL_BYTES: usize = 1_024;

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
            usual: AtomicUsize::new(USUAL_BYTES),
        }
    }

    /// Something may be there.
    pub(super) fn tell(&self) {
        self.told.send_modify(|count| *count += 1);
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
