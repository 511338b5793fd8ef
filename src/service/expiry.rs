//! When a lease ends because its worker is dead.
//!
//! Expiry is observed, not computed: a session is dead once its renewal number stood still for a whole lease time, by
//! this replica's monotonic clock, while the ledger could be reached and this process itself ran. After a start, an
//! outage or a pause of our own the watch begins anew, so nobody's live work is taken because *we* were away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::envelope::{self, Opened};
use super::hands::InHand;
use super::outcome::Attempt;
use super::traffic::{self, Tally};
use super::types::{Event, Parting, Revoked};
use super::{Inner, trail};
use crate::broker::Settle;
use crate::clock::{Instant, WallTime};
use crate::error::StoreError;
use crate::failpoint::Point;
use crate::ledger::{Ending, Lease, LostAttempt, Notice, Standing, Verdict};
use crate::task::{LeaseId, MessageKey, SessionId};

/// Live leases without a session that are looked at in one go.
const ORPHANS_MAX: usize = 256;
/// Attempts lost on one single worker are no verdict on the task.
const LOST_WORKERS_MIN: usize = 2;

/// Since when each session's renewal number stands still.
#[derive(Debug, Default)]
struct Watch {
    seen: HashMap<SessionId, (u64, Instant)>,
}

impl Watch {
    /// Takes a look at `now`; answers the sessions that stood still for `lease`.
    fn look(&mut self, renewals: &[(SessionId, u64)], now: Instant, lease: Duration) -> Vec<(SessionId, u64)> {
        let mut still = HashMap::with_capacity(renewals.len());
        let mut dead = Vec::new();
        for (session, number) in renewals {
            let since = match self.seen.get(session) {
                Some((last, since)) if last == number => *since,
                _ => now,
            };
            if now.duration_since(since) >= lease {
                dead.push((session.clone(), *number));
            }
            still.insert(session.clone(), (*number, since));
        }
        self.seen = still;
        dead
    }
}

/// Watches sessions for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>) {
    let lease = inner.settings().lease_duration;
    let tick = (lease / 10).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let mut watch = Watch::default();
    let mut last = inner.clock.now();
    let mut stalls = inner.stalls.load(Ordering::Acquire);
    // Alone on the ledger, every lease ends through this replica; the comparison is then only for answers that were lost.
    let compare_every = if inner.stores.ledger.replicas() { 1 } else { 10 };
    for round in 0u64.. {
        tokio::time::sleep(tick).await;
        renew(&inner).await;
        let now = inner.clock.now();
        let stalled = inner.stalls.load(Ordering::Acquire);
        // Half a lease without a look means that this process was stopped or starved, and heartbeats wait unread.
        if now.duration_since(last) > tick + lease / 2 || stalled != stalls {
            watch = Watch::default();
        }
        (last, stalls) = (now, stalled);
        match inner.stores.ledger.renewals().await {
            Err(error) => {
                tracing::warn!(%error, "sessions cannot be watched; nothing expires meanwhile");
                inner.stalled();
            }
            Ok(renewals) => {
                let alive: std::collections::HashSet<&SessionId> =
                    renewals.iter().map(|(session, _)| session).collect();
                inner.heard.lock().retain(|session, _| alive.contains(session));
                for (session, number) in watch.look(&renewals, now, lease) {
                    if let Err(error) = expire(&inner, &session, number).await {
                        tracing::warn!(%error, %session, "an expired session is not closed yet");
                        // A ledger that takes no writes lets no worker come back to its session either.
                        inner.stalled();
                    }
                }
            }
        }
        let owed = std::mem::take(&mut *inner.owed.lock());
        inner.give_back(&owed, Duration::ZERO, None).await;
        let swept = async {
            let orphans = inner.stores.ledger.orphans(ORPHANS_MAX).await?;
            end_lost(&inner, orphans).await?;
            if round % compare_every == 0 { look_at_held(&inner).await } else { Ok(()) }
        };
        if let Err(error) = swept.await {
            tracing::warn!(%error, "leases of dead sessions are not ended yet");
        }
    }
}

