//! Writing the states of a task on its way: RECEIVED, STARTED, and PENDING again.
//!
//! Only the latest state of a task is kept for the moment it takes to write a batch, so a task that starts at once costs
//! one write, not two, and one that also ends at once costs none. Final states do not come this way: they are part of
//! settling.

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

    /// States that come at once with a decision: what waits of before them is not written any more.
    pub(super) fn overtaken(&self, by: &[StateWrite]) {
        if by.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        for write in by {
            if waiting.get(&write.state.task_id).is_some_and(|known| known.state.order() < write.state.order()) {
                waiting.remove(&write.state.task_id);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{FailureReason, Status, TaskState, Timestamp};

    fn write(id: &str, status: Status, attempt: u32) -> StateWrite {
        let state = TaskState {
            task_id: TaskId::trusted(id),
            task_name: String::new(),
            status,
            results: None,
            error: String::new(),
            reason: FailureReason::Unknown,
            generation: 1,
            attempt,
            releases: 0,
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        };
        StateWrite { state, keep: Duration::from_secs(60) }
    }

    #[test]
    fn a_state_is_not_written_once_a_later_one_has_come_with_a_decision() {
        let states = States::default();
        states.push(write("ended", Status::Started, 1));
        states.push(write("runs", Status::Started, 1));
        states.push(write("again", Status::Started, 2));
        states.overtaken(&[write("ended", Status::Success, 1), write("again", Status::Retry, 1)]);
        let mut left: Vec<TaskId> = states.drain().into_iter().map(|write| write.state.task_id).collect();
        left.sort();
        assert_eq!(left, [TaskId::trusted("again"), TaskId::trusted("runs")]);
    }
}
