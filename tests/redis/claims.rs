//! Sends under names that fail for certain: told as failed, and their names are free again.

use std::time::Duration;

use lineshaft_client::proto::ErrorReason;
use lineshaft_client::{Client, Error, Task};

use crate::support::redis::Redis;
use crate::support::{Options, Process};
use crate::world::*;

/// A server on `redis`, and a client that sends once.
async fn server(redis: &Redis, directory: &tempfile::TempDir) -> (Process, Client) {
    let server = Process::start(&directory.path().join("data"), Options::default().env("BROKER", &redis.url()));
    let builder = Client::builder().addresses([server.url()]).retry_for(Duration::ZERO);
    let client = builder.connect_lazy().unwrap();
    (server, client)
}

fn named(queue: &str, name: &str, arg: &str) -> Task {
    Task::new("work").queue(queue).request_id(name).arg(arg)
}

async fn count(redis: &Redis, command: &[&str]) -> u64 {
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut redis.connection().await).await.unwrap()
}

fn told(error: &Error) -> String {
    assert_eq!(error.reason(), Some(ErrorReason::RecordCorrupt), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_to_a_queue_whose_key_is_of_another_kind_has_failed_and_its_name_is_free() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let (_server, client) = server(&redis, &directory).await;
    let mut connection = redis.connection().await;
    run(&mut connection, &["SET", "q", "a string"]).await;
    let error = client.send(named("q", "n", "first")).await.unwrap_err();
    println!("{}", told(&error));
    let sent = client.send_all(vec![named("p", "o", "fine"), named("q", "n", "first")]).await;
    assert!(sent[0].is_ok(), "its neighbour is sent: {:?}", sent[0]);
    told(sent[1].as_ref().unwrap_err());
    assert_eq!(count(&redis, &["HLEN", "{lineshaft}:claims"]).await, 1, "the neighbour's");
    run(&mut connection, &["DEL", "q"]).await;
    // Under a name that were still taken, other content would be refused.
    client.send(named("q", "n", "second")).await.unwrap();
    assert_eq!((count(&redis, &["LLEN", "q"]).await, count(&redis, &["LLEN", "p"]).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_ledger_that_is_of_another_kind_is_named_and_nothing_is_written() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let (_server, client) = server(&redis, &directory).await;
    let mut connection = redis.connection().await;
    for key in ["{lineshaft}:claims", "{lineshaft}:claims:lapse", "{lineshaft}:lifetimes"] {
        run(&mut connection, &["SET", key, "a string"]).await;
        let before = count(&redis, &["DBSIZE"]).await;
        let task = || named("q", key, "x").expires_in(Duration::from_secs(60));
        let text = told(&client.send(task()).await.unwrap_err());
        assert!(text.contains(&format!("WRONGTYPE {key} is a string")), "{text}");
        assert_eq!(count(&redis, &["DBSIZE"]).await, before, "{key}");
        run(&mut connection, &["DEL", key]).await;
        client.send(task()).await.unwrap();
    }
    assert_eq!(count(&redis, &["LLEN", "q"]).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_send_without_memory_has_failed_and_its_name_is_free() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let (_server, client) = server(&redis, &directory).await;
    let mut connection = redis.connection().await;
    run(&mut connection, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = client.send(named("q", "n", "first")).await.unwrap_err();
    assert_ne!(error.reason(), Some(ErrorReason::OutcomeUnknown), "{error}");
    run(&mut connection, &["CONFIG", "SET", "maxmemory", "0"]).await;
    client.send(named("q", "n", "second")).await.unwrap();
    assert_eq!(count(&redis, &["LLEN", "q"]).await, 1);
}
