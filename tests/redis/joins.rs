//! Joins on Redis: very many members, what a crash leaves, keys that hold something else, what it all costs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::clock::{SystemClock, WallTime};
use lineshaft::error::StoreError;
use lineshaft::ledger::Ledger as _;
use lineshaft::ledger::join::{Ended, Head, Kind, Opened, Opening, Stage};
use lineshaft::ledger::redis::Ledger;
use lineshaft::task::{GroupId, MessageKey, TaskId};

use crate::cost::processor;
use crate::support::redis::Redis;
use crate::support::until;
use crate::world::*;

async fn ledger(redis: &Redis) -> Arc<Ledger> {
    Arc::new(Ledger::new(redis.link().await, Arc::new(SystemClock)))
}

fn group(name: &str) -> GroupId {
    GroupId::trusted(name)
}

fn member(n: u32) -> TaskId {
    TaskId::trusted(format!("task_00000000-0000-4000-8000-{n:012}"))
}

fn opening(name: &str, count: u32) -> Opening {
    let head = Head {
        id: group(name),
        kind: Kind::Chord,
        generation: 1,
        message: MessageKey::trusted("m"),
        digest: [7; 32],
        count,
        callback: None,
        at: WallTime(1),
        is_shared: false,
        keep: Duration::from_secs(60),
    };
    let members = (0..count).map(member).collect();
    Opening { head, members, is_sending: true, look_at: WallTime(1_000_000_000) }
}

fn ended(name: &str, members: std::ops::Range<u32>) -> Vec<Ended> {
    let one = |n| Ended { group: group(name), task: member(n), is_failure: n % 100 == 0, outcome: Bytes::new() };
    members.map(one).collect()
}

async fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis.connection().await).await.unwrap();
    keys.sort();
    keys
}

