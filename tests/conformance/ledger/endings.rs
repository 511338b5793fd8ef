//! Leases that end without a decision.

use lineshaft::ledger::{Ending, LeaseStatus, LostAttempt, Standing, Verdict};
use lineshaft::task::{FencingToken, LeaseId};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

fn free(report: &str) -> Ending {
    Ending::Free { report: Some(report.to_owned()) }
}

const UNNAMED: Ending = Ending::Free { report: None };
const LOST: Ending = Ending::Lost { at: START };

pub(crate) async fn a_free_ending_costs_no_attempt_and_is_counted(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    for releases in 0..3 {
        let held = lease(&ledger, "a", "s1").await;
        assert_eq!((held.attempt, held.releases), (1, releases));
        assert_eq!(ledger.release(&[(held.id, free("r"))]).await, Ok(vec![Verdict::Recorded]));
        assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Open]));
    }
    Ok(())
}

pub(crate) async fn a_lost_worker_costs_an_attempt_and_is_remembered(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let first = lease(&ledger, "a", "s1").await;
    assert_eq!(ledger.release(&[(first.id.clone(), LOST)]).await, Ok(vec![Verdict::Recorded]));
    let one = LostAttempt { attempt: 1, worker: "worker of s1".to_owned(), at: START };
    let status = ledger.lookup(&[first.id]).await.expect("lookup");
    let [LeaseStatus::Released(seen)] = status.as_slice() else { panic!("{status:?}") };
    assert_eq!(seen.lost, std::slice::from_ref(&one));
    let second = lease(&ledger, "a", "s2").await;
    assert_eq!((second.attempt, second.lost.as_slice()), (2, [one.clone()].as_slice()));
    let at = later(START, 9);
    ledger.release(&[(second.id, Ending::Lost { at })]).await.expect("release");
    let two = LostAttempt { attempt: 2, worker: "worker of s2".to_owned(), at };
    assert_eq!(lease(&ledger, "a", "s1").await.lost, [one, two]);
    Ok(())
}

pub(crate) async fn the_same_ending_again_is_a_duplicate(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let endings =
        [("a", free("r"), free("r")), ("b", UNNAMED, UNNAMED), ("c", LOST, Ending::Lost { at: later(START, 5) })];
    for (label, ending, again) in endings {
        let held = lease(&ledger, label, "s1").await;
        let answers = ledger.release(&[(held.id.clone(), ending), (held.id.clone(), again.clone())]).await;
        assert_eq!(answers, Ok(vec![Verdict::Recorded, Verdict::Duplicate]), "{again:?}");
        assert_eq!(ledger.release(&[(held.id, again)]).await, Ok(vec![Verdict::Duplicate]));
        let next = lease(&ledger, label, "s1").await;
        assert_eq!(next.releases as usize + next.lost.len(), 1, "it counts once");
    }
    Ok(())
}

pub(crate) async fn another_ending_is_a_conflict(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let endings = [free("r"), free("other"), UNNAMED, LOST];
    for (n, ending) in endings.iter().enumerate() {
        let held = lease(&ledger, &format!("m{n}"), "s1").await;
        ledger.release(&[(held.id.clone(), ending.clone())]).await.expect("release");
        for other in endings.iter().filter(|other| *other != ending) {
            let answer = ledger.release(&[(held.id.clone(), other.clone())]).await;
            assert_eq!(answer, Ok(vec![Verdict::Conflict]), "{other:?} after {ending:?}");
        }
        let next = lease(&ledger, &format!("m{n}"), "s1").await;
        assert_eq!(next.releases as usize + next.lost.len(), 1, "only the first counts");
    }
    Ok(())
}

pub(crate) async fn only_the_last_lease_of_a_message_is_ended(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let older = lease(&ledger, "a", "s1").await;
    ledger.release(&[(older.id.clone(), free("r"))]).await.expect("release");
    let live = lease(&ledger, "a", "s1").await;
    let future = LeaseId { message: key("a"), token: FencingToken(live.id.token.0 + 1) };
    let never = LeaseId { message: key("never"), token: live.id.token };
    for ending in [free("r"), free("other"), LOST] {
        let items = [&older.id, &future, &never].map(|id| (id.clone(), ending.clone()));
        assert_eq!(ledger.release(&items).await, Ok(vec![Verdict::Superseded; 3]));
    }
    assert_eq!(ledger.lookup(std::slice::from_ref(&live.id)).await, Ok(vec![LeaseStatus::Live(live)]));
    Ok(())
}

pub(crate) async fn what_is_decided_cannot_be_released(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let older = lease(&ledger, "a", "s1").await;
    ledger.release(&[(older.id.clone(), free("r"))]).await.expect("release");
    let held = lease(&ledger, "a", "s1").await;
    ledger.decide(&[decision(&held.id, Some("r2"), 1)]).await.expect("decide");
    for ending in [free("r"), free("r2"), LOST] {
        let answers = ledger.release(&[(held.id.clone(), ending.clone()), (older.id.clone(), ending)]).await;
        assert_eq!(answers, Ok(vec![Verdict::Conflict, Verdict::Superseded]));
    }
    assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Decided]));
    Ok(())
}

pub(crate) async fn endings_survive_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let (a, b) = (lease(&room.ledger(), "a", "s1").await, lease(&room.ledger(), "b", "s1").await);
    room.ledger().release(&[(a.id.clone(), free("r")), (b.id.clone(), LOST)]).await.expect("release");
    let room = reopen(room).await?;
    let ledger = room.ledger();
    let answers = ledger.release(&[(a.id, free("r")), (b.id, LOST)]).await;
    assert_eq!(answers, Ok(vec![Verdict::Duplicate; 2]));
    let (a, b) = (lease(&ledger, "a", "s1").await, lease(&ledger, "b", "s1").await);
    assert_eq!((a.attempt, a.releases, a.lost.len()), (1, 1, 0));
    assert_eq!((b.attempt, b.releases, b.lost.len()), (2, 0, 1));
    Ok(())
}
