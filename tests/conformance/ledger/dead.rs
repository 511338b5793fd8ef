//! Dead tasks: found, requeued, forgotten.

use lineshaft::ledger::DeadTask;

use crate::broker::restart::reopen;
use crate::harness::Outcome;
use crate::make::*;
use crate::room::LedgerRoom;

fn begun(label: &str, generation: u64) -> DeadTask {
    DeadTask { requeue: Some(generation), ..dead(label, "lost") }
}

pub(crate) async fn a_dead_task_is_found_by_its_message<R: LedgerRoom>(room: R) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["a", "b"].map(|label| dead(label, "lost"))).await.expect("bury");
    let found = ledger.dead_of(&["b", "x", "a"].map(key)).await;
    assert_eq!(found, Ok(vec![Some(dead("b", "lost")), None, Some(dead("a", "lost"))]));
    Ok(())
}

pub(crate) async fn a_requeue_goes_on_under_the_generation_it_was_begun_with<R: LedgerRoom>(room: R) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["a", "b"].map(|label| dead(label, "lost"))).await.expect("bury");
    let first = ledger.begin_requeue(&[(key("a"), 7)]).await;
    assert_eq!(first, Ok(vec![Some(begun("a", 7))]));
    let again = ledger.begin_requeue(&[(key("a"), 8), (key("b"), 9), (key("b"), 10)]).await;
    assert_eq!(again, Ok(vec![Some(begun("a", 7)), Some(begun("b", 9)), Some(begun("b", 9))]));
    assert_eq!(ledger.dead(None, 10).await, Ok(vec![begun("a", 7), begun("b", 9)]), "it is dead until it is forgotten");
    Ok(())
}

pub(crate) async fn what_is_not_dead_is_neither_requeued_nor_forgotten<R: LedgerRoom>(room: R) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(ledger.begin_requeue(&[(key("a"), 7)]).await, Ok(vec![None]));
    assert_eq!(ledger.forget_dead(&[key("a")]).await, Ok(vec![false]));
    assert_eq!(ledger.dead(None, 10).await, Ok(Vec::new()));
    Ok(())
}

pub(crate) async fn a_forgotten_dead_task_is_gone_and_the_others_stay<R: LedgerRoom>(room: R) -> Outcome {
    let ledger = room.ledger();
    ledger.bury(&["a", "b", "c"].map(|label| dead(label, "lost"))).await.expect("bury");
    let forgotten = ledger.forget_dead(&["c", "a", "c"].map(key)).await;
    assert_eq!(forgotten, Ok(vec![true, true, false]));
    assert_eq!(ledger.dead(None, 10).await, Ok(vec![dead("b", "lost")]));
    assert_eq!(ledger.begin_requeue(&[(key("a"), 7)]).await, Ok(vec![None]));
    Ok(())
}

pub(crate) async fn a_requeue_that_was_begun_survives_a_restart<R: LedgerRoom>(room: R) -> Outcome {
    room.ledger().bury(&["a", "b"].map(|label| dead(label, "lost"))).await.expect("bury");
    room.ledger().begin_requeue(&[(key("a"), 7)]).await.expect("begin");
    room.ledger().forget_dead(&[key("b")]).await.expect("forget");
    let room = reopen(room).await?;
    assert_eq!(room.ledger().dead(None, 10).await, Ok(vec![begun("a", 7)]));
    assert_eq!(room.ledger().begin_requeue(&[(key("a"), 8)]).await, Ok(vec![Some(begun("a", 7))]));
    Ok(())
}
