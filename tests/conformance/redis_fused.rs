//! The fused room on Redis: what only this store can refuse.

use std::sync::Arc;

use lineshaft::broker::{Broker, NewTask};
use lineshaft::clock::{TestClock, WallTime};
use lineshaft::error::StoreError;
use lineshaft::fused::Fused;
use lineshaft::ledger::claim::{Claimed, Sending};
use lineshaft::ledger::join::Stage;
use lineshaft::ledger::{Decision, Effects, Ledger, Verdict};
use lineshaft::task::Status;

use crate::harness::START;
use crate::ledger::claims::request;
use crate::ledger::joins;
use crate::ledger::lifetimes::all;
use crate::make::*;
use crate::redis_rooms::Redis;
use crate::room::Room;
use crate::support::redis::Redis as Server;

/// The Redis under a room, beside it.
struct Beside(redis::aio::MultiplexedConnection);

impl Beside {
    async fn command(&self, parts: &[&str]) {
        let mut command = redis::cmd(parts[0]);
        command.arg(&parts[1..]);
        command.query_async::<redis::Value>(&mut self.0.clone()).await.expect("an answer");
    }
}

/// An empty room, if there is a Redis.
async fn room() -> Option<(Room, Beside)> {
    if let Some(why) = Server::missing() {
        eprintln!("skipped: {why}");
        return None;
    }
    let (server, clock) = (Server::start(&[]).await, Arc::new(TestClock::new(START)));
    let beside = Beside(server.connection().await);
    Some((Room::of(Redis::on(server, clock.clone()).await, clock), beside))
}

async fn status(room: &Room, label: &str) -> Option<Status> {
    let found = room.backend().read(&[task_id(&format!("task_{label}"))], room.now()).await.expect("read");
    found.into_iter().flatten().next().map(|state| state.status)
}

/// To the queue `other`.
fn elsewhere(label: &str) -> NewTask {
    NewTask { queue: queue("other"), ..message(label) }
}

#[tokio::test]
async fn what_a_queue_refuses_is_taken_back_and_its_neighbours_are_sent() {
    let Some((room, redis)) = room().await else { return };
    redis.command(&["SET", "other", "a string"]).await;
    let refused = Sending { message: elsewhere("a"), ..sent("a", 1, Some(later(START, 5))) };
    let answers = room.fused().send(&[refused, sent("b", 1, Some(later(START, 5)))], room.now()).await;
    assert!(matches!(answers[..], [Err(StoreError::Corrupt { .. }), Ok(())]), "{answers:?}");
    assert_eq!((status(&room, "a").await, status(&room, "b").await), (None, Some(Status::Pending)));
    assert_eq!(all(&room.ledger()).await.len(), 1);
    assert_eq!(take_labels(&room.broker()).await, ["b"]);
}

#[tokio::test]
async fn a_server_without_room_writes_nothing_of_a_send_and_says_so() {
    let Some((room, redis)) = room().await else { return };
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let answers = room.fused().send(&[sent("a", 1, None)], room.now()).await;
    assert!(matches!(answers[..], [Err(StoreError::Full { .. })]), "{answers:?}");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(status(&room, "a").await, None);
    assert!(take_labels(&room.broker()).await.is_empty());
}

#[tokio::test]
async fn a_decision_stands_and_stays_undone_while_a_key_in_its_way_holds_something_else() {
    let Some((room, redis)) = room().await else { return };
    let (fused, ledger): (Arc<dyn Fused>, Arc<dyn Ledger>) = (room.fused(), room.ledger());
    attach(&ledger, &["s1"]).await;
    redis.command(&["SET", "other", "a string"]).await;
    let done = state("task_a", 1, 1, Status::Started);
    let decisions = [("a", vec![elsewhere("x")]), ("b", vec![message("y")])];
    let mut settling = Vec::new();
    for (label, publish) in decisions {
        let held = lease(&ledger, label, "s1").await;
        let effects = Effects { states: vec![done.clone()], publish, joins: Vec::new() };
        settling.push(Decision { effects, ..decision(&held.id, Some(label), 1) });
    }
    assert_eq!(fused.settle(&settling).await, Ok(vec![Verdict::Recorded; 2]));
    assert_eq!(status(&room, "a").await, None);
    let broker: Arc<dyn Broker> = room.broker();
    assert!(take_labels(&broker).await.is_empty());
    assert_eq!(ledger.undone(WallTime(u64::MAX), 10).await.expect("undone").len(), 2);
}

