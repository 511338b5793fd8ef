//! A million delayed tasks wait in Redis and nowhere else: the server's memory does not grow with them, and those that
//! become due run once each.
//!
//! 20,000 by default; `LINESHAFT_SCALE=1000000` is the size the promise is made for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use lineshaft_client::{Client, Failure, Worker, proto};

use crate::support::redis::Redis;
use crate::support::{Options, Process, until};
use crate::world::*;

/// Delayed tasks, where nothing else is asked for.
const SCALE: usize = 20_000;
/// One in so many becomes due.
const DUE_EACH: usize = 10;
/// Tasks in one call.
const BATCH: usize = 1_000;
/// What the server's memory may grow by, whatever the size, bytes.
const GROWTH_MAX: u64 = 64 << 20;
/// How long those wait that become due, seconds.
const SOON: i64 = 5;
/// How long the others wait, seconds.
const DAY: i64 = 86_400;

fn scale() -> usize {
    std::env::var("LINESHAFT_SCALE").map_or(SCALE, |text| text.parse().expect("LINESHAFT_SCALE is a number"))
}

/// Resident memory of the server, bytes.
fn memory(server: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Sends so many, all delayed by so many seconds, each with its number; answers the most memory the server had meanwhile.
async fn send(client: &Client, server: &Process, count: usize, seconds: i64) -> u64 {
    let mut most = memory(server);
    for first in (0..count).step_by(BATCH) {
        let one = |n: usize| {
            let task = lineshaft_client::Task::new("count").queue("q").arg(n as u64).into_proto();
            proto::Task { delay: Some(prost_types::Duration { seconds, nanos: 0 }), ..task }
        };
        let tasks: Vec<_> = (first..count.min(first + BATCH)).map(one).collect();
        let sent = tasks.len();
        let answer = client.task_service().send_tasks(proto::SendTasksRequest { tasks }).await.unwrap().into_inner();
        let is_sent = |one: &&proto::SendResult| matches!(one.result, Some(proto::send_result::Result::TaskId(_)));
        assert_eq!(answer.results.iter().filter(is_sent).count(), sent);
        most = most.max(memory(server));
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_tasks_take_no_memory_of_the_server_and_run_once_each_when_they_are_due() {
    needs_redis!();
    let (due, far) = (scale() / DUE_EACH, scale() - scale() / DUE_EACH);
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(&directory.path().join("data"), Options::default().env("BROKER", &redis.url()));
    let client = Client::connect(server.url()).await.unwrap();
    // A server that has worked before: what it allocates once is not what grows.
    let mut connection = redis.connection().await;
    send(&client, &server, BATCH, DAY).await;
    run(&mut connection, &["DEL", "delayed_tasks"]).await;
    let before = memory(&server);

    let most = send(&client, &server, far, DAY).await;
    let sent = memory(&server);
    let runs: Arc<Vec<AtomicU8>> = Arc::new((0..due).map(|_| AtomicU8::new(0)).collect());
    let total = Arc::new(AtomicUsize::new(0));
    let worker = {
        let (runs, total) = (runs.clone(), total.clone());
        let ran = move |n: u64| {
            let known = runs.get(n as usize).map(|runs| runs.fetch_add(1, Ordering::Relaxed));
            total.fetch_add(1, Ordering::Relaxed);
            async move { known.map(|_| ()).ok_or_else(|| Failure::fatal("it is not due")) }
        };
        Worker::builder(&client).queue("q").concurrency(64).register("count", ran).build().unwrap()
    };
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());
    let mut most = most.max(send(&client, &server, due, SOON).await);
    let mut seen = 0;
    while seen < due {
        // However many there are, another one runs soon.
        seen = until("another due task runs", async || {
            most = most.max(memory(&server));
            let now = total.load(Ordering::Relaxed);
            (now > seen || now >= due).then_some(now)
        })
        .await;
    }
    stopper.stop();
    working.await.unwrap().unwrap();

    assert_eq!(runs.iter().filter(|runs| runs.load(Ordering::Relaxed) != 1).count(), 0, "each due task runs once");
    assert_eq!(total.load(Ordering::Relaxed), due, "nothing else runs");
    let left: usize = redis::cmd("ZCARD").arg("delayed_tasks").query_async(&mut connection).await.unwrap();
    assert_eq!(left, far);
    let ended = memory(&server);
    println!(
        "{far} delayed tasks and {due} that became due and ran: resident {} MiB before, {} MiB once they were sent, {} MiB at \
         the end, {} MiB at most",
        before >> 20,
        sent >> 20,
        ended >> 20,
        most >> 20
    );
    assert!(most.saturating_sub(before) < GROWTH_MAX, "it grew by {} MiB", most.saturating_sub(before) >> 20);
}
