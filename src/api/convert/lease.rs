//! Leases.

use lineshaft_client::proto;

use super::{arg, task, time};
use crate::ledger::Verdict;
use crate::service::attempt_timeout;
use crate::service::types::{Granted, LeaseView, Revoked};
use crate::task::{LeaseId, TRACEPARENT};

/// The lease that a text names; `None`: it names none that was ever granted.
///
/// Only the form that we write is taken, so that a lease has one name wherever it is echoed.
pub(in crate::api) fn id(text: &str) -> Option<LeaseId> {
    let (token, _) = text.split_once('-')?;
    let ours = !token.starts_with('0') && token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if ours { text.parse().ok() } else { None }
}

/// A lease on its way to a worker. Callbacks stay here.
pub(in crate::api) fn granted(lease: &Granted) -> proto::Lease {
    let signature = &lease.signature;
    let mut headers = task::shown_headers(signature.headers.as_ref());
    if let Some(context) = lease.trace {
        let kind = Some(proto::value::Kind::StringValue(context.to_string()));
        headers.insert(TRACEPARENT.to_owned(), proto::Value { kind });
    }
    proto::Lease {
        lease_id: lease.id.to_string(),
        fencing_token: lease.id.token.0,
        attempt: lease.attempt,
        task_id: signature.uuid.clone(),
        name: signature.name.clone(),
        queue: lease.queue.to_string(),
        args: signature.args.iter().flatten().map(arg::to_proto).collect(),
        headers,
        retries_left: u32::try_from(signature.retry_count.max(0)).unwrap_or(u32::MAX),
        sent_at: lease.sent_at.and_then(time::wall),
        group_id: signature.group_uuid.clone(),
        timeout: attempt_timeout(signature).map(time::to_duration),
    }
}

/// A lease as an operator sees it.
pub(in crate::api) fn info(view: LeaseView) -> proto::LeaseInfo {
    let LeaseView { lease, accepted, started, progress } = view;
    let (progress, progress_message) = progress.unwrap_or_default();
    proto::LeaseInfo {
        lease_id: lease.id.to_string(),
        fencing_token: lease.id.token.0,
        task_id: lease.task.to_string(),
        task_name: lease.name.to_string(),
        queue: lease.queue.to_string(),
        attempt: lease.attempt,
        session_id: lease.session.to_string(),
        worker: lease.worker,
        leased_at: time::wall(lease.at),
        accepted,
        started,
        progress,
        progress_message,
    }
}

/// A verdict; `None` is "report again".
pub(in crate::api) fn verdict(verdict: Option<Verdict>) -> proto::ReportVerdict {
    match verdict {
        None => proto::ReportVerdict::Unspecified,
        Some(Verdict::Recorded) => proto::ReportVerdict::Recorded,
        Some(Verdict::Duplicate) => proto::ReportVerdict::Duplicate,
        Some(Verdict::Superseded) => proto::ReportVerdict::Superseded,
        Some(Verdict::Conflict) => proto::ReportVerdict::Conflict,
    }
}

/// Why a lease was revoked.
pub(in crate::api) fn revoked(reason: Revoked) -> proto::RevokeReason {
    match reason {
        Revoked::Expired => proto::RevokeReason::Expired,
        Revoked::Unknown => proto::RevokeReason::Unknown,
        Revoked::Cancelled => proto::RevokeReason::Cancelled,
        Revoked::TimedOut => proto::RevokeReason::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{FencingToken, MessageKey};

    #[test]
    fn a_lease_has_one_name() {
        let lease = LeaseId { message: MessageKey::generate(), token: FencingToken(0xabc0) };
        let name = lease.to_string();
        assert_eq!(id(&name), Some(lease));
        for other in
            [format!("0{name}"), format!("+{name}"), name.to_uppercase(), String::new(), "-".into(), "x".into()]
        {
            assert_eq!(id(&other), None, "{other:?}");
        }
    }
}
