//! The calls of a backend.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Measured, Stores, methods};
use crate::backend::{Backend, Ended, EndedPage, EndedQuery, StateWrite, Watch, Written};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{Order, TaskId, TaskState};

methods!(write read retract sweep ended);

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
