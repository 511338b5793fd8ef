//! `Task.request_id` and `Task.idempotency`.

use lineshaft_client::proto::*;
use tonic::Code;

use crate::rooms::Room;
use crate::stubs::{Stubs, named, success, task};
use crate::support::{Refusal, refusal};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, named:
            the_same_request_is_answered_with_the_same_task
            a_request_id_with_other_content_is_refused_by_path
            a_key_in_force_is_answered_with_the_first_task
            names_of_a_send_are_not_shown
            a_client_that_is_told_a_name_sends_once
        );
    };
}
pub(crate) use cases;

fn request(id: &str) -> Task {
    Task { request_id: id.into(), ..named("n") }
}

fn keyed(key: &str, id: &str) -> Task {
    Task { idempotency: Some(Idempotency { key: key.into(), until: None }), ..task(id) }
}

async fn send(stubs: &Stubs, task: Task) -> SendTaskResponse {
    let request = SendTaskRequest { task: Some(task) };
    stubs.tasks().send_task(request).await.expect("is accepted").into_inner()
}

pub(crate) async fn the_same_request_is_answered_with_the_same_task(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let first = send(&stubs, request("r")).await;
    assert!(!first.already_sent);
    let again = SendTaskResponse { already_sent: true, ..first.clone() };
    assert_eq!(send(&stubs, request("r")).await, again);
    let batch = SendTasksRequest { tasks: vec![request("r"), request("s"), named("n"), request("s")] };
    let results = stubs.tasks().send_tasks(batch).await.expect("is answered").into_inner().results;
    let already: Vec<bool> = results.iter().map(|result| result.already_sent).collect();
    assert_eq!(already, [true, false, false, true]);
    assert_eq!(results[0].result, Some(send_result::Result::TaskId(first.task_id.clone())));
    assert_eq!(results[1].result, results[3].result);
    let (leases, _) = stubs.lease_many("n", 3).await;
    for lease in &leases {
        stubs.record(lease, success([])).await;
    }
    assert_eq!(send(&stubs, request("r")).await, again);
}

pub(crate) async fn a_request_id_with_other_content_is_refused_by_path(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    send(&stubs, request("r")).await;
    let other = || Task { priority: 0, retry_count: 1, ..request("r") };
    let alone = stubs.try_send(other()).await.expect_err("is refused");
    let expected = Refusal::new(Code::InvalidArgument, "REQUEST_ID_REUSED", "task.request_id");
    assert_eq!(refusal(&alone), expected);
    let batch = SendTasksRequest { tasks: vec![other(), named("n")] };
    let results = stubs.tasks().send_tasks(batch).await.expect("is answered").into_inner().results;
    let Some(send_result::Result::Error(error)) = &results[0].result else { panic!("{results:?}") };
    assert_eq!((error.reason.as_str(), error.field.as_str()), ("REQUEST_ID_REUSED", "request_id"));
    assert!(matches!(results[1].result, Some(send_result::Result::TaskId(_))));
}

pub(crate) async fn a_key_in_force_is_answered_with_the_first_task(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let sent = |id: &str, already_sent| SendTaskResponse { task_id: id.into(), already_sent };
    assert_eq!(send(&stubs, keyed("k", "one")).await, sent("one", false));
    assert_eq!(send(&stubs, keyed("k", "two")).await, sent("one", true));
    assert_eq!(send(&stubs, keyed("other", "three")).await, sent("three", false));
    let name = task("one").name;
    let (leases, _) = stubs.lease_many(&name, 2).await;
    for lease in &leases {
        stubs.record(lease, success([])).await;
    }
    stubs.end("one").await;
    assert_eq!(send(&stubs, keyed("k", "two")).await, sent("two", false));
}

pub(crate) async fn names_of_a_send_are_not_shown(room: Room) {
    if !room.inspects {
        return;
    }
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    send(&stubs, Task { request_id: "r".into(), ..keyed("k", "one") }).await;
    let pending = stubs.pending(GetPendingTasksRequest::default()).await;
    let shown = pending.tasks[0].task.clone().expect("is a task");
    assert_eq!((shown.id.as_str(), shown.request_id.as_str(), shown.idempotency), ("one", "", None));
}

pub(crate) async fn a_client_that_is_told_a_name_sends_once(room: Room) {
    let server = room.serve().await;
    let client = lineshaft_client::Client::connect(server.url()).await.expect("connects");
    let task = || lineshaft_client::Task::new("n").request_id("r").idempotency_key("k", lineshaft_client::Until::Ended);
    let first = client.send(task()).await.expect("is accepted");
    let second = client.send_all([task(), task()]).await;
    for again in second {
        assert_eq!(again.expect("is accepted").id(), first.id());
    }
}
