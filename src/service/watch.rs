//! Reading states, and waiting for them to change.
//!
//! Subscribe, then read: a change between the two is told, so it is never missed. One listener for each replica; a
//! watched task costs one read for each change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Inner, Service};
use crate::error::Error;
use crate::task::{Order, TaskId, TaskState, Timestamp};

/// Everything watched is read again this often, whatever was told: notices may be lost.
const SAFETY_READ: Duration = Duration::from_secs(30);

/// Who watches what.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<TaskId, Vec<Arc<Notify>>>>);

impl Watches {
    fn wake(&self, id: &TaskId) {
        if let Some(watchers) = self.0.lock().get(id) {
            watchers.iter().for_each(|w| w.notify_one());
        }
    }

    fn wake_all(&self) {
        self.0.lock().values().flatten().for_each(|w| w.notify_one());
    }
}

/// Passes on what the backend tells, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>, changes: Option<Receiver<TaskId>>) {
    let Some(mut changes) = changes else { return poll(&inner).await };
    loop {
        match changes.recv().await {
            Ok(id) => inner.watches.wake(&id),
            Err(RecvError::Lagged(_)) => inner.watches.wake_all(),
            Err(RecvError::Closed) => return,
        }
    }
}

// One shared poll on backends that cannot tell.
async fn poll(inner: &Inner) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        inner.watches.wake_all();
    }
}

/// What tells a state from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    order: Order,
    created_at: Timestamp,
}

impl Seen {
    fn of(state: &TaskState) -> Self {
        Self { order: state.order(), created_at: state.created_at }
    }

    /// Whether `state` is worth telling to who has seen this. States of ours never go back. One that a Machinery program
    /// wrote has no place among them (its attempt is 0): whatever it is, it is the newest, since it stands where ours stood.
    fn is_behind(&self, state: &TaskState) -> bool {
        if state.attempt == 0 { Self::of(state) != *self } else { state.order() > self.order }
    }
}

/// States of one task as they are seen.
#[derive(Debug)]
pub struct StateWatch {
    inner: Arc<Inner>,
    id: TaskId,
    wake: Arc<Notify>,
    last: Option<Seen>,
    first: bool,
    over: bool,
}

impl StateWatch {
    pub(super) fn new(inner: Arc<Inner>, id: TaskId) -> Self {
        let wake = Arc::new(Notify::new());
        inner.watches.0.lock().entry(id.clone()).or_default().push(wake.clone());
        if let Some(watch) = inner.stores.backend.watch() {
            watch.watch(&id);
        }
        Self { inner, id, wake, last: None, first: true, over: false }
    }

    /// The next state seen; `None` after a final one. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Draining`]: this replica stops; [`Error::Store`].
    pub async fn next(&mut self) -> Result<Option<TaskState>, Error> {
        if self.over {
            return Ok(None);
        }
        loop {
            if !std::mem::take(&mut self.first) {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(SAFETY_READ) => {}
                    () = self.inner.stopping.cancelled() => return Err(Error::Draining),
                }
            }
            let now = self.inner.clock.wall();
            let read = self.inner.stores.backend.read(std::slice::from_ref(&self.id), now).await;
            let state = match read {
                Ok(mut states) => states.pop().flatten(),
                Err(error) => {
                    // The change that woke us is not seen yet: the next call must read again.
                    self.first = true;
                    return Err(error.into());
                }
            };
            if let Some(state) = state
                && self.last.is_none_or(|last| last.is_behind(&state))
            {
                self.last = Some(Seen::of(&state));
                self.over = state.status.is_final();
                return Ok(Some(state));
            }
        }
    }
}

impl Drop for StateWatch {
    fn drop(&mut self) {
        let mut watches = self.inner.watches.0.lock();
        if let Some(watchers) = watches.get_mut(&self.id) {
            watchers.retain(|w| !Arc::ptr_eq(w, &self.wake));
            if watchers.is_empty() {
                watches.remove(&self.id);
            }
        }
        drop(watches);
        if let Some(watch) = self.inner.stores.backend.watch() {
            watch.unwatch(&self.id);
        }
    }
}

impl Service {
    /// States, in order; `None`: unknown or expired.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn states(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskState>>, Error> {
        Ok(self.inner.stores.backend.read(ids, self.inner.clock.wall()).await?)
    }

    /// The states of a task from the one it is in now to its end.
    pub fn watch(&self, id: TaskId) -> StateWatch {
        StateWatch::new(self.inner.clone(), id)
    }

    /// The state of a task at its end, or the one it is in after `timeout`; `None`: still unknown then.
    ///
    /// # Errors
    /// As [`StateWatch::next`].
    pub async fn wait(&self, id: TaskId, timeout: Duration) -> Result<Option<TaskState>, Error> {
        let mut watch = self.watch(id.clone());
        let deadline = self.inner.clock.now() + timeout;
        let mut seen = None;
        loop {
            match tokio::time::timeout_at(deadline, watch.next()).await {
                Ok(Ok(Some(state))) => {
                    let over = state.status.is_final();
                    seen = Some(state);
                    if over {
                        return Ok(seen);
                    }
                }
                Ok(Ok(None)) => return Ok(seen),
                // Even a wait of no length answers what is known.
                Err(_) if seen.is_none() => return Ok(self.states(&[id]).await?.pop().flatten()),
                Err(_) => return Ok(seen),
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{FailureReason, Status};

    fn state(generation: u64, attempt: u32, status: Status, created: i64) -> TaskState {
        TaskState {
            task_id: TaskId::trusted("t"),
            task_name: "n".into(),
            status,
            results: None,
            error: String::new(),
            reason: FailureReason::Unknown,
            generation,
            attempt,
            releases: 0,
            created_at: Timestamp { seconds: created, nanos: 0, offset_minutes: 0 },
            updated_at: Timestamp::ZERO,
        }
    }

    #[test]
    fn what_another_program_wrote_is_news_whenever_it_differs_and_ours_only_forward() {
        let told = [
            state(9, 1, Status::Pending, 1),
            state(0, 0, Status::Received, 1),
            state(0, 0, Status::Retry, 1),
            // Machinery sends a retry like any task.
            state(0, 0, Status::Pending, 2),
            state(9, 1, Status::Started, 2),
            state(0, 0, Status::Success, 2),
        ];
        for pair in told.windows(2) {
            assert!(Seen::of(&pair[0]).is_behind(&pair[1]), "{pair:?}");
        }
        for same in &told {
            assert!(!Seen::of(same).is_behind(same));
        }
        assert!(!Seen::of(&told[4]).is_behind(&told[0]), "ours never goes back");
    }
}
