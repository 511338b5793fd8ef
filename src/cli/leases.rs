//! `leases`: who holds what.

use lineshaft_client::proto;
use proto::LeaseInfo;
use serde_json::Value;

use super::filter::{self, Term};
use super::listing::Listing;
use super::{Exit, Failure, Remote, exit, output, remote};

/// Show the leases in force, oldest first: which attempt of which task is with which worker, since when.
#[derive(Debug, clap::Args)]
#[command(after_help = help(), after_long_help = help())]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Only those that fit; see below.
    #[arg(value_name = "FILTER", value_parser = filter::parse_leases)]
    filters: Vec<Term>,
}

// Pages are walked to the end: leases are bounded by the sessions, not by the backlog.
const PAGE: u32 = 1_000;

fn help() -> String {
    format!("{}\n\n{}", filter::LEASES_HELP, exit::HELP)
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let headings = ["TASK", "NAME", "QUEUE", "ATTEMPT", "TOKEN", "WORKER", "HELD", "ACCEPTED"];
        let mut listing = Listing::new(self.remote.json, 0, headings);
        let filter = filter::leases(&self.filters);
        let mut page_token = String::new();
        loop {
            let request = proto::ListLeasesRequest {
                queue: filter.queue.clone(),
                session_id: filter.session.clone(),
                page_size: PAGE,
                page_token,
            };
            let page = connection.queues().list_leases(remote::quick(request)).await?.into_inner();
            listing.show(page.leases.iter().filter(|lease| filter.fits(lease)), row, to_json)?;
            page_token = page.next_page_token;
            if !listing.wants(&page_token) {
                return listing.end(&page_token);
            }
        }
    }
}

fn row(lease: &LeaseInfo) -> [String; 8] {
    [
        output::cell(&lease.task_id),
        output::cell(&lease.task_name),
        output::cell(&lease.queue),
        lease.attempt.to_string(),
        lease.fencing_token.to_string(),
        output::cell(&lease.worker),
        output::age(lease.leased_at.as_ref()),
        if lease.accepted { "yes" } else { "not yet" }.into(),
    ]
}

fn to_json(lease: &LeaseInfo) -> Value {
    output::object([
        ("lease_id", lease.lease_id.clone().into()),
        ("fencing_token", lease.fencing_token.into()),
        ("task_id", lease.task_id.clone().into()),
        ("task_name", lease.task_name.clone().into()),
        ("queue", lease.queue.clone().into()),
        ("attempt", lease.attempt.into()),
        ("session_id", lease.session_id.clone().into()),
        ("worker", lease.worker.clone().into()),
        ("leased_at", output::moment(lease.leased_at.as_ref())),
        ("accepted", lease.accepted.into()),
    ])
}