/// Most that one command may take of a server that serves nobody else meanwhile, µs. Generous: the machine is shared.
const COMMAND_MICROS_MAX: u64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_of_a_hundred_thousand_members_is_opened_counted_and_forgotten_in_short_steps() {
    needs_redis!();
    let redis = Redis::start(&["--slowlog-log-slower-than", &COMMAND_MICROS_MAX.to_string()]).await;
    let (ledger, pid) = (ledger(&redis).await, redis.pid().await);
    let joins = ledger.joins();
    let count = 100_000;
    let begun = processor(pid);
    assert_eq!(joins.open(&[opening("g", count)]).await, Ok(vec![Opened::New]));
    let opened = processor(pid);
    let expected = ["{lineshaft}:join-ends:g", "{lineshaft}:join-members:g", "{lineshaft}:join:g", "{lineshaft}:joins"];
    assert_eq!(keys(&redis).await, expected);
    let mut connection = redis.connection().await;
    for key in &expected {
        let ttl: i64 = redis::cmd("PTTL").arg(key).query_async(&mut connection).await.unwrap();
        assert_eq!(ttl, -1, "{key} stays");
    }
    let [Opened::Known(standing)] = &joins.open(&[opening("g", count)]).await.unwrap()[..] else {
        panic!("it is opened twice");
    };
    assert_eq!((standing.stage, standing.ended, standing.head.count), (Stage::Sending, 0, count));
    let again = processor(pid);
    joins.add(&ended("g", 1..count)).await.unwrap();
    let added = processor(pid);
    // The only one that is missing is found, a bounded number of members at a time.
    let (mut missing, mut from, mut calls) = (Vec::new(), Some(0), 0);
    while let Some(at) = from {
        let (some, next) = joins.missing(&group("g"), at, 100).await.unwrap();
        missing.extend(some);
        (from, calls) = (next, calls + 1);
    }
    assert_eq!((missing, calls), (vec![member(0)], 20));
    let looked = processor(pid);
    joins.add(&ended("g", 0..1)).await.unwrap();
    assert_eq!(joins.due(WallTime(0), 10).await, Ok(vec![group("g")]));
    let members = joins.members(&group("g"), 0, count as usize).await.unwrap();
    assert_eq!(members.len(), count as usize);
    assert!((0..).zip(&members).all(|(n, found)| found.task == member(n) && found.outcome.is_some()));
    let closing = processor(pid);
    joins.close(&[group("g")], WallTime(0)).await.unwrap();
    assert_eq!(ledger.sweep(WallTime(60_000_000_000)).await, Ok(1));
    assert_eq!(keys(&redis).await, Vec::<String>::new());
    let gone = processor(pid);
    let of = |from: f64, to: f64| (to - from) / f64::from(count);
    println!(
        "µs of Redis a member: open {:.2}, add {:.2}, look {:.2}, close and forget {:.2}",
        of(begun, opened),
        of(again, added),
        of(added, looked),
        of(closing, gone),
    );
    let slow: u64 = redis::cmd("SLOWLOG").arg("LEN").query_async(&mut connection).await.unwrap();
    assert_eq!(slow, 0, "commands that took more than {COMMAND_MICROS_MAX} µs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_of_a_large_join_expires_and_it_is_opened_whole() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let first = ledger(&redis).await;
    let opening = opening("g", 50_000);
    let task = {
        let (first, opening) = (first.clone(), opening.clone());
        tokio::spawn(async move { first.joins().open(&[opening]).await })
    };
    let written = until("some members are written", async || {
        let keys = keys(&redis).await;
        (keys.len() == 2 && keys.iter().all(|key| key.starts_with("{lineshaft}:join-new:"))).then_some(keys)
    });
    let left = written.await;
    task.abort();
    drop(task.await);
    assert_eq!(first.joins().standing(&[group("g")]).await, Ok(vec![None]));
    let mut connection = redis.connection().await;
    for key in &left {
        let ttl: i64 = redis::cmd("PTTL").arg(key).query_async(&mut connection).await.unwrap();
        assert!((1..=600_000).contains(&ttl), "{key} is kept for {ttl} ms");
    }
    assert_eq!(first.joins().open(&[opening]).await, Ok(vec![Opened::New]));
    assert_eq!(first.joins().members(&group("g"), 49_999, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_that_open_one_large_join_at_the_same_time_one_does() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let (one, two) = (ledger(&redis).await, ledger(&redis).await);
    let openings = [opening("g", 5_000)];
    let (one, two) = tokio::join!(one.joins().open(&openings), two.joins().open(&openings));
    let answers = [one.unwrap(), two.unwrap()].concat();
    assert_eq!(answers.iter().filter(|answer| **answer == Opened::New).count(), 1, "{answers:?}");
    assert!(keys(&redis).await.iter().all(|key| !key.contains("join-new")), "nothing else is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_join_that_holds_something_else_is_named_and_no_member_is_added() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let ledger = ledger(&redis).await;
    let joins = ledger.joins();
    joins.open(&[opening("g", 1), opening("h", 1)]).await.unwrap();
    let mut connection = redis.connection().await;
    for key in ["{lineshaft}:join:g", "{lineshaft}:join-members:g", "{lineshaft}:join-ends:g", "{lineshaft}:joins"] {
        run(&mut connection, &["RENAME", key, "aside"]).await;
        run(&mut connection, &["SET", key, "a string"]).await;
        // One of a join with nothing in its way is before it.
        let both = [ended("h", 0..1), ended("g", 0..1)].concat();
        let Err(StoreError::Corrupt { why, .. }) = joins.add(&both).await else { panic!("{key} is in nobody's way") };
        assert!(why.contains(&format!("{key} is a string")), "{why}");
        assert_eq!(joins.standing(&[group("h")]).await.unwrap()[0].as_ref().map(|found| found.ended), Some(0));
        run(&mut connection, &["RENAME", "aside", key]).await;
    }
    joins.add(&ended("g", 0..1)).await.unwrap();
    assert_eq!(joins.due(WallTime(0), 10).await, Ok(vec![group("g")]));
}
