//! Publishing, waiting and taking.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use lineshaft::broker::{NewTask, Published, Settle, Want};

use crate::harness::{Outcome, needs, settle_down};
use crate::make::*;
use crate::room::Room;

pub(crate) async fn what_is_published_is_taken_once_byte_for_byte(room: Room) -> Outcome {
    let broker = room.broker();
    let body = Bytes::from_static(b"\x00\xff {\"a\": 1}\r\n");
    publish(&broker, &[NewTask { body: body.clone(), ..message("a") }]).await;
    let taken = take(&broker, 10).await;
    assert_eq!(taken.len(), 1);
    if broker.capabilities().carries_keys {
        assert_eq!(taken[0].key, Some(key("a")));
    }
    assert_eq!(taken[0].body, body);
    if broker.capabilities().exact_redelivery {
        assert!(!taken[0].redelivered);
    }
    assert!(take(&broker, 10).await.is_empty());
    Ok(())
}

pub(crate) async fn older_messages_come_first(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["c", "a"]).await;
    publish_labels(&broker, &["d", "b"]).await;
    assert_eq!(labels(&take(&broker, 1).await), ["c"]);
    assert_eq!(take_labels(&broker).await, ["a", "d", "b"]);
    Ok(())
}

fn with_priorities() -> Vec<NewTask> {
    let with = |(label, priority)| NewTask { priority, ..message(label) };
    [("low", 0), ("high", 9), ("middle", 5), ("high2", 9), ("low2", 0)].map(with).to_vec()
}

pub(crate) async fn higher_priorities_come_first(room: Room) -> Outcome {
    let broker = room.broker();
    let levels = broker.capabilities().priorities;
    needs(levels.limit().is_some_and(|levels| levels >= 10), format!("priorities = {levels:?}"))?;
    publish(&broker, &with_priorities()).await;
    assert_eq!(take_labels(&broker).await, ["high", "high2", "middle", "low", "low2"]);
    Ok(())
}

pub(crate) async fn priorities_mean_nothing_where_there_are_none(room: Room) -> Outcome {
    let broker = room.broker();
    let levels = broker.capabilities().priorities;
    needs(levels.limit().is_none(), format!("priorities = {levels:?}"))?;
    publish(&broker, &with_priorities()).await;
    assert_eq!(take_labels(&broker).await, ["low", "high", "middle", "high2", "low2"]);
    Ok(())
}

pub(crate) async fn queues_do_not_mix(room: Room) -> Outcome {
    let broker = room.broker();
    // A queue before and one after "q" in every order of names.
    let elsewhere = |label, other| NewTask { queue: queue(other), ..message(label) };
    publish(&broker, &[elsewhere("a", "p"), message("b"), elsewhere("c", "q2"), elsewhere("d", "r")]).await;
    assert_eq!(take_labels(&broker).await, ["b"]);
    let (other, names) = (queue("q2"), [name("work")]);
    let want = Want { queue: &other, names: &names, max: NonZeroUsize::MIN, body_bytes_max: usize::MAX };
    assert_eq!(labels(&broker.take(&want).await.expect("take")), ["c"]);
    Ok(())
}

pub(crate) async fn at_most_max_messages_are_taken(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a", "b", "c", "d", "e"]).await;
    assert_eq!(labels(&take(&broker, 2).await), ["a", "b"]);
    assert_eq!(labels(&take(&broker, 2).await), ["c", "d"]);
    assert_eq!(labels(&take(&broker, 2).await), ["e"]);
    Ok(())
}

pub(crate) async fn taking_stops_with_the_message_that_reaches_the_byte_limit(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["aaaa", "bbbb", "cccc", "dddd"]).await;
    let (queue, names) = (queue("q"), [name("work")]);
    let want = |body_bytes_max| Want { queue: &queue, names: &names, max: NonZeroUsize::MAX, body_bytes_max };
    assert_eq!(labels(&broker.take(&want(5)).await.expect("take")), ["aaaa", "bbbb"]);
    // One larger than the limit comes alone, rather than never.
    assert_eq!(labels(&broker.take(&want(1)).await.expect("take")), ["cccc"]);
    assert_eq!(labels(&broker.take(&want(4)).await.expect("take")), ["dddd"]);
    Ok(())
}

fn of_two_names() -> [NewTask; 4] {
    let named = |label, other| NewTask { name: name(other), ..message(label) };
    [named("a", "other"), named("b", "work"), named("c", "other"), named("d", "send mail")]
}

pub(crate) async fn only_wanted_names_are_taken_and_others_wait_in_their_place(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().by_name, "by_name = false")?;
    publish(&broker, &of_two_names()).await;
    assert!(take_names(&broker, &[], 10).await.is_empty());
    assert!(take_names(&broker, &[name("wor"), name("workers")], 10).await.is_empty());
    assert_eq!(labels(&take_names(&broker, &[name("work")], 10).await), ["b"]);
    assert_eq!(labels(&take_names(&broker, &[name("send mail"), name("other")], 10).await), ["a", "c", "d"]);
    Ok(())
}

