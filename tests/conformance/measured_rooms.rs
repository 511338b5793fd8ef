//! What the wrapper that counts calls adds to a room, and what it must not take away.

use std::sync::Arc;

use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::TestClock;
use lineshaft::fused::Fused;
use lineshaft::ledger::LeaseQuery;
use lineshaft::telemetry::exposition::Exposition;
use lineshaft::telemetry::stores::Stores as Calls;

use crate::harness::START;
use crate::make::*;
use crate::room::{Room, Stores};
use crate::rooms::{Memory, Plain};
use crate::support::faulty::{Faulty, Mode, Switch};

fn views(broker: &dyn Broker) -> [bool; 3] {
    [broker.inspect().is_some(), broker.find().is_some(), broker.recall().is_some()]
}

fn told(calls: &Calls) -> String {
    let mut page = Exposition::default();
    calls.tell(&mut page);
    page.into_text()
}

async fn same_views<S: Stores>() -> Room {
    let room = Room::open::<S>(Arc::new(TestClock::new(START))).await;
    let calls = Calls::default();
    let (bare, measured) = (room.broker(), calls.broker(room.broker()));
    assert_eq!(views(&*measured), views(&*bare));
    assert_eq!(measured.capabilities(), bare.capabilities());
    room
}

fn same_views_of_all(room: &Room) {
    let calls = Calls::default();
    let of_backend = |backend: &dyn Backend| [backend.ended().is_some(), backend.watch().is_some()];
    assert_eq!(of_backend(&*calls.backend(room.backend())), of_backend(&*room.backend()));
    let of_fused = |fused: &dyn Fused| fused.backup().is_some();
    assert_eq!(of_fused(&*calls.fused(room.fused(), "x")), of_fused(&*room.fused()));
    let (bare, measured) = (room.ledger(), calls.ledger(room.ledger()));
    assert_eq!((measured.name(), measured.replicas()), (bare.name(), bare.replicas()));
}

#[tokio::test(start_paused = true)]
async fn a_measured_room_has_the_views_of_the_bare_one() {
    same_views_of_all(&same_views::<Memory>().await);
    same_views::<Plain>().await;
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn a_measured_embedded_room_has_the_views_of_the_bare_one() {
    same_views_of_all(&same_views::<crate::rooms::Embedded>().await);
}

#[tokio::test(start_paused = true)]
async fn calls_and_the_errors_of_each_item_are_counted_by_method() {
    let room = Room::open::<Memory>(Arc::new(TestClock::new(START))).await;
    let (calls, switch) = (Calls::default(), Switch::default());
    let broker = calls.broker(Arc::new(Faulty::new(room.broker(), switch.clone())));
    let ledger = calls.ledger(room.ledger());
    let tasks = [message("a"), message("b")];
    assert!(broker.publish(&tasks).await.iter().all(Result::is_ok));
    switch.next(1, Mode::UnknownAfter);
    assert!(broker.publish(&tasks).await.iter().all(Result::is_err));
    ledger.leases(&LeaseQuery::default()).await.unwrap();
    let text = told(&calls);
    for line in [
        "lineshaft_store_call_seconds_count{seam=\"broker\",store=\"memory\",method=\"publish\"} 2",
        "lineshaft_store_errors_total{seam=\"broker\",store=\"memory\",method=\"publish\",kind=\"outcome_unknown\"} 2",
        "lineshaft_store_errors_total{seam=\"broker\",store=\"memory\",method=\"publish\",kind=\"unavailable\"} 0",
        "lineshaft_store_call_seconds_count{seam=\"ledger\",store=\"memory\",method=\"leases\"} 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
    assert!(!text.contains("method=\"take\""), "what was not called makes no series: {text}");
}
