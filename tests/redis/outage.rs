//! Redis that refuses, forgets its scripts, or goes away.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::broker::redis::Broker;
use lineshaft::broker::redis::Options;
use lineshaft::broker::{Broker as _, Settle, Want};
use lineshaft::error::StoreError;

use crate::support::redis::Redis;
use crate::support::until;
use crate::world::*;

async fn refused(broker: &Broker) -> StoreError {
    let queue = queue("q");
    let want = Want { queue: &queue, names: &[], max: NonZeroUsize::MIN, body_bytes_max: 1_000 };
    broker.take(&want).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_were_forgotten_are_told_again() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    publish(&broker, &labels("m", 30)).await;
    for _ in 0..10 {
        run(&mut connection, &["SCRIPT", "FLUSH"]).await;
        let taken = take(&broker, 3).await;
        assert_eq!(taken.len(), 3);
        run(&mut connection, &["SCRIPT", "FLUSH"]).await;
        let items: Vec<_> = taken.iter().map(|delivery| (delivery.receipt.clone(), UNTOUCHED)).collect();
        assert!(broker.settle(&items).await.iter().all(Result::is_ok));
    }
    assert_eq!(take(&broker, 100).await.iter().map(text).collect::<Vec<_>>(), labels("m", 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_nothing_is_taken_and_nothing_lost() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    publish(&broker, &labels("m", 3)).await;
    let held = take(&broker, 1).await;
    run(&mut connection, &["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(matches!(broker.publish(&[message("x")]).await[0], Err(StoreError::Full { .. })));
    assert!(matches!(refused(&broker).await, StoreError::Full { .. }));
    assert!(matches!(broker.settle(&[(held[0].receipt.clone(), BEGUN)]).await[0], Err(StoreError::Full { .. })));
    run(&mut connection, &["CONFIG", "SET", "maxmemory", "0"]).await;
    // What was not returned is owed.
    assert_eq!(drain(&broker, 3).await.len(), 3);
    nothing_is_left(&mut connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_kind_is_told_and_what_can_be_taken_is() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    run(&mut connection, &["SET", "q", "a string"]).await;
    assert!(matches!(refused(&broker).await, StoreError::Corrupt { .. }));
    assert!(matches!(broker.publish(&[message("x")]).await[0], Err(StoreError::Corrupt { .. })));
    run(&mut connection, &["RPUSH", "{q}:inbox", "a"]).await;
    let taken = take(&broker, 10).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["a"]);
    let answer = broker.settle(&[(taken[0].receipt.clone(), UNTOUCHED)]).await;
    assert!(matches!(answer[0], Err(StoreError::Corrupt { .. })), "it has no place to go to and stays held");
    run(&mut connection, &["DEL", "q"]).await;
    drain(&broker, 1).await;
    nothing_is_left(&mut connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_costs_errors_and_no_message() {
    needs_redis!();
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let broker = replica(&redis).await;
    assert!(broker.capabilities().durability.contains("synced before it is acknowledged"));
    publish(&broker, &labels("m", 60)).await;
    let held = take(&broker, 20).await;
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("empty"), &[]).await });
    let mut connection = redis.connection().await;
    until("it waits at Redis", async || {
        let info: String = redis::cmd("INFO").arg("clients").query_async(&mut connection).await.unwrap();
        info.contains("blocked_clients:1").then_some(())
    })
    .await;
    redis.kill();
    let away = |error: &StoreError| matches!(error, StoreError::Unavailable { .. } | StoreError::OutcomeUnknown { .. });
    assert!(broker.publish(&[message("x")]).await[0].as_ref().is_err_and(away));
    assert!(away(&refused(&broker).await));
    let acked: Vec<_> = held[..10].iter().map(|delivery| (delivery.receipt.clone(), Settle::Ack)).collect();
    assert!(broker.settle(&acked).await.iter().all(|answer| answer.as_ref().is_err_and(away)));
    let returned: Vec<_> = held[10..].iter().map(|delivery| (delivery.receipt.clone(), BEGUN)).collect();
    assert!(broker.settle(&returned).await.iter().all(|answer| answer.as_ref().is_err_and(away)));
    redis.restart().await;
    // What was acknowledged in vain is so once Redis is back, and does not come again.
    let ended = drain(&broker, 50).await;
    let mut ended: Vec<String> = ended.iter().map(text).collect();
    ended.sort();
    ended.retain(|label| label != "x");
    assert_eq!(ended, labels("m", 60)[10..]);
    nothing_is_left(&mut redis.connection().await).await;
    // Whoever waited meanwhile is woken.
    run(&mut redis.connection().await, &["RPUSH", "empty", "a"]).await;
    assert_eq!(crate::support::until::soon("the waiter", waiting).await.unwrap(), Ok(()));
    until("it is taken", async || take_from(&broker, "empty", 1).await.pop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_keeps_is_looked_at_again_at_each_sweep_and_when_the_connection_is_made_anew() {
    needs_redis!();
    let redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let broker = replica(&redis).await;
    let other = on(redis.link().await, Options { sweep: Duration::from_millis(50), ..quick() }).await;
    assert!(broker.durability().contains("appendfsync always"));
    let mut connection = redis.connection().await;
    run(&mut connection, &["CONFIG", "SET", "appendfsync", "everysec"]).await;
    // One that keeps its connection hears of it when it looks.
    until("it is told", async || other.durability().contains("appendfsync everysec").then_some(())).await;
    run(&mut connection, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    // Its beats find out.
    until("it is told", async || broker.durability().contains("appendfsync everysec").then_some(())).await;
    assert!(broker.capabilities().durability.contains("appendfsync always"), "as it was at the start");
}