/// Passes heartbeats on to the ledger, all that came since the last time at once.
async fn renew(inner: &Arc<Inner>) {
    let sessions: Vec<SessionId> = inner.heartbeats.lock().drain().collect();
    if sessions.is_empty() {
        return;
    }
    match inner.stores.ledger.renew(&sessions).await {
        Err(error) => {
            tracing::warn!(%error, sessions = sessions.len(), "heartbeats are not recorded yet");
            inner.heartbeats.lock().extend(sessions);
            inner.stalled();
        }
        Ok(alive) => {
            for (session, alive) in sessions.into_iter().zip(alive) {
                if !alive && let Some(stream) = inner.sessions.stream(&session) {
                    stream.part(Parting::Expired);
                }
            }
        }
    }
}

async fn expire(inner: &Arc<Inner>, session: &SessionId, number: u64) -> Result<(), StoreError> {
    let Some(leases) = inner.stores.ledger.close(session, Some(number)).await? else { return Ok(()) };
    inner.failpoints.reach(Point::ExpireClosed).await;
    tracing::info!(%session, leases = leases.len(), "a worker is not heard of any more; its leases end");
    if let Some(stream) = inner.sessions.stream(session) {
        for lease in &leases {
            stream.tell(Event::Revoke { lease: lease.id.clone(), reason: Revoked::Expired });
        }
        stream.part(Parting::Expired);
    }
    inner.stores.ledger.notices().tell(Notice::Closed(session.clone()));
    end_lost(inner, leases).await
}

/// Ends leases of dead workers: each costs an attempt, unless the worker never confirmed it; one too many buries the task.
async fn end_lost(inner: &Arc<Inner>, leases: Vec<Lease>) -> Result<(), StoreError> {
    let now = inner.clock.wall();
    let mut endings: Vec<(LeaseId, Ending)> = Vec::new();
    let mut gone: Vec<(Lease, Option<Opened>)> = Vec::new();
    let mut tally = Tally::default();
    for lease in leases {
        let hand = inner.hands.get(&lease.id);
        if hand.as_ref().is_some_and(|h| !h.accepted) || super::nobody::is_nobodys(&lease) {
            endings.push((lease.id, Ending::Free { report: None }));
            continue;
        }
        tally.add(&lease.queue, traffic::Event::Lost);
        let mut lost = lease.lost.clone();
        lost.push(LostAttempt { attempt: lease.attempt, worker: lease.worker.clone(), at: now });
        let workers: std::collections::BTreeSet<&str> = lost.iter().map(|l| l.worker.as_str()).collect();
        if lost.len() < inner.settings().lost_max as usize || workers.len() < LOST_WORKERS_MIN {
            endings.push((lease.id.clone(), Ending::Lost { at: now }));
            gone.push((lease, hand.and_then(|h| h.opened)));
            continue;
        }
        let body = match hand.and_then(|h| h.body) {
            Some(body) => Some(body),
            None => recall(inner, &lease).await?,
        };
        match body.as_deref().map(envelope::open) {
            Some(Ok(opened)) => {
                let settings = &inner.settings();
                let attempt = Attempt { lease: &lease, signature: &opened.signature, now, settings };
                let decision = attempt.bury(lost, body.unwrap_or_default());
                tracing::warn!(
                    task = %lease.task,
                    name = %lease.name,
                    attempt = lease.attempt,
                    session = %lease.session,
                    lease = %lease.id,
                    "a task killed its workers; it is dead"
                );
                let known = InHand { opened: Some(opened), ..InHand::brought_back(lease.clone()) };
                let known = HashMap::from([(lease.id.clone(), known)]);
                inner.decide_known(Some(&lease.queue), vec![decision], &known).await?;
            }
            // Its broker has lost the message: nothing is left to bury or to run.
            _ => {
                endings.push((lease.id.clone(), Ending::Lost { at: now }));
                gone.push((lease, None));
            }
        }
    }
    if endings.is_empty() {
        inner.traffic.add(tally, inner.clock.now());
        return Ok(());
    }
    let ended = inner.stores.ledger.release(&endings).await?;
    inner.traffic.add(tally, inner.clock.now());
    let ended: HashSet<&LeaseId> =
        endings.iter().zip(ended).filter(|(_, verdict)| *verdict == Verdict::Recorded).map(|((id, _), _)| id).collect();
    gone.retain(|(lease, _)| ended.contains(&lease.id));
    tell_lost(inner, gone, now).await;
    inner.failpoints.reach(Point::ReleaseEnded).await;
    for (lease, ending) in endings {
        inner.let_go(&lease, &ending, Duration::ZERO, true).await;
    }
    Ok(())
}