#[tokio::test]
async fn a_key_of_the_ledger_that_holds_something_else_is_named_and_nothing_is_written() {
    let Some((room, redis)) = room().await else { return };
    let (fused, ledger): (Arc<dyn Fused>, Arc<dyn Ledger>) = (room.fused(), room.ledger());
    attach(&ledger, &["s1"]).await;
    let held = lease(&ledger, "a", "s1").await;
    let states = vec![state("task_a", 1, 1, Status::Started)];
    joins::open(&ledger, &joins::opening("x", 1)).await;
    let effects = Effects { states, publish: vec![message("y")], joins: vec![joins::ended("x", 0)] };
    let settling = [Decision { effects, ..decision(&held.id, Some("a"), 1) }];
    let join = |kind: &str| format!("{{lineshaft}}:{kind}:{}", joins::group("x"));
    // A live lease is in two of them, and nothing has ended yet.
    for (key, is_there) in [
        ("{lineshaft}:ends", false),
        ("{lineshaft}:leased", true),
        ("{lineshaft}:of:s1", true),
        ("{lineshaft}:joins", true),
        (&join("join"), true),
        (&join("join-members"), true),
        (&join("join-ends"), true),
    ] {
        let aside = format!("{key}:aside");
        if is_there {
            redis.command(&["RENAME", key, &aside]).await;
        }
        redis.command(&["SET", key, "a string"]).await;
        let refused = fused.settle(&settling).await;
        let Err(StoreError::Corrupt { why, .. }) = &refused else { panic!("{key}: {refused:?}") };
        assert!(why.contains(key), "{why}");
        assert_eq!(status(&room, "a").await, None);
        redis.command(&["DEL", key]).await;
        if is_there {
            redis.command(&["RENAME", &aside, key]).await;
        }
    }
    let broker: Arc<dyn Broker> = room.broker();
    assert!(take_labels(&broker).await.is_empty());
    assert_eq!(joins::counts(&ledger, "x").await, Some((Stage::Open, 0, 0)));
    assert_eq!(fused.settle(&settling).await, Ok(vec![Verdict::Recorded]));
    assert_eq!(status(&room, "a").await, Some(Status::Started));
    assert_eq!(joins::due(&ledger, 0).await, ["x"]);
}

#[tokio::test]
async fn names_that_are_free_are_sent_at_once_and_one_that_is_not_sends_the_batch_one_by_one() {
    let Some((room, _)) = room().await else { return };
    let [a, b, c] = ["a", "b", "c"].map(|label| request(&format!("r-{label}"), label));
    let first = room.fused().send_claimed(&[a.clone(), b], room.now()).await;
    assert_eq!(first, Ok(vec![Claimed::New; 2]));
    assert_eq!((status(&room, "a").await, status(&room, "b").await), (Some(Status::Pending), Some(Status::Pending)));
    let second = room.fused().send_claimed(&[a, c], room.now()).await.expect("claimed");
    assert!(matches!(second[..], [Claimed::Sent(_), Claimed::New]), "{second:?}");
    assert_eq!(status(&room, "c").await, Some(Status::Pending));
    assert_eq!(take_labels(&room.broker()).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_queue_of_another_type_leaves_nothing_of_a_named_send() {
    let Some((room, redis)) = room().await else { return };
    redis.command(&["SET", "other", "a string"]).await;
    let mut claim = request("r", "a");
    claim.sending.message = elsewhere("a");
    let refused = room.fused().send_claimed(&[claim], room.now()).await;
    assert!(matches!(refused.as_deref(), Ok([Claimed::Failed(_)])), "{refused:?}");
    assert_eq!(status(&room, "a").await, None);
}
