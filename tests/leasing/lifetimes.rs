//! Tasks that were not begun in their time end as expired, and no others do.

use std::collections::BTreeSet;
use std::time::Duration;

use lineshaft::broker;
use lineshaft::clock::{Clock, WallTime};
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::{Ledger, Lifetime, Verdict};
use lineshaft::service::dead::{Change, Filter, Mode as Really, Target};
use lineshaft::service::types::{Event, LeaseRequest, Submission};
use lineshaft::task::{ArgValue, FailureReason, Status, TaskId};
use tokio::time::Instant;

use crate::faulty::Mode;
use crate::worker::{Worker, failure, hello, release, report, success};
use crate::world::{LEASE, Replica, START, World, queue, rest, task};

const SECOND: Duration = Duration::from_secs(1);
/// A task that waits ends no later than this after its time.
const LATE_MAX: Duration = Duration::from_secs(2);

fn expiring(id: &str, seconds: u32) -> Submission {
    Submission { expires_in: Some(seconds * SECOND), ..task("a", id) }
}

fn unfindable() -> World {
    World::with(broker::memory::Options { find: false, ..broker::memory::Options::default() })
}

async fn has_expired(replica: &Replica, id: &str) {
    let state = replica.end(id).await;
    assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::Expired), "{id}: {state:?}");
    assert_eq!(state.error, "lineshaft: expired");
}

/// Waits for the end, which must come at this time after `since`.
async fn expires_after(replica: &Replica, id: &str, since: Instant, time: Duration) {
    has_expired(replica, id).await;
    let took = since.elapsed();
    assert!(took >= time && took <= time + LATE_MAX, "{id} after {took:?}");
}

async fn lifetimes(world: &World) -> Vec<Lifetime> {
    world.ledger.lifetimes().over(WallTime(u64::MAX), None, 100_000).await.expect("can be listed")
}

/// Soon no lifetime is left.
async fn all_forgotten(world: &World) {
    let until = Instant::now() + LATE_MAX;
    while Instant::now() < until && !lifetimes(world).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(lifetimes(world).await, []);
}

/// Nothing waits, nothing is leased, and no lifetime is left.
async fn is_quiet(world: &World) {
    for _ in 0..10_000 {
        if lifetimes(world).await.is_empty() && world.waiting().await == 0 && world.leases().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} wait, leases {:?}, {:?}", world.waiting().await, world.leases().await, lifetimes(world).await);
}

