//! What follows from decisions: effects to be done, tasks set aside.

use bytes::Bytes;
use lineshaft::broker::NewTask;
use lineshaft::ledger::{DeadTask, Decision, Effects, LostAttempt, Standing, Undone, Verdict};
use lineshaft::task::{FailureReason, FencingToken, LeaseId, MessageKey, Status};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

/// Effects that use every field.
pub(crate) fn rich(label: &str) -> Effects {
    let mut failed = state(label, 7, 2, Status::Failure);
    failed.state.error = "it \"broke\"".to_owned();
    failed.state.reason = FailureReason::WorkerLost;
    let mut ended = state(label, u64::MAX, 3, Status::Success);
    ended.state.results = Some(every_value());
    let retry = NewTask {
        routing_key: Some("elsewhere".to_owned()),
        body: Bytes::from_static(b"\x00\xffbytes"),
        available_at: Some(later(START, 30)),
        priority: 255,
        ..message(&format!("{label}-retry"))
    };
    let publish = vec![retry, message(&format!("{label}-callback"))];
    Effects { states: vec![failed, ended], publish, joins: vec![ended_member(label)] }
}

async fn undone(room: &Room) -> Vec<Undone> {
    room.ledger().undone(later(START, 1_000_000), 1_000).await.expect("undone")
}

/// Decides `label` with effects at START plus `seconds`.
async fn decided(room: &Room, label: &str, seconds: u64) {
    let held = lease(&room.ledger(), label, "s1").await;
    let decision = Decision { at: later(START, seconds), effects: rich(label), ..decision(&held.id, Some(label), 1) };
    assert_eq!(room.ledger().decide(&[decision]).await, Ok(vec![Verdict::Recorded]));
}

fn expect(labels: &[&str]) -> Vec<Undone> {
    labels.iter().map(|label| Undone { message: key(label), effects: rich(label) }).collect()
}

pub(crate) async fn undone_effects_are_listed_oldest_first_as_they_were_recorded(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    assert_eq!(undone(&room).await, []);
    for (label, seconds) in [("c", 10), ("a", 20), ("b", 10), ("d", 0)] {
        decided(&room, label, seconds).await;
    }
    assert_eq!(undone(&room).await, expect(&["d", "b", "c", "a"]));
    assert_eq!(room.ledger().undone(later(START, 1_000), 3).await, Ok(expect(&["d", "b", "c"])));
    Ok(())
}

pub(crate) async fn only_decisions_from_before_are_undone(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    decided(&room, "a", 10).await;
    decided(&room, "b", 20).await;
    for (before, labels) in [(10, [].as_slice()), (11, &["a"]), (20, &["a"]), (21, &["a", "b"])] {
        assert_eq!(room.ledger().undone(later(START, before), 10).await, Ok(expect(labels)), "{before}");
    }
    Ok(())
}

pub(crate) async fn done_effects_are_listed_no_more(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    for label in ["a", "b", "c"] {
        decided(&room, label, 0).await;
    }
    for _ in 0..2 {
        room.ledger().done(&[key("c"), key("a"), key("never")], room.now()).await.expect("done");
        assert_eq!(undone(&room).await, expect(&["b"]));
    }
    Ok(())
}

pub(crate) async fn what_is_refused_has_no_effects(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    decided(&room, "a", 0).await;
    ledger.done(&[key("a")], room.now()).await.expect("done");
    let held = lease(&ledger, "b", "s1").await;
    let never = LeaseId { message: key("b"), token: FencingToken(1) };
    let with = |d: Decision| Decision { effects: rich("x"), dead: Some(dead("x", "x")), ..d };
    let first = decision(&held.id, Some("r"), 1);
    let batch = [
        first,
        with(decision(&held.id, Some("r"), 1)),
        with(decision(&held.id, None, 2)),
        with(decision(&never, None, 1)),
    ];
    let verdicts = ledger.decide(&batch).await.expect("decide");
    assert_eq!(verdicts, [Verdict::Recorded, Verdict::Duplicate, Verdict::Conflict, Verdict::Superseded]);
    assert_eq!(undone(&room).await, [Undone { message: key("b"), effects: Effects::default() }]);
    assert_eq!(ledger.dead(None, 10).await, Ok(Vec::new()));
    Ok(())
}

pub(crate) async fn undone_effects_survive_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    for label in ["b", "c", "a"] {
        decided(&room, label, 5).await;
    }
    room.ledger().done(&[key("c")], room.now()).await.expect("done");
    let room = reopen(room).await?;
    assert_eq!(undone(&room).await, expect(&["a", "b"]));
    Ok(())
}

fn rich_dead(label: &str) -> DeadTask {
    let lost = |attempt| LostAttempt { attempt, worker: format!("w{attempt}"), at: later(START, attempt.into()) };
    DeadTask {
        lost: vec![lost(1), lost(2)],
        body: Bytes::from_static(b"\x00\xff"),
        ..dead(label, "worker lost 3 times")
    }
}

pub(crate) async fn a_dead_task_is_set_aside_with_its_decision(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    let decision = Decision { dead: Some(rich_dead("a")), ..decision(&held.id, None, 1) };
    room.ledger().decide(&[decision]).await.expect("decide");
    assert_eq!(room.ledger().dead(None, 10).await, Ok(vec![rich_dead("a")]));
    let room = reopen(room).await?;
    assert_eq!(room.ledger().dead(None, 10).await, Ok(vec![rich_dead("a")]));
    Ok(())
}

pub(crate) async fn dead_tasks_are_listed_page_by_page_in_order_of_their_keys(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["d", "b", "e", "a", "c"].map(|label| dead(label, "no task"))).await.expect("bury");
    let mut seen = String::new();
    let mut after: Option<MessageKey> = None;
    loop {
        let page = ledger.dead(after.as_ref(), 2).await.expect("dead");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.message.clone());
        seen.extend(page.iter().map(|dead| dead.message.as_str()));
    }
    assert_eq!(seen, "abcde");
    Ok(())
}

pub(crate) async fn a_body_that_is_no_task_is_set_aside_without_a_decision(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&[dead("a", "no JSON"), dead("b", "no JSON")]).await.expect("bury");
    ledger.bury(&[dead("a", "no JSON at byte 3")]).await.expect("bury");
    assert_eq!(ledger.dead(None, 10).await, Ok(vec![dead("a", "no JSON at byte 3"), dead("b", "no JSON")]));
    let standing = ledger.standing(&[key("a")]).await;
    assert_eq!(standing, Ok(vec![Standing::Open]));
    Ok(())
}