pub(crate) async fn where_names_do_not_select_whatever_comes_is_taken(room: Room) -> Outcome {
    let broker = room.broker();
    needs(!broker.capabilities().by_name, "by_name = true")?;
    publish(&broker, &of_two_names()).await;
    assert_eq!(labels(&take_names(&broker, &[name("work")], 10).await), ["a", "b", "c", "d"]);
    Ok(())
}

pub(crate) async fn a_key_that_is_carried_is_published_once(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().recognises, "recognises = false")?;
    let other = NewTask { body: Bytes::from_static(b"other"), ..message("a") };
    let answers = broker.publish(&[message("a"), other.clone(), message("b")]).await;
    assert_eq!(answers, [Ok(Published::New), Ok(Published::Already), Ok(Published::New)]);
    assert_eq!(broker.publish(std::slice::from_ref(&other)).await, [Ok(Published::Already)], "while it waits");
    let held = take(&broker, 10).await;
    assert_eq!(labels(&held), ["a", "b"]);
    assert_eq!(broker.publish(std::slice::from_ref(&other)).await, [Ok(Published::Already)], "while it is held");
    settle(&broker, &held[0], RETURN).await;
    assert_eq!(take_labels(&broker).await, ["a"], "the first body is kept");
    if broker.capabilities().delay.limit().is_some() {
        let delayed = NewTask { available_at: Some(later(room.now(), 60)), ..message("c") };
        publish(&broker, &[delayed]).await;
        assert_eq!(broker.publish(&[message("c")]).await, [Ok(Published::Already)], "while it is delayed");
        assert!(take_labels(&broker).await.is_empty());
    }
    Ok(())
}

pub(crate) async fn a_key_that_was_acknowledged_may_be_published_again(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a"]).await;
    settle(&broker, &take(&broker, 1).await[0], Settle::Ack).await;
    publish_labels(&broker, &["a"]).await;
    assert_eq!(take_labels(&broker).await, ["a"]);
    Ok(())
}

pub(crate) async fn takers_at_the_same_time_share_without_overlap(room: Room) -> Outcome {
    let broker = room.broker();
    let all: Vec<String> = (0..100).map(|n| format!("m{n:03}")).collect();
    publish_labels(&broker, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let taken = join_all((0..30).map(|_| take(&broker, 4))).await;
    let mut taken: Vec<String> = taken.iter().flat_map(|deliveries| labels(deliveries)).collect();
    taken.sort();
    assert_eq!(taken, all);
    Ok(())
}

pub(crate) async fn a_mebibyte_comes_back_as_it_was(room: Room) -> Outcome {
    let broker = room.broker();
    let max = broker.capabilities().body_bytes_max;
    let body: Bytes = (0..max.min(1 << 20)).map(|n| (n * 31 % 251) as u8).collect();
    publish(&broker, &[NewTask { body: body.clone(), ..message("a") }]).await;
    assert_eq!(take(&broker, 1).await[0].body, body);
    Ok(())
}

pub(crate) async fn ready_resolves_at_once_if_something_waits(room: Room) -> Outcome {
    let broker = room.broker();
    publish_labels(&broker, &["a"]).await;
    assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
    assert_eq!(take_labels(&broker).await, ["a"], "waiting took nothing");
    Ok(())
}

pub(crate) async fn ready_resolves_when_something_is_published(room: Room) -> Outcome {
    let broker = room.broker();
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("work")]).await });
    settle_down().await;
    publish_labels(&broker, &["a"]).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
    assert_eq!(take_labels(&broker).await, ["a"]);
    Ok(())
}

pub(crate) async fn ready_resolves_when_a_wanted_name_is_published_behind_others(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.capabilities().by_name, "by_name = false")?;
    publish(&broker, &of_two_names()).await;
    let waiter = Arc::clone(&broker);
    let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("late")]).await });
    settle_down().await;
    publish(&broker, &[NewTask { name: name("late"), ..message("e") }]).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
    assert_eq!(labels(&take_names(&broker, &[name("late")], 10).await), ["e"]);
    Ok(())
}

pub(crate) async fn dropping_ready_loses_nothing(room: Room) -> Outcome {
    let broker = room.broker();
    for _ in 0..10 {
        let waiter = Arc::clone(&broker);
        let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[name("work")]).await });
        settle_down().await;
        waiting.abort();
    }
    publish_labels(&broker, &["a", "b"]).await;
    assert_eq!(broker.ready(&queue("q"), &[name("work")]).await, Ok(()));
    assert_eq!(take_labels(&broker).await, ["a", "b"]);
    Ok(())
}
