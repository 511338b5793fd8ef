//! What a lease tells its worker, and what giving it back does.

use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::*;

use crate::rooms::Room;
use crate::stubs::{Stubs, again, nanos, release, span, success, task, text};
use crate::talk::Talk;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, leases:
            a_lease_tells_its_worker_all_about_the_attempt
            callbacks_stay_with_the_server
            a_released_task_is_offered_again_at_no_cost
            a_released_task_waits_for_its_delay
            fencing_tokens_grow_with_every_lease_of_a_task
            a_lease_may_be_released_before_it_was_confirmed
        );
    };
}
pub(crate) use cases;

pub(crate) async fn a_lease_tells_its_worker_all_about_the_attempt(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let before = i128::from(SystemClock.wall().0);
    stubs.send(Task { queue: "q".into(), args: vec![text("x")], retry_count: 4, ..task("a") }).await;
    let after = i128::from(SystemClock.wall().0);
    let subscriptions = vec![Subscription { queue: "q".into(), names: vec!["other".into(), "n".into()], weight: 1000 }];
    let hello = Hello { subscriptions, ..crate::talk::hello(&[]) };
    let (mut talk, _) = Talk::greet(&stubs, hello).await;
    talk.credit(1).await;
    let lease = talk.lease().await;
    assert!(!lease.lease_id.is_empty() && lease.fencing_token > 0);
    assert_eq!((lease.attempt, lease.retries_left), (1, 4));
    assert_eq!((lease.task_id.as_str(), lease.name.as_str(), lease.queue.as_str()), ("a", "n", "q"));
    assert_eq!((lease.args.as_slice(), lease.group_id.as_str()), ([text("x")].as_slice(), ""));
    assert!(lease.headers.is_empty(), "the server's own headers are not shown: {:?}", lease.headers);
    let sent = nanos(lease.sent_at);
    assert!(before <= sent && sent <= after);
}

pub(crate) async fn callbacks_stay_with_the_server(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let secret = Task { args: vec![text("of the callback")], ..task("then") };
    stubs.send(Task { on_success: vec![secret.clone()], on_error: vec![secret], ..task("a") }).await;
    let lease = stubs.lease("n").await;
    assert!(!format!("{lease:?}").contains("of the callback"), "{lease:?}");
}

pub(crate) async fn a_released_task_is_offered_again_at_no_cost(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(Task { retry_count: 2, ..task("a") }).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 1).await;
    let first = talk.lease().await;
    assert_eq!(talk.report(&first, release()).await, ReportVerdict::Recorded);
    talk.credit(2).await;
    let second = talk.lease().await;
    assert_eq!((second.task_id.as_str(), second.retries_left), ("a", 2));
    assert!(second.fencing_token > first.fencing_token && second.lease_id != first.lease_id);
    assert_eq!(talk.report(&first, success([])).await, ReportVerdict::Superseded, "it was leased again");
    assert_eq!(talk.report(&second, success([text("x")])).await, ReportVerdict::Recorded);
    assert_eq!(stubs.end("a").await.results, [text("x")]);
}

pub(crate) async fn a_released_task_waits_for_its_delay(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let first = stubs.lease("n").await;
    let delay = Duration::from_millis(150);
    let begun = SystemClock.now();
    stubs.record(&first, report::Outcome::Release(Release { delay: Some(span(delay)) })).await;
    let second = stubs.lease("n").await;
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    assert_eq!(second.task_id, "a");
}

pub(crate) async fn fencing_tokens_grow_with_every_lease_of_a_task(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let mut last = 0;
    for round in 0..6 {
        let lease = stubs.lease("n").await;
        assert!(lease.fencing_token > last, "{} after {last}", lease.fencing_token);
        last = lease.fencing_token;
        stubs.record(&lease, if round % 2 == 0 { release() } else { again("not yet") }).await;
    }
}

pub(crate) async fn a_lease_may_be_released_before_it_was_confirmed(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 1).await;
    let offered = talk.offer().await;
    assert_eq!(talk.report(&offered, release()).await, ReportVerdict::Recorded);
    assert_eq!(stubs.lease("n").await.task_id, "a");
}
