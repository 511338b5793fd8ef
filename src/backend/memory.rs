//! The reference model of a backend: one mutex, one map. Every other room is compared with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::broadcast;

use super::{Ended, EndedPage, EndedQuery, StateWrite, Watch, Written};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::record::StateRecord;
use crate::task::{Order, TaskId, TaskState, Timestamp};

// Changes that a listener may fall behind; as many as notices of the ledger.
const CHANGES_MAX: usize = 1024;

// States forgotten in one call of `sweep`.
const SWEEP_MAX: usize = 1_000;

/// A backend in memory. Several services may share one: they are then replicas on one store.
#[derive(Debug)]
pub struct Backend {
    state: Mutex<State>,
    watched: Mutex<HashMap<TaskId, usize>>,
    changes: broadcast::Sender<TaskId>,
}

/// What the backend remembers. `pub(crate)`, so that the fused model can change it together with its neighbours.
#[derive(Debug, Default)]
pub(crate) struct State(BTreeMap<TaskId, Stored>);

#[derive(Debug)]
struct Stored {
    state: TaskState,
    expires_at: WallTime,
}

impl Default for Backend {
    fn default() -> Self {
        Self { state: Mutex::default(), watched: Mutex::default(), changes: broadcast::channel(CHANGES_MAX).0 }
    }
}

impl Backend {
    /// An empty backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store itself; [`Backend::told`] must follow what is written through it.
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells whoever watches that `id` has changed.
    pub(crate) fn told(&self, id: &TaskId) {
        if self.watched.lock().contains_key(id) {
            // An error says that nobody listens.
            let _ = self.changes.send(id.clone());
        }
    }
}

impl State {
    /// Stores one state, if it is later than the stored one.
    pub(crate) fn write(&mut self, write: &StateWrite, now: WallTime) -> Written {
        let mut state = write.state.clone();
        if let Some(stored) = self.live(&state.task_id, now) {
            if state.order() <= stored.order() {
                return Written::Behind;
            }
            if state.created_at == Timestamp::ZERO {
                state.created_at = stored.created_at;
            }
            if state.task_name.is_empty() {
                state.task_name.clone_from(&stored.task_name);
            }
        }
        let keep: Duration = write.keep;
        self.0.insert(state.task_id.clone(), Stored { state, expires_at: now.plus(keep) });
        Written::Applied
    }

    fn live(&self, id: &TaskId, now: WallTime) -> Option<&TaskState> {
        self.0.get(id).filter(|stored| stored.expires_at > now).map(|stored| &stored.state)
    }
}

#[async_trait]
impl super::Backend for Backend {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn write(&self, states: &[StateWrite], now: WallTime) -> Vec<Result<Written, StoreError>> {
        let written: Vec<Written> = {
            let mut store = self.lock();
            states.iter().map(|write| store.write(write, now)).collect()
        };
        for (write, _) in states.iter().zip(&written).filter(|(_, written)| **written == Written::Applied) {
            self.told(&write.state.task_id);
        }
        written.into_iter().map(Ok).collect()
    }

    async fn read(&self, ids: &[TaskId], now: WallTime) -> Result<Vec<Option<TaskState>>, StoreError> {
        let store = self.lock();
        Ok(ids.iter().map(|id| store.live(id, now).cloned()).collect())
    }

    async fn retract(&self, states: &[(TaskId, Order)]) -> Result<(), StoreError> {
        for (id, order) in states {
            let removed = {
                let mut store = self.lock();
                let same = store.0.get(id).is_some_and(|stored| stored.state.order() == *order);
                same && store.0.remove(id).is_some()
            };
            if removed {
                self.told(id);
            }
        }
        Ok(())
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        let mut store = self.lock();
        let past = |stored: &Stored| stored.expires_at <= now;
        let past: Vec<TaskId> =
            store.0.iter().filter(|(_, stored)| past(stored)).map(|(id, _)| id.clone()).take(SWEEP_MAX).collect();
        for id in &past {
            store.0.remove(id);
        }
        Ok(past.len())
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }

    fn ended(&self) -> Option<&dyn Ended> {
        Some(self)
    }
}

#[async_trait]
impl Ended for Backend {
    async fn ended(&self, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError> {
        let after = match query.after {
            None => None,
            Some(bytes) => {
                let (at, id) = bytes.split_first_chunk::<8>().ok_or(StoreError::Position)?;
                let id = std::str::from_utf8(id).map_err(|_| StoreError::Position)?;
                Some((Reverse(u64::from_be_bytes(*at)), TaskId::new(id).map_err(|_| StoreError::Position)?))
            }
        };
        let store = self.lock();
        let live = store.0.values().filter(|stored| stored.expires_at > now).map(|stored| &stored.state);
        let place = |state: &TaskState| (Reverse(state.updated_at.to_wall().0), state.task_id.clone());
        let mut rest: Vec<_> =
            live.filter(|state| state.status.is_final()).map(|state| (place(state), state)).collect();
        rest.retain(|(place, _)| after.as_ref().is_none_or(|after| place > after));
        rest.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (mut page, mut bytes) = (EndedPage::default(), 0);
        for ((Reverse(at), id), state) in &rest {
            bytes += StateRecord::from(*state).encoded_len();
            page.states.push((*state).clone());
            if page.states.len() >= query.max.max(1) || bytes >= query.bytes_max {
                let is_last = page.states.len() == rest.len();
                page.next = (!is_last).then(|| [&at.to_be_bytes()[..], id.as_str().as_bytes()].concat());
                break;
            }
        }
        Ok(page)
    }
}

impl Watch for Backend {
    fn watch(&self, id: &TaskId) {
        *self.watched.lock().entry(id.clone()).or_default() += 1;
    }

    fn unwatch(&self, id: &TaskId) {
        let mut watched = self.watched.lock();
        if let Some(count) = watched.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                watched.remove(id);
            }
        }
    }

    fn changes(&self) -> broadcast::Receiver<TaskId> {
        self.changes.subscribe()
    }
}
