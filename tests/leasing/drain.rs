//! A server that stops finishes what is under way, and sends its workers elsewhere.

use std::time::Duration;

use lineshaft::error::Error;
use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Event, LeaseRequest, Parting, Settings};
use lineshaft::task::Status;

use crate::worker::{Worker, hello, report, success};
use crate::world::{World, rest, task};

#[tokio::test(start_paused = true)]
async fn a_draining_server_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut world = World::new();
    world.settings = Settings { drain_deadline: Duration::from_secs(20), ..world.settings };
    let replica = world.replica();
    replica.send_many("a", 100).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
    rest().await;
    let lease = worker.lease().await;
    assert_eq!(world.leases().await.len(), 100);
    let service = replica.service.clone();
    let draining = tokio::spawn(async move { service.drain().await });
    rest().await;

    let refused = replica.try_send(task("a", "late")).await;
    assert_eq!(refused, Err(Error::Draining));
    let opening = || hello("new", &[("q", &["a"], 1)]);
    assert_eq!(replica.service.attach(opening()).await.map(|_| ()).unwrap_err(), Error::Draining);
    let ask = LeaseRequest {
        session: None,
        worker: String::new(),
        subscriptions: opening().subscriptions,
        tasks_max: 1,
        wait_max: Duration::from_secs(60),
        request_id: None,
    };
    assert_eq!(replica.service.lease(ask).await.map(|_| ()).unwrap_err(), Error::Draining);

    worker.inbound.report(vec![report(&lease, success("done"))]).await;
    rest().await;
    assert_eq!(worker.verdict(&lease.id).await, Some(Verdict::Recorded), "reports are still accepted");
    let drain = worker.others.iter().position(|e| matches!(e, Event::Drain { .. })).expect("is told to move");
    assert!(matches!(&worker.others[drain], Event::Drain { deadline } if *deadline == Duration::from_secs(20)));
    // It reads nothing more until the deadline.
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(worker.parting().await, Parting::Drained);
    let received = worker.received as usize;
    drop(worker);
    draining.await.expect("ends");
    assert!(received < 100);
    assert_eq!(world.leases().await.len(), received - 1, "unsent leases went back");
    assert_eq!(replica.end("a-0").await.status, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_as_soon_as_the_workers_have_moved_and_they_keep_their_leases() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.send(task("a", "a")).await;
    let mut worker = Worker::attach(&one.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    let service = one.service.clone();
    let begun = tokio::time::Instant::now();
    let draining = tokio::spawn(async move { service.drain().await });
    loop {
        if let Some(Event::Drain { .. }) = worker.event().await {
            break;
        }
    }
    let mut moved = worker.again(&two.service, &["a"], &[&lease]).await.expect("attaches");
    assert_eq!(moved.welcome.held, [(lease.id.clone(), true)]);
    assert_eq!(worker.parting().await, Parting::Replaced, "only now the old stream ends");
    drop(worker);
    draining.await.expect("ends");
    assert!(begun.elapsed() < Duration::from_secs(1));
    one.crash();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(moved.report(&lease, success("done")).await, Verdict::Recorded);
    assert_eq!(two.end("a").await.attempt, 1);
    rest().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    moved.inbound.credit(5);
    assert!(moved.offer_within(Duration::from_secs(5)).await.is_none(), "the delivery of the old server is over too");
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_leases_is_answered_when_its_server_drains() {
    let world = World::new();
    let replica = world.replica();
    let service = replica.service.clone();
    let subscriptions = hello("w", &[("q", &["a"], 1)]).subscriptions;
    let wait_max = Duration::from_secs(60);
    let ask =
        LeaseRequest { session: None, worker: String::new(), subscriptions, tasks_max: 1, wait_max, request_id: None };
    let call = tokio::spawn(async move { service.lease(ask).await });
    rest().await;
    let begun = tokio::time::Instant::now();
    replica.service.drain().await;
    assert!(call.await.expect("runs").expect("is answered").leases.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_reported_before_the_end_of_a_drain_is_recorded() {
    let mut world = World::new();
    world.settings = Settings { drain_deadline: Duration::from_secs(5), ..world.settings };
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    world.gate.shut(crate::gated::Call::Decide);
    worker.inbound.report(vec![report(&lease, success("done"))]).await;
    let service = replica.service.clone();
    let draining = tokio::spawn(async move { service.drain().await });
    assert_eq!(worker.parting().await, Parting::Drained);
    world.gate.open(crate::gated::Call::Decide);
    draining.await.expect("ends");
    assert_eq!(replica.end("a").await.status, Status::Success);
}
