//! Pausing, purging and showing queues.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use lineshaft::broker;
use lineshaft::error::Error;
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::{CancelMark, Ledger};
use lineshaft::service::dead::Mode;
use lineshaft::service::purge::{Purge, Purged};
use lineshaft::service::tasks::Filter;
use lineshaft::service::types::{LeaseRequest, Submission};
use lineshaft::task::{FailureReason, Status};

use crate::worker::{Worker, failure, hello, success};
use crate::world::{Replica, World, queue, rest, task};

const SECOND: Duration = Duration::from_secs(1);

fn all() -> Purge {
    let max = NonZeroUsize::new(1_000).expect("not zero");
    Purge { queue: queue("q"), delayed: false, mode: Mode::Do, after: None, max }
}

async fn purge(replica: &Replica, purge: Purge) -> Purged {
    replica.service.purge(purge).await.expect("is purged")
}

/// Nothing waits and nothing is leased.
async fn is_empty(world: &World) {
    for _ in 0..1_000 {
        if world.waiting().await == 0 && world.leases().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} wait, leases {:?}", world.waiting().await, world.leases().await);
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_hands_out_nothing_until_it_is_resumed() {
    let world = World::new();
    let replica = world.replica();
    let view = replica.service.pause(queue("q")).await.expect("is paused");
    assert!(view.paused_at.is_some());
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    replica.send(task("a", "a")).await;
    assert!(worker.offer_within(60 * SECOND).await.is_none());
    let again = replica.service.pause(queue("q")).await.expect("is paused");
    assert_eq!((again.paused_at, again.waiting, again.workers), (view.paused_at, 1, 1));
    assert_eq!(replica.service.resume(queue("q")).await.expect("is resumed").paused_at, None);
    assert!(worker.offer_within(Duration::from_millis(1)).await.is_some(), "at once");
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_goes_on_while_its_queue_is_paused() {
    let world = World::new();
    let replica = world.replica();
    replica.send(Submission { retry_count: 1, ..task("a", "a") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let lease = worker.lease().await;
    replica.service.pause(queue("q")).await.expect("is paused");
    worker.report(&lease, failure("once")).await;
    replica.status("a", Status::Retry).await;
    assert!(worker.offer_within(60 * SECOND).await.is_none(), "its retry waits");
    replica.service.resume(queue("q")).await.expect("is resumed");
    let lease = worker.lease().await;
    worker.report(&lease, success("then")).await;
    assert_eq!(replica.end("a").await.status, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn a_pause_reaches_other_replicas_and_outlives_a_restart() {
    let world = World::new();
    let (first, second) = (world.replica(), world.replica());
    rest().await;
    first.service.pause(queue("q")).await.expect("is paused");
    tokio::time::sleep(SECOND).await;
    let mut worker = Worker::attach(&second.service, "w", &["a"], 10).await;
    second.send(task("a", "a")).await;
    assert!(worker.offer_within(10 * SECOND).await.is_none());
    first.crash();
    let third = world.replica();
    let mut other = Worker::attach(&third.service, "w3", &["a"], 10).await;
    assert!(other.offer_within(10 * SECOND).await.is_none());
    third.service.resume(queue("q")).await.expect("is resumed");
    let offered = async { tokio::join!(worker.offer_within(2 * SECOND), other.offer_within(2 * SECOND)) }.await;
    assert!(offered.0.is_some() || offered.1.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_keeps_no_slots_from_the_others_of_its_workers() {
    let world = World::new();
    let replica = world.replica();
    for i in 0..100 {
        for to in ["heavy", "light"] {
            replica.send(Submission { queue: Some(queue(to)), ..task("a", &format!("{to}-{i}")) }).await;
        }
    }
    let takes: &[(&str, &[&str], u32)] = &[("heavy", &["a"], 9), ("light", &["a"], 1)];
    let mut worker = Worker::say(&replica.service, hello("w", takes), 1).await.expect("attaches");
    let first = worker.lease().await;
    replica.service.pause(queue("heavy")).await.expect("is paused");
    worker.report(&first, success("")).await;
    let mut light = 0;
    for n in 0..50 {
        worker.inbound.credit(n + 2);
        let lease = worker.lease().await;
        light += u32::from(lease.queue == queue("light"));
        worker.report(&lease, success("")).await;
    }
    assert!(light >= 49, "{light} of 50: one of the paused queue may have been on its way");
}

#[tokio::test(start_paused = true)]
async fn single_calls_get_nothing_from_a_paused_queue() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    replica.service.pause(queue("q")).await.expect("is paused");
    let request = || LeaseRequest {
        session: None,
        worker: "w".into(),
        subscriptions: hello("w", &[("q", &["a"], 1)]).subscriptions,
        tasks_max: 1,
        wait_max: SECOND,
        request_id: None,
    };
    assert!(replica.service.lease(request()).await.expect("is answered").leases.is_empty());
    replica.service.resume(queue("q")).await.expect("is resumed");
    assert_eq!(replica.service.lease(request()).await.expect("is answered").leases.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn purged_tasks_end_and_what_is_leased_or_delayed_is_left_alone() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        let mut worker = Worker::attach(&replica.service, "w", &["runs"], 10).await;
        replica.send(task("runs", "runs")).await;
        let lease = worker.lease().await;
        replica.send(Submission { on_error: vec![task("child", "child")], ..task("a", "due") }).await;
        replica.send(Submission { delay: Some(3_600 * SECOND), ..task("a", "delayed") }).await;
        let dry = purge(&replica, Purge { mode: Mode::DryRun, ..all() }).await;
        assert_eq!(dry, Purged { count: 1, next: None });
        assert_eq!(purge(&replica, all()).await.count, 1);
        let state = replica.end("due").await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::Purged));
        assert_eq!(state.error, "lineshaft: purged");
        assert_eq!(replica.state("delayed").await.status, Status::Pending);
        rest().await;
        assert_eq!(purge(&replica, all()).await.count, 0, "again");
        assert_eq!(purge(&replica, Purge { delayed: true, ..all() }).await.count, 1);
        assert_eq!(replica.end("delayed").await.reason, FailureReason::Purged);
        worker.report(&lease, success("")).await;
        assert_eq!(replica.end("runs").await.status, Status::Success);
        is_empty(&world).await;
        assert!(replica.try_state("child").await.is_none(), "callbacks of a purged task are not sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_goes_page_by_page_and_leaves_what_is_sent_meanwhile() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 250).await;
    let page = || Purge { max: NonZeroUsize::new(100).expect("not zero"), ..all() };
    let mut purged = purge(&replica, page()).await;
    let mut count = purged.count;
    replica.send(task("a", "later")).await;
    while let Some(after) = purged.next {
        purged = purge(&replica, Purge { after: Some(after), ..page() }).await;
        count += purged.count;
    }
    assert_eq!(count, 250);
    assert_eq!(replica.state("later").await.status, Status::Pending);
    let wrong = replica.service.purge(Purge { after: Some(b"no".to_vec()), ..all() }).await;
    assert!(wrong.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_purge_loses_nothing_and_it_may_be_repeated() {
    for point in [Point::PurgeBegun, Point::SettleDecided, Point::SettleStated, Point::SettleDone] {
        let world = World::new();
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let replica = world.replica_with(failpoints.clone());
        replica.send_many("a", 10).await;
        tokio::spawn({
            let service = replica.service.clone();
            async move { service.purge(all()).await }
        });
        failpoints.struck().await;
        replica.crash();
        let replica = world.replica();
        // What was left granted to nobody waits again within a second, at no cost.
        for _ in 0..10 {
            tokio::time::sleep(SECOND).await;
            purge(&replica, all()).await;
        }
        for i in 0..10 {
            assert_eq!(replica.end(&format!("a-{i}")).await.reason, FailureReason::Purged, "{point:?}");
        }
        is_empty(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_shown_with_its_depth_its_workers_and_its_rates() {
    let world = World::new();
    let replica = world.replica();
    let unknown = replica.service.queue(queue("q")).await;
    assert_eq!(unknown, Err(Error::QueueUnknown("q".into())));
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    replica.send_many("a", 60).await;
    replica.send(Submission { delay: Some(SECOND * 3_600), ..task("a", "delayed") }).await;
    let lease = worker.lease().await;
    worker.report(&lease, success("")).await;
    rest().await;
    let view = replica.service.queue(queue("q")).await.expect("is known");
    assert_eq!((view.waiting, view.delayed, view.leased, view.workers), (59, 1, 0, 1));
    assert!(view.oldest_sent_at.is_some() && !view.others_may_take);
    let rates = view.rates.expect("something happened");
    assert_eq!((rates.sent, rates.leased, rates.succeeded), (61.0 / 60.0, 1.0 / 60.0, 1.0 / 60.0));
    tokio::time::sleep(61 * SECOND).await;
    let rates = replica.service.queue(queue("q")).await.expect("is known").rates;
    assert_eq!(rates.map(|rates| rates.sent), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn queues_are_listed_by_name_a_page_at_a_time() {
    let world = World::new();
    let replica = world.replica();
    for to in ["c", "a", "b"] {
        replica.send(Submission { queue: Some(queue(to)), ..task("a", to) }).await;
    }
    replica.service.pause(queue("d")).await.expect("is paused");
    let _worker = Worker::say(&replica.service, hello("w", &[("e", &["a"], 1)]), 1).await.expect("attaches");
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = replica.service.queues(after.as_ref(), "", 2).await.expect("are listed");
        names.extend(page.queues.iter().map(|view| view.name.to_string()));
        after = page.queues.last().map(|view| view.name.clone());
        if !page.has_more {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let some = replica.service.queues(None, "b", 10).await.expect("are listed");
    assert_eq!((some.queues.len(), some.has_more), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_be_looked_into_is_said_to_be_one_and_can_be_paused() {
    let world = World::with(broker::memory::Options { inspect: false, ..broker::memory::Options::default() });
    let replica = world.replica();
    assert!(matches!(replica.service.queues(None, "", 1).await, Err(Error::CapabilityMissing { .. })));
    assert!(matches!(replica.service.queue(queue("q")).await, Err(Error::CapabilityMissing { .. })));
    assert!(matches!(replica.service.purge(all()).await, Err(Error::CapabilityMissing { .. })));
    assert!(replica.service.pause(queue("q")).await.expect("is paused").paused_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn each_task_is_counted_by_the_one_purge_that_ended_it() {
    for world in [World::new(), World::fused()] {
        let (first, second) = (world.replica(), world.replica());
        first.send_many("a", 500).await;
        let (one, other) = tokio::join!(purge(&first, all()), purge(&second, all()));
        assert_eq!(one.count + other.count, 500);
        is_empty(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_takes_meanwhile_is_either_purged_or_done() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        replica.send_many("a", 300).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
        let (purged, offers) = tokio::join!(purge(&replica, all()), worker.all_offers());
        assert_eq!(purged.count + offers.len() as u64, 300);
        for lease in &offers {
            worker.report(lease, success("")).await;
            assert_eq!(replica.end(lease.signature.uuid.as_str()).await.status, Status::Success);
        }
        is_empty(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_cancelled_already_is_not_counted_as_purged() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 2).await;
    let state = replica.state("a-0").await;
    world.ledger.mark(&[CancelMark { task: state.task_id, generation: state.generation }]).await.expect("is marked");
    assert_eq!(purge(&replica, all()).await.count, 1);
    assert_eq!(replica.end("a-0").await.reason, FailureReason::Cancelled);
    assert_eq!(replica.end("a-1").await.reason, FailureReason::Purged);
    is_empty(&world).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_of_many_queues_are_each_listed_once() {
    let world = World::fused();
    let replica = world.replica();
    // More than are read at once.
    let ids: BTreeSet<String> = (0..600).map(|i| format!("t{i:03}")).collect();
    for id in &ids {
        replica.send(Submission { queue: Some(queue(&format!("q-{id}"))), ..task("a", id) }).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = replica.service.tasks(&Filter::default(), after.as_deref(), 100).await.expect("are listed");
        seen.extend(page.items.into_iter().map(|listed| listed.state.task_id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (ids.len(), ids));
}
