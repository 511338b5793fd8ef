//! No hoarding: the server takes from the broker what attached credit can use, and no more.

use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Event, Parting, Settings};

use crate::gated::Call;
use crate::worker::{Worker, release, report, success};
use crate::world::{LEASE, World, rest, task};

#[tokio::test(start_paused = true)]
async fn the_server_holds_no_more_than_attached_credit() {
    for slow in [false, true] {
        let world = World::new();
        let replica = world.replica();
        replica.send_many("a", 1_000).await;
        rest().await;
        assert_eq!(world.waiting().await, 1_000, "nothing is taken while nobody is attached");
        if slow {
            world.gate.shut(Call::Begin);
        }
        let first = Worker::attach(&replica.service, "1", &["a"], 3).await;
        let second = Worker::attach(&replica.service, "2", &["a"], 4).await;
        let _idle = Worker::attach(&replica.service, "3", &["a"], 0).await;
        rest().await;
        assert_eq!(world.waiting().await, 1_000 - 7, "grants under way: {slow}");
        world.gate.open(Call::Begin);
        rest().await;
        assert_eq!((world.waiting().await, world.leases().await.len()), (993, 7));
        first.inbound.credit(5);
        second.inbound.credit(1);
        rest().await;
        assert_eq!((world.waiting().await, world.leases().await.len()), (991, 9), "credit is never lowered");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_returns_when_the_stream_is_dropped() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 200).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 200).await;
    rest().await;
    assert_eq!(world.leases().await.len(), 200);
    let sent = match worker.event().await {
        Some(Event::Leases { leases, .. }) => leases.len(),
        other => panic!("{other:?}"),
    };
    drop(worker);
    rest().await;
    assert_eq!(world.leases().await.len(), sent, "what was sent stays the worker's own until it expires");
    assert_eq!(world.waiting().await, 200 - sent);
    assert!((1..200).contains(&sent));
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!(world.waiting().await, 200);
    let mut next = Worker::attach(&replica.service, "next", &["a"], 200).await;
    assert!(next.all_offers().await.iter().all(|lease| lease.attempt == 1), "none was confirmed, none cost an attempt");
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_for_a_stream_that_left_meanwhile_returns() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 5).await;
    world.gate.shut(Call::Begin);
    let worker = Worker::attach(&replica.service, "w", &["a"], 5).await;
    rest().await;
    drop(worker);
    world.gate.open(Call::Begin);
    rest().await;
    assert_eq!((world.waiting().await, world.leases().await.len()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_holds_no_more_leases_than_the_limit_says() {
    for slow in [false, true] {
        let mut world = World::new();
        world.settings = Settings { session_leases_max: 10, ..world.settings };
        let replica = world.replica();
        replica.send_many("a", 100).await;
        if slow {
            world.gate.shut(Call::Begin);
        }
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        rest().await;
        worker.inbound.credit(1_000);
        rest().await;
        world.gate.open(Call::Begin);
        let mut leases = worker.all_offers().await;
        worker.inbound.credit(1_000);
        leases.extend(worker.all_offers().await);
        assert_eq!((world.leases().await.len(), world.waiting().await), (10, 90));
        for lease in leases.iter().take(4) {
            assert_eq!(worker.report(lease, success("done")).await, Verdict::Recorded);
        }
        assert_eq!(worker.all_offers().await.len(), 4, "as many as it is done with, without more credit");
        assert_eq!(worker.report(&leases[4], release(10 * LEASE)).await, Verdict::Recorded);
        assert_eq!(worker.all_offers().await.len(), 1, "a lease given back frees its place");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_free_again_when_what_was_taken_for_it_is_no_lease() {
    let world = World::new();
    let replica = world.replica();
    world.publish_raw("a", "no task at all").await;
    world.publish_raw("a", r#"{"UUID":"bad","Name":"a","Args":[{"Type":"int64","Value":"x"}]}"#).await;
    replica.send(task("a", "good")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    assert_eq!(worker.offer_within(LEASE).await.expect("comes").signature.uuid, "good");
}

#[tokio::test(start_paused = true)]
async fn big_payloads_do_not_pile_up_on_the_way_to_a_worker() {
    let mut world = World::new();
    world.settings = Settings { session_bytes_max: 100_000, ..world.settings };
    let replica = world.replica();
    for i in 0..50 {
        let args = vec![lineshaft::task::Arg::string("x".repeat(500_000))];
        replica.send(lineshaft::service::types::Submission { args, ..task("a", &format!("big-{i}")) }).await;
    }
    let mut slow = Worker::attach(&replica.service, "slow", &["a"], 50).await;
    rest().await;
    let held = world.leases().await.len();
    assert!((1..=12).contains(&held), "four rounds of 1 MiB may be under way: {held}");
    for _ in 0..50 {
        slow.lease().await;
    }
    assert_eq!(world.waiting().await, 0, "all come to a worker that reads");
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_go_before_leases() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "first")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1_000).await;
    let first = worker.lease().await;
    replica.send_many("a", 500).await;
    rest().await;
    worker.inbound.report(vec![report(&first, success("done"))]).await;
    worker.inbound.heartbeat(7, 0, &[]);
    rest().await;
    let mut urgent = Vec::new();
    let mut frames = 0;
    while let Ok(Some(event)) = tokio::time::timeout(LEASE / 10, worker.stream.next()).await {
        match event {
            Event::Leases { leases, .. } => {
                frames += 1;
                assert!(leases.len() <= 64, "a frame is small enough not to hold up an acknowledgement");
            }
            other => {
                assert_eq!(frames, 0, "{other:?} waited behind leases");
                urgent.push(other);
            }
        }
    }
    assert!(urgent.iter().any(|e| matches!(e, Event::ReportAck { .. })));
    assert!(urgent.iter().any(|e| matches!(e, Event::HeartbeatAck { sequence: 7 })));
    assert!(frames >= 8);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_ends_and_its_leases_expire() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 3).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 3).await;
    rest().await;
    worker.inbound.too_slow();
    assert_eq!(worker.parting().await, Parting::Slow);
    drop(worker);
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!((world.leases().await.len(), world.waiting().await), (0, 3));
}
