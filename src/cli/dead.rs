//! `dead`: tasks that were set aside, to be looked at, sent again or deleted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lineshaft_client::proto;
use proto::{DeadTask, DeadTaskOutcome, DeadTaskResult};
use serde_json::Value;

use super::filter::{self, Term};
use super::listing::Listing;
use super::progress::{Progress, Unit};
use super::remote::{self, Connection};
use super::{Exit, Failure, Remote, confirm, exit, output, state, value};

/// Show the dead tasks, send them again or delete them.
///
/// Dead are tasks whose attempts killed their workers, bodies that are no task, and, where the server's setting
/// `leases.keep_failed` is on, tasks that ended in FAILURE.
#[derive(Debug, clap::Args)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(List),
    Requeue(Requeue),
    Delete(Delete),
}

/// Show the dead tasks, with reason, history and arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = filter::HELP, after_long_help = filter::HELP)]
struct List {
    #[command(flatten)]
    remote: Remote,
    /// Only those that fit; see below.
    #[arg(value_name = "FILTER", value_parser = filter::parse)]
    filters: Vec<Term>,
    /// Stop after this many; 0: show all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// Send dead tasks again, each once: under the same id, its attempts counted anew.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = exit::HELP)]
struct Requeue {
    #[command(flatten)]
    change: Change,
    /// Retries of the new sending; unset: what was left of the old one's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    retries: Option<u32>,
}

/// Delete dead tasks, their bodies and histories.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = exit::HELP)]
struct Delete {
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Clone, clap::Args)]
struct Change {
    #[command(flatten)]
    remote: Remote,
    /// Those that fit: queue=, name=, task=, reason=, older=, newer=, as in `dead list`.
    #[arg(value_name = "FILTER", value_parser = filter::parse, required_unless_present_any = ["ids", "all"])]
    filters: Vec<Term>,
    /// This one, by the id that `dead list` shows; may be given several times.
    #[arg(long = "id", value_name = "DEAD_ID", conflicts_with_all = ["filters", "all"])]
    ids: Vec<String>,
    /// All of them.
    #[arg(long, conflicts_with = "filters")]
    all: bool,
    /// Change nothing, only tell.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

const PAGE: u32 = 100;
// Under every server's `Limits.batch_max` by default.
const BATCH: usize = 100;

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        match self.action {
            Action::List(list) => {
                let json = list.remote.json;
                output::finish(list.show().await, json)
            }
            Action::Requeue(requeue) => {
                let json = requeue.change.remote.json;
                let verb = Verb::Requeue { retry_count: requeue.retries };
                output::finish(requeue.change.run(verb).await, json)
            }
            Action::Delete(delete) => {
                let json = delete.change.remote.json;
                output::finish(delete.change.run(Verb::Delete).await, json)
            }
        }
    }
}

impl List {
    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let headings = ["DEAD ID", "TASK", "NAME", "QUEUE", "DIED", "ATTEMPTS", "WHY", "ARGUMENTS"];
        let mut listing = Listing::new(self.remote.json, self.limit, headings);
        let filter = filter::dead_tasks(&self.filters);
        let mut page_token = String::new();
        loop {
            let request = proto::ListDeadTasksRequest { filter: Some(filter.clone()), page_size: PAGE, page_token };
            let page = connection.queues().list_dead_tasks(remote::quick(request)).await?.into_inner();
            listing.show(&page.dead_tasks, row, to_json)?;
            page_token = page.next_page_token;
            if !listing.wants(&page_token) {
                return listing.end(&page_token);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Requeue { retry_count: Option<u32> },
    Delete,
}

impl Verb {
    fn to_do(self) -> &'static str {
        match self {
            Self::Requeue { .. } => "requeue",
            Self::Delete => "delete",
        }
    }

    fn doing(self, dry_run: bool) -> &'static str {
        match self {
            _ if dry_run => "counting",
            Self::Requeue { .. } => "requeuing",
            Self::Delete => "deleting",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Requeue { .. } => "requeued",
            Self::Delete => "deleted",
        }
    }
}

/// How many came to which outcome.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    done: usize,
    unknown: usize,
    undecodable: usize,
}

impl Counts {
    fn seen(&self) -> usize {
        self.done + self.unknown + self.undecodable
    }

    fn add(&mut self, result: &DeadTaskResult) {
        match result.outcome() {
            DeadTaskOutcome::Done => self.done += 1,
            DeadTaskOutcome::Undecodable => self.undecodable += 1,
            DeadTaskOutcome::Unknown | DeadTaskOutcome::Unspecified => self.unknown += 1,
        }
    }
}

fn tasks(count: usize) -> String {
    if count == 1 { "1 dead task".into() } else { format!("{count} dead tasks") }
}

