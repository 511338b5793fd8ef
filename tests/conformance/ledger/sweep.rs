//! What is forgotten, and when.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::clock::WallTime;
use lineshaft::ledger::{Begun, Ending, Lease, LeaseStatus, Ledger, OPEN_KEPT, Standing, Verdict};
use lineshaft::task::LeaseId;

use crate::broker::restart::reopen;
use crate::harness::Outcome;
use crate::make::*;
use crate::room::Room;

const FREE: Ending = Ending::Free { report: None };

/// Forgets all that is past its time at `now`.
async fn sweep(ledger: &Arc<dyn Ledger>, now: WallTime) -> usize {
    let mut all = 0;
    loop {
        match ledger.sweep(now).await.expect("sweep") {
            0 => return all,
            some => all += some,
        }
    }
}

async fn decided(ledger: &Arc<dyn Ledger>, label: &str) -> LeaseId {
    let id = lease(ledger, label, "s1").await.id;
    assert_eq!(ledger.decide(&[decision(&id, Some("r"), 1)]).await, Ok(vec![Verdict::Recorded]));
    id
}

async fn standing(ledger: &Arc<dyn Ledger>, label: &str) -> Standing {
    ledger.standing(&[key(label)]).await.expect("standing").remove(0)
}

async fn released(ledger: &Arc<dyn Ledger>, label: &str) -> Lease {
    let held = lease(ledger, label, "s1").await;
    ledger.release(&[(held.id.clone(), FREE)]).await.expect("release");
    held
}

pub(crate) async fn an_undone_decision_is_never_forgotten(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    decided(&ledger, "a").await;
    assert_eq!(sweep(&ledger, WallTime(u64::MAX)).await, 0);
    assert_eq!(standing(&ledger, "a").await, Standing::Decided);
    assert_eq!(ledger.undone(WallTime(u64::MAX), 10).await.expect("undone").len(), 1);
    Ok(())
}

pub(crate) async fn a_decision_is_kept_from_when_it_is_done(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let id = decided(&ledger, "a").await;
    let done = later(room.now(), 100);
    ledger.done(&[key("a")], done).await.expect("done");
    let end = done.plus(KEEP);
    assert_eq!(sweep(&ledger, WallTime(end.0 - 1)).await, 0);
    assert_eq!(ledger.decide(&[decision(&id, Some("r"), 1)]).await, Ok(vec![Verdict::Duplicate]));
    // Never early, and at most as late as a store that knows microseconds cannot tell.
    assert_eq!(sweep(&ledger, end.plus(Duration::from_micros(1))).await, 1);
    assert_eq!(standing(&ledger, "a").await, Standing::Open);
    assert_eq!(ledger.decide(&[decision(&id, Some("r"), 1)]).await, Ok(vec![Verdict::Superseded]));
    assert_eq!(ledger.lookup(&[id]).await, Ok(vec![LeaseStatus::Gone]));
    Ok(())
}

pub(crate) async fn marking_again_does_not_prolong(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    decided(&ledger, "a").await;
    ledger.done(&[key("a")], room.now()).await.expect("done");
    ledger.done(&[key("a"), key("a")], later(room.now(), 500)).await.expect("done");
    assert_eq!(sweep(&ledger, room.now().plus(KEEP)).await, 1);
    assert_eq!(sweep(&ledger, WallTime(u64::MAX)).await, 0);
    Ok(())
}

pub(crate) async fn marking_what_is_not_decided_changes_nothing(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = lease(&ledger, "a", "s1").await;
    ledger.done(&[key("a"), key("never")], room.now()).await.expect("done");
    assert_eq!(standing(&ledger, "a").await, Standing::Leased(held.id.clone()));
    assert_eq!(ledger.decide(&[decision(&held.id, None, 1)]).await, Ok(vec![Verdict::Recorded]));
    assert_eq!(sweep(&ledger, WallTime(u64::MAX)).await, 0, "it is still to be done");
    Ok(())
}

