//! Tasks as `ListTasks` tells of them.

use lineshaft_client::proto;

use super::{limit, state, task, time};
use crate::clock::WallTime;
use crate::error::Error;
use crate::service::tasks::{Filter, Listed};
use crate::service::types::Settings;
use crate::task::record::{REASONS, STATUSES};
use crate::task::{QueueName, TaskName};

/// The longest `TaskFilter.args_contain`.
const ARGS_CONTAIN_BYTES_MAX: usize = 200;

/// Which tasks.
pub(in crate::api) fn filter(filter: Option<proto::TaskFilter>) -> Result<Filter, Error> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    // Compared by number: one that this version does not know must not fit everything.
    let status = |(at, number): (usize, &i32)| {
        let status = STATUSES.into_iter().find(|status| i32::from(state::status(*status)) == *number);
        status.ok_or_else(|| Error::invalid(format!("filter.statuses[{at}]"), "is no status that this server knows"))
    };
    let mut statuses = filter.statuses.iter().enumerate().map(status).collect::<Result<Vec<_>, _>>()?;
    // The same filter, however it is said.
    statuses.sort_unstable();
    statuses.dedup();
    let reason = match filter.failure_reason {
        0 => None,
        number => {
            let reason = REASONS.into_iter().find(|reason| i32::from(state::failure_reason(*reason)) == number);
            let unknown = || Error::invalid("filter.failure_reason", "is no reason that this server knows");
            Some(reason.ok_or_else(unknown)?)
        }
    };
    let moment = |field: &str, moment: Option<prost_types::Timestamp>| -> Result<Option<WallTime>, Error> {
        moment.map(|t| time::timestamp(field, &t).map(|t| t.to_wall())).transpose()
    };
    let (queue, name, args) = ("filter.queue", "filter.task_name", "filter.args_contain");
    limit::at_most(args, filter.args_contain.len(), ARGS_CONTAIN_BYTES_MAX, "bytes")?;
    Ok(Filter {
        statuses,
        queue: task::optional(&filter.queue, |text| QueueName::new(text).map_err(limit::id(queue)))?,
        name: task::optional(&filter.task_name, |text| TaskName::new(text).map_err(limit::id(name)))?,
        since: moment("filter.sent_since", filter.sent_since)?,
        before: moment("filter.sent_before", filter.sent_before)?,
        args_contain: (!filter.args_contain.is_empty()).then_some(filter.args_contain),
        reason,
    })
}

/// A task that was found.
pub(in crate::api) fn shown(listed: &Listed, settings: &Settings) -> proto::ListedTask {
    let Listed { state, queue, signature, available_at, worker } = listed;
    proto::ListedTask {
        state: Some(state::to_proto(state)),
        queue: queue.as_ref().map(ToString::to_string).unwrap_or_default(),
        task: signature.as_ref().map(|signature| task::shown(signature, queue.as_ref(), settings.callback_depth_max)),
        available_at: available_at.and_then(time::wall),
        worker: worker.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_are_refused_by_name_and_statuses_may_come_in_any_order() {
        assert_eq!(filter(None).unwrap(), Filter::default());
        assert_eq!(filter(Some(Default::default())).unwrap(), Filter::default());
        let of = |statuses: &[i32]| proto::TaskFilter { statuses: statuses.to_vec(), ..Default::default() };
        assert_eq!(filter(Some(of(&[5, 1, 5]))).unwrap(), filter(Some(of(&[1, 5]))).unwrap());
        let moment = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        for (wrong, field) in [
            (of(&[1, 0]), "filter.statuses[1]"),
            (of(&[99]), "filter.statuses[0]"),
            (proto::TaskFilter { queue: "a b".into(), ..Default::default() }, "filter.queue"),
            (proto::TaskFilter { task_name: "n".repeat(201), ..Default::default() }, "filter.task_name"),
            (proto::TaskFilter { sent_since: moment, ..Default::default() }, "filter.sent_since"),
            (proto::TaskFilter { sent_before: moment, ..Default::default() }, "filter.sent_before"),
            (proto::TaskFilter { args_contain: "a".repeat(201), ..Default::default() }, "filter.args_contain"),
            (proto::TaskFilter { failure_reason: 99, ..Default::default() }, "filter.failure_reason"),
        ] {
            match filter(Some(wrong)).unwrap_err() {
                Error::Invalid { field: found, .. } | Error::LimitExceeded { field: found, .. } => {
                    assert_eq!(found, field)
                }
                other => panic!("{other}"),
            }
        }
    }
}
