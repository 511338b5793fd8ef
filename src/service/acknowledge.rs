//! The last step of settling: messages whose tasks have ended go.
//!
//! Acknowledgements of a moment travel together: nobody waits for them, and what comes again meanwhile is recognised.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::settle::Settled;
use crate::broker::{Receipt, Settle};
use crate::error::StoreError;
use crate::failpoint::Point;
use crate::task::MessageKey;

/// Acknowledgements of this time travel together.
const ACK_LINGER: Duration = Duration::from_millis(10);

impl Inner {
    /// Acknowledges within a moment, together with what else ends in it: nobody waits for it, and what comes again meanwhile
    /// is recognised.
    pub(super) fn acknowledge_soon(self: &Arc<Self>, mine: Vec<Settled>) {
        let mut waiting = self.settled.lock();
        let is_first = waiting.is_empty();
        waiting.extend(mine.into_iter().map(|(key, _, receipt)| (key, receipt)));
        drop(waiting);
        if is_first {
            let inner = self.clone();
            self.spawn(async move {
                tokio::time::sleep(ACK_LINGER).await;
                let mine = std::mem::take(&mut *inner.settled.lock());
                inner.acknowledge(mine).await;
            });
        }
    }

    /// The last step: the messages of decisions whose effects are done go.
    async fn acknowledge(&self, mine: Vec<(MessageKey, Option<Receipt>)>) {
        let (mut acks, mut elsewhere) = (Vec::new(), Vec::new());
        for (key, receipt) in mine {
            match receipt {
                Some(receipt) => acks.push((receipt, Settle::Ack)),
                None => elsewhere.push(key),
            }
        }
        self.settle_broker(&acks).await;
        self.discard(&elsewhere).await;
        self.failpoints.reach(Point::SettleAcked).await;
    }

    /// Removes messages that were decided while this replica held no delivery of them. Where the broker cannot find them,
    /// they are acknowledged when they are met.
    pub(super) async fn discard(&self, messages: &[MessageKey]) {
        let Some(recall) = self.stores.broker.recall().filter(|_| !messages.is_empty()) else { return };
        if let Err(error) = recall.discard(messages).await {
            tracing::warn!(%error, messages = messages.len(), "decided messages are acknowledged when they are met");
        }
    }

    /// Settles deliveries; a void receipt is harmless, an unreachable broker delivers again.
    pub(super) async fn settle_broker(&self, items: &[(Receipt, Settle)]) {
        for chunk in items.chunks(self.guarantees.broker.batch_max.get()) {
            for answer in self.stores.broker.settle(chunk).await {
                match answer {
                    Ok(()) | Err(StoreError::Stale) => {}
                    Err(error) => tracing::warn!(%error, "a delivery is not settled yet; it will come again"),
                }
            }
        }
    }
}
