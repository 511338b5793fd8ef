//! `pending`: what waits in a queue.

use lineshaft_client::proto;
use proto::PendingTask;
use serde_json::Value;

use super::{Exit, Failure, Remote, exit, output, remote, value};

/// Show the tasks that wait in a queue, in the order in which they would be leased.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Queue; unset: the server's default queue.
    #[arg(value_name = "QUEUE", default_value = "", hide_default_value = true)]
    queue: String,
    /// The delayed tasks too, after those that are due.
    #[arg(long)]
    delayed: bool,
    /// Stop after this many tasks; 0: show all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// How many tasks to ask for in one call.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    page_size: u32,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let mut table = output::table(["TASK", "NAME", "ARGUMENTS", "PRIORITY", "RETRIES", "DUE", "NOTE"]);
        let (mut shown, mut page_token) = (0usize, String::new());
        loop {
            let request = proto::GetPendingTasksRequest {
                queue: self.queue.clone(),
                include_delayed: self.delayed,
                page_size: self.page_size,
                page_token,
            };
            let page = connection.queues().get_pending_tasks(remote::quick(request)).await?.into_inner();
            let left = if self.limit == 0 { usize::MAX } else { self.limit - shown };
            let cut = page.tasks.len() > left;
            for task in page.tasks.iter().take(left) {
                shown += 1;
                if self.remote.json {
                    output::line(&to_json(task).to_string())?;
                } else {
                    table.add_row(row(task));
                }
            }
            page_token = page.next_page_token;
            let more = cut || !page_token.is_empty();
            if !more || shown == self.limit {
                if !self.remote.json {
                    output::print_table(&table)?;
                }
                if more {
                    output::remark(&format!("the first {shown} are shown; --limit 0 shows all"));
                }
                return Ok(Exit::Ok);
            }
        }
    }
}

fn row(pending: &PendingTask) -> [String; 7] {
    let task = pending.task.clone().unwrap_or_default();
    let note = if !pending.undecodable.is_empty() {
        format!("no task: {}", pending.undecodable)
    } else if pending.unclaimed {
        "no worker for it".to_owned()
    } else {
        String::new()
    };
    [
        output::cell(&task.id),
        output::cell(&task.name),
        output::cell(&value::texts(&task.args)),
        task.priority.to_string(),
        task.retry_count.to_string(),
        pending.available_at.as_ref().map_or("now".into(), |at| output::age(Some(at))),
        output::cell(&note),
    ]
}

fn to_json(pending: &PendingTask) -> Value {
    let task = pending.task.as_ref().map_or(Value::Null, |task| {
        output::object([
            ("id", task.id.clone().into()),
            ("name", task.name.clone().into()),
            ("queue", task.queue.clone().into()),
            ("routing_key", task.routing_key.clone().into()),
            ("args", value::list_to_json(&task.args)),
            ("headers", value::headers_to_json(&task.headers)),
            ("eta", output::moment(task.eta.as_ref())),
            ("priority", task.priority.into()),
            ("retry_count", task.retry_count.into()),
        ])
    });
    output::object([
        ("task", task),
        ("available_at", output::moment(pending.available_at.as_ref())),
        ("unclaimed", pending.unclaimed.into()),
        ("undecodable", if pending.undecodable.is_empty() { Value::Null } else { pending.undecodable.clone().into() }),
    ])
}
