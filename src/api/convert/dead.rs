//! Dead tasks.

use lineshaft_client::proto;

use super::{limit, page, state, task, time};
use crate::clock::WallTime;
use crate::error::Error;
use crate::ledger::LostAttempt;
use crate::service::dead::{Changes, Filter, Outcome, Target, View};
use crate::service::types::Settings;
use crate::task::record::REASONS;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

/// The most retries a task may be given, as in `Task.retry_count`.
const RETRY_COUNT_MAX: u32 = 1_000_000;

/// Which dead tasks.
pub(in crate::api) fn filter(filter: Option<proto::DeadTaskFilter>) -> Result<Filter, Error> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    let kind = match filter.reason {
        0 => None,
        number => {
            // Compared by number: one that this version does not know must not fit everything.
            let kind = REASONS.into_iter().find(|kind| i32::from(state::failure_reason(*kind)) == number);
            Some(kind.ok_or_else(|| Error::invalid("filter.reason", "is no reason that this server knows"))?)
        }
    };
    let moment = |field: &str, moment: Option<prost_types::Timestamp>| -> Result<Option<WallTime>, Error> {
        moment.map(|t| time::timestamp(field, &t).map(|t| t.to_wall())).transpose()
    };
    let (queue, name, id) = ("filter.queue", "filter.task_name", "filter.task_id");
    Ok(Filter {
        queue: task::optional(&filter.queue, |text| QueueName::new(text).map_err(limit::id(queue)))?,
        name: task::optional(&filter.task_name, |text| TaskName::new(text).map_err(limit::id(name)))?,
        task: task::optional(&filter.task_id, |text| TaskId::new(text).map_err(limit::id(id)))?,
        kind,
        since: moment("filter.died_since", filter.died_since)?,
        before: moment("filter.died_before", filter.died_before)?,
    })
}

/// Which dead tasks something is to be done with: by id or by filter, never both and never neither.
pub(in crate::api) fn target(
    ids: Vec<String>,
    by: Option<proto::DeadTaskFilter>,
    page_size: u32,
    page_token: &str,
    settings: &Settings,
) -> Result<Target, Error> {
    if by.is_some() {
        if !ids.is_empty() {
            return Err(Error::invalid("dead_ids", "must be empty where a filter is given"));
        }
        let (max, after) = (limit::page_size(page_size)?, page::position(page_token)?);
        return Ok(Target::Filter { filter: filter(by)?, after, max });
    }
    limit::count("dead_ids", ids.len(), settings.batch_max, "ids")?;
    let message = |(at, text): (usize, String)| {
        let field = format!("dead_ids[{at}]");
        MessageKey::new(&text).map_err(limit::id(&field))
    };
    ids.into_iter().enumerate().map(message).collect::<Result<_, _>>().map(Target::Messages)
}

/// The retries of a new sending.
pub(in crate::api) fn retry_count(count: Option<u32>) -> Result<Option<u32>, Error> {
    limit::at_most("retry_count", count.unwrap_or(0) as usize, RETRY_COUNT_MAX as usize, "retries")?;
    Ok(count)
}

/// A dead task as an operator sees it.
pub(in crate::api) fn shown(view: View, settings: &Settings) -> proto::DeadTask {
    let View { dead, task } = view;
    let (task, undecodable, undecodable_body) = match task {
        Ok(signature) => {
            let shown = task::shown(&signature, Some(&dead.queue), settings.callback_depth_max);
            (Some(shown), String::new(), Default::default())
        }
        Err(why) => (None, why, dead.body),
    };
    let lost = |lost: LostAttempt| proto::LostAttempt {
        attempt: lost.attempt,
        worker: lost.worker,
        noticed_at: time::wall(lost.at),
    };
    proto::DeadTask {
        dead_id: dead.message.to_string(),
        task_id: dead.task.to_string(),
        task_name: dead.name.to_string(),
        queue: dead.queue.to_string(),
        reason: state::failure_reason(dead.kind).into(),
        error: dead.reason,
        attempts: dead.attempts,
        lost_attempts: dead.lost.into_iter().map(lost).collect(),
        died_at: time::wall(dead.at),
        task,
        undecodable,
        undecodable_body,
        requeue_begun: dead.requeue.is_some(),
    }
}

/// What became of dead tasks, and the token to go on with.
pub(in crate::api) fn changes(changes: Changes) -> (Vec<proto::DeadTaskResult>, String) {
    let result = |changed: crate::service::dead::Changed| proto::DeadTaskResult {
        dead_id: changed.message.to_string(),
        task_id: changed.task.map(|task| task.to_string()).unwrap_or_default(),
        outcome: match changed.outcome {
            Outcome::Done => proto::DeadTaskOutcome::Done,
            Outcome::Unknown => proto::DeadTaskOutcome::Unknown,
            Outcome::NoTask => proto::DeadTaskOutcome::Undecodable,
        }
        .into(),
    };
    let next = changes.next.map(|position| page::token(&position)).unwrap_or_default();
    (changes.items.into_iter().map(result).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
        match answer.unwrap_err() {
            Error::Invalid { field, .. } | Error::LimitExceeded { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_filter_without_fields_fits_all_and_wrong_fields_are_refused_by_name() {
        assert_eq!(filter(None).unwrap(), Filter::default());
        assert_eq!(filter(Some(Default::default())).unwrap(), Filter::default());
        let lost = proto::DeadTaskFilter { reason: proto::FailureReason::WorkerLost.into(), ..Default::default() };
        assert_eq!(filter(Some(lost)).unwrap().kind, Some(crate::task::FailureReason::WorkerLost));
        let moment = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        for (wrong, field) in [
            (proto::DeadTaskFilter { queue: "a b".into(), ..Default::default() }, "filter.queue"),
            (proto::DeadTaskFilter { task_name: "n".repeat(201), ..Default::default() }, "filter.task_name"),
            (proto::DeadTaskFilter { task_id: "a b".into(), ..Default::default() }, "filter.task_id"),
            (proto::DeadTaskFilter { reason: 99, ..Default::default() }, "filter.reason"),
            (proto::DeadTaskFilter { died_since: moment, ..Default::default() }, "filter.died_since"),
            (proto::DeadTaskFilter { died_before: moment, ..Default::default() }, "filter.died_before"),
        ] {
            assert_eq!(field_of(filter(Some(wrong))), field);
        }
    }

    #[test]
    fn ids_or_a_filter_are_required_and_not_both() {
        let settings = Settings { batch_max: 2, ..Settings::default() };
        let ids = |count: usize| vec!["id".to_owned(); count];
        assert_eq!(field_of(target(ids(0), None, 0, "", &settings)), "dead_ids");
        assert_eq!(field_of(target(ids(3), None, 0, "", &settings)), "dead_ids");
        assert_eq!(field_of(target(ids(1), Some(Default::default()), 0, "", &settings)), "dead_ids");
        assert_eq!(field_of(target(vec!["a b".into()], None, 0, "", &settings)), "dead_ids[0]");
        assert_eq!(field_of(target(ids(0), Some(Default::default()), 1001, "", &settings)), "page_size");
        assert!(matches!(target(ids(2), None, 0, "", &settings), Ok(Target::Messages(all)) if all.len() == 2));
        assert!(matches!(target(ids(0), Some(Default::default()), 0, "", &settings), Ok(Target::Filter { .. })));
        assert_eq!(field_of(retry_count(Some(1_000_001))), "retry_count");
    }
}
