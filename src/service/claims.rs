//! Sends that their sender has named: by a request id, so that the same send again is done once; by an idempotency key, so
//! that a task is not sent while another with the key is in force.
//!
//! Claimed → PENDING → published → marked published. A repeat that finds a claim which is not marked goes the same way with
//! what the claim holds, and the copy is recognised: by the broker while it carries the message, by the decision later, which
//! is therefore remembered at least as long as such a claim. On a fused store all of it is one transaction.

use prost::Message;
use sha2::{Digest, Sha256};

use super::Service;
use super::traffic::Event;
use super::types::{Idempotency, KEY_KEPT_MAX, Sent, Submission, Until};
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::Standing;
use crate::ledger::claim::{self, Claim, ClaimName, Claimed, Holder, Judged, KeyClaim, Sending};
use crate::task::record::ArgsRecord;
use crate::task::{QueueName, Status, TRACEPARENT, TRACESTATE, TaskId, TaskState};

/// How often a claim is made anew because the key went to another task meanwhile. Each round somebody got on.
const ROUNDS_MAX: usize = 8;

/// What a sender calls a send.
#[derive(Debug)]
pub(super) struct Name {
    request: Option<String>,
    idempotency: Option<Idempotency>,
    digest: [u8; 32],
}

/// A send that is to be carried out step by step.
struct Step {
    /// Its place among the answers.
    at: usize,
    names: Vec<ClaimName>,
    sending: Sending,
    /// Claimed by us, not found.
    is_new: bool,
}

/// The name of a send; `None`: it has none.
pub(super) fn name_of(task: &Submission) -> Option<Name> {
    if task.request_id.is_none() && task.idempotency.is_none() {
        return None;
    }
    let mut hash = Sha256::new();
    digest(&mut hash, task);
    Some(Name {
        request: task.request_id.clone(),
        idempotency: task.idempotency.clone(),
        digest: hash.finalize().into(),
    })
}

/// Everything that a send asks for, each part with its length: the same send again has the same digest, also by another
/// server, whenever it comes. Any other has another.
pub(super) fn digest(hash: &mut Sha256, task: &Submission) {
    // Whoever adds a field must see that it belongs here.
    let Submission {
        id,
        name,
        queue,
        routing_key,
        args,
        headers,
        eta,
        delay,
        priority,
        retry_count,
        retry_timeout,
        immutable,
        result_retention,
        attempt_timeout,
        expires_in,
        on_success,
        on_error,
        request_id: _,
        idempotency,
    } = task;
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(id.as_ref().map_or("", TaskId::as_str).as_bytes());
    part(name.as_bytes());
    part(queue.as_ref().map_or("", |queue| queue.as_str()).as_bytes());
    part(routing_key.as_bytes());
    part(&ArgsRecord::from(args.as_slice()).encode_to_vec());
    // A repeated send has a span of its own, and is the same send.
    for (key, json) in headers.iter().filter(|(key, _)| !matches!(key.as_str(), TRACEPARENT | TRACESTATE)) {
        part(key.as_bytes());
        part(json.0.as_bytes());
    }
    part(
        format!(
            "{eta:?} {delay:?} {priority} {retry_count} {retry_timeout} {immutable} {result_retention:?} {expires_in:?} \
             {attempt_timeout:?}"
        )
        .as_bytes(),
    );
    part(format!("{idempotency:?}").as_bytes());
    for callbacks in [on_success, on_error] {
        part(&(callbacks.len() as u64).to_be_bytes());
        callbacks.iter().for_each(|callback| {
            let mut inner = Sha256::new();
            digest(&mut inner, callback);
            part(&inner.finalize());
        });
    }
}

/// Whether the key of a task is free again, by what is known of it.
///
/// A later sending of the same id counts for it, since the state tells only of the latest.
fn is_free(holder: &Holder, state: Option<&TaskState>, standing: &Standing) -> bool {
    // A program that knows no generations writes none.
    let state = state.filter(|state| state.generation == 0 || state.generation >= holder.generation);
    match (holder.until, state) {
        (claim::Until::Time, _) => false,
        // Its state came before it was published: it has ended, and is forgotten. What is not known to be published may not
        // have come so far.
        (_, None) => !holder.is_open || *standing == Standing::Decided,
        (claim::Until::Ended, Some(state)) => state.status.is_final(),
        (claim::Until::Started, Some(state)) => {
            state.status != Status::Pending || state.attempt > 1 || *standing != Standing::Open
        }
    }
}

/// What a sender is told of a store's failure.
fn told(error: StoreError, claim: &Claim) -> Error {
    match error {
        StoreError::OutcomeUnknown { .. } if claim.request.is_some() => Error::Unconfirmed(error),
        error => error.into(),
    }
}

