//! A worker is dead when its silence was observed, and only then.

use std::time::Duration;

use lineshaft::clock::Clock;
use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Event, Parting, Revoked, Settings};
use lineshaft::task::{FailureReason, Status};

use crate::faulty::Mode;
use crate::worker::{Worker, report, success};
use crate::world::{LEASE, World, rest, task};

#[tokio::test(start_paused = true)]
async fn the_task_of_a_silent_worker_runs_elsewhere_within_two_lease_times() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.send(task("a", "a")).await;
    let mut dead = Worker::attach(&one.service, "dead", &["a"], 1).await;
    let lost = dead.lease().await;
    dead.fall_silent();
    let mut other = Worker::attach(&two.service, "other", &["a"], 1).await;
    let died = tokio::time::Instant::now();
    let lease = other.offer_within(2 * LEASE).await.expect("comes within two lease times");
    assert!(died.elapsed() >= LEASE, "not before one");
    assert_eq!(lease.attempt, 2);
    assert_eq!(dead.parting().await, Parting::Expired);
    if let Some(Event::Revoke { lease, reason }) = dead.others.pop() {
        assert_eq!((lease, reason), (lost.id, Revoked::Expired), "if it is told, then so");
    }
    let history = world.leases().await.remove(0).lost;
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].worker.as_str(), history[0].attempt), ("dead", 1));
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_an_expired_session_is_told_which_leases_it_lost() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 2).await;
    let mut dead = Worker::attach(&replica.service, "dead", &["a"], 2).await;
    let lost = [dead.lease().await.id, dead.lease().await.id];
    dead.fall_silent();
    assert_eq!(dead.parting().await, Parting::Expired);
    let revoked = dead.others.iter().map(|event| match event {
        Event::Revoke { lease, reason: Revoked::Expired } => lease.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(revoked.collect::<Vec<_>>(), lost);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_ledger_expires_nobody_and_reports_land_afterwards() {
    for mode in [Mode::Unavailable, Mode::UnknownBefore, Mode::UnknownAfter] {
        let world = World::new();
        let replica = world.replica();
        replica.send_many("a", 2).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
        let (during, after) = (worker.lease().await, worker.lease().await);
        let mut rival = Worker::attach(&replica.service, "rival", &["a"], 2).await;
        rest().await;
        world.ledger_switch.set(mode);
        tokio::time::sleep(3 * LEASE).await;
        worker.inbound.report(vec![report(&during, success("during"))]).await;
        assert_eq!(worker.verdict(&during.id).await, None, "told that it is not recorded");
        world.ledger_switch.set(Mode::Works);
        assert!(rival.offer_within(2 * LEASE).await.is_none(), "{mode:?}: nothing live is run again");
        let again = worker.report(&during, success("during")).await;
        assert!(matches!(again, Verdict::Recorded | Verdict::Duplicate), "{mode:?}: {again:?}");
        assert_eq!(worker.report(&after, success("after")).await, Verdict::Recorded);
        for id in ["a-0", "a-1"] {
            assert_eq!(replica.end(id).await.status, Status::Success);
            assert_eq!(replica.state(id).await.attempt, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_ledger_only_delays_the_end_of_a_dead_worker() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut dead = Worker::attach(&replica.service, "dead", &["a"], 1).await;
    dead.lease().await;
    dead.fall_silent();
    let mut other = Worker::attach(&replica.service, "other", &["a"], 1).await;
    tokio::time::sleep(LEASE / 2).await;
    world.ledger_switch.set(Mode::Unavailable);
    tokio::time::sleep(LEASE).await;
    world.ledger_switch.set(Mode::Works);
    assert!(other.offer_within(LEASE * 9 / 10).await.is_none(), "the watch began anew");
    assert_eq!(other.offer_within(LEASE).await.expect("comes").attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_watches_a_whole_lease_time_first() {
    let world = World::new();
    let first = world.replica();
    first.send(task("a", "a")).await;
    let mut worker = Worker::attach(&first.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    rest().await;
    first.crash();
    tokio::time::advance(10 * LEASE).await;
    let second = world.replica();
    let mut rival = Worker::attach(&second.service, "rival", &["a"], 1).await;
    assert!(rival.offer_within(LEASE * 9 / 10).await.is_none(), "the time when nobody watched does not count");
    let mut again = worker.again(&second.service, &["a"], &[&lease]).await.expect("is still known");
    assert_eq!(again.welcome.held, [(lease.id.clone(), true)]);
    assert!(rival.offer_within(3 * LEASE).await.is_none());
    assert_eq!(again.report(&lease, success("done")).await, Verdict::Recorded);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_paused_expires_nobody() {
    for pause in [LEASE * 6 / 10, 2 * LEASE, Duration::from_secs(60)] {
        let world = World::new();
        let replica = world.replica();
        replica.send(task("a", "a")).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        let mut rival = Worker::attach(&replica.service, "rival", &["a"], 1).await;
        for _ in 0..5 {
            tokio::time::sleep(LEASE / 4).await;
            // Everything of this process stands still, its timers and the heartbeats that wait unread.
            tokio::time::advance(pause).await;
        }
        assert!(rival.offer_within(LEASE * 9 / 10).await.is_none(), "paused for {pause:?}");
        assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stepped_wall_clock_changes_no_lease() {
    let hour = Duration::from_secs(3_600);
    for back in [true, false] {
        let world = World::new();
        let replica = world.replica();
        replica.send_many("a", 2).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        let mut dead = Worker::attach(&replica.service, "dead", &["a"], 1).await;
        let lost = dead.lease().await;
        let now = world.clock.wall();
        let stepped = if back { lineshaft::clock::WallTime(now.0 - hour.as_nanos() as u64) } else { now.plus(hour) };
        world.clock.step_to(stepped);
        let mut rival = Worker::attach(&replica.service, "rival", &["a"], 5).await;
        assert!(rival.offer_within(3 * LEASE).await.is_none(), "nobody who lives expires");
        dead.fall_silent();
        let again = rival.offer_within(2 * LEASE).await.expect("who dies does, in the same time");
        assert!(again.id.token > lost.id.token, "and tokens grow all the same");
        assert!(rival.offer_within(LEASE).await.is_none());
        assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
        assert_eq!(rival.report(&again, success("done")).await, Verdict::Recorded);
        assert_eq!(replica.end("a-0").await.status, Status::Success);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_kills_workers_is_set_aside_with_its_history() {
    let world = World::new();
    let replica = world.replica();
    replica
        .send(lineshaft::service::types::Submission { on_error: vec![task("child", "child")], ..task("a", "a") })
        .await;
    for (n, name) in ["one", "two", "one"].into_iter().enumerate() {
        let mut worker = Worker::attach(&replica.service, name, &["a"], 1).await;
        let lease = worker.lease().await;
        assert_eq!(lease.attempt as usize, n + 1);
        worker.fall_silent();
        assert_eq!(worker.parting().await, Parting::Expired);
    }
    let state = replica.end("a").await;
    assert_eq!((state.status, state.reason, state.attempt), (Status::Failure, FailureReason::WorkerLost, 3));
    let dead = world.dead().await;
    assert_eq!(dead.len(), 1);
    let history: Vec<_> = dead[0].lost.iter().map(|lost| (lost.worker.as_str(), lost.attempt)).collect();
    assert_eq!(history, [("one", 1), ("two", 2), ("one", 3)]);
    assert_eq!((dead[0].task.as_str(), dead[0].name.as_str()), ("a", "a"));
    assert!(lineshaft::wire::machinery::decode(&dead[0].body).is_ok(), "its body is kept");
    rest().await;
    assert_eq!(replica.state("child").await.status, Status::Pending, "callbacks of its failure go out");
    let mut next = Worker::attach(&replica.service, "next", &["a"], 1).await;
    assert!(next.offer_within(2 * LEASE).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn attempts_lost_on_one_worker_alone_are_no_verdict_on_the_task() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    for attempt in 1..=6 {
        let mut worker = Worker::attach(&replica.service, "only", &["a"], 1).await;
        assert_eq!(worker.lease().await.attempt, attempt);
        worker.fall_silent();
        assert_eq!(worker.parting().await, Parting::Expired);
    }
    let mut other = Worker::attach(&replica.service, "other", &["a"], 1).await;
    let lease = other.lease().await;
    assert_eq!(other.report(&lease, success("done")).await, Verdict::Recorded);
    assert!(world.dead().await.is_empty());
    assert_eq!(replica.end("a").await.attempt, 7);
}

#[tokio::test(start_paused = true)]
async fn leases_that_were_never_accepted_do_not_count() {
    let mut world = World::new();
    world.settings = Settings { lost_max: 2, ..world.settings };
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    for name in ["one", "two", "three", "four"] {
        let mut worker = Worker::attach(&replica.service, name, &["a"], 1).await;
        assert_eq!(worker.offer().await.attempt, 1);
        worker.fall_silent();
        assert_eq!(worker.parting().await, Parting::Expired);
    }
    assert!(world.dead().await.is_empty());
    for name in ["five", "six"] {
        let mut worker = Worker::attach(&replica.service, name, &["a"], 1).await;
        worker.lease().await;
        worker.fall_silent();
        assert_eq!(worker.parting().await, Parting::Expired);
    }
    assert_eq!(replica.end("a").await.reason, FailureReason::WorkerLost);
}

#[tokio::test(start_paused = true)]
async fn a_lost_worker_does_not_use_up_retries_of_its_task() {
    let world = World::new();
    let replica = world.replica();
    replica.send(lineshaft::service::types::Submission { retry_count: 1, ..task("a", "a") }).await;
    let mut dead = Worker::attach(&replica.service, "dead", &["a"], 1).await;
    dead.lease().await;
    dead.fall_silent();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
    let lease = worker.lease().await;
    assert_eq!((lease.attempt, lease.signature.retry_count), (2, 1));
    assert_eq!(worker.report(&lease, crate::worker::failure("no")).await, Verdict::Recorded);
    let lease = worker.lease().await;
    assert_eq!((lease.attempt, lease.signature.retry_count), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn leases_left_by_a_replica_that_died_while_it_expired_them_end_too() {
    use lineshaft::failpoint::{Action, Failpoints, Point};
    let world = World::new();
    let failpoints = Failpoints::at(Point::ExpireClosed, Action::Hang, 1);
    let first = world.replica_with(failpoints.clone());
    first.send(task("a", "a")).await;
    let mut dead = Worker::attach(&first.service, "dead", &["a"], 1).await;
    dead.lease().await;
    dead.fall_silent();
    failpoints.struck().await;
    first.crash();
    let second = world.replica();
    let mut other = Worker::attach(&second.service, "other", &["a"], 1).await;
    assert_eq!(other.offer_within(LEASE).await.expect("comes").attempt, 2);
}
