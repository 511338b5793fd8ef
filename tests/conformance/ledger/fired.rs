//! When joins are due, what follows them, and how they end.

use std::sync::Arc;

use lineshaft::clock::WallTime;
use lineshaft::ledger::Ledger;
use lineshaft::ledger::join::{Fired, Firing, Stage};

use super::joins::*;
use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

async fn sweep(ledger: &Arc<dyn Ledger>, now: WallTime) -> usize {
    let mut all = 0;
    loop {
        match ledger.sweep(now).await.expect("sweep") {
            0 => return all,
            some => all += some,
        }
    }
}

pub(crate) async fn joins_are_due_when_they_are_to_be_looked_at(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 2)).await;
    for (label, seconds) in [("b", 40), ("d", 50), ("c", 50)] {
        let mut other = opening(label, 2);
        other.look_at = later(START, seconds);
        open(&ledger, &other).await;
    }
    assert!(due(&ledger, 39).await.is_empty());
    assert_eq!(due(&ledger, 60).await, ["b", "c", "d", "a"]);
    assert_eq!(ledger.joins().due(later(START, 60), 2).await, Ok(vec![group("b"), group("c")]));
    assert_eq!(ledger.joins().due(later(START, 60), 0).await, Ok(vec![]));
    look(&ledger, "b", 55, 0).await;
    look(&ledger, "a", 41, 0).await;
    look(&ledger, "nobody", 1, 0).await;
    assert_eq!(due(&ledger, 40).await, Vec::<String>::new());
    assert_eq!(due(&ledger, 60).await, ["a", "c", "d", "b"]);
    // The same moment again.
    look(&ledger, "a", 41, 0).await;
    assert_eq!(due(&ledger, 41).await, ["a"]);
    assert_eq!(ledger.joins().due(WallTime(u64::MAX), 100).await.expect("due").len(), 4);
    Ok(())
}

pub(crate) async fn a_full_join_is_due_at_once(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 3)).await;
    open(&ledger, &opening("b", 2)).await;
    add(&ledger, "a", &[0, 1]).await;
    assert!(due(&ledger, 0).await.is_empty());
    add(&ledger, "a", &[1]).await;
    assert!(due(&ledger, 0).await.is_empty());
    add(&ledger, "a", &[2]).await;
    assert_eq!(due(&ledger, 0).await, ["a"]);
    let a = standing(&ledger, "a").await.expect("a join");
    assert!(a.is_full() && a.stage == Stage::Open);
    // The longest due comes first.
    assert_eq!(due(&ledger, 60).await, ["a", "b"]);
    Ok(())
}

pub(crate) async fn a_full_join_stays_due_until_it_is_looked_at_as_it_is(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 2)).await;
    add(&ledger, "a", &[0]).await;
    add(&ledger, "a", &[1]).await;
    // Whoever looked before the last member ended does not keep others from finding it full.
    look(&ledger, "a", 90, 1).await;
    assert_eq!(due(&ledger, 0).await, ["a"]);
    look(&ledger, "a", 90, 2).await;
    assert!(due(&ledger, 89).await.is_empty());
    assert_eq!(due(&ledger, 90).await, ["a"]);
    // What was added before changes nothing, full or not.
    add(&ledger, "a", &[1]).await;
    assert!(due(&ledger, 89).await.is_empty());
    Ok(())
}

