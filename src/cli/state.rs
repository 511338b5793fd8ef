//! `state`: where tasks stand.

use lineshaft_client::proto;
use proto::{FailureReason, TaskState, TaskStatus};
use serde_json::Value;

use super::{Exit, Failure, Remote, exit, output, remote, value};

/// Show where tasks stand: status, attempt, results or error.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Ids of tasks, as `send` printed them.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

// Under every server's `Limits.batch_max` by default.
const BATCH: usize = 100;

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let mut states = Vec::with_capacity(self.ids.len());
        for ids in self.ids.chunks(BATCH) {
            let mut left = ids;
            // An answer ends early where results are large.
            while !left.is_empty() {
                let request = proto::GetStatesRequest { task_ids: left.to_vec() };
                let told = connection.tasks().get_states(remote::quick(request)).await?.into_inner().states;
                if told.is_empty() {
                    return Err(Failure::new(Exit::Other, "the server answered no state for the ids it was asked for"));
                }
                left = left.get(told.len()..).unwrap_or_default();
                states.extend(told);
            }
        }
        let missing: Vec<&str> = states.iter().filter(|s| !is_known(s)).map(|s| s.task_id.as_str()).collect();
        if self.remote.json {
            for state in &states {
                output::line(&to_json(state).to_string())?;
            }
        } else {
            output::print_table(&table(&states))?;
        }
        match missing.as_slice() {
            [] => Ok(Exit::Ok),
            [id] => Err(not_found(format!("no task {id:?} is known here; never sent, or its state has expired"))),
            ids => Err(not_found(format!("{} of the tasks are not known here: {}", ids.len(), ids.join(", ")))),
        }
    }
}

fn not_found(message: String) -> Failure {
    Failure { reason: Some("TASK_UNKNOWN".into()), ..Failure::new(Exit::NotFound, message) }
}

fn is_known(state: &TaskState) -> bool {
    state.status() != TaskStatus::Unspecified
}

fn table(states: &[TaskState]) -> comfy_table::Table {
    let mut table = output::table(["TASK", "NAME", "STATUS", "ATTEMPT", "SINCE", "RESULT"]);
    for state in states {
        if is_known(state) {
            table.add_row(std::iter::once(output::cell(&state.task_id)).chain(cells(state)));
        } else {
            table.add_row([output::cell(&state.task_id), String::new(), "unknown".into()]);
        }
    }
    table
}

/// What a table says of a task beside its id: name, status, attempt, since when, and what came of it.
pub fn cells(state: &TaskState) -> [String; 5] {
    [
        output::cell(&state.task_name),
        status(state).to_owned(),
        if state.attempt == 0 { "–".into() } else { state.attempt.to_string() },
        output::age(state.updated_at.as_ref()),
        output::cell(&outcome(state)),
    ]
}

/// Machinery's word for the status; `UNKNOWN` for a task that is not known.
pub fn status(state: &TaskState) -> &'static str {
    state.status().as_str_name().strip_prefix("TASK_STATUS_").filter(|name| *name != "UNSPECIFIED").unwrap_or("UNKNOWN")
}

/// The results or the error, on one line; empty where there is neither.
pub fn outcome(state: &TaskState) -> String {
    match state.status() {
        TaskStatus::Success => value::texts(&state.results),
        TaskStatus::Failure | TaskStatus::Retry => failure_text(state),
        _ => String::new(),
    }
}

/// The error text with its reason, where that says more than that the worker reported it.
pub fn failure_text(state: &TaskState) -> String {
    let reason = match state.failure_reason() {
        FailureReason::Unspecified | FailureReason::Failed => return state.error.clone(),
        other => reason_name(other),
    };
    if state.error.is_empty() { reason.into() } else { format!("{} ({reason})", state.error) }
}

/// The reason, without its prefix.
pub fn reason_name(reason: FailureReason) -> &'static str {
    reason.as_str_name().trim_start_matches("FAILURE_REASON_")
}

/// A state for `--json`; the statuses without their prefix, moments as protobuf's JSON has them, absent members null.
pub fn to_json(state: &TaskState) -> Value {
    let failure = match state.failure_reason() {
        FailureReason::Unspecified => Value::Null,
        reason => reason_name(reason).into(),
    };
    output::object([
        ("task_id", state.task_id.clone().into()),
        ("task_name", state.task_name.clone().into()),
        ("status", status(state).into()),
        (
            "results",
            if state.status() == TaskStatus::Success { value::list_to_json(&state.results) } else { Value::Null },
        ),
        ("error", if state.error.is_empty() { Value::Null } else { state.error.clone().into() }),
        ("failure_reason", failure),
        ("attempt", state.attempt.into()),
        ("created_at", output::moment(state.created_at.as_ref())),
        ("updated_at", output::moment(state.updated_at.as_ref())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_the_same_in_a_table_and_in_json() {
        let state = TaskState {
            task_id: "task_1".into(),
            task_name: "add".into(),
            status: TaskStatus::Success.into(),
            results: vec![value::parse("3").unwrap(), value::parse("three").unwrap()],
            attempt: 2,
            ..TaskState::default()
        };
        let rows: Vec<String> = table(std::slice::from_ref(&state)).lines().collect();
        assert!(rows[1].starts_with("task_1  add   SUCCESS  2        –      3, \"three\""), "{rows:?}");
        let json = to_json(&state);
        assert_eq!(json["results"][1], serde_json::json!({"type": "string", "value": "three"}));
        assert_eq!((&json["status"], &json["error"]), (&"SUCCESS".into(), &Value::Null));
    }
}
