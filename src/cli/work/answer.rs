//! What the end of a program means: exit code, stdout and stderr to the outcome of an attempt.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use lineshaft_client::proto;
use serde_json::Value;

use crate::cli::value;

/// `EX_TEMPFAIL` of sysexits.h: the attempt is made again later, at no cost of a retry.
pub const EXIT_LATER: i32 = 75;

/// `EX_DATAERR` of sysexits.h: the task has failed for good, whatever retries are left.
pub const EXIT_FINAL: i32 = 65;

/// The most of stderr that is kept as the error text, bytes: its end.
pub const ERROR_BYTES_MAX: usize = 4 << 10;

/// The longest wait a program may ask for: 30 days, the server's own default bound for delays.
const LATER_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Well, with these results.
    Success(Vec<proto::Arg>),
    /// Not now: again after this long, at no cost of a retry.
    Later {
        /// How long.
        after: Duration,
        /// Why.
        error: String,
    },
    /// Badly; the task's retries decide what comes next.
    Failed(String),
    /// Badly, and another attempt would not help.
    FailedForGood(String),
    /// Not at all: the program was stopped because its lease is gone.
    Stopped,
}

/// Reads the end of a program. `later` is the wait after [`EXIT_LATER`] where the program names none.
pub fn read(status: ExitStatus, stdout: &[u8], stderr: &[u8], later: Duration) -> Outcome {
    match status.code() {
        Some(0) => match results(stdout) {
            Ok(results) => Outcome::Success(results),
            Err(error) => Outcome::Failed(error),
        },
        Some(EXIT_LATER) => Outcome::Later {
            after: asked_delay(stdout).unwrap_or(later),
            error: text(stderr)
                .unwrap_or_else(|| format!("the program asks for a later attempt (exit code {EXIT_LATER})")),
        },
        Some(EXIT_FINAL) => Outcome::FailedForGood(error_text(status, stderr)),
        _ => Outcome::Failed(error_text(status, stderr)),
    }
}

// An array is several results, null or nothing none, any other value one.
fn results(stdout: &[u8]) -> Result<Vec<proto::Arg>, String> {
    let text = std::str::from_utf8(stdout)
        .map_err(|error| format!("stdout is not UTF-8 at byte {}; results are JSON", error.valid_up_to()))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Null) => Ok(Vec::new()),
        Ok(Value::Array(items)) => Ok(items.iter().map(value::from_json).collect()),
        Ok(other) => Ok(vec![value::from_json(&other)]),
        Err(error) => Err(format!("stdout is not one JSON value: {error}")),
    }
}

fn asked_delay(stdout: &[u8]) -> Option<Duration> {
    let asked: Value = serde_json::from_slice(stdout).ok()?;
    let seconds = asked.get("retry_after_seconds")?.as_f64()?;
    // A wait beyond the bound becomes the bound: the task shall wait, and not fail for asking.
    Duration::try_from_secs_f64(seconds).ok().or((seconds > 0.0).then_some(LATER_MAX)).map(|span| span.min(LATER_MAX))
}

fn error_text(status: ExitStatus, stderr: &[u8]) -> String {
    text(stderr).unwrap_or_else(|| match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit code {code} and an empty stderr"),
        (None, Some(signal)) => format!("the program was killed by signal {signal}"),
        (None, None) => "the program ended in an unknown way".to_owned(),
    })
}

fn text(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(tail(stderr)).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

// The last bytes, begun at a character.
fn tail(bytes: &[u8]) -> &[u8] {
    let mut from = bytes.len().saturating_sub(ERROR_BYTES_MAX);
    while from > 0 && bytes.get(from).is_some_and(|byte| byte & 0xc0 == 0x80) {
        from += 1;
    }
    bytes.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LATER: Duration = Duration::from_secs(10);

    fn exited(code: i32, stdout: &str, stderr: &str) -> Outcome {
        read(ExitStatus::from_raw(code << 8), stdout.as_bytes(), stderr.as_bytes(), LATER)
    }

    fn values(outcome: Outcome) -> Vec<Value> {
        match outcome {
            Outcome::Success(results) => results.iter().map(value::to_json).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stdout_of_a_program_that_ended_well_is_its_results() {
        assert_eq!(values(exited(0, "", "a remark")), [] as [Value; 0]);
        assert_eq!(values(exited(0, " \n", "")), [] as [Value; 0]);
        assert_eq!(values(exited(0, "null\n", "")), [] as [Value; 0]);
        assert_eq!(values(exited(0, "3\n", "")), [json!(3)]);
        assert_eq!(values(exited(0, "[1, \"a\", [2, 3]]", "")), [json!(1), json!("a"), json!([2, 3])]);
        assert_eq!(values(exited(0, "{\"a\": 1}", "")), [json!("{\"a\":1}")]);
        assert!(matches!(exited(0, "3 4", ""), Outcome::Failed(error) if error.contains("one JSON value")));
        assert!(matches!(exited(0, "hello", ""), Outcome::Failed(_)));
    }

    #[test]
    fn exit_codes_tell_later_from_never_from_failed() {
        let later = |after, error: &str| Outcome::Later { after, error: error.to_owned() };
        assert_eq!(exited(75, "{\"retry_after_seconds\": 1.5}", "busy"), later(Duration::from_millis(1500), "busy"));
        assert!(matches!(exited(75, "", ""), Outcome::Later { after: LATER, error } if error.contains("75")));
        assert_eq!(exited(75, "{\"retry_after_seconds\": -1}", "x"), later(LATER, "x"));
        assert_eq!(exited(75, "{\"retry_after_seconds\": 1e300}", "x"), later(LATER_MAX, "x"));
        assert_eq!(exited(65, "", "no such user\n"), Outcome::FailedForGood("no such user".into()));
        assert_eq!(exited(1, "3", "boom"), Outcome::Failed("boom".into()));
        assert!(matches!(exited(3, "", ""), Outcome::Failed(error) if error.contains("exit code 3")));
        let killed = read(ExitStatus::from_raw(9), b"", b"", LATER);
        assert_eq!(killed, Outcome::Failed("the program was killed by signal 9".into()));
    }

    #[test]
    fn of_a_long_stderr_the_end_is_kept_at_a_character() {
        let long = "é".repeat(ERROR_BYTES_MAX) + "x";
        match exited(1, "", &long) {
            Outcome::Failed(error) => {
                assert!(error.len() <= ERROR_BYTES_MAX && error.ends_with("éx") && error.starts_with('é'));
            }
            other => panic!("{other:?}"),
        }
    }
}
