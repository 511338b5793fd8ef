//! Attempts that run too long: when they end, who says so, and what still counts.

use std::time::Duration;

use lineshaft::clock::Clock;
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::{Subscription, Verdict};
use lineshaft::service::types::{CancelAnswer, Event, LeaseReply, LeaseRequest, Resume, Revoked, Submission};
use lineshaft::task::{FailureReason, LeaseId, Status, TaskId, TaskName};
use tokio::time::Instant;

use crate::faulty::Mode;
use crate::worker::{Worker, failure, release, report, success};
use crate::world::{LEASE, Replica, World, queue, rest, task};

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// How late a test may notice.
const LATE: Duration = Duration::from_millis(250);

fn timed(id: &str, retry_count: u32) -> Submission {
    Submission { attempt_timeout: Some(TIMEOUT), retry_count, ..task("a", id) }
}

/// The next word to stop this attempt, and why.
async fn revoked(worker: &mut Worker, of: &LeaseId) -> Revoked {
    loop {
        match worker.event().await {
            Some(Event::Revoke { lease, reason }) if lease == *of => return reason,
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
}

async fn has_timed_out(replica: &Replica, id: &str) {
    let state = replica.end(id).await;
    assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::TimedOut), "{id}: {state:?}");
    assert_eq!(state.error, "attempt timed out after 5s");
}

