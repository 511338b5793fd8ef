//! What can go wrong for a caller: what happened, whether it was done, what to do next.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt;

use crate::producer::async_result::TaskError;
use crate::proto::{ErrorReason, ItemError};
use crate::value::ValueError;

/// A failure of a call, of the configuration, or of the task that was waited for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the call, or one item of a batch.
    #[error("{}: {message}", code_name(*code))]
    Refused {
        /// The gRPC code.
        code: Code,
        /// Why; the contract, where the text may change. [`ErrorReason::Unspecified`]: not said, or not known here.
        reason: ErrorReason,
        /// For people.
        message: String,
        /// The path of the field at fault, as `task.args[2].value`.
        field: Option<String>,
        /// How long to wait before the same call.
        retry_delay: Option<Duration>,
    },
    /// No connection could be made: nothing was sent.
    #[error("cannot connect: {message}")]
    Connect {
        /// What the transport said, with the address.
        message: String,
    },
    /// The connection broke under way: a send may or may not have been done.
    #[error("the connection broke: {message}")]
    Broken {
        /// What the transport said.
        message: String,
    },
    /// The caller's own timeout passed; the task goes on.
    #[error("the task {task_id:?} has not ended within {timeout:?}")]
    Timeout {
        /// The task waited for.
        task_id: String,
        /// The timeout given.
        timeout: Duration,
    },
    /// The caller's own timeout passed; the tasks of the group, chord or chain go on.
    #[error("the group {group_id:?} has not ended within {timeout:?}")]
    GroupTimeout {
        /// The group waited for.
        group_id: String,
        /// The timeout given.
        timeout: Duration,
    },
    /// The task that was waited for ended in FAILURE.
    #[error(transparent)]
    TaskFailed(#[from] TaskError),
    /// The results of a task are not of the types asked for.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The configuration cannot work: a malformed address, a name registered twice.
    #[error("{0}")]
    Config(String),
    /// The client was closed, or its runtime is shutting down.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// The reason the server gave; none if the failure did not come from a server.
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// The gRPC code; none if the failure has none.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Connect { .. } | Self::Broken { .. } => Some(Code::Unavailable),
            _ => None,
        }
    }

    /// The path of the field at fault in the request, where the server named one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Refused { field, .. } => field.as_deref(),
            _ => None,
        }
    }

    /// How long the server asks to wait before the same call.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_delay, .. } => *retry_delay,
            _ => None,
        }
    }

    /// Whether nothing was done and the same call may succeed later.
    ///
    /// False where a send may have been done ([`Error::Broken`], OUTCOME_UNKNOWN): repeat it with the same
    /// [`Task::request_id`](crate::Task::request_id), or look with [`AsyncResult::state`](crate::AsyncResult::state) first.
    /// Reads can always be repeated.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Refused { reason, .. } => {
                matches!(reason, ErrorReason::QueueFull | ErrorReason::BrokerUnavailable | ErrorReason::Draining)
            }
            _ => false,
        }
    }

    /// Whether a send may have been done, and is done once if it is repeated under its request id.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        let is_told = self.reason() == Some(ErrorReason::OutcomeUnknown) && self.code() == Some(Code::Unavailable);
        is_told || matches!(self, Self::Broken { .. })
    }

    /// Whether another address may do better at once.
    pub(crate) fn is_of_this_server(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Broken { .. }) || self.reason() == Some(ErrorReason::Draining)
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        if details.error_info().is_none() && status.source().is_some() {
            return from_transport(&status);
        }
        Self::Refused {
            code: status.code(),
            reason: details.error_info().map_or(ErrorReason::Unspecified, |info| reason_of(&info.reason)),
            message: status.message().to_owned(),
            field: details
                .bad_request()
                .and_then(|bad| bad.field_violations.first())
                .map(|violation| violation.field.clone()),
            retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

impl From<ItemError> for Error {
    fn from(item: ItemError) -> Self {
        Self::Refused {
            code: Code::from_i32(item.code),
            reason: reason_of(&item.reason),
            message: item.message,
            field: (!item.field.is_empty()).then_some(item.field),
            retry_delay: item.retry_delay.and_then(|delay| delay.try_into().ok()),
        }
    }
}

/// A status that tonic made itself out of a failure of the connection.
fn from_transport(status: &tonic::Status) -> Error {
    let mut texts = Vec::new();
    let mut is_connect = false;
    let mut next = status.source();
    while let Some(error) = next {
        is_connect |= error.is::<tonic::ConnectError>();
        let text = error.to_string();
        // Wrappers often repeat what they wrap.
        if !texts.contains(&text) {
            texts.push(text);
        }
        next = error.source();
    }
    let message = texts.join(": ");
    if is_connect { Error::Connect { message } } else { Error::Broken { message } }
}

/// The reason of that name without its prefix; unspecified if this version does not know it.
fn reason_of(name: &str) -> ErrorReason {
    ErrorReason::from_str_name(&format!("ERROR_REASON_{name}")).unwrap_or(ErrorReason::Unspecified)
}

fn code_name(code: Code) -> String {
    format!("{code:?}")
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_keeps_reason_field_and_delay() {
        let mut details = ErrorDetails::new();
        details.set_error_info("BROKER_UNAVAILABLE", "lineshaft.v1", []);
        details.add_bad_request_violation("task.args[2].value", "too large");
        details.set_retry_info(Some(Duration::from_millis(1500)));
        let status = tonic::Status::with_error_details(Code::Unavailable, "away", details);
        let error = Error::from(status);
        assert_eq!(error.reason(), Some(ErrorReason::BrokerUnavailable));
        assert_eq!(error.code(), Some(Code::Unavailable));
        assert_eq!(error.field(), Some("task.args[2].value"));
        assert_eq!(error.retry_delay(), Some(Duration::from_millis(1500)));
        assert!(error.is_retryable());
    }

    #[test]
    fn an_item_error_reads_as_the_status_would() {
        let error = Error::from(ItemError {
            code: Code::InvalidArgument as i32,
            reason: "TASK_INVALID".into(),
            message: "name: empty".into(),
            field: "name".into(),
            retry_delay: None,
        });
        assert_eq!(error.reason(), Some(ErrorReason::TaskInvalid));
        assert_eq!(error.field(), Some("name"));
        assert!(!error.is_retryable());
    }

    #[test]
    fn an_unknown_reason_of_a_newer_server_is_unspecified() {
        let error = Error::from(ItemError { code: 8, reason: "FROM_THE_FUTURE".into(), ..ItemError::default() });
        assert_eq!(error.reason(), Some(ErrorReason::Unspecified));
        assert_eq!(error.code(), Some(Code::ResourceExhausted));
    }
}
