//! `Task.attempt_timeout`, from the send to the word to stop and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use lineshaft_client::{Context, Failure as Failed, Task as NewTask, Worker};
use tokio::sync::Notify;

use crate::client::{connect, with};
use crate::rooms::Room;
use crate::stubs::{Stubs, failure, named, span, success};
use crate::support::refusal::refusal;
use crate::support::until::DEADLINE;
use crate::support::{InProcess, until};
use crate::talk::Talk;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, timeouts:
            a_worker_is_told_to_stop_and_without_a_report_the_attempt_has_failed
            what_is_reported_in_the_grace_time_counts
            a_worker_of_single_calls_is_told_when_it_extends_also_after_a_restart
            a_timeout_out_of_range_is_refused_by_its_field
            a_task_that_waits_shows_its_timeout
            the_rust_client_stops_its_function_and_reports_once
        );
    };
}
pub(crate) use cases;

const TIMEOUT: Duration = Duration::from_millis(300);
const GRACE: &str = "700ms";

async fn serve(room: &Room) -> InProcess {
    room.serve_with(|config| config.leases.cancel_grace = GRACE.parse().expect("a span")).await
}

fn timed(name: &str) -> Task {
    Task { attempt_timeout: Some(span(TIMEOUT)), ..named(name) }
}

fn has_timed_out(state: &TaskState) {
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::TimedOut), "{state:?}");
    assert_eq!(state.error, "attempt timed out after 300ms");
}

/// Waits for the word that an attempt timed out.
async fn told(worker: &mut Talk, of: &Lease) {
    let is_told = |told: &Told| match told {
        Told::Revoke(revoke) => (revoke.lease_id == of.lease_id).then_some(revoke.reason()),
        _ => None,
    };
    assert_eq!(worker.told(is_told).await, RevokeReason::TimedOut);
}

pub(crate) async fn a_worker_is_told_to_stop_and_without_a_report_the_attempt_has_failed(room: Room) {
    let server = serve(&room).await;
    let stubs = Stubs::to(&server).await;
    let (mut worker, _) = Talk::worker(&stubs, &["n"], 1).await;
    let sent = SystemClock.now();
    let on_error = vec![Task { id: "child".into(), ..named("child") }];
    let id = stubs.send(Task { on_error, ..timed("n") }).await;
    let lease = worker.lease().await;
    assert_eq!(lease.timeout, Some(span(TIMEOUT)));
    assert!(lease.headers.is_empty(), "headers of ours are not shown: {:?}", lease.headers);
    told(&mut worker, &lease).await;
    assert!(sent.elapsed() >= TIMEOUT, "{:?}", sent.elapsed());
    has_timed_out(&stubs.end(&id).await);
    stubs.until("child", TaskStatus::Pending).await;
    assert_eq!(worker.report(&lease, success([])).await, ReportVerdict::Conflict);
}

pub(crate) async fn what_is_reported_in_the_grace_time_counts(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let (mut worker, _) = Talk::worker(&stubs, &["n"], 1).await;
    let id = stubs.send(timed("n")).await;
    let lease = worker.lease().await;
    told(&mut worker, &lease).await;
    assert_eq!(worker.report(&lease, failure("told to stop")).await, ReportVerdict::Recorded);
    let state = stubs.end(&id).await;
    assert_eq!((state.failure_reason(), state.error.as_str()), (FailureReason::Failed, "told to stop"));
}

pub(crate) async fn a_worker_of_single_calls_is_told_when_it_extends_also_after_a_restart(room: Room) {
    let mut server = serve(&room).await;
    for restarts in [false, true] {
        let mut stubs = Stubs::to(&server).await;
        let id = stubs.send(timed("n")).await;
        let (leases, session) = stubs.lease_many("n", 1).await;
        if restarts {
            server.stopped().await;
            server = serve(&room).await;
            stubs = Stubs::to(&server).await;
        }
        let lease_ids = vec![leases[0].lease_id.clone()];
        let request = ExtendLeasesRequest { session: Some(session), lease_ids };
        until("the worker is told", async || {
            let answer = stubs.workers().extend_leases(request.clone()).await.expect("the session lives").into_inner();
            (!answer.leases[0].kept).then_some(())
        })
        .await;
        has_timed_out(&stubs.end(&id).await);
    }
}

pub(crate) async fn a_timeout_out_of_range_is_refused_by_its_field(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let of = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let nested = |attempt_timeout| Task { on_error: vec![Task { attempt_timeout, ..named("n") }], ..named("n") };
    for (task, field) in [
        (Task { attempt_timeout: of(0, 99_999_999), ..named("n") }, "task.attempt_timeout"),
        (Task { attempt_timeout: of(30 * 86_400, 1), ..named("n") }, "task.attempt_timeout"),
        (nested(of(-1, 0)), "task.on_error[0].attempt_timeout"),
    ] {
        let refused = refusal(&stubs.try_send(task).await.expect_err("is out of range"));
        assert_eq!(refused.field, field, "{refused:?}");
    }
    for fits in [of(0, 100_000_000), of(30 * 86_400, 0)] {
        stubs.send(Task { attempt_timeout: fits, ..named("n") }).await;
    }
}

pub(crate) async fn a_task_that_waits_shows_its_timeout(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(timed("n")).await;
    let pending = stubs.queues().get_pending_tasks(GetPendingTasksRequest::default()).await.expect("is answered");
    let task = pending.into_inner().tasks.remove(0).task.expect("a task");
    assert_eq!((task.attempt_timeout, task.headers.len()), (Some(span(TIMEOUT)), 0));
}

pub(crate) async fn the_rust_client_stops_its_function_and_reports_once(room: Room) {
    let server = serve(&room).await;
    let client = connect(&server).await;
    let begun = Arc::new(AtomicU32::new(0));
    let ended = Arc::new(Notify::new());
    let (counted, over) = (begun.clone(), ended.clone());
    let worker = Worker::builder(&client)
        .register("stops", |context: Context| async move {
            let deadline = context.deadline().expect("it may not run for ever");
            context.cancelled().await;
            let early = deadline.saturating_duration_since(SystemClock.now().into_std());
            Err::<(), _>(Failed::new(if early < TIMEOUT / 2 { "told to stop" } else { "told too early" }))
        })
        .register("goes_on", move |context: Context| {
            let (counted, over) = (counted.clone(), over.clone());
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                context.cancelled().await;
                // Until its task has ended without it.
                over.notified().await;
                Ok::<_, Failed>(())
            }
        })
        .register("free", |context: Context| async move { Ok::<_, Failed>(context.deadline().is_none()) });
    with(worker, async {
        let stops = client.send(NewTask::new("stops").attempt_timeout(TIMEOUT)).await.expect("is sent");
        let goes_on = client.send(NewTask::new("goes_on").attempt_timeout(TIMEOUT)).await.expect("is sent");
        let free = client.send(NewTask::new("free")).await.expect("is sent");
        let stopped = stops.wait(DEADLINE).await.expect("ends");
        assert_eq!(stopped.failure().expect("a failure").reason, FailureReason::Failed);
        assert_eq!(stopped.error, "told to stop");
        let late = goes_on.wait(DEADLINE).await.expect("ends");
        assert_eq!(late.failure().expect("a failure").reason, FailureReason::TimedOut);
        ended.notify_one();
        assert!(free.wait(DEADLINE).await.expect("ends").results_as::<bool>().expect("a flag"));
    })
    .await;
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    let stubs = Stubs::to(&server).await;
    assert!(stubs.held().await.is_empty(), "nothing is held");
}
