//! `pending`: what waits in a queue.

use lineshaft_client::proto;
use proto::PendingTask;
use serde_json::Value;

use super::listing::Listing;
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
        let headings = ["TASK", "NAME", "ARGUMENTS", "PRIORITY", "RETRIES", "DUE", "NOTE"];
        let mut listing = Listing::new(self.remote.json, self.limit, headings);
        let mut page_token = String::new();
        loop {
            let request = proto::GetPendingTasksRequest {
                queue: self.queue.clone(),
                include_delayed: self.delayed,
                page_size: self.page_size,
                page_token,
            };
            let page = connection.queues().get_pending_tasks(remote::quick(request)).await?.into_inner();
            listing.show(&page.tasks, row, to_json)?;
            page_token = page.next_page_token;
            if !listing.wants(&page_token) {
                return listing.end(&page_token);
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
