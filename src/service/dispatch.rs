//! Whom a task goes to: one dispatcher for each queue that somebody here takes from.
//!
//! A round: reserve the free slots of the attached workers, take at most that many messages, grant each in the ledger,
//! offer it. Nothing is taken that no attached credit can use, nothing is offered that the ledger has not granted.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::attachment::Attachment;
use super::envelope::{self, Opened};
use super::hands::InHand;
use super::slots::{Queue, Reservation, SlotLimits};
use super::traffic::{self, Event, Outcome as Ended, Time};
use super::types::{Granted, Outcome, Parting};
use super::{Inner, lifetimes, outcome, picked, strangers, trail};
use crate::broker::{Delivery, Receipt, Settle, Want};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::failpoint::Point;
use crate::ledger::{Begun, DeadTask, Decision, Ending, Grant, Lease, Verdict};
use crate::task::{FailureReason, LeaseId, MessageKey, Signature, Status, TaskId, TaskName};
use crate::telemetry::spans::Spans;

/// Most messages in one round of one group; `broker.batch_max` may be less.
const ROUND_MAX: u64 = 256;
/// Bytes of bodies after which a round ends, so that one big payload does not delay everything behind it.
const ROUND_BYTES_MAX: usize = 1 << 20;
/// Rounds of one queue that may wait for the ledger at once.
const GRANTS_IN_FLIGHT_MAX: usize = 4;
/// A broker that has something says so within this time; the slots of a queue that is empty are kept from others as long.
const IDLE_AFTER: Duration = Duration::from_millis(5);
/// Pause after a store failed, so that an outage is not a busy loop.
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);

/// Serves one queue until nobody here takes from it.
pub(super) async fn run(inner: Arc<Inner>, queue: Arc<Queue>) {
    let grants = Arc::new(Semaphore::new(GRANTS_IN_FLIGHT_MAX));
    let held = |session: &crate::task::SessionId| inner.hands.of_session(session);
    loop {
        if inner.sessions.retire(&queue) {
            return;
        }
        if inner.pauses.is_paused(&queue.name) {
            // Nothing of it goes out, so it must not keep slots from the other queues of its workers.
            if queue.rest() {
                inner.sessions.stir_shared(&queue);
            }
            tokio::select! {
                () = queue.changed.notified() => continue,
                () = inner.draining.cancelled() => return,
            }
        }
        let settings = inner.settings();
        let limits = SlotLimits {
            bytes_max: settings.session_bytes_max,
            leases_max: settings.session_leases_max as usize,
            factor: settings.weight_of(&queue.name),
            held: &held,
        };
        strangers::call(&inner, &queue).await;
        let wanted = queue.wanted(&limits);
        if wanted.is_empty() {
            tokio::select! {
                () = claim(&inner, &queue) => continue,
                () = queue.changed.notified() => continue,
                () = inner.draining.cancelled() => return,
            }
        }
        tokio::select! {
            ready = inner.stores.broker.ready(&queue.name, &wanted) => {
                if let Err(error) = ready {
                    outage(&inner, &queue, &error).await;
                    continue;
                }
            }
            () = idle(&inner, &queue, &limits) => continue,
            () = queue.changed.notified() => continue,
            () = inner.draining.cancelled() => return,
        }
        if let Some(at) = queue.strangers.crowded() {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = inner.draining.cancelled() => return,
            }
        }
        let max = ROUND_MAX.min(inner.guarantees.broker.batch_max.get() as u64);
        let (mut taken, mut stirred) = (0, false);
        for reservation in queue.reserve(&limits, max) {
            let Ok(permit) = grants.clone().acquire_owned().await else { return };
            if inner.pauses.is_paused(&queue.name) {
                break;
            }
            match take(&inner, &queue, &reservation).await {
                Ok(deliveries) => {
                    let got = deliveries.len() as u64;
                    reservation.backlog(&queue.name, got >= reservation.total());
                    taken += got;
                    stirred = true;
                    if got > 0 {
                        let (inner, queue) = (inner.clone(), queue.clone());
                        // The round is finished even if this dispatcher ends meanwhile: what was taken is granted or returned.
                        inner.clone().spawn(async move {
                            grant(&inner, &queue, deliveries, reservation).await;
                            drop(permit);
                            // Slots that were reserved and not used are free again, for this queue and for others.
                            queue.changed.notify_one();
                            inner.sessions.stir_shared(&queue);
                        });
                    }
                }
                Err(error) => outage(&inner, &queue, &error).await,
            }
        }
        if stirred {
            inner.sessions.stir_shared(&queue);
        }
        if taken == 0 {
            // Somebody else was faster, or another queue's turn comes first: do not spin on `ready`.
            tokio::select! {
                () = queue.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
                () = inner.draining.cancelled() => return,
            }
        }
    }
}

