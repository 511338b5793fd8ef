//! Writing the states of a task on its way: RECEIVED, STARTED, and PENDING again.
//!
//! Only the latest state of a task is kept for the moment it takes to write a batch, so a task that starts at once costs
//! one write, not two. Final states do not come this way: they are part of settling.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Inner;
use crate::backend::StateWrite;
use crate::task::TaskId;

/// RECEIVED usually turns into STARTED within this time, and is then not written at all.
const LINGER: Duration = Duration::from_millis(20);
/// States in one write.
const BATCH_MAX: usize = 512;
/// States that wait at most; beyond, new ones are dropped: the final state follows anyway.
const WAITING_MAX: usize = 100_000;
/// Pause after a store failed.
const RETRY: Duration = Duration::from_millis(500);

/// States that wait to be written.
#[derive(Debug, Default)]
pub(super) struct States {
    waiting: Mutex<HashMap<TaskId, StateWrite>>,
    wake: Notify,
}

impl States {
    /// Queues a state, unless a later one of the task waits already.
    pub(super) fn push(&self, write: StateWrite) {
        let mut waiting = self.waiting.lock();
        let full = waiting.len() >= WAITING_MAX;
        match waiting.entry(write.state.task_id.clone()) {
            std::collections::hash_map::Entry::Occupied(mut at) => {
                if at.get().state.order() < write.state.order() {
                    at.insert(write);
                }
            }
            std::collections::hash_map::Entry::Vacant(_) if full => return,
            std::collections::hash_map::Entry::Vacant(at) => {
                at.insert(write);
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn drain(&self) -> Vec<StateWrite> {
        let mut waiting = self.waiting.lock();
        let some: Vec<TaskId> = waiting.keys().take(BATCH_MAX).cloned().collect();
        some.iter().filter_map(|id| waiting.remove(id)).collect()
    }
}

/// Writes what waits, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        inner.states.wake.notified().await;
        tokio::time::sleep(LINGER).await;
        loop {
            let batch = inner.states.drain();
            if batch.is_empty() {
                break;
            }
            let answers = inner.stores.backend.write(&batch, inner.clock.wall()).await;
            let failed: Vec<StateWrite> =
                batch.into_iter().zip(&answers).filter(|(_, a)| a.is_err()).map(|(w, _)| w).collect();
            if !failed.is_empty() {
                if let Some(Err(error)) = answers.iter().find(|a| a.is_err()) {
                    tracing::warn!(%error, states = failed.len(), "states are not visible yet");
                }
                failed.into_iter().for_each(|write| inner.states.push(write));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
