//! `queues`: how much waits where, who takes it, what happens.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{Queue, QueueRates};
use serde_json::{Number, Value};

use super::listing::Listing;
use super::{Exit, Failure, Remote, exit, output, remote, span};

/// Show queues: what waits, is delayed and leased, how old the oldest is, who takes from it, and rates over the last minute.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Only this queue; unset: all.
    #[arg(value_name = "QUEUE")]
    queue: Option<String>,
    /// Only queues whose names begin so.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, conflicts_with = "queue")]
    prefix: String,
}

// Pages are walked to the end.
const PAGE: u32 = 1_000;

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let mut queues = connection.queues();
        let mut listing = Listing::new(self.remote.json, 0, HEADINGS);
        if let Some(queue) = self.queue {
            let request = proto::GetQueueRequest { queue };
            let answer = queues.get_queue(remote::quick(request)).await?.into_inner();
            listing.show(&[answer.queue.unwrap_or_default()], row, to_json)?;
            return listing.end("");
        }
        let mut page_token = String::new();
        loop {
            let request = proto::ListQueuesRequest { page_size: PAGE, page_token, name_prefix: self.prefix.clone() };
            let page = queues.list_queues(remote::quick(request)).await?.into_inner();
            listing.show(&page.queues, row, to_json)?;
            page_token = page.next_page_token;
            if !listing.wants(&page_token) {
                return listing.end(&page_token);
            }
        }
    }
}

/// Over a table of queues.
pub const HEADINGS: [&str; 10] =
    ["QUEUE", "WAITING", "DELAYED", "LEASED", "OLDEST", "WORKERS", "SENT/S", "DONE/S", "FAILED/S", "NOTE"];

/// A queue as a row of the table of queues.
pub fn row(queue: &Queue) -> [String; 10] {
    let rates = queue.rates.unwrap_or_default();
    let note = match queue.paused {
        true => format!("paused for {}", output::age(queue.paused_at.as_ref())),
        false if queue.waiting > 0 && queue.workers == 0 => "no worker".into(),
        false if queue.parked > 0 => format!("{} parked", queue.parked),
        false => String::new(),
    };
    [
        output::cell(&queue.name),
        queue.waiting.to_string(),
        queue.delayed.to_string(),
        queue.leased.to_string(),
        oldest(queue).map_or("–".into(), span::human),
        queue.workers.to_string(),
        format!("{:.1}", rates.sent),
        format!("{:.1}", rates.succeeded),
        format!("{:.1}", rates.failed),
        note,
    ]
}

fn oldest(queue: &Queue) -> Option<Duration> {
    queue.oldest_age.and_then(|age| Duration::try_from(age).ok())
}

fn rates_to_json(rates: &QueueRates) -> Value {
    let rate = |rate: f64| Number::from_f64(rate).map_or(Value::Null, Value::Number);
    output::object([
        ("sent", rate(rates.sent)),
        ("leased", rate(rates.leased)),
        ("succeeded", rate(rates.succeeded)),
        ("failed", rate(rates.failed)),
        ("retried", rate(rates.retried)),
        ("lost", rate(rates.lost)),
        ("released", rate(rates.released)),
        ("purged", rate(rates.purged)),
    ])
}

/// A queue for `--json`.
pub fn to_json(queue: &Queue) -> Value {
    output::object([
        ("name", queue.name.clone().into()),
        ("waiting", queue.waiting.into()),
        ("delayed", queue.delayed.into()),
        ("parked", queue.parked.into()),
        ("leased", queue.leased.into()),
        ("oldest_sent_at", output::moment(queue.oldest_sent_at.as_ref())),
        ("oldest_age_seconds", oldest(queue).map_or(Value::Null, output::seconds)),
        ("paused", queue.paused.into()),
        ("paused_at", output::moment(queue.paused_at.as_ref())),
        ("workers", queue.workers.into()),
        ("rates", queue.rates.as_ref().map_or(Value::Null, rates_to_json)),
        ("others_may_take", queue.others_may_take.into()),
    ])
}
