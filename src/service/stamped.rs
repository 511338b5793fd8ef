//! Keys of messages on brokers that carry bodies and nothing beside them: each body has its key inside.
//!
//! A wrapper at the seam, so that all policy sees deliveries with keys. What the broker itself says of a delivery (of a
//! foreign message, or one that a Machinery worker made of ours) holds where the body has no key that fits it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::broker::{
    Broker, Capabilities, Delivery, Depth, Find, Inspect, NewTask, PendingPage, PendingQuery, Pick, Published, Recall,
    Receipt, Settle, Spot, Want, Wanted,
};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::fused::{Backup, Fused};
use crate::ledger::claim::{Claim, Claimed, Sending};
use crate::ledger::{Decision, Verdict};
use crate::task::{MessageKey, QueueName, TaskName};
use crate::wire::machinery;

/// A store that is given bodies with their keys inside.
#[derive(Debug)]
pub(super) struct Stamped<T: ?Sized>(pub(super) Arc<T>);

fn stamp(task: &NewTask) -> NewTask {
    NewTask { body: machinery::stamp(&task.body, task.key.as_str()), ..task.clone() }
}

fn stamp_all(tasks: &[NewTask]) -> Vec<NewTask> {
    tasks.iter().map(stamp).collect()
}

/// The key of a message, by its body or else as the broker says.
fn key(body: &Bytes, told: Option<MessageKey>) -> Option<MessageKey> {
    machinery::stamped(body).map(MessageKey::trusted).or(told)
}

#[async_trait]
impl Broker for Stamped<dyn Broker> {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn durability(&self) -> &'static str {
        self.0.durability()
    }

    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        self.0.publish(&stamp_all(tasks)).await
    }

    async fn ready(&self, queue: &QueueName, names: &[TaskName]) -> Result<(), StoreError> {
        self.0.ready(queue, names).await
    }

    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries = self.0.take(want).await?;
        for delivery in &mut deliveries {
            delivery.key = key(&delivery.body, delivery.key.take());
        }
        Ok(deliveries)
    }

    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>> {
        self.0.settle(items).await
    }

    async fn hasten(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.0.hasten(queue).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.0.inspect().map(|_| self as &dyn Inspect)
    }

    fn find(&self) -> Option<&dyn Find> {
        self.0.find()
    }

    fn recall(&self) -> Option<&dyn Recall> {
        self.0.recall()
    }

    fn pick(&self) -> Option<&dyn Pick> {
        self.0.pick().map(|_| self as &dyn Pick)
    }
}

#[async_trait]
impl Pick for Stamped<dyn Broker> {
    fn picks_delayed(&self) -> bool {
        self.0.pick().is_some_and(Pick::picks_delayed)
    }

    async fn search(&self, wanted: Wanted<'_>, max: usize) -> Result<Vec<Spot>, StoreError> {
        self.picking()?.search(wanted, max).await
    }

    async fn pick(&self, spots: &[Spot]) -> Result<Vec<Option<Delivery>>, StoreError> {
        let mut picked = self.picking()?.pick(spots).await?;
        for delivery in picked.iter_mut().flatten() {
            delivery.key = key(&delivery.body, delivery.key.take());
        }
        Ok(picked)
    }
}

impl Stamped<dyn Broker> {
    // As `inner`, of `pick`.
    fn picking(&self) -> Result<&dyn Pick, StoreError> {
        let store = self.0.capabilities().name;
        self.0.pick().ok_or_else(|| StoreError::Unavailable { store, why: "nothing can be picked from it".into() })
    }

    // Asked only where `inspect` answered that it is there.
    fn inner(&self) -> Result<&dyn Inspect, StoreError> {
        let store = self.0.capabilities().name;
        self.0.inspect().ok_or_else(|| StoreError::Unavailable { store, why: "it cannot be looked into".into() })
    }
}

#[async_trait]
impl Inspect for Stamped<dyn Broker> {
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError> {
        let mut page = self.inner()?.pending(query).await?;
        for waiting in &mut page.items {
            waiting.key = key(&waiting.body, waiting.key.take());
        }
        Ok(page)
    }

    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError> {
        self.inner()?.queues(after, prefix, max).await
    }

    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError> {
        self.inner()?.depths(queues).await
    }
}

#[async_trait]
impl Fused for Stamped<dyn Fused> {
    fn acknowledges(&self) -> bool {
        self.0.acknowledges()
    }

    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
        let stamped = |sending: &Sending| Sending { message: stamp(&sending.message), ..sending.clone() };
        let items: Vec<Sending> = items.iter().map(stamped).collect();
        self.0.send(&items, now).await
    }

    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError> {
        let mut claims = claims.to_vec();
        for claim in &mut claims {
            claim.sending.message = stamp(&claim.sending.message);
        }
        self.0.send_claimed(&claims, now).await
    }

    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        if decisions.iter().all(|decision| decision.effects.publish.is_empty()) {
            return self.0.settle(decisions).await;
        }
        let mut decisions = decisions.to_vec();
        for decision in &mut decisions {
            decision.effects.publish = stamp_all(&decision.effects.publish);
        }
        self.0.settle(&decisions).await
    }

    fn backup(&self) -> Option<&dyn Backup> {
        self.0.backup()
    }
}
