//! Recording outcomes, in the order that survives a crash at any point:
//!
//! decision durable → the worker may be told → end state visible → retry or callbacks published → effects marked done →
//! message acknowledged. Whatever is left undone is finished by the repair loop of any replica, from the recorded bytes.
//! On fused stores all of it is one transaction.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::envelope;
use super::hands::InHand;
use super::outcome::{Attempt, End, WAITING_KEPT, digest, judge, waiting_again};
use super::timeouts::Limit;
use super::traffic::{self, Event, Tally, Time};
use super::types::{Outcome, Report};
use super::{Inner, Service, trail};
use crate::backend::StateWrite;
use crate::broker::{NewTask, Receipt, Settle};
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::{Decision, Effects, Ending, LeaseStatus, Notice, Verdict};
use crate::task::{LeaseId, MessageKey, QueueName, TaskName};

/// Reports decided in one step.
pub(super) const BATCH_MAX: usize = 256;
/// A task given back this often without a start is offered again only after a pause.
const RELEASES_FREE: u32 = 10;
/// That pause at most.
const RELEASE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Decisions younger than this are left to whoever made them.
const REPAIR_AGE: Duration = Duration::from_secs(2);
/// How often undone decisions are looked for.
const REPAIR_PERIOD: Duration = Duration::from_secs(1);
/// Undone decisions taken at a time.
const REPAIR_MAX: usize = 256;

/// A message whose decision is durable, what follows from it, and its delivery, if it is in hand.
pub(super) type Settled = (MessageKey, Effects, Option<Receipt>);

impl Service {
    /// Records outcomes; one verdict each, in order. A verdict is given only once it is durable. Goes on to its end if the
    /// caller goes away: half of it would leave a released task in hand that nobody returns.
    ///
    /// # Errors
    /// [`Error::Store`]: nothing is known to be recorded; report again.
    pub async fn report(&self, reports: Vec<Report>) -> Result<Vec<Verdict>, Error> {
        let inner = self.inner.clone();
        let settled = self.inner.finished(async move { inner.settle_all(&reports).await }).await;
        let stopped =
            || StoreError::OutcomeUnknown { store: self.inner.guarantees.ledger, why: "the server stopped".into() };
        Ok(settled.unwrap_or_else(|| Err(stopped()))?)
    }
}

impl Inner {
    async fn settle_all(self: &Arc<Self>, reports: &[Report]) -> Result<Vec<Verdict>, StoreError> {
        let mut verdicts = Vec::with_capacity(reports.len());
        for chunk in reports.chunks(BATCH_MAX) {
            verdicts.extend(self.settle(chunk).await?);
        }
        Ok(verdicts)
    }

    /// Decides a batch of reports.
    pub(super) async fn settle(self: &Arc<Self>, reports: &[Report]) -> Result<Vec<Verdict>, StoreError> {
        self.failpoints.reach(Point::SettleReported).await;
        let hands = self.find(reports).await?;
        let reports = &*self.overdue(reports, &hands);
        let cancelled = self.cancelled_failures(reports, &hands).await?;
        let now = self.clock.wall();
        let mut verdicts = vec![Verdict::Superseded; reports.len()];
        let (mut decisions, mut deciding) = (Vec::new(), Vec::new());
        let (mut releases, mut releasing) = (Vec::new(), Vec::new());
        for (i, report) in reports.iter().enumerate() {
            if matches!(report.outcome, Outcome::Release { .. }) {
                releases.push((report.lease.clone(), Ending::Free { report: report.id.clone() }));
                releasing.push(i);
            } else {
                decisions.push(self.decision(report, hands.get(&report.lease), cancelled[i], now));
                deciding.push(i);
            }
        }
        if !releases.is_empty() {
            // Until the delivery is returned with its delay, nobody else shall return it without.
            releases.iter().for_each(|(lease, _)| self.hands.set_ending(lease, true));
            let answers = match self.stores.ledger.release(&releases).await {
                Ok(answers) => answers,
                Err(error) => {
                    releases.iter().for_each(|(lease, _)| self.hands.set_ending(lease, false));
                    return Err(error);
                }
            };
            self.failpoints.reach(Point::ReleaseEnded).await;
            for (i, verdict) in releasing.into_iter().zip(answers) {
                verdicts[i] = verdict;
                // What is returned leaves the hands still marked: between the two somebody might return it undelayed.
                if verdict == Verdict::Recorded {
                    if let Some(hand) = hands.get(&reports[i].lease) {
                        self.traffic.count(&hand.lease.queue, Event::Released, 1, self.clock.now());
                        hand.opened.iter().for_each(|opened| {
                            trail::released(&hand.lease, &opened.signature, &self.settings().spans, now)
                        });
                    }
                    self.return_released(&reports[i], hands.get(&reports[i].lease)).await;
                } else {
                    self.hands.set_ending(&reports[i].lease, false);
                }
            }
        }
        if !decisions.is_empty() {
            let answers = self.decide_known(None, decisions, &hands).await?;
            for (i, verdict) in deciding.into_iter().zip(answers) {
                verdicts[i] = verdict;
            }
        }
        Ok(verdicts)
    }

