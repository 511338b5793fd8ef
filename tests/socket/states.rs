//! `GetState`, `GetStates`, `WatchState` and `WaitForResult`.

use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::*;
use tonic::{Code, Streaming};

use crate::rooms::Room;
use crate::stubs::{Stubs, again, failure, named, nanos, span, success, task, text};
use crate::support::until::soon;
use crate::support::{Refusal, refusal};
use crate::talk::Talk;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, states:
            states_come_in_the_order_asked_and_an_unknown_task_is_unspecified
            states_end_before_a_client_refuses_their_answer
            an_unknown_task_has_no_state
            a_state_tells_name_attempt_and_times
            a_watch_tells_each_state_in_order_and_ends_after_the_final_one
            a_watch_tells_of_retries_and_of_a_failure
            a_watch_of_a_task_that_has_ended_tells_its_end
            a_wait_answers_the_state_at_its_timeout
            a_wait_for_a_task_that_stays_unknown_says_so
            a_wait_ends_with_the_task
            many_may_wait_for_one_task
        );
    };
}
pub(crate) use cases;

pub(crate) async fn states_come_in_the_order_asked_and_an_unknown_task_is_unspecified(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["done", "waits"]).await;
    let lease = stubs.lease("n").await;
    assert_eq!(lease.task_id, "done");
    stubs.record(&lease, success([])).await;
    stubs.end("done").await;
    let task_ids = ["waits", "never", "done", "waits"].map(Into::into).to_vec();
    let states = stubs.tasks().get_states(GetStatesRequest { task_ids }).await.expect("is answered").into_inner();
    let told: Vec<_> = states.states.iter().map(|state| (state.task_id.as_str(), state.status())).collect();
    let (waits, never) = (("waits", TaskStatus::Pending), ("never", TaskStatus::Unspecified));
    assert_eq!(told, [waits, never, ("done", TaskStatus::Success), waits]);
}

pub(crate) async fn states_end_before_a_client_refuses_their_answer(room: Room) {
    const TASKS: usize = 6;
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let ids: Vec<String> = (0..TASKS).map(|number| format!("task-{number}")).collect();
    for id in &ids {
        stubs.send(task(id)).await;
        let lease = stubs.lease("n").await;
        stubs.record(&lease, success([text(&"x".repeat(900 << 10))])).await;
        stubs.end(id).await;
    }
    let mut told = Vec::new();
    while told.len() < TASKS {
        let task_ids = ids[told.len()..].to_vec();
        // With the 4 MiB that a client takes by default.
        let answer = stubs.tasks().get_states(GetStatesRequest { task_ids }).await.expect("fits").into_inner();
        assert!(!answer.states.is_empty() && answer.states.len() < 5, "{}", answer.states.len());
        told.extend(answer.states.into_iter().map(|state| state.task_id));
    }
    assert_eq!(told, ids);
}

fn unknown() -> Refusal {
    Refusal::new(Code::NotFound, "TASK_UNKNOWN", "")
}

pub(crate) async fn an_unknown_task_has_no_state(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let status = stubs.tasks().get_state(GetStateRequest { task_id: "never".into() }).await.expect_err("is unknown");
    assert_eq!(refusal(&status), unknown());
}

pub(crate) async fn a_state_tells_name_attempt_and_times(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let before = i128::from(SystemClock.wall().0);
    let id = stubs.send(named("n")).await;
    let sent = i128::from(SystemClock.wall().0);
    let state = stubs.state(&id).await;
    assert_eq!((state.status(), state.task_name.as_str(), state.attempt), (TaskStatus::Pending, "n", 1));
    assert_eq!((state.results.len(), state.error.as_str()), (0, ""));
    let created = nanos(state.created_at);
    assert!(before <= created && created <= sent, "{state:?}");
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([text("x")])).await;
    let state = stubs.end(&id).await;
    assert_eq!(nanos(state.created_at), created, "the time of sending stays");
    assert!(nanos(state.updated_at) >= created, "{state:?}");
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Success, FailureReason::Unspecified));
}

async fn watch(stubs: &Stubs, id: &str) -> Streaming<WatchStateResponse> {
    let request = WatchStateRequest { task_id: id.into(), ..Default::default() };
    stubs.tasks().watch_state(request).await.expect("is watched").into_inner()
}

async fn told(watch: &mut Streaming<WatchStateResponse>) -> Option<TaskState> {
    let told = soon("the watch tells", watch.message()).await.expect("the watch lives");
    told.map(|told| told.state.expect("is always set"))
}

async fn tells(watch: &mut Streaming<WatchStateResponse>, status: TaskStatus, attempt: u32) -> TaskState {
    let state = told(watch).await.expect("is not over");
    assert_eq!((state.status(), state.attempt), (status, attempt), "{state:?}");
    state
}

