//! How far a group, chord or chain is.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::fire::{callback_id, open};
use crate::error::Error;
use crate::ledger::join::{Kind, Stage, Standing};
use crate::service::types::{GroupTasks, GroupView};
use crate::service::{Inner, Service, StateWatch};
use crate::task::{GroupId, TaskId, TaskState, Timestamp};

/// States read at once.
const READ_MAX: usize = 256;
/// Between two looks at a join that is watched, at least.
const LOOK_MIN: Duration = Duration::from_millis(100);
/// And at most: word between replicas may be lost, and of what Machinery workers end there is none.
const LOOK_MAX: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) async fn group_view(&self, id: &GroupId) -> Result<Option<GroupView>, Error> {
        let known = self.stores.ledger.joins().standing(std::slice::from_ref(id)).await?.pop().flatten();
        match known {
            Some(standing) => self.view_of(standing).await.map(Some),
            None => self.view_foreign(id).await,
        }
    }

    async fn view_of(&self, standing: Standing) -> Result<GroupView, Error> {
        let now = self.clock.wall();
        let head = &standing.head;
        let callback = match head.callback.as_ref().and_then(open) {
            None => None,
            Some(callback) => {
                let id = TaskId::trusted(callback_id(head, &callback));
                self.stores.backend.read(&[id], now).await?.pop().flatten()
            }
        };
        let is_fired = matches!(standing.stage, Stage::Fired | Stage::Closed);
        let is_over = callback.as_ref().is_none_or(|state| state.status.is_final());
        Ok(GroupView {
            id: head.id.clone(),
            kind: head.kind,
            total: head.count,
            ended: standing.ended,
            failed: standing.failed,
            is_completed: if head.callback.is_some() { is_fired && is_over } else { standing.is_full() },
            created_at: Timestamp::from_wall(head.at),
            callback,
        })
    }

    /// A group of which only Machinery's record is known.
    async fn view_foreign(&self, id: &GroupId) -> Result<Option<GroupView>, Error> {
        let now = self.clock.wall();
        let Some(meta) = self.stores.backend.groups(std::slice::from_ref(id), now).await?.pop().flatten() else {
            return Ok(None);
        };
        let (mut ended, mut failed) = (0, 0);
        let tasks = distinct(meta.tasks);
        for ids in tasks.chunks(READ_MAX) {
            for state in self.stores.backend.read(ids, now).await?.into_iter().flatten() {
                ended += u32::from(state.status.is_final());
                failed += u32::from(state.status == crate::task::Status::Failure);
            }
        }
        let total = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        Ok(Some(GroupView {
            id: id.clone(),
            // Whether it has a callback only its members know.
            kind: Kind::Group,
            total,
            ended,
            failed,
            is_completed: ended == total,
            created_at: meta.created_at,
            callback: None,
        }))
    }

    pub(super) async fn tasks_of(&self, id: &GroupId, from: u32, max: usize) -> Result<GroupTasks, Error> {
        let now = self.clock.wall();
        let known = self.stores.ledger.joins().standing(std::slice::from_ref(id)).await?.pop().flatten();
        let ids: Vec<TaskId> = match known {
            Some(_) => {
                let page = self.stores.ledger.joins().members(id, from, max).await?;
                page.into_iter().map(|member| member.task).collect()
            }
            None => {
                let meta = self.stores.backend.groups(std::slice::from_ref(id), now).await?.pop().flatten();
                let meta = meta.ok_or_else(|| Error::GroupUnknown(id.to_string()))?;
                distinct(meta.tasks).into_iter().skip(from as usize).take(max).collect()
            }
        };
        let next = (ids.len() == max).then(|| from.saturating_add(u32::try_from(max).unwrap_or(u32::MAX)));
        let mut tasks: Vec<(TaskId, Option<TaskState>)> = Vec::with_capacity(ids.len());
        for ids in ids.chunks(READ_MAX) {
            tasks.extend(ids.iter().cloned().zip(self.stores.backend.read(ids, now).await?));
        }
        Ok(GroupTasks { tasks, next })
    }
}

fn distinct(tasks: Vec<TaskId>) -> Vec<TaskId> {
    let mut seen = HashSet::new();
    tasks.into_iter().filter(|task| seen.insert(task.clone())).collect()
}

/// How far a group is, again and again.
#[derive(Debug)]
pub struct GroupWatch {
    inner: Arc<Inner>,
    id: GroupId,
    wake: Arc<Notify>,
    /// The state of the callback, once it is known which task that is.
    callback: Option<StateWatch>,
    /// It has ended: nothing more is heard of it.
    is_callback_over: bool,
    last: Option<GroupView>,
    is_first: bool,
}

impl GroupWatch {
    pub(super) fn new(service: &Service, id: GroupId) -> Self {
        let inner = service.inner.clone();
        let wake = inner.looks.watch(&id);
        Self { inner, id, wake, callback: None, is_callback_over: false, last: None, is_first: true }
    }

    /// The next view that differs from the one before; `None` behind one that is completed. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Draining`]: this replica stops; [`Error::Store`].
    pub async fn next(&mut self) -> Result<Option<GroupView>, Error> {
        if self.last.as_ref().is_some_and(|last| last.is_completed) {
            return Ok(None);
        }
        loop {
            if !std::mem::take(&mut self.is_first) {
                self.news().await?;
            }
            let view = match self.inner.group_view(&self.id).await {
                Ok(view) => view,
                Err(error) => {
                    // What woke us is not seen yet.
                    self.is_first = true;
                    return Err(error);
                }
            };
            let Some(view) = view else { continue };
            if self.callback.is_none()
                && !self.is_callback_over
                && let Some(state) = &view.callback
            {
                self.callback = Some(StateWatch::new(self.inner.clone(), state.task_id.clone()));
            }
            if self.last.as_ref() != Some(&view) {
                self.last = Some(view.clone());
                return Ok(Some(view));
            }
        }
    }

    /// Waits until something may have changed.
    async fn news(&mut self) -> Result<(), Error> {
        let is_waiting_for_members = self.last.as_ref().is_none_or(|last| last.ended < last.total);
        if is_waiting_for_members {
            // What comes close together is told together.
            tokio::time::sleep(LOOK_MIN).await;
        }
        let callback = async {
            match &mut self.callback {
                Some(watch) => watch.next().await.map(|state| state.is_none()),
                None => std::future::pending().await,
            }
        };
        let is_over = tokio::select! {
            () = self.wake.notified() => false,
            is_over = callback => is_over?,
            () = tokio::time::sleep(LOOK_MAX) => false,
            () = self.inner.stopping.cancelled() => return Err(Error::Draining),
        };
        if is_over {
            self.callback = None;
            self.is_callback_over = true;
        }
        Ok(())
    }
}

impl Drop for GroupWatch {
    fn drop(&mut self) {
        self.inner.looks.unwatch(&self.id, &self.wake);
    }
}