/// Tells of attempts that ended in dead workers. A body that cannot be had costs its span and nothing else.
async fn tell_lost(inner: &Inner, gone: Vec<(Lease, Option<Opened>)>, now: WallTime) {
    let spans = &inner.settings().spans;
    for (lease, mut opened) in gone {
        if opened.is_none() && spans.is_on() {
            let body = recall(inner, &lease).await.ok().flatten();
            opened = body.and_then(|body| envelope::open(&body).ok());
        }
        trail::lost(&lease, opened.as_ref().map(|opened| &*opened.signature), spans, now);
    }
}

/// The body of a leased message, from its broker or from the lease.
pub(super) async fn recall(inner: &Inner, lease: &Lease) -> Result<Option<bytes::Bytes>, StoreError> {
    match inner.stores.broker.recall() {
        Some(recall) => Ok(recall.recall(std::slice::from_ref(&lease.id.message)).await?.pop().flatten()),
        None => Ok(lease.body.clone()),
    }
}

/// Compares what is in hand with the ledger: a message that was decided through another replica is acknowledged, one whose
/// lease has ended goes back to its queue.
pub(super) async fn look_at_held(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let held = inner.hands.messages();
    for chunk in held.chunks(super::settle::BATCH_MAX) {
        let keys: Vec<MessageKey> = chunk.iter().map(|(message, _)| message.clone()).collect();
        let standing = inner.stores.ledger.standing(&keys).await?;
        let mut settle = Vec::new();
        for ((_, lease), standing) in chunk.iter().zip(standing) {
            let how = match standing {
                Standing::Leased(now) if now == *lease => continue,
                // Granted again elsewhere: the delivery stays, under the lease that counts.
                Standing::Leased(_) => Settle::Return { after: Duration::ZERO, began: true },
                Standing::Open => Settle::Return { after: Duration::ZERO, began: true },
                Standing::Decided => Settle::Ack,
            };
            if let Some(receipt) = inner.hands.take_lease(lease).and_then(|h| h.receipt) {
                settle.push((receipt, how));
            }
        }
        inner.settle_broker(&settle).await;
    }
    Ok(())
}

/// Hears what other replicas say, for as long as this one runs.
pub(super) async fn listen(inner: Arc<Inner>, mut notices: Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(Notice::Attached(session, attach)) => {
                if let Some(stream) = inner.sessions.stream(&session)
                    && stream.attach < attach
                {
                    let unsent = stream.part(Parting::Replaced);
                    inner.give_back(&unsent, Duration::ZERO, None).await;
                }
            }
            Ok(Notice::Closed(session)) => {
                if let Some(stream) = inner.sessions.stream(&session) {
                    stream.part(Parting::Expired);
                }
            }
            Ok(Notice::Marked(mark)) => inner.cancels.hear(mark),
            Ok(Notice::Paused) => inner.pauses.hear(),
            Ok(Notice::Joined(groups)) => inner.looks.tell(&groups),
            Ok(Notice::Ended(_)) | Err(RecvError::Lagged(_)) => {
                if let Err(error) = look_at_held(&inner).await {
                    tracing::warn!(%error, "held deliveries cannot be compared with the ledger");
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_dead_only_after_a_whole_lease_time_of_standing_still() {
        let lease = Duration::from_secs(30);
        let session = SessionId::generate();
        let mut watch = Watch::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(watch.look(&[(session.clone(), 7)], at(0), lease).is_empty(), "seen for the first time");
        assert!(watch.look(&[(session.clone(), 7)], at(29), lease).is_empty());
        assert!(watch.look(&[(session.clone(), 8)], at(30), lease).is_empty(), "renewed");
        assert!(watch.look(&[(session.clone(), 8)], at(59), lease).is_empty());
        assert_eq!(watch.look(&[(session.clone(), 8)], at(60), lease), [(session, 8)]);
    }
}
