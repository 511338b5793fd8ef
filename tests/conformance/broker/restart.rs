//! What is left when the process that used the broker was killed.

use std::time::Duration;

use lineshaft::broker::{Holding, NewTask, Published, Settle, StaleAck};
use lineshaft::error::StoreError;

use crate::harness::{Outcome, Skip, needs};
use crate::make::*;
use crate::room::Room;
use crate::support::until;

/// The room after a restart.
pub(crate) async fn reopen(room: Room) -> Result<Room, Skip> {
    room.reopen().await.map_err(Skip::because)
}

pub(crate) async fn what_was_held_waits_again_after_a_restart_marked_as_redelivered(room: Room) -> Outcome {
    let holding = room.broker().capabilities().holding;
    needs(!matches!(holding, Holding::Timed { .. }), format!("holding = {holding:?}"))?;
    publish_labels(&room.broker(), &["a", "b", "c"]).await;
    assert_eq!(labels(&take(&room.broker(), 2).await), ["a", "b"]);
    let room = reopen(room).await?;
    let broker = room.broker();
    publish_labels(&broker, &["d"]).await;
    assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
    if let (Holding::Replica { .. }, Some(inspect)) = (holding, broker.inspect()) {
        until("what a dead replica held waits again", async || {
            let depths = inspect.depths(&[queue("q")]).await.expect("depths");
            (depths[0].waiting == 4).then_some(())
        })
        .await;
    }
    let taken = take(&broker, 10).await;
    assert_eq!(labels(&taken), ["a", "b", "c", "d"]);
    assert!(taken[0].redelivered && taken[1].redelivered);
    if broker.capabilities().exact_redelivery {
        assert!(!taken[2].redelivered);
    }
    Ok(())
}

pub(crate) async fn what_was_acknowledged_stays_gone_after_a_restart(room: Room) -> Outcome {
    publish_labels(&room.broker(), &["a", "b"]).await;
    settle(&room.broker(), &take(&room.broker(), 1).await[0], Settle::Ack).await;
    let room = reopen(room).await?;
    assert_eq!(take_labels(&room.broker()).await, ["b"]);
    assert_eq!(room.broker().publish(&[message("a")]).await, [Ok(Published::New)]);
    Ok(())
}

pub(crate) async fn delayed_messages_stay_delayed_over_a_restart(room: Room) -> Outcome {
    needs(room.broker().capabilities().delay.limit().is_some(), "delay = Unsupported")?;
    let delayed = NewTask { available_at: Some(later(room.now(), 2)), ..message("a") };
    publish(&room.broker(), &[delayed, message("b")]).await;
    let after = Duration::from_secs(2);
    settle(&room.broker(), &take(&room.broker(), 1).await[0], Settle::Return { after, began: true }).await;
    let room = reopen(room).await?;
    assert!(take_labels(&room.broker()).await.is_empty());
    room.pass(after).await;
    assert_eq!(room.broker().ready(&queue("q"), &[name("work")]).await, Ok(()));
    let mut taken = take_labels(&room.broker()).await;
    if !room.broker().capabilities().keeps_place {
        taken.sort();
    }
    assert_eq!(taken, ["a", "b"]);
    Ok(())
}

pub(crate) async fn keys_are_known_after_a_restart(room: Room) -> Outcome {
    needs(room.broker().capabilities().recognises, "recognises = false")?;
    publish_labels(&room.broker(), &["a", "b"]).await;
    take(&room.broker(), 1).await;
    let room = reopen(room).await?;
    let answers = room.broker().publish(&[message("a"), message("b"), message("c")]).await;
    assert_eq!(answers, [Ok(Published::Already), Ok(Published::Already), Ok(Published::New)]);
    Ok(())
}

pub(crate) async fn receipts_from_before_a_restart_are_void(room: Room) -> Outcome {
    let (holding, stale) = (room.broker().capabilities().holding, room.broker().capabilities().stale_ack);
    needs(!matches!(holding, Holding::Timed { .. }), format!("holding = {holding:?}"))?;
    needs(stale == StaleAck::Rejected, "stale_ack = Undetected")?;
    publish_labels(&room.broker(), &["a"]).await;
    let old = take(&room.broker(), 1).await;
    let room = reopen(room).await?;
    let broker = room.broker();
    assert_eq!(broker.settle(&[(old[0].receipt.clone(), Settle::Ack)]).await, [Err(StoreError::Stale)]);
    assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
    let new = take(&broker, 1).await;
    assert_eq!(labels(&new), ["a"]);
    assert_eq!(broker.settle(&[(old[0].receipt.clone(), Settle::Ack)]).await, [Err(StoreError::Stale)]);
    settle(&broker, &new[0], Settle::Ack).await;
    Ok(())
}
