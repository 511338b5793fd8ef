//! Looking into queues, and recalling bodies.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::broker::{Broker, Depth, NewTask, PendingPage, PendingQuery, Settle};
use lineshaft::error::StoreError;
use lineshaft::task::QueueName;

use crate::harness::{Outcome, needs};
use crate::make::*;
use crate::room::Room;

fn needs_inspect(broker: &Arc<dyn Broker>) -> Outcome {
    needs(broker.inspect().is_some(), "inspect is declined")
}

async fn page(broker: &Arc<dyn Broker>, delayed: bool, after: Option<&[u8]>, max: usize, bytes: usize) -> PendingPage {
    let max = NonZeroUsize::new(max).expect("at least one");
    let query = PendingQuery { queue: &queue("q"), delayed, after, max, body_bytes_max: bytes };
    broker.inspect().expect("inspection").pending(&query).await.expect("a page")
}

fn waiting(page: &PendingPage) -> Vec<String> {
    page.items.iter().map(|item| String::from_utf8_lossy(&item.body).into_owned()).collect()
}

/// All pages of at most `max`, with something done after each.
async fn all(broker: &Arc<dyn Broker>, delayed: bool, max: usize, mut between: impl AsyncFnMut()) -> Vec<String> {
    let mut seen = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = page(broker, delayed, after.as_deref(), max, usize::MAX).await;
        assert!(page.items.len() <= max);
        seen.extend(waiting(&page));
        after = page.next;
        if after.is_none() {
            return seen;
        }
        between().await;
    }
}

pub(crate) async fn what_waits_is_listed_in_the_order_of_taking(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    let with = |label, priority, other| NewTask { priority, name: name(other), ..message(label) };
    let other = NewTask { queue: queue("q2"), ..message("elsewhere") };
    publish(&broker, &[with("a", 0, "work"), with("b", 9, "other"), with("c", 0, "work"), with("d", 9, "work"), other])
        .await;
    let listed = all(&broker, false, 3, async || {}).await;
    assert_eq!(listed, labels(&take_names(&broker, &[name("work"), name("other")], 10).await));
    assert!(page(&broker, true, None, 10, usize::MAX).await.next.is_none());
    Ok(())
}

pub(crate) async fn delayed_messages_are_listed_last_by_time_if_asked_for(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    needs(broker.capabilities().delay.limit().is_some(), "delay = Unsupported")?;
    let now = room.now();
    let at = |label, seconds| NewTask { available_at: Some(later(now, seconds)), ..message(label) };
    publish(&broker, &[at("z", 300), at("y", 200), message("b"), at("x", 100), at("w", 200), message("a")]).await;
    assert_eq!(all(&broker, false, 2, async || {}).await, ["b", "a"]);
    assert_eq!(all(&broker, true, 1, async || {}).await, ["b", "a", "x", "y", "w", "z"]);
    let page = page(&broker, true, None, 10, usize::MAX).await;
    let times: Vec<_> = page.items.iter().map(|item| item.available_at).collect();
    let time = |seconds| Some(later(now, seconds));
    assert_eq!(times, [None, None, time(100), time(200), time(200), time(300)]);
    if broker.capabilities().priorities.limit().is_some() {
        // Of the same time, in the order of taking.
        publish(&broker, &[NewTask { priority: 1, ..at("v", 200) }]).await;
        assert_eq!(all(&broker, true, 2, async || {}).await, ["b", "a", "x", "v", "y", "w", "z"]);
    }
    Ok(())
}

pub(crate) async fn held_messages_are_not_listed(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    publish_labels(&broker, &["a", "b", "c"]).await;
    let held = take(&broker, 2).await;
    assert_eq!(all(&broker, true, 10, async || {}).await, ["c"]);
    settle(&broker, &held[0], RETURN).await;
    settle(&broker, &held[1], Settle::Ack).await;
    assert_eq!(all(&broker, true, 10, async || {}).await, ["a", "c"]);
    Ok(())
}

pub(crate) async fn a_page_ends_at_its_limits(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    assert!(page(&broker, true, None, 10, usize::MAX).await.next.is_none(), "an empty queue is one empty page");
    publish_labels(&broker, &["aaaa", "bbbb", "cccc", "dddd"]).await;
    let first = page(&broker, false, None, 10, 5).await;
    assert_eq!(waiting(&first), ["aaaa", "bbbb"]);
    let second = page(&broker, false, first.next.as_deref(), 10, 1).await;
    assert_eq!(waiting(&second), ["cccc"]);
    let third = page(&broker, false, second.next.as_deref(), 1, usize::MAX).await;
    assert_eq!(waiting(&third), ["dddd"]);
    assert_eq!(third.next, None, "nothing follows");
    Ok(())
}

pub(crate) async fn pages_are_stable_while_messages_come_and_go(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    needs(broker.capabilities().by_name, "by_name = false")?;
    let stay: Vec<String> = (0..20).map(|n| format!("stay{n:02}")).collect();
    for label in &stay {
        publish(&broker, &[NewTask { name: name("stay"), ..message(label) }, message(&format!("go-{label}"))]).await;
    }
    let mut round = 0;
    let seen = all(&broker, false, 3, async || {
        round += 1;
        // One in front is held, one is acknowledged, and a new one comes.
        let taken = take(&broker, 2).await;
        if let Some(delivery) = taken.first() {
            settle(&broker, delivery, Settle::Ack).await;
        }
        publish_labels(&broker, &[&format!("new{round}")]).await;
    })
    .await;
    let seen: Vec<String> = seen.into_iter().filter(|label| label.starts_with("stay")).collect();
    assert_eq!(seen, stay, "each that stayed is seen once");
    Ok(())
}

