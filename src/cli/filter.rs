//! The filter language of commands that look for tasks: terms such as `queue=media older=1h`, all of which must fit.
//!
//! No sign of it means anything to a shell, so terms need no quotes.

use std::time::Duration;

use lineshaft_client::proto;

use super::span;
use crate::clock::{Clock, SystemClock, WallTime};

/// What each `--help` says of it.
pub const HELP: &str = "\
Filters:
  queue=QUEUE    of this queue
  name=NAME      of this name
  task=ID        of this task
  reason=REASON  for this reason: failed, worker_lost, result_too_large, poison, expired or timed_out
  older=SPAN     at least this long ago: 90s, 2h, 7d
  newer=SPAN     less long ago
Several terms must all fit.";

/// What the `--help` of `tasks` says of it.
pub const TASKS_HELP: &str = "\
Filters:
  state=STATE    in this state: pending, received, started, retry, success or failure; several: in one of them
  queue=QUEUE    of this queue; the queue of ended tasks is not known any more
  name=NAME      of this name
  args=TEXT      with this text in the JSON of the arguments; those of ended tasks are not known any more
  reason=REASON  failed for this reason: failed, worker_lost, result_too_large, poison, cancelled, purged, expired, timed_out or not_run
  older=SPAN     sent at least this long ago: 90s, 2h, 7d
  newer=SPAN     sent less long ago
Several terms must all fit.";

/// What the `--help` of `leases` says of it.
pub const LEASES_HELP: &str = "\
Filters:
  queue=QUEUE    of tasks of this queue
  name=NAME      of tasks of this name
  task=ID        of this task
  session=ID     held by this session, as `workers --json` shows it
  older=SPAN     held at least this long: 90s, 2h, 7d
  newer=SPAN     held less long
Several terms must all fit.";

/// One term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// `queue=`.
    Queue(String),
    /// `name=`.
    Name(String),
    /// `task=`.
    Task(String),
    /// `session=`.
    Session(String),
    /// `state=`.
    State(proto::TaskStatus),
    /// `args=`.
    Args(String),
    /// `reason=`.
    Reason(proto::FailureReason),
    /// `older=`.
    Older(Duration),
    /// `newer=`.
    Newer(Duration),
}

/// Reads one term.
///
/// # Errors
/// A sentence that says what is wrong, for clap.
pub fn parse(text: &str) -> Result<Term, String> {
    let known = "a filter is queue=, name=, task=, reason=, older= or newer=";
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no \"=\"; {known}"))?;
    if value.is_empty() {
        return Err(format!("{key:?} has no value"));
    }
    match key {
        "queue" => Ok(Term::Queue(value.into())),
        "name" => Ok(Term::Name(value.into())),
        "task" => Ok(Term::Task(value.into())),
        "reason" => reason(value).map(Term::Reason),
        "older" => span::parse(value).map(Term::Older),
        "newer" => span::parse(value).map(Term::Newer),
        other => Err(format!("{other:?} is not known; {known}")),
    }
}

/// Reads one term of a filter of `tasks`.
///
/// # Errors
/// As [`parse`].
pub fn parse_tasks(text: &str) -> Result<Term, String> {
    match text.split_once('=') {
        Some(("state", value)) => state(value).map(Term::State),
        Some(("args", value)) if !value.is_empty() => Ok(Term::Args(value.into())),
        Some(("queue" | "name" | "reason" | "older" | "newer", _)) => parse(text),
        _ => {
            let known = "a filter is state=, queue=, name=, args=, reason=, older= or newer=";
            Err(format!("{text:?} is none; {known}, with a value"))
        }
    }
}

/// Reads one term of a filter of `leases`.
///
/// # Errors
/// As [`parse`].
pub fn parse_leases(text: &str) -> Result<Term, String> {
    match text.split_once('=') {
        Some(("session", value)) if !value.is_empty() => Ok(Term::Session(value.into())),
        Some(("queue" | "name" | "task" | "older" | "newer", _)) => parse(text),
        _ => {
            let known = "a filter is queue=, name=, task=, session=, older= or newer=";
            Err(format!("{text:?} is none; {known}, with a value"))
        }
    }
}

fn state(text: &str) -> Result<proto::TaskStatus, String> {
    let name = format!("TASK_STATUS_{}", text.to_ascii_uppercase());
    proto::TaskStatus::from_str_name(&name)
        .filter(|status| *status != proto::TaskStatus::Unspecified)
        .ok_or_else(|| format!("{text:?} is no state; it is pending, received, started, retry, success or failure"))
}

