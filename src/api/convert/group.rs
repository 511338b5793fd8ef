//! Groups, chords and chains.

use std::collections::HashMap;

use lineshaft_client::proto;

use super::{limit, page, state, task, time};
use crate::error::Error;
use crate::ledger::join::Kind;
use crate::service::types::{GroupCancelled, GroupView, Settings, Submission, Workflow, WorkflowSent};
use crate::task::{GroupId, TaskId};

/// What the three requests of sending have in common.
#[derive(Debug, Default)]
pub(in crate::api) struct Given {
    pub(in crate::api) group_id: String,
    pub(in crate::api) tasks: Vec<proto::Task>,
    pub(in crate::api) callback: Option<proto::Task>,
    pub(in crate::api) is_always: bool,
    pub(in crate::api) request_id: String,
}

impl Given {
    /// Checks a request against every rule of its comments. Paths begin at the request.
    pub(in crate::api) fn read(self, kind: Kind, settings: &Settings) -> Result<Workflow, Error> {
        let id = task::optional(&self.group_id, |id| GroupId::new(id).map_err(limit::id("group_id")))?;
        let request_id = task::optional(&self.request_id, |id| TaskId::new(id).map_err(limit::id("request_id")))?;
        let tasks_max = if kind == Kind::Chain { settings.chain_tasks_max } else { settings.group_tasks_max };
        limit::count("tasks", self.tasks.len(), tasks_max, "tasks")?;
        if kind == Kind::Chord && self.callback.is_none() {
            return Err(Error::invalid("callback", "is required"));
        }
        let one = |(i, given)| member(given, settings).map_err(|e: Error| e.within(&format!("tasks[{i}]")));
        let tasks = self.tasks.into_iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
        let callback = self.callback.map(|given| member(given, settings)).transpose();
        let callback = callback.map_err(|e| e.within("callback"))?;
        differ(&tasks, callback.as_ref())?;
        let request_id = request_id.map(|id| id.to_string());
        Ok(Workflow { kind, id, request_id, tasks, callback, is_always: self.is_always })
    }
}

fn member(given: proto::Task, settings: &Settings) -> Result<Submission, Error> {
    let refuse = |field: &str| Err(Error::invalid(field, "is not allowed here: the request names the send"));
    if !given.request_id.is_empty() {
        return refuse("request_id");
    }
    if given.idempotency.is_some() {
        return refuse("idempotency");
    }
    task::submission(given, settings)
}

// A task is counted, waited for and cancelled by its id, so two with one would be one.
fn differ(tasks: &[Submission], callback: Option<&Submission>) -> Result<(), Error> {
    let mut seen = HashMap::with_capacity(tasks.len());
    for (i, id) in tasks.iter().enumerate().filter_map(|(i, task)| Some((i, task.id.as_ref()?))) {
        if let Some(first) = seen.insert(id, i) {
            return Err(Error::invalid(format!("tasks[{i}].id"), format!("is the id of tasks[{first}] too")));
        }
    }
    let first = callback.and_then(|task| seen.get(task.id.as_ref()?));
    first.map_or(Ok(()), |first| Err(Error::invalid("callback.id", format!("is the id of tasks[{first}] too"))))
}

/// The ids of the tasks that were sent, for an answer: none where the request named them all.
pub(in crate::api) fn ids(sent: &WorkflowSent, all_named: bool) -> Vec<String> {
    let tasks: &[TaskId] = if all_named { &[] } else { &sent.tasks };
    tasks.iter().map(ToString::to_string).collect()
}

/// As the protocol has it.
pub(in crate::api) fn to_proto(view: &GroupView) -> proto::Group {
    let kind = match view.kind {
        Kind::Group => proto::GroupKind::Group,
        Kind::Chord => proto::GroupKind::Chord,
        Kind::Chain => proto::GroupKind::Chain,
    };
    proto::Group {
        group_id: view.id.to_string(),
        kind: kind.into(),
        total: view.total,
        ended: view.ended,
        failed: view.failed,
        completed: view.is_completed,
        created_at: time::to_timestamp(view.created_at),
        callback: view.callback.as_ref().map(state::to_proto),
    }
}