/// Learns that tasks wait for workers whose slots are all in use by their other queues, so that this queue gets its share
/// of the next ones: without a slot it could not look, and whoever holds the slots would keep them. Never ends if there is
/// nothing to learn.
async fn claim(inner: &Inner, queue: &Queue) {
    let groups = queue.silent_sharers();
    if groups.is_empty() {
        return std::future::pending().await;
    }
    let looks = groups.iter().map(|(names, _)| inner.stores.broker.ready(&queue.name, names));
    let (ready, which, _) = futures::future::select_all(looks).await;
    match ready {
        Ok(()) => groups[which].1.iter().for_each(|attachment| attachment.backlog(&queue.name, true)),
        Err(error) => outage(inner, queue, &error).await,
    }
}

/// Ends once the broker has found nothing for a while although something was thought to wait: the queue has no claim to
/// its workers' slots any more, and the others are told. Never ends if that is known.
async fn idle(inner: &Inner, queue: &Queue, limits: &SlotLimits<'_>) {
    tokio::time::sleep(IDLE_AFTER).await;
    if !queue.is_idle(limits) {
        return std::future::pending().await;
    }
    inner.sessions.stir_shared(queue);
}

async fn outage(inner: &Inner, queue: &Queue, error: &StoreError) {
    tracing::warn!(%error, queue = %queue.name, "no tasks are taken for now");
    tokio::time::sleep(OUTAGE_PAUSE).await;
    inner.stalled();
}

async fn take(inner: &Inner, queue: &Queue, reservation: &Reservation) -> Result<Vec<Delivery>, StoreError> {
    // Behind a crowd of strangers nothing would ever be found one by one. What is too much goes back where it was.
    let max = match queue.strangers.crowded() {
        Some(_) if reservation.total() > 0 => ROUND_MAX.min(inner.guarantees.broker.batch_max.get() as u64),
        _ => reservation.total(),
    };
    let Some(max) = usize::try_from(max).ok().and_then(NonZeroUsize::new) else {
        return Ok(Vec::new());
    };
    let want = Want { queue: &queue.name, names: &reservation.names, max, body_bytes_max: ROUND_BYTES_MAX };
    inner.stores.broker.take(&want).await
}

// A message on its way to a lease.
struct Candidate {
    key: MessageKey,
    receipt: Receipt,
    body: bytes::Bytes,
    opened: Opened,
    attachment: Arc<Attachment>,
}

