//! The reference model of a backend: one mutex, one map. Every other room is compared with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::broadcast;

use super::{Ended, EndedPage, EndedQuery, GroupMeta, StateWrite, Triggered, Watch, Written};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::record::StateRecord;
use crate::task::{GroupId, MessageKey, Order, TaskId, TaskState, Timestamp};

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
pub(crate) struct State {
    states: BTreeMap<TaskId, Stored>,
    groups: BTreeMap<GroupId, StoredGroup>,
}

#[derive(Debug)]
struct StoredGroup {
    meta: GroupMeta,
    /// Whose callback it is that is being sent.
    message: Option<MessageKey>,
    expires_at: WallTime,
}

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
        self.states.insert(state.task_id.clone(), Stored { state, expires_at: now.plus(keep) });
        Written::Applied
    }

    fn live(&self, id: &TaskId, now: WallTime) -> Option<&TaskState> {
        self.states.get(id).filter(|stored| stored.expires_at > now).map(|stored| &stored.state)
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
                let same = store.states.get(id).is_some_and(|stored| stored.state.order() == *order);
                same && store.states.remove(id).is_some()
            };
            if removed {
                self.told(id);
            }
        }
        Ok(())
    }

    async fn put_group(&self, group: &GroupMeta, keep: Duration, now: WallTime) -> Result<(), StoreError> {
        let stored = StoredGroup { meta: group.clone(), message: None, expires_at: now.plus(keep) };
        self.lock().groups.insert(group.id.clone(), stored);
        Ok(())
    }

    async fn groups(&self, ids: &[GroupId], now: WallTime) -> Result<Vec<Option<GroupMeta>>, StoreError> {
        let store = self.lock();
        let live = |id| store.groups.get(id).filter(|group| group.expires_at > now);
        Ok(ids.iter().map(|id| live(id).map(|group| group.meta.clone())).collect())
    }

    async fn trigger(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        now: WallTime,
    ) -> Result<Triggered, StoreError> {
        let mut store = self.lock();
        let Some(stored) = store.groups.get_mut(group).filter(|group| group.expires_at > now) else {
            return Ok(Triggered::Unknown);
        };
        if stored.meta.is_triggered {
            let is_ours = stored.message.as_ref() == Some(message);
            return Ok(if is_ours { Triggered::Ours } else { Triggered::Theirs });
        }
        stored.meta.is_triggered = true;
        stored.message = Some(message.clone());
        stored.expires_at = now.plus(keep);
        Ok(Triggered::Ours)
    }

    async fn refresh(
        &self,
        group: &GroupId,
        tasks: &[TaskId],
        keep: Duration,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut store = self.lock();
        let is_short = |at: WallTime| at > now && now.until(at) < keep / 2;
        if let Some(stored) = store.groups.get_mut(group).filter(|group| is_short(group.expires_at)) {
            stored.expires_at = now.plus(keep);
        }
        for task in tasks {
            let stored = store.states.get_mut(task).filter(|stored| stored.state.status.is_final());
            if let Some(stored) = stored.filter(|stored| is_short(stored.expires_at)) {
                stored.expires_at = now.plus(keep);
            }
        }
        Ok(())
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        let mut store = self.lock();
        let past = |stored: &Stored| stored.expires_at <= now;
        let past: Vec<TaskId> =
            store.states.iter().filter(|(_, stored)| past(stored)).map(|(id, _)| id.clone()).take(SWEEP_MAX).collect();
        for id in &past {
            store.states.remove(id);
        }
        let before = store.groups.len();
        store.groups.retain(|_, group| group.expires_at > now);
        Ok(past.len() + before - store.groups.len())
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
        let live = store.states.values().filter(|stored| stored.expires_at > now).map(|stored| &stored.state);
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