pub(crate) async fn what_follows_is_recorded_once(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 1)).await;
    add(&ledger, "a", &[0]).await;
    assert_eq!(fire(&ledger, "a", &firing("first")).await, Fired::Recorded);
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Fired, 1, 0)));
    let known = Fired::Known(Box::new(firing("first")));
    assert_eq!(fire(&ledger, "a", &firing("second")).await, known);
    assert_eq!(fire(&ledger, "a", &firing("first")).await, known);
    assert_eq!(fire(&ledger, "nobody", &firing("first")).await, Fired::Over);
    // It is due until it is closed, so that whoever comes later does what is recorded.
    assert_eq!(due(&ledger, 0).await, ["a"]);
    look(&ledger, "a", 10, 1).await;
    assert_eq!(due(&ledger, 10).await, ["a"]);
    // Nothing follows: that is recorded as well. Within a batch the first one counts.
    open(&ledger, &opening("b", 1)).await;
    let both = [(group("b"), Firing::default()), (group("b"), firing("later"))];
    let expected = vec![Fired::Recorded, Fired::Known(Box::default())];
    assert_eq!(ledger.joins().fire(&both).await, Ok(expected));
    assert_eq!(ledger.joins().fire(&[]).await, Ok(vec![]));
    Ok(())
}

pub(crate) async fn of_two_that_fire_at_the_same_time_one_records(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 1)).await;
    let firing_now = ["x", "y", "z"].map(|label| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move { (label, fire(&ledger, "a", &firing(label)).await) })
    });
    let mut recorded = Vec::new();
    let mut known = Vec::new();
    for answer in firing_now {
        match answer.await.expect("a task") {
            (label, Fired::Recorded) => recorded.push(firing(label)),
            (_, Fired::Known(firing)) => known.push(*firing),
            (_, Fired::Over) => panic!("it is open"),
        }
    }
    assert_eq!(recorded.len(), 1);
    assert_eq!(known, vec![recorded[0].clone(); 2]);
    Ok(())
}

pub(crate) async fn a_fired_join_takes_no_more_members(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 3)).await;
    open(&ledger, &unknown("b", 3)).await;
    add(&ledger, "a", &[0]).await;
    add(&ledger, "b", &[0]).await;
    for label in ["a", "b"] {
        assert_eq!(fire(&ledger, label, &firing("f")).await, Fired::Recorded);
        add(&ledger, label, &[1, 2]).await;
        assert_eq!(counts(&ledger, label).await, Some((Stage::Fired, 1, 0)));
    }
    assert_eq!(members(&ledger, "a").await, [over(0), going(1), going(2)]);
    assert_eq!(members(&ledger, "b").await, [over(0)]);
    assert_eq!(ledger.joins().missing(&group("a"), 0, 9).await, Ok((vec![member(1), member(2)], None)));
    Ok(())
}

pub(crate) async fn a_closed_join_is_over(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 2)).await;
    open(&ledger, &opening("b", 2)).await;
    add(&ledger, "a", &[0, 1]).await;
    fire(&ledger, "a", &firing("f")).await;
    close(&ledger, "a").await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Closed, 2, 1)));
    assert_eq!(standing(&ledger, "a").await.map(|standing| standing.head), Some(opening("a", 2).head));
    assert_eq!(fire(&ledger, "a", &firing("g")).await, Fired::Over);
    look(&ledger, "a", 1, 2).await;
    add(&ledger, "a", &[0]).await;
    ledger.joins().sent(&[group("a")]).await.expect("sent");
    assert_eq!(due(&ledger, 60).await, ["b"]);
    assert_eq!(counts(&ledger, "a").await.map(|counts| counts.0), Some(Stage::Closed));
    // Nothing is told of how they ended any more.
    assert!(members(&ledger, "a").await.iter().all(|member| member.outcome.is_none()));
    // Not fired, and not full: whoever closes it knows why.
    close(&ledger, "b").await;
    close(&ledger, "nobody").await;
    assert!(due(&ledger, 60).await.is_empty());
    add(&ledger, "b", &[0]).await;
    assert_eq!(counts(&ledger, "b").await, Some((Stage::Closed, 0, 0)));
    Ok(())
}

