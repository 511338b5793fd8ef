//! Messages that are picked from where they wait: what a search comes upon, and that nothing picked is lost.

use std::time::Duration;

use bytes::Bytes;
use lineshaft::broker::redis::Broker;
use lineshaft::broker::{Broker as _, NewTask, Settle, Spot};
use lineshaft::clock::{Clock, SystemClock};

use crate::support::redis::Redis;
use crate::support::redis_cluster::Pooled;
use crate::support::until;
use crate::world::*;

/// More than a search looks at from both ends.
const LONG: usize = 2_500;

async fn search(broker: &Broker, labels: &[&str]) -> Vec<Spot> {
    let is_wanted = |body: &[u8]| labels.iter().any(|label| body == label.as_bytes());
    broker.pick().unwrap().search(&is_wanted, 1).await.unwrap()
}

async fn pick(broker: &Broker, spots: &[Spot]) -> Vec<String> {
    let picked = broker.pick().unwrap().pick(spots).await.unwrap();
    picked.iter().map(|delivery| delivery.as_ref().map_or_else(|| "none".to_owned(), text)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_comes_upon_what_stands_near_an_end_and_picks_it_alone() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    // A key of another type is no queue that could be searched.
    run(&mut connection, &["SET", "string", "of others"]).await;
    run(&mut connection, &["SADD", "{lineshaft}:queues", "string", "empty"]).await;
    let broker = replica(&redis).await;
    publish(&broker, &labels("m", LONG)).await;
    let wanted = ["m00000", "m00999", "m01200", "m01500", "m02499"];
    let spots = search(&broker, &wanted).await;
    let found: Vec<&[u8]> = spots.iter().map(|spot| &spot.place.value[..]).collect();
    assert_eq!(found, [&b"m00000"[..], b"m00999", b"m01500", b"m02499"], "what is too far from both ends is not met");
    assert_eq!(pick(&broker, &spots).await, ["m00000", "m00999", "m01500", "m02499"]);
    assert_eq!(pick(&broker, &spots).await, ["none"; 4], "they are not there any more");
    assert_eq!(length(&mut connection, "q").await, LONG as u64 - 4);
    let held: u64 = redis::cmd("HLEN")
        .arg(format!("{{q}}:held:{}", holder(&mut connection).await))
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(held, 4);
    // All else is there, in its order.
    let rest: Vec<String> = take(&broker, 3).await.iter().map(text).collect();
    assert_eq!(rest, ["m00001", "m00002", "m00003"]);
}

/// The one replica that holds something of queue `q`.
async fn holder(connection: &mut redis::aio::MultiplexedConnection) -> String {
    let holders: Vec<String> = redis::cmd("SMEMBERS").arg("{q}:holders").query_async(connection).await.unwrap();
    assert_eq!(holders.len(), 1);
    holders[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delayed_parked_or_ours_alone_is_picked_too_and_can_be_settled() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    let broker = replica(&redis).await;
    let at = Some(SystemClock.wall().plus(Duration::from_secs(3_600)));
    // One whose body names its queue, as Machinery's do, and one whose does not.
    let named = r#"{"UUID":"a","Name":"work","RoutingKey":"q","ETA":null}"#;
    let later = [
        NewTask { body: Bytes::from_static(named.as_bytes()), available_at: at, ..message("a") },
        NewTask { available_at: at, ..message("b") },
    ];
    assert!(broker.publish(&later).await.iter().all(Result::is_ok));
    publish(&broker, &["parked".to_owned(), "lost".to_owned()]).await;
    let held = take(&broker, 2).await;
    let park = Settle::Return { after: Duration::from_secs(30), began: false };
    broker.settle(&[(held[0].receipt.clone(), park), (held[1].receipt.clone(), BEGUN)]).await;
    for label in [named, "b", "parked", "lost"] {
        let spots = search(&broker, &[label]).await;
        assert_eq!(spots.len(), 1, "{label}");
        assert_eq!(spots[0].queue, queue("q"), "{label}");
        let delivery = broker.pick().unwrap().pick(&spots).await.unwrap().remove(0).unwrap();
        assert_eq!(text(&delivery), label);
        assert_eq!(delivery.redelivered, label == "lost");
        if label == "lost" {
            assert_eq!(delivery.key, held[1].key, "it keeps its name");
        }
        assert_eq!(search(&broker, &[label]).await, [], "{label}");
        assert_eq!(broker.settle(&[(delivery.receipt, Settle::Ack)]).await, [Ok(())]);
    }
    nothing_is_left(&mut connection).await;
    for set in ["delayed_tasks", "{lineshaft}:later"] {
        let left: u64 = redis::cmd("ZCARD").arg(set).query_async(&mut connection).await.unwrap();
        assert_eq!(left, 0, "{set}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_replica_picked_waits_again_under_its_key() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let (lasting, dying) = (replica(&redis).await, replica(&redis).await);
    publish(&lasting, &labels("m", 5)).await;
    let spots = search(&dying, &["m00003"]).await;
    let picked = dying.pick().unwrap().pick(&spots).await.unwrap().remove(0).unwrap();
    // What nobody waits for may be carried out.
    let more = search(&dying, &["m00001"]).await;
    drop(tokio::time::timeout(Duration::from_micros(100), dying.pick().unwrap().pick(&more)).await);
    drop(dying);
    let again = until("it comes again", async || {
        let taken = take(&lasting, 1).await.pop()?;
        let is_it = taken.redelivered && text(&taken) == "m00003";
        let how = if is_it { Settle::Ack } else { UNTOUCHED };
        lasting.settle(&[(taken.receipt.clone(), how)]).await;
        is_it.then_some(taken)
    })
    .await;
    assert_eq!(again.key, picked.key);
    let rest = drain(&lasting, 4).await;
    let mut rest: Vec<String> = rest.iter().map(text).collect();
    rest.sort();
    assert_eq!(rest, ["m00000", "m00001", "m00002", "m00004"]);
    nothing_is_left(&mut redis.connection().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_consumer_of_others_and_one_who_picks_each_message_goes_to_one() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let all = labels("m", 400);
    publish(&broker, &all).await;
    let mut theirs = redis.connection().await;
    let other = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let got: Option<(String, String)> =
                redis::cmd("BLPOP").arg("q").arg(0.2).query_async(&mut theirs).await.unwrap();
            match got {
                Some((_, body)) => seen.push(body),
                None => return seen,
            }
        }
    });
    let mut seen = Vec::new();
    for label in all.iter().rev() {
        let spots = search(&broker, &[label]).await;
        for delivery in broker.pick().unwrap().pick(&spots).await.unwrap().into_iter().flatten() {
            seen.push(text(&delivery));
            assert_eq!(broker.settle(&[(delivery.receipt, Settle::Ack)]).await, [Ok(())]);
        }
    }
    seen.extend(other.await.unwrap());
    seen.sort();
    assert_eq!(seen, all, "none twice, none lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_what_is_due_is_picked_and_what_is_delayed_is_left_alone() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let broker = on(cluster.link().await, quick()).await;
    let later = Some(SystemClock.wall().plus(Duration::from_secs(3_600)));
    let tasks = [
        message("a"),
        NewTask { queue: queue("other"), ..message("b") },
        NewTask { available_at: later, ..message("c") },
    ];
    assert!(broker.publish(&tasks).await.iter().all(Result::is_ok));
    assert!(!broker.pick().unwrap().picks_delayed());
    for label in ["a", "b"] {
        let spots = search(&broker, &[label]).await;
        let delivery = broker.pick().unwrap().pick(&spots).await.unwrap().remove(0).unwrap();
        assert_eq!(text(&delivery), label);
        assert_eq!(broker.settle(&[(delivery.receipt, Settle::Ack)]).await, [Ok(())]);
    }
    assert_eq!(search(&broker, &["c"]).await, []);
}

/// Messages in a queue, and delayed ones.
const MANY: usize = 100_000;
const MANY_DELAYED: usize = 20_000;
/// Commands of a search: it reads up to 2,000 and 10,000 of them, by the hundred.
const SEARCH_COMMANDS_MAX: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_reads_a_bounded_part_of_a_long_queue() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let padding = "x".repeat(700);
    let later = Some(SystemClock.wall().plus(Duration::from_secs(3_600)));
    for from in (0..MANY).step_by(5_000) {
        let body = |n: usize| Bytes::from(format!("m{n}{padding}"));
        let tasks: Vec<NewTask> = (from..from + 5_000)
            .map(|n| NewTask { body: body(n), available_at: later.filter(|_| n < MANY_DELAYED), ..message("m") })
            .collect();
        assert!(broker.publish(&tasks).await.iter().all(Result::is_ok));
    }
    let mut connection = redis.connection().await;
    let (before, start) = (commands(&mut connection).await, SystemClock.now());
    assert_eq!(search(&broker, &["none of them"]).await, []);
    let (took, spent) = (start.elapsed(), commands(&mut connection).await - before);
    println!("a search through {MANY} messages took {took:?} and {spent} commands");
    assert!(spent <= SEARCH_COMMANDS_MAX, "{spent} commands");
}
