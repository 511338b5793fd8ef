//! A server, replicas on it, and short ways to use them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::broker::redis::{Broker, Options};
use lineshaft::broker::{Broker as _, Delivery, NewTask, Published, Settle, Want};
use lineshaft::clock::SystemClock;
use lineshaft::link::redis::Link;
use lineshaft::task::{MessageKey, QueueName, TaskId, TaskName};
use redis::aio::MultiplexedConnection;

use crate::support::redis::Redis;
use crate::support::until;

/// Skips a test where there is no server.
macro_rules! needs_redis {
    () => {
        if let Some(why) = crate::support::redis::Redis::missing() {
            use std::io::Write;
            // Not `eprintln`, which the test runner keeps to itself when a test passes.
            drop(writeln!(std::io::stderr(), "skipped {}: {why}", module_path!()));
            return;
        }
    };
}
pub(crate) use needs_redis;

/// Back at once, and no attempt began.
pub(crate) const UNTOUCHED: Settle = Settle::Return { after: Duration::ZERO, began: false };
/// Back at once, and an attempt may have begun.
pub(crate) const BEGUN: Settle = Settle::Return { after: Duration::ZERO, began: true };

/// A dead replica is noticed within the patience of a test.
pub(crate) fn quick() -> Options {
    Options { beat: Duration::from_millis(20), dead_after: Duration::from_millis(200), ..Options::default() }
}

pub(crate) async fn replica(redis: &Redis) -> Arc<Broker> {
    on(redis.link().await, quick()).await
}

pub(crate) async fn on(link: Link, options: Options) -> Arc<Broker> {
    Arc::new(Broker::open(link, options, Arc::new(SystemClock)).await.unwrap())
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A message whose body is its label.
pub(crate) fn message(label: &str) -> NewTask {
    NewTask {
        key: MessageKey::new(label).unwrap(),
        task: TaskId::new(label).unwrap(),
        name: TaskName::new("work").unwrap(),
        queue: queue("q"),
        routing_key: None,
        body: Bytes::copy_from_slice(label.as_bytes()),
        available_at: None,
        priority: 0,
    }
}

pub(crate) async fn publish(broker: &Broker, labels: &[String]) {
    for labels in labels.chunks(256) {
        let tasks: Vec<NewTask> = labels.iter().map(|label| message(label)).collect();
        assert!(broker.publish(&tasks).await.iter().all(|answer| *answer == Ok(Published::New)));
    }
}

pub(crate) fn labels(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:05}")).collect()
}

pub(crate) async fn take(broker: &Broker, max: usize) -> Vec<Delivery> {
    take_from(broker, "q", max).await
}

pub(crate) async fn take_from(broker: &Broker, name: &str, max: usize) -> Vec<Delivery> {
    let (queue, max) = (queue(name), NonZeroUsize::new(max).unwrap());
    let want = Want { queue: &queue, names: &[], max, body_bytes_max: usize::MAX };
    // Nothing was taken, or what was taken comes again.
    broker.take(&want).await.unwrap_or_default()
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).into_owned()
}

/// Acknowledges what comes until there are `count` different bodies.
pub(crate) async fn drain(broker: &Broker, count: usize) -> Vec<Delivery> {
    let mut all: std::collections::HashMap<Bytes, Delivery> = std::collections::HashMap::new();
    until(&format!("{count} messages"), async || {
        for delivery in take(broker, 256).await {
            broker.settle(&[(delivery.receipt.clone(), Settle::Ack)]).await;
            all.insert(delivery.body.clone(), delivery);
        }
        (all.len() >= count).then_some(())
    })
    .await;
    all.into_values().collect()
}

/// Nothing is anywhere in queue `q` any more.
pub(crate) async fn nothing_is_left(connection: &mut MultiplexedConnection) {
    until("nothing waits and nothing is held", async || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(connection).await.unwrap();
        let is_of_a_queue = |key: &&String| *key == "q" || key.contains("q}:held") || key.contains("q}:again");
        let left: Vec<_> = keys.iter().filter(is_of_a_queue).collect();
        left.is_empty().then_some(())
    })
    .await;
}

pub(crate) async fn length(connection: &mut MultiplexedConnection, key: &str) -> u64 {
    redis::cmd("LLEN").arg(key).query_async(connection).await.unwrap()
}

pub(crate) async fn run(connection: &mut MultiplexedConnection, command: &[&str]) {
    let (name, arguments) = command.split_first().unwrap();
    redis::cmd(name).arg(arguments).exec_async(connection).await.unwrap();
}

/// How many commands Redis has carried out since its start; this look is one of them.
pub(crate) async fn commands(connection: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query_async(connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().parse().unwrap()
}
