//! The gate that load cannot blur: how much of Redis' own processor time a task takes from its sending to its result, through
//! a real server and a real worker, in batches. Measured by hand, alone on the machine, while the goal is not reached:
//! `LINESHAFT_MEASURE=1 cargo test --release --test redis gate -- --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lineshaft_client::{Client, Failure, Task, Worker};

use crate::cost::processor;
use crate::support::redis::Redis;
use crate::support::{Options, Process, until};
use crate::world::*;

/// Tasks of a measurement, after as many that are not measured.
const COUNT: usize = 20_000;
/// Tasks of a send, and attempts at a time.
const BATCH: usize = 64;
/// What all of it may take of Redis, µs a task.
const MICROS_MAX: f64 = 18.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_takes_less_than_18_microseconds_of_redis_from_its_sending_to_its_result() {
    needs_redis!();
    if std::env::var_os("LINESHAFT_MEASURE").is_none() {
        return;
    }
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(&directory.path().join("data"), Options::default().env("BROKER", &redis.url()));
    let client = Client::connect(server.url()).await.unwrap();
    let pid = redis.pid().await;
    let mut connection = redis.connection().await;
    let mut measured = (0.0, 0.0);
    for _ in 0..2 {
        run(&mut connection, &["CONFIG", "RESETSTAT"]).await;
        let begun = processor(pid);
        for _ in 0..COUNT / BATCH {
            let tasks = (0..BATCH).map(|_| Task::new("count").queue("q").arg("x".repeat(256)));
            assert!(client.send_all(tasks).await.iter().all(Result::is_ok));
        }
        let sent = processor(pid);
        let total = Arc::new(AtomicUsize::new(0));
        let ran = total.clone();
        let handler = move |_: String| {
            ran.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Failure>(()) }
        };
        let worker = Worker::builder(&client).queue("q").concurrency(BATCH as u32).register("count", handler);
        let worker = worker.build().unwrap();
        let stopper = worker.stopper();
        let working = tokio::spawn(worker.run());
        let all = COUNT / BATCH * BATCH;
        until("all have run", async || (total.load(Ordering::Relaxed) == all).then_some(())).await;
        stopper.stop();
        // Once it has ended, each report is answered.
        working.await.unwrap().unwrap();
        measured = ((sent - begun) / all as f64, (processor(pid) - sent) / all as f64);
    }
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    for line in stats.lines().filter(|line| line.starts_with("cmdstat")) {
        println!("{line}");
    }
    let (send, rest) = measured;
    println!(
        "µs of Redis for each task: {send:.1} to send, {rest:.1} from the lease to the result, {:.1} in all",
        send + rest
    );
    assert!(send + rest <= MICROS_MAX, "{:.1} µs of Redis for each task", send + rest);
}
