//! Which decision is recorded, and what the others are told.

use futures::future::join_all;
use lineshaft::ledger::{Begun, Ending, LeaseQuery, LeaseStatus, Standing, Verdict};
use lineshaft::task::{FencingToken, LeaseId};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

async fn decide(room: &Room, lease: &LeaseId, report: Option<&str>, outcome: u8) -> Verdict {
    room.ledger().decide(&[decision(lease, report, outcome)]).await.expect("decide")[0]
}

pub(crate) async fn the_first_decision_is_recorded_and_ends_the_lease(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = lease(&ledger, "a", "s1").await;
    assert_eq!(decide(&room, &held.id, Some("r"), 1).await, Verdict::Recorded);
    assert_eq!(ledger.lookup(&[held.id]).await, Ok(vec![LeaseStatus::Decided]));
    assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Decided]));
    assert_eq!(ledger.leases(&LeaseQuery { max: 10, ..LeaseQuery::default() }).await, Ok(Vec::new()));
    assert_eq!(ledger.close(&session_id("s1"), None).await, Ok(Some(Vec::new())));
    assert_eq!(ledger.orphans(10).await, Ok(Vec::new()));
    Ok(())
}

pub(crate) async fn the_same_report_is_a_duplicate(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    decide(&room, &held.id, Some("r"), 1).await;
    assert_eq!(decide(&room, &held.id, Some("r"), 1).await, Verdict::Duplicate);
    assert_eq!(decide(&room, &held.id, Some("r"), 2).await, Verdict::Duplicate, "the id alone says so");
    Ok(())
}

pub(crate) async fn the_same_outcome_under_another_report_is_a_duplicate(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    for (label, first) in [("a", Some("r")), ("b", None)] {
        let held = lease(&room.ledger(), label, "s1").await;
        decide(&room, &held.id, first, 1).await;
        assert_eq!(decide(&room, &held.id, Some("other"), 1).await, Verdict::Duplicate);
        assert_eq!(decide(&room, &held.id, None, 1).await, Verdict::Duplicate);
    }
    Ok(())
}

pub(crate) async fn another_outcome_is_a_conflict(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    for (label, first) in [("a", Some("r")), ("b", None)] {
        let held = lease(&room.ledger(), label, "s1").await;
        decide(&room, &held.id, first, 1).await;
        assert_eq!(decide(&room, &held.id, Some("other"), 2).await, Verdict::Conflict);
        assert_eq!(decide(&room, &held.id, None, 2).await, Verdict::Conflict, "no id is no same id");
        assert_eq!(decide(&room, &held.id, None, 1).await, Verdict::Duplicate, "the first decision stands");
    }
    Ok(())
}

pub(crate) async fn a_late_report_is_recorded_if_nothing_was_granted_since(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let endings =
        [Ending::Free { report: None }, Ending::Free { report: Some("r".to_owned()) }, Ending::Lost { at: START }];
    for (n, ending) in endings.into_iter().enumerate() {
        let label = format!("m{n}");
        let held = lease(&ledger, &label, "s1").await;
        ledger.release(&[(held.id.clone(), ending.clone())]).await.expect("release");
        assert_eq!(decide(&room, &held.id, Some("r"), 1).await, Verdict::Recorded, "after {ending:?}");
        assert_eq!(decide(&room, &held.id, Some("r"), 1).await, Verdict::Duplicate);
        assert_eq!(begin(&ledger, &grant(&label, "s2")).await, Begun::Decided);
    }
    Ok(())
}

pub(crate) async fn a_late_report_is_superseded_by_a_later_grant(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let late = lease(&ledger, "a", "s1").await;
    ledger.release(&[(late.id.clone(), Ending::Lost { at: START })]).await.expect("release");
    let live = lease(&ledger, "a", "s2").await;
    assert_eq!(decide(&room, &late.id, Some("late"), 1).await, Verdict::Superseded);
    assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Leased(live.id.clone())]));
    assert_eq!(decide(&room, &live.id, Some("live"), 2).await, Verdict::Recorded);
    Ok(())
}

pub(crate) async fn an_older_lease_of_a_decided_message_is_superseded(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let older = lease(&ledger, "a", "s1").await;
    ledger.release(&[(older.id.clone(), Ending::Free { report: None })]).await.expect("release");
    let newer = lease(&ledger, "a", "s1").await;
    decide(&room, &newer.id, Some("r"), 1).await;
    assert_eq!(decide(&room, &older.id, Some("r"), 1).await, Verdict::Superseded, "even with the same report");
    assert_eq!(decide(&room, &older.id, Some("old"), 2).await, Verdict::Superseded);
    assert_eq!(decide(&room, &newer.id, Some("r"), 1).await, Verdict::Duplicate);
    Ok(())
}

pub(crate) async fn what_was_never_granted_is_superseded(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = lease(&ledger, "a", "s1").await;
    let id = |label, token| LeaseId { message: key(label), token: FencingToken(token) };
    for id in [id("a", held.id.token.0 + 1), id("a", u64::MAX), id("a", 0), id("never", held.id.token.0)] {
        assert_eq!(decide(&room, &id, Some("r"), 1).await, Verdict::Superseded);
    }
    assert_eq!(ledger.standing(&[key("a"), key("never")]).await, Ok(vec![Standing::Leased(held.id), Standing::Open]));
    Ok(())
}

pub(crate) async fn within_a_batch_the_first_decision_counts(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let (a, b) = (lease(&ledger, "a", "s1").await.id, lease(&ledger, "b", "s1").await.id);
    let never = LeaseId { message: key("never"), token: a.token };
    let batch = [
        decision(&a, Some("r1"), 1),
        decision(&never, Some("r2"), 1),
        decision(&a, Some("r1"), 1),
        decision(&b, Some("r3"), 2),
        decision(&a, Some("r4"), 2),
    ];
    let verdicts = ledger.decide(&batch).await.expect("decide");
    use Verdict::{Conflict, Duplicate, Recorded, Superseded};
    assert_eq!(verdicts, [Recorded, Superseded, Duplicate, Recorded, Conflict]);
    assert_eq!(ledger.decide(&[]).await, Ok(Vec::new()));
    Ok(())
}

pub(crate) async fn of_decisions_at_the_same_time_one_is_recorded(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    for round in 0..5 {
        let held = lease(&room.ledger(), &format!("m{round}"), "s1").await;
        let reports: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
        let outcome = |n: usize| (n % 2) as u8;
        let all = reports.iter().enumerate();
        let verdicts =
            join_all(all.map(async |(n, report)| decide(&room, &held.id, Some(report), outcome(n)).await)).await;
        let winner = verdicts.iter().position(|v| *v == Verdict::Recorded).expect("one is recorded");
        for (n, verdict) in verdicts.iter().enumerate().filter(|(n, _)| *n != winner) {
            let same = outcome(n) == outcome(winner);
            assert_eq!(*verdict, if same { Verdict::Duplicate } else { Verdict::Conflict });
        }
    }
    Ok(())
}

pub(crate) async fn decisions_survive_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    decide(&room, &held.id, Some("r"), 1).await;
    let room = reopen(room).await?;
    assert_eq!(begin(&room.ledger(), &grant("a", "s1")).await, Begun::Decided);
    assert_eq!(decide(&room, &held.id, Some("r"), 2).await, Verdict::Duplicate);
    assert_eq!(decide(&room, &held.id, Some("other"), 1).await, Verdict::Duplicate);
    assert_eq!(decide(&room, &held.id, Some("other"), 2).await, Verdict::Conflict);
    Ok(())
}
