//! `purge`: end all that waits in a queue.

use lineshaft_client::proto;

use super::progress::{Progress, Unit};
use super::remote::Connection;
use super::{Exit, Failure, Remote, confirm, exit, output, remote};

/// End what waits in a queue: each task in FAILURE, as `lineshaft: purged`. What is leased is left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Queue.
    #[arg(value_name = "QUEUE")]
    queue: String,
    /// The delayed tasks too, retries that wait for their time among them.
    #[arg(long)]
    delayed: bool,
    /// Change nothing, only count.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

// Tasks of one call.
const PAGE: u32 = 1_000;

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.purge().await, json)
    }

    async fn purge(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let (mut is_wanted, mut total) = (true, None);
        if !self.dry_run && !self.yes {
            let count = self.walk(&connection, true, None).await?;
            total = Some(count);
            // What comes after an empty count was never asked about.
            is_wanted = count > 0;
            if is_wanted && !confirm::ask(&format!("end {} of queue {:?}", tasks(count), self.queue))? {
                output::remark("nothing was changed");
                return Ok(Exit::Ok);
            }
        }
        let count = if is_wanted { self.walk(&connection, self.dry_run, total).await? } else { 0 };
        if self.remote.json {
            let queue = self.queue.as_str();
            let told = [("queue", queue.into()), ("purged", count.into()), ("dry_run", self.dry_run.into())];
            output::line(&output::object(told).to_string())?;
        } else {
            let how = if self.dry_run { "would be purged" } else { "purged" };
            output::line(&format!("{} {how}", tasks(count)))?;
        }
        Ok(Exit::Ok)
    }

    /// Goes through all that waits, a page at a time; `total` tasks, if they were counted.
    async fn walk(&self, connection: &Connection, dry_run: bool, total: Option<u64>) -> Result<u64, Failure> {
        let doing = if dry_run { "counting" } else { "purging" };
        let mut progress = Progress::begin(doing, Unit::Tasks, total, self.remote.json);
        let (mut count, mut page_token) = (0, String::new());
        loop {
            let request = proto::PurgeQueueRequest {
                queue: self.queue.clone(),
                include_delayed: self.delayed,
                dry_run,
                page_size: PAGE,
                page_token,
            };
            let answer = connection.queues().purge_queue(remote::quick(request)).await?.into_inner();
            count += answer.purged;
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(count);
            }
            progress.show(count);
        }
    }
}

fn tasks(count: u64) -> String {
    if count == 1 { "1 task".into() } else { format!("{count} tasks") }
}
