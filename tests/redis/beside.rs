//! Other programs on the same keys: Machinery's workers and producers, by the commands that they use.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::broker::{Broker as _, NewTask, Settle};
use lineshaft::clock::{Clock, SystemClock};

use crate::support::redis::Redis;
use crate::support::until;
use crate::support::until::soon;
use crate::world::*;

/// A body as Machinery writes it.
fn body(id: &str, routing_key: &str) -> String {
    format!(r#"{{"UUID":"{id}","Name":"work","RoutingKey":"{routing_key}","ETA":null,"Args":null}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_by_blpop_and_ours_share_without_loss_or_overlap() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let all = labels("m", 2_000);
    let mut theirs = redis.connection().await;
    let other = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let got: Option<(String, String)> =
                redis::cmd("BLPOP").arg("q").arg(0.2).query_async(&mut theirs).await.unwrap();
            match got {
                Some((_, body)) if body == "end" => return seen,
                Some((_, body)) => seen.push(body),
                None => {}
            }
        }
    });
    let taker = Arc::clone(&broker);
    let ours = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            taker.ready(&queue("q"), &[]).await.unwrap();
            for delivery in take(&taker, 16).await {
                if text(&delivery) == "ours" {
                    return seen;
                }
                if text(&delivery) == "end" {
                    // Not for us.
                    assert_eq!(taker.settle(&[(delivery.receipt, UNTOUCHED)]).await, [Ok(())]);
                    continue;
                }
                seen.push(text(&delivery));
                assert_eq!(taker.settle(&[(delivery.receipt, Settle::Ack)]).await, [Ok(())]);
            }
        }
    });
    let mut connection = redis.connection().await;
    for some in all.chunks(20) {
        publish(&broker, some).await;
        // Trickling, so that waking is exercised.
        until("most are gone", async || (length(&mut connection, "q").await < 20).then_some(())).await;
    }
    until("all are gone", async || (length(&mut connection, "q").await == 0).then_some(())).await;
    // An item that only ours take.
    run(&mut connection, &["RPUSH", "{q}:again", "ours"]).await;
    run(&mut connection, &["PUBLISH", "{lineshaft}:wake", "{q}:again"]).await;
    let ours = ours.await.unwrap();
    run(&mut connection, &["RPUSH", "q", "end"]).await;
    let theirs = other.await.unwrap();
    assert_eq!(ours.len() + theirs.len(), all.len(), "none twice, none lost");
    let seen: HashSet<_> = ours.iter().chain(&theirs).cloned().collect();
    assert_eq!(seen, all.into_iter().collect());
    assert!(!ours.is_empty() && !theirs.is_empty(), "{} and {}", ours.len(), theirs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_began_goes_back_to_everyone_and_what_began_to_ours_alone() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let mut connection = redis.connection().await;
    publish(&broker, &labels("m", 2)).await;
    let held = take(&broker, 2).await;
    broker.settle(&[(held[0].receipt.clone(), UNTOUCHED)]).await;
    broker.settle(&[(held[1].receipt.clone(), BEGUN)]).await;
    let waiting: Vec<String> = redis::cmd("LRANGE").arg("q").arg(0).arg(-1).query_async(&mut connection).await.unwrap();
    assert_eq!(waiting, ["m00000"]);
    assert_eq!(length(&mut connection, "{q}:again").await, 1);
    for began in [false, true] {
        let held = until("it is taken", async || take(&broker, 1).await.pop()).await;
        let later = Settle::Return { after: Duration::from_millis(20), began };
        let is_frame = held.redelivered;
        broker.settle(&[(held.receipt.clone(), later)]).await;
        let (list, body) = if is_frame || began { ("{q}:again", 1) } else { ("q", 1) };
        until("it is due again", async || (length(&mut connection, list).await == body).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_tasks_of_others_move_to_their_queues_and_garbage_is_set_aside() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    let now = SystemClock.wall().0;
    let other_order = r#"{"routingkey":"other","Name":"work","UUID":"c"}"#;
    let members = [
        (body("a", "q"), now - 4_000),
        (body("b", ""), now - 3_000),
        (other_order.to_owned(), now - 2_000),
        ("garbage".to_owned(), now - 1_000),
        (body("d", "q"), now),
        (body("e", "taken"), now),
        (body("f", "q"), now + 3_600_000_000_000),
    ];
    run(&mut connection, &["SET", "taken", "a string"]).await;
    for (body, at) in &members {
        run(&mut connection, &["ZADD", "delayed_tasks", &at.to_string(), body]).await;
    }
    let broker = replica(&redis).await;
    until("all that can be is moved", async || {
        let left: u64 = redis::cmd("ZCARD").arg("delayed_tasks").query_async(&mut connection).await.unwrap();
        (left == 2).then_some(())
    })
    .await;
    let bodies = async |name: &str| take_from(&broker, name, 10).await.iter().map(text).collect::<Vec<_>>();
    assert_eq!(bodies("q").await, [body("a", "q"), body("d", "q")]);
    assert_eq!(bodies("other").await, [other_order]);
    // Ours alone take garbage, and set it aside.
    assert_eq!(length(&mut connection, "machinery_tasks").await, 1);
    assert_eq!(bodies("machinery_tasks").await, ["garbage".to_owned(), body("b", "")]);
    let at: u64 =
        redis::cmd("ZSCORE").arg("delayed_tasks").arg(&members[5].0).query_async::<f64>(&mut connection).await.unwrap()
            as u64;
    assert!(at > now + 50_000_000_000, "what its queue refuses waits longer, out of the way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_task_of_ours_stands_where_a_machinery_worker_looks() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let broker = replica(&redis).await;
    let at = SystemClock.wall().plus(Duration::from_secs(600));
    let task = NewTask { body: body("a", "q").into(), available_at: Some(at), ..message("a") };
    assert!(broker.publish(&[task]).await[0].is_ok());
    let found: Vec<(String, f64)> = redis::cmd("ZRANGE")
        .arg(&["delayed_tasks", "0", "-1", "WITHSCORES"])
        .query_async(&mut redis.connection().await)
        .await
        .unwrap();
    assert_eq!(found, [(body("a", "q"), at.0 as f64)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_lists_is_given_out_as_it_is() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    let broker = replica(&redis).await;
    let garbage = ["", "{", "\0", "\u{0}003abc", "\u{0}999x"];
    for value in garbage {
        run(&mut connection, &["RPUSH", "{q}:again", value]).await;
        run(&mut connection, &["RPUSH", "q", value]).await;
    }
    let taken = take(&broker, 100).await;
    let bodies: Vec<String> = taken.iter().map(text).collect();
    assert_eq!(bodies, [garbage, garbage].concat());
    let items: Vec<_> = taken.iter().map(|delivery| (delivery.receipt.clone(), BEGUN)).collect();
    assert!(broker.settle(&items).await.iter().all(Result::is_ok));
    let mut again: Vec<String> = take(&broker, 100).await.iter().map(text).collect();
    again.sort();
    let mut expected = [garbage, garbage].concat();
    expected.sort();
    assert_eq!(again, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wake_up_moved_for_nobody_is_taken_first_and_else_goes_back() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    run(&mut connection, &["RPUSH", "{q}:inbox", "b", "c"]).await;
    run(&mut connection, &["RPUSH", "q", "d"]).await;
    run(&mut connection, &["SADD", "{lineshaft}:queues", "q"]).await;
    // Its first sweep is at once.
    let broker = replica(&redis).await;
    until("the inbox is empty", async || (length(&mut connection, "{q}:inbox").await == 0).then_some(())).await;
    run(&mut connection, &["RPUSH", "{q}:inbox", "a"]).await;
    assert_eq!(take(&broker, 10).await.iter().map(text).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_woken_by_others_with_or_without_a_connection_of_its_own() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    let other = replica(&redis).await;
    for connections in [0, 256] {
        let options = lineshaft::broker::redis::Options { blocking_connections_max: connections, ..quick() };
        let broker = on(redis.link().await, options).await;
        let waits = || {
            let waiter = Arc::clone(&broker);
            tokio::spawn(async move { waiter.ready(&queue("q"), &[]).await })
        };
        // A push by anybody.
        for n in 0..3 {
            let waiting = waits();
            run(&mut connection, &["RPUSH", "q", &format!("m{n}")]).await;
            assert_eq!(soon("a push", waiting).await.unwrap(), Ok(()));
            assert_eq!(drain(&broker, 1).await.len(), 1);
        }
        // What another replica gives back to ours alone.
        run(&mut connection, &["RPUSH", "q", "again"]).await;
        let held = take(&other, 1).await;
        let waiting = waits();
        assert_eq!(other.settle(&[(held[0].receipt.clone(), BEGUN)]).await, [Ok(())]);
        assert_eq!(soon("a return", waiting).await.unwrap(), Ok(()));
        assert!(drain(&broker, 1).await[0].redelivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_when_the_last_of_ours_has_just_stopped_waiting_is_there_for_others() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    let broker = replica(&redis).await;
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[]).await });
    until("it waits at Redis", async || {
        let info: String = redis::cmd("INFO").arg("clients").query_async(&mut connection).await.unwrap();
        info.contains("blocked_clients:1").then_some(())
    })
    .await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // Redis still moves it into the inbox, which no Machinery worker looks at.
    run(&mut connection, &["RPUSH", "q", "m"]).await;
    until("it is back", async || {
        let there = [length(&mut connection, "q").await, length(&mut connection, "{q}:inbox").await];
        (there == [1, 0]).then_some(())
    })
    .await;
}
