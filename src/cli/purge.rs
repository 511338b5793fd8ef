//! `purge`: end all that waits in a queue.

use std::io::{self, IsTerminal, Write};

use lineshaft_client::proto;

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
        let mut is_wanted = true;
        if !self.dry_run && !self.yes {
            let count = self.walk(&connection, true).await?;
            // What comes after an empty count was never asked about.
            is_wanted = count > 0;
            if is_wanted && !confirm::ask(&format!("end {} of queue {:?}", tasks(count), self.queue))? {
                output::remark("nothing was changed");
                return Ok(Exit::Ok);
            }
        }
        let count = if is_wanted { self.walk(&connection, self.dry_run).await? } else { 0 };
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

    /// Goes through all that waits, a page at a time.
    async fn walk(&self, connection: &Connection, dry_run: bool) -> Result<u64, Failure> {
        let is_watched = !self.remote.json && io::stderr().is_terminal();
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
            let is_last = page_token.is_empty();
            if is_watched {
                // One line that is written over, and taken away at the end. Nothing is lost if it cannot be written.
                let text = if is_last { String::new() } else { format!("{} so far", tasks(count)) };
                let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
            }
            if is_last {
                return Ok(count);
            }
        }
    }
}

fn tasks(count: u64) -> String {
    if count == 1 { "1 task".into() } else { format!("{count} tasks") }
}
