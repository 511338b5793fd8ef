//! The embedded backend: states in the engine's file.
//!
//! In a format of ours, as no Machinery program reads it. Everything goes through the committer, so writes of one task
//! are compared one after the other, and its watchers hear of them once they are durable.

mod ended;
mod groups;
mod layout;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::WallTime;
use crate::engine::{self, Engine};
use crate::error::StoreError;
use crate::task::{GroupId, MessageKey, Order, TaskId, TaskState};

use super::{Ended, EndedPage, EndedQuery, GroupMeta, StateWrite, Triggered, Watch, Written};

pub(crate) use layout::write_in;
pub(crate) use watch::Watched;

/// States that one job looks at and keeps longer: some milliseconds of the committer.
const REFRESH_MAX: usize = 1_000;

/// The embedded backend. Clones share it.
#[derive(Debug, Clone)]
pub struct Backend {
    engine: Engine,
    watched: Arc<Watched>,
}

impl Backend {
    /// The states in `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine, watched: Arc::default() }
    }

    /// For steps over several rooms.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }
}

#[async_trait]
impl super::Backend for Backend {
    fn name(&self) -> &'static str {
        engine::NAME
    }

    async fn write(&self, states: &[StateWrite], now: WallTime) -> Vec<Result<Written, StoreError>> {
        let watched = Arc::clone(&self.watched);
        let writes = states.to_vec();
        match self.engine.write(move |txn| layout::write_in(txn, &watched, &writes, now)).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); states.len()],
        }
    }

    async fn read(&self, ids: &[TaskId], now: WallTime) -> Result<Vec<Option<TaskState>>, StoreError> {
        self.engine.read(|records| ids.iter().map(|id| layout::read(records, id, now)).collect())
    }

    async fn retract(&self, states: &[(TaskId, Order)]) -> Result<(), StoreError> {
        let watched = Arc::clone(&self.watched);
        let states = states.to_vec();
        self.engine.write(move |txn| layout::retract_in(txn, &watched, &states)).await
    }

    async fn put_group(&self, group: &GroupMeta, keep: Duration, now: WallTime) -> Result<(), StoreError> {
        let group = group.clone();
        self.engine.write(move |txn| groups::put_in(txn, &group, keep, now)).await
    }

    async fn groups(&self, ids: &[GroupId], now: WallTime) -> Result<Vec<Option<GroupMeta>>, StoreError> {
        self.engine.read(|records| ids.iter().map(|id| groups::read(records, id, now)).collect())
    }

    async fn trigger(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        now: WallTime,
    ) -> Result<Triggered, StoreError> {
        let (group, message) = (group.clone(), message.clone());
        self.engine.write(move |txn| groups::trigger_in(txn, &group, &message, keep, now)).await
    }

    async fn refresh(
        &self,
        group: &GroupId,
        tasks: &[TaskId],
        keep: Duration,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let group = group.clone();
        self.engine.write(move |txn| groups::refresh_in(txn, &group, keep, now)).await?;
        for tasks in tasks.chunks(REFRESH_MAX) {
            let tasks = tasks.to_vec();
            self.engine.write(move |txn| layout::refresh_in(txn, &tasks, keep, now)).await?;
        }
        Ok(())
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        self.engine.write(move |txn| Ok(layout::sweep_in(txn, now)? + groups::sweep_in(txn, now)?)).await
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(&*self.watched)
    }

    fn ended(&self) -> Option<&dyn Ended> {
        Some(self)
    }
}

#[async_trait]
impl Ended for Backend {
    async fn ended(&self, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError> {
        self.engine.read(|records| ended::page(records, query, now))
    }
}
