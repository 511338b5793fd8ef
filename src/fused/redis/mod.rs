//! Broker, ledger and backend on one Redis that is no cluster: few round trips where there would be many.
//!
//! What a transaction or a script does happens at one moment, seen by all. Messages are not acknowledged by it: only the
//! replica that holds one knows where, so the delivery is settled afterwards, and comes again if that fails.

mod claimed;
mod send;
mod settle;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::redis::Backend;
use crate::broker::redis::Broker;
use crate::clock::{Clock, WallTime};
use crate::error::StoreError;
use crate::ledger::claim::{Claim, Claimed, Claims as _, Sending};
use crate::ledger::redis::Ledger;
use crate::ledger::{Decision, Ledger as _, Standing, Verdict};
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

    /// Sends what was claimed and marks it published.
    async fn send_all(&self, claims: &[&Claim], sendings: &[Sending], now: WallTime) -> Result<(), StoreError> {
        for answer in send::send(self, sendings, now).await {
            answer?;
        }
        let marks: Vec<_> =
            claims.iter().zip(sendings).map(|(claim, sending)| (claim.names(), sending.message.key.clone())).collect();
        self.ledger.published(&marks).await
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
        // Claimed by this call or, before, by one that was cut short: the rest is repeated by whoever finds it so.
        let mut seen = HashSet::new();
        let (mut open, mut found) = (Vec::new(), Vec::new());
        for (claim, answer) in claims.iter().zip(&mut answers) {
            let sending = match answer {
                Claimed::New => claim.sending.clone(),
                Claimed::Again(sending) => {
                    let sending = (**sending).clone();
                    *answer = Claimed::Sent(sending.message.task.clone());
                    found.push(sending.message.key.clone());
                    sending
                }
                Claimed::Sent(_) | Claimed::Held(_) | Claimed::Reused => continue,
            };
            if seen.insert(sending.message.key.clone()) {
                open.push((claim, sending));
            }
        }
        let unknown = |error: StoreError| StoreError::OutcomeUnknown { store: NAME, why: error.to_string() };
        if !found.is_empty() {
            // What was found may be decided, and its state forgotten: writing it would bring the task back.
            let standing = self.ledger.standing(&found).await.map_err(unknown)?;
            let decided: HashSet<_> = found
                .into_iter()
                .zip(standing)
                .filter(|(_, is)| *is == Standing::Decided)
                .map(|(key, _)| key)
                .collect();
            let is_over = |(_, sending): &(&Claim, Sending)| decided.contains(&sending.message.key);
            let marks: Vec<_> = (open.iter().filter(|item| is_over(item)))
                .map(|(claim, sending)| (claim.names(), sending.message.key.clone()))
                .collect();
            self.ledger.published(&marks).await.map_err(unknown)?;
            open.retain(|item| !is_over(item));
        }
        if !open.is_empty() {
            let (claims, sendings): (Vec<_>, Vec<_>) = open.into_iter().unzip();
            self.send_all(&claims, &sendings, now).await.map_err(unknown)?;
        }
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