fn is_about(passed: Duration, expected: Duration) {
    assert!((expected..expected + LATE).contains(&passed), "{passed:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_at_its_timeout_and_fails_after_the_grace_time() {
    for world in [World::new(), World::fused()] {
        let (replica, grace) = (world.replica(), world.settings.cancel_grace);
        replica.send(Submission { on_error: vec![task("child", "child")], ..timed("a", 1) }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        for attempt in 1..=2 {
            let lease = worker.lease().await;
            let granted = Instant::now();
            assert_eq!(lease.attempt, attempt);
            assert_eq!(revoked(&mut worker, &lease.id).await, Revoked::TimedOut);
            is_about(granted.elapsed(), TIMEOUT);
            while revoked(&mut worker, &lease.id).await == Revoked::TimedOut {}
            is_about(granted.elapsed(), TIMEOUT + grace);
            if attempt == 1 {
                replica.status("a", Status::Retry).await;
                assert_eq!(replica.state("a").await.error, "attempt timed out after 5s");
            }
            assert!(matches!(worker.report(&lease, success("late")).await, Verdict::Conflict | Verdict::Superseded));
        }
        has_timed_out(&replica, "a").await;
        replica.status("child", Status::Pending).await;
        rest().await;
        assert!(world.leases().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_within_the_grace_time_counts() {
    let world = World::new();
    let replica = world.replica();
    for id in ["succeeds", "fails", "again"] {
        replica.send(timed(id, u32::from(id == "again"))).await;
    }
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    for (id, outcome) in [("succeeds", success("done")), ("fails", failure("stopped")), ("again", failure("stopped"))] {
        let lease = worker.lease().await;
        assert_eq!(lease.signature.uuid, id);
        if id == "succeeds" {
            assert_eq!(revoked(&mut worker, &lease.id).await, Revoked::TimedOut);
        }
        assert_eq!(worker.report(&lease, outcome).await, Verdict::Recorded);
    }
    assert_eq!(replica.end("succeeds").await.status, Status::Success);
    let failed = replica.end("fails").await;
    assert_eq!((failed.reason, failed.error.as_str()), (FailureReason::Failed, "stopped"));
    replica.status("again", Status::Retry).await;
    let lease = worker.lease().await;
    assert_eq!((lease.attempt, lease.signature.uuid.as_str()), (2, "again"));
}

#[tokio::test(start_paused = true)]
async fn a_report_before_the_timeout_leaves_nothing_behind() {
    let world = World::new();
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    replica.send(timed("a", 0)).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
    tokio::time::sleep(10 * TIMEOUT).await;
    assert_eq!(replica.end("a").await.status, Status::Success);
    assert!(worker.offer_within(SECOND).await.is_none());
    assert!(!worker.others.iter().any(|event| matches!(event, Event::Revoke { .. })), "{:?}", worker.others);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_after_its_timeout_has_failed_unless_it_never_began() {
    let world = World::new();
    let replica = world.replica();
    replica.send(timed("began", 0)).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let began = worker.lease().await;
    worker.inbound.started(&began.id);
    assert_eq!(revoked(&mut worker, &began.id).await, Revoked::TimedOut);
    assert_eq!(worker.report(&began, release(Duration::ZERO)).await, Verdict::Recorded);
    has_timed_out(&replica, "began").await;

    replica.send(timed("waits", 0)).await;
    worker.inbound.credit(2);
    let waits = worker.lease().await;
    assert_eq!(revoked(&mut worker, &waits.id).await, Revoked::TimedOut);
    assert_eq!(worker.report(&waits, release(Duration::ZERO)).await, Verdict::Recorded);
    worker.inbound.credit(3);
    let again = worker.offer_within(SECOND).await.expect("is offered again");
    assert_eq!((again.attempt, again.signature.uuid.as_str()), (1, "waits"), "at no cost");
}

fn ask(session: Option<Resume>) -> LeaseRequest {
    LeaseRequest {
        session,
        worker: "caller".into(),
        subscriptions: vec![Subscription { queue: queue("q"), names: vec![TaskName::trusted("a")], weight: 1 }],
        tasks_max: 1,
        wait_max: SECOND,
        request_id: None,
    }
}

/// Leases one task by a call; an answer without any is an error.
async fn lease_one(replica: &Replica) -> LeaseReply {
    let reply = replica.service.lease(ask(None)).await.expect("is answered");
    assert_eq!(reply.leases.len(), 1);
    reply
}

/// Renews the session for as long as the lease is fine; answers how long that was.
async fn extend_until_told(replica: &Replica, of: &LeaseReply) -> Duration {
    let begun = Instant::now();
    loop {
        let fine = replica.service.extend(of.session.clone(), std::slice::from_ref(&of.leases[0].id)).await;
        if fine.expect("the session lives") == [false] {
            return begun.elapsed();
        }
        tokio::time::sleep(LEASE / 30).await;
    }
}

/// Renews the session until the task has ended.
async fn extend_until_ended(replica: &Replica, of: &LeaseReply, id: &str) -> Duration {
    let begun = Instant::now();
    while !replica.state(id).await.status.is_final() {
        replica.service.extend(of.session.clone(), &[]).await.expect("the session lives");
        tokio::time::sleep(LEASE / 30).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_single_calls_hears_of_it_when_it_extends() {
    for recall in [true, false] {
        let world = World::with(lineshaft::broker::memory::Options { recall, ..Default::default() });
        let (replica, grace) = (world.replica(), world.settings.cancel_grace);
        replica.send(timed("late", 0)).await;
        let late = lease_one(&replica).await;
        is_about(extend_until_told(&replica, &late).await, TIMEOUT);
        is_about(extend_until_ended(&replica, &late, "late").await, grace);
        has_timed_out(&replica, "late").await;
        let too_late = replica.service.report(vec![report(&late.leases[0], success("late"))]).await;
        assert_eq!(too_late, Ok(vec![Verdict::Conflict]));

        replica.send(timed("released", 0)).await;
        let released = lease_one(&replica).await;
        extend_until_told(&replica, &released).await;
        let answer = replica.service.report(vec![report(&released.leases[0], release(Duration::ZERO))]).await;
        assert_eq!(answer, Ok(vec![Verdict::Recorded]));
        has_timed_out(&replica, "released").await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_an_attempt_has_what_is_left_of_its_time_and_no_clock_takes_it_away() {
    // How far the wall clock is stepped while the server is down, and how long the attempt has from then on.
    let long = 30 * SECOND;
    let (hour, grace) = (Duration::from_secs(3_600), World::new().settings.cancel_grace);
    for (step_on, step_back, left) in
        [(Duration::ZERO, Duration::ZERO, 28 * SECOND), (hour, Duration::ZERO, grace), (Duration::ZERO, hour, long)]
    {
        for world in [World::new(), World::fused()] {
            let first = world.replica();
            first.send(Submission { attempt_timeout: Some(long), ..task("a", "a") }).await;
            let mut worker = Worker::attach(&first.service, "w", &["a"], 1).await;
            let lease = worker.lease().await;
            tokio::time::sleep(2 * SECOND).await;
            first.crash();
            let second = world.replica();
            let now = world.clock.wall();
            world.clock.step_to(lineshaft::clock::WallTime(now.plus(step_on).0 - step_back.as_nanos() as u64));
            let met = Instant::now();
            let mut worker = worker.again(&second.service, &["a"], &[&lease]).await.expect("attaches again");
            assert_eq!(worker.welcome.held, [(lease.id.clone(), true)]);
            assert_eq!(revoked(&mut worker, &lease.id).await, Revoked::TimedOut);
            is_about(met.elapsed(), left);
            while revoked(&mut worker, &lease.id).await == Revoked::TimedOut {}
            is_about(met.elapsed(), left + grace);
            let state = second.end("a").await;
            assert_eq!((state.reason, state.error.as_str()), (FailureReason::TimedOut, "attempt timed out after 30s"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_single_calls_lease_is_watched_after_a_restart_too() {
    for recall in [true, false] {
        let world = World::with(lineshaft::broker::memory::Options { recall, ..Default::default() });
        let first = world.replica();
        first.send(timed("a", 0)).await;
        let lease = lease_one(&first).await;
        tokio::time::sleep(SECOND).await;
        first.crash();
        let second = world.replica();
        // Others may share this ledger, so nothing is held to have passed.
        is_about(extend_until_told(&second, &lease).await, world.settings.cancel_grace.max(TIMEOUT));
        is_about(extend_until_ended(&second, &lease, "a").await, world.settings.cancel_grace);
        has_timed_out(&second, "a").await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_timers_of_a_replica_that_died_are_taken_over_by_another() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.send(timed("a", 0)).await;
    let lease = lease_one(&one).await;
    one.crash();
    let ended = extend_until_ended(&two, &lease, "a").await;
    assert!(ended < 90 * SECOND, "{ended:?}");
    has_timed_out(&two, "a").await;
}

#[tokio::test(start_paused = true)]
async fn another_replica_does_not_end_what_its_own_replica_watches() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.send(Submission { attempt_timeout: Some(200 * SECOND), ..task("a", "a") }).await;
    let mut worker = Worker::attach(&one.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    let granted = Instant::now();
    assert_eq!(revoked(&mut worker, &lease.id).await, Revoked::TimedOut);
    is_about(granted.elapsed(), 200 * SECOND);
    assert_eq!(worker.report(&lease, success("just in time")).await, Verdict::Recorded);
    assert_eq!(two.end("a").await.status, Status::Success);
    tokio::time::sleep(300 * SECOND).await;
    assert_eq!(two.end("a").await.status, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_ends_as_cancelled_whichever_time_is_over_first() {
    for (before, after) in [(SECOND, Duration::ZERO), (Duration::ZERO, SECOND)] {
        let world = World::new();
        let replica = world.replica();
        replica.send(timed("a", 5)).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        tokio::time::sleep(TIMEOUT - before + after).await;
        let answer = replica.service.cancel(TaskId::trusted("a")).await;
        assert_eq!(answer, Ok(CancelAnswer::Signalled));
        let state = replica.end("a").await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::Cancelled), "{state:?}");
        assert_eq!(worker.report(&lease, success("late")).await, Verdict::Conflict);
        assert!(worker.offer_within(60 * SECOND).await.is_none(), "not retried");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_ledger_only_delays_the_end() {
    for mode in [Mode::Unavailable, Mode::UnknownBefore, Mode::UnknownAfter] {
        let world = World::new();
        let replica = world.replica();
        replica.send(timed("a", 0)).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        assert_eq!(revoked(&mut worker, &lease.id).await, Revoked::TimedOut);
        world.ledger_switch.set(mode);
        tokio::time::sleep(3 * world.settings.cancel_grace).await;
        world.ledger_switch.set(Mode::Works);
        let back = Instant::now();
        has_timed_out(&replica, "a").await;
        assert!(back.elapsed() < 3 * SECOND, "{mode:?}: {:?}", back.elapsed());
        assert_eq!(replica.end("a").await.attempt, 1, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_is_lost_and_its_next_attempt_has_the_whole_time() {
    let world = World::new();
    let replica = world.replica();
    replica.send(timed("a", 0)).await;
    let mut dead = Worker::attach(&replica.service, "dead", &["a"], 1).await;
    dead.lease().await;
    dead.fall_silent();
    let mut other = Worker::attach(&replica.service, "other", &["a"], 1).await;
    let lease = other.offer_within(2 * LEASE).await.expect("comes elsewhere");
    let granted = Instant::now();
    assert_eq!(lease.attempt, 2);
    other.inbound.accepted(1);
    assert_eq!(revoked(&mut other, &lease.id).await, Revoked::TimedOut);
    is_about(granted.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_within_the_grace_time_is_told_again() {
    let world = World::new();
    let replica = world.replica();
    replica.send(timed("a", 0)).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    assert_eq!(revoked(&mut worker, &lease.id).await, Revoked::TimedOut);
    let mut again = worker.again(&replica.service, &["a"], &[&lease]).await.expect("attaches again");
    let back = Instant::now();
    assert_eq!(revoked(&mut again, &lease.id).await, Revoked::TimedOut);
    assert!(back.elapsed() <= 2 * SECOND, "{:?}", back.elapsed());
    assert_eq!(again.report(&lease, success("in time")).await, Verdict::Recorded);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_attempts_end_in_their_time() {
    let world = World::fused();
    let replica = world.replica();
    for i in 0..1_000 {
        replica.send(timed(&format!("t{i}"), 0)).await;
    }
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1_000).await;
    let began = Instant::now();
    assert_eq!(worker.all_offers().await.len(), 1_000);
    for i in 0..1_000 {
        has_timed_out(&replica, &format!("t{i}")).await;
    }
    assert!(began.elapsed() < TIMEOUT + world.settings.cancel_grace + SECOND, "{:?}", began.elapsed());
    assert!(world.leases().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_keep_failed_it_is_set_aside_with_its_reason() {
    let mut world = World::new();
    world.settings.keep_failed = true;
    let replica = world.replica();
    replica.send(timed("a", 0)).await;
    let _held = lease_and_leave(&replica).await;
    has_timed_out(&replica, "a").await;
    let dead = world.dead().await;
    assert_eq!((dead.len(), dead[0].kind), (1, FailureReason::TimedOut));
}

/// A worker that took a task and never says anything of it.
async fn lease_and_leave(replica: &Replica) -> Worker {
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    worker.lease().await;
    worker
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_steps_of_the_end_loses_nothing() {
    let steps = [
        Point::SettleReported,
        Point::SettleDecided,
        Point::SettleStated,
        Point::SettlePublished,
        Point::SettleDone,
        Point::SettleAcked,
    ];
    for (point, fused) in steps.into_iter().flat_map(|point| [(point, false), (point, true)]) {
        let world = if fused { World::fused() } else { World::new() };
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = world.replica_with(failpoints.clone());
        first.send(timed("a", 1)).await;
        let mut worker = Worker::attach(&first.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        worker.inbound.started(&lease.id);
        // Steps that are one on a fused store have nothing between them.
        let over = tokio::time::sleep(TIMEOUT + 3 * world.settings.cancel_grace);
        let struck = tokio::select! {
            () = failpoints.struck() => true,
            () = over => false,
        };
        assert!(struck || fused, "{point:?}");
        first.crash();
        let second = world.replica();
        let mut worker = worker.again(&second.service, &["a"], &[&lease]).await.expect("attaches again");
        worker.inbound.credit(1);
        let next = worker.lease().await;
        assert_eq!(next.attempt, 2, "{point:?}, fused: {fused}");
        assert_eq!(worker.report(&next, success("done")).await, Verdict::Recorded);
        let state = second.end("a").await;
        assert_eq!((state.status, state.attempt), (Status::Success, 2), "{point:?}, fused: {fused}");
        rest().await;
        assert_eq!((world.waiting().await, world.leases().await.len()), (0, 0), "{point:?}, fused: {fused}");
    }
}
