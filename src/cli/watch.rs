//! `watch`: each state of tasks as it comes.

use std::time::Duration;

use futures::future;
use lineshaft_client::proto;
use proto::{TaskState, TaskStatus};

use super::remote::Connection;
use super::{Exit, Failure, Remote, exit, output, span, state};

/// Print each state of tasks as it comes, until all have ended. A task that is not known yet is waited for, and so is a server
/// that restarts meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Ids of tasks, as `send` printed them; at most 100.
    #[arg(required = true, value_name = "ID", num_args = 1..=TASKS_MAX)]
    ids: Vec<String>,
    /// How long to watch at most; unset: until all have ended.
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    timeout: Option<Duration>,
}

/// Tasks watched at once: each is a stream, and servers bound the streams of one connection.
const TASKS_MAX: usize = 100;

// Between two tries while the server is away, if it did not say itself.
const AWAY_DELAY: Duration = Duration::from_millis(500);

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.watch().await, json)
    }

    async fn watch(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let json = self.remote.json;
        // An id that is none is told at once, not when the others have ended.
        let all = future::try_join_all(self.ids.iter().map(|id| until_ended(&connection, id, json)));
        let ends = match self.timeout {
            None => all.await?,
            Some(timeout) => tokio::time::timeout(timeout, all).await.map_err(|_| {
                let text = format!("not all tasks have ended within {}", span::human(timeout));
                Failure::new(Exit::TimedOut, text)
            })??,
        };
        let failed = ends.iter().filter(|end| **end == TaskStatus::Failure).count();
        match failed {
            0 => Ok(Exit::Ok),
            // The lines say it all to a program, and the exit code that one of them failed.
            _ if json => Ok(Exit::TaskFailed),
            _ => Err(Failure::new(Exit::TaskFailed, format!("{failed} of {} tasks failed", self.ids.len()))),
        }
    }
}

/// Prints the states of one task, and answers its final status.
async fn until_ended(connection: &Connection, id: &str, json: bool) -> Result<TaskStatus, Failure> {
    let mut last = None;
    loop {
        let broken = match follow(connection, id, json, &mut last).await {
            Ok(Some(end)) => return Ok(end),
            // Ended by the server without a word, as at its stop.
            Ok(None) => AWAY_DELAY,
            Err(failure) if failure.is_passing() => failure.retry_after.unwrap_or(AWAY_DELAY),
            Err(failure) => return Err(failure),
        };
        tokio::time::sleep(broken).await;
    }
}

/// Follows one stream to its end; a new stream begins with the state of now, which may have been printed already.
async fn follow(
    connection: &Connection,
    id: &str,
    json: bool,
    last: &mut Option<TaskState>,
) -> Result<Option<TaskStatus>, Failure> {
    let request = proto::WatchStateRequest { task_id: id.to_owned(), ..Default::default() };
    let mut states = connection.tasks().watch_state(request).await?.into_inner();
    while let Some(message) = states.message().await? {
        let Some(state) = message.state else { continue };
        if last.as_ref() != Some(&state) {
            output::line(&if json { state::to_json(&state).to_string() } else { text(&state) })?;
        }
        let status = state.status();
        *last = Some(state);
        if matches!(status, TaskStatus::Success | TaskStatus::Failure) {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

fn text(state: &TaskState) -> String {
    let attempt = if state.attempt == 0 { String::new() } else { format!("  attempt {}", state.attempt) };
    let line =
        format!("{}  {}{attempt}  {}", state.task_id, state::status(state), output::cell(&state::outcome(state)));
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known_and_no_more() {
        let mut state = TaskState { task_id: "t".into(), status: TaskStatus::Pending.into(), ..TaskState::default() };
        assert_eq!(text(&state), "t  PENDING");
        state.set_status(TaskStatus::Retry);
        (state.attempt, state.error) = (2, "no\nluck".into());
        assert_eq!(text(&state), "t  RETRY  attempt 2  no luck");
    }
}
