//! Ending all that waits in a queue.
//!
//! A page at a time: what waits is granted to nobody and decided as purged, as `cancel` ends what waits. A message that
//! somebody has taken meanwhile has a live lease, and is left alone. Where others may take from the queue, it is picked
//! from there first, as `picked` tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::dead::Mode;
use super::envelope::{self, Opened};
use super::nobody::{self, is_nobodys};
use super::outcome::Attempt;
use super::picked::Why;
use super::settle::BATCH_MAX;
use super::{Inner, Service};
use crate::broker::{PendingQuery, Spot, Waiting};
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::{Begun, Decision, Grant, Lease, NOBODY, Verdict};
use crate::task::{MessageKey, QueueName};

/// Bytes of bodies after which a page ends.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// What is to be ended.
#[derive(Debug, Clone)]
pub struct Purge {
    /// In this queue.
    pub queue: QueueName,
    /// The delayed tasks too.
    pub delayed: bool,
    /// Whether they are ended, or only counted.
    pub mode: Mode,
    /// Opaque, from the answer before.
    pub after: Option<Vec<u8>>,
    /// At most this many.
    pub max: std::num::NonZeroUsize,
}

/// What a call came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many tasks were ended, or would have been.
    pub count: u64,
    /// To go on; `None`: all was met.
    pub next: Option<Vec<u8>>,
}

/// A message that waits.
struct Message {
    key: MessageKey,
    opened: Opened,
    body: Bytes,
}

impl Service {
    /// Ends a page of what waits in a queue, if it was sent before the first page.
    ///
    /// # Errors
    /// [`Error::CapabilityMissing`]; [`Error::Invalid`] (`page_token`); [`Error::Store`]: purge again.
    pub async fn purge(&self, purge: Purge) -> Result<Purged, Error> {
        let inner = self.inner.clone();
        self.inner.finished(async move { inner.purge(purge).await }).await.unwrap_or(Err(Error::Draining))
    }
}

impl Inner {
    async fn purge(self: &Arc<Self>, purge: Purge) -> Result<Purged, Error> {
        let inspect = self.inspect("purging a queue")?;
        let pick = self.stores.broker.pick();
        if purge.delayed && pick.is_some_and(|pick| !pick.picks_delayed()) {
            let combination = format!("the {} broker in a cluster", self.guarantees.broker.name);
            return Err(Error::CapabilityMissing { combination, capability: "purging delayed tasks" });
        }
        let (began, after) = match &purge.after {
            // The last generation that was given may be ahead of the clock.
            None => (self.clock.wall().0.max(self.generation.load(Ordering::Relaxed)), None),
            Some(position) => {
                let (began, after) = position.split_first_chunk::<8>().ok_or(StoreError::Position)?;
                (u64::from_be_bytes(*began), Some(after))
            }
        };
        let query = PendingQuery {
            queue: &purge.queue,
            delayed: purge.delayed,
            after,
            max: purge.max,
            body_bytes_max: PAGE_BYTES_MAX,
        };
        let page = inspect.pending(&query).await?;
        let open = |waiting: Waiting| {
            let opened = envelope::open(&waiting.body).ok()?;
            let is_of_purge = envelope::generation(&opened.signature) <= began;
            is_of_purge.then_some((waiting, opened))
        };
        let waiting = page.items.into_iter().filter_map(open);
        let next = page.next.map(|position| [&began.to_be_bytes()[..], &position].concat());
        if pick.is_some() {
            let spot = |(waiting, _): (Waiting, _)| Some(Spot { queue: purge.queue.clone(), place: waiting.place? });
            let spots: Vec<Spot> = waiting.filter_map(spot).collect();
            let count = match purge.mode {
                Mode::DryRun => spots.len() as u64,
                Mode::Do => self.end_spotted(Why::Purge, &spots).await?,
            };
            return Ok(Purged { count, next });
        }
        let read = |(Waiting { key, body, .. }, opened)| Some(Message { key: key?, opened, body });
        let messages: Vec<Message> = waiting.filter_map(read).collect();
        let count = match purge.mode {
            Mode::DryRun => messages.len() as u64,
            Mode::Do => {
                let mut count = 0;
                for chunk in messages.chunks(BATCH_MAX) {
                    count += self.end_purged(&purge.queue, chunk).await?;
                }
                count
            }
        };
        Ok(Purged { count, next })
    }

    /// Ends messages that wait; answers how many were ended as purged.
    async fn end_purged(self: &Arc<Self>, queue: &QueueName, messages: &[Message]) -> Result<u64, StoreError> {
        let keeps_bodies = self.stores.broker.recall().is_none();
        let at = self.clock.wall();
        let grant = |Message { key, opened, body }: &Message| {
            nobody::grant(NOBODY, key, queue, opened, at, keeps_bodies.then(|| body.clone()))
        };
        let grants: Vec<Grant> = messages.iter().map(grant).collect();
        if grants.is_empty() {
            return Ok(0);
        }
        let begun = self.stores.ledger.begin(&grants).await?;
        self.failpoints.reach(Point::PurgeBegun).await;
        let (mut decisions, mut as_purged) = (Vec::new(), Vec::new());
        let mut decided = Vec::new();
        for (begun, message) in begun.iter().zip(messages) {
            let (decision, is_purge) = match begun {
                Begun::Run(lease) => (self.purged(lease, &message.opened), true),
                // Granted to nobody before, by a call that was cut short.
                Begun::Held(lease) if is_nobodys(lease) => (self.purged(lease, &message.opened), true),
                Begun::Cancelled(lease) => (self.cancelled(lease, &message.opened), false),
                // It is being acknowledged, or a crash kept it from that; perhaps nobody takes it who would notice.
                Begun::Decided => {
                    decided.push(message.key.clone());
                    continue;
                }
                Begun::Held(_) | Begun::NoSession => continue,
            };
            decisions.push(decision);
            as_purged.push(is_purge);
        }
        self.discard(&decided).await;
        if decisions.is_empty() {
            return Ok(0);
        }
        let verdicts = self.decide_in(Some(queue), decisions).await?;
        let counts = |(verdict, is_purge): &(Verdict, bool)| *verdict == Verdict::Recorded && *is_purge;
        Ok(verdicts.into_iter().zip(as_purged).filter(counts).count() as u64)
    }

    pub(super) fn purged(&self, lease: &Lease, opened: &Opened) -> Decision {
        let (now, settings) = (self.clock.wall(), &self.settings());
        Attempt { lease, signature: &opened.signature, now, settings }.purge()
    }
}
