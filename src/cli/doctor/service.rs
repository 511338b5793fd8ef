//! What a server tells: its version, clock, stores, workers and queues.

use std::time::Duration;

use lineshaft_client::proto;
use tokio::time::Instant;

use super::super::remote::{self, Connection};
use super::super::{Failure, Remote, output, span};
use super::Check;
use crate::clock::{Clock, SystemClock};

/// Queues whose waiting tasks are looked at: the first, in the order of their names.
const QUEUES_MAX: u32 = 100;

/// Waiting tasks looked at in each queue.
const PENDING_MAX: u32 = 100;

/// Workers counted.
const WORKERS_MAX: u32 = 1_000;

/// Clocks apart by more than this make ETAs and ages misleading.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(2);

pub(super) async fn look(remote: &Remote) -> Vec<Check> {
    let connection = match remote.connect().await {
        Ok(connection) => connection,
        Err(failure) => return vec![Check::fail("server", failure.to_string(), "")],
    };
    let begun = Instant::now();
    let info = match connection.server().get_server_info(remote::quick(proto::GetServerInfoRequest {})).await {
        Ok(info) => info.into_inner(),
        Err(status) => return vec![Check::fail("server", Failure::from(status).to_string(), "")],
    };
    let trip = begun.elapsed();
    let mut checks = vec![
        Check::ok("server", format!("{} answers in {}", remote.url(), span::human(trip))),
        encryption(&remote.url()),
        version(&info.version),
        clock(info.server_time.as_ref(), trip),
        stores(&info.guarantees.unwrap_or_default()),
    ];
    let seen = async {
        let mut seen = workers(&connection).await?;
        seen.extend(queues(&connection).await?);
        Ok::<_, Failure>(seen)
    };
    checks.extend(seen.await.unwrap_or_else(|failure| vec![Check::fail("queues", failure.to_string(), "")]));
    checks
}

fn encryption(url: &str) -> Check {
    let host = url.split("://").nth(1).unwrap_or(url);
    if ["127.", "localhost", "[::1]"].iter().any(|loopback| host.starts_with(loopback)) {
        return Check::ok("encryption", "none, and none is needed: the server is on this machine");
    }
    Check::warn(
        "encryption",
        "none: arguments and results are readable on the way",
        "use a private network or a tunnel",
    )
}

fn version(server: &str) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    if server == own {
        return Check::ok("version", format!("{server}, as this program"));
    }
    Check::warn(
        "version",
        format!("the server is {server}, this program {own}"),
        "use the program of the server's version",
    )
}

fn clock(server: Option<&prost_types::Timestamp>, trip: Duration) -> Check {
    const NAME: &str = "clock";
    let Some(server) = server.and_then(output::wall) else {
        return Check::warn(NAME, "the server does not tell its time", "it is older than this program; update it");
    };
    let now = SystemClock.wall();
    // The answer was made at some moment of the round trip.
    let apart = if server > now { now.until(server) } else { server.until(now) }.saturating_sub(trip);
    if apart > CLOCKS_APART_MAX {
        let found = format!("the server's and this machine's are {} apart", span::human(apart));
        return Check::warn(NAME, found, "set both by NTP; ETAs and ages are misleading meanwhile");
    }
    Check::ok(NAME, "the server's and this machine's agree")
}

fn stores(guarantees: &proto::Guarantees) -> Check {
    let named = format!("{}, {}, {}", guarantees.broker, guarantees.ledger, guarantees.backend);
    let found = format!("{named}: {}", guarantees.durability);
    if guarantees.broker == "memory" {
        return Check::warn("stores", found, "for tests only; start `lineshaft serve` without --ephemeral");
    }
    Check::ok("stores", found)
}

async fn workers(connection: &Connection) -> Result<Vec<Check>, Failure> {
    let request = proto::ListWorkersRequest { page_size: WORKERS_MAX, page_token: String::new() };
    let page = connection.workers().list_workers(remote::quick(request)).await?.into_inner();
    let attached = page.workers.iter().filter(|worker| worker.attached).count();
    let more = if page.next_page_token.is_empty() { "" } else { " or more" };
    Ok(vec![match attached {
        0 => Check::warn("workers", "none is attached", "nothing runs before one is; start one"),
        _ => Check::ok("workers", format!("{attached}{more} attached")),
    }])
}

async fn queues(connection: &Connection) -> Result<Vec<Check>, Failure> {
    let request = proto::ListQueuesRequest { page_size: QUEUES_MAX, ..proto::ListQueuesRequest::default() };
    let page = connection.queues().list_queues(remote::quick(request)).await?.into_inner();
    let mut checks = Vec::new();
    for queue in &page.queues {
        let name = &queue.name;
        if queue.paused {
            let advice = format!("`lineshaft resume {name}` goes on");
            checks.push(Check::warn("queue", format!("{name:?} is paused, {} wait", queue.waiting), advice));
        }
        checks.extend(unclaimed(connection, name).await?);
    }
    if checks.is_empty() {
        checks.push(Check::ok("queues", format!("{} looked at, none is paused or waits in vain", page.queues.len())));
    }
    if !page.next_page_token.is_empty() {
        let found = format!("the first {QUEUES_MAX} were looked at, there are more");
        checks.push(Check::warn("queues", found, "`lineshaft queues` shows all"));
    }
    Ok(checks)
}

async fn unclaimed(connection: &Connection, queue: &str) -> Result<Option<Check>, Failure> {
    let request = proto::GetPendingTasksRequest {
        queue: queue.to_owned(),
        page_size: PENDING_MAX,
        ..proto::GetPendingTasksRequest::default()
    };
    let page = connection.queues().get_pending_tasks(remote::quick(request)).await?.into_inner();
    let mut names: Vec<&str> = page
        .tasks
        .iter()
        .filter(|pending| pending.unclaimed)
        .filter_map(|pending| Some(pending.task.as_ref()?.name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(None);
    }
    let found = format!("tasks wait in {queue:?} whose names nobody takes: {}", names.join(", "));
    Ok(Some(Check::warn("queue", found, "start a worker that registers them")))
}