impl Service {
    /// The claim of a send that was checked.
    pub(super) fn claim_of(&self, name: Name, sending: Sending, now: WallTime) -> Claim {
        let key = |Idempotency { key, until }: Idempotency| {
            let waits_until = sending.message.available_at.unwrap_or(now).max(now);
            let (until, lapses_at) = match until {
                Until::Started => (claim::Until::Started, waits_until.plus(KEY_KEPT_MAX)),
                Until::Ended => (claim::Until::Ended, waits_until.plus(KEY_KEPT_MAX)),
                Until::Passed(time) => (claim::Until::Time, now.plus(time)),
            };
            KeyClaim { key, until, lapses_at, judged: None }
        };
        Claim {
            request: name.request,
            digest: name.digest,
            key: name.idempotency.map(key),
            sending,
            at: now,
            window: self.inner.settings().request_window,
        }
    }

    /// Sends tasks under their names, one answer each, in order.
    pub(super) async fn send_named(&self, claims: Vec<Claim>, now: WallTime) -> Vec<Result<Sent, Error>> {
        let stores = &self.inner.stores;
        let mut answers: Vec<Option<Result<Sent, Error>>> = claims.iter().map(|_| None).collect();
        let mut places: Vec<usize> = (0..claims.len()).collect();
        let queues: Vec<QueueName> = match self.inner.traffic.is_measured() {
            true => claims.iter().map(|claim| claim.sending.message.queue.clone()).collect(),
            false => Vec::new(),
        };
        let mut claims = claims;
        for _ in 0..ROUNDS_MAX {
            let claimed = match &stores.fused {
                Some(fused) => fused.send_claimed(&claims, now).await,
                None => stores.ledger.claims().claim(&claims).await,
            };
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(error) => {
                    for (at, claim) in places.iter().zip(&claims) {
                        answers[*at] = Some(Err(told(error.clone(), claim)));
                    }
                    break;
                }
            };
            let (mut steps, mut held, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
            for ((at, claim), claimed) in places.into_iter().zip(claims).zip(claimed) {
                match claimed {
                    Claimed::New if stores.fused.is_some() => {
                        let message = claim.sending.message;
                        answers[at] = Some(Ok(Sent { task: message.task.clone(), already: false }));
                        fresh.push(message);
                    }
                    Claimed::New => {
                        let names = claim.names();
                        steps.push((Step { at, names, sending: claim.sending.clone(), is_new: true }, claim));
                    }
                    Claimed::Again(sending) => {
                        let names = claim.names();
                        steps.push((Step { at, names, sending: *sending, is_new: false }, claim));
                    }
                    Claimed::Sent(task) => answers[at] = Some(Ok(Sent { task, already: true })),
                    Claimed::Reused => answers[at] = Some(Err(Error::RequestIdReused { field: "request_id".into() })),
                    Claimed::Failed(error) => answers[at] = Some(Err(told(error, &claim))),
                    Claimed::Held(holder) => held.push((at, claim, holder)),
                }
            }
            self.note_sent(fresh.iter());
            if !steps.is_empty() {
                self.inner.failpoints.reach(Point::SendClaimed).await;
                self.carry_out(steps, now, &mut answers).await;
            }
            (places, claims) = self.judge(held, now, &mut answers).await;
            if claims.is_empty() {
                break;
            }
        }
        let is_known = |answer: &Option<Result<Sent, Error>>| matches!(answer, Some(Ok(sent)) if sent.already);
        let known = queues.iter().zip(&answers).filter(|(_, answer)| is_known(answer));
        self.count_each(known.map(|(queue, _)| queue), Event::SentBefore);
        let contested = || {
            let why = "the idempotency key went to another task each time".to_owned();
            Err(StoreError::Unavailable { store: stores.ledger.name(), why }.into())
        };
        answers.into_iter().map(|answer| answer.unwrap_or_else(contested)).collect()
    }

