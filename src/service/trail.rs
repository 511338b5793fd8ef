//! What a task went through, told to the log and to tracing systems: each step of its life once, by ids alone. What a task
//! carries (arguments, results, the text of an error) is none of an operator's business, and never said.
//!
//! A trace has, under whatever its producer named: *send*, and under it for each lease a *wait* and an *attempt*. The
//! span of the send goes along in the task's headers; the others' ids are digests of their lease, so that a lease can
//! name the parent of what its worker does before the attempt has ended, by whichever replica it is recorded then. What
//! an attempt causes (callbacks) is sent under that attempt; a retry stays under the first send.

use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::ledger::{Decision, Lease};
use crate::task::{
    FailureReason, Headers, MessageKey, Signature, SpanId, Status, TRACEPARENT, TRACESTATE, TaskState, TraceContext,
    TraceId,
};
use crate::telemetry::spans::{Kind, Span, Spans, Value};

use super::envelope;
use super::hands::InHand;

/// The span of a send.
fn send_span(key: &MessageKey) -> SpanId {
    SpanId::digest(&[b"send", key.as_str().as_bytes()])
}

/// The span of what a lease is about: `wait` or `attempt`.
fn lease_span(what: &str, lease: &Lease) -> SpanId {
    let id = &lease.id;
    SpanId::digest(&[what.as_bytes(), id.message.as_str().as_bytes(), &id.token.0.to_be_bytes()])
}

/// The trace of a task whose producer named none.
fn own_trace(task: &str, generation: u64) -> TraceId {
    TraceId::digest(&[task.as_bytes(), &generation.to_be_bytes()])
}

/// Where a task stands in its trace.
struct Place {
    trace: TraceId,
    parent: Option<SpanId>,
    is_sampled: bool,
}

impl Place {
    fn of(headers: Option<&Headers>, task: &str, generation: u64, spans: &Spans) -> Self {
        match TraceContext::of(headers) {
            Some(context) => Self { trace: context.trace, parent: Some(context.span), is_sampled: context.is_sampled },
            None => {
                let trace = own_trace(task, generation);
                Self { trace, parent: None, is_sampled: spans.samples(trace) }
            }
        }
    }

    fn of_task(signature: &Signature, spans: &Spans) -> Self {
        Self::of(signature.headers.as_ref(), &signature.uuid, envelope::generation(signature), spans)
    }

    fn under(&self, span: SpanId) -> TraceContext {
        TraceContext { trace: self.trace, span, is_sampled: self.is_sampled }
    }
}

/// The trace of a task, where one is known.
fn trace_of(signature: &Signature) -> Option<TraceId> {
    TraceContext::of(signature.headers.as_ref()).map(|context| context.trace)
}

/// Puts a task that is sent into its trace: what comes next comes under its send. Without a record of spans its
/// producer's context goes on as it is.
pub(super) fn enter(headers: &mut Headers, task: &str, generation: u64, key: &MessageKey, spans: &Spans) {
    if !spans.is_on() {
        return;
    }
    let place = Place::of(Some(headers), task, generation, spans);
    envelope::mark_parent(headers, place.parent);
    place.under(send_span(key)).put(headers);
}

/// Gives a callback the trace of the task that causes it: it is sent under that attempt.
pub(super) fn pass_on(lease: &Lease, signature: &Signature, callback: &mut Signature, spans: &Spans) {
    let state = signature.headers.as_ref().and_then(|headers| headers.get(TRACESTATE)).cloned();
    let own = signature.headers.as_ref().and_then(|headers| headers.get(TRACEPARENT)).cloned();
    let attempt = of_attempt(lease, signature, spans);
    let headers = callback.headers.get_or_insert_default();
    match (attempt, own) {
        (Some(attempt), _) => attempt.put(headers),
        // Nothing is recorded here: both are the producer's.
        (None, Some(own)) if TraceContext::of(Some(headers)).is_none() => {
            headers.insert(TRACEPARENT.to_owned(), own);
        }
        (None, _) => return,
    }
    match state {
        Some(state) => drop(headers.insert(TRACESTATE.to_owned(), state)),
        None => drop(headers.remove(TRACESTATE)),
    }
}