fn reason(text: &str) -> Result<proto::FailureReason, String> {
    let name = format!("FAILURE_REASON_{}", text.to_ascii_uppercase().replace('-', "_"));
    proto::FailureReason::from_str_name(&name)
        .filter(|reason| *reason != proto::FailureReason::Unspecified)
        .ok_or_else(|| format!("{text:?} is no reason; it is failed, worker_lost, result_too_large, poison, cancelled, purged, expired, timed_out or not_run"))
}

/// The terms as the protocol has them; of two on the same field the later counts. Ages are from now, by this machine's
/// clock.
pub fn dead_tasks(terms: &[Term]) -> proto::DeadTaskFilter {
    let now = SystemClock.wall();
    let mut filter = proto::DeadTaskFilter::default();
    for term in terms {
        match term {
            Term::Queue(queue) => filter.queue.clone_from(queue),
            Term::Name(name) => filter.task_name.clone_from(name),
            Term::Task(id) => filter.task_id.clone_from(id),
            Term::Reason(reason) => filter.set_reason(*reason),
            Term::Older(span) => filter.died_before = Some(ago(now, *span)),
            Term::Newer(span) => filter.died_since = Some(ago(now, *span)),
            // Not terms of dead tasks: `parse` reads none.
            Term::State(_) | Term::Args(_) | Term::Session(_) => {}
        }
    }
    filter
}

/// The terms of a filter of `tasks` as the protocol has them, as [`dead_tasks`]; states add up.
pub fn tasks(terms: &[Term]) -> proto::TaskFilter {
    let now = SystemClock.wall();
    let mut filter = proto::TaskFilter::default();
    for term in terms {
        match term {
            Term::State(status) => filter.statuses.push((*status).into()),
            Term::Queue(queue) => filter.queue.clone_from(queue),
            Term::Name(name) => filter.task_name.clone_from(name),
            Term::Args(text) => filter.args_contain.clone_from(text),
            Term::Reason(reason) => filter.set_failure_reason(*reason),
            Term::Older(span) => filter.sent_before = Some(ago(now, *span)),
            Term::Newer(span) => filter.sent_since = Some(ago(now, *span)),
            // One task is shown by `state`, and a session's by `leases`: `parse_tasks` reads no such term.
            Term::Task(_) | Term::Session(_) => {}
        }
    }
    filter
}

/// A filter of leases: the server picks by queue and session, the rest is picked here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// Only of this queue; empty: of all.
    pub queue: String,
    /// Only of this session; empty: of all.
    pub session: String,
    name: Option<String>,
    task: Option<String>,
    held_before: Option<prost_types::Timestamp>,
    held_since: Option<prost_types::Timestamp>,
}

/// The terms of a filter of `leases`, as [`dead_tasks`].
pub fn leases(terms: &[Term]) -> Leases {
    let now = SystemClock.wall();
    let mut filter = Leases::default();
    for term in terms {
        match term {
            Term::Queue(queue) => filter.queue.clone_from(queue),
            Term::Session(id) => filter.session.clone_from(id),
            Term::Name(name) => filter.name = Some(name.clone()),
            Term::Task(id) => filter.task = Some(id.clone()),
            Term::Older(span) => filter.held_before = Some(ago(now, *span)),
            Term::Newer(span) => filter.held_since = Some(ago(now, *span)),
            // Not terms of leases: `parse_leases` reads none.
            Term::State(_) | Term::Args(_) | Term::Reason(_) => {}
        }
    }
    filter
}

impl Leases {
    /// True if the lease fits what the server does not look at.
    pub fn fits(&self, lease: &proto::LeaseInfo) -> bool {
        let order = |at: &prost_types::Timestamp| (at.seconds, at.nanos);
        let held = lease.leased_at.as_ref().map(order);
        self.name.as_ref().is_none_or(|name| *name == lease.task_name)
            && self.task.as_ref().is_none_or(|id| *id == lease.task_id)
            && self.held_before.as_ref().is_none_or(|before| held.is_some_and(|held| held <= order(before)))
            && self.held_since.as_ref().is_none_or(|since| held.is_some_and(|held| held > order(since)))
    }
}

