//! `cancel`: end tasks that nobody wants any more.

use lineshaft_client::proto;
use proto::CancelResult;

use super::{Exit, Failure, Remote, exit, output, remote};

/// Cancel tasks: what waits ends at once, what runs is told to stop.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Ids of tasks, as `send` printed them.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.cancel().await, json)
    }

    // One after another: each line stands for what is durable by then, also if a later id is refused.
    async fn cancel(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let mut unknown = None;
        for id in &self.ids {
            let request = proto::CancelTaskRequest { task_id: id.clone() };
            match connection.tasks().cancel_task(remote::quick(request)).await.map_err(Failure::from) {
                Ok(answer) => output::line(&self.told(id, answer.into_inner().result()))?,
                // The others are cancelled all the same; the exit code tells.
                Err(failure) if failure.exit == Exit::NotFound => unknown = unknown.or(Some(failure)),
                Err(failure) => return Err(failure),
            }
        }
        unknown.map_or(Ok(Exit::Ok), Err)
    }

    fn told(&self, id: &str, result: CancelResult) -> String {
        if self.remote.json {
            let name = result.as_str_name().trim_start_matches("CANCEL_RESULT_");
            return output::object([("task_id", id.into()), ("result", name.into())]).to_string();
        }
        let text = match result {
            CancelResult::Removed => "cancelled",
            CancelResult::Marked => "marked: it ends when a server meets it",
            CancelResult::Signalled => "its worker was told to stop",
            CancelResult::Ended => "had ended before",
            CancelResult::Unspecified => "the server's answer is newer than this program",
        };
        format!("{}  {text}", output::cell(id))
    }
}