/// The attempt of a lease, as the parent of what its worker does; `None`: no spans are recorded here.
pub(super) fn of_attempt(lease: &Lease, signature: &Signature, spans: &Spans) -> Option<TraceContext> {
    spans.is_on().then(|| Place::of_task(signature, spans).under(lease_span("attempt", lease)))
}

/// A task was sent, callbacks and requeued ones included.
pub(super) fn sent(task: &NewTask, spans: &Spans, now: WallTime) {
    tracing::debug!(task = %task.task, name = %task.name, queue = %task.queue, key = %task.key, "a task was sent");
    if !spans.is_on() {
        return;
    }
    let Ok(opened) = envelope::open(&task.body) else { return };
    let signature = &opened.signature;
    let place = Place::of_task(signature, spans);
    if !place.is_sampled {
        return;
    }
    spans.record(Span {
        trace: place.trace,
        id: send_span(&task.key),
        parent: envelope::parent(signature),
        kind: Kind::Producer,
        name: format!("send {}", task.name),
        start: WallTime(envelope::generation(signature)),
        end: now,
        attributes: vec![
            ("messaging.system", "lineshaft".into()),
            ("messaging.operation.name", "send".into()),
            ("messaging.operation.type", "send".into()),
            ("messaging.destination.name", task.queue.as_str().into()),
            ("messaging.message.id", task.task.as_str().into()),
            ("lineshaft.task.name", task.name.as_str().into()),
        ],
        events: Vec::new(),
        error: None,
    });
}

/// A span of a lease.
fn of_lease(what: &'static str, kind: Kind, place: &Place, lease: &Lease) -> Span {
    Span {
        trace: place.trace,
        id: lease_span(what, lease),
        parent: place.parent,
        kind,
        name: format!("{what} {}", lease.name),
        start: lease.at,
        end: lease.at,
        attributes: vec![
            ("messaging.system", "lineshaft".into()),
            ("messaging.operation.name", what.into()),
            ("messaging.destination.name", lease.queue.as_str().into()),
            ("messaging.message.id", lease.task.as_str().into()),
            ("lineshaft.task.name", lease.name.as_str().into()),
            ("lineshaft.attempt", lease.attempt.into()),
        ],
        events: Vec::new(),
        error: None,
    }
}

/// A lease is on its way to a worker: its task has waited.
pub(super) fn leased(lease: &Lease, signature: &Signature, spans: &Spans) {
    tracing::debug!(
        task = %lease.task,
        name = %lease.name,
        queue = %lease.queue,
        attempt = lease.attempt,
        session = %lease.session,
        lease = %lease.id,
        trace = trace_of(signature).map(tracing::field::display),
        "an attempt was leased"
    );
    if !spans.is_on() {
        return;
    }
    let place = Place::of_task(signature, spans);
    if !place.is_sampled {
        return;
    }
    // From when it could have been leased. A foreign program does not say when it sent the task.
    let sent = envelope::generation(signature);
    let due = signature.eta.map_or(0, |eta| eta.to_wall().0);
    let lost = lease.lost.last().map_or(0, |lost| lost.at.0);
    let since = sent.max(due).max(lost);
    let start = if since == 0 { lease.at } else { WallTime(since.min(lease.at.0)) };
    spans.record(Span { start, ..of_lease("wait", Kind::Internal, &place, lease) });
}

/// How an attempt ended.
struct End {
    at: WallTime,
    outcome: &'static str,
    error: Option<&'static str>,
    /// When its retry may begin.
    retry: Option<WallTime>,
}

impl End {
    fn of(state: &TaskState, decision: &Decision, lease: &Lease) -> Self {
        let retry = decision.effects.publish.iter().find(|next| is_retry(next, lease));
        let (outcome, error) = match (state.status, state.reason) {
            (Status::Success, _) => ("success", None),
            (Status::Retry, _) => ("retry", Some("FAILED")),
            (_, FailureReason::Cancelled) => ("cancelled", Some("CANCELLED")),
            (_, FailureReason::Purged) => ("purged", Some("PURGED")),
            (_, FailureReason::Expired) => ("expired", Some("EXPIRED")),
            (_, FailureReason::TimedOut) => ("failure", Some("TIMED_OUT")),
            (_, FailureReason::NotRun) => ("failure", Some("NOT_RUN")),
            (_, FailureReason::WorkerLost) => ("lost", Some("WORKER_LOST")),
            (_, FailureReason::ResultTooLarge) => ("failure", Some("RESULT_TOO_LARGE")),
            _ => ("failure", Some("FAILED")),
        };
        Self { at: decision.at, outcome, error, retry: retry.and_then(|next| next.available_at) }
    }
}