#[tokio::test(start_paused = true)]
async fn what_waits_ends_at_its_time_without_any_worker() {
    for world in [World::new(), World::fused()] {
        let (replica, sent) = (world.replica(), Instant::now());
        let other = |id| Submission { queue: Some(queue("paused")), ..expiring(id, 5) };
        replica.service.pause(queue("paused")).await.expect("is paused");
        replica.send(Submission { on_error: vec![task("child", "child")], ..expiring("ready", 5) }).await;
        replica.send(Submission { delay: Some(3_600 * SECOND), ..expiring("delayed", 5) }).await;
        replica.send(other("paused")).await;
        replica.send(Submission { request_id: Some("r".into()), ..expiring("named", 5) }).await;
        replica.send(task("a", "lasting")).await;
        assert_eq!(lifetimes(&world).await.len(), 4);
        for id in ["ready", "delayed", "paused", "named"] {
            expires_after(&replica, id, sent, 5 * SECOND).await;
        }
        all_forgotten(&world).await;
        assert_eq!((world.waiting().await, world.leases().await.len()), (2, 0), "the lasting one and the callback");
        assert_eq!(replica.state("lasting").await.status, Status::Pending);
        let mut worker = Worker::attach(&replica.service, "w", &["child"], 1).await;
        let args = worker.lease().await.signature.args.clone().unwrap_or_default();
        assert_eq!(args[0].value, ArgValue::String("lineshaft: expired".into()), "on_error is sent");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_in_time_goes_on() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        replica.send(expiring("a", 5)).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!(lifetimes(&world).await.len(), 1, "kept for a retry");
        assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
        assert_eq!(replica.end("a").await.status, Status::Success);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_the_time_expires_instead_of_running() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        let sent = Instant::now();
        replica.send(Submission { retry_count: 9, retry_timeout: 50, ..expiring("early", 20) }).await;
        replica.send(Submission { retry_count: 9, ..expiring("late", 20) }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        let (early, late) = (worker.lease().await, worker.lease().await);
        // Its retry waits beyond the time.
        worker.report(&early, failure("no")).await;
        expires_after(&replica, "early", sent, 20 * SECOND).await;
        // Its retry is made after the time.
        tokio::time::sleep(25 * SECOND).await;
        let failed = Instant::now();
        worker.report(&late, failure("no")).await;
        expires_after(&replica, "late", failed, Duration::ZERO).await;
        assert_eq!(replica.state("late").await.attempt, 2);
        assert!(worker.offer_within(600 * SECOND).await.is_none());
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_or_lost_after_the_time_expires_instead_of_running_again() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        for id in ["released", "lost"] {
            replica.send(expiring(id, 5)).await;
        }
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
        let (released, _lost) = (worker.lease().await, worker.lease().await);
        tokio::time::sleep(60 * SECOND).await;
        let given_back = Instant::now();
        worker.inbound.report(vec![report(&released, release(Duration::ZERO))]).await;
        expires_after(&replica, "released", given_back, Duration::ZERO).await;
        worker.fall_silent();
        let silent = Instant::now();
        expires_after(&replica, "lost", silent, LEASE - SECOND).await;
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_found_ends_when_it_is_met() {
    for by_stream in [true, false] {
        let world = unfindable();
        let replica = world.replica();
        for id in ["a", "b"] {
            replica.send(expiring(id, 5)).await;
        }
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(replica.state("a").await.status, Status::Pending);
        assert_eq!(lifetimes(&world).await, [], "an index that finds nothing is not kept");
        if by_stream {
            let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
            assert!(worker.offer_within(10 * SECOND).await.is_none());
        } else {
            let request = LeaseRequest {
                session: None,
                worker: "w".into(),
                subscriptions: hello("w", &[("q", &["a"], 1)]).subscriptions,
                tasks_max: 10,
                wait_max: SECOND,
                request_id: None,
            };
            assert!(replica.service.lease(request).await.expect("is answered").leases.is_empty());
        }
        for id in ["a", "b"] {
            has_expired(&replica, id).await;
        }
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_ends_as_cancelled_although_its_time_is_over() {
    for world in [World::new(), unfindable()] {
        let replica = world.replica();
        replica.send(Submission { retry_count: 5, ..expiring("running", 5) }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        replica.send(Submission { queue: Some(queue("other")), ..expiring("waiting", 5) }).await;
        for id in ["running", "waiting"] {
            replica.service.cancel(TaskId::trusted(id)).await.expect("is cancelled");
        }
        tokio::time::sleep(6 * SECOND).await;
        worker.report(&lease, failure("told to stop")).await;
        let _other = Worker::say(&replica.service, hello("o", &[("other", &["a"], 1)]), 1).await.expect("attaches");
        for id in ["running", "waiting"] {
            assert_eq!(replica.end(id).await.reason, FailureReason::Cancelled, "{id}");
        }
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_sending_of_the_same_id_has_a_lifetime_of_its_own() {
    for world in [World::new(), World::fused()] {
        let (replica, sent) = (world.replica(), Instant::now());
        replica.send(expiring("a", 5)).await;
        replica.send(expiring("a", 50)).await;
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(world.waiting().await, 1, "the first one has expired");
        assert_eq!(replica.state("a").await.status, Status::Pending);
        expires_after(&replica, "a", sent, 50 * SECOND).await;
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_lives_from_when_it_is_sent() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        let child = Submission { name: "child".into(), ..expiring("child", 5) };
        replica.send(Submission { on_success: vec![child], ..task("a", "parent") }).await;
        tokio::time::sleep(100 * SECOND).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        let ended = Instant::now();
        worker.report(&lease, success("")).await;
        rest().await;
        assert_eq!(replica.state("child").await.status, Status::Pending);
        expires_after(&replica, "child", ended, 5 * SECOND).await;
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_task_is_set_aside_where_failures_are_and_runs_once_it_is_requeued() {
    for mut world in [World::new(), World::fused()] {
        world.settings.keep_failed = true;
        let replica = world.replica();
        replica.send(expiring("a", 5)).await;
        has_expired(&replica, "a").await;
        let dead = world.dead().await;
        assert_eq!((dead.len(), dead[0].kind, dead[0].task.as_str()), (1, FailureReason::Expired, "a"));
        let target = Target::Filter { filter: Filter::default(), after: None, max: 10 };
        let requeue = Change::Requeue { retry_count: None };
        replica.service.change_dead(target, requeue, Really::Do).await.expect("is requeued");
        tokio::time::sleep(60 * SECOND).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        worker.report(&lease, success("done")).await;
        assert_eq!(replica.end("a").await.status, Status::Success);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_without_a_task_is_dropped() {
    let world = World::new();
    let replica = world.replica();
    let entry = |id: &str, generation| Lifetime { at: START.plus(SECOND), task: TaskId::trusted(id), generation };
    // Ended, and its entry written again by a slow sender; sent anew; never sent at all.
    replica.send(expiring("ended", 5)).await;
    has_expired(&replica, "ended").await;
    let ended = replica.state("ended").await.generation;
    replica.send(task("b", "anew")).await;
    let lost = [entry("ended", ended), entry("anew", 1), entry("never", 1)];
    world.ledger.lifetimes().limit(&lost).await.expect("is written");
    // The next pass meets those whose moment has passed before.
    tokio::time::sleep(15 * SECOND).await;
    assert_eq!(lifetimes(&world).await, [entry("anew", 1), entry("never", 1)], "maybe on their way");
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(lifetimes(&world).await, []);
    assert_eq!(replica.state("anew").await.status, Status::Pending);
    assert_eq!(world.waiting().await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_leaves_behind_is_finished_by_another_replica() {
    let points =
        [Point::LapseBegun, Point::SettleDecided, Point::SettleStated, Point::SettlePublished, Point::SettleDone];
    for fused in [false, true] {
        for point in points {
            if fused && !matches!(point, Point::LapseBegun | Point::SettleDecided) {
                continue;
            }
            let world = if fused { World::fused() } else { World::new() };
            let failpoints = Failpoints::at(point, Action::Hang, 1);
            let first = world.replica_with(failpoints.clone());
            first.send(Submission { on_error: vec![expiring("child", 5)], ..expiring("a", 5) }).await;
            failpoints.struck().await;
            first.crash();
            let second = world.replica();
            has_expired(&second, "a").await;
            second.status("child", Status::Pending).await;
            has_expired(&second, "child").await;
            is_quiet(&world).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_cut_short_leaves_nothing_that_expires_wrongly() {
    for point in [Point::SendClaimed, Point::SendLimited, Point::SendStated, Point::SendUnmarked, Point::SendPublished]
    {
        let world = World::new();
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = world.replica_with(failpoints.clone());
        let named = Submission { request_id: Some("r".into()), ..expiring("a", 5) };
        tokio::select! {
            () = failpoints.struck() => {}
            _ = async { tokio::join!(first.try_send(named.clone()), std::future::pending::<()>()) } => {}
        }
        first.crash();
        let second = world.replica();
        // Sent again long after its time: it is the same send, and its time is over.
        tokio::time::sleep(30 * SECOND).await;
        second.send(named).await;
        has_expired(&second, "a").await;
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_the_wall_clock_that_counts_and_an_outage_delays_it() {
    let world = World::new();
    let replica = world.replica();
    replica.send(expiring("stepped", 3_600)).await;
    rest().await;
    world.clock.step_to(world.clock.wall().plus(3_600 * SECOND));
    expires_after(&replica, "stepped", Instant::now(), Duration::ZERO).await;
    replica.send(expiring("outage", 5)).await;
    tokio::time::sleep(4 * SECOND).await;
    world.ledger_switch.set(Mode::Unavailable);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(replica.state("outage").await.status, Status::Pending);
    let back = Instant::now();
    world.ledger_switch.set(Mode::Works);
    expires_after(&replica, "outage", back, Duration::ZERO).await;
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_send_that_the_ledger_refuses_is_not_sent() {
    let world = World::new();
    let replica = world.replica();
    rest().await;
    world.ledger_switch.set(Mode::Unavailable);
    assert!(replica.try_send(expiring("a", 5)).await.is_err());
    world.ledger_switch.set(Mode::Works);
    assert_eq!((replica.try_state("a").await, world.waiting().await), (None, 0));
    // The broker refuses: what was written before is taken back.
    world.broker_switch.set(Mode::Unavailable);
    assert!(replica.try_send(expiring("a", 5)).await.is_err());
    world.broker_switch.set(Mode::Works);
    assert_eq!((replica.try_state("a").await, lifetimes(&world).await), (None, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_expire_at_once_among_many_others() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        replica.send_many("other", 5_000).await;
        let sent = Instant::now();
        let expiring: Vec<Submission> = (0..1_000).map(|i| expiring(&format!("a-{i}"), 5)).collect();
        for answer in replica.service.send(expiring).await {
            answer.expect("is accepted");
        }
        for i in 0..1_000 {
            expires_after(&replica, &format!("a-{i}"), sent, 5 * SECOND).await;
        }
        all_forgotten(&world).await;
        assert_eq!(world.waiting().await, 5_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_either_begun_or_expired() {
    const TASKS: u32 = 600;
    for fused in [false, true] {
        let world = if fused { World::fused() } else { World::new() };
        let (first, second) = (world.replica(), world.replica());
        for i in 0..TASKS {
            let expires_in = Some(SECOND + Duration::from_millis(u64::from(i) * 7 % 4_000));
            first.send(Submission { expires_in, ..task("a", &format!("a-{i}")) }).await;
        }
        // Fast enough for some and too slow for others, while both replicas end what is over.
        let mut worker = Worker::attach(&second.service, "w", &["a"], 0).await;
        let (mut begun, mut credit) = (BTreeSet::new(), 0);
        let until = Instant::now() + 8 * SECOND;
        while Instant::now() < until {
            credit += 1;
            worker.inbound.credit(credit);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Some(lease) = worker.offer_within(Duration::from_millis(9)).await else { continue };
            worker.inbound.accepted(worker.received);
            let at =
                lease.signature.headers.as_ref().and_then(|h| h.get("lineshaft-expires")?.as_string()?.parse().ok());
            assert!(at.is_some_and(|at: u64| at + SECOND.as_nanos() as u64 > world.clock.wall().0), "offered too late");
            assert!(begun.insert(lease.signature.uuid.clone()), "begun once");
            worker.report(&lease, success("")).await;
        }
        let mut expired = 0;
        for i in 0..TASKS {
            let id = format!("a-{i}");
            let state = first.end(&id).await;
            let has_expired = state.reason == FailureReason::Expired;
            assert_eq!(has_expired, !begun.contains(&id), "{state:?}");
            expired += usize::from(has_expired);
        }
        assert!(expired > 50 && begun.len() > 50, "{expired} expired, {} begun", begun.len());
        assert!(!worker.others.iter().any(|event| matches!(event, Event::Revoke { .. })), "no attempt was taken away");
        is_quiet(&world).await;
    }
}
