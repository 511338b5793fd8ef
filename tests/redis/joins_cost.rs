//! What a chord costs the stores: commands of Redis and calls of ledger and backend, which grow as its members do.

use std::net::SocketAddr;
use std::path::Path;

use lineshaft_client::Client;
use lineshaft_client::proto::{
    GetGroupRequest, Lease, LeaseTasksRequest, Report, ReportTasksRequest, SendChordRequest, Subscription, Success,
    Task, report,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::redis::Redis;
use crate::support::{Options, Process, until};
use crate::world::*;

/// Members of the smaller chord.
const FEW: u32 = 1_000;
/// Members of the larger one.
const MANY: u32 = 10_000;
/// What ten times as many members may cost.
const RATIO_MAX: f64 = 11.0;
/// Attempts that begin and end together.
const BATCH: u32 = 100;

fn task(name: &str, id: String) -> Task {
    Task { id, name: name.to_owned(), queue: "q".to_owned(), ..Task::default() }
}

/// Sends a chord of so many, and works it off together with its callback.
async fn chord(client: &Client, count: u32) {
    let id = format!("chord-{count}");
    let request = SendChordRequest {
        group_id: id.clone(),
        tasks: (0..count).map(|n| task("member", format!("{id}-{n}"))).collect(),
        callback: Some(task("callback", format!("{id}-callback"))),
        ..SendChordRequest::default()
    };
    client.task_service().send_chord(request).await.unwrap();
    let mut workers = client.worker_service();
    let (mut session, mut left) = (None, count + 1);
    while left > 0 {
        let names = vec!["member".to_owned(), "callback".to_owned()];
        let request = LeaseTasksRequest {
            session: session.take(),
            subscriptions: vec![Subscription { queue: "q".to_owned(), names, weight: 1 }],
            tasks_max: BATCH,
            wait_max: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..LeaseTasksRequest::default()
        };
        let leased = workers.lease_tasks(request).await.unwrap().into_inner();
        session = leased.session;
        left -= u32::try_from(leased.leases.len()).unwrap();
        let done = |lease: Lease| Report {
            lease_id: lease.lease_id,
            outcome: Some(report::Outcome::Success(Success::default())),
            ..Report::default()
        };
        let reports: Vec<Report> = leased.leases.into_iter().map(done).collect();
        if !reports.is_empty() {
            workers.report_tasks(ReportTasksRequest { reports }).await.unwrap();
        }
    }
    until("the chord is complete", async || {
        let request = GetGroupRequest { group_id: id.clone(), page_size: 1, ..GetGroupRequest::default() };
        let group = client.task_service().get_group(request).await.unwrap().into_inner().group.unwrap();
        group.completed.then_some(())
    })
    .await;
}

/// Calls of the stores by seam, as the page of metrics tells them.
async fn calls(addr: SocketAddr) -> [f64; 3] {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    ["ledger", "backend", "fused"].map(|seam| {
        let (name, label) = ("lineshaft_store_call_seconds_count{", format!("seam=\"{seam}\""));
        let counts = page.lines().filter(|line| line.starts_with(name) && line.contains(&label));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    })
}

/// Calls of both chords, by seam.
async fn costs(directory: &Path, options: Options, mut count: impl AsyncFnMut() -> f64) -> (Vec<f64>, Vec<f64>) {
    let server = Process::start(&directory.join("data"), options);
    let client = Client::connect(server.url()).await.unwrap();
    // Whatever is set up by the first is not a matter of size.
    chord(&client, BATCH).await;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for (size, costs) in [(FEW, &mut few), (MANY, &mut many)] {
        let (before, of_store) = (calls(server.addr).await, count().await);
        chord(&client, size).await;
        costs.extend(calls(server.addr).await.iter().zip(before).map(|(after, before)| after - before));
        costs.push(count().await - of_store);
    }
    (few, many)
}

fn assert_linear(store: &str, few: &[f64], many: &[f64]) {
    let seams = ["calls of the ledger", "calls of the backend", "steps in one", "commands"];
    for (what, (few, many)) in seams.iter().zip(few.iter().zip(many)) {
        let ratio = many / few.max(1.0);
        println!("{store}, {what}: {few} for a chord of {FEW}, {many} for one of {MANY}, {ratio:.2} x");
        assert!(ratio <= RATIO_MAX, "{store}, {what}: {few} for {FEW}, {many} for {MANY}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_members_cost_ten_times_the_commands_of_redis() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let mut connection = redis.connection().await;
    // Those that scripts carry out are counted too.
    let commands = async || {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
        let calls = info.lines().filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<f64>().ok());
        calls.sum()
    };
    let (few, many) = costs(directory.path(), Options::default().env("BROKER", &redis.url()), commands).await;
    assert_linear("Redis", &few, &many);
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_ten_times_the_calls_of_the_embedded_store() {
    let directory = tempfile::tempdir().unwrap();
    let (few, many) = costs(directory.path(), Options::default(), async || 0.0).await;
    assert_linear("embedded", &few, &many);
}
