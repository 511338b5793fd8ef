//! Sending tasks that belong together, and waiting for what comes of them.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{TaskState, TaskStatus};
use serde_json::Value;

use super::progress::{Progress, Unit};
use super::remote::{self, Connection};
use super::workflow::{Kind, Workflow};
use super::{Exit, Failure, Remote, group, output, state, value};

/// What was sent, now or before.
struct Sent {
    kind: Kind,
    group_id: String,
    task_ids: Vec<String>,
    callback_id: String,
    already: bool,
}

/// Sends a workflow under these names; prints its id, or waits and prints its results.
///
/// # Errors
/// As the server refused; [`Exit::TaskFailed`], [`Exit::TimedOut`] where it is waited for.
pub async fn send(
    remote: &Remote,
    workflow: Workflow,
    group_id: String,
    request_id: String,
    patience: Option<Duration>,
) -> Result<Exit, Failure> {
    let connection = remote.connect().await?;
    let sent = sent(&connection, workflow, group_id, request_id).await?;
    let Some(patience) = patience else {
        if sent.already && !remote.json {
            output::remark("already sent");
        }
        output::line(&if remote.json { to_json(&sent).to_string() } else { sent.group_id })?;
        return Ok(Exit::Ok);
    };
    if !remote.json {
        output::remark(&format!("{} {}", if sent.already { "already sent" } else { "sent" }, sent.group_id));
    }
    wait(&connection, &sent, patience, remote.json).await
}

async fn sent(
    connection: &Connection,
    workflow: Workflow,
    group_id: String,
    request_id: String,
) -> Result<Sent, Failure> {
    let Workflow { kind, tasks, callback, always } = workflow;
    let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    // A server that has been named all ids does not repeat them.
    let told = |task_ids: Vec<String>| if task_ids.is_empty() { ids } else { task_ids };
    let mut client = connection.tasks();
    Ok(match kind {
        Kind::Group => {
            let request = proto::SendGroupRequest { group_id, tasks, request_id };
            let sent = client.send_group(remote::of_group(request)).await?.into_inner();
            let (task_ids, callback_id) = (told(sent.task_ids), String::new());
            Sent { kind, group_id: sent.group_id, task_ids, callback_id, already: sent.already_sent }
        }
        Kind::Chain => {
            let request = proto::SendChainRequest { group_id, tasks, request_id };
            let sent = client.send_chain(remote::of_group(request)).await?.into_inner();
            let (task_ids, callback_id) = (told(sent.task_ids), String::new());
            Sent { kind, group_id: sent.group_id, task_ids, callback_id, already: sent.already_sent }
        }
        Kind::Chord => {
            let request = proto::SendChordRequest { group_id, tasks, callback, always, request_id };
            let sent = client.send_chord(remote::of_group(request)).await?.into_inner();
            let (task_ids, callback_id) = (told(sent.task_ids), sent.callback_id);
            Sent { kind, group_id: sent.group_id, task_ids, callback_id, already: sent.already_sent }
        }
    })
}

fn to_json(sent: &Sent) -> Value {
    let callback = if sent.callback_id.is_empty() { Value::Null } else { sent.callback_id.clone().into() };
    output::object([
        ("group_id", sent.group_id.clone().into()),
        ("task_ids", sent.task_ids.clone().into()),
        ("callback_id", callback),
        ("already_sent", sent.already.into()),
    ])
}

async fn wait(connection: &Connection, sent: &Sent, patience: Duration, json: bool) -> Result<Exit, Failure> {
    let mut progress = Progress::begin("running", Unit::Tasks, None, json);
    let end = group::until_ended(connection, &sent.group_id, Some(patience), |group| {
        progress.of(group.total.into());
        progress.show(group.ended.into());
        Ok(())
    })
    .await?;
    drop(progress);
    let states = group::states(connection, &sent.group_id).await?;
    report(sent.kind, &ends(sent.kind, &states, end.callback), &states, json)
}

/// The states with the results of the whole.
fn ends(kind: Kind, states: &[TaskState], callback: Option<TaskState>) -> Vec<TaskState> {
    match kind {
        Kind::Group => states.to_vec(),
        Kind::Chain => states.last().cloned().into_iter().collect(),
        Kind::Chord => callback.into_iter().collect(),
    }
}

/// Prints how it ended: of a group the results of each task on a line, else each result on a line; with `json` the states.
fn report(kind: Kind, ends: &[TaskState], all: &[TaskState], json: bool) -> Result<Exit, Failure> {
    let is_group = kind == Kind::Group;
    let Some(bad) = ends.iter().find(|state| state.status() != TaskStatus::Success) else {
        for state in ends {
            match state.results.as_slice() {
                _ if json => output::line(&state::to_json(state).to_string())?,
                // A line for each task, whatever it has.
                several if is_group && several.len() != 1 => output::line(&value::texts(several))?,
                results => results.iter().try_for_each(|result| output::line(&value::text(result)))?,
            }
        }
        return Ok(Exit::Ok);
    };
    // What did not run did so because of another.
    let did_not_run = bad.failure_reason() == proto::FailureReason::NotRun || is_group;
    let cause = group::first_failure(all).filter(|_| did_not_run).unwrap_or(bad);
    if json {
        let told = if is_group { ends } else { std::slice::from_ref(cause) };
        told.iter().try_for_each(|state| output::line(&state::to_json(state).to_string()))?;
        return Ok(Exit::TaskFailed);
    }
    let text = match cause.status() {
        TaskStatus::Failure => format!("task {:?} failed: {}", cause.task_id, state::failure_text(cause)),
        _ => format!("the state of task {:?} is not kept any more", cause.task_id),
    };
    Err(Failure::new(Exit::TaskFailed, text))
}
