//! Ending what waits where the broker cannot find messages, but can pick them from where they are seen.
//!
//! Other programs may take from the same places, and a decision in our ledger is nothing to them. So a message is taken into
//! our hands first, then granted to nobody, decided and acknowledged. A crash in between leaves a message that is held by a
//! dead replica: it waits again, for our servers only, and whoever meets it finds its mark or its decision.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Inner;
use super::envelope::{self, Opened};
use super::hands::InHand;
use super::nobody::{self, CANCELLING, is_nobodys};
use super::settle::BATCH_MAX;
use crate::broker::{Delivery, Receipt, Settle, Spot};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::failpoint::Point;
use crate::ledger::{Begun, CancelMark, Decision, Grant, Lease, Lifetime, NOBODY, Verdict};
use crate::task::{MessageKey, QueueName, TaskId, Timestamp};
use crate::wire::machinery::salvage_uuid;

/// How long a search waits for those before it.
const SEARCH_WAIT_MAX: Duration = Duration::from_secs(1);

/// How a message that nobody began goes back: to whoever takes next, once it is due.
pub(super) fn back(opened: &Opened, now: WallTime) -> Settle {
    let due = opened.signature.eta.map(Timestamp::to_wall);
    Settle::Return { after: due.map_or(Duration::ZERO, |due| now.until(due)), began: false }
}

/// True for a message that comes again before its time: whoever was about to end it while it was delayed has died.
pub(super) fn is_early(delivery: &Delivery, opened: &Opened, now: WallTime) -> bool {
    delivery.redelivered && opened.signature.eta.is_some_and(|eta| eta.to_wall() > now)
}

/// Why messages are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Their task is marked as cancelled.
    Cancel,
    /// Their queue is purged; those that are marked end as cancelled all the same.
    Purge,
    /// Their time is over; likewise.
    Lapse,
}

impl Why {
    /// The arrow behind the grant.
    fn begun(self) -> Point {
        match self {
            Self::Cancel => Point::CancelBegun,
            Self::Purge => Point::PurgeBegun,
            Self::Lapse => Point::LapseBegun,
        }
    }
}

/// A message in our hands, not granted.
struct Picked {
    key: MessageKey,
    queue: QueueName,
    receipt: Receipt,
    body: Bytes,
    opened: Opened,
}

impl Inner {
    /// Ends what waits of a marked task, as far as a search comes upon it; true if something did. One search at a time, as
    /// each is long; one that would wait too long for its turn is left out.
    pub(super) async fn end_searched(self: &Arc<Self>, mark: &CancelMark) -> Result<bool, StoreError> {
        let Some(pick) = self.stores.broker.pick() else { return Ok(false) };
        let Ok(_alone) = tokio::time::timeout(SEARCH_WAIT_MAX, self.cancels.searching.lock()).await else {
            return Ok(false);
        };
        let id = mark.task.as_str();
        // An id that needs no escape in JSON stands in each of its bodies as it is.
        let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
        let may_be = |body: &[u8]| !is_plain || body.windows(id.len()).any(|part| part == id.as_bytes());
        let is_of_mark = |body: &[u8]| {
            may_be(body)
                && salvage_uuid(body).is_some_and(|uuid| uuid == id)
                && envelope::open(body).is_ok_and(|open| envelope::generation(&open.signature) <= mark.generation)
        };
        let spots = pick.search(&is_of_mark, 1).await?;
        Ok(self.end_spotted(Why::Cancel, &spots).await? > 0)
    }

    /// As [`Inner::end_searched`], of many tasks with one search.
    pub(super) async fn end_all_searched(self: &Arc<Self>, tasks: &HashMap<&TaskId, u64>) -> Result<(), StoreError> {
        let Some(pick) = self.stores.broker.pick() else { return Ok(()) };
        let Ok(_alone) = tokio::time::timeout(SEARCH_WAIT_MAX, self.cancels.searching.lock()).await else {
            return Ok(());
        };
        let is_marked = |body: &[u8]| {
            salvage_uuid(body).is_some_and(|uuid| {
                let marked = tasks.get(&TaskId::trusted(uuid));
                marked.is_some_and(|max| {
                    envelope::open(body).is_ok_and(|open| envelope::generation(&open.signature) <= *max)
                })
            })
        };
        let spots = pick.search(&is_marked, tasks.len()).await?;
        self.end_spotted(Why::Cancel, &spots).await.map(drop)
    }

    /// Ends what waits of tasks whose time is over, as far as a search comes upon it.
    pub(super) async fn end_lapsed(self: &Arc<Self>, over: &[Lifetime]) -> Result<(), StoreError> {
        let Some(pick) = self.stores.broker.pick().filter(|_| !over.is_empty()) else { return Ok(()) };
        let _alone = self.cancels.searching.lock().await;
        let over: HashSet<&Lifetime> = over.iter().collect();
        let is_over = |body: &[u8]| {
            envelope::may_expire(body)
                && envelope::open(body)
                    .is_ok_and(|open| envelope::lifetime(&open.signature).is_some_and(|life| over.contains(&life)))
        };
        let spots = pick.search(&is_over, over.len()).await?;
        self.end_spotted(Why::Lapse, &spots).await.map(drop)
    }

