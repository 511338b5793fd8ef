//! Who is told of changes: a count for each watched task, and one channel for all listeners.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::engine::Txn;
use crate::task::TaskId;

/// Changes that a listener may fall behind before it loses the oldest.
const CHANGES_MAX: usize = 4096;

/// The watched tasks.
#[derive(Debug)]
pub(crate) struct Watched {
    counts: Mutex<HashMap<TaskId, usize>>,
    changes: broadcast::Sender<TaskId>,
}

impl Default for Watched {
    fn default() -> Self {
        Self { counts: Mutex::default(), changes: broadcast::channel(CHANGES_MAX).0 }
    }
}

impl Watched {
    /// Tells listeners of those of `changed` that are watched, once `txn` is committed.
    pub(super) fn tell_after(self: &Arc<Self>, txn: &mut Txn<'_>, changed: Vec<TaskId>) {
        if changed.is_empty() {
            return;
        }
        let watched = Arc::clone(self);
        txn.on_commit(move || {
            let counts = watched.counts.lock();
            for id in changed.into_iter().filter(|id| counts.contains_key(id)) {
                // An error says that nobody listens.
                let _ = watched.changes.send(id);
            }
        });
    }
}

impl crate::backend::Watch for Watched {
    fn watch(&self, id: &TaskId) {
        *self.counts.lock().entry(id.clone()).or_default() += 1;
    }

    fn unwatch(&self, id: &TaskId) {
        if let Entry::Occupied(mut count) = self.counts.lock().entry(id.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn changes(&self) -> broadcast::Receiver<TaskId> {
        self.changes.subscribe()
    }
}