    /// The reports, of which those that give back what ran too long count as what it came to. What never began is given back
    /// at no cost all the same; of attempts leased by single calls nobody says when they begin, so they began at once.
    fn overdue<'a>(&self, reports: &'a [Report], hands: &HashMap<LeaseId, InHand>) -> Cow<'a, [Report]> {
        let mut reports = Cow::Borrowed(reports);
        for at in 0..reports.len() {
            let Report { lease, outcome: Outcome::Release { .. }, .. } = &reports[at] else { continue };
            let Some(hand) = hands.get(lease) else { continue };
            let Some(limit) = hand.limit.filter(Limit::is_over) else { continue };
            if hand.started || self.sessions.stream(&hand.lease.session).is_none() {
                reports.to_mut()[at].outcome = Outcome::TimedOut { after: limit.timeout() };
            }
        }
        reports
    }

    /// Makes decisions durable and everything that follows from them happen. Returns once the verdicts may be told.
    pub(super) async fn decide(self: &Arc<Self>, decisions: Vec<Decision>) -> Result<Vec<Verdict>, StoreError> {
        self.decide_in(None, decisions).await
    }

    /// As [`Inner::decide`]; `queue` is where what is not in hand is counted.
    pub(super) async fn decide_in(
        self: &Arc<Self>,
        queue: Option<&QueueName>,
        decisions: Vec<Decision>,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.decide_known(queue, decisions, &HashMap::new()).await
    }

    /// As [`Inner::decide_in`]; `known` is what was found out about leases that are perhaps not in hand.
    pub(super) async fn decide_known(
        self: &Arc<Self>,
        queue: Option<&QueueName>,
        mut decisions: Vec<Decision>,
        known: &HashMap<LeaseId, InHand>,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.adopt(&mut decisions).await?;
        if !self.stores.acknowledges() {
            // A message may come once more: not acknowledged, or published again for a claim that is not known to be published.
            // Its decision is what it is recognised by, however short its task wants its result kept.
            let settings = self.settings();
            let least = settings.request_window.max(settings.results_expire_in);
            decisions.iter_mut().for_each(|decision| decision.keep = decision.keep.max(least));
        }
        let verdicts = match &self.stores.fused {
            Some(fused) => fused.settle(&decisions).await?,
            None => self.stores.ledger.decide(&decisions).await?,
        };
        self.failpoints.reach(Point::SettleDecided).await;
        let settings = self.settings();
        let mut mine = Vec::new();
        let mut joined = HashSet::new();
        let mut elsewhere = Vec::new();
        let mut tally = Tally::default();
        let is_measured = self.traffic.is_measured();
        let mut runs: HashMap<QueueName, Vec<(TaskName, Duration)>> = HashMap::new();
        for (decision, verdict) in decisions.into_iter().zip(&verdicts) {
            let hand = match verdict {
                Verdict::Recorded => self.hands.take(&decision.lease.message),
                // The message ended before: whatever is in hand under this lease is over.
                Verdict::Duplicate | Verdict::Conflict => self.hands.take_lease(&decision.lease),
                Verdict::Superseded => None,
            };
            self.freed(hand.as_ref());
            if *verdict == Verdict::Recorded
                && let Some(queue) = hand.as_ref().map(|hand| &hand.lease.queue).or(queue)
                && let Some(outcome) = traffic::outcome(&decision)
            {
                tally.add(queue, Event::Ended(outcome));
                if decision.dead.is_some() {
                    tally.add(queue, Event::SetAside);
                }
                if let Some(hand) = hand.as_ref().filter(|hand| is_measured && hand.accepted && outcome.is_reported()) {
                    let time = (hand.lease.name.clone(), hand.lease.at.until(decision.at));
                    runs.entry(hand.lease.queue.clone()).or_default().push(time);
                }
            }
            if *verdict == Verdict::Recorded
                && let Some(hand) = hand.as_ref().filter(|hand| hand.opened.is_some()).or(known.get(&decision.lease))
            {
                trail::ended(hand, &decision, &settings.spans);
            }
            let receipt = hand.and_then(|h| h.receipt);
            if *verdict == Verdict::Recorded {
                if receipt.is_none() {
                    elsewhere.push(decision.lease.message.clone());
                }
                self.states.overtaken(&decision.effects.states);
                joined.extend(decision.effects.joins.iter().map(|ended| ended.group.clone()));
                mine.push((decision.lease.message, decision.effects, receipt));
            }
        }
        self.traffic.add(tally, self.clock.now());
        runs.iter().for_each(|(queue, times)| self.traffic.observe(queue, Time::Run, times));
        if !elsewhere.is_empty() && self.stores.ledger.replicas() {
            self.stores.ledger.notices().tell(Notice::Ended(elsewhere));
        }
        if self.stores.acknowledges() {
            self.joined(joined);
        } else if !mine.is_empty() {
            let (inner, are_done) = (self.clone(), self.stores.fused.is_some());
            match are_done {
                true => {
                    self.joined(joined);
                    self.acknowledge_soon(mine);
                }
                false => self.spawn(async move { inner.finish(mine).await }),
            }
        }
        Ok(verdicts)
    }

    // What is known of each lease: in hand, or read from the ledger and the broker.
    async fn find(&self, reports: &[Report]) -> Result<HashMap<LeaseId, InHand>, StoreError> {
        let mut found = HashMap::with_capacity(reports.len());
        let mut unknown = Vec::new();
        for report in reports {
            match self.hands.get(&report.lease) {
                Some(hand) if hand.opened.is_some() => {
                    found.insert(report.lease.clone(), hand);
                }
                _ => unknown.push(report.lease.clone()),
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let mut leases = Vec::new();
        for status in self.stores.ledger.lookup(&unknown).await? {
            if let LeaseStatus::Live(lease) | LeaseStatus::Released(lease) = status {
                leases.push(lease);
            }
        }
        let keys: Vec<MessageKey> = leases.iter().map(|l| l.id.message.clone()).collect();
        let bodies = match self.stores.broker.recall() {
            Some(recall) => recall.recall(&keys).await?,
            None => leases.iter().map(|l| l.body.clone()).collect(),
        };
        for (lease, body) in leases.into_iter().zip(bodies) {
            let Some(body) = body else { continue };
            let Ok(opened) = envelope::open(&body) else { continue };
            let known = self.hands.get(&lease.id);
            let hand = known.unwrap_or_else(|| InHand::brought_back(lease.clone()));
            let hand = InHand { lease, opened: Some(opened), body: Some(body), ..hand };
            found.insert(hand.lease.id.clone(), hand);
        }
        Ok(found)
    }

    // Without anything in hand the decision has no effects: the ledger knows whether it is a duplicate, and refuses it
    // otherwise, since a lease that can still be decided is found.
    fn decision(&self, report: &Report, hand: Option<&InHand>, is_cancelled: bool, now: WallTime) -> Decision {
        let digest = digest(&report.outcome);
        let settings = &self.settings();
        if let Some(hand) = hand
            && let Some(opened) = &hand.opened
            && let Some(end) = judge(&report.outcome, &opened.signature, settings)
        {
            let attempt = Attempt { lease: &hand.lease, signature: &opened.signature, now, settings };
            let end = if is_cancelled { End::Cancelled } else { end };
            if let End::Retry { .. } = end {
                self.waits_again(&opened.signature);
            }
            let mut decision = attempt.decide(&end, report.id.clone(), digest);
            if settings.keep_failed
                && let End::Failure { error, reason } = end
            {
                let body = hand.body.clone().unwrap_or_else(|| envelope::seal(&opened.signature));
                decision.dead = Some(attempt.dead(error, reason, body));
            }
            return decision;
        }
        Decision {
            lease: report.lease.clone(),
            report: report.id.clone(),
            digest,
            at: now,
            effects: Effects::default(),
            dead: None,
            keep: settings.results_expire_in,
            begins: Vec::new(),
            ends: None,
            opens: Vec::new(),
        }
    }

    async fn return_released(&self, report: &Report, found: Option<&InHand>) {
        let Outcome::Release { delay } = &report.outcome else { return };
        let releases = found.map_or(0, |h| h.lease.releases);
        let pause = match releases.checked_sub(RELEASES_FREE) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1 << over.min(5)).min(RELEASE_PAUSE_MAX),
        };
        if !pause.is_zero() {
            let lease = found.map(|hand| &hand.lease);
            tracing::warn!(
                task = lease.map(|lease| tracing::field::display(&lease.task)),
                attempt = lease.map(|lease| lease.attempt),
                session = lease.map(|lease| tracing::field::display(&lease.session)),
                lease = %report.lease,
                releases,
                "a task is given back again and again without a start"
            );
        }
        self.let_go(&report.lease, &Ending::Free { report: None }, pause.max(*delay), true).await;
    }

    // A session that held as many leases as it may has a place again.
    fn freed(&self, hand: Option<&InHand>) {
        let Some(hand) = hand else { return };
        let session = &hand.lease.session;
        if self.hands.of_session(session) + 1 >= self.settings().session_leases_max as usize
            && let Some(stream) = self.sessions.stream(session)
        {
            self.sessions.stir(&stream);
        }
    }

    /// Returns the delivery of a lease that has ended to the broker, if it is in hand. Its task shows as waiting again.
    /// `began`: an attempt may have begun under the lease.
    pub(super) async fn let_go(&self, lease: &LeaseId, ending: &Ending, after: Duration, began: bool) {
        let hand = self.hands.take_lease(lease);
        self.freed(hand.as_ref());
        if let Some(hand) = &hand
            && let Some(opened) = &hand.opened
        {
            let state = waiting_again(&hand.lease, &opened.signature, ending, self.clock.wall());
            self.states.push(StateWrite { state, keep: WAITING_KEPT + after });
            self.waits_again(&opened.signature);
        }
        if let Some(receipt) = hand.and_then(|h| h.receipt) {
            self.settle_broker(&[(receipt, Settle::Return { after, began })]).await;
        } else if self.stores.ledger.replicas() {
            self.stores.ledger.notices().tell(Notice::Ended(vec![lease.message.clone()]));
        }
    }

    /// Ends leases that cost no attempt, and returns their messages.
    pub(super) async fn give_back(&self, leases: &[LeaseId], after: Duration, report: Option<String>) {
        let items: Vec<(LeaseId, Ending)> =
            leases.iter().map(|l| (l.clone(), Ending::Free { report: report.clone() })).collect();
        if items.is_empty() {
            return;
        }
        match self.stores.ledger.release(&items).await {
            Ok(_) => {
                for lease in leases {
                    // No worker has it, so nothing began.
                    self.let_go(lease, &Ending::Free { report: None }, after, false).await;
                }
            }
            // Their session may live for ever, and its worker does not know of them: they are tried again.
            Err(error) => {
                tracing::warn!(%error, leases = leases.len(), "leases could not be given back yet");
                self.owed.lock().extend_from_slice(leases);
            }
        }
    }

    /// Carries out the effects of decisions. Every step may be repeated; a step that fails is left to the repair loop.
    async fn finish(self: &Arc<Self>, mine: Vec<Settled>) {
        let effects: Vec<&Effects> = mine.iter().map(|(_, effects, _)| effects).collect();
        if let Err(error) = self.carry_out(&effects).await {
            tracing::warn!(%error, decisions = mine.len(), "effects are not done yet and will be repeated");
            return;
        }
        self.joined(effects.iter().flat_map(|effects| &effects.joins).map(|ended| ended.group.clone()).collect());
        let keys: Vec<MessageKey> = mine.iter().map(|(key, ..)| key.clone()).collect();
        if let Err(error) = self.stores.ledger.done(&keys, self.clock.wall()).await {
            tracing::warn!(%error, decisions = mine.len(), "effects are done but not marked so");
        }
        self.failpoints.reach(Point::SettleDone).await;
        self.acknowledge_soon(mine);
    }

    pub(super) async fn carry_out(&self, effects: &[&Effects]) -> Result<(), StoreError> {
        let states: Vec<_> = effects.iter().flat_map(|e| e.states.iter().cloned()).collect();
        for chunk in states.chunks(BATCH_MAX) {
            for answer in self.stores.backend.write(chunk, self.clock.wall()).await {
                answer?;
            }
        }
        self.failpoints.reach(Point::SettleStated).await;
        let publish: Vec<NewTask> = effects.iter().flat_map(|e| e.publish.iter().cloned()).collect();
        for chunk in publish.chunks(self.guarantees.broker.batch_max.get()) {
            for answer in self.stores.broker.publish(chunk).await {
                answer?;
            }
        }
        self.failpoints.reach(Point::SettlePublished).await;
        let joins: Vec<_> = effects.iter().flat_map(|e| e.joins.iter().cloned()).collect();
        for chunk in joins.chunks(BATCH_MAX) {
            self.stores.ledger.joins().add(chunk).await?;
        }
        Ok(())
    }
}

