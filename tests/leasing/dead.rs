//! Dead tasks run again once for each requeue, whatever fails in between.

use std::time::Duration;

use lineshaft::clock::{Clock, WallTime};
use lineshaft::error::Error;
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::Verdict;
use lineshaft::service::dead::{Change, Changes, Filter, Mode as Really, Outcome, Target};
use lineshaft::service::types::Submission;
use lineshaft::task::{FailureReason, MessageKey, QueueName, Status, TaskName};

use crate::faulty::Mode;
use crate::worker::{Worker, failure, success};
use crate::world::{Replica, World, rest, task};

const REQUEUE: Change = Change::Requeue { retry_count: None };

fn keeping(mut world: World) -> World {
    world.settings.keep_failed = true;
    world
}

fn all(max: usize) -> Target {
    Target::Filter { filter: Filter::default(), after: None, max }
}

async fn change(replica: &Replica, target: Target, change: Change) -> Result<Changes, Error> {
    replica.service.change_dead(target, change, Really::Do).await
}

fn outcomes(changes: &Changes) -> Vec<Outcome> {
    changes.items.iter().map(|changed| changed.outcome).collect()
}

/// Runs `count` tasks of name `a` into their FAILURE.
async fn die(replica: &Replica, worker: &mut Worker, count: u32) {
    replica.send_many("a", count).await;
    for lease in worker.all_offers().await {
        assert_eq!(worker.report(&lease, failure("broken")).await, Verdict::Recorded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_set_aside_only_where_that_is_asked_for() {
    for keep_failed in [false, true] {
        let mut world = World::new();
        world.settings.keep_failed = keep_failed;
        let replica = world.replica();
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        die(&replica, &mut worker, 1).await;
        let state = replica.end("a-0").await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::Failed));
        let dead = world.dead().await;
        assert_eq!(dead.len(), usize::from(keep_failed));
        for dead in dead {
            assert_eq!((dead.task.as_str(), dead.name.as_str(), dead.queue.as_str()), ("a-0", "a", "q"));
            assert_eq!((dead.kind, dead.reason.as_str(), dead.attempts), (FailureReason::Failed, "broken", 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_last_failure_of_a_task_with_retries_sets_it_aside() {
    for world in [World::new(), World::fused()].map(keeping) {
        let replica = world.replica();
        replica.send(Submission { retry_count: 2, ..task("a", "a") }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        for attempt in 1..=3 {
            assert_eq!(world.dead().await, []);
            let lease = worker.lease().await;
            assert_eq!(lease.attempt, attempt);
            worker.report(&lease, failure(&format!("broken {attempt}"))).await;
        }
        let dead = world.dead().await;
        assert_eq!((dead.len(), dead[0].attempts, dead[0].reason.as_str()), (1, 3, "broken 3"));
        let found = replica.service.dead(&Filter::default(), None, 10).await.expect("is listed");
        assert_eq!(found.items[0].task.as_ref().map(|task| task.uuid.as_str()), Ok("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_requeued_task_runs_again_as_a_new_sending() {
    for world in [World::new(), World::fused()].map(keeping) {
        let replica = world.replica();
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        die(&replica, &mut worker, 1).await;
        let before = replica.end("a-0").await;
        worker.fall_silent();
        drop(worker);
        rest().await;
        let changes = change(&replica, all(10), Change::Requeue { retry_count: Some(1) }).await.expect("is done");
        assert_eq!((outcomes(&changes), changes.next), (vec![Outcome::Done], None));
        let again = replica.state("a-0").await;
        assert_eq!((again.status, again.attempt), (Status::Pending, 1));
        assert!(again.generation > before.generation);
        assert_eq!(world.dead().await, []);
        let mut worker = Worker::attach(&replica.service, "w2", &["a"], 10).await;
        let lease = worker.lease().await;
        assert_eq!((lease.attempt, lease.signature.retry_count), (1, 1));
        worker.report(&lease, failure("once more")).await;
        let lease = worker.lease().await;
        assert_eq!(lease.attempt, 2, "its retries are fresh");
        worker.report(&lease, success("at last")).await;
        assert_eq!(replica.end("a-0").await.status, Status::Success);
    }
}

#[tokio::test(start_paused = true)]
async fn a_requeue_after_the_clock_was_stepped_back_still_moves_the_state_forward() {
    let world = keeping(World::new());
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    die(&replica, &mut worker, 1).await;
    replica.end("a-0").await;
    // Another process, which has not given later generations itself.
    let second = world.replica();
    world.clock.step_to(WallTime(world.clock.wall().0 - 3_600_000_000_000));
    let messages = world.dead().await.into_iter().map(|dead| dead.message).collect();
    change(&second, Target::Messages(messages), REQUEUE).await.expect("is done");
    let lease = worker.lease().await;
    worker.report(&lease, success("done")).await;
    second.status("a-0", Status::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_requeue_that_is_repeated_after_any_failure_sends_once() {
    // Which store fails, and how; then the task runs to its end before the requeue is repeated.
    let modes = [Mode::Unavailable, Mode::UnknownBefore, Mode::UnknownAfter];
    for (on_broker, mode) in [true, false].into_iter().flat_map(|b| modes.map(|mode| (b, mode))) {
        let world = keeping(World::new());
        let replica = world.replica();
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        die(&replica, &mut worker, 1).await;
        let dead = world.dead().await.remove(0).message;
        let switch = if on_broker { &world.broker_switch } else { &world.ledger_switch };
        switch.set(mode);
        let target = || Target::Messages(vec![dead.clone()]);
        change(&replica, target(), REQUEUE).await.expect_err("is told");
        switch.set(Mode::Works);
        let mut runs = 0;
        for _ in 0..3 {
            if let Some(lease) = worker.offer_within(Duration::from_secs(5)).await {
                worker.inbound.accepted(worker.received);
                worker.report(&lease, success("done")).await;
                runs += 1;
            }
            let changes = change(&replica, target(), REQUEUE).await.expect("is done");
            assert!(matches!(outcomes(&changes)[..], [Outcome::Done | Outcome::Unknown]));
        }
        assert!(worker.offer_within(Duration::from_secs(5)).await.is_none());
        assert_eq!(runs, 1, "broker: {on_broker}, {mode:?}");
        assert_eq!(replica.end("a-0").await.status, Status::Success);
        assert_eq!((world.dead().await, world.waiting().await), (Vec::new(), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_requeue_that_a_crash_cut_short_is_finished_by_repeating_it_and_sends_once() {
    let worlds: [fn() -> World; 2] = [World::new, World::fused];
    let points = Point::REQUEUE.into_iter().chain([Point::SendStated]);
    for (point, world) in points.flat_map(|point| worlds.map(|world| (point, world))) {
        for runs_first in [false, true] {
            let world = keeping(world());
            let replica = world.replica();
            let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
            die(&replica, &mut worker, 1).await;
            drop(worker);
            replica.crash();
            let failpoints = Failpoints::at(point, Action::Hang, 1);
            let first = world.replica_with(failpoints.clone());
            tokio::select! {
                () = failpoints.struck() => {}
                changes = change(&first, all(10), REQUEUE) => assert!(world.fused_has_no(point), "{point:?}: {changes:?}"),
            }
            first.crash();
            let second = world.replica();
            let mut worker = Worker::attach(&second.service, "w", &["a"], 10).await;
            let mut leases = Vec::new();
            if runs_first && let Some(lease) = worker.offer_within(Duration::from_secs(5)).await {
                worker.inbound.accepted(worker.received);
                worker.report(&lease, success("done")).await;
                leases.push(lease);
            }
            change(&second, all(10), REQUEUE).await.expect("is done");
            while let Some(lease) = worker.offer_within(Duration::from_secs(5)).await {
                worker.inbound.accepted(worker.received);
                worker.report(&lease, success("done")).await;
                leases.push(lease);
            }
            assert_eq!(leases.len(), 1, "{point:?}");
            assert_eq!(second.end("a-0").await.status, Status::Success, "{point:?}");
            assert_eq!((world.dead().await, world.waiting().await), (Vec::new(), 0), "{point:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requeues_at_the_same_time_send_once() {
    for world in [World::new(), World::fused()].map(keeping) {
        let (one, two) = (world.replica(), world.replica());
        let mut worker = Worker::attach(&one.service, "w", &["a"], 100).await;
        die(&one, &mut worker, 20).await;
        let (first, second) = tokio::join!(change(&one, all(100), REQUEUE), change(&two, all(100), REQUEUE));
        first.and(second).expect("both are answered");
        let leases = worker.all_offers().await;
        assert_eq!(leases.len(), 20);
        for lease in leases {
            worker.report(&lease, success("done")).await;
        }
        assert!(worker.offer_within(Duration::from_secs(60)).await.is_none());
        assert_eq!(world.dead().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_die_again_do_not_come_round_in_the_same_run() {
    let world = keeping(World::new());
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1_000).await;
    die(&replica, &mut worker, 30).await;
    rest().await;
    let (mut after, mut requeued) = (None, 0);
    loop {
        let target = Target::Filter { filter: Filter::default(), after, max: 4 };
        let changes = change(&replica, target, REQUEUE).await.expect("is done");
        requeued += changes.items.len();
        rest().await;
        for lease in worker.all_offers().await {
            worker.report(&lease, failure("again")).await;
        }
        after = changes.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((requeued, world.dead().await.len()), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn a_filter_fits_by_every_part_and_pages_meet_each_once() {
    let world = keeping(World::new());
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a", "b"], 1_000).await;
    die(&replica, &mut worker, 50).await;
    rest().await;
    let between = world.clock.wall();
    rest().await;
    world.publish_raw("b", "{").await;
    replica.send(task("b", "b")).await;
    let lease = worker.lease().await;
    worker.report(&lease, failure("other")).await;
    rest().await;

    let count = async |filter: Filter| {
        let (mut after, mut seen) = (None, std::collections::BTreeSet::new());
        loop {
            let page = replica.service.dead(&filter, after.as_deref(), 7).await.expect("is listed");
            assert!(page.items.len() <= 7);
            for item in page.items {
                assert!(seen.insert(item.dead.message), "once");
            }
            after = page.next;
            if after.is_none() {
                return seen.len();
            }
        }
    };
    assert_eq!(count(Filter::default()).await, 52);
    let name = |name: &str| Some(TaskName::trusted(name));
    assert_eq!(count(Filter { name: name("a"), ..Filter::default() }).await, 50);
    assert_eq!(count(Filter { name: name("b"), ..Filter::default() }).await, 1);
    assert_eq!(count(Filter { kind: Some(FailureReason::Poison), ..Filter::default() }).await, 1);
    assert_eq!(count(Filter { before: Some(between), ..Filter::default() }).await, 50);
    assert_eq!(count(Filter { since: Some(between), ..Filter::default() }).await, 2);
    assert_eq!(count(Filter { queue: Some(QueueName::trusted("other")), ..Filter::default() }).await, 0);
    let both = Filter { name: name("a"), since: Some(between), ..Filter::default() };
    assert_eq!(count(both).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_task_is_not_requeued_and_can_be_deleted() {
    let world = World::new();
    let replica = world.replica();
    world.publish_raw("a", "{").await;
    let _worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    rest().await;
    let changes = change(&replica, all(10), REQUEUE).await.expect("is answered");
    assert_eq!(outcomes(&changes), [Outcome::NoTask]);
    assert_eq!(world.dead().await[0].requeue, None, "nothing was begun");
    let message = changes.items[0].message.clone();
    let target = || Target::Messages(vec![message.clone(), MessageKey::trusted("unknown")]);
    let dry = replica.service.change_dead(target(), Change::Delete, Really::DryRun).await.expect("is answered");
    assert_eq!((outcomes(&dry), world.dead().await.len()), (vec![Outcome::Done, Outcome::Unknown], 1));
    let changes = change(&replica, target(), Change::Delete).await.expect("is answered");
    assert_eq!(outcomes(&changes), [Outcome::Done, Outcome::Unknown]);
    assert_eq!(world.dead().await, []);
    let changes = change(&replica, target(), Change::Delete).await.expect("is answered");
    assert_eq!(outcomes(&changes), [Outcome::Unknown, Outcome::Unknown]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_requeues_nothing() {
    let world = keeping(World::new());
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    die(&replica, &mut worker, 1).await;
    drop(worker);
    replica.service.drain().await;
    assert_eq!(change(&replica, all(10), REQUEUE).await, Err(Error::Draining));
    assert_eq!(world.dead().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_task_is_forgotten_after_its_time_and_not_before() {
    let mut world = keeping(World::new());
    world.settings.dead_expire_in = Duration::from_secs(3_600);
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    die(&replica, &mut worker, 1).await;
    tokio::time::sleep(Duration::from_secs(3_590)).await;
    assert_eq!(world.dead().await.len(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.dead().await, []);
}
