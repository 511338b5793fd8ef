//! Reports: how attempts ended.
//!
//! A report that names a lease is never refused for what it says: the attempt would then have no end, and a client that
//! repeats its report would repeat the refusal for ever. What breaks a rule becomes a final failure that names the field;
//! durations are taken at their nearest bound.

use std::time::Duration;

use lineshaft_client::proto;

use super::{arg, lease, limit, time};
use crate::error::Error;
use crate::service::types::{Outcome, Report, Settings};

/// Longest `Report.report_id`, bytes.
const ID_BYTES_MAX: usize = 100;

/// Longest `Failure.error`, bytes; the rest is cut.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// A report, or what was reported under a name that is no lease's: always superseded.
pub(in crate::api) type Read = Result<Report, Unnamed>;

/// A report whose lease was never granted by anyone.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct Unnamed {
    /// As in the report.
    pub(in crate::api) report_id: String,
    /// As in the report.
    pub(in crate::api) lease_id: String,
}

impl Unnamed {
    /// The answer.
    pub(in crate::api) fn ack(self) -> proto::ReportAck {
        let verdict = proto::ReportVerdict::Superseded.into();
        proto::ReportAck { report_id: self.report_id, lease_id: self.lease_id, verdict }
    }
}

/// Reads the reports of a list called `field`.
///
/// # Errors
/// Too many, or an id that is too long.
pub(in crate::api) fn list(field: &str, reports: Vec<proto::Report>, settings: &Settings) -> Result<Vec<Read>, Error> {
    limit::count(field, reports.len(), settings.reports_max, "reports")?;
    let one = |(i, report)| read(report, settings).map_err(|e| e.within(&format!("{field}[{i}]")));
    reports.into_iter().enumerate().map(one).collect()
}

/// Reads one report.
///
/// # Errors
/// An id that is too long.
pub(in crate::api) fn read(report: proto::Report, settings: &Settings) -> Result<Read, Error> {
    limit::at_most("report_id", report.report_id.len(), ID_BYTES_MAX, "bytes")?;
    let Some(lease) = lease::id(&report.lease_id) else {
        // Echoed whole: no longer than the message it came in.
        return Ok(Err(Unnamed { report_id: report.report_id, lease_id: report.lease_id }));
    };
    let id = (!report.report_id.is_empty()).then_some(report.report_id);
    Ok(Ok(Report { id, lease, outcome: outcome(report.outcome, settings) }))
}

fn outcome(outcome: Option<proto::report::Outcome>, settings: &Settings) -> Outcome {
    use proto::report::Outcome as Proto;
    match outcome {
        Some(Proto::Success(success)) => match results(success.results, settings) {
            Ok(results) => Outcome::Success(results),
            Err(error) => broken(&error),
        },
        Some(Proto::Failure(failure)) => Outcome::Failure {
            retry_after: failure
                .retry_after
                .filter(|_| !failure.r#final)
                .map(|after| time::nearest(&after, settings.delay_max)),
            is_final: failure.r#final,
            error: match failure.error.is_empty() {
                true => "the worker gave no error text".to_owned(),
                false => limit::cut(failure.error, ERROR_BYTES_MAX),
            },
        },
        Some(Proto::Release(release)) => Outcome::Release {
            delay: release.delay.map_or(Duration::ZERO, |delay| time::nearest(&delay, settings.delay_max)),
        },
        None => broken(&Error::invalid("outcome", "is required; this server knows success, failure and release")),
    }
}

fn results(results: Vec<proto::Arg>, settings: &Settings) -> Result<Vec<crate::task::Arg>, Error> {
    limit::at_most("results", results.len(), settings.args_max, "results")?;
    arg::list("results", results)
}

// Final, since another attempt of the same worker would report the same.
fn broken(error: &Error) -> Outcome {
    Outcome::Failure { error: format!("the worker's report was not valid: {error}"), is_final: true, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{FencingToken, LeaseId, MessageKey};
    use proto::report::Outcome as Proto;

    fn told(outcome: Option<Proto>) -> Outcome {
        let lease = LeaseId { message: MessageKey::generate(), token: FencingToken(7) };
        let report = proto::Report { report_id: String::new(), lease_id: lease.to_string(), outcome };
        let read = read(report, &Settings::default()).unwrap().unwrap();
        assert_eq!((read.lease, read.id), (lease, None));
        read.outcome
    }

    fn ended_by(outcome: Outcome) -> String {
        match outcome {
            Outcome::Failure { error, is_final: true, retry_after: None } => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_result_that_is_no_value_ends_the_attempt_with_the_name_of_its_field() {
        let nan = proto::Arg { value: Some(proto::arg::Value::DoubleValue(f64::NAN)), ..Default::default() };
        let good = proto::Arg { value: Some(proto::arg::Value::Int64Value(1)), ..Default::default() };
        let success = Proto::Success(proto::Success { results: vec![good, nan] });
        assert!(ended_by(told(Some(success))).contains("results[1].double_value"));
        assert!(ended_by(told(None)).contains("outcome"));
    }

    #[test]
    fn failures_are_cut_filled_in_and_kept_in_bounds() {
        let failure = |error: &str, is_final, seconds: Option<i64>| {
            told(Some(Proto::Failure(proto::Failure {
                error: error.to_owned(),
                r#final: is_final,
                retry_after: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            })))
        };
        let Outcome::Failure { error, retry_after, .. } = failure(&"é".repeat(40_000), false, Some(-1)) else {
            panic!()
        };
        assert_eq!((error.len(), retry_after), (ERROR_BYTES_MAX, Some(Duration::ZERO)));
        let Outcome::Failure { error, retry_after, .. } = failure("", false, Some(i64::MAX)) else { panic!() };
        assert_eq!(retry_after, Some(Settings::default().delay_max));
        assert!(!error.is_empty());
        assert_eq!(ended_by(failure("for good", true, Some(1))), "for good");
    }

    #[test]
    fn a_name_that_is_no_leases_is_superseded_and_a_long_report_id_refused() {
        let report =
            |report_id: String, lease_id: &str| proto::Report { report_id, lease_id: lease_id.into(), outcome: None };
        let ack = read(report("r".into(), "no lease"), &Settings::default()).unwrap().unwrap_err().ack();
        assert_eq!((ack.report_id.as_str(), ack.lease_id.as_str()), ("r", "no lease"));
        assert_eq!(ack.verdict(), proto::ReportVerdict::Superseded);
        let error = list("reports", vec![report("r".repeat(101), "")], &Settings::default()).unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { field, .. } if field == "reports[0].report_id"));
    }
}
