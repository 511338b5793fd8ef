//! A command that did not do what it was asked: one sentence on stderr, with the reason and the field at fault.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use tonic::Code;
use tonic_types::StatusExt;

use super::Exit;

/// Why a command ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code to end with.
    pub exit: Exit,
    /// What happened: lower case, no full stop.
    pub message: String,
    /// The `ErrorReason` without its prefix, if a server refused.
    pub reason: Option<String>,
    /// The path of the field at fault in the request, if the server named one.
    pub field: Option<String>,
    /// When the server wants the same call again.
    pub retry_after: Option<Duration>,
    /// True if it is not the server's word: its answer did not arrive.
    pub is_transport: bool,
}

impl Failure {
    /// A failure of this program's own, not of a server.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), reason: None, field: None, retry_after: None, is_transport: false }
    }

    /// Something on the command line has no valid meaning.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// True if the same call may succeed later, and repeating it does no harm where the call only reads: the server is
    /// away or busy, or the connection broke before its answer came.
    pub fn is_passing(&self) -> bool {
        self.exit == Exit::Unavailable || self.is_transport
    }

    /// The failure as one JSON object under `error`, for `--json`.
    pub fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("message".into(), self.message.clone().into());
        error.insert("exit_code".into(), self.exit.number().into());
        if let Some(reason) = &self.reason {
            error.insert("reason".into(), reason.clone().into());
        }
        if let Some(field) = &self.field {
            error.insert("field".into(), field.clone().into());
        }
        if let Some(delay) = self.retry_after {
            error.insert("retry_after_seconds".into(), super::output::seconds(delay));
        }
        Value::Object(Map::from_iter([("error".to_owned(), Value::Object(error))]))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let notes: Vec<String> = [
            self.reason.clone(),
            // The server's text often begins with the path already.
            self.field.as_ref().filter(|path| !self.message.contains(*path)).map(|path| format!("field {path}")),
            self.retry_after.map(|delay| format!("try again in {}", super::span::human(delay))),
        ]
        .into_iter()
        .flatten()
        .collect();
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join(", ")) }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).filter(|reason| !reason.is_empty());
        // Every status of a server carries an ErrorInfo, so one without was made on this side of the connection.
        let is_transport = reason.is_none() && !matches!(status.code(), Code::Unavailable | Code::Unimplemented);
        let exit = match status.code() {
            // tonic's own time-out is CANCELLED.
            Code::Cancelled if is_transport => Exit::TimedOut,
            code => exit_of(code),
        };
        let message = match status.message() {
            _ if is_transport && exit == Exit::TimedOut => "the server has not answered in time".to_owned(),
            text if is_transport => format!("the connection broke before the server's answer came: {text}"),
            "" => format!("the server answered {:?} without a text", status.code()),
            text => text.to_owned(),
        };
        let field = details
            .bad_request()
            .and_then(|bad| bad.field_violations.first())
            .map(|violation| violation.field.clone())
            .filter(|path| !path.is_empty());
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        Self { exit, message, reason, field, retry_after, is_transport }
    }
}

impl From<lineshaft_client::Error> for Failure {
    fn from(error: lineshaft_client::Error) -> Self {
        use lineshaft_client::Error;
        let exit = match &error {
            Error::Config(_) => Exit::Usage,
            Error::TaskFailed(_) => Exit::TaskFailed,
            Error::Timeout { .. } | Error::GroupTimeout { .. } => Exit::TimedOut,
            Error::Connect { .. } => Exit::Unavailable,
            other => other.code().map_or(Exit::Other, exit_of),
        };
        let reason = error.reason().map(|reason| reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned());
        Self {
            reason,
            field: error.field().map(str::to_owned),
            retry_after: error.retry_delay(),
            is_transport: matches!(error, Error::Broken { .. }),
            ..Self::new(exit, error.to_string())
        }
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::Unavailable | Code::ResourceExhausted => Exit::Unavailable,
        _ => Exit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_is_one_sentence_with_reason_and_field() {
        let mut details = ErrorDetails::new();
        details.set_error_info("TASK_INVALID", "lineshaft.v1", std::collections::HashMap::new());
        details.add_bad_request_violation("task.args[2]", "no");
        let status = tonic::Status::with_error_details(Code::InvalidArgument, "300 is out of range for int8", details);
        let failure = Failure::from(status);
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.to_string(), "300 is out of range for int8 (TASK_INVALID, field task.args[2])");
        assert_eq!(failure.to_json()["error"]["field"], "task.args[2]");
    }

    #[test]
    fn an_answer_that_never_came_is_told_from_a_refusal() {
        let late = Failure::from(tonic::Status::cancelled("Timeout expired"));
        assert_eq!((late.exit, late.is_passing()), (Exit::TimedOut, true));
        assert_eq!(late.to_string(), "the server has not answered in time");
        let broken = Failure::from(tonic::Status::unknown("transport error"));
        assert_eq!((broken.exit, broken.is_passing()), (Exit::Other, true));
        let refused = Failure::from(tonic::Status::unavailable("tcp connect error"));
        assert_eq!((refused.exit, refused.is_passing()), (Exit::Unavailable, true));
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let mut details = ErrorDetails::new();
        details.set_error_info("DRAINING", "lineshaft.v1", std::collections::HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = tonic::Status::with_error_details(Code::Unavailable, "this server is stopping", details);
        let failure = Failure::from(status);
        assert!(failure.is_passing());
        assert_eq!(failure.to_string(), "this server is stopping (DRAINING, try again in 2 s)");
    }

    #[test]
    fn a_failure_is_as_its_schema_says_with_all_it_may_have_and_with_the_least() {
        let schema = serde_json::from_str(include_str!("../docs/schemas/error.json")).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let least = Failure::new(Exit::Other, "no luck");
        let most = Failure {
            reason: Some("TASK_INVALID".into()),
            field: Some("task.name".into()),
            retry_after: Some(Duration::from_millis(500)),
            ..least.clone()
        };
        for (failure, members) in [(least, 2), (most, 5)] {
            let object = failure.to_json();
            let wrong: Vec<String> = schema.iter_errors(&object).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{object}: {wrong:?}");
            assert_eq!(object["error"].as_object().unwrap().len(), members);
        }
    }
}
