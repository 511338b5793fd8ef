//! `CancelTask`, from the call to the worker that is told.

use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use lineshaft_client::{Context, Failure, Task as NewTask, Worker};
use tonic::Status;

use crate::client::{connect, with};
use crate::rooms::Room;
use crate::stubs::{Stubs, failure, named, success};
use crate::support::refusal::refusal;
use crate::support::until::DEADLINE;
use crate::talk::Talk;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, cancel:
            a_waiting_task_ends_as_cancelled
            a_running_task_is_told_to_stop_and_its_failure_ends_it
            what_is_unknown_or_no_id_is_refused
            the_rust_client_cancels_and_its_worker_stops
        );
    };
}
pub(crate) use cases;

async fn cancel(stubs: &Stubs, id: &str) -> Result<CancelResult, Status> {
    let answer = stubs.tasks().cancel_task(CancelTaskRequest { task_id: id.into() }).await?;
    Ok(answer.into_inner().result())
}

fn is_cancelled(state: &TaskState) {
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::Cancelled));
    assert_eq!(state.error, "lineshaft: cancelled");
}

pub(crate) async fn a_waiting_task_ends_as_cancelled(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let id = stubs.send(named("n")).await;
    let result = cancel(&stubs, &id).await.expect("is cancelled");
    // Brokers that cannot find a task end it when they hand it out.
    assert!(matches!(result, CancelResult::Removed | CancelResult::Marked), "{result:?}");
    if result == CancelResult::Marked {
        let (mut worker, _) = Talk::worker(&stubs, &["n"], 1).await;
        is_cancelled(&stubs.end(&id).await);
        let next = stubs.send(named("n")).await;
        assert_eq!(worker.lease().await.task_id, next, "the cancelled one is not offered");
    } else {
        is_cancelled(&stubs.end(&id).await);
    }
    assert_eq!(cancel(&stubs, &id).await.expect("is answered"), CancelResult::Ended);
}

pub(crate) async fn a_running_task_is_told_to_stop_and_its_failure_ends_it(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let id = stubs.send(Task { retry_count: 3, ..named("n") }).await;
    let (mut worker, _) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = worker.lease().await;
    assert_eq!(cancel(&stubs, &id).await.expect("is cancelled"), CancelResult::Signalled);
    let revoke = worker.told(|told| if let Told::Revoke(revoke) = told { Some(revoke.clone()) } else { None }).await;
    assert_eq!((revoke.reason(), revoke.lease_id.as_str()), (RevokeReason::Cancelled, lease.lease_id.as_str()));
    assert_eq!(worker.report(&lease, failure("told to stop")).await, ReportVerdict::Recorded);
    is_cancelled(&stubs.end(&id).await);
    assert_eq!(worker.report(&lease, success(Vec::new())).await, ReportVerdict::Conflict);
}

pub(crate) async fn what_is_unknown_or_no_id_is_refused(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    assert_eq!(refusal(&cancel(&stubs, "never").await.unwrap_err()).reason, "TASK_UNKNOWN");
    let no_id = refusal(&cancel(&stubs, "a b").await.unwrap_err());
    assert_eq!((no_id.reason.as_str(), no_id.field.as_str()), ("TASK_INVALID", "task_id"));
}

pub(crate) async fn the_rust_client_cancels_and_its_worker_stops(room: Room) {
    let server = room.serve().await;
    let client = connect(&server).await;
    let worker = Worker::builder(&client).register("wait", |context: Context| async move {
        context.cancelled().await;
        Err::<(), _>(Failure::new("told to stop"))
    });
    with(worker, async {
        let result = client.send(NewTask::new("wait").retry(5)).await.expect("is sent");
        while result.state().await.expect("is known").status != TaskStatus::Started {
            tokio::task::yield_now().await;
        }
        assert_eq!(result.cancel().await.expect("is cancelled"), CancelResult::Signalled);
        let end = result.wait(DEADLINE).await.expect("ends");
        assert_eq!(end.failure().expect("a failure").reason, FailureReason::Cancelled);
    })
    .await;
}
