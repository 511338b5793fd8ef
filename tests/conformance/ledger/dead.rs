//! Dead tasks: found, requeued, forgotten.

use lineshaft::clock::WallTime;
use lineshaft::ledger::DeadTask;

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

fn begun(label: &str, generation: u64) -> DeadTask {
    DeadTask { requeue: Some(generation), ..dead(label, "lost") }
}

pub(crate) async fn a_dead_task_is_found_by_its_message(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["a", "b"].map(|label| dead(label, "lost"))).await.expect("bury");
    let found = ledger.dead_of(&["b", "x", "a"].map(key)).await;
    assert_eq!(found, Ok(vec![Some(dead("b", "lost")), None, Some(dead("a", "lost"))]));
    Ok(())
}

pub(crate) async fn a_requeue_goes_on_under_the_generation_it_was_begun_with(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["a", "b"].map(|label| dead(label, "lost"))).await.expect("bury");
    let first = ledger.begin_requeue(&[(key("a"), 7)]).await;
    assert_eq!(first, Ok(vec![Some(begun("a", 7))]));
    let again = ledger.begin_requeue(&[(key("a"), 8), (key("b"), 9), (key("b"), 10)]).await;
    assert_eq!(again, Ok(vec![Some(begun("a", 7)), Some(begun("b", 9)), Some(begun("b", 9))]));
    assert_eq!(ledger.dead(None, 10).await, Ok(vec![begun("a", 7), begun("b", 9)]), "it is dead until it is forgotten");
    Ok(())
}

pub(crate) async fn what_is_not_dead_is_neither_requeued_nor_forgotten(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(ledger.begin_requeue(&[(key("a"), 7)]).await, Ok(vec![None]));
    assert_eq!(ledger.forget_dead(&[key("a")]).await, Ok(vec![false]));
    assert_eq!(ledger.dead(None, 10).await, Ok(Vec::new()));
    Ok(())
}

pub(crate) async fn a_forgotten_dead_task_is_gone_and_the_others_stay(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["a", "b", "c"].map(|label| dead(label, "lost"))).await.expect("bury");
    let forgotten = ledger.forget_dead(&["c", "a", "c"].map(key)).await;
    assert_eq!(forgotten, Ok(vec![true, true, false]));
    assert_eq!(ledger.dead(None, 10).await, Ok(vec![dead("b", "lost")]));
    assert_eq!(ledger.begin_requeue(&[(key("a"), 7)]).await, Ok(vec![None]));
    Ok(())
}

pub(crate) async fn a_requeue_that_was_begun_survives_a_restart(room: Room) -> Outcome {
    room.ledger().bury(&["a", "b"].map(|label| dead(label, "lost"))).await.expect("bury");
    room.ledger().begin_requeue(&[(key("a"), 7)]).await.expect("begin");
    room.ledger().forget_dead(&[key("b")]).await.expect("forget");
    let room = reopen(room).await?;
    assert_eq!(room.ledger().dead(None, 10).await, Ok(vec![begun("a", 7)]));
    assert_eq!(room.ledger().begin_requeue(&[(key("a"), 8)]).await, Ok(vec![Some(begun("a", 7))]));
    Ok(())
}

fn aged(label: &str, seconds: u64) -> DeadTask {
    DeadTask { at: later(START, seconds), ..dead(label, "lost") }
}

pub(crate) async fn dead_tasks_are_forgotten_by_their_age_in_bounded_steps(room: Room) -> Outcome {
    let ledger = room.ledger();
    // The older the later in order of their keys.
    let all: Vec<DeadTask> = (0..300).map(|n| aged(&format!("m{n:03}"), 300 - n)).collect();
    ledger.bury(&all).await.expect("bury");
    ledger.begin_requeue(&[(key("m299"), 7)]).await.expect("begin");
    assert_eq!(ledger.forget_dead(&[key("m298")]).await, Ok(vec![true]));
    let mut swept = Vec::new();
    while let Ok(some @ 1..) = ledger.sweep_dead(later(START, 250)).await {
        swept.push(some);
    }
    assert_eq!(swept.iter().sum::<usize>(), 248, "{swept:?}");
    assert!(swept.len() > 1, "all at once");
    let left = ledger.dead(None, 1_000).await.expect("dead");
    assert_eq!(left, all[..51], "the moment itself is not before it");
    Ok(())
}

pub(crate) async fn a_task_set_aside_anew_is_as_old_as_the_last_time(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&[aged("a", 1), aged("b", 1)]).await.expect("bury");
    ledger.bury(&[aged("a", 9)]).await.expect("bury");
    assert_eq!(ledger.sweep_dead(later(START, 5)).await, Ok(1));
    assert_eq!(ledger.dead(None, 10).await, Ok(vec![aged("a", 9)]));
    assert_eq!(ledger.sweep_dead(WallTime(u64::MAX)).await, Ok(1));
    assert_eq!(ledger.sweep_dead(WallTime(u64::MAX)).await, Ok(0));
    Ok(())
}

pub(crate) async fn the_age_of_a_dead_task_survives_a_restart(room: Room) -> Outcome {
    room.ledger().bury(&[aged("a", 1), aged("b", 9)]).await.expect("bury");
    let room = reopen(room).await?;
    assert_eq!(room.ledger().sweep_dead(later(START, 5)).await, Ok(1));
    assert_eq!(room.ledger().dead(None, 10).await, Ok(vec![aged("b", 9)]));
    Ok(())
}
