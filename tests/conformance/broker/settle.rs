//! Settling, and receipts that are void.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::broker::{Receipt, Settle, StaleAck};
use lineshaft::error::StoreError;

use crate::harness::{Outcome, needs, settle_down};
use crate::make::*;
use crate::room::Room;

pub(crate) async fn an_acknowledged_message_is_gone(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a", "b"]).await;
    settle(&broker, &take(&broker, 1).await[0], Settle::Ack).await;
    room.pass(Duration::from_secs(60)).await;
    assert_eq!(take_labels(&broker).await, ["b"]);
    Ok(())
}

pub(crate) async fn a_returned_message_keeps_its_place(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().keeps_place, "keeps_place = false")?;
    publish_labels(&broker, &["a", "b", "c"]).await;
    let taken = take(&broker, 2).await;
    publish_labels(&broker, &["d"]).await;
    // In the wrong order, which must not matter.
    settle(&broker, &taken[1], RETURN).await;
    settle(&broker, &taken[0], RETURN).await;
    assert_eq!(take_labels(&broker).await, ["a", "b", "c", "d"]);
    Ok(())
}

pub(crate) async fn what_one_call_returns_comes_first_in_its_old_order(room: Room) -> Outcome {
    let broker = room.broker();
    for began in [true, false] {
        publish_labels(&broker, &["a", "b", "c"]).await;
        let taken = take(&broker, 2).await;
        publish_labels(&broker, &["d"]).await;
        let how = Settle::Return { after: Duration::ZERO, began };
        let items = [(taken[1].receipt.clone(), how), (taken[0].receipt.clone(), how)];
        assert_eq!(broker.settle(&items).await, [Ok(()), Ok(())]);
        let again = take(&broker, 10).await;
        assert_eq!(labels(&again), ["a", "b", "c", "d"], "began: {began}");
        for delivery in &again {
            settle(&broker, delivery, Settle::Ack).await;
        }
    }
    Ok(())
}

pub(crate) async fn a_returned_message_is_marked_as_redelivered(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a", "b"]).await;
    settle(&broker, &take(&broker, 1).await[0], RETURN).await;
    let taken = take(&broker, 10).await;
    assert!(taken[0].redelivered);
    if broker.capabilities().exact_redelivery {
        assert!(!taken[1].redelivered);
    }
    Ok(())
}

pub(crate) async fn a_message_returned_with_a_delay_waits_that_long(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a", "b"]).await;
    let after = Duration::from_secs(2);
    settle(&broker, &take(&broker, 1).await[0], Settle::Return { after, began: true }).await;
    assert_eq!(take_labels(&broker).await, ["b"]);
    if !room.real_time() {
        room.pass(after - Duration::from_millis(2)).await;
        assert!(take_labels(&broker).await.is_empty());
        room.pass(Duration::from_millis(2)).await;
    }
    assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
    let again = take(&broker, 10).await;
    assert_eq!(labels(&again), ["a"]);
    assert!(again[0].redelivered);
    Ok(())
}

pub(crate) async fn ready_resolves_when_something_is_returned(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a"]).await;
    let taken = take(&broker, 1).await;
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("work")]).await });
    settle_down().await;
    settle(&broker, &taken[0], RETURN).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
    assert_eq!(take_labels(&broker).await, ["a"]);
    Ok(())
}

pub(crate) async fn a_settled_receipt_is_void(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().stale_ack == StaleAck::Rejected, "stale_ack = Undetected")?;
    publish_labels(&broker, &["a", "b"]).await;
    let taken = take(&broker, 2).await;
    settle(&broker, &taken[0], Settle::Ack).await;
    settle(&broker, &taken[1], RETURN).await;
    for delivery in &taken {
        for how in [Settle::Ack, RETURN, Settle::Return { after: Duration::from_secs(60), began: true }] {
            assert_eq!(broker.settle(&[(delivery.receipt.clone(), how)]).await, [Err(StoreError::Stale)]);
        }
    }
    assert_eq!(take_labels(&broker).await, ["b"], "a void receipt moves nothing");
    Ok(())
}

pub(crate) async fn an_outdated_receipt_that_goes_unnoticed_harms_nobody(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().stale_ack == StaleAck::Undetected, "stale_ack = Rejected")?;
    publish_labels(&broker, &["a", "b"]).await;
    let taken = take(&broker, 1).await;
    settle(&broker, &taken[0], Settle::Ack).await;
    settle(&broker, &taken[0], Settle::Ack).await;
    settle(&broker, &taken[0], RETURN).await;
    assert_eq!(take_labels(&broker).await, ["b"]);
    Ok(())
}

pub(crate) async fn a_receipt_of_an_earlier_delivery_is_void(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().stale_ack == StaleAck::Rejected, "stale_ack = Undetected")?;
    publish_labels(&broker, &["a"]).await;
    let first = take(&broker, 1).await;
    settle(&broker, &first[0], RETURN).await;
    let second = take(&broker, 1).await;
    assert_ne!(first[0].receipt, second[0].receipt);
    for how in [Settle::Ack, RETURN] {
        assert_eq!(broker.settle(&[(first[0].receipt.clone(), how)]).await, [Err(StoreError::Stale)]);
    }
    assert!(take_labels(&broker).await.is_empty(), "the second delivery still holds it");
    settle(&broker, &second[0], Settle::Ack).await;
    Ok(())
}

pub(crate) async fn receipts_that_were_never_given_are_void(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().stale_ack == StaleAck::Rejected, "stale_ack = Undetected")?;
    publish_labels(&broker, &["a"]).await;
    let taken = take(&broker, 1).await;
    let given = &taken[0].receipt.0;
    let flipped: Bytes = given.iter().map(|byte| !byte).collect();
    for bytes in [Bytes::new(), Bytes::from_static(b"garbage"), given.slice(1..), flipped, vec![0xff; 300].into()] {
        assert_eq!(broker.settle(&[(Receipt(bytes), Settle::Ack)]).await, [Err(StoreError::Stale)]);
    }
    settle(&broker, &taken[0], RETURN).await;
    assert_eq!(take_labels(&broker).await, ["a"]);
    Ok(())
}

pub(crate) async fn each_item_has_its_own_answer(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().stale_ack == StaleAck::Rejected, "stale_ack = Undetected")?;
    publish_labels(&broker, &["a", "b", "c"]).await;
    let taken = take(&broker, 3).await;
    let receipt = |n: usize| taken[n].receipt.clone();
    let items = [
        (receipt(0), RETURN),
        (receipt(0), Settle::Ack),
        (receipt(1), Settle::Ack),
        (receipt(1), RETURN),
        (receipt(2), RETURN),
    ];
    let answers = broker.settle(&items).await;
    assert_eq!(answers, [Ok(()), Err(StoreError::Stale), Ok(()), Err(StoreError::Stale), Ok(())]);
    assert!(broker.settle(&[]).await.is_empty());
    assert!(broker.publish(&[]).await.is_empty());
    assert_eq!(take_labels(&broker).await, ["a", "c"]);
    Ok(())
}
