//! Finding messages by their task.

use std::sync::Arc;

use bytes::Bytes;
use lineshaft::broker::{Broker, Found, NewTask, Settle};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, needs};
use crate::make::*;
use crate::room::Room;

fn needs_find(broker: &Arc<dyn Broker>) -> Outcome {
    needs(broker.find().is_some(), "finding messages is declined")
}

async fn find(broker: &Arc<dyn Broker>, tasks: &[&str]) -> Vec<Vec<Found>> {
    let tasks: Vec<_> = tasks.iter().map(|task| task_id(task)).collect();
    let mut found = broker.find().expect("finding").find(&tasks).await.expect("find");
    found.iter_mut().for_each(|of| of.sort_by(|a, b| a.key.cmp(&b.key)));
    found
}

/// A message of task `task`.
fn of(task: &str, label: &str) -> NewTask {
    NewTask { task: task_id(task), ..message(label) }
}

fn found(label: &str) -> Found {
    let NewTask { key, queue, name, body, .. } = message(label);
    Found { key, queue, name, body }
}

pub(crate) async fn the_messages_of_a_task_are_found_wherever_they_stand(room: Room) -> Outcome {
    let broker = room.broker();
    needs_find(&broker)?;
    let delayed = NewTask { available_at: Some(later(room.now(), 60)), ..of("t", "c") };
    publish(&broker, &[of("t", "a"), of("t", "b"), delayed, of("other", "d")]).await;
    assert_eq!(labels(&take(&broker, 1).await), ["a"]);
    let expected = vec![vec![found("a"), found("b"), found("c")], vec![], vec![found("d")]];
    assert_eq!(find(&broker, &["t", "unknown", "other"]).await, expected);
    assert_eq!(take_labels(&broker).await, ["b", "d"], "finding takes nothing");
    Ok(())
}

pub(crate) async fn what_is_done_with_is_found_no_more(room: Room) -> Outcome {
    let broker = room.broker();
    needs_find(&broker)?;
    let large = NewTask { body: Bytes::from(vec![7; 100_000]), ..of("t", "b") };
    publish(&broker, &[of("t", "a"), large.clone(), of("t", "c")]).await;
    let taken = take(&broker, 2).await;
    settle(&broker, &taken[0], Settle::Ack).await;
    settle(&broker, &taken[1], RETURN).await;
    if let Some(recall) = broker.recall() {
        recall.discard(&[key("c")]).await.expect("discard");
        assert_eq!(find(&broker, &["t"]).await, [vec![Found { body: large.body, ..found("b") }]]);
    }
    Ok(())
}

pub(crate) async fn messages_are_found_after_a_restart(room: Room) -> Outcome {
    needs_find(&room.broker())?;
    publish(&room.broker(), &[of("t", "a"), of("t", "b")]).await;
    settle(&room.broker(), &take(&room.broker(), 1).await[0], Settle::Ack).await;
    let room = reopen(room).await?;
    assert_eq!(find(&room.broker(), &["t"]).await, [vec![found("b")]]);
    Ok(())
}
