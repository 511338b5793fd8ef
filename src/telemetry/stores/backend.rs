//! The calls of a backend.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Measured, Stores, methods};
use crate::backend::{Backend, Ended, EndedPage, EndedQuery, GroupMeta, StateWrite, Triggered, Watch, Written};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{GroupId, MessageKey, Order, TaskId, TaskState};

methods!(write read retract put_group groups trigger refresh sweep ended);

impl Stores {
    /// Puts a measure around a backend.
    pub fn backend(&self, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        let name = inner.name();
        Arc::new(Measured::new(inner, self, "backend", name, METHODS))
    }
}

#[async_trait]
impl Backend for Measured<dyn Backend> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn write(&self, states: &[StateWrite], now: WallTime) -> Vec<Result<Written, StoreError>> {
        self.room.each(Place::write as usize, self.inner.write(states, now)).await
    }

    async fn read(&self, ids: &[TaskId], now: WallTime) -> Result<Vec<Option<TaskState>>, StoreError> {
        self.room.whole(Place::read as usize, self.inner.read(ids, now)).await
    }

    async fn retract(&self, states: &[(TaskId, Order)]) -> Result<(), StoreError> {
        self.room.whole(Place::retract as usize, self.inner.retract(states)).await
    }

    async fn put_group(&self, group: &GroupMeta, keep: Duration, now: WallTime) -> Result<(), StoreError> {
        self.room.whole(Place::put_group as usize, self.inner.put_group(group, keep, now)).await
    }

    async fn groups(&self, ids: &[GroupId], now: WallTime) -> Result<Vec<Option<GroupMeta>>, StoreError> {
        self.room.whole(Place::groups as usize, self.inner.groups(ids, now)).await
    }

    async fn trigger(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        now: WallTime,
    ) -> Result<Triggered, StoreError> {
        self.room.whole(Place::trigger as usize, self.inner.trigger(group, message, keep, now)).await
    }

    async fn refresh(
        &self,
        group: &GroupId,
        tasks: &[TaskId],
        keep: Duration,
        now: WallTime,
    ) -> Result<(), StoreError> {
        self.room.whole(Place::refresh as usize, self.inner.refresh(group, tasks, keep, now)).await
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        self.room.whole(Place::sweep as usize, self.inner.sweep(now)).await
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.inner.watch()
    }

    fn ended(&self) -> Option<&dyn Ended> {
        self.inner.ended().map(|_| self as &dyn Ended)
    }
}

#[async_trait]
impl Ended for Measured<dyn Backend> {
    async fn ended(&self, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError> {
        let view = self.inner.ended().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::ended as usize, view.ended(query, now)).await
    }
}
