//! Cancelling: what each answer promises, and that it is kept.

use std::time::Duration;

use lineshaft::broker;
use lineshaft::error::Error;
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::{Ledger, Verdict};
use lineshaft::service::types::{CancelAnswer, Event, Revoked, Submission};
use lineshaft::task::{FailureReason, Status, TaskId};

use crate::faulty::Mode;
use crate::worker::{Worker, failure, release, report, success};
use crate::world::{Replica, World, queue, rest, task};

const SECOND: Duration = Duration::from_secs(1);

async fn cancel(replica: &Replica, id: &str) -> CancelAnswer {
    replica.service.cancel(TaskId::trusted(id)).await.expect("is cancelled")
}

async fn is_cancelled(replica: &Replica, id: &str) {
    let state = replica.end(id).await;
    assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::Cancelled), "{id}: {state:?}");
    assert_eq!(state.error, "lineshaft: cancelled");
}

/// Nothing waits, nothing is leased, and no mark is left.
async fn is_quiet(world: &World) {
    for _ in 0..10_000 {
        let marks = world.ledger.marks(None, 10).await.expect("can be listed");
        if marks.is_empty() && world.waiting().await == 0 && world.leases().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let marks = world.ledger.marks(None, 10).await;
    panic!("{} wait, leases {:?}, marks {marks:?}", world.waiting().await, world.leases().await);
}

/// The next word to stop, and why.
async fn revoked(worker: &mut Worker) -> Revoked {
    loop {
        if let Some(Event::Revoke { reason, .. }) = worker.event().await {
            return reason;
        }
    }
}

fn unfindable() -> broker::memory::Options {
    broker::memory::Options { find: false, ..broker::memory::Options::default() }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_removed_at_once_without_any_worker() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        replica.send(Submission { on_error: vec![task("child", "child")], ..task("a", "ready") }).await;
        replica.send(Submission { delay: Some(3_600 * SECOND), ..task("a", "delayed") }).await;
        for id in ["ready", "delayed"] {
            assert_eq!(cancel(&replica, id).await, CancelAnswer::Removed);
            is_cancelled(&replica, id).await;
            assert_eq!(cancel(&replica, id).await, CancelAnswer::Ended, "again");
        }
        is_quiet(&world).await;
        assert!(replica.try_state("child").await.is_none(), "callbacks of a cancelled task are not sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_between_two_attempts_is_removed() {
    let world = World::new();
    let replica = world.replica();
    replica.send(Submission { retry_count: 5, ..task("a", "a") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let lease = worker.lease().await;
    worker.report(&lease, failure("no")).await;
    replica.status("a", Status::Retry).await;
    rest().await;
    assert_eq!(cancel(&replica, "a").await, CancelAnswer::Removed);
    is_cancelled(&replica, "a").await;
    assert!(worker.offer_within(10 * SECOND).await.is_none(), "not retried");
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_running_task_is_signalled_and_its_failure_ends_it() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        replica.send(Submission { retry_count: 5, ..task("a", "a") }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        let lease = worker.lease().await;
        assert_eq!(cancel(&replica, "a").await, CancelAnswer::Signalled);
        assert_eq!(revoked(&mut worker).await, Revoked::Cancelled);
        assert_eq!(worker.report(&lease, failure("told to stop")).await, Verdict::Recorded);
        is_cancelled(&replica, "a").await;
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_reported_in_time_counts() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let lease = worker.lease().await;
    assert_eq!(cancel(&replica, "a").await, CancelAnswer::Signalled);
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
    assert_eq!(replica.end("a").await.status, Status::Success);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_stop_loses_the_lease_after_the_grace_time() {
    for world in [World::new(), World::fused(), World::with(unfindable())] {
        let replica = world.replica();
        replica.send(task("a", "a")).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        let lease = worker.lease().await;
        assert_eq!(cancel(&replica, "a").await, CancelAnswer::Signalled);
        let told = tokio::time::Instant::now();
        while revoked(&mut worker).await == Revoked::Cancelled {}
        let grace = world.settings.cancel_grace;
        assert!((grace..grace + 3 * SECOND).contains(&told.elapsed()), "{:?}", told.elapsed());
        is_cancelled(&replica, "a").await;
        assert_eq!(worker.report(&lease, success("late")).await, Verdict::Conflict);
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_or_lost_after_the_mark_is_not_offered_again() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 2).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
    let (first, _second) = (worker.lease().await, worker.lease().await);
    for id in ["a-0", "a-1"] {
        assert_eq!(cancel(&replica, id).await, CancelAnswer::Signalled);
    }
    worker.report(&first, release(Duration::ZERO)).await;
    worker.fall_silent();
    let mut other = Worker::attach(&replica.service, "w2", &["a"], 10).await;
    assert!(other.offer_within(30 * SECOND).await.is_none());
    is_cancelled(&replica, "a-0").await;
    is_cancelled(&replica, "a-1").await;
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_find_ends_it_when_it_is_met() {
    let world = World::with(unfindable());
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    assert_eq!(cancel(&replica, "a").await, CancelAnswer::Marked);
    rest().await;
    assert_eq!(replica.state("a").await.status, Status::Pending);
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    assert!(worker.offer_within(SECOND).await.is_none(), "never offered");
    is_cancelled(&replica, "a").await;
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_later_sending_of_the_id_runs() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    assert_eq!(cancel(&replica, "a").await, CancelAnswer::Removed);
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success("again")).await, Verdict::Recorded);
    assert_eq!(replica.end("a").await.status, Status::Success);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_another_replica_is_told_by_that_one() {
    let world = World::new();
    let (here, there) = (world.replica(), world.replica());
    here.send(task("a", "a")).await;
    let mut worker = Worker::attach(&there.service, "w", &["a"], 10).await;
    let lease = worker.lease().await;
    assert_eq!(cancel(&here, "a").await, CancelAnswer::Marked);
    assert_eq!(revoked(&mut worker).await, Revoked::Cancelled);
    let still = there.service.extend(worker.session.clone(), std::slice::from_ref(&lease.id)).await;
    assert_eq!(still, Ok(vec![false]), "single calls hear of it too");
    assert_eq!(there.service.report(vec![report(&lease, failure("stopped"))]).await, Ok(vec![Verdict::Recorded]));
    is_cancelled(&here, "a").await;
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_task_is_unknown_and_an_ended_one_keeps_its_end() {
    let world = World::new();
    let replica = world.replica();
    let unknown = replica.service.cancel(TaskId::trusted("never")).await;
    assert_eq!(unknown, Err(Error::TaskUnknown("never".into())));
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let lease = worker.lease().await;
    worker.report(&lease, success("done")).await;
    replica.end("a").await;
    assert_eq!(cancel(&replica, "a").await, CancelAnswer::Ended);
    assert_eq!(replica.state("a").await.status, Status::Success);
    is_quiet(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_leaves_behind_is_cleared_without_any_worker() {
    let points =
        [Point::CancelMarked, Point::CancelBegun, Point::SettleDecided, Point::SettleStated, Point::SettleDone];
    for point in points {
        let world = World::new();
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = world.replica_with(failpoints.clone());
        first.send(task("a", "a")).await;
        tokio::select! {
            () = failpoints.struck() => {}
            _ = async { tokio::join!(cancel(&first, "a"), std::future::pending::<()>()) } => {}
        }
        first.crash();
        let second = world.replica();
        is_cancelled(&second, "a").await;
        is_quiet(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_is_not_written_is_an_error_and_one_that_is_is_followed_later() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    rest().await;
    world.ledger_switch.set(Mode::Unavailable);
    assert!(matches!(replica.service.cancel(TaskId::trusted("a")).await, Err(Error::Store(_))));
    world.ledger_switch.set(Mode::Works);
    assert_eq!(replica.service.pending(Some(queue("q")), true, None, 10).await.expect("is listed").tasks.len(), 1);
    world.ledger_switch.set(Mode::UnknownAfter);
    assert!(matches!(replica.service.cancel(TaskId::trusted("a")).await, Err(Error::Store(_))));
    world.ledger_switch.set(Mode::Works);
    is_cancelled(&replica, "a").await;
    is_quiet(&world).await;
}
