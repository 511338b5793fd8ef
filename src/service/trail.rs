//! What a task went through, told to the log: one line for each step of its life, by ids alone. What a task carries
//! (arguments, results, the text of an error) is none of an operator's business, and never said.

use super::hands::InHand;
use crate::broker::NewTask;
use crate::ledger::{Decision, Lease};
use crate::task::{Signature, TraceContext, TraceId};

/// The trace of a task, where one is known.
fn trace_of(signature: &Signature) -> Option<TraceId> {
    TraceContext::of(signature.headers.as_ref()).map(|context| context.trace)
}

/// A task was sent.
pub(super) fn sent(task: &NewTask) {
    tracing::debug!(task = %task.task, name = %task.name, queue = %task.queue, key = %task.key, "a task was sent");
}

/// A lease is on its way to a worker.
pub(super) fn leased(lease: &Lease, signature: &Signature) {
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
}

/// An attempt has ended in a decision.
pub(super) fn ended(hand: &InHand, decision: &Decision) {
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
}

/// An attempt has ended with its worker.
pub(super) fn lost(lease: &Lease) {
    tracing::info!(
        task = %lease.task,
        name = %lease.name,
        queue = %lease.queue,
        attempt = lease.attempt,
        session = %lease.session,
        lease = %lease.id,
        worker = lease.worker,
        "an attempt was lost with its worker"
    );
}

/// A worker gave an attempt back.
pub(super) fn released(lease: &Lease, signature: &Signature) {
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
}
