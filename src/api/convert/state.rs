//! Task states.

use lineshaft_client::proto;

use super::{arg, time};
use crate::service::types::CancelAnswer;
use crate::task::{FailureReason, Status, TaskState};

/// As the protocol has it.
pub(in crate::api) fn to_proto(state: &TaskState) -> proto::TaskState {
    let results = state.results.iter().flatten().map(arg::to_proto).collect();
    proto::TaskState {
        task_id: state.task_id.to_string(),
        task_name: state.task_name.clone(),
        status: status(state.status).into(),
        results,
        error: state.error.clone(),
        failure_reason: reason(state).into(),
        attempt: state.attempt,
        created_at: time::to_timestamp(state.created_at),
        updated_at: time::to_timestamp(state.updated_at),
    }
}

/// A task that is not known, in a list of states.
pub(in crate::api) fn unknown(task_id: String) -> proto::TaskState {
    proto::TaskState { task_id, ..Default::default() }
}

/// What cancelling a task came to.
pub(in crate::api) fn cancelled(answer: CancelAnswer) -> proto::CancelResult {
    match answer {
        CancelAnswer::Removed => proto::CancelResult::Removed,
        CancelAnswer::Marked => proto::CancelResult::Marked,
        CancelAnswer::Signalled => proto::CancelResult::Signalled,
        CancelAnswer::Ended => proto::CancelResult::Ended,
    }
}

/// Where a task stands, as the protocol has it.
pub(in crate::api) fn status(status: Status) -> proto::TaskStatus {
    match status {
        Status::Pending => proto::TaskStatus::Pending,
        Status::Received => proto::TaskStatus::Received,
        Status::Started => proto::TaskStatus::Started,
        Status::Retry => proto::TaskStatus::Retry,
        Status::Success => proto::TaskStatus::Success,
        Status::Failure => proto::TaskStatus::Failure,
    }
}

fn reason(state: &TaskState) -> proto::FailureReason {
    if state.status != Status::Failure {
        return proto::FailureReason::Unspecified;
    }
    failure_reason(state.reason)
}

/// Why a task failed, as the protocol has it.
pub(in crate::api) fn failure_reason(reason: FailureReason) -> proto::FailureReason {
    match reason {
        FailureReason::Unknown => proto::FailureReason::Unspecified,
        FailureReason::Failed => proto::FailureReason::Failed,
        FailureReason::WorkerLost => proto::FailureReason::WorkerLost,
        FailureReason::ResultTooLarge => proto::FailureReason::ResultTooLarge,
        FailureReason::Poison => proto::FailureReason::Poison,
        FailureReason::Cancelled => proto::FailureReason::Cancelled,
        FailureReason::Purged => proto::FailureReason::Purged,
        FailureReason::Expired => proto::FailureReason::Expired,
        FailureReason::TimedOut => proto::FailureReason::TimedOut,
        FailureReason::NotRun => proto::FailureReason::NotRun,
    }
}
