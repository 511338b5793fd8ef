//! The only mapping from [`Error`] to a gRPC status, with the details that make it a contract: `ErrorInfo` always,
//! `BadRequest` where a field is at fault, `RetryInfo` where calling again helps.

use std::collections::HashMap;
use std::time::Duration;

use lineshaft_client::proto::{self, ErrorReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Error, StoreError};

/// The domain of every [`ErrorInfo`](tonic_types::ErrorInfo).
pub const DOMAIN: &str = "lineshaft.v1";

/// A store that cannot be reached, or a server that stops, is asked again after this long.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// A store that is full is asked again after this long. Room is made by people, or by expiry, and takes longer; but a worker
/// that cannot come back to its session asks too, and must be there within its lease time once there is room.
const RETRY_FULL: Duration = Duration::from_secs(1);

/// Longest text in a status, bytes. Texts quote what the client sent; statuses travel in headers, for which clients
/// commonly allow 8 KiB in all, and percent-encoding may treble a text.
const TEXT_BYTES_MAX: usize = 600;

/// What a status says, before it is encoded.
struct Parts {
    code: Code,
    reason: ErrorReason,
    field: String,
    metadata: HashMap<String, String>,
    retry: Option<Duration>,
}

impl Parts {
    fn new(code: Code, reason: ErrorReason) -> Self {
        Self { code, reason, field: String::new(), metadata: HashMap::new(), retry: None }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Invalid { field, .. } => Self::new(Code::InvalidArgument, ErrorReason::TaskInvalid).field(field),
            Error::LimitExceeded { field, limit, actual, unit } => {
                Self::new(Code::InvalidArgument, ErrorReason::LimitExceeded)
                    .field(field)
                    .with("limit", limit)
                    .with("actual", actual)
                    .with("unit", unit)
            }
            Error::TaskUnknown(_) => Self::new(Code::NotFound, ErrorReason::TaskUnknown),
            Error::GroupUnknown(_) => Self::new(Code::NotFound, ErrorReason::GroupUnknown),
            Error::GroupExists(_) => Self::new(Code::AlreadyExists, ErrorReason::GroupExists).field("group_id"),
            Error::QueueUnknown(_) => Self::new(Code::NotFound, ErrorReason::QueueUnknown),
            Error::SessionLost => Self::new(Code::FailedPrecondition, ErrorReason::LeaseLost),
            Error::Protocol(_) => Self::new(Code::FailedPrecondition, ErrorReason::ProtocolViolated),
            Error::CapabilityMissing { combination, capability } => {
                Self::new(Code::Unimplemented, ErrorReason::CapabilityMissing)
                    .with("combination", combination)
                    .with("capability", capability)
            }
            Error::QueueFull { retry_after, .. } => {
                Self::new(Code::ResourceExhausted, ErrorReason::QueueFull).retry(*retry_after)
            }
            Error::SlowConsumer => Self::new(Code::ResourceExhausted, ErrorReason::SlowConsumer),
            Error::Draining => Self::new(Code::Unavailable, ErrorReason::Draining).retry(RETRY_SOON),
            Error::RequestIdReused { field } => {
                Self::new(Code::InvalidArgument, ErrorReason::RequestIdReused).field(field)
            }
            Error::Unconfirmed(_) => Self::new(Code::Unavailable, ErrorReason::OutcomeUnknown).retry(RETRY_SOON),
            Error::Store(store) => Self::of_store(store),
            Error::Invariant(_) => Self::new(Code::Internal, ErrorReason::InvariantBroken),
        }
    }

    fn of_store(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => {
                Self::new(Code::Unavailable, ErrorReason::BrokerUnavailable).retry(RETRY_SOON)
            }
            StoreError::Full { .. } => Self::new(Code::ResourceExhausted, ErrorReason::StoreFull).retry(RETRY_FULL),
            StoreError::OutcomeUnknown { .. } => Self::new(Code::Unknown, ErrorReason::OutcomeUnknown),
            StoreError::Position => Self::new(Code::InvalidArgument, ErrorReason::TaskInvalid).field("page_token"),
            StoreError::Corrupt { .. } => Self::new(Code::DataLoss, ErrorReason::RecordCorrupt),
            // Receipts never leave the server, so no caller can hold a void one.
            StoreError::Stale => Self::new(Code::Internal, ErrorReason::InvariantBroken),
        }
    }

    fn field(mut self, path: &str) -> Self {
        self.field = cut(path).to_owned();
        let field = self.field.clone();
        self.with("field", &field)
    }

    fn with(mut self, key: &str, value: &(impl ToString + ?Sized)) -> Self {
        let value = value.to_string();
        self.metadata.insert(key.to_owned(), cut(&value).to_owned());
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    fn into_status(self, text: &str) -> Status {
        let text = cut(text);
        let mut details = ErrorDetails::with_error_info(name(self.reason), DOMAIN, self.metadata);
        if !self.field.is_empty() {
            // The text of an error begins with its path, which `BadRequest` has apart.
            let why = text.strip_prefix(self.field.as_str()).and_then(|t| t.strip_prefix(": ")).unwrap_or(text);
            details.add_bad_request_violation(self.field, why);
        }
        if self.retry.is_some() {
            details.set_retry_info(self.retry);
        }
        Status::with_error_details(self.code, text, details)
    }
}