    /// Looks whether the tasks that hold keys are in force; answers the claims to be made again, with what was found.
    async fn judge(
        &self,
        held: Vec<(usize, Claim, Holder)>,
        now: WallTime,
        answers: &mut [Option<Result<Sent, Error>>],
    ) -> (Vec<usize>, Vec<Claim>) {
        if held.is_empty() {
            return Default::default();
        }
        let stores = &self.inner.stores;
        let tasks: Vec<TaskId> = held.iter().map(|(.., holder)| holder.task.clone()).collect();
        let messages: Vec<_> = held.iter().map(|(.., holder)| holder.message.clone()).collect();
        let known = async {
            // The standing first: what is seen waiting in the ledger and ended in the backend has ended meanwhile.
            let standings = stores.ledger.standing(&messages).await?;
            Ok::<_, StoreError>((standings, stores.backend.read(&tasks, now).await?))
        };
        let (standings, states) = match known.await {
            Ok(known) => known,
            Err(error) => {
                for (at, claim, _) in &held {
                    answers[*at] = Some(Err(told(error.clone(), claim)));
                }
                return Default::default();
            }
        };
        let judge =
            |((at, mut claim, holder), (standing, state)): ((usize, Claim, Holder), (Standing, Option<TaskState>))| {
                let judged = if is_free(&holder, state.as_ref(), &standing) { Judged::Free } else { Judged::InForce };
                if let Some(key) = &mut claim.key {
                    key.judged = Some(judged(holder.message));
                }
                (at, claim)
            };
        held.into_iter().zip(standings.into_iter().zip(states)).map(judge).unzip()
    }

    /// Writes, publishes and marks what is claimed, on stores that are not one.
    async fn carry_out(&self, steps: Vec<(Step, Claim)>, now: WallTime, answers: &mut [Option<Result<Sent, Error>>]) {
        let stores = &self.inner.stores;
        let found: Vec<_> =
            steps.iter().filter(|(step, _)| !step.is_new).map(|(step, _)| step.sending.message.key.clone()).collect();
        // What was found may be decided, and its state forgotten: writing it would bring the task back.
        let decided = if found.is_empty() { Ok(Vec::new()) } else { stores.ledger.standing(&found).await };
        let mut decided = decided.map(Vec::into_iter);
        let mut marks = Vec::new();
        let mut to_write = Vec::with_capacity(steps.len());
        for (step, claim) in steps {
            let sent = Sent { task: step.sending.message.task.clone(), already: !step.is_new };
            if step.is_new {
                to_write.push((step, claim, sent));
                continue;
            }
            match decided.as_mut().map(Iterator::next) {
                Ok(Some(Standing::Decided)) => {
                    marks.push((step.names, step.sending.message.key));
                    answers[step.at] = Some(Ok(sent));
                }
                Ok(_) => to_write.push((step, claim, sent)),
                Err(error) => answers[step.at] = Some(Err(told(error.clone(), &claim))),
            }
        }
        let items: Vec<Sending> = to_write.iter().map(|(step, ..)| step.sending.clone()).collect();
        let (written, unsent) = if items.is_empty() { Default::default() } else { self.write_steps(&items, now).await };
        let fresh = to_write.iter().zip(&written).filter(|((step, ..), written)| step.is_new && written.is_ok());
        self.note_sent(fresh.map(|((step, ..), _)| &step.sending.message));
        let (mut back, mut stated) = (Vec::new(), Vec::new());
        for (i, ((step, claim, sent), written)) in to_write.into_iter().zip(written).enumerate() {
            match written {
                Ok(()) => {
                    marks.push((step.names, step.sending.message.key));
                    answers[step.at] = Some(Ok(sent));
                }
                Err(error) => {
                    // What was found belongs to whoever claimed it.
                    if step.is_new && !matches!(error, StoreError::OutcomeUnknown { .. }) {
                        back.push((step.names, step.sending.message.key.clone()));
                        stated.push(unsent.contains(&i).then_some(step.sending));
                    }
                    answers[step.at] = Some(Err(told(error, &claim)));
                }
            }
        }
        self.take_back(&back, stated).await;
        if marks.is_empty() {
            return;
        }
        self.inner.failpoints.reach(Point::SendUnmarked).await;
        if let Err(error) = stores.ledger.claims().published(&marks).await {
            // They are sent. Whoever sends one again finds its claim, and finishes it.
            tracing::warn!(%error, sends = marks.len(), "sends are not marked as published");
        }
    }

    /// Takes claims back that came to nothing, and then the states of those. Not the other way round: somebody who found the
    /// claim may have published it, and then its state stays.
    async fn take_back(&self, back: &[(Vec<ClaimName>, crate::task::MessageKey)], stated: Vec<Option<Sending>>) {
        if back.is_empty() {
            return;
        }
        match self.inner.stores.ledger.claims().unclaim(back).await {
            Ok(taken) => {
                let own: Vec<Sending> = stated
                    .into_iter()
                    .zip(taken)
                    .filter(|(_, taken)| *taken)
                    .filter_map(|(unsent, _)| unsent)
                    .collect();
                self.retract(own.iter()).await;
            }
            Err(error) => tracing::warn!(%error, sends = back.len(), "claims of sends that failed stay as they are"),
        }
    }
}