pub(crate) async fn a_live_lease_is_never_forgotten(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let held = lease(&ledger, "a", "s1").await;
    released(&ledger, "b").await;
    let again = lease(&ledger, "b", "s1").await;
    ledger.close(&session_id("s1"), None).await.expect("close");
    assert_eq!(sweep(&ledger, WallTime(u64::MAX)).await, 0);
    let standing = ledger.standing(&[key("a"), key("b")]).await;
    assert_eq!(standing, Ok(vec![Standing::Leased(held.id), Standing::Leased(again.id)]));
    Ok(())
}

pub(crate) async fn a_released_message_is_remembered_for_seven_days(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = released(&ledger, "a").await;
    let end = room.now().plus(OPEN_KEPT);
    // A second of room: a store may have a clock of its own.
    assert_eq!(sweep(&ledger, WallTime(end.0 - 1_000_000_000)).await, 0);
    assert_eq!(ledger.release(&[(held.id.clone(), FREE)]).await, Ok(vec![Verdict::Duplicate]));
    assert_eq!(sweep(&ledger, later(end, 1)).await, 1);
    assert_eq!(ledger.lookup(std::slice::from_ref(&held.id)).await, Ok(vec![LeaseStatus::Gone]));
    assert_eq!(ledger.decide(&[decision(&held.id, None, 1)]).await, Ok(vec![Verdict::Superseded]));
    Ok(())
}

pub(crate) async fn a_touched_message_is_remembered_anew(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    released(&ledger, "a").await;
    let first = room.now().plus(OPEN_KEPT);
    room.pass(Duration::from_secs(10)).await;
    released(&ledger, "a").await;
    assert_eq!(sweep(&ledger, later(first, 5)).await, 0);
    assert_eq!(lease(&ledger, "a", "s1").await.releases, 2);
    Ok(())
}

pub(crate) async fn what_is_forgotten_begins_anew_with_a_higher_token(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = released(&ledger, "a").await;
    let ended = decided(&ledger, "b").await;
    ledger.done(&[key("b")], room.now()).await.expect("done");
    assert_eq!(sweep(&ledger, later(room.now().plus(OPEN_KEPT), 1)).await, 2);
    let begun = ledger.begin(&[grant("a", "s1"), grant("b", "s1")]).await.expect("begin");
    let [Begun::Run(a), Begun::Run(b)] = begun.as_slice() else { panic!("{begun:?}") };
    assert_eq!((a.attempt, a.releases), (1, 0));
    assert!(a.id.token > held.id.token && b.id.token > ended.token);
    Ok(())
}

pub(crate) async fn everything_past_its_time_is_forgotten_in_bounded_steps(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let labels: Vec<String> = (0..3_000).map(|n| format!("m{n:04}")).collect();
    for batch in labels.chunks(1_000) {
        let grants: Vec<_> = batch.iter().map(|label| grant(label, "s1")).collect();
        let begun = ledger.begin(&grants).await.expect("begin");
        let ids = begun.into_iter().map(|begun| match begun {
            Begun::Run(lease) => lease.id,
            other => panic!("{other:?}"),
        });
        let decisions: Vec<_> = ids.map(|id| decision(&id, None, 1)).collect();
        assert_eq!(ledger.decide(&decisions).await, Ok(vec![Verdict::Recorded; batch.len()]));
        let keys: Vec<_> = batch.iter().map(|label| key(label)).collect();
        ledger.done(&keys, room.now()).await.expect("done");
    }
    let end = room.now().plus(KEEP);
    let step = ledger.sweep(end).await.expect("sweep");
    assert!((1..3_000).contains(&step), "{step} at once");
    assert_eq!(step + sweep(&ledger, end).await, 3_000);
    Ok(())
}

pub(crate) async fn what_was_to_be_forgotten_is_forgotten_after_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    decided(&room.ledger(), "a").await;
    room.ledger().done(&[key("a")], room.now()).await.expect("done");
    released(&room.ledger(), "b").await;
    let room = reopen(room).await?;
    let ledger = room.ledger();
    assert_eq!(sweep(&ledger, room.now().plus(KEEP)).await, 1);
    assert_eq!(standing(&ledger, "a").await, Standing::Open);
    assert_eq!(sweep(&ledger, later(room.now().plus(OPEN_KEPT), 1)).await, 1);
    Ok(())
}
