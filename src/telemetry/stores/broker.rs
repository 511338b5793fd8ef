//! The calls of a broker.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Measured, Stores, methods};
use crate::broker::{
    Broker, Capabilities, Delivery, Depth, Find, Found, Inspect, NewTask, PendingPage, PendingQuery, Pick, Published,
    Recall, Receipt, Settle, Spot, Want, Wanted,
};
use crate::error::StoreError;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

methods!(publish ready take settle pending queues depths find recall discard search pick);

impl Stores {
    /// Puts a measure around a broker.
    pub fn broker(&self, inner: Arc<dyn Broker>) -> Arc<dyn Broker> {
        let name = inner.capabilities().name;
        Arc::new(Measured::new(inner, self, "broker", name, METHODS))
    }
}

#[async_trait]
impl Broker for Measured<dyn Broker> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn durability(&self) -> &'static str {
        self.inner.durability()
    }

    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        self.room.each(Place::publish as usize, self.inner.publish(tasks)).await
    }

    async fn ready(&self, queue: &QueueName, names: &[TaskName]) -> Result<(), StoreError> {
        let answer = self.inner.ready(queue, names).await;
        answer.inspect_err(|error| self.room.failed(Place::ready as usize, error))
    }

    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        self.room.whole(Place::take as usize, self.inner.take(want)).await
    }

    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>> {
        self.room.each(Place::settle as usize, self.inner.settle(items)).await
    }

    async fn hasten(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.inner.hasten(queue).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.inner.inspect().map(|_| self as &dyn Inspect)
    }

    fn find(&self) -> Option<&dyn Find> {
        self.inner.find().map(|_| self as &dyn Find)
    }

    fn recall(&self) -> Option<&dyn Recall> {
        self.inner.recall().map(|_| self as &dyn Recall)
    }

    fn pick(&self) -> Option<&dyn Pick> {
        self.inner.pick().map(|_| self as &dyn Pick)
    }
}

#[async_trait]
impl Inspect for Measured<dyn Broker> {
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError> {
        let view = self.inner.inspect().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::pending as usize, view.pending(query)).await
    }

    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError> {
        let view = self.inner.inspect().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::queues as usize, view.queues(after, prefix, max)).await
    }

    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError> {
        let view = self.inner.inspect().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::depths as usize, view.depths(queues)).await
    }
}

#[async_trait]
impl Find for Measured<dyn Broker> {
    async fn find(&self, tasks: &[TaskId]) -> Result<Vec<Vec<Found>>, StoreError> {
        let view = self.inner.find().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::find as usize, view.find(tasks)).await
    }
}

#[async_trait]
impl Recall for Measured<dyn Broker> {
    async fn recall(&self, keys: &[MessageKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let view = self.inner.recall().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::recall as usize, view.recall(keys)).await
    }

    async fn discard(&self, keys: &[MessageKey]) -> Result<(), StoreError> {
        let view = self.inner.recall().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::discard as usize, view.discard(keys)).await
    }
}

#[async_trait]
impl Pick for Measured<dyn Broker> {
    fn picks_delayed(&self) -> bool {
        self.inner.pick().is_some_and(Pick::picks_delayed)
    }

    async fn search(&self, wanted: Wanted<'_>, max: usize) -> Result<Vec<Spot>, StoreError> {
        let view = self.inner.pick().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::search as usize, view.search(wanted, max)).await
    }

    async fn pick(&self, spots: &[Spot]) -> Result<Vec<Option<Delivery>>, StoreError> {
        let view = self.inner.pick().ok_or_else(|| self.room.missing())?;
        self.room.whole(Place::pick as usize, view.pick(spots)).await
    }
}