fn ago(now: WallTime, span: Duration) -> prost_types::Timestamp {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let then = Duration::from_nanos(now.0.saturating_sub(nanos));
    prost_types::Timestamp { seconds: then.as_secs().cast_signed(), nanos: then.subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_and_garbage_is_told_what_would_be_right() {
        assert_eq!(parse("queue=a=b"), Ok(Term::Queue("a=b".into())));
        assert_eq!(parse("reason=worker-lost"), Ok(Term::Reason(proto::FailureReason::WorkerLost)));
        assert_eq!(parse("older=2h"), Ok(Term::Older(Duration::from_secs(7_200))));
        for (wrong, says) in [
            ("media", "has no \"=\""),
            ("queue=", "has no value"),
            ("color=red", "\"color\" is not known"),
            ("reason=unspecified", "is no reason"),
            ("older=soon", "soon"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn every_term_sets_its_field() {
        let terms = ["queue=q", "name=n", "task=t", "reason=poison", "older=1h", "newer=2h"];
        let terms: Vec<Term> = terms.iter().map(|term| parse(term).unwrap()).collect();
        let filter = dead_tasks(&terms);
        assert_eq!((filter.queue.as_str(), filter.task_name.as_str(), filter.task_id.as_str()), ("q", "n", "t"));
        assert_eq!(filter.reason(), proto::FailureReason::Poison);
        let (since, before) = (filter.died_since.unwrap(), filter.died_before.unwrap());
        assert_eq!(before.seconds - since.seconds, 3_600);
        assert_eq!(dead_tasks(&[]), proto::DeadTaskFilter::default());
    }

    #[test]
    fn every_term_of_tasks_sets_its_field_and_states_add_up() {
        let terms = ["state=retry", "state=SUCCESS", "queue=q", "name=n", "args=a=b", "reason=cancelled", "older=1h"];
        let terms: Vec<Term> = terms.iter().map(|term| parse_tasks(term).unwrap()).collect();
        let filter = tasks(&terms);
        let statuses: Vec<_> = filter.statuses().collect();
        assert_eq!(statuses, [proto::TaskStatus::Retry, proto::TaskStatus::Success]);
        assert_eq!((filter.queue.as_str(), filter.task_name.as_str(), filter.args_contain.as_str()), ("q", "n", "a=b"));
        assert_eq!(filter.failure_reason(), proto::FailureReason::Cancelled);
        assert!(filter.sent_before.is_some() && filter.sent_since.is_none());
        for wrong in ["task=t", "args=", "state=gone", "state=unspecified", "color=red", "retry"] {
            assert!(parse_tasks(wrong).is_err(), "{wrong}");
        }
        assert!(parse("state=retry").is_err());
    }

    #[test]
    fn the_guide_has_the_filters_of_the_help() {
        let guide = include_str!("../docs/cli.md");
        let rows = [HELP, TASKS_HELP, LEASES_HELP].into_iter().flat_map(|help| help.lines().skip(1));
        for row in rows.filter_map(|row| row.strip_prefix("  ")) {
            let (term, meaning) = row.split_once("  ").unwrap();
            assert!(guide.contains(&format!("| `{term}` | {} |", meaning.trim())), "{row}");
        }
    }

    #[test]
    fn leases_are_picked_by_every_term() {
        let terms = |texts: &[&str]| leases(&texts.iter().map(|text| parse_leases(text).unwrap()).collect::<Vec<_>>());
        let (now, lease) = (SystemClock.wall(), proto::LeaseInfo::default());
        let leased_at = Some(ago(now, Duration::from_secs(60)));
        let lease = proto::LeaseInfo { task_id: "t".into(), task_name: "n".into(), leased_at, ..lease };
        let asked = terms(&["queue=q", "session=s"]);
        assert_eq!((asked.queue.as_str(), asked.session.as_str(), asked.fits(&lease)), ("q", "s", true));
        for (term, fits) in [
            ("name=n", true),
            ("name=other", false),
            ("task=t", true),
            ("task=other", false),
            ("older=30s", true),
            ("older=1h", false),
            ("newer=1h", true),
            ("newer=30s", false),
        ] {
            assert_eq!(terms(&[term]).fits(&lease), fits, "{term}");
        }
        assert!(parse_leases("session=").unwrap_err().contains("with a value"));
        assert!(parse_leases("reason=poison").unwrap_err().contains("is none"));
    }
}
