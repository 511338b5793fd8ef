//! What the broker costs Redis: processor time of the server process, and commands while nothing happens. Measured by hand:
//! `LINESHAFT_MEASURE=1 cargo test --release --test redis cost -- --nocapture --test-threads=1`.

use std::time::Duration;

use futures::future::join_all;
use lineshaft::broker::redis::Options;
use lineshaft::broker::{Broker as _, NewTask, Settle};

use crate::support::redis::Redis;
use crate::world::*;

/// Messages of a measurement.
const COUNT: usize = 20_000;
/// A usual body of Machinery, bytes.
const BODY: usize = 691;

/// Processor time of a process, µs.
pub(crate) fn processor(pid: u32) -> f64 {
    // Finer than /proc/PID/stat: the first number is time on a processor, ns.
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1_000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cost_of_publishing_taking_and_settling() {
    needs_redis!();
    if std::env::var_os("LINESHAFT_MEASURE").is_none() {
        return;
    }
    let redis = Redis::start(&[]).await;
    let broker = on(redis.link().await, Options::default()).await;
    let pid = redis.pid().await;
    println!("batch  publish  take  ack  back (µs of Redis for each message)");
    for batch in [1, 16, 64, 256] {
        // Single messages come from many callers at once.
        let callers = if batch == 1 { 64 } else { 1 };
        let rounds = COUNT / batch / callers;
        let tasks: Vec<NewTask> =
            (0..batch).map(|n| NewTask { body: vec![b'x'; BODY].into(), ..message(&format!("m{n}")) }).collect();
        let mut spent = [0.0; 4];
        for _ in 0..rounds {
            let mut before = processor(pid);
            let mut measure = |step: usize| {
                let now = processor(pid);
                spent[step] += now - std::mem::replace(&mut before, now);
            };
            let published = join_all((0..callers).map(|_| broker.publish(&tasks))).await;
            measure(0);
            assert!(published.iter().flatten().all(Result::is_ok));
            for (step, how) in [(3, UNTOUCHED), (2, Settle::Ack)] {
                measure(step);
                let taken = join_all((0..callers).map(|_| take(&broker, batch))).await;
                measure(1);
                let settled = join_all(taken.iter().map(async |taken| {
                    assert_eq!(taken.len(), batch);
                    let items: Vec<_> = taken.iter().map(|delivery| (delivery.receipt.clone(), how)).collect();
                    broker.settle(&items).await
                }))
                .await;
                measure(step);
                assert!(settled.iter().flatten().all(Result::is_ok));
            }
        }
        // Each was taken twice.
        spent[1] /= 2.0;
        let [publish, take, ack, back] = spent.map(|spent| spent / (rounds * callers * batch) as f64);
        println!("{batch:5}  {publish:7.2}  {take:4.2}  {ack:4.2}  {back:4.2}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_while_a_hundred_queues_are_waited_for() {
    needs_redis!();
    if std::env::var_os("LINESHAFT_MEASURE").is_none() {
        return;
    }
    let redis = Redis::start(&[]).await;
    let broker = on(redis.link().await, Options::default()).await;
    for n in 0..100 {
        let waiter = broker.clone();
        tokio::spawn(async move { waiter.ready(&queue(&format!("q{n}")), &[]).await });
    }
    let mut connection = redis.connection().await;
    let mut ticks = tokio::time::interval(Duration::from_secs(60));
    ticks.tick().await;
    ticks.tick().await;
    let before = commands(&mut connection).await;
    ticks.tick().await;
    println!("{:.1} commands a second", (commands(&mut connection).await - before) as f64 / 60.0);
}
