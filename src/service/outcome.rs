//! What follows from the end of an attempt: pure policy, no store and no clock.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::types::{Outcome, Settings};
use super::workflows::behind::{Consequences, announced, not_run, read};
use super::{envelope, trail};
use crate::backend::StateWrite;
use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::ledger::claim::Sending;
use crate::ledger::{DeadTask, Decision, Effects, Ending, Lease, LostAttempt};
use crate::task::{
    Arg, FailureReason, MessageKey, QueueName, Signature, Status, TaskId, TaskName, TaskState, Timestamp,
    next_retry_timeout,
};
use crate::wire::{self, machinery::WireError};

/// The error text of a cancelled task: all that a Machinery program can see of it. The prefix keeps it apart from what a
/// function may say.
pub(super) const CANCELLED: &str = "lineshaft: cancelled";
/// The error text of a purged task, likewise.
const PURGED: &str = "lineshaft: purged";
/// The error text of a task that was not begun in its time, likewise.
const EXPIRED: &str = "lineshaft: expired";
/// The longest error text kept, bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// How long the state of a task that waits outlives its ETA: a cancel mark or a reader never comes too late.
pub(super) const WAITING_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// All that is known of an attempt when it ends.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) lease: &'a Lease,
    pub(super) signature: &'a Signature,
    pub(super) now: WallTime,
    pub(super) settings: &'a Settings,
}

/// An end that is decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// SUCCESS.
    Success(Vec<Arg>),
    /// Try again: after the delay, at the cost of a retry or not.
    Retry { error: String, after: Option<Duration> },
    /// FAILURE.
    Failure { error: String, reason: FailureReason },
    /// FAILURE, because somebody cancelled it. Its callbacks are not sent: nobody wants anything of this task any more.
    Cancelled,
    /// FAILURE, because somebody purged its queue. Its callbacks are not sent either.
    Purged,
}

