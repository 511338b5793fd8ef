//! Ending attempts that run too long.
//!
//! An attempt of a task with a timeout has a moment at which it is over, by this replica's monotonic clock. Then its worker is
//! told to stop, and once the grace time has passed without a report, this server reports for it that the attempt timed out:
//! by the way of any report, so it is retried like any failure, and whichever report is decided first counts. All moments wait
//! in one heap with one sleeper. What has ended meanwhile stays in the heap until its moment, or until such entries outnumber
//! what is in hand.
//!
//! A lease that was granted by another process, or by this one before it was started anew, is *met*: when it began is told by
//! a wall clock only, which may have been stepped, so it has at least the grace time from then on before its worker is told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Inner;
use super::envelope::{self, Opened};
use super::hands::{Hands, InHand};
use super::nobody::is_nobodys;
use super::settle::BATCH_MAX;
use super::types::{Outcome, Report, Revoked};
use crate::clock::Instant;
use crate::error::StoreError;
use crate::ledger::{Lease, LeaseQuery, Verdict};
use crate::task::{FencingToken, LeaseId, MessageKey, SessionId};

/// How often a worker is told to stop, within its grace time: the first word may come before the lease itself, or be lost with
/// its stream.
const TELL_PERIOD: Duration = Duration::from_secs(1);
/// When the end of an attempt is tried again that could not be recorded.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// Whoever looks as late as this was stopped or starved, and reports that came in time wait unread: the grace time begins anew.
const STARVED_MIN: Duration = Duration::from_secs(5);
/// Entries of leases that have ended, beyond those in hand, which the heap may hold.
const STALE_MAX: usize = 1024;
/// Leases read from the ledger in one go.
const LEASES_PAGE: usize = 256;
/// Bodies read in one go: with the largest, 64 MiB by default.
const BODIES_MAX: usize = 64;
/// Where several replicas share a ledger, how often all leases are gone through: one may have died with its timers.
const PASS_PERIOD: Duration = Duration::from_secs(60);

/// How long an attempt may run, and how far that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    timeout: Duration,
    /// When to look at it next.
    at: Instant,
    /// Its worker was told to stop, and has until then.
    ends: Option<Instant>,
}

impl Limit {
    /// True once its worker was told to stop.
    pub(super) fn is_over(&self) -> bool {
        self.ends.is_some()
    }

    /// How long the attempt may run.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The moments of all attempts that may not run for ever.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    due: Mutex<BinaryHeap<Reverse<(Instant, LeaseId)>>>,
    /// Something is due earlier than was known.
    earlier: Notify,
    /// Leases that were met and whose tasks were not read, and how long they have run. At most those in hand.
    unread: Mutex<Vec<(LeaseId, Duration)>>,
    met: Notify,
}

