//! `cancel`: end tasks that nobody wants any more, one by one or those that belong together.

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
    #[arg(required_unless_present = "groups", value_name = "ID")]
    ids: Vec<String>,
    /// Cancel what has not run of this group, chain or chord; may be repeated.
    #[arg(long = "group", value_name = "ID")]
    groups: Vec<String>,
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
        for id in &self.groups {
            let request = proto::CancelGroupRequest { group_id: id.clone() };
            match connection.tasks().cancel_group(remote::of_group(request)).await.map_err(Failure::from) {
                Ok(answer) => output::line(&self.told_of(id, answer.into_inner()))?,
                Err(failure) if failure.exit == Exit::NotFound => unknown = unknown.or(Some(failure)),
                Err(failure) => return Err(failure),
            }
        }
        unknown.map_or(Ok(Exit::Ok), Err)
    }

    fn told_of(&self, id: &str, counts: proto::CancelGroupResponse) -> String {
        let proto::CancelGroupResponse { ended, removed, signalled, marked } = counts;
        if self.remote.json {
            return output::object([
                ("group_id", id.into()),
                ("removed", removed.into()),
                ("marked", marked.into()),
                ("signalled", signalled.into()),
                ("ended", ended.into()),
            ])
            .to_string();
        }
        let parts = [
            (removed, "cancelled"),
            (marked, "marked: they end when a server meets them"),
            (signalled, "whose workers were told to stop"),
            (ended, "had ended before"),
        ];
        let texts: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")).collect();
        format!("{}  {}", output::cell(id), texts.join(", "))
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