/// Records an attempt that has ended.
fn record_attempt(lease: &Lease, signature: &Signature, spans: &Spans, end: &End) {
    let place = Place::of_task(signature, spans);
    if !place.is_sampled {
        return;
    }
    let mut span = Span { end: end.at, error: end.error, ..of_lease("attempt", Kind::Consumer, &place, lease) };
    span.attributes.extend([
        ("messaging.operation.type", Value::from("process")),
        ("lineshaft.outcome", end.outcome.into()),
        ("lineshaft.worker", lease.worker.as_str().into()),
        ("lineshaft.lease.id", Value::Text(lease.id.to_string())),
        ("lineshaft.retries_left", Value::Number(signature.retry_count)),
    ]);
    span.attributes.extend(end.error.map(|error| ("error.type", error.into())));
    if let Some(retry) = end.retry {
        let delay = i64::try_from(end.at.until(retry).as_millis()).unwrap_or(i64::MAX);
        span.attributes.push(("lineshaft.retry.delay_ms", Value::Number(delay)));
        span.events.push(("retry", end.at));
    }
    spans.record(span);
}

/// Whether a message that follows from a lease is the next of the same task.
fn is_retry(next: &NewTask, lease: &Lease) -> bool {
    next.key == lease.id.message.derive(0)
}

/// An attempt has ended in a decision.
pub(super) fn ended(hand: &InHand, decision: &Decision, spans: &Spans) {
    let (Some(write), Some(opened)) = (decision.effects.states.first(), &hand.opened) else { return };
    let (lease, signature) = (&hand.lease, &opened.signature);
    tracing::debug!(
        task = %lease.task,
        name = %lease.name,
        queue = %lease.queue,
        attempt = lease.attempt,
        session = %lease.session,
        lease = %lease.id,
        trace = trace_of(signature).map(tracing::field::display),
        status = ?write.state.status,
        reason = ?write.state.reason,
        "an attempt has ended"
    );
    for next in decision.effects.publish.iter().filter(|next| !is_retry(next, lease)) {
        sent(next, spans, decision.at);
    }
    // What was met with a cancel mark, or after its time, was granted and never offered: there was no attempt.
    let was_met = matches!(write.state.reason, FailureReason::Cancelled | FailureReason::Expired);
    let was_offered = hand.accepted || !was_met;
    if spans.is_on() && was_offered {
        record_attempt(lease, signature, spans, &End::of(&write.state, decision, lease));
    }
}

/// An attempt has ended with its worker.
pub(super) fn lost(lease: &Lease, signature: Option<&Signature>, spans: &Spans, at: WallTime) {
    tracing::info!(
        task = %lease.task,
        name = %lease.name,
        queue = %lease.queue,
        attempt = lease.attempt,
        session = %lease.session,
        lease = %lease.id,
        worker = lease.worker,
        trace = signature.and_then(trace_of).map(tracing::field::display),
        "an attempt was lost with its worker"
    );
    if let Some(signature) = signature.filter(|_| spans.is_on()) {
        let end = End { at, outcome: "lost", error: Some("WORKER_LOST"), retry: None };
        record_attempt(lease, signature, spans, &end);
    }
}

/// A worker gave an attempt back.
pub(super) fn released(lease: &Lease, signature: &Signature, spans: &Spans, at: WallTime) {
    tracing::debug!(
        task = %lease.task,
        name = %lease.name,
        queue = %lease.queue,
        attempt = lease.attempt,
        session = %lease.session,
        lease = %lease.id,
        trace = trace_of(signature).map(tracing::field::display),
        "an attempt was given back"
    );
    if spans.is_on() {
        record_attempt(lease, signature, spans, &End { at, outcome: "released", error: None, retry: None });
    }
}