pub(crate) async fn a_closed_join_is_remembered_for_its_time(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 2)).await;
    add(&ledger, "a", &[1]).await;
    close(&ledger, "a").await;
    // Closed once more, later: the first time counts.
    ledger.joins().close(&[group("a")], later(START, 500)).await.expect("close");
    let kept = KEEP.as_secs();
    sweep(&ledger, later(START, kept - 1)).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Closed, 1, 1)));
    sweep(&ledger, later(START, kept)).await;
    assert_eq!(standing(&ledger, "a").await, None);
    assert!(members(&ledger, "a").await.is_empty());
    // The id is free again, and nothing of the one before is met.
    open(&ledger, &opening("a", 3)).await;
    add(&ledger, "a", &[0]).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 1, 0)));
    assert_eq!(members(&ledger, "a").await, [over(0), going(1), going(2)]);
    sweep(&ledger, later(START, 3 * kept)).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 1, 0)));
    Ok(())
}

pub(crate) async fn an_open_join_is_never_forgotten_by_the_sweep(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 1)).await;
    open(&ledger, &opening("b", 1)).await;
    add(&ledger, "a", &[0]).await;
    fire(&ledger, "a", &firing("f")).await;
    sweep(&ledger, later(START, 1_000_000_000)).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Fired, 1, 0)));
    assert_eq!(members(&ledger, "a").await, [over(0)]);
    assert_eq!(fire(&ledger, "a", &firing("g")).await, Fired::Known(Box::new(firing("f"))));
    assert_eq!(counts(&ledger, "b").await, Some((Stage::Open, 0, 0)));
    Ok(())
}

pub(crate) async fn what_was_not_sent_is_forgotten_and_may_be_opened_anew(room: Room) -> Outcome {
    let ledger = room.ledger();
    let mut sending = opening("a", 3);
    sending.is_sending = true;
    open(&ledger, &sending).await;
    open(&ledger, &opening("b", 1)).await;
    add(&ledger, "a", &[2]).await;
    for _ in 0..2 {
        assert_eq!(ledger.joins().forget(&[group("a"), group("nobody")]).await, Ok(()));
        assert_eq!(standing(&ledger, "a").await, None);
    }
    assert_eq!(due(&ledger, 60).await, ["b"]);
    assert!(members(&ledger, "a").await.is_empty());
    open(&ledger, &unknown("a", 2)).await;
    add(&ledger, "a", &[2]).await;
    sweep(&ledger, START).await;
    assert_eq!(members(&ledger, "a").await, [over(2)]);
    assert_eq!(due(&ledger, 60).await, ["a", "b"]);
    Ok(())
}

pub(crate) async fn a_large_join_that_was_closed_is_forgotten_in_the_end(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", MANY)).await;
    for some in (0..MANY).collect::<Vec<_>>().chunks(2_000) {
        add(&ledger, "a", some).await;
    }
    close(&ledger, "a").await;
    // There is much to remove of it, and it is remembered all the same.
    sweep(&ledger, START).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Closed, MANY, MANY / 2)));
    sweep(&ledger, later(START, KEEP.as_secs())).await;
    assert_eq!(standing(&ledger, "a").await, None);
    open(&ledger, &opening("a", 2)).await;
    assert_eq!(members(&ledger, "a").await, [going(0), going(1)]);
    assert_eq!(sweep(&ledger, later(START, KEEP.as_secs())).await, 0);
    assert_eq!(members(&ledger, "a").await, [going(0), going(1)]);
    Ok(())
}

pub(crate) async fn what_follows_survives_a_restart(room: Room) -> Outcome {
    let ledger = room.ledger();
    for label in ["a", "b"] {
        open(&ledger, &opening(label, 1)).await;
        add(&ledger, label, &[0]).await;
        fire(&ledger, label, &firing(label)).await;
    }
    close(&ledger, "b").await;
    drop(ledger);
    let room = reopen(room).await?;
    let ledger = room.ledger();
    assert_eq!(fire(&ledger, "a", &firing("other")).await, Fired::Known(Box::new(firing("a"))));
    assert_eq!(fire(&ledger, "b", &firing("other")).await, Fired::Over);
    assert_eq!(due(&ledger, 60).await, ["a"]);
    assert_eq!(counts(&ledger, "b").await, Some((Stage::Closed, 1, 0)));
    Ok(())
}