/// What a reported outcome comes to, given what the task has left. `None`: the attempt is given back, nothing ends.
pub(super) fn judge(outcome: &Outcome, signature: &Signature, settings: &Settings) -> Option<End> {
    match outcome {
        Outcome::Release { .. } => None,
        Outcome::Success(results) => {
            let bytes = wire::machinery::encode_results(results).len();
            if bytes > settings.result_bytes_max {
                let error = format!(
                    "result too large: {bytes} bytes, the limit is {} bytes; store it elsewhere and return a reference",
                    settings.result_bytes_max
                );
                return Some(End::Failure { error, reason: FailureReason::ResultTooLarge });
            }
            Some(End::Success(results.clone()))
        }
        Outcome::TimedOut { after } => {
            let error = format!("attempt timed out after {after:?}");
            Some(match signature.retry_count {
                1.. => End::Retry { error, after: None },
                _ => End::Failure { error, reason: FailureReason::TimedOut },
            })
        }
        Outcome::Failure { error, is_final, retry_after } => {
            let error = cut(error);
            Some(match retry_after {
                Some(after) if !is_final => End::Retry { error, after: Some(*after) },
                None if !is_final && signature.retry_count > 0 => End::Retry { error, after: None },
                _ => End::Failure { error, reason: FailureReason::Failed },
            })
        }
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Identifies an outcome: the same report again, however it came, has the same digest.
pub(super) fn digest(outcome: &Outcome) -> [u8; 32] {
    let mut hash = Sha256::new();
    match outcome {
        Outcome::Success(results) => {
            hash.update(b"success");
            hash.update(wire::machinery::encode_results(results));
        }
        Outcome::Failure { error, is_final, retry_after } => {
            hash.update(b"failure");
            hash.update([u8::from(*is_final), u8::from(retry_after.is_some())]);
            hash.update(retry_after.unwrap_or_default().as_nanos().to_be_bytes());
            hash.update(error.as_bytes());
        }
        Outcome::TimedOut { after } => {
            hash.update(b"timed out");
            hash.update(after.as_nanos().to_be_bytes());
        }
        Outcome::Release { delay } => {
            hash.update(b"release");
            hash.update(delay.as_nanos().to_be_bytes());
        }
    }
    hash.finalize().into()
}

impl Attempt<'_> {
    /// The decision that `end` is, with everything that follows from it.
    pub(super) fn decide(&self, end: &End, report: Option<String>, digest: [u8; 32]) -> Decision {
        let mut decision = Decision {
            lease: self.lease.id.clone(),
            report,
            digest,
            at: self.now,
            effects: Effects::default(),
            dead: None,
            keep: self.end_kept(),
            begins: Vec::new(),
            ends: match end {
                End::Retry { .. } => None,
                _ => envelope::lifetime(self.signature),
            },
            opens: Vec::new(),
        };
        let effects = &mut decision.effects;
        match end {
            End::Success(results) => {
                effects.states.push(self.state(Status::Success, Some(results.clone()), "", FailureReason::Unknown));
                for (position, body) in self.signature.on_success.iter().flatten().enumerate() {
                    let callback = wire::machinery::callback_after_success(self.signature, body, results);
                    self.publish_callback(&mut decision, callback, position);
                }
            }
            End::Failure { error, reason } => {
                effects.states.push(self.state(Status::Failure, None, error, *reason));
                for (position, body) in self.signature.on_error.iter().flatten().enumerate() {
                    let callback = wire::machinery::callback_after_error(body, error);
                    self.publish_callback(&mut decision, callback, position);
                }
            }
            End::Cancelled => {
                effects.states.push(self.state(Status::Failure, None, CANCELLED, FailureReason::Cancelled));
            }
            End::Purged => {
                effects.states.push(self.state(Status::Failure, None, PURGED, FailureReason::Purged));
            }
            End::Retry { error, after } => {
                effects.states.push(self.state(Status::Retry, None, error, FailureReason::Unknown));
                effects.publish.push(self.retry(*after));
                return decision;
            }
        }
        self.conclude(&mut decision);
        decision
    }

    /// What the end means for others: joins that the task belongs to, and tasks behind it that can never run now.
    fn conclude(&self, decision: &mut Decision) {
        let effects = &mut decision.effects;
        let Some(own) = effects.states.first().map(|write| write.state.clone()) else { return };
        let sent = effects.publish.iter().map(|message| message.task.clone()).collect();
        let mut consequences = Consequences { sent, ..Consequences::default() };
        consequences.member(self.signature, &own, self.now);
        if own.status == Status::Failure {
            let since = envelope::generation(self.signature);
            let cause = not_run(own.task_id.as_str(), &own.error);
            for next in self.signature.on_success.iter().flatten().filter_map(read) {
                consequences.never_runs(next, &cause, since, self.now, self.settings);
            }
        }
        effects.states.extend(consequences.states);
        effects.joins.extend(consequences.joins);
        decision.opens.extend(consequences.opens);
    }

    /// The end of a task that was cancelled before its worker said anything.
    pub(super) fn cancel(&self) -> Decision {
        self.decide(&End::Cancelled, None, Sha256::digest(CANCELLED).into())
    }

    /// The end of a task that waited in a queue that was purged.
    pub(super) fn purge(&self) -> Decision {
        self.decide(&End::Purged, None, Sha256::digest(PURGED).into())
    }

    /// The end of a task that was not begun in its time; with [`Settings::keep_failed`] it is set aside, with its `body`.
    pub(super) fn expire(&self, body: bytes::Bytes) -> Decision {
        let (error, reason) = (EXPIRED.to_owned(), FailureReason::Expired);
        let mut decision =
            self.decide(&End::Failure { error: error.clone(), reason }, None, Sha256::digest(EXPIRED).into());
        decision.dead = self.settings.keep_failed.then(|| self.dead(error, reason, body));
        decision
    }

    /// The end of a task whose attempts killed their workers.
    pub(super) fn bury(&self, lost: Vec<LostAttempt>, body: bytes::Bytes) -> Decision {
        let workers: std::collections::BTreeSet<&str> = lost.iter().map(|l| l.worker.as_str()).collect();
        let error = format!("{} attempts ended in dead workers ({})", lost.len(), Vec::from_iter(workers).join(", "));
        let end = End::Failure { error: error.clone(), reason: FailureReason::WorkerLost };
        let mut decision = self.decide(&end, None, Sha256::digest(error.as_bytes()).into());
        decision.dead = Some(DeadTask { lost, ..self.dead(error, FailureReason::WorkerLost, body) });
        decision
    }

    /// The task as it is set aside.
    pub(super) fn dead(&self, error: String, kind: FailureReason, body: bytes::Bytes) -> DeadTask {
        DeadTask {
            message: self.lease.id.message.clone(),
            task: self.lease.task.clone(),
            name: self.lease.name.clone(),
            queue: self.lease.queue.clone(),
            kind,
            reason: error,
            attempts: self.lease.attempt,
            lost: self.lease.lost.clone(),
            at: self.now,
            body,
            requeue: None,
        }
    }

    fn state(&self, status: Status, results: Option<Vec<Arg>>, error: &str, reason: FailureReason) -> StateWrite {
        let waits = status == Status::Retry;
        let mut state = lease_state(self.lease, self.signature, status, self.now);
        state.results = results;
        state.error = error.to_owned();
        state.reason = reason;
        StateWrite { state, keep: if waits { WAITING_KEPT } else { self.end_kept() } }
    }

    /// How long the end is kept, and the decision with it.
    fn end_kept(&self) -> Duration {
        envelope::result_retention(self.signature).unwrap_or(self.settings.results_expire_in)
    }

    fn retry(&self, after: Option<Duration>) -> NewTask {
        let mut next = self.signature.clone();
        let delay = after.unwrap_or_else(|| {
            next.retry_count -= 1;
            let timeout = next_retry_timeout(u64::try_from(next.retry_timeout).unwrap_or(0));
            next.retry_timeout = i64::try_from(timeout).unwrap_or(i64::MAX);
            Duration::from_secs(timeout)
        });
        let available_at = self.now.plus(delay);
        next.eta = Some(Timestamp::from_wall(available_at));
        let generation = envelope::generation(self.signature);
        envelope::mark(next.headers.get_or_insert_default(), generation, self.lease.attempt);
        NewTask {
            key: self.lease.id.message.derive(0),
            task: self.lease.task.clone(),
            name: self.lease.name.clone(),
            queue: self.lease.queue.clone(),
            routing_key: None,
            body: envelope::seal(&next),
            available_at: Some(available_at),
            priority: next.priority,
        }
    }

    fn publish_callback(&self, decision: &mut Decision, callback: Result<Signature, WireError>, position: usize) {
        let mut callback = match callback {
            Ok(callback) => callback,
            Err(why) => {
                // Its sender wrote it unreadable; there is no id under which its end could be told.
                tracing::warn!(task = %self.lease.task, attempt = self.lease.attempt, session = %self.lease.session, position, %why, "a callback is no task and is not sent");
                return;
            }
        };
        trail::pass_on(self.lease, self.signature, &mut callback, &self.settings.spans);
        let position = u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1);
        let message = &self.lease.id.message;
        if callback.uuid.is_empty() {
            callback.uuid = format!("task_{}", message.derived_uuid(position));
        }
        // What was announced with its chain is that sending, so that it is cancelled with it; but a chain that somebody sent again
        // from the dead goes on under the new one.
        let generation = match announced(&callback) {
            0 => self.now.0,
            announced => announced.max(envelope::generation(self.signature)),
        };
        let sending = message_of(callback, message.derive(position), self.now, generation, self.settings);
        decision.begins.extend(sending.lifetime());
        decision.effects.states.push(sending.state);
        decision.effects.publish.push(sending.message);
    }
}

