//! Until when tasks may be begun.

use std::sync::Arc;

use lineshaft::clock::WallTime;
use lineshaft::ledger::{Decision, Ledger, Lifetime, Verdict};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

/// The lifetime of a sending, over some seconds after the start.
pub(crate) fn lifetime(label: &str, generation: u64, seconds: u64) -> Lifetime {
    Lifetime { at: later(START, seconds), task: task_id(&format!("task_{label}")), generation }
}

async fn limit(ledger: &Arc<dyn Ledger>, lifetimes: &[Lifetime]) {
    assert_eq!(ledger.lifetimes().limit(lifetimes).await, Ok(()));
}

async fn over(ledger: &Arc<dyn Ledger>, seconds: u64) -> Vec<Lifetime> {
    ledger.lifetimes().over(later(START, seconds), None, 100).await.expect("lifetimes")
}

/// All that is remembered.
pub(crate) async fn all(ledger: &Arc<dyn Ledger>) -> Vec<Lifetime> {
    ledger.lifetimes().over(WallTime(u64::MAX), None, 100).await.expect("lifetimes")
}

pub(crate) async fn a_lifetime_is_over_from_its_moment_on(room: Room) -> Outcome {
    let ledger = room.ledger();
    limit(&ledger, &[lifetime("a", 7, 5)]).await;
    assert_eq!(over(&ledger, 4).await, []);
    assert_eq!(over(&ledger, 5).await, [lifetime("a", 7, 5)]);
    // Known already: nothing is there twice.
    limit(&ledger, &[lifetime("a", 7, 5)]).await;
    assert_eq!(over(&ledger, 6).await, [lifetime("a", 7, 5)]);
    Ok(())
}

pub(crate) async fn lifetimes_are_listed_page_by_page_in_order_of_their_moments(room: Room) -> Outcome {
    let ledger = room.ledger();
    let sorted =
        [lifetime("b", 1, 1), lifetime("a", 1, 2), lifetime("a", 2, 2), lifetime("ab", 1, 2), lifetime("b", 1, 2)];
    limit(&ledger, &[sorted[3].clone(), sorted[0].clone(), sorted[4].clone()]).await;
    limit(&ledger, &[sorted[2].clone(), sorted[1].clone(), lifetime("late", 1, 9)]).await;
    let (now, lifetimes) = (later(START, 2), ledger.lifetimes());
    assert_eq!(lifetimes.over(now, None, 3).await, Ok(sorted[..3].to_vec()));
    assert_eq!(lifetimes.over(now, Some(&sorted[2]), 3).await, Ok(sorted[3..].to_vec()));
    assert_eq!(lifetimes.over(now, Some(&sorted[4]), 3).await, Ok(vec![]));
    assert_eq!(lifetimes.over(now, None, 0).await, Ok(vec![]));
    // Behind one that is not there any more.
    assert_eq!(lifetimes.over(now, Some(&lifetime("a", 9, 2)), 1).await, Ok(vec![sorted[3].clone()]));
    Ok(())
}

pub(crate) async fn a_forgotten_lifetime_is_gone_and_the_others_stay(room: Room) -> Outcome {
    let ledger = room.ledger();
    limit(&ledger, &[lifetime("a", 1, 1), lifetime("a", 2, 1), lifetime("b", 1, 1)]).await;
    let unknown = [lifetime("a", 1, 2), lifetime("c", 1, 1)];
    assert_eq!(ledger.lifetimes().forget(&unknown).await, Ok(()));
    assert_eq!(ledger.lifetimes().forget(&[lifetime("a", 1, 1)]).await, Ok(()));
    assert_eq!(all(&ledger).await, [lifetime("a", 2, 1), lifetime("b", 1, 1)]);
    Ok(())
}

pub(crate) async fn a_lifetime_goes_with_the_decision_that_ends_its_task(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    limit(&ledger, &[lifetime("a", 1, 1), lifetime("a", 2, 1)]).await;
    let held = lease(&ledger, "a", "s1").await;
    let ended = Decision {
        begins: vec![lifetime("child", 3, 9)],
        ends: Some(lifetime("a", 1, 1)),
        ..decision(&held.id, Some("r"), 1)
    };
    assert_eq!(ledger.decide(std::slice::from_ref(&ended)).await, Ok(vec![Verdict::Recorded]));
    let left = [lifetime("a", 2, 1), lifetime("child", 3, 9)];
    assert_eq!(all(&ledger).await, left);
    // What is not recorded changes nothing.
    ledger.lifetimes().forget(&left).await.expect("forgets");
    assert_eq!(ledger.decide(&[ended]).await, Ok(vec![Verdict::Duplicate]));
    assert_eq!(all(&ledger).await, []);
    Ok(())
}

pub(crate) async fn lifetimes_survive_a_restart(room: Room) -> Outcome {
    limit(&room.ledger(), &[lifetime("a", 7, 5)]).await;
    let room = reopen(room).await?;
    assert_eq!(over(&room.ledger(), 5).await, [lifetime("a", 7, 5)]);
    Ok(())
}
