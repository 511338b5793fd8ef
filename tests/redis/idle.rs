//! A server that has nothing to do leaves Redis alone: what a hundred queues with a worker each cost while nothing is sent.

use std::time::Duration;

use lineshaft_client::{Client, Failure, Task, Worker, proto};

use crate::support::redis::Redis;
use crate::support::{Options, Process, until};
use crate::world::*;

/// Queues, each with a worker of its own, on a connection of its own.
const QUEUES: usize = 100;
/// How long is measured.
const SPAN: Duration = Duration::from_secs(20);
/// What all of it may cost, commands a second.
const COMMANDS_MAX: f64 = 20.0;
/// How long a task may take from its sending to its result.
const RESULT_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_idle_queues_and_workers_cost_fewer_than_twenty_commands_a_second() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(&directory.path().join("data"), Options::default().env("BROKER", &redis.url()));
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..QUEUES {
        let client = Client::connect(server.url()).await.unwrap();
        let worker = Worker::builder(&client)
            .queue(format!("idle{n}"))
            .register("echo", async |text: String| Ok::<_, Failure>(text));
        workers.spawn(worker.build().unwrap().run());
    }
    let client = Client::connect(server.url()).await.unwrap();
    until("all workers are attached", async || {
        let request = proto::ListWorkersRequest { page_size: 1_000, ..Default::default() };
        let listed = client.worker_service().list_workers(request).await.unwrap().into_inner().workers;
        (listed.len() == QUEUES).then_some(())
    })
    .await;
    // Real time: how many commands there are in a while is the question. The first span is for what a start costs.
    let mut connection = redis.connection().await;
    let mut ticks = tokio::time::interval(SPAN / 4);
    ticks.tick().await;
    ticks.tick().await;
    let before = commands(&mut connection).await;
    for _ in 0..4 {
        ticks.tick().await;
    }
    let spent = (commands(&mut connection).await - before) as f64 / SPAN.as_secs_f64();
    println!("{QUEUES} queues and {QUEUES} workers, nothing sent: {spent:.1} commands a second");
    assert!(spent < COMMANDS_MAX, "{spent:.1} commands a second");
    // And none of them has fallen asleep over it.
    for n in 0..QUEUES {
        let sent = client.send(Task::new("echo").queue(format!("idle{n}")).arg("awake")).await.unwrap();
        assert_eq!(sent.get::<String>(RESULT_MAX).await.unwrap(), "awake");
    }
}