/// The contract's name of a reason: that of the enum without its prefix.
pub fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The first [`TEXT_BYTES_MAX`] bytes of a text, whole characters only.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let parts = Parts::of(&error);
        if matches!(parts.code, Code::Internal | Code::DataLoss) {
            // The caller can do nothing about these: the log is where someone will look.
            tracing::error!(reason = name(parts.reason), %error, "a call failed by our fault");
        }
        parts.into_status(&error.to_string())
    }
}

/// The error of one item of a batch: what the status of the single call would say.
pub(super) fn item(error: &Error) -> proto::ItemError {
    let parts = Parts::of(error);
    proto::ItemError {
        code: parts.code as i32,
        reason: name(parts.reason).to_owned(),
        message: cut(&error.to_string()).to_owned(),
        field: parts.field,
        retry_delay: parts.retry.map(super::convert::time::to_duration),
    }
}

/// Bytes that are not the message of this method.
pub(super) fn malformed(why: &str) -> Status {
    Parts::new(Code::InvalidArgument, ErrorReason::MessageMalformed).into_status(why)
}

/// The other side went away, or is taken to have.
pub(super) fn cancelled(why: &str) -> Status {
    Parts::new(Code::Cancelled, ErrorReason::Cancelled).into_status(why)
}

/// The caller's own deadline passed.
pub(super) fn deadline_exceeded() -> Status {
    Parts::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded).into_status("the caller's deadline passed first")
}

/// No such method.
pub(super) fn method_unknown(path: &str) -> Status {
    Parts::new(Code::Unimplemented, ErrorReason::MethodUnknown)
        .with("method", path)
        .into_status(&format!("no method {:?} here", cut(path)))
}

/// True for a status of ours, which has its details already.
pub(super) fn is_detailed(status: &Status) -> bool {
    !status.details().is_empty()
}