async fn grant(inner: &Arc<Inner>, queue: &Queue, deliveries: Vec<Delivery>, mut reservation: Reservation) {
    inner.failpoints.reach(Point::GrantTaken).await;
    let now = inner.clock.wall();
    let mut candidates = Vec::with_capacity(deliveries.len());
    let mut give_back = Vec::new();
    let mut acks = Vec::new();
    let by_name = inner.guarantees.broker.by_name;
    let (all, mut unknown) = (deliveries.len(), Vec::new());
    for delivery in deliveries {
        match envelope::open(&delivery.body) {
            Err(why) => bury_poison(inner, queue, delivery, why, now).await,
            Ok(opened) if picked::is_early(&delivery, &opened, now) => {
                acks.push((delivery.receipt, picked::back(&opened, now)));
            }
            // A broker that does not know names hands out whatever is next.
            Ok(opened) if !by_name && !reservation.takes(&opened.signature.name) => {
                unknown.push((delivery, TaskName::trusted(opened.signature.name.as_str())));
            }
            Ok(opened) => match reservation.next() {
                None => give_back.push(delivery.receipt),
                Some(attachment) => candidates.push(Candidate {
                    key: identify(&delivery, &opened.signature),
                    receipt: delivery.receipt,
                    body: delivery.body,
                    opened,
                    attachment,
                }),
            },
        }
    }
    acks.extend(strangers::back(inner, queue, unknown, all));
    let grants: Vec<Grant> = candidates.iter().map(|c| c.grant(inner, queue, now)).collect();
    let begun = if grants.is_empty() { Ok(Vec::new()) } else { inner.stores.ledger.begin(&grants).await };
    inner.failpoints.reach(Point::GrantBegun).await;
    let (mut ended, mut offered, mut waits) = (Vec::new(), 0, Vec::new());
    let is_measured = inner.traffic.is_measured();
    match begun {
        Err(error) => {
            tracing::warn!(%error, queue = %queue.name, tasks = candidates.len(), "leases could not be granted");
            inner.stalled();
            for candidate in candidates {
                Reservation::cancel(&candidate.attachment);
                give_back.push(candidate.receipt);
            }
            // The ledger is away: what was taken goes back once, after a pause, instead of going round and round.
            tokio::time::sleep(OUTAGE_PAUSE).await;
        }
        Ok(begun) => {
            for (candidate, begun) in candidates.into_iter().zip(begun) {
                match begun {
                    // Its time was over before it was granted: it ends, whatever the ledger's index says of it.
                    Begun::Run(lease) if lifetimes::is_over(&candidate.opened.signature, now) => {
                        Reservation::cancel(&candidate.attachment);
                        ended.push(inner.expired(&lease, &candidate.opened, candidate.body.clone()));
                        keep(inner, candidate, lease);
                    }
                    Begun::Run(lease) => {
                        let waited = traffic::waited(&lease, &candidate.opened.signature).filter(|_| is_measured);
                        let wait = waited.map(|time| (lease.name.clone(), time));
                        if offer(inner, queue, candidate, lease).await {
                            offered += 1;
                            waits.extend(wait);
                        }
                    }
                    Begun::Cancelled(lease) => {
                        Reservation::cancel(&candidate.attachment);
                        ended.push(inner.cancelled(&lease, &candidate.opened));
                        keep(inner, candidate, lease);
                    }
                    Begun::Held(lease) => {
                        Reservation::cancel(&candidate.attachment);
                        hold(inner, candidate, lease, &mut give_back).await;
                    }
                    Begun::Decided => {
                        Reservation::cancel(&candidate.attachment);
                        acks.push((candidate.receipt, Settle::Ack));
                    }
                    Begun::NoSession => {
                        Reservation::cancel(&candidate.attachment);
                        give_back.push(candidate.receipt);
                        let session = inner.stores.ledger.session(&candidate.attachment.session).await;
                        let gone = matches!(session, Ok(None));
                        candidate.attachment.part(if gone { Parting::Expired } else { Parting::Replaced });
                    }
                }
            }
        }
    }
    inner.traffic.count(&queue.name, Event::Leased, offered, inner.clock.now());
    inner.traffic.observe(&queue.name, Time::Wait, &waits);
    acks.extend(give_back.into_iter().map(|r| (r, Settle::Return { after: Duration::ZERO, began: false })));
    inner.settle_broker(&acks).await;
    end(inner, ended).await;
}

/// Ends what was met with a cancel mark, or after its time. If the ledger is away, the leases go back like any that nobody
/// was offered.
async fn end(inner: &Arc<Inner>, ended: Vec<Decision>) {
    if ended.is_empty() {
        return;
    }
    let leases: Vec<LeaseId> = ended.iter().map(|decision| decision.lease.clone()).collect();
    if let Err(error) = inner.decide(ended).await {
        tracing::warn!(%error, tasks = leases.len(), "tasks that are not run are ended later");
        inner.give_back(&leases, Duration::ZERO, None).await;
    }
}

impl Candidate {
    fn grant(&self, inner: &Inner, queue: &Queue, at: WallTime) -> Grant {
        let signature = &self.opened.signature;
        Grant {
            message: self.key.clone(),
            task: TaskId::trusted(signature.uuid.as_str()),
            name: TaskName::trusted(signature.name.as_str()),
            queue: queue.name.clone(),
            session: self.attachment.session.clone(),
            attach: self.attachment.attach,
            worker: self.attachment.worker.clone(),
            request_id: self.attachment.request_id.clone(),
            attempts_before: envelope::attempts_before(signature),
            generation: envelope::generation(signature),
            at,
            body: inner.stores.broker.recall().is_none().then(|| self.body.clone()),
        }
    }
}

/// Names the message of a delivery: by the broker's own key, else by the digest of what it says. Where a first delivery
/// is certain, a body without key is a message of its own even if another says the same.
fn identify(delivery: &Delivery, signature: &Signature) -> MessageKey {
    match &delivery.key {
        Some(key) => key.clone(),
        None => {
            let digest = crate::wire::machinery::digest(signature);
            let text: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
            MessageKey::trusted(text)
        }
    }
}

