//! `Task.expires_in`, from the send to the end.

use std::time::Duration;

use lineshaft_client::Task as NewTask;
use lineshaft_client::proto::*;

use crate::client::connect;
use crate::rooms::Room;
use crate::stubs::{Stubs, named, success};
use crate::support::refusal::refusal;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, lifetimes:
            what_waits_expires_without_any_worker
            a_running_attempt_goes_on_after_its_time
            a_span_out_of_range_is_refused_by_its_field
            the_rust_client_sends_it
        );
    };
}
pub(crate) use cases;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn expiring(name: &str) -> Task {
    Task { expires_in: seconds(1), ..named(name) }
}

fn has_expired(state: &TaskState) {
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::Expired));
    assert_eq!(state.error, "lineshaft: expired");
}

pub(crate) async fn what_waits_expires_without_any_worker(room: Room) {
    // Where messages cannot be found, they end when they are met.
    if !room.finds {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let pause = PauseQueueRequest { queue: "paused".into() };
    stubs.queues().pause_queue(pause).await.expect("is paused");
    let on_error = vec![Task { id: "child".into(), ..named("child") }];
    let ready = stubs.send(Task { on_error, ..expiring("n") }).await;
    let delayed = stubs.send(Task { delay: seconds(3_600), ..expiring("n") }).await;
    let paused = stubs.send(Task { queue: "paused".into(), ..expiring("n") }).await;
    let lasting = stubs.send(Task { expires_in: seconds(365 * 86_400), ..named("n") }).await;
    for id in [&ready, &delayed, &paused] {
        has_expired(&stubs.end(id).await);
    }
    stubs.until("child", TaskStatus::Pending).await;
    let filter = TaskFilter { failure_reason: FailureReason::Expired.into(), ..Default::default() };
    let request = ListTasksRequest { filter: Some(filter), ..Default::default() };
    let found = stubs.tasks().list_tasks(request).await.expect("is answered").into_inner().tasks;
    assert_eq!(found.len(), 3);
    let pending = GetPendingTasksRequest::default();
    let pending = stubs.queues().get_pending_tasks(pending).await.expect("is answered").into_inner().tasks;
    let pending: Vec<Task> = pending.into_iter().filter_map(|pending| pending.task).collect();
    assert_eq!(pending.iter().find(|task| task.id == lasting).map(|task| task.expires_in), Some(seconds(365 * 86_400)));
}

pub(crate) async fn a_running_attempt_goes_on_after_its_time(room: Room) {
    if !room.finds {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    // Long enough for its lease on a busy machine.
    let running = stubs.send(Task { expires_in: seconds(4), ..named("n") }).await;
    let lease = stubs.lease("n").await;
    // Sent later, so that its end says that the time of the first is over.
    let waiting = stubs.send(Task { expires_in: seconds(4), ..named("m") }).await;
    has_expired(&stubs.end(&waiting).await);
    stubs.record(&lease, success([])).await;
    assert_eq!(stubs.end(&running).await.status(), TaskStatus::Success);
}

pub(crate) async fn a_span_out_of_range_is_refused_by_its_field(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let nested = |expires_in| Task { on_error: vec![Task { expires_in, ..named("n") }], ..named("n") };
    let nanos = Some(prost_types::Duration { seconds: 0, nanos: 999_999_999 });
    for (task, field) in [
        (Task { expires_in: nanos, ..named("n") }, "task.expires_in"),
        (Task { expires_in: seconds(365 * 86_400 + 1), ..named("n") }, "task.expires_in"),
        (nested(seconds(-1)), "task.on_error[0].expires_in"),
    ] {
        let refused = refusal(&stubs.try_send(task).await.expect_err("is out of range"));
        assert_eq!(refused.field, field, "{refused:?}");
    }
}

pub(crate) async fn the_rust_client_sends_it(room: Room) {
    if !room.finds {
        return;
    }
    let server = room.serve().await;
    let client = connect(&server).await;
    let sent = client.send(NewTask::new("n").expires_in(Duration::from_secs(1))).await.expect("is accepted");
    let state = sent.wait(Duration::from_secs(30)).await.expect("ends");
    assert_eq!((state.status, state.error.as_str()), (TaskStatus::Failure, "lineshaft: expired"));
}
