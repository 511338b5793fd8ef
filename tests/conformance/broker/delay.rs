//! Messages that are not due yet, and clocks that are stepped.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::broker::{Broker, NewTask, Support};
use lineshaft::clock::WallTime;

use crate::harness::{Outcome, needs, settle_down};
use crate::make::*;
use crate::room::Room;

fn needs_delay(broker: &Arc<dyn Broker>) -> Outcome {
    needs(broker.capabilities().delay.limit().is_some(), "delay = Unsupported")
}

fn at(label: &str, time: WallTime) -> NewTask {
    NewTask { available_at: Some(time), ..message(label) }
}

pub(crate) async fn a_delayed_message_is_taken_when_it_is_due_and_not_before(room: Room) -> Outcome {
    let broker = room.broker();
    needs_delay(&broker)?;
    let now = room.now();
    publish(&broker, &[at("a", later(now, 3)), at("b", later(now, 1)), message("c")]).await;
    assert_eq!(take_labels(&broker).await, ["c"]);
    if !room.real_time() {
        room.pass(Duration::from_millis(998)).await;
        assert!(take_labels(&broker).await.is_empty());
        room.pass(Duration::from_millis(2)).await;
        assert_eq!(take_labels(&broker).await, ["b"]);
        room.pass(Duration::from_millis(1_998)).await;
        assert!(take_labels(&broker).await.is_empty());
        room.pass(Duration::from_millis(2)).await;
    } else {
        assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
        assert_eq!(take_labels(&broker).await, ["b"]);
        assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
    }
    let taken = take(&broker, 10).await;
    assert_eq!(labels(&taken), ["a"]);
    if broker.capabilities().exact_redelivery {
        assert!(!taken[0].redelivered, "a delay is no delivery");
    }
    Ok(())
}

pub(crate) async fn what_is_due_already_is_taken_at_once(room: Room) -> Outcome {
    let broker = room.broker();
    publish(&broker, &[at("a", WallTime(0)), at("b", room.now())]).await;
    assert_eq!(take_labels(&broker).await, ["a", "b"]);
    Ok(())
}

pub(crate) async fn age_counts_from_publishing_also_for_delayed_messages(room: Room) -> Outcome {
    let broker = room.broker();
    let delay = broker.capabilities().delay;
    needs(matches!(delay, Support::Native(_)), format!("delay = {delay:?}"))?;
    let now = room.now();
    publish(&broker, &[at("a", later(now, 2)), at("b", later(now, 1)), message("c")]).await;
    room.pass(Duration::from_secs(3)).await;
    assert_eq!(take_labels(&broker).await, ["a", "b", "c"]);
    Ok(())
}

async fn ready_in_time(room: &Room, broker: &Arc<dyn Broker>, pass: Duration) {
    let waiter = Arc::clone(broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("work")]).await });
    settle_down().await;
    room.pass(pass).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
}

pub(crate) async fn ready_resolves_when_something_becomes_due(room: Room) -> Outcome {
    let broker = room.broker();
    needs_delay(&broker)?;
    publish(&broker, &[at("a", later(room.now(), 2))]).await;
    ready_in_time(&room, &broker, Duration::from_secs(2)).await;
    assert_eq!(take_labels(&broker).await, ["a"]);

    // Published while somebody waits already, and due before what was known.
    publish(&broker, &[at("c", later(room.now(), 600))]).await;
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("work")]).await });
    settle_down().await;
    publish(&broker, &[at("b", later(room.now(), 2))]).await;
    room.pass(Duration::from_secs(2)).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
    assert_eq!(take_labels(&broker).await, ["b"]);
    Ok(())
}

pub(crate) async fn a_clock_stepped_forward_makes_messages_due(room: Room) -> Outcome {
    let broker = room.broker();
    needs_delay(&broker)?;
    needs(!room.real_time(), "the store has a clock of its own")?;
    publish(&broker, &[at("a", later(room.now(), 3_600)), at("b", later(room.now(), 7_200))]).await;
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("work")]).await });
    settle_down().await;
    room.clock().step_to(later(room.now(), 3_600));
    room.pass(Duration::from_secs(60)).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
    assert_eq!(take_labels(&broker).await, ["a"]);
    Ok(())
}

pub(crate) async fn a_clock_stepped_back_neither_loses_nor_hides_what_waits(room: Room) -> Outcome {
    let broker = room.broker();
    needs_delay(&broker)?;
    needs(!room.real_time(), "the store has a clock of its own")?;
    let now = room.now();
    publish(&broker, &[at("a", later(now, 10)), message("b")]).await;
    room.clock().step_to(WallTime(now.0 - 3_600_000_000_000));
    assert_eq!(take_labels(&broker).await, ["b"], "what is ready stays so");
    publish_labels(&broker, &["c"]).await;
    assert_eq!(take_labels(&broker).await, ["c"]);
    room.pass(Duration::from_secs(60)).await;
    assert!(take_labels(&broker).await.is_empty(), "the time of \"a\" is an hour away again");
    ready_in_time(&room, &broker, Duration::from_secs(3_550)).await;
    assert_eq!(take_labels(&broker).await, ["a"]);
    Ok(())
}
