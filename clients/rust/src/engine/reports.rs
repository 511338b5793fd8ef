//! Outcomes that the server has not acknowledged yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;
use tokio::time::Instant;

use super::Outcome;
use crate::jitter::Backoff;
use crate::producer::task::to_proto;
use crate::proto::{Failure, Release, Report, ReportVerdict, Success, report};

/// Reports in one frame: well below the default `Limits.batch_max` of 1,000, so that a frame is encoded quickly.
const FRAME_REPORTS_MAX: usize = 256;
/// Bytes in one frame of reports, a larger single one excepted: a quarter of the default `Limits.message_bytes_max`.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// `Failure.error` is cut by the server beyond this.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Every report from its making to its acknowledgement.
///
/// Invariant: a report in `waiting` is in at most one of `unsent` and `later`; in neither, it was sent on the stream of
/// now and its verdict is awaited.
#[derive(Debug)]
pub(super) struct Reports {
    /// Before the number in each report's id; no other worker's.
    prefix: String,
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    unsent: VecDeque<u64>,
    later: BTreeSet<(Instant, u64)>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    report: Report,
    bytes: usize,
    // Grows while the server answers that it could not record.
    backoff: Option<Backoff>,
}

impl Reports {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, next: 1, waiting: BTreeMap::new(), unsent: VecDeque::new(), later: BTreeSet::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Encoded size of all that waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, lease_id: String, outcome: Outcome) {
        let number = self.next;
        self.next += 1;
        let outcome = match outcome {
            Outcome::Success(results) => report::Outcome::Success(Success { results }),
            Outcome::Failure { mut error, is_final, retry_after } => {
                truncate(&mut error, ERROR_BYTES_MAX);
                report::Outcome::Failure(Failure { error, r#final: is_final, retry_after: retry_after.map(to_proto) })
            }
            Outcome::Release => report::Outcome::Release(Release { delay: None }),
        };
        let report = Report { report_id: format!("{}-{number}", self.prefix), lease_id, outcome: Some(outcome) };
        let bytes = report.encoded_len();
        self.bytes += bytes;
        self.waiting.insert(number, Waiting { report, bytes, backoff: None });
        self.unsent.push_back(number);
    }

    /// The leases whose verdict is awaited.
    pub(super) fn lease_ids(&self) -> impl Iterator<Item = String> {
        self.waiting.values().map(|waiting| waiting.report.lease_id.clone())
    }

    /// A new stream: whatever was sent on the old one is sent again, in the old order.
    pub(super) fn resend_all(&mut self) {
        self.later.clear();
        self.unsent = self.waiting.keys().copied().collect();
    }

    /// The next frame's worth; empty: nothing to send now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Report> {
        while let Some(&(due, number)) = self.later.first() {
            if due > now {
                break;
            }
            self.later.pop_first();
            self.unsent.push_back(number);
        }
        let mut frame = Vec::new();
        let mut bytes = 0;
        while let Some(number) = self.unsent.front() {
            let Some(waiting) = self.waiting.get(number) else {
                // Acknowledged meanwhile on the stream before.
                self.unsent.pop_front();
                continue;
            };
            if frame.len() >= FRAME_REPORTS_MAX || (!frame.is_empty() && bytes + waiting.bytes > FRAME_BYTES_MAX) {
                break;
            }
            bytes += waiting.bytes;
            frame.push(waiting.report.clone());
            self.unsent.pop_front();
        }
        frame
    }

    /// When [`Reports::take`] has something again that it would not have now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }

    /// The server's verdict; the lease, if that settles one of ours.
    pub(super) fn acknowledge(&mut self, now: Instant, report_id: &str, verdict: ReportVerdict) -> Option<String> {
        let number = report_id.strip_prefix(&self.prefix)?.strip_prefix('-')?.parse().ok()?;
        if verdict == ReportVerdict::Unspecified {
            let waiting = self.waiting.get_mut(&number)?;
            let is_scheduled = self.unsent.contains(&number) || self.later.iter().any(|(_, other)| *other == number);
            if !is_scheduled {
                let pause = waiting.backoff.get_or_insert_with(|| Backoff::new(number)).next();
                self.later.insert((now + pause, number));
            }
            return None;
        }
        let settled = self.waiting.remove(&number)?;
        self.later.retain(|(_, other)| *other != number);
        self.bytes = self.bytes.saturating_sub(settled.bytes);
        Some(settled.report.lease_id)
    }
}

/// Cuts `text` to at most `bytes_max` bytes, between two characters.
pub(super) fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reports(count: usize) -> Reports {
        let mut reports = Reports::new("w".into());
        for index in 0..count {
            reports.add(format!("lease-{index}"), Outcome::Success(Vec::new()));
        }
        reports
    }

    #[test]
    fn a_report_is_kept_until_acknowledged_and_resent_under_its_id() {
        let now = Instant::now();
        let mut reports = reports(3);
        let first = reports.take(now);
        assert_eq!(first.len(), 3);
        assert!(reports.take(now).is_empty());
        assert_eq!(reports.acknowledge(now, &first[1].report_id, ReportVerdict::Recorded), Some("lease-1".into()));
        reports.resend_all();
        let again = reports.take(now);
        assert_eq!(again, vec![first[0].clone(), first[2].clone()]);
        for report in again {
            assert!(reports.acknowledge(now, &report.report_id, ReportVerdict::Superseded).is_some());
        }
        assert!(reports.is_empty());
        assert_eq!(reports.bytes(), 0);
    }

    #[test]
    fn a_report_that_could_not_be_recorded_is_sent_again_later() {
        let now = Instant::now();
        let mut reports = reports(1);
        let report = reports.take(now).remove(0);
        assert_eq!(reports.acknowledge(now, &report.report_id, ReportVerdict::Unspecified), None);
        // The same answer twice must not send it twice.
        assert_eq!(reports.acknowledge(now, &report.report_id, ReportVerdict::Unspecified), None);
        let due = reports.next_due().unwrap();
        assert_eq!(reports.take(due), vec![report]);
        assert!(reports.next_due().is_none());
    }

    #[test]
    fn frames_are_bounded_in_number_and_bytes() {
        let now = Instant::now();
        let mut many = reports(FRAME_REPORTS_MAX + 1);
        assert_eq!(many.take(now).len(), FRAME_REPORTS_MAX);
        assert_eq!(many.take(now).len(), 1);
        let mut large = Reports::new("w".into());
        for lease in ["a", "b"] {
            let text = "x".repeat(FRAME_BYTES_MAX);
            large.add(lease.into(), Outcome::Success(vec![crate::IntoArg::into_arg(text)]));
        }
        assert_eq!(large.take(now).len(), 1);
        assert_eq!(large.take(now).len(), 1);
    }

    #[test]
    fn acknowledgements_of_others_change_nothing() {
        let now = Instant::now();
        let mut reports = reports(1);
        for id in ["", "w", "w-", "w-x", "w-2", "v-1", "w-1-1"] {
            assert_eq!(reports.acknowledge(now, id, ReportVerdict::Recorded), None);
        }
        assert_eq!(reports.len(), 1);
    }

    #[test]
    fn an_error_text_is_cut_between_characters() {
        let mut reports = Reports::new("w".into());
        let error = "ü".repeat(ERROR_BYTES_MAX);
        reports.add("a".into(), Outcome::Failure { error, is_final: false, retry_after: Some(Duration::ZERO) });
        let report = reports.take(Instant::now()).remove(0);
        let Some(report::Outcome::Failure(failure)) = report.outcome else { panic!("not a failure") };
        assert_eq!(failure.error.len(), ERROR_BYTES_MAX);
    }
}
