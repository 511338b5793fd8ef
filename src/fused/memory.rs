//! The reference model of a fused store: the three memory models, locked together.

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::Written;
use crate::backend::memory::Backend;
use crate::broker::Published;
use crate::broker::memory::Broker;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::claim::{Claim, Claimed, Sending, Step};
use crate::ledger::memory::Ledger;
use crate::ledger::{Decision, Verdict};
use crate::task::TaskId;

/// Broker, ledger and backend in memory, as one store.
#[derive(Debug)]
pub struct Fused {
    broker: Arc<Broker>,
    ledger: Arc<Ledger>,
    backend: Arc<Backend>,
}

impl Fused {
    /// Joins three rooms; they keep working one by one too.
    pub fn new(broker: Arc<Broker>, ledger: Arc<Ledger>, backend: Arc<Backend>) -> Self {
        Self { broker, ledger, backend }
    }

    fn tell(&self, changed: &[TaskId]) {
        self.broker.told();
        changed.iter().for_each(|id| self.backend.told(id));
    }
}

#[async_trait]
impl super::Fused for Fused {
    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
        let mut changed = Vec::new();
        {
            // The locks are always taken in this order: broker, ledger, backend.
            let mut broker = match self.broker.lock() {
                Ok(broker) => broker,
                Err(error) => return items.iter().map(|_| Err(error.clone())).collect(),
            };
            let mut ledger = self.ledger.lock();
            let mut backend = self.backend.lock();
            for sending in items {
                if self.broker.put(&mut broker, &sending.message) != Published::New {
                    continue;
                }
                ledger.limit(sending.lifetime());
                if backend.write(&sending.state, now) == Written::Applied {
                    changed.push(sending.message.task.clone());
                }
            }
        }
        self.tell(&changed);
        items.iter().map(|_| Ok(())).collect()
    }

    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError> {
        let mut changed = Vec::new();
        let mut answers: Vec<Claimed>;
        {
            let mut broker = self.broker.lock()?;
            let mut ledger = self.ledger.lock();
            let mut backend = self.backend.lock();
            // All of a batch are claimed before any is sent.
            answers = claims.iter().map(|claim| ledger.claim(claim, Step::Publish)).collect();
            for (claim, answer) in claims.iter().zip(&mut answers) {
                let is_new = *answer == Claimed::New;
                let sending = match answer {
                    Claimed::New => &claim.sending,
                    Claimed::Again(sending) => sending,
                    Claimed::Sent(_) | Claimed::Held(_) | Claimed::Reused | Claimed::Failed(_) => continue,
                };
                let message = &sending.message;
                if (is_new || !ledger.is_decided(&message.key))
                    && self.broker.put(&mut broker, message) == Published::New
                {
                    ledger.limit(sending.lifetime());
                    if backend.write(&sending.state, now) == Written::Applied {
                        changed.push(message.task.clone());
                    }
                }
                ledger.published(&claim.names(), &message.key);
                if !is_new {
                    *answer = Claimed::Sent(message.task.clone());
                }
            }
        }
        self.tell(&changed);
        Ok(answers)
    }

    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        let mut changed = Vec::new();
        let mut verdicts = Vec::with_capacity(decisions.len());
        {
            let mut broker = self.broker.lock()?;
            let mut ledger = self.ledger.lock();
            let mut backend = self.backend.lock();
            for decision in decisions {
                let verdict = ledger.decide(decision);
                verdicts.push(verdict);
                if verdict != Verdict::Recorded {
                    continue;
                }
                for state in &decision.effects.states {
                    if backend.write(state, decision.at) == Written::Applied {
                        changed.push(state.state.task_id.clone());
                    }
                }
                for task in &decision.effects.publish {
                    self.broker.put(&mut broker, task);
                }
                ledger.joins.add(&decision.effects.joins);
                broker.remove(&decision.lease.message);
                ledger.done(&decision.lease.message, decision.at);
            }
        }
        self.tell(&changed);
        Ok(verdicts)
    }
}