impl Timeouts {
    fn push(&self, at: Instant, lease: LeaseId, hands: &Hands) {
        let mut due = self.due.lock();
        let is_first = due.peek().is_none_or(|Reverse((first, _))| at < *first);
        due.push(Reverse((at, lease)));
        if due.len() > 2 * hands.len() + STALE_MAX {
            due.retain(|Reverse((at, lease))| hands.limit(lease).is_some_and(|limit| limit.at == *at));
        }
        drop(due);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Takes out the first that is due at `now`.
    fn pop(&self, now: Instant) -> Option<(Instant, LeaseId)> {
        let mut due = self.due.lock();
        if due.peek().is_some_and(|Reverse((first, _))| *first <= now) {
            due.pop().map(|Reverse(entry)| entry)
        } else {
            None
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().peek().map(|Reverse((at, _))| *at)
    }

    /// A lease was put in hand whose task is not known here; it has run for `passed`.
    pub(super) fn meet(&self, lease: LeaseId, passed: Duration) {
        self.unread.lock().push((lease, passed));
        self.met.notify_one();
    }
}

/// What is to be done about a lease that is due.
enum Step {
    /// Tell its worker to stop, and look again then.
    Tell(SessionId, Instant),
    /// It had its time: report for its worker.
    End(SessionId, Duration),
    /// Somebody ends it: look again then.
    Leave(Instant),
}

/// What comes next for a lease that was to be looked at `at`; `None`: it was looked at meanwhile.
fn step(hand: &mut InHand, at: Instant, now: Instant, grace: Duration) -> Option<Step> {
    let session = hand.lease.session.clone();
    let limit = hand.limit.as_mut().filter(|limit| limit.at == at)?;
    if now.duration_since(at) > STARVED_MIN {
        limit.ends = None;
    }
    let ends = *limit.ends.get_or_insert(now + grace);
    if now < ends {
        limit.at = ends.min(now + TELL_PERIOD);
        return Some(Step::Tell(session, limit.at));
    }
    if hand.ending {
        limit.at = now + TELL_PERIOD;
        return Some(Step::Leave(limit.at));
    }
    Some(Step::End(session, limit.timeout))
}

impl Inner {
    /// An attempt begins now.
    pub(super) fn limit(&self, lease: &LeaseId, opened: &Opened) {
        if let Some(timeout) = envelope::attempt_timeout(&opened.signature) {
            self.limit_to(lease, timeout, self.clock.now() + timeout);
        }
    }

    /// An attempt was met that has run for `passed`, as far as is known. One that was met before keeps its moment.
    pub(super) fn limit_met(&self, lease: &LeaseId, opened: &Opened, passed: Duration) {
        if let Some(timeout) = envelope::attempt_timeout(&opened.signature) {
            let left = timeout.saturating_sub(passed).max(self.settings().cancel_grace);
            self.limit_to(lease, timeout, self.clock.now() + left);
        }
    }

    /// How long a lease has run that is met. Of one that another replica may watch, whose clock may differ, nothing is held to
    /// have passed: this one acts only if that one is gone.
    pub(super) fn passed(&self, lease: &Lease) -> Duration {
        let is_watched = self.stores.ledger.replicas() && self.sessions.stream(&lease.session).is_none();
        if is_watched { Duration::ZERO } else { lease.at.until(self.clock.wall()) }
    }

    fn limit_to(&self, lease: &LeaseId, timeout: Duration, at: Instant) {
        let limit = Limit { timeout, at, ends: None };
        let is_new = self.hands.update(lease, |hand| {
            let is_new = hand.limit.is_none();
            hand.limit.get_or_insert(limit);
            is_new
        });
        if is_new == Some(true) {
            self.timeouts.push(at, lease.clone(), &self.hands);
        }
    }

    /// Looks at every attempt that is due.
    fn look_at_due(self: &Arc<Self>) {
        let (now, grace) = (self.clock.now(), self.settings().cancel_grace);
        let mut over = Vec::new();
        while let Some((at, lease)) = self.timeouts.pop(now) {
            match self.hands.update(&lease, |hand| step(hand, at, now, grace)).flatten() {
                None => {}
                Some(Step::Leave(again)) => self.timeouts.push(again, lease, &self.hands),
                Some(Step::Tell(session, again)) => {
                    self.sessions.revoke(&session, &lease, Revoked::TimedOut);
                    self.timeouts.push(again, lease, &self.hands);
                }
                Some(Step::End(session, after)) => {
                    let report = Report { id: None, lease, outcome: Outcome::TimedOut { after } };
                    over.push((report, session));
                }
            }
        }
        while !over.is_empty() {
            let rest = over.split_off(over.len().min(BATCH_MAX));
            let (inner, batch) = (self.clone(), std::mem::replace(&mut over, rest));
            self.spawn(async move { inner.end_overdue(batch).await });
        }
    }

    /// Reports for workers that did not, and goes on trying while the stores are away.
    async fn end_overdue(self: &Arc<Self>, over: Vec<(Report, SessionId)>) {
        let (reports, sessions): (Vec<Report>, Vec<SessionId>) = over.into_iter().unzip();
        match self.settle(&reports).await {
            Ok(verdicts) => {
                for ((report, session), verdict) in reports.iter().zip(sessions).zip(verdicts) {
                    if verdict == Verdict::Recorded {
                        tracing::info!(lease = %report.lease, "an attempt ran too long and has failed");
                    }
                    self.sessions.revoke(&session, &report.lease, Revoked::Unknown);
                }
            }
            Err(error) => {
                tracing::warn!(%error, attempts = reports.len(), "attempts that ran too long are ended later");
                self.stalled();
                let again = self.clock.now() + OUTAGE_PAUSE;
                for Report { lease, .. } in reports {
                    if self
                        .hands
                        .update(&lease, |hand| hand.limit.as_mut().map(|limit| limit.at = again))
                        .flatten()
                        .is_some()
                    {
                        self.timeouts.push(again, lease, &self.hands);
                    }
                }
            }
        }
    }

    /// Reads the tasks of leases that were met, as many as there are now.
    async fn read_met(&self) -> Result<(), StoreError> {
        loop {
            let unread: Vec<(LeaseId, Duration)> = {
                let mut unread = self.timeouts.unread.lock();
                let first = unread.len().saturating_sub(BODIES_MAX);
                unread.drain(first..).collect()
            };
            if unread.is_empty() {
                return Ok(());
            }
            let in_hand = |(lease, passed): &(LeaseId, Duration)| Some((self.hands.get(lease)?.lease, *passed));
            let leases: Vec<(Lease, Duration)> = unread.iter().filter_map(in_hand).collect();
            match self.read(leases).await {
                Ok(read) => read.iter().for_each(|(lease, opened, passed)| self.limit_met(&lease.id, opened, *passed)),
                Err(error) => {
                    self.timeouts.unread.lock().extend(unread);
                    return Err(error);
                }
            }
        }
    }

    /// Opens the tasks of leases; what cannot be read has no timeout.
    async fn read(&self, leases: Vec<(Lease, Duration)>) -> Result<Vec<(Lease, Opened, Duration)>, StoreError> {
        let keys: Vec<MessageKey> = leases.iter().map(|(lease, _)| lease.id.message.clone()).collect();
        let bodies = match self.stores.broker.recall().filter(|_| !keys.is_empty()) {
            Some(recall) => recall.recall(&keys).await?,
            None => leases.iter().map(|(lease, _)| lease.body.clone()).collect(),
        };
        let open = |((lease, passed), body): ((Lease, Duration), Option<bytes::Bytes>)| {
            Some((lease, envelope::open(&body?).ok()?, passed))
        };
        Ok(leases.into_iter().zip(bodies).filter_map(open).collect())
    }

    /// Goes through the leases of those that are not attached here, from `after` on: nobody brings back what was leased by
    /// single calls.
    async fn meet_all(&self, after: &mut FencingToken) -> Result<(), StoreError> {
        loop {
            let query = LeaseQuery { session: None, queue: None, after: *after, max: LEASES_PAGE };
            let page = self.stores.ledger.leases(&query).await?;
            let Some(last) = page.last().map(|lease| lease.id.token) else { return Ok(()) };
            let is_strange = |lease: &Lease| !is_nobodys(lease) && self.sessions.stream(&lease.session).is_none();
            let with_passed = |lease: Lease| {
                let passed = self.passed(&lease);
                (lease, passed)
            };
            let mut strange: Vec<(Lease, Duration)> = page.into_iter().filter(is_strange).map(with_passed).collect();
            while !strange.is_empty() {
                let rest = strange.split_off(strange.len().min(BODIES_MAX));
                for (lease, opened, passed) in self.read(std::mem::replace(&mut strange, rest)).await? {
                    if envelope::attempt_timeout(&opened.signature).is_some() {
                        let id = lease.id.clone();
                        // It may have been granted again since the page was read, and then that lease is in hand.
                        self.hands.put_if_absent(InHand::brought_back(lease));
                        self.limit_met(&id, &opened, passed);
                    }
                }
            }
            *after = last;
        }
    }
}

/// Looks at attempts when they are due, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        match inner.timeouts.next() {
            None => inner.timeouts.earlier.notified().await,
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => inner.look_at_due(),
                () = inner.timeouts.earlier.notified() => {}
            },
        }
    }
}

