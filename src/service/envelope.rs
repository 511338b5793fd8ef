//! Opening and closing envelopes: the service's only door to `wire`, and the headers of ours that ride inside.
//!
//! Our headers are strings, so that a Machinery worker which publishes the task again carries them on unchanged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::WallTime;
use crate::ledger::Lifetime;
use crate::task::{GroupId, Headers, RawJson, Signature, SpanId, TaskId};
use crate::wire;

/// Header: when the task was first accepted, unix ns. Names the sending; states of an older one never overwrite it.
const SENT: &str = "lineshaft-sent";
/// Header: how many attempts were made under earlier messages of the task.
const ATTEMPTS: &str = "lineshaft-attempts";
/// Header: how long the final state is kept, milliseconds.
const RETENTION: &str = "lineshaft-retention";
/// Header: how long one attempt may run, milliseconds.
const TIMEOUT: &str = "lineshaft-timeout";
/// Header: from when on no attempt begins, unix ns by the wall clock of the server that accepted the task.
const EXPIRES: &str = "lineshaft-expires";
/// Header: how long after it is sent a task may be begun, nanoseconds. Only of a task that is not sent yet, as a callback.
const EXPIRES_IN: &str = "lineshaft-expires-in";
/// Header: the span that sent the task, 16 hexadecimal digits, where its producer named one.
const PARENT: &str = "lineshaft-parent";
/// Header: the join that the task belongs to, where it was sent here as part of one.
const JOIN: &str = "lineshaft-join";
/// What the headers of ours begin with.
pub(super) const OURS: &str = "lineshaft-";

/// A body that was read.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) signature: Arc<Signature>,
    /// Why its arguments cannot be given to a worker.
    pub(super) args_error: Option<String>,
}

/// Reads a body.
///
/// # Errors
/// Why it is no task, for people.
pub(super) fn open(body: &[u8]) -> Result<Opened, String> {
    let decoded = wire::machinery::decode(body).map_err(|e| e.to_string())?;
    Ok(Opened { signature: Arc::new(decoded.signature), args_error: decoded.args_error.map(|e| e.to_string()) })
}

/// Writes a body.
pub(super) fn seal(signature: &Signature) -> Bytes {
    wire::machinery::encode(signature)
}

fn number<T: std::str::FromStr>(signature: &Signature, header: &str) -> Option<T> {
    signature.headers.as_ref()?.get(header)?.as_string()?.parse().ok()
}

/// When the task was sent, unix ns; 0 if a foreign program sent it.
pub(super) fn generation(signature: &Signature) -> u64 {
    number(signature, SENT).unwrap_or(0)
}

/// The join that the task was sent as a part of, here.
pub(super) fn join(signature: &Signature) -> Option<GroupId> {
    let id = signature.headers.as_ref()?.get(JOIN)?.as_string()?;
    (!id.is_empty()).then(|| GroupId::trusted(id))
}

/// Says which join a task belongs to.
pub(super) fn belong(headers: &mut Headers, group: &GroupId) {
    headers.insert(JOIN.into(), RawJson::string(group.as_str()));
}

/// Attempts made under earlier messages.
pub(super) fn attempts_before(signature: &Signature) -> u32 {
    number(signature, ATTEMPTS).unwrap_or(0)
}

/// The longest that anybody may have the final state of a task kept.
pub const RESULT_RETENTION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How long the final state of this task is kept; `None`: as [`super::types::Settings::results_expire_in`] says. What another
/// program wrote beyond the bound is taken at the bound.
pub fn result_retention(signature: &Signature) -> Option<Duration> {
    number(signature, RETENTION).map(|millis| Duration::from_millis(millis).min(RESULT_RETENTION_MAX))
}

/// Says how long the final state is kept.
pub(super) fn retain_result(headers: &mut Headers, retention: Duration) {
    let millis = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
    headers.insert(RETENTION.into(), RawJson::string(&millis.to_string()));
}

/// The longest that an attempt may be given, where it is limited.
pub const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How long one attempt of this task may run; `None`: as long as its worker lives. What another program wrote beyond the
/// bound is taken at the bound.
pub fn attempt_timeout(signature: &Signature) -> Option<Duration> {
    number(signature, TIMEOUT).map(|millis| Duration::from_millis(millis).min(ATTEMPT_TIMEOUT_MAX))
}

/// Says how long one attempt may run.
pub(super) fn limit_attempts(headers: &mut Headers, timeout: Duration) {
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    headers.insert(TIMEOUT.into(), RawJson::string(&millis.to_string()));
}

/// Under what the task was sent.
pub(super) fn parent(signature: &Signature) -> Option<SpanId> {
    SpanId::parse(&signature.headers.as_ref()?.get(PARENT)?.as_string()?)
}

/// Says under what the task is sent.
pub(super) fn mark_parent(headers: &mut Headers, parent: Option<SpanId>) {
    match parent {
        Some(parent) => drop(headers.insert(PARENT.into(), crate::task::RawJson::string(&parent.to_string()))),
        None => drop(headers.remove(PARENT)),
    }
}

/// Marks a task as sent at `generation`, with `attempts` made so far.
pub(super) fn mark(headers: &mut Headers, generation: u64, attempts: u32) {
    headers.insert(SENT.into(), RawJson::string(&generation.to_string()));
    if attempts > 0 {
        headers.insert(ATTEMPTS.into(), RawJson::string(&attempts.to_string()));
    } else {
        headers.remove(ATTEMPTS);
    }
}

/// From when on no attempt of this task begins; `None`: it may be begun whenever it is.
pub(super) fn expires_at(signature: &Signature) -> Option<WallTime> {
    number(signature, EXPIRES).map(WallTime)
}

/// How long after it is sent this task may be begun, as its sender asked; `None`: it may be begun whenever it is.
pub fn expires_in(signature: &Signature) -> Option<Duration> {
    let since_sent = |at: WallTime| WallTime(generation(signature)).until(at);
    expires_at(signature).map(since_sent).or_else(|| number(signature, EXPIRES_IN).map(Duration::from_nanos))
}

/// False if a body certainly has no lifetime: it is not even opened to know that.
pub(super) fn may_expire(body: &[u8]) -> bool {
    body.windows(EXPIRES.len()).any(|part| part == EXPIRES.as_bytes())
}

/// The lifetime of this sending, if it has one.
pub(super) fn lifetime(signature: &Signature) -> Option<Lifetime> {
    let of = |at| Lifetime { at, task: TaskId::trusted(signature.uuid.as_str()), generation: generation(signature) };
    expires_at(signature).map(of)
}

/// Says how long after it is sent a task may be begun.
pub(super) fn expire_in(headers: &mut Headers, span: Duration) {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    headers.insert(EXPIRES_IN.into(), RawJson::string(&nanos.to_string()));
}

/// Begins the lifetime of a task that is sent `now`, if it has one.
pub(super) fn begin_lifetime(headers: &mut Headers, now: WallTime) {
    let span = headers.remove(EXPIRES_IN).and_then(|span| span.as_string()?.parse().ok());
    if let Some(nanos) = span {
        let at = now.plus(Duration::from_nanos(nanos));
        headers.insert(EXPIRES.into(), RawJson::string(&at.0.to_string()));
    }
}

/// Takes the lifetime away: somebody wants the task to run although its time is over.
pub(super) fn end_lifetime(headers: &mut Headers) {
    headers.remove(EXPIRES);
}
