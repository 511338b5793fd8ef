//! Paused queues, counts of leases, and grants to nobody.

use lineshaft::clock::WallTime;
use lineshaft::ledger::{Begun, Ending, Grant, NOBODY, Verdict};
use lineshaft::task::QueueName;

use crate::broker::restart::reopen;
use crate::harness::Outcome;
use crate::make::*;
use crate::room::Room;

fn since(name: &str, at: u64) -> (QueueName, WallTime) {
    (queue(name), WallTime(at))
}

pub(crate) async fn a_paused_queue_keeps_its_moment_until_it_is_resumed(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(ledger.pause(&[queue("b"), queue("a")], WallTime(7)).await, Ok(()));
    assert_eq!(ledger.pause(&[queue("b")], WallTime(9)).await, Ok(()));
    assert_eq!(ledger.paused().await, Ok(vec![since("a", 7), since("b", 7)]));
    assert_eq!(ledger.resume(&[queue("b"), queue("never")]).await, Ok(()));
    assert_eq!(ledger.pause(&[queue("b")], WallTime(9)).await, Ok(()));
    assert_eq!(ledger.paused().await, Ok(vec![since("a", 7), since("b", 9)]));
    Ok(())
}

pub(crate) async fn pauses_survive_a_restart(room: Room) -> Outcome {
    room.ledger().pause(&[queue("a")], WallTime(7)).await.expect("pauses");
    let room = reopen(room).await?;
    assert_eq!(room.ledger().paused().await, Ok(vec![since("a", 7)]));
    Ok(())
}

pub(crate) async fn live_leases_are_counted_by_queue(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    assert_eq!(ledger.leased().await, Ok(vec![]));
    let held = lease(&ledger, "a", "s1").await;
    lease(&ledger, "b", "s2").await;
    begin(&ledger, &Grant { queue: queue("other"), ..grant("c", "s1") }).await;
    assert_eq!(ledger.leased().await, Ok(vec![(queue("other"), 1), (queue("q"), 2)]));
    ledger.release(&[(held.id, Ending::Free { report: None })]).await.expect("release");
    assert_eq!(ledger.leased().await, Ok(vec![(queue("other"), 1), (queue("q"), 1)]));
    Ok(())
}

pub(crate) async fn nobodys_grant_needs_neither_session_nor_mark(room: Room) -> Outcome {
    let ledger = room.ledger();
    let Begun::Run(lease) = begin(&ledger, &grant("a", NOBODY)).await else { panic!("not granted") };
    assert_eq!(begin(&ledger, &grant("a", NOBODY)).await, Begun::Held(lease.clone()));
    // Whoever granted it may die, and it is found.
    assert_eq!(ledger.orphans(10).await, Ok(vec![lease.clone()]));
    assert_eq!(ledger.decide(&[decision(&lease.id, None, 1)]).await, Ok(vec![Verdict::Recorded]));
    assert_eq!(begin(&ledger, &grant("a", NOBODY)).await, Begun::Decided);
    Ok(())
}