    /// Ends messages from where they were seen, unless somebody took them meanwhile; how many, and of those only the ones that
    /// ended as is told by `why`.
    pub(super) async fn end_spotted(self: &Arc<Self>, why: Why, spots: &[Spot]) -> Result<u64, StoreError> {
        let Some(pick) = self.stores.broker.pick() else { return Ok(0) };
        let mut count = 0;
        for spots in spots.chunks(BATCH_MAX) {
            let deliveries = pick.pick(spots).await?;
            self.failpoints.reach(Point::Picked).await;
            let (mut picked, mut unended, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
            let now = self.clock.wall();
            for (spot, delivery) in spots.iter().zip(deliveries) {
                let Some(Delivery { receipt, key, body, .. }) = delivery else { continue };
                match (key, envelope::open(&body)) {
                    (Some(key), Ok(opened)) if seen.insert(key.clone()) => {
                        picked.push(Picked { key, queue: spot.queue.clone(), receipt, body, opened });
                    }
                    // The second of one name is met later, and finds the decision of the first.
                    (_, Ok(opened)) => unended.push((receipt, back(&opened, now))),
                    (_, Err(_)) => unended.push((receipt, Settle::Return { after: Duration::ZERO, began: false })),
                }
            }
            let ended = self.end_picked(why, picked, &mut unended).await;
            self.settle_broker(&unended).await;
            count += ended?;
        }
        Ok(count)
    }

    /// Grants messages in hand to nobody and decides; what is not ended is added to `settle`.
    async fn end_picked(
        self: &Arc<Self>,
        why: Why,
        picked: Vec<Picked>,
        settle: &mut Vec<(Receipt, Settle)>,
    ) -> Result<u64, StoreError> {
        if picked.is_empty() {
            return Ok(0);
        }
        let at = self.clock.wall();
        let whom = if why == Why::Cancel { CANCELLING } else { NOBODY };
        let grant = |picked: &Picked| {
            nobody::grant(whom, &picked.key, &picked.queue, &picked.opened, at, Some(picked.body.clone()))
        };
        let begun = match self.stores.ledger.begin(&picked.iter().map(grant).collect::<Vec<Grant>>()).await {
            Ok(begun) => begun,
            Err(error) => {
                settle.extend(picked.into_iter().map(|picked| (picked.receipt, back(&picked.opened, at))));
                return Err(error);
            }
        };
        self.failpoints.reach(why.begun()).await;
        let (mut decisions, mut receipts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (begun, picked) in begun.into_iter().zip(picked) {
            let (lease, is_cancelled) = match begun {
                Begun::Cancelled(lease) => (lease, true),
                Begun::Run(lease) => (lease, false),
                // Granted to nobody before, by a call that was cut short.
                Begun::Held(lease) if is_nobodys(&lease) => {
                    let is_cancelled = lease.session.as_str() == CANCELLING;
                    (lease, is_cancelled)
                }
                Begun::Decided => {
                    settle.push((picked.receipt, Settle::Ack));
                    continue;
                }
                Begun::Held(_) | Begun::NoSession => {
                    settle.push((picked.receipt, back(&picked.opened, at)));
                    continue;
                }
            };
            let why_this = if is_cancelled { Why::Cancel } else { why };
            decisions.push(self.ending(why_this, &lease, &picked));
            counts.push(why_this == why);
            receipts.push((picked.receipt.clone(), back(&picked.opened, at)));
            self.hands.put(in_hand(lease, picked));
        }
        if decisions.is_empty() {
            return Ok(0);
        }
        let leases: Vec<_> = decisions.iter().map(|decision| decision.lease.clone()).collect();
        let verdicts = match self.decide(decisions).await {
            Ok(verdicts) => verdicts,
            Err(error) => {
                for (lease, (_, back)) in leases.iter().zip(&receipts) {
                    let Settle::Return { after, .. } = back else { continue };
                    self.give_back(std::slice::from_ref(lease), *after, None).await;
                }
                return Err(error);
            }
        };
        // What somebody else decided is met again, and acknowledged then.
        let others = verdicts.iter().zip(receipts).filter(|(verdict, _)| **verdict != Verdict::Recorded);
        settle.extend(others.map(|(_, unended)| unended));
        Ok(verdicts.iter().zip(counts).filter(|(verdict, counts)| **verdict == Verdict::Recorded && *counts).count()
            as u64)
    }

    fn ending(&self, why: Why, lease: &Lease, picked: &Picked) -> Decision {
        match why {
            Why::Cancel => self.cancelled(lease, &picked.opened),
            Why::Purge => self.purged(lease, &picked.opened),
            Why::Lapse => self.expired(lease, &picked.opened, picked.body.clone()),
        }
    }
}

fn in_hand(lease: Lease, picked: Picked) -> InHand {
    InHand {
        lease,
        receipt: Some(picked.receipt),
        opened: Some(picked.opened),
        body: Some(picked.body),
        accepted: false,
        started: false,
        limit: None,
        ending: false,
        progress: None,
    }
}
