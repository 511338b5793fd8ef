//! `tasks`: what waits, what runs, what ended.

use lineshaft_client::proto;
use proto::ListedTask;
use serde_json::Value;

use super::filter::{self, Term};
use super::listing::Listing;
use super::{Exit, Failure, Remote, output, remote, state, value};

/// Show tasks: those that wait, then those that are leased, then those that ended, newest end first.
#[derive(Debug, clap::Args)]
#[command(after_help = help(), after_long_help = help())]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Only those that fit; see below.
    #[arg(value_name = "FILTER", value_parser = filter::parse_tasks)]
    filters: Vec<Term>,
    /// Stop after this many tasks; 0: show all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

const PAGE: u32 = 1_000;

fn help() -> String {
    format!("{}\n\n{}", filter::TASKS_HELP, super::exit::HELP)
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let headings = ["TASK", "NAME", "STATUS", "QUEUE", "ATTEMPT", "SENT", "WORKER", "DETAIL"];
        let mut listing = Listing::new(self.remote.json, self.limit, headings);
        let filter = filter::tasks(&self.filters);
        let mut page_token = String::new();
        loop {
            let page_size = u32::try_from(listing.left()).map_or(PAGE, |left| left.min(PAGE));
            let request = proto::ListTasksRequest { filter: Some(filter.clone()), page_size, page_token };
            let page = connection.tasks().list_tasks(remote::quick(request)).await?.into_inner();
            listing.show(&page.tasks, row, to_json)?;
            page_token = page.next_page_token;
            if !listing.wants(&page_token) {
                return listing.end(&page_token);
            }
        }
    }
}

fn row(listed: &ListedTask) -> [String; 8] {
    let known = listed.state.clone().unwrap_or_default();
    let task = listed.task.clone().unwrap_or_default();
    [
        output::cell(&known.task_id),
        output::cell(&known.task_name),
        state::status(&known).to_owned(),
        if listed.queue.is_empty() { "–".into() } else { output::cell(&listed.queue) },
        known.attempt.to_string(),
        output::age(known.created_at.as_ref()),
        if listed.worker.is_empty() { "–".into() } else { output::cell(&listed.worker) },
        output::cell(&detail(&state::outcome(&known), &value::texts(&task.args))),
    ]
}

/// The result or the error, else the arguments: only a task that is retried has both, so two columns would waste one.
fn detail(outcome: &str, arguments: &str) -> String {
    match (outcome, arguments) {
        ("", arguments) => arguments.to_owned(),
        (outcome, "") => outcome.to_owned(),
        (outcome, arguments) => format!("{outcome}, of {arguments}"),
    }
}

/// A listed task for `--json`: its state, and beside that what only live tasks have.
fn to_json(listed: &ListedTask) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let mut shown = state::to_json(&listed.state.clone().unwrap_or_default());
    if let Value::Object(members) = &mut shown {
        members.insert("queue".into(), text(&listed.queue));
        let args = listed.task.as_ref().map_or(Value::Null, |task| value::list_to_json(&task.args));
        members.insert("args".into(), args);
        members.insert("available_at".into(), output::moment(listed.available_at.as_ref()));
        members.insert("worker".into(), text(&listed.worker));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_outcome_and_what_is_known_of_the_arguments() {
        assert_eq!(detail("", "1, 2"), "1, 2");
        assert_eq!(detail("3", ""), "3");
        assert_eq!(detail("no luck", "1, 2"), "no luck, of 1, 2");
    }
}