impl Change {
    async fn run(self, verb: Verb) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        // Ages are counted from one moment: what was asked about is what is done.
        let filter = filter::dead_tasks(&self.filters);
        let mut total = None;
        if !self.dry_run && !self.yes {
            let progress = self.progress(verb, true, None);
            let counts = self.walk(&connection, verb, &filter, true, progress, |_| Ok(())).await?;
            total = Some(counts.seen());
            if counts.done > 0 && !confirm::ask(&format!("{} {}", verb.to_do(), tasks(counts.done)))? {
                output::remark("nothing was changed");
                return Ok(Exit::Ok);
            }
        }
        let json = self.remote.json;
        let print = |result: &DeadTaskResult| match result.outcome() {
            _ if json => output::line(&result_to_json(result).to_string()),
            DeadTaskOutcome::Unknown if !self.ids.is_empty() => {
                output::remark(&format!("{} is not among the dead tasks", output::cell(&result.dead_id)));
                Ok(())
            }
            DeadTaskOutcome::Undecodable => {
                output::remark(&format!("{} stays dead: its body is no task", output::cell(&result.dead_id)));
                Ok(())
            }
            _ => Ok(()),
        };
        let progress = self.progress(verb, self.dry_run, total);
        let counts = self.walk(&connection, verb, &filter, self.dry_run, progress, print).await?;
        if !json {
            let how = if self.dry_run { "would be " } else { "" };
            output::line(&format!("{} {how}{}", tasks(counts.done), verb.done()))?;
        }
        Ok(match counts {
            _ if self.ids.is_empty() => Exit::Ok,
            Counts { unknown: 1.., .. } => Exit::NotFound,
            Counts { undecodable: 1.., .. } => Exit::Other,
            _ => Exit::Ok,
        })
    }

    fn progress(&self, verb: Verb, dry_run: bool, total: Option<usize>) -> Progress {
        let total = total.and_then(|total| u64::try_from(total).ok());
        Progress::begin(verb.doing(dry_run), Unit::Tasks, total, self.remote.json)
    }

    /// Goes through all that are meant, a page at a time.
    async fn walk(
        &self,
        connection: &Connection,
        verb: Verb,
        filter: &proto::DeadTaskFilter,
        dry_run: bool,
        mut progress: Progress,
        print: impl Fn(&DeadTaskResult) -> Result<(), Failure>,
    ) -> Result<Counts, Failure> {
        let mut counts = Counts::default();
        if !self.ids.is_empty() {
            for ids in self.ids.chunks(BATCH) {
                let (results, _) = call(connection, verb, ids.to_vec(), None, String::new(), dry_run).await?;
                for result in &results {
                    counts.add(result);
                    print(result)?;
                }
            }
            return Ok(counts);
        }
        let mut page_token = String::new();
        loop {
            let page = call(connection, verb, Vec::new(), Some(filter.clone()), page_token, dry_run).await?;
            // What is printed about single ones is not written behind the bar.
            progress.clear();
            for result in &page.0 {
                counts.add(result);
                print(result)?;
            }
            page_token = page.1;
            if page_token.is_empty() {
                return Ok(counts);
            }
            progress.show(u64::try_from(counts.seen()).unwrap_or(u64::MAX));
        }
    }
}

async fn call(
    connection: &Connection,
    verb: Verb,
    dead_ids: Vec<String>,
    filter: Option<proto::DeadTaskFilter>,
    page_token: String,
    dry_run: bool,
) -> Result<(Vec<DeadTaskResult>, String), Failure> {
    let page_size = if filter.is_some() { PAGE } else { 0 };
    match verb {
        Verb::Requeue { retry_count } => {
            let request =
                proto::RequeueDeadTasksRequest { dead_ids, filter, page_size, page_token, dry_run, retry_count };
            let answer = connection.queues().requeue_dead_tasks(remote::quick(request)).await?.into_inner();
            Ok((answer.results, answer.next_page_token))
        }
        Verb::Delete => {
            let request = proto::DeleteDeadTasksRequest { dead_ids, filter, page_size, page_token, dry_run };
            let answer = connection.queues().delete_dead_tasks(remote::quick(request)).await?.into_inner();
            Ok((answer.results, answer.next_page_token))
        }
    }
}

fn row(dead: &DeadTask) -> [String; 8] {
    let arguments = dead.task.as_ref().map(|task| value::texts(&task.args)).unwrap_or_default();
    [
        output::cell(&dead.dead_id),
        output::cell(&dead.task_id),
        output::cell(&dead.task_name),
        output::cell(&dead.queue),
        output::age(dead.died_at.as_ref()),
        dead.attempts.to_string(),
        output::cell(&dead.error),
        output::cell(&arguments),
    ]
}

fn to_json(dead: &DeadTask) -> Value {
    let lost = |lost: &proto::LostAttempt| {
        output::object([
            ("attempt", lost.attempt.into()),
            ("worker", lost.worker.clone().into()),
            ("noticed_at", output::moment(lost.noticed_at.as_ref())),
        ])
    };
    let body = (!dead.undecodable.is_empty()).then(|| BASE64.encode(&dead.undecodable_body));
    output::object([
        ("dead_id", dead.dead_id.clone().into()),
        ("task_id", dead.task_id.clone().into()),
        ("task_name", dead.task_name.clone().into()),
        ("queue", dead.queue.clone().into()),
        ("reason", state::reason_name(dead.reason()).into()),
        ("error", dead.error.clone().into()),
        ("attempts", dead.attempts.into()),
        ("lost_attempts", dead.lost_attempts.iter().map(lost).collect()),
        ("died_at", output::moment(dead.died_at.as_ref())),
        ("args", dead.task.as_ref().map_or(Value::Null, |task| value::list_to_json(&task.args))),
        ("headers", dead.task.as_ref().map_or(Value::Null, |task| value::headers_to_json(&task.headers))),
        ("undecodable", if dead.undecodable.is_empty() { Value::Null } else { dead.undecodable.clone().into() }),
        ("undecodable_body", body.into()),
        ("requeue_begun", dead.requeue_begun.into()),
    ])
}

fn result_to_json(result: &DeadTaskResult) -> Value {
    let outcome = result.outcome().as_str_name().trim_start_matches("DEAD_TASK_OUTCOME_");
    output::object([
        ("dead_id", result.dead_id.clone().into()),
        ("task_id", if result.task_id.is_empty() { Value::Null } else { result.task_id.clone().into() }),
        ("outcome", outcome.into()),
    ])
}