/// What cancelling a group came to.
pub(in crate::api) fn cancelled(counts: GroupCancelled) -> proto::CancelGroupResponse {
    let GroupCancelled { ended, removed, signalled, marked } = counts;
    proto::CancelGroupResponse { ended, removed, signalled, marked }
}

/// The token of a page that begins with the task at this place.
pub(in crate::api) fn token(place: u32) -> String {
    page::token(&place.to_be_bytes())
}

/// The place at which a page begins.
pub(in crate::api) fn place(token: &str) -> Result<u32, Error> {
    match page::position(token)? {
        None => Ok(0),
        Some(bytes) => bytes.as_slice().try_into().map(u32::from_be_bytes).map_err(|_| page::invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> proto::Task {
        proto::Task { name: name.to_owned(), ..Default::default() }
    }

    fn with_id(id: &str) -> proto::Task {
        proto::Task { id: id.to_owned(), ..named("n") }
    }

    fn with(change: impl FnOnce(&mut Given)) -> Given {
        let mut given = Given { tasks: vec![named("a"), named("b")], ..Given::default() };
        change(&mut given);
        given
    }

    fn field_of(given: Given, kind: Kind) -> String {
        let text = format!("{given:?}");
        let settings = Settings { group_tasks_max: 3, chain_tasks_max: 2, ..Settings::default() };
        match given.read(kind, &settings) {
            Err(Error::Invalid { field, .. } | Error::LimitExceeded { field, .. }) => field,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_field_out_of_its_range_is_refused_by_name() {
        let key = proto::Idempotency { key: "k".into(), until: None };
        let cases = [
            (with(|g| g.tasks.clear()), "tasks"),
            (with(|g| g.tasks = vec![named("n"); 4]), "tasks"),
            (with(|g| g.group_id = "a b".into()), "group_id"),
            (with(|g| g.group_id = "g".repeat(201)), "group_id"),
            (with(|g| g.request_id = "a b".into()), "request_id"),
            (with(|g| g.tasks[1].name.clear()), "tasks[1].name"),
            (with(|g| g.tasks[1].args = vec![proto::Arg::default()]), "tasks[1].args[0].value"),
            (with(|g| g.tasks[0].request_id = "r".into()), "tasks[0].request_id"),
            (with(|g| g.tasks[0].idempotency = Some(key.clone())), "tasks[0].idempotency"),
            (with(|g| g.tasks = vec![with_id("i"), named("n"), with_id("i")]), "tasks[2].id"),
        ];
        for (given, field) in cases {
            assert_eq!(field_of(given, Kind::Group), field);
        }
        assert_eq!(field_of(with(|g| g.tasks = vec![named("n"); 3]), Kind::Chain), "tasks");
    }

    #[test]
    fn a_chord_has_a_callback_that_follows_the_rules_of_its_tasks() {
        assert_eq!(field_of(with(|_| ()), Kind::Chord), "callback");
        let request = proto::Task { request_id: "r".into(), ..named("c") };
        for (callback, field) in
            [(named(""), "callback.name"), (request, "callback.request_id"), (with_id("i"), "callback.id")]
        {
            let given = with(|g| (g.tasks[1].id, g.callback) = ("i".into(), Some(callback)));
            assert_eq!(field_of(given, Kind::Chord), field);
        }
    }

    #[test]
    fn a_page_token_is_a_place_and_garbage_is_refused_by_name() {
        assert_eq!((place("").unwrap(), place(&token(100_000)).unwrap()), (0, 100_000));
        for bad in ["00", "zz", "0000000000"] {
            assert!(matches!(place(bad), Err(Error::Invalid { field, .. }) if field == "page_token"), "{bad:?}");
        }
    }
}
