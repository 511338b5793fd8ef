//! `wait`: stay until a task has ended.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{TaskState, TaskStatus};
use tokio::time::Instant;

use super::remote::{self, Connection};
use super::{Exit, Failure, Remote, exit, output, span, state, value};

/// Wait until a task has ended and print its results, one a line.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Id of the task.
    #[arg(value_name = "ID")]
    id: String,
    /// How long to wait at most.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span::parse)]
    timeout: Duration,
}

// The server allows an hour to one call. Shorter turns notice a connection that died in silence.
const TURN_MAX: Duration = Duration::from_secs(20);

// Between two tries while the server is away, if it did not say itself.
const AWAY_DELAY: Duration = Duration::from_millis(500);

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        let end = async {
            let connection = self.remote.connect().await?;
            report(until_ended(&connection, &self.id, self.timeout).await?, self.timeout, json)
        };
        output::finish(end.await, json)
    }
}

/// Waits until the task has ended, at most `timeout`, and answers the last state seen. A server that is away for a
/// while is waited for.
///
/// # Errors
/// As the server refused; [`Exit::NotFound`] if the task is still unknown at the end.
pub async fn until_ended(connection: &Connection, id: &str, timeout: Duration) -> Result<TaskState, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let turn = left.min(TURN_MAX);
        let request = proto::WaitForResultRequest {
            task_id: id.to_owned(),
            timeout: Some(prost_types::Duration::try_from(turn).unwrap_or_default()),
        };
        // The server answers by itself at the end of the turn; beyond this it is dead.
        let request = remote::within(request, turn + Duration::from_secs(10));
        match connection.tasks().wait_for_result(request).await.map_err(Failure::from) {
            Ok(answer) => {
                let answer = answer.into_inner();
                let state = answer.state.unwrap_or_default();
                if answer.completed || left == turn {
                    return Ok(state);
                }
            }
            Err(failure) => {
                let delay = failure.retry_after.unwrap_or(AWAY_DELAY);
                let not_yet_known = failure.exit == Exit::NotFound && left > turn;
                if !not_yet_known && (!failure.is_passing() || delay >= left) {
                    return Err(failure);
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Prints how the wait ended: with `json` the state, else the results on stdout, one a line.
///
/// # Errors
/// [`Exit::TaskFailed`] if the task ended in FAILURE; [`Exit::TimedOut`] if it has not ended.
pub fn report(state: TaskState, timeout: Duration, json: bool) -> Result<Exit, Failure> {
    let status = state.status();
    if json {
        output::line(&state::to_json(&state).to_string())?;
        return Ok(match status {
            TaskStatus::Success => Exit::Ok,
            TaskStatus::Failure => Exit::TaskFailed,
            _ => Exit::TimedOut,
        });
    }
    match status {
        TaskStatus::Success => {
            for result in &state.results {
                output::line(&value::text(result))?;
            }
            Ok(Exit::Ok)
        }
        TaskStatus::Failure => Err(Failure::new(
            Exit::TaskFailed,
            format!("task {:?} failed: {}", state.task_id, state::failure_text(&state)),
        )),
        _ => Err(Failure::new(
            Exit::TimedOut,
            format!(
                "task {:?} has not ended within {}; it is {}",
                state.task_id,
                span::human(timeout),
                state::status(&state)
            ),
        )),
    }
}