pub(crate) async fn a_watch_tells_each_state_in_order_and_ends_after_the_final_one(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let mut early = watch(&stubs, "a").await;
    stubs.send(task("a")).await;
    tells(&mut early, TaskStatus::Pending, 1).await;
    let (mut worker, _) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = worker.lease().await;
    tells(&mut early, TaskStatus::Received, 1).await;
    let mut late = watch(&stubs, "a").await;
    tells(&mut late, TaskStatus::Received, 1).await;
    worker.say(Said::Started(Started { lease_id: lease.lease_id.clone() })).await;
    tells(&mut early, TaskStatus::Started, 1).await;
    tells(&mut late, TaskStatus::Started, 1).await;
    assert_eq!(worker.report(&lease, success([text("x")])).await, ReportVerdict::Recorded);
    for watch in [&mut early, &mut late] {
        assert_eq!(tells(watch, TaskStatus::Success, 1).await.results, [text("x")]);
        assert_eq!(told(watch).await, None, "it closes with OK");
    }
}

pub(crate) async fn a_watch_tells_of_retries_and_of_a_failure(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let mut watched = watch(&stubs, "a").await;
    let mut seen = vec![told(&mut watched).await.expect("is not over")];
    let first = stubs.lease("n").await;
    stubs.record(&first, again("not yet")).await;
    let second = stubs.lease("n").await;
    stubs.record(&second, failure("never")).await;
    while let Some(state) = told(&mut watched).await {
        seen.push(state);
    }
    // A state that lasts only an instant may be passed over; none is told twice or out of its order.
    let order: Vec<(u32, i32)> = seen.iter().map(|state| (state.attempt, state.status)).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(order, sorted);
    let last = seen.last().expect("a final one");
    assert_eq!((last.status(), last.attempt, last.error.as_str()), (TaskStatus::Failure, 2, "never"));
    assert_eq!(last.failure_reason(), FailureReason::Failed);
}

pub(crate) async fn a_watch_of_a_task_that_has_ended_tells_its_end(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([])).await;
    stubs.end("a").await;
    let mut watch = watch(&stubs, "a").await;
    tells(&mut watch, TaskStatus::Success, 1).await;
    assert_eq!(told(&mut watch).await, None);
}

async fn wait(stubs: &Stubs, id: &str, timeout: Option<Duration>) -> Result<WaitForResultResponse, tonic::Status> {
    let request = WaitForResultRequest { task_id: id.into(), timeout: timeout.map(span) };
    Ok(stubs.tasks().wait_for_result(request).await?.into_inner())
}

pub(crate) async fn a_wait_answers_the_state_at_its_timeout(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    for timeout in [Duration::ZERO, Duration::from_millis(50)] {
        let begun = SystemClock.now();
        let waited = wait(&stubs, "a", Some(timeout)).await.expect("is answered");
        assert!(begun.elapsed() >= timeout);
        assert!(!waited.completed);
        assert_eq!(waited.state.map(|state| state.status()), Some(TaskStatus::Pending));
    }
    // Of no length: still the state that is known, also if it is final.
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([])).await;
    stubs.end("a").await;
    let waited = wait(&stubs, "a", Some(Duration::ZERO)).await.expect("is answered");
    assert!(waited.completed);
}

pub(crate) async fn a_wait_for_a_task_that_stays_unknown_says_so(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    for timeout in [Duration::ZERO, Duration::from_millis(50)] {
        let status = wait(&stubs, "never", Some(timeout)).await.expect_err("is unknown");
        assert_eq!(refusal(&status), unknown());
    }
    // One that becomes known in time is waited for.
    let waiting = tokio::spawn({
        let stubs = stubs.clone();
        async move { wait(&stubs, "a", None).await }
    });
    stubs.send(task("a")).await;
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([])).await;
    assert!(waiting.await.expect("runs").expect("is known").completed);
}

pub(crate) async fn a_wait_ends_with_the_task(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let waiting = tokio::spawn({
        let stubs = stubs.clone();
        async move { wait(&stubs, "a", Some(Duration::from_secs(3600))).await }
    });
    let lease = stubs.lease("n").await;
    stubs.record(&lease, failure("broken")).await;
    let waited = soon("the wait ends", waiting).await.expect("runs").expect("is answered");
    let state = waited.state.expect("is always set");
    assert_eq!((waited.completed, state.status(), state.error.as_str()), (true, TaskStatus::Failure, "broken"));
}

pub(crate) async fn many_may_wait_for_one_task(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let stubs = stubs.clone();
            tokio::spawn(async move { wait(&stubs, "a", None).await })
        })
        .collect();
    let lease = stubs.lease("n").await;
    stubs.record(&lease, success([text("x")])).await;
    for waiting in waiting {
        let waited = soon("each wait ends", waiting).await.expect("runs").expect("is answered");
        assert_eq!(waited.state.map(|state| state.results), Some(vec![text("x")]));
    }
}
