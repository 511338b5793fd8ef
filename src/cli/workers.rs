//! `workers`: who is there to work.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{Subscription, WorkerInfo};
use serde_json::Value;

use super::listing::Listing;
use super::{Exit, Failure, Remote, exit, output, remote, span};

/// Show the workers whose sessions live: what they take, how much they hold, when they were last heard of.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
}

// Pages are walked to the end: sessions are bounded by the server.
const PAGE: u32 = 1_000;

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let headings = ["WORKER", "CLIENT", "TAKES", "SLOTS", "LEASES", "HEARD", "ATTACHED"];
        let mut listing = Listing::new(self.remote.json, 0, headings);
        let mut page_token = String::new();
        loop {
            let request = proto::ListWorkersRequest { page_size: PAGE, page_token };
            let page = connection.workers().list_workers(remote::quick(request)).await?.into_inner();
            listing.show(&page.workers, row, to_json)?;
            page_token = page.next_page_token;
            if !listing.wants(&page_token) {
                return listing.end(&page_token);
            }
        }
    }
}

pub(super) fn heard(worker: &WorkerInfo) -> Option<Duration> {
    worker.last_heartbeat_age.and_then(|age| Duration::try_from(age).ok())
}

fn row(worker: &WorkerInfo) -> [String; 7] {
    let takes: Vec<String> = worker.subscriptions.iter().map(takes).collect();
    [
        output::cell(&worker.worker),
        output::cell(format!("{} {}", worker.language, worker.version).trim()),
        output::cell(&takes.join("; ")),
        if worker.concurrency == 0 { "no limit".into() } else { worker.concurrency.to_string() },
        worker.leases.to_string(),
        heard(worker).map_or("–".into(), |age| format!("{} ago", span::human(age))),
        if worker.attached { "yes" } else { "no" }.into(),
    ]
}

fn takes(subscription: &Subscription) -> String {
    let names = subscription.names.join(", ");
    if subscription.queue.is_empty() { names } else { format!("{names} from {}", subscription.queue) }
}

/// A worker for `--json`.
pub fn to_json(worker: &WorkerInfo) -> Value {
    let subscriptions: Vec<Value> = worker
        .subscriptions
        .iter()
        .map(|subscription| {
            output::object([
                ("queue", subscription.queue.clone().into()),
                ("names", subscription.names.clone().into()),
                ("weight", subscription.weight.into()),
            ])
        })
        .collect();
    output::object([
        ("session_id", worker.session_id.clone().into()),
        ("worker", worker.worker.clone().into()),
        ("language", worker.language.clone().into()),
        ("version", worker.version.clone().into()),
        ("subscriptions", subscriptions.into()),
        ("concurrency", worker.concurrency.into()),
        ("leases", worker.leases.into()),
        ("attached", worker.attached.into()),
        ("last_heartbeat_age_seconds", heard(worker).map_or(Value::Null, output::seconds)),
    ])
}
