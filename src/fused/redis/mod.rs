//! Broker, ledger and backend on one Redis that is no cluster: few round trips where there would be many.
//!
//! What a transaction or a script does happens at one moment, seen by all. Messages are not acknowledged by it: only the
//! replica that holds one knows where, so the delivery is settled afterwards, and comes again if that fails.

mod claimed;
mod send;
mod settle;
mod stepwise;

use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::redis::Backend;
use crate::broker::redis::Broker;
use crate::clock::{Clock, WallTime};
use crate::error::StoreError;
use crate::ledger::claim::{Claim, Claimed, Claims as _, Sending};
use crate::ledger::redis::Ledger;
use crate::ledger::{Decision, Ledger as _, Verdict};
use crate::link::redis::Link;

const NAME: &str = "redis";

/// Three rooms on one Redis.
#[derive(Debug)]
pub struct Fused {
    link: Link,
    broker: Arc<Broker>,
    ledger: Arc<Ledger>,
    backend: Arc<Backend>,
    clock: Arc<dyn Clock>,
}

impl Fused {
    /// Joins three rooms on the Redis of `link`, which is no cluster; they keep working one by one too.
    pub fn new(
        link: Link,
        broker: Arc<Broker>,
        ledger: Arc<Ledger>,
        backend: Arc<Backend>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { link, broker, ledger, backend, clock }
    }
}

#[async_trait]
impl super::Fused for Fused {
    fn acknowledges(&self) -> bool {
        false
    }

    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
        if items.is_empty() { Vec::new() } else { send::send(self, items, now).await }
    }

    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError> {
        if claimed::send(self, claims, now).await? {
            return Ok(vec![Claimed::New; claims.len()]);
        }
        let mut answers = self.ledger.claim(claims).await?;
        stepwise::send(self, claims, &mut answers, now).await;
        Ok(answers)
    }

    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        let now = self.clock.wall();
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(decisions.len());
        while verdicts.len() < decisions.len() {
            let rest = &decisions[verdicts.len()..];
            let (told, states) = settle::piece(rest, now);
            let settled = match settle::settle(&self.link, &self.broker, &told, &states, now).await {
                // They stay undone until somebody takes away what is in the way.
                Ok(None) => self.ledger.decide(&rest[..told.len()]).await,
                Ok(Some(settled)) => Ok(settled),
                Err(error) => Err(error),
            };
            match settled {
                Ok(settled) => verdicts.extend(settled),
                // That nothing was written cannot be said any more.
                Err(StoreError::Unavailable { store, why } | StoreError::Full { store, why })
                    if !verdicts.is_empty() =>
                {
                    return Err(StoreError::OutcomeUnknown { store, why });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(verdicts)
    }
}
