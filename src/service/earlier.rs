//! Earlier sendings of an id that is sent again.
//!
//! A new sending must be later than all that is stored of its id, or its states would hide behind the old ones. The wall
//! clock alone does not see to that: it may have been stepped back since, with a restart in between, and the clocks of two
//! replicas differ.

use std::collections::HashMap;

use super::Service;
use super::outcome::WAITING_KEPT;
use crate::backend::StateWrite;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{TaskId, TaskState};

/// States of one read, and reads under way at once: with the largest results, 128 MiB.
const READ_MAX: usize = 32;
const READS_MAX: usize = 4;

/// What is stored of ids that are sent again.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    last: HashMap<TaskId, u64>,
    /// Their states, to be put back if nothing is sent; only where sending is more than one step.
    states: HashMap<TaskId, TaskState>,
}

impl Earlier {
    /// The generation of the next sending of `id`: `next`, or the least that is later than all before.
    pub(super) fn following(&mut self, id: &TaskId, next: u64) -> u64 {
        let Some(last) = self.last.get_mut(id) else { return next };
        *last = next.max(last.saturating_add(1));
        *last
    }
}

impl Earlier {
    /// A state is stored of this id.
    pub(super) fn has(&self, id: &TaskId) -> bool {
        self.last.contains_key(id)
    }
}

impl Service {
    /// Reads what is stored of `ids`.
    ///
    /// # Errors
    /// As [`crate::backend::Backend::read`].
    pub(super) async fn earlier(&self, ids: &[TaskId], now: WallTime) -> Result<Earlier, StoreError> {
        let stores = &self.inner.stores;
        let mut earlier = Earlier::default();
        for ids in ids.chunks(READ_MAX * READS_MAX) {
            let reads = ids.chunks(READ_MAX).map(|ids| stores.backend.read(ids, now));
            let read = futures::future::try_join_all(reads).await?;
            for state in read.into_iter().flatten().flatten() {
                earlier.last.insert(state.task_id.clone(), state.sending());
                if stores.fused.is_none() || self.inner.guarantees.broker.shared {
                    earlier.states.insert(state.task_id.clone(), state);
                }
            }
        }
        Ok(earlier)
    }

    /// Shows the earlier states of tasks again whose new sending failed and whose PENDING was taken back. Changes nothing
    /// where anything later is stored.
    pub(super) async fn put_back(&self, mut earlier: Earlier, failed: &[TaskId], now: WallTime) {
        let keep = |state: &TaskState| {
            if state.status.is_final() { self.inner.settings().results_expire_in } else { WAITING_KEPT }
        };
        let states: Vec<StateWrite> = failed
            .iter()
            .filter_map(|id| earlier.states.remove(id))
            .map(|state| StateWrite { keep: keep(&state), state })
            .collect();
        if states.is_empty() {
            return;
        }
        for answer in self.inner.stores.backend.write(&states, now).await {
            if let Err(error) = answer {
                tracing::warn!(%error, "the earlier state of a task that could not be sent again is lost");
            }
        }
    }
}
