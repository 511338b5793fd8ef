//! The wrapper that makes stores fail does so as its switch says.

use std::sync::Arc;

use lineshaft::backend::Backend;
use lineshaft::broker::{Broker, Published, Receipt, Settle};
use lineshaft::clock::TestClock;
use lineshaft::error::StoreError;
use lineshaft::fused::Fused;
use lineshaft::ledger::Ledger;
use lineshaft::task::Status;

use crate::harness::START;
use crate::make::*;
use crate::room::Room;
use crate::rooms::Memory;
use crate::support::faulty::{Faulty, Mode, Switch};

async fn faulty() -> (Room, Switch, Arc<dyn Broker>) {
    let room = Room::open::<Memory>(Arc::new(TestClock::new(START))).await;
    let switch = Switch::default();
    let broker: Arc<dyn Broker> = Arc::new(Faulty::new(room.broker(), switch.clone()));
    (room, switch, broker)
}

#[tokio::test]
async fn an_unavailable_store_does_nothing() {
    let (room, switch, broker) = faulty().await;
    publish_labels(&broker, &["a"]).await;
    switch.set(Mode::Unavailable);
    assert!(matches!(broker.publish(&[message("b")]).await[0], Err(StoreError::Unavailable { .. })));
    assert!(matches!(broker.ready(&queue("q"), &[name("work")]).await, Err(StoreError::Unavailable { .. })));
    switch.set(Mode::Works);
    assert_eq!(take_labels(&broker).await, ["a"]);
    assert!(take_labels(&room.broker()).await.is_empty());
}

#[tokio::test]
async fn an_unknown_outcome_is_either() {
    let (room, switch, broker) = faulty().await;
    switch.next(1, Mode::UnknownBefore);
    assert!(matches!(broker.publish(&[message("a")]).await[0], Err(StoreError::OutcomeUnknown { .. })));
    assert_eq!(broker.publish(&[message("a")]).await, [Ok(Published::New)]);
    switch.next(1, Mode::UnknownAfter);
    assert!(matches!(broker.publish(&[message("b")]).await[0], Err(StoreError::OutcomeUnknown { .. })));
    assert_eq!(broker.publish(&[message("b")]).await, [Ok(Published::Already)]);
    switch.next(1, Mode::UnknownAfter);
    let void = [(Receipt(Default::default()), Settle::Ack)];
    assert_eq!(broker.settle(&void).await, [Err(StoreError::Stale)], "what the store refused is known");
    assert_eq!(take_labels(&room.broker()).await, ["a", "b"]);
}

#[tokio::test]
async fn one_switch_serves_all_stores() {
    let (room, switch, _) = faulty().await;
    let ledger: Arc<dyn Ledger> = Arc::new(Faulty::new(room.ledger(), switch.clone()));
    let backend: Arc<dyn Backend> = Arc::new(Faulty::new(room.backend(), switch.clone()));
    let fused: Arc<dyn Fused> = Arc::new(Faulty::new(room.fused(), switch.clone()));
    switch.set(Mode::UnknownAfter);
    assert!(matches!(ledger.attach(&session("s1", 1)).await, Err(StoreError::OutcomeUnknown { .. })));
    assert!(matches!(ledger.session(&session_id("s1")).await, Err(StoreError::Unavailable { .. })));
    let pending = state("task_a", 1, 1, Status::Pending);
    let written = backend.write(std::slice::from_ref(&pending), START).await;
    assert!(matches!(written[0], Err(StoreError::OutcomeUnknown { .. })));
    let sent = fused.send(&[sent("a", 1, None)], START).await;
    assert!(matches!(sent[0], Err(StoreError::OutcomeUnknown { .. })));
    assert!(fused.settle(&[]).await.is_err());
    switch.set(Mode::Works);
    assert_eq!(ledger.session(&session_id("s1")).await, Ok(Some(session("s1", 1))));
    assert_eq!(backend.read(&[task_id("task_a")], START).await, Ok(vec![Some(pending.state)]));
    assert_eq!(take_labels(&room.broker()).await, ["a"]);
}
