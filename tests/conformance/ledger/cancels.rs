//! Marks of cancelled tasks.

use std::sync::Arc;

use lineshaft::ledger::{Begun, CancelMark, Ending, Grant, Ledger, Standing, Verdict};

use crate::broker::restart::reopen;
use crate::harness::Outcome;
use crate::make::*;
use crate::room::Room;

fn mark(label: &str, generation: u64) -> CancelMark {
    CancelMark { task: task_id(&format!("task_{label}")), generation }
}

async fn set(ledger: &Arc<dyn Ledger>, label: &str, generation: u64) {
    assert_eq!(ledger.mark(&[mark(label, generation)]).await, Ok(()));
}

async fn all(ledger: &Arc<dyn Ledger>) -> Vec<CancelMark> {
    ledger.marks(None, 100).await.expect("marks")
}

fn sent(label: &str, generation: u64) -> Grant {
    Grant { generation, ..grant(label, "s1") }
}

pub(crate) async fn a_marked_task_is_granted_only_to_be_ended(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    set(&ledger, "a", 7).await;
    let Begun::Cancelled(lease) = begin(&ledger, &sent("a", 7)).await else { panic!("not cancelled") };
    assert_eq!(lease.task, task_id("task_a"));
    assert_eq!(begin(&ledger, &sent("a", 7)).await, Begun::Held(lease.clone()));
    assert_eq!(ledger.decide(&[decision(&lease.id, None, 1)]).await, Ok(vec![Verdict::Recorded]));
    assert_eq!(begin(&ledger, &sent("a", 7)).await, Begun::Decided);
    assert!(matches!(begin(&ledger, &sent("b", 7)).await, Begun::Run(_)), "another task");
    Ok(())
}

pub(crate) async fn a_mark_needs_no_session(room: Room) -> Outcome {
    let ledger = room.ledger();
    set(&ledger, "a", 7).await;
    let Begun::Cancelled(lease) = begin(&ledger, &sent("a", 7)).await else { panic!("not cancelled") };
    // Nobody holds it: whoever granted it may die, and it is found.
    assert_eq!(ledger.orphans(10).await, Ok(vec![lease.clone()]));
    ledger.release(&[(lease.id, Ending::Free { report: None })]).await.expect("release");
    assert!(matches!(begin(&ledger, &sent("a", 7)).await, Begun::Cancelled(_)), "still marked");
    Ok(())
}

pub(crate) async fn a_later_sending_is_not_cancelled_an_earlier_one_is(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    set(&ledger, "a", 7).await;
    assert_eq!(
        ledger.marked(&[mark("a", 6), mark("a", 7), mark("a", 8), mark("b", 1)]).await,
        Ok(vec![true, true, false, false])
    );
    assert!(matches!(begin(&ledger, &sent("a", 8)).await, Begun::Run(_)));
    Ok(())
}

pub(crate) async fn an_older_mark_does_not_replace_a_newer_one(room: Room) -> Outcome {
    let ledger = room.ledger();
    set(&ledger, "a", 7).await;
    set(&ledger, "a", 3).await;
    assert_eq!(all(&ledger).await, [mark("a", 7)]);
    assert_eq!(ledger.unmark(&[mark("a", 6)]).await, Ok(()));
    assert_eq!(all(&ledger).await, [mark("a", 7)], "of a later sending");
    assert_eq!(ledger.unmark(&[mark("a", 7), mark("b", 1)]).await, Ok(()));
    assert_eq!(all(&ledger).await, []);
    Ok(())
}

pub(crate) async fn a_mark_leaves_a_live_lease_alone(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = lease(&ledger, "a", "s1").await;
    set(&ledger, "a", 7).await;
    assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Leased(held.id.clone())]));
    assert_eq!(begin(&ledger, &sent("a", 7)).await, Begun::Held(held.clone()));
    assert_eq!(ledger.decide(&[decision(&held.id, None, 1)]).await, Ok(vec![Verdict::Recorded]));
    Ok(())
}

pub(crate) async fn marks_are_listed_page_by_page_in_order_of_their_tasks(room: Room) -> Outcome {
    let ledger = room.ledger();
    for label in ["c", "a", "d", "b"] {
        set(&ledger, label, 1).await;
    }
    let first = ledger.marks(None, 3).await.expect("marks");
    assert_eq!(first, [mark("a", 1), mark("b", 1), mark("c", 1)]);
    assert_eq!(ledger.marks(Some(&first[2].task), 3).await, Ok(vec![mark("d", 1)]));
    assert_eq!(ledger.marks(None, 0).await, Ok(vec![]));
    Ok(())
}

pub(crate) async fn marks_survive_a_restart(room: Room) -> Outcome {
    set(&room.ledger(), "a", 7).await;
    let room = reopen(room).await?;
    assert_eq!(all(&room.ledger()).await, [mark("a", 7)]);
    assert!(matches!(begin(&room.ledger(), &sent("a", 7)).await, Begun::Cancelled(_)));
    Ok(())
}