/// A status that tonic or a service of its family made, put into our words. `path` is the method that was called.
///
/// tonic tells its cases apart only by code and text; the tests of [`super::layer`] go through a real socket, so a text
/// that changes with a new version is noticed there.
pub(super) fn of_transport(status: &Status, path: &str, message_bytes_max: usize) -> Status {
    if is_detailed(status) {
        return status.clone();
    }
    let text = status.message();
    let too_large = || {
        // Of a message that was refused unread only tonic's text knows the size.
        let actual = text.split_once("found ").and_then(|(_, t)| t.split(' ').next()).and_then(|n| n.parse().ok());
        Status::from(Error::LimitExceeded {
            field: "message".to_owned(),
            limit: message_bytes_max as u64,
            actual: actual.unwrap_or(message_bytes_max as u64 + 1),
            unit: "bytes",
        })
    };
    match status.code() {
        Code::OutOfRange if text.contains("decoded message length too large") => too_large(),
        Code::ResourceExhausted if text.contains("exceeded while decompressing") => too_large(),
        Code::Internal
            if ["protocol error", "Unexpected EOF", "Missing request message", "Error decompressing"]
                .iter()
                .any(|t| text.contains(t)) =>
        {
            malformed(text)
        }
        Code::Unimplemented if text.contains("compressed") => {
            Parts::new(Code::Unimplemented, ErrorReason::CapabilityMissing)
                .with("combination", "grpc")
                .with("capability", "compression")
                .into_status(text)
        }
        Code::Unimplemented => method_unknown(path),
        Code::Cancelled => cancelled(if text.is_empty() { "the call was cancelled" } else { text }),
        Code::DeadlineExceeded => deadline_exceeded(),
        Code::NotFound => {
            let text = if text.is_empty() { "nothing of that name is here" } else { text };
            Parts::new(Code::NotFound, ErrorReason::ServiceUnknown).into_status(text)
        }
        Code::InvalidArgument => malformed(text),
        code => {
            // Nobody reads the answer to a call whose connection broke, which ends here too: no more than a word.
            tracing::debug!(path, %status, "a status without details left the transport");
            Parts::new(code, ErrorReason::InvariantBroken).into_status(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: Error) -> (Code, String, ErrorDetails) {
        let status = Status::from(error);
        let details = status.get_error_details();
        (status.code(), details.error_info().map(|i| i.reason.clone()).unwrap_or_default(), details)
    }

    #[test]
    fn an_invalid_field_is_named_with_its_path_and_what_is_wrong() {
        let error =
            Error::invalid("values[7]", "300 is out of range for int8").within("args[2].int64_list").within("task");
        let (code, reason, details) = told(error);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "TASK_INVALID"));
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "task.args[2].int64_list.values[7]");
        assert_eq!(violation.description, "300 is out of range for int8");
        assert_eq!(details.error_info().unwrap().domain, DOMAIN);
    }

    #[test]
    fn a_limit_is_told_by_name_number_and_unit() {
        let error = Error::LimitExceeded { field: "tasks".into(), limit: 1000, actual: 1001, unit: "items" };
        let (code, reason, details) = told(error);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "LIMIT_EXCEEDED"));
        let metadata = &details.error_info().unwrap().metadata;
        let pair = |k: &str| metadata.get(k).map(String::as_str);
        assert_eq!((pair("field"), pair("limit"), pair("unit")), (Some("tasks"), Some("1000"), Some("items")));
    }

    #[test]
    fn every_error_has_a_reason_and_those_worth_repeating_a_delay() {
        let why = || "w".to_owned();
        let cases = [
            (Error::TaskUnknown("t".into()), Code::NotFound, "TASK_UNKNOWN", false),
            (Error::QueueUnknown("q".into()), Code::NotFound, "QUEUE_UNKNOWN", false),
            (Error::SessionLost, Code::FailedPrecondition, "LEASE_LOST", false),
            (Error::Protocol("p"), Code::FailedPrecondition, "PROTOCOL_VIOLATED", false),
            (
                Error::CapabilityMissing { combination: "x".into(), capability: "y" },
                Code::Unimplemented,
                "CAPABILITY_MISSING",
                false,
            ),
            (Error::QueueFull { what: "q", retry_after: RETRY_SOON }, Code::ResourceExhausted, "QUEUE_FULL", true),
            (Error::SlowConsumer, Code::ResourceExhausted, "SLOW_CONSUMER", false),
            (Error::Draining, Code::Unavailable, "DRAINING", true),
            (StoreError::Unavailable { store: "s", why: why() }.into(), Code::Unavailable, "BROKER_UNAVAILABLE", true),
            (StoreError::Full { store: "s", why: why() }.into(), Code::ResourceExhausted, "STORE_FULL", true),
            (StoreError::OutcomeUnknown { store: "s", why: why() }.into(), Code::Unknown, "OUTCOME_UNKNOWN", false),
            (
                Error::Unconfirmed(StoreError::OutcomeUnknown { store: "s", why: why() }),
                Code::Unavailable,
                "OUTCOME_UNKNOWN",
                true,
            ),
            (Error::RequestIdReused { field: "request_id".into() }, Code::InvalidArgument, "REQUEST_ID_REUSED", false),
            (StoreError::Position.into(), Code::InvalidArgument, "TASK_INVALID", false),
            (StoreError::Corrupt { store: "s", why: why() }.into(), Code::DataLoss, "RECORD_CORRUPT", false),
            (StoreError::Stale.into(), Code::Internal, "INVARIANT_BROKEN", false),
            (Error::Invariant(why()), Code::Internal, "INVARIANT_BROKEN", false),
        ];
        for (error, code, reason, retries) in cases {
            let text = error.to_string();
            let as_item = item(&error);
            let (got_code, got_reason, details) = told(error);
            assert_eq!((got_code, got_reason.as_str()), (code, reason), "{text}");
            assert_eq!(details.retry_info().is_some(), retries, "{text}");
            assert_eq!((as_item.code, as_item.reason.as_str()), (code as i32, reason), "{text}");
            assert_eq!(as_item.retry_delay.is_some(), retries, "{text}");
        }
    }

    #[test]
    fn what_a_client_sent_never_makes_a_status_too_large_for_headers() {
        let huge = "é".repeat(1 << 20);
        let status = Status::from(Error::invalid(format!("task.headers[{huge:?}]"), &huge));
        assert!(status.message().len() <= TEXT_BYTES_MAX);
        assert!(status.details().len() < 4096, "{}", status.details().len());
    }
}