/// `true`: the lease is on its way to a worker.
async fn offer(inner: &Arc<Inner>, queue: &Queue, candidate: Candidate, lease: Lease) -> bool {
    let settings = inner.settings();
    let granted = granted(&lease, &candidate.opened, candidate.body.len(), &settings.spans);
    let (id, opened) = (lease.id.clone(), candidate.opened.clone());
    let state = outcome::lease_state(&lease, &candidate.opened.signature, Status::Received, lease.at);
    let (told, signature) = (lease.clone(), candidate.opened.signature.clone());
    let attachment = keep(inner, candidate, lease);
    if let Some(error) = opened.args_error {
        // No worker could read these arguments: the task ends as it would at a Machinery worker, and costs nobody a slot.
        Reservation::cancel(&attachment);
        let outcome = Outcome::Failure { error, is_final: true, retry_after: None };
        inner.report_own(super::types::Report { id: None, lease: id, outcome });
        return false;
    }
    // Before the offer: whoever reports at once finds everything in its place.
    inner.limit(&id, &opened);
    queue.count(&attachment, settings.weight_of(&queue.name));
    let is_offered = attachment.offer(granted);
    if is_offered {
        trail::leased(&told, &signature, &settings.spans);
        inner.states.push(crate::backend::StateWrite { state, keep: outcome::WAITING_KEPT });
    } else {
        // The worker left between reservation and offer; it never saw the lease.
        inner.give_back(&[id], Duration::ZERO, None).await;
    }
    is_offered
}

/// Takes a granted message in hand; answers for whom it was granted.
fn keep(inner: &Inner, candidate: Candidate, lease: Lease) -> Arc<Attachment> {
    let Candidate { receipt, body, opened, attachment, .. } = candidate;
    inner.hands.put(InHand {
        lease,
        receipt: Some(receipt),
        opened: Some(opened),
        body: Some(body),
        accepted: false,
        started: false,
        limit: None,
        ending: false,
        progress: None,
    });
    attachment
}

/// A lease as it goes to a worker. `body_bytes` stands for its size.
pub(super) fn granted(lease: &Lease, opened: &Opened, body_bytes: usize, spans: &Spans) -> Granted {
    let generation = envelope::generation(&opened.signature);
    Granted {
        id: lease.id.clone(),
        attempt: lease.attempt,
        queue: lease.queue.clone(),
        signature: opened.signature.clone(),
        sent_at: (generation > 0).then_some(WallTime(generation)),
        trace: trail::of_attempt(lease, &opened.signature, spans),
        bytes: body_bytes + 200,
    }
}

// A delivery whose message has a live lease: held, neither run nor lost.
async fn hold(inner: &Arc<Inner>, candidate: Candidate, lease: Lease, give_back: &mut Vec<Receipt>) {
    let ours = inner.hands.get(&lease.id).is_some();
    if !ours && inner.sessions.stream(&lease.session).is_some() {
        // At attach every lease of the session was either taken over or ended, and each one granted here since is in
        // hand. So this one was written by a grant whose answer was lost, and no worker knows of it.
        let ended = inner.stores.ledger.release(&[(lease.id.clone(), Ending::Free { report: None })]).await;
        if matches!(ended.as_deref(), Ok([Verdict::Recorded])) {
            give_back.push(candidate.receipt);
            return;
        }
    }
    let (id, passed, opened) = (lease.id.clone(), inner.passed(&lease), candidate.opened.clone());
    inner.hands.hold(lease, candidate.receipt, candidate.body, Some(candidate.opened));
    inner.limit_met(&id, &opened, passed);
}

async fn bury_poison(inner: &Inner, queue: &Queue, delivery: Delivery, why: String, now: WallTime) {
    let message = delivery.key.clone().unwrap_or_else(MessageKey::generate);
    // Its sender may wait for it: if the id can be found, the task ends.
    let task = crate::wire::machinery::salvage_uuid(&delivery.body).map(TaskId::trusted);
    let why = format!("the body is no task: {why}");
    tracing::warn!(queue = %queue.name, key = %message, %why, "a body was set aside");
    let dead = DeadTask {
        task: task.clone().unwrap_or_else(|| TaskId::trusted(message.as_str())),
        message,
        name: TaskName::trusted(""),
        queue: queue.name.clone(),
        kind: FailureReason::Poison,
        reason: why.clone(),
        attempts: 0,
        lost: Vec::new(),
        at: now,
        body: delivery.body,
        requeue: None,
    };
    // Set aside before it is acknowledged: a crash between the two sets it aside twice, under one key.
    let buried = async {
        inner.stores.ledger.bury(&[dead]).await?;
        if let Some(task) = task {
            let state = outcome::poisoned(task, &why, now);
            let keep = inner.settings().results_expire_in;
            for answer in inner.stores.backend.write(&[crate::backend::StateWrite { state, keep }], now).await {
                answer?;
            }
        }
        Ok::<_, StoreError>(())
    };
    let settle = match buried.await {
        Ok(()) => {
            let now = inner.clock.now();
            inner.traffic.count(&queue.name, Event::Ended(Ended::Failure(FailureReason::Poison)), 1, now);
            inner.traffic.count(&queue.name, Event::SetAside, 1, now);
            Settle::Ack
        }
        Err(_) => Settle::Return { after: OUTAGE_PAUSE, began: false },
    };
    inner.settle_broker(&[(delivery.receipt, settle)]).await;
}
