//! Replicas that die, stand still, or leave, and calls that nobody waits for any more.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use lineshaft::broker::{Broker as _, Settle};
use lineshaft::error::StoreError;

use crate::support::redis::Redis;
use crate::support::until;
use crate::world::*;

/// Replicas that die between take and settle.
const DEATHS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_forty_dead_takers_held_comes_again_under_the_same_keys() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let lasting = replica(&redis).await;
    let all = labels("m", DEATHS * 20);
    publish(&lasting, &all).await;
    let mut taken = HashMap::new();
    for _ in 0..DEATHS {
        let dying = replica(&redis).await;
        for delivery in take(&dying, 10).await {
            taken.insert(delivery.body.clone(), delivery.key.clone());
        }
        // One that is under way at its end may be carried out, and nobody hears of it.
        drop(tokio::time::timeout(Duration::from_micros(100), take(&dying, 5)).await);
        drop(dying);
    }
    let ended = drain(&lasting, all.len()).await;
    assert_eq!(ended.len(), all.len());
    let mut again = 0;
    for delivery in &ended {
        if let (Some(key), true) = (taken.get(&delivery.body), delivery.redelivered) {
            assert_eq!(*key, delivery.key, "{}", text(delivery));
            again += 1;
        }
    }
    assert!(again >= DEATHS * 5, "{again} came again");
    nothing_is_left(&mut redis.connection().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_that_nobody_waits_for_lose_nothing() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let all = labels("m", 400);
    publish(&broker, &all).await;
    let mut ended = 0;
    for n in 0..80 {
        let Ok(taken) = tokio::time::timeout(Duration::from_micros(20 * n), take(&broker, 5)).await else { continue };
        let items: Vec<_> = taken.into_iter().map(|delivery| (delivery.receipt, Settle::Ack)).collect();
        assert!(broker.settle(&items).await.iter().all(Result::is_ok));
        ended += items.len();
    }
    drain(&broker, all.len() - ended).await;
    nothing_is_left(&mut redis.connection().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stood_still_goes_on_under_a_new_id_and_its_receipts_are_void() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let other = replica(&redis).await;
    publish(&other, &labels("m", 3)).await;
    // A replica in a thread that stops, as a stopped process does.
    let link = redis.url();
    let (stopped, is_stopped) = mpsc::channel::<()>();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let slow = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = lineshaft::link::redis::Address::parse(&link).unwrap();
            let link = lineshaft::link::redis::Link::open(address, Default::default()).await.unwrap();
            let broker = on(link, quick()).await;
            let held = take(&broker, 2).await;
            assert_eq!(held.len(), 2);
            stopped.send(()).unwrap();
            may_go_on.recv().unwrap();
            // It finds out before it takes again.
            let answers = broker.settle(&[(held[0].receipt.clone(), Settle::Ack)]).await;
            assert_eq!(answers, [Err(StoreError::Stale)]);
            let new = until("it takes again", async || take(&broker, 1).await.pop()).await;
            assert_ne!(new.receipt, held[0].receipt);
            assert_eq!(broker.settle(&[(held[1].receipt.clone(), BEGUN)]).await, [Err(StoreError::Stale)]);
            assert_eq!(broker.settle(&[(new.receipt.clone(), Settle::Ack)]).await, [Ok(())]);
            text(&new)
        })
    });
    is_stopped.recv().unwrap();
    let mut seen: Vec<String> = Vec::new();
    until("what the slow one held waits again", async || {
        for delivery in take(&other, 10).await {
            seen.push(text(&delivery));
            other.settle(&[(delivery.receipt, Settle::Ack)]).await;
        }
        (seen.len() == 3).then_some(())
    })
    .await;
    seen.sort();
    assert_eq!(seen, labels("m", 3));
    publish(&other, &["late".to_owned()]).await;
    go_on.send(()).unwrap();
    assert_eq!(tokio::task::spawn_blocking(|| slow.join().unwrap()).await.unwrap(), "late");
    nothing_is_left(&mut redis.connection().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_holds_when_it_leaves_waits_at_once() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    // Nobody would find out in the time of a test.
    let leaving = on(redis.link().await, Default::default()).await;
    publish(&leaving, &labels("m", 3)).await;
    let held = take(&leaving, 2).await;
    leaving.close().await.unwrap();
    assert!(take(&leaving, 10).await.is_empty());
    let other = replica(&redis).await;
    let again = take(&other, 10).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), labels("m", 3));
    assert_eq!(again.iter().map(|d| d.redelivered).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((&again[0].key, &again[1].key), (&held[0].key, &held[1].key));
    let mut connection = redis.connection().await;
    let replicas: u64 = redis::cmd("HLEN").arg("{lineshaft}:replicas").query_async(&mut connection).await.unwrap();
    assert_eq!(replicas, 1);
}