/// Learns the timeouts of leases that were not granted by this process, for as long as the replica runs. A loop of its own,
/// so that no store holds up what is due.
pub(super) async fn meet(inner: Arc<Inner>) {
    let mut after = Some(FencingToken(0));
    let mut next_pass = inner.clock.now();
    loop {
        let met = async {
            inner.read_met().await?;
            if let Some(token) = &mut after {
                inner.meet_all(token).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = met.await {
            tracing::warn!(%error, "how long attempts may run is learnt later");
            tokio::time::sleep(OUTAGE_PAUSE).await;
            continue;
        }
        if after.take().is_some() {
            next_pass = inner.clock.now() + PASS_PERIOD;
        }
        tokio::select! {
            () = inner.timeouts.met.notified() => {}
            () = tokio::time::sleep_until(next_pass), if inner.stores.ledger.replicas() => after = Some(FencingToken(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::task::{QueueName, TaskId, TaskName};

    fn in_hand(number: u64, at: Instant) -> InHand {
        let lease = Lease {
            id: LeaseId { message: MessageKey::generate(), token: FencingToken(number) },
            task: TaskId::trusted("t"),
            name: TaskName::trusted("n"),
            queue: QueueName::trusted("q"),
            session: SessionId::generate(),
            worker: String::new(),
            request_id: None,
            attempt: 1,
            lost: Vec::new(),
            releases: 0,
            at: WallTime(0),
            body: None,
        };
        let limit = Some(Limit { timeout: Duration::from_secs(1), at, ends: None });
        InHand { limit, ..InHand::brought_back(lease) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_does_not_pile_up_until_its_moment() {
        let (timeouts, hands, at) =
            (Timeouts::default(), Hands::default(), Instant::now() + Duration::from_secs(3_600));
        let lasting = in_hand(0, at);
        hands.put(lasting.clone());
        timeouts.push(at, lasting.lease.id.clone(), &hands);
        for number in 1..10_000 {
            let hand = in_hand(number, at);
            hands.put(hand.clone());
            timeouts.push(at, hand.lease.id.clone(), &hands);
            hands.take(&hand.lease.id.message);
        }
        assert!(timeouts.due.lock().len() <= STALE_MAX + 4, "{}", timeouts.due.lock().len());
        assert!(timeouts.due.lock().iter().any(|Reverse((_, lease))| *lease == lasting.lease.id), "what lives stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_told_again_and_again_until_its_grace_time_is_over() {
        let (now, grace) = (Instant::now(), Duration::from_millis(2_500));
        let mut hand = in_hand(1, now);
        assert!(step(&mut hand, now + grace, now, grace).is_none(), "looked at meanwhile");
        let mut at = now;
        for passed in [0, 1_000, 2_000] {
            assert_eq!(at, now + Duration::from_millis(passed));
            let Some(Step::Tell(_, again)) = step(&mut hand, at, at, grace) else { panic!("not told at {passed} ms") };
            at = again;
        }
        assert_eq!(at, now + grace);
        let late = at + STARVED_MIN + Duration::from_secs(1);
        let Some(Step::Tell(_, again)) = step(&mut hand.clone(), at, late, grace) else {
            panic!("not given time anew")
        };
        assert!(again > late, "what was reported while this process stood still is read first");
        hand.ending = true;
        let Some(Step::Leave(again)) = step(&mut hand, at, at, grace) else { panic!("not left to who ends it") };
        hand.ending = false;
        assert!(matches!(step(&mut hand, again, again, grace), Some(Step::End(..))));
    }
}