/// The state of a task under a lease, without results and error.
pub(super) fn lease_state(lease: &Lease, signature: &Signature, status: Status, now: WallTime) -> TaskState {
    TaskState { releases: lease.releases, ..bare_state(signature, &lease.task, status, lease.attempt, now) }
}

/// The state of a task whose lease has ended without a decision: it waits again.
pub(super) fn waiting_again(lease: &Lease, signature: &Signature, ending: &Ending, now: WallTime) -> TaskState {
    let state = lease_state(lease, signature, Status::Pending, now);
    match ending {
        Ending::Free { .. } => TaskState { releases: lease.releases.saturating_add(1), ..state },
        Ending::Lost { .. } => TaskState { attempt: lease.attempt.saturating_add(1), ..state },
    }
}

/// The state of a task that waits, as far as its body tells.
pub(super) fn unleased_state(signature: &Signature, now: WallTime) -> TaskState {
    let task = TaskId::trusted(signature.uuid.as_str());
    let attempt = envelope::attempts_before(signature).saturating_add(1);
    let status = if attempt > 1 { Status::Retry } else { Status::Pending };
    bare_state(signature, &task, status, attempt, now)
}

/// A state without results and error.
pub(super) fn bare_state(
    signature: &Signature,
    task: &TaskId,
    status: Status,
    attempt: u32,
    now: WallTime,
) -> TaskState {
    let generation = envelope::generation(signature);
    TaskState {
        task_id: task.clone(),
        task_name: signature.name.clone(),
        status,
        results: None,
        error: String::new(),
        reason: FailureReason::Unknown,
        generation,
        attempt,
        releases: 0,
        created_at: if generation == 0 { Timestamp::ZERO } else { Timestamp::from_wall(WallTime(generation)) },
        updated_at: Timestamp::from_wall(now),
    }
}

/// The end of a task whose body cannot be read. Its own marks cannot be read either, so it counts as sent now.
pub(super) fn poisoned(task: TaskId, why: &str, now: WallTime) -> TaskState {
    let signature = Signature::default();
    let state = bare_state(&signature, &task, Status::Failure, 1, now);
    TaskState { error: why.to_owned(), reason: FailureReason::Poison, generation: now.0, ..state }
}

/// The PENDING state and the message of a task that is sent now under `generation`, with its lifetime, which begins now. Its
/// routing key is the queue; empty means the default queue.
pub(super) fn message_of(
    mut signature: Signature,
    key: MessageKey,
    now: WallTime,
    generation: u64,
    settings: &Settings,
) -> Sending {
    if signature.routing_key.is_empty() {
        signature.routing_key = settings.default_queue.as_str().to_owned();
    }
    let headers = signature.headers.get_or_insert_default();
    envelope::mark(headers, generation, 0);
    envelope::begin_lifetime(headers, now);
    trail::enter(headers, &signature.uuid, generation, &key, &settings.spans);
    let available_at = signature.eta.map(Timestamp::to_wall).filter(|eta| *eta > now);
    let task = TaskId::trusted(signature.uuid.as_str());
    let state = bare_state(&signature, &task, Status::Pending, 1, now);
    let keep = WAITING_KEPT.max(settings.results_expire_in) + available_at.map_or(Duration::ZERO, |eta| now.until(eta));
    let new = NewTask {
        key,
        task,
        name: TaskName::trusted(signature.name.as_str()),
        queue: QueueName::trusted(signature.routing_key.as_str()),
        routing_key: None,
        body: envelope::seal(&signature),
        available_at,
        priority: signature.priority,
    };
    Sending { state: StateWrite { state, keep }, message: new, expires_at: envelope::expires_at(&signature) }
}
