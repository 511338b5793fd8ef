//! Messages that are granted to nobody: not to be run, but to be decided at once.
//!
//! Leases of nobody that a crash leaves behind are orphans: they cost no attempt, and their tasks wait again.

use bytes::Bytes;

use super::envelope::{self, Opened};
use crate::clock::WallTime;
use crate::ledger::{Grant, Lease, NOBODY};
use crate::task::{MessageKey, QueueName, SessionId, TaskId, TaskName};

/// Whom cancelling grants to. Not [`NOBODY`]: without a cancel mark nothing is granted.
pub(super) const CANCELLING: &str = "lineshaft-cancel";

/// True for leases that were granted only to be ended.
pub(super) fn is_nobodys(lease: &Lease) -> bool {
    [CANCELLING, NOBODY].contains(&lease.session.as_str())
}

/// A grant of a message that waits to `whom`: [`CANCELLING`] or [`NOBODY`]. `body`: where the broker cannot recall it.
pub(super) fn grant(
    whom: &str,
    message: &MessageKey,
    queue: &QueueName,
    opened: &Opened,
    at: WallTime,
    body: Option<Bytes>,
) -> Grant {
    let signature = &opened.signature;
    Grant {
        message: message.clone(),
        task: TaskId::trusted(signature.uuid.as_str()),
        name: TaskName::trusted(signature.name.as_str()),
        queue: queue.clone(),
        session: SessionId::trusted(whom),
        attach: 0,
        worker: whom.to_owned(),
        request_id: None,
        attempts_before: envelope::attempts_before(signature),
        generation: envelope::generation(signature),
        at,
        body,
    }
}