/// Finishes decisions whose maker did not, for as long as the replica runs. The first look is at once: what a crash left
/// behind is what a new process does first.
pub(super) async fn repair(inner: Arc<Inner>) {
    // Whatever the clock says now: it may have been stepped back since the decisions were made.
    let mut before = WallTime(u64::MAX);
    loop {
        match inner.stores.ledger.undone(before, REPAIR_MAX).await {
            Err(error) => tracing::warn!(%error, "undone decisions cannot be looked for"),
            Ok(undone) => {
                let more = undone.len() == REPAIR_MAX;
                if !undone.is_empty() {
                    tracing::info!(decisions = undone.len(), "finishing decisions that were left undone");
                    let mine = undone.into_iter().map(|u| (u.message, u.effects, None)).collect();
                    inner.finish(mine).await;
                }
                if more {
                    continue;
                }
            }
        }
        tokio::time::sleep(REPAIR_PERIOD).await;
        before = WallTime(inner.clock.wall().0.saturating_sub(REPAIR_AGE.as_nanos() as u64));
    }
}

/// Decides what streams report, batch after batch, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>, mut reports: tokio::sync::mpsc::Receiver<super::Reported>) {
    /// Batches that may wait for the ledger at once: one is written while the next is gathered.
    const IN_FLIGHT_MAX: usize = 4;
    let slots = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT_MAX));
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while reports.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let taken = std::mem::take(&mut batch);
        let inner = inner.clone();
        inner.clone().spawn(async move {
            let (plain, from): (Vec<Report>, Vec<_>) = taken.into_iter().map(|r| (r.report, (r.to, r.permit))).unzip();
            let verdicts = inner.settle(&plain).await;
            if let Err(error) = &verdicts {
                tracing::warn!(%error, reports = plain.len(), "reports are not recorded; the workers will repeat them");
                inner.stalled();
            }
            for (i, (report, (to, _permit))) in plain.into_iter().zip(from).enumerate() {
                let verdict = verdicts.as_ref().ok().and_then(|v| v.get(i)).copied();
                if let Some(to) = to {
                    to.tell(super::types::Event::ReportAck { report: report.id, lease: report.lease, verdict });
                }
            }
            drop(slot);
        });
    }
}