pub(crate) async fn looking_changes_nothing(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    publish_labels(&broker, &["a", "b", "c"]).await;
    all(&broker, true, 1, async || {}).await;
    room.pass(Duration::from_millis(10)).await;
    let taken = take(&broker, 10).await;
    assert_eq!(labels(&taken), ["a", "b", "c"]);
    if broker.capabilities().exact_redelivery {
        assert!(taken.iter().all(|delivery| !delivery.redelivered));
    }
    Ok(())
}

pub(crate) async fn what_is_no_position_is_refused(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    publish_labels(&broker, &["a", "b"]).await;
    let good = page(&broker, false, None, 1, usize::MAX).await.next.expect("a second page");
    let short = &good[..good.len() - 1];
    for bad in [b"".as_slice(), b"garbage", &[0xff; 17], &[0xff; 300], short] {
        let query = PendingQuery {
            queue: &queue("q"),
            delayed: false,
            after: Some(bad),
            max: NonZeroUsize::MIN,
            body_bytes_max: usize::MAX,
        };
        let answer = broker.inspect().expect("inspection").pending(&query).await;
        assert_eq!(answer.err(), Some(StoreError::Position), "{bad:?}");
    }
    Ok(())
}

pub(crate) async fn bodies_are_recalled_wherever_they_stand(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.recall().is_some(), "recall is declined")?;
    let recall = broker.recall().expect("recall");
    let delayed = NewTask { available_at: Some(later(room.now(), 60)), ..message("delayed") };
    publish_labels(&broker, &["acked", "held", "ready"]).await;
    publish(&broker, &[delayed]).await;
    let taken = take(&broker, 2).await;
    settle(&broker, &taken[0], Settle::Ack).await;
    let keys = [key("ready"), key("never"), key("held"), key("acked"), key("delayed")];
    let bodies = recall.recall(&keys).await.expect("recall");
    let bodies: Vec<Option<&[u8]>> = bodies.iter().map(|body| body.as_deref()).collect();
    assert_eq!(bodies, [Some(b"ready".as_slice()), None, Some(b"held"), None, Some(b"delayed")]);
    assert_eq!(take_labels(&broker).await, ["ready"], "recalling takes nothing");
    Ok(())
}

pub(crate) async fn a_discarded_message_is_gone_wherever_it_stood(room: Room) -> Outcome {
    let broker = room.broker();
    needs(broker.recall().is_some(), "recall is declined")?;
    let recall = broker.recall().expect("recall");
    let delayed = NewTask { available_at: Some(later(room.now(), 60)), ..message("delayed") };
    publish_labels(&broker, &["held", "ready", "stays"]).await;
    publish(&broker, &[delayed]).await;
    let taken = take(&broker, 1).await;
    let keys = [key("held"), key("ready"), key("delayed"), key("never")];
    assert_eq!(recall.discard(&keys).await, Ok(()));
    assert_eq!(recall.recall(&keys).await, Ok(vec![None, None, None, None]));
    assert_eq!(broker.settle(&[(taken[0].receipt.clone(), Settle::Ack)]).await, [Err(StoreError::Stale)]);
    assert_eq!(take_labels(&broker).await, ["stays"]);
    assert_eq!(recall.discard(&keys).await, Ok(()), "discarding again is nothing");
    Ok(())
}

pub(crate) async fn queues_in_which_anything_waits_are_listed_by_name(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    let to = |label: &str, to: &str| NewTask { queue: queue(to), ..message(label) };
    publish(&broker, &[to("a", "mail.b"), to("b", "mail.a"), to("c", "q"), to("d", "zoo"), to("e", "mail.a")]).await;
    assert_eq!(labels(&take(&broker, 10).await), ["c"], "what is held does not wait");
    let inspect = broker.inspect().expect("inspection");
    let all = inspect.queues(None, "", 10).await.expect("queues");
    assert_eq!(all, [queue("mail.a"), queue("mail.b"), queue("zoo")]);
    assert_eq!(inspect.queues(Some(&queue("mail.a")), "mail.", 10).await, Ok(vec![queue("mail.b")]));
    assert_eq!(inspect.queues(None, "", 1).await, Ok(vec![queue("mail.a")]));
    Ok(())
}

pub(crate) async fn depths_tell_what_waits_what_is_delayed_and_which_is_oldest(room: Room) -> Outcome {
    let broker = room.broker();
    needs_inspect(&broker)?;
    needs(broker.capabilities().delay.limit().is_some(), "delay = Unsupported")?;
    let with = |label, priority, other| NewTask { priority, name: name(other), ..message(label) };
    let delayed = NewTask { available_at: Some(later(room.now(), 60)), ..message("d") };
    publish(&broker, &[with("a", 0, "work"), with("b", 9, "other"), with("c", 9, "work"), delayed]).await;
    let depths = async |names: &[QueueName]| broker.inspect().expect("inspection").depths(names).await.expect("depths");
    let found = depths(&[queue("q"), queue("none")]).await;
    assert_eq!((found[0].waiting, found[0].delayed), (3, 1));
    assert_eq!(found[0].oldest, Some(message("a").body), "whatever its priority");
    assert_eq!(found[1], Depth::default());
    let taken = take_names(&broker, &[name("work"), name("other")], 10).await;
    let found = depths(&[queue("q")]).await.remove(0);
    assert_eq!(found, Depth { waiting: 0, delayed: 1, oldest: None });
    settle(&broker, &taken[0], RETURN).await;
    assert_eq!(depths(&[queue("q")]).await[0].waiting, 1);
    Ok(())
}
