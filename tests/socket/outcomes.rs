//! How a task ends, and what follows.

use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::*;

use crate::rooms::Room;
use crate::stubs::{Stubs, again, arg, failure, named, nanos, report, span, success, task, text};
use crate::support::until;

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, outcomes:
            a_success_has_its_results_several_or_none
            a_failure_is_retried_after_a_second_until_no_retry_is_left
            a_failure_without_retries_is_the_end
            a_final_failure_is_the_end_whatever_is_left
            a_retry_at_a_time_of_its_own_costs_none
            an_error_text_is_never_empty_and_has_a_limit
            an_outcome_that_is_none_is_a_final_failure
            results_beyond_the_limit_end_in_failure
            callbacks_of_success_get_the_results_behind_their_arguments
            callbacks_of_an_immutable_task_get_no_results
            callbacks_of_failure_get_the_error_before_their_arguments
            callbacks_of_callbacks_are_sent
            callbacks_wait_until_no_retry_is_left
        );
    };
}
pub(crate) use cases;

pub(crate) async fn a_success_has_its_results_several_or_none(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let one = vec![text("x")];
    let several = vec![text("x"), arg("int64", arg::Value::Int64Value(i64::MIN)), text("")];
    for results in [Vec::new(), one, several] {
        let id = stubs.send(named("n")).await;
        let lease = stubs.lease("n").await;
        stubs.record(&lease, success(results.clone())).await;
        let state = stubs.end(&id).await;
        assert_eq!((state.status(), &state.results), (TaskStatus::Success, &results));
        assert_eq!((state.error.as_str(), state.failure_reason()), ("", FailureReason::Unspecified));
    }
    assert!(stubs.held().await.is_empty());
}

// The one case that waits for a Fibonacci delay.
pub(crate) async fn a_failure_is_retried_after_a_second_until_no_retry_is_left(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(Task { retry_count: 1, ..task("a") }).await;
    let first = stubs.lease("n").await;
    assert_eq!((first.attempt, first.retries_left), (1, 1));
    stubs.record(&first, failure("broken")).await;
    let state = stubs.until("a", TaskStatus::Retry).await;
    assert_eq!((state.error.as_str(), state.attempt), ("broken", 1));
    assert_eq!(state.failure_reason(), FailureReason::Unspecified);
    if room.inspects {
        let request = GetPendingTasksRequest { include_delayed: true, ..Default::default() };
        // Where the stores are several, the state may be seen before the message.
        let waits = until("the retry waits", async || stubs.pending(request.clone()).await.tasks.pop()).await;
        let waited = waits.task.expect("is a task");
        assert_eq!((waited.id.as_str(), waited.retry_count), ("a", 0));
        assert_eq!(waited.retry_timeout, Some(span(Duration::from_secs(1))));
        let delay = nanos(waits.available_at) - nanos(state.updated_at);
        assert!((900_000_000..1_100_000_000).contains(&delay), "{delay} ns");
    }
    let second = stubs.lease("n").await;
    assert_eq!((second.task_id.as_str(), second.attempt, second.retries_left), ("a", 2, 0));
    assert!(i128::from(SystemClock.wall().0) - nanos(state.updated_at) >= 900_000_000);
    stubs.record(&second, failure("still broken")).await;
    let state = stubs.end("a").await;
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::Failed));
    assert_eq!((state.error.as_str(), state.attempt), ("still broken", 2));
}

pub(crate) async fn a_failure_without_retries_is_the_end(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    stubs.record(&stubs.lease("n").await, failure("broken")).await;
    let state = stubs.end("a").await;
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::Failed));
    assert_eq!((state.error.as_str(), state.attempt, state.results.len()), ("broken", 1, 0));
}

pub(crate) async fn a_final_failure_is_the_end_whatever_is_left(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    for retry_after in [None, Some(span(Duration::ZERO))] {
        let id = stubs.send(Task { retry_count: 5, ..named("n") }).await;
        let outcome = report::Outcome::Failure(Failure { error: "for good".into(), r#final: true, retry_after });
        stubs.record(&stubs.lease("n").await, outcome).await;
        let state = stubs.end(&id).await;
        assert_eq!((state.status(), state.attempt), (TaskStatus::Failure, 1));
    }
}

pub(crate) async fn a_retry_at_a_time_of_its_own_costs_none(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    // One that has no retry left may ask for it too.
    for retries in [0, 3] {
        let id = stubs.send(Task { retry_count: retries, ..named("n") }).await;
        for attempt in 1..=4 {
            let lease = stubs.lease("n").await;
            assert_eq!((lease.task_id.as_str(), lease.attempt), (id.as_str(), attempt));
            assert_eq!(lease.retries_left, retries);
            stubs.record(&lease, again("not yet")).await;
        }
        let lease = stubs.lease("n").await;
        stubs.record(&lease, success([])).await;
        let state = stubs.end(&id).await;
        assert_eq!((state.status(), state.attempt, state.error.as_str()), (TaskStatus::Success, 5, ""));
    }
    // And it waits as long as was asked.
    stubs.send(task("a")).await;
    let delay = Duration::from_millis(150);
    let begun = SystemClock.now();
    let outcome = Failure { error: "later".into(), retry_after: Some(span(delay)), ..Default::default() };
    stubs.record(&stubs.lease("n").await, report::Outcome::Failure(outcome)).await;
    stubs.until("a", TaskStatus::Retry).await;
    stubs.lease("n").await;
    assert!(begun.elapsed() >= delay);
}

pub(crate) async fn an_error_text_is_never_empty_and_has_a_limit(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["empty", "long"]).await;
    stubs.record(&stubs.lease("n").await, failure("")).await;
    stubs.record(&stubs.lease("n").await, failure(&"é".repeat(40_000))).await;
    assert!(!stubs.end("empty").await.error.is_empty());
    assert_eq!(stubs.end("long").await.error, "é".repeat(32_768));
}

pub(crate) async fn an_outcome_that_is_none_is_a_final_failure(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let nan = arg("float64", arg::Value::DoubleValue(f64::NAN));
    let outcomes = [
        (None, "outcome"),
        (Some(success([nan])), "results[0].double_value"),
        (Some(success([text("x"), Arg::default()])), "results[1].value"),
        (Some(success(vec![text(""); 1001])), "results"),
    ];
    for (outcome, field) in outcomes {
        let id = stubs.send(Task { retry_count: 5, ..named("n") }).await;
        let lease = stubs.lease("n").await;
        let report = Report { outcome, ..report(&lease, success([])) };
        assert_eq!(stubs.report(vec![report]).await, [ReportVerdict::Recorded]);
        let state = stubs.end(&id).await;
        assert_eq!((state.status(), state.attempt), (TaskStatus::Failure, 1));
        assert!(state.error.contains(field), "{}", state.error);
    }
}

pub(crate) async fn results_beyond_the_limit_end_in_failure(room: Room) {
    let server = room.serve_with(|config| config.limits.result_bytes_max = 1024).await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["fits", "large"]).await;
    stubs.record(&stubs.lease("n").await, success([text(&"x".repeat(900))])).await;
    let lease = stubs.lease("n").await;
    let large = success([text(&"x".repeat(512)), text(&"x".repeat(512))]);
    stubs.record(&lease, large.clone()).await;
    assert_eq!(stubs.end("fits").await.status(), TaskStatus::Success);
    let state = stubs.end("large").await;
    assert_eq!((state.status(), state.failure_reason()), (TaskStatus::Failure, FailureReason::ResultTooLarge));
    assert!(state.error.contains("1024"), "{}", state.error);
    assert_eq!(stubs.report(vec![report(&lease, large)]).await, [ReportVerdict::Duplicate]);
}

/// The task of this name that runs next.
async fn next(stubs: &Stubs, name: &str) -> Lease {
    let lease = stubs.lease(name).await;
    assert_eq!((lease.name.as_str(), lease.attempt), (name, 1));
    lease
}

fn then(id: &str, name: &str, args: &[&str]) -> Task {
    Task { id: id.into(), args: args.iter().map(|arg| text(arg)).collect(), ..named(name) }
}

pub(crate) async fn callbacks_of_success_get_the_results_behind_their_arguments(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let on_success = vec![then("one", "first", &["own"]), then("", "second", &[])];
    stubs.send(Task { on_success, on_error: vec![then("never", "other", &[])], ..task("a") }).await;
    let lease = stubs.lease("n").await;
    let outcome = success([text("x"), arg("int8", arg::Value::Int64Value(-1))]);
    stubs.record(&lease, outcome.clone()).await;
    let results = [text("x"), arg("int8", arg::Value::Int64Value(-1))];
    let first = next(&stubs, "first").await;
    assert_eq!((first.task_id.as_str(), &first.args[..]), ("one", &[&[text("own")], &results[..]].concat()[..]));
    let second = next(&stubs, "second").await;
    assert!(second.task_id.starts_with("task_"), "{}", second.task_id);
    assert_eq!(second.args, results);
    for lease in [first, second] {
        stubs.record(&lease, success([])).await;
        assert_eq!(stubs.end(&lease.task_id).await.task_name, lease.name);
    }
    // The report again sends nothing again.
    assert_eq!(stubs.report(vec![report(&lease, outcome)]).await, [ReportVerdict::Duplicate]);
    let task_ids = vec!["never".to_owned()];
    let states = stubs.tasks().get_states(GetStatesRequest { task_ids }).await.expect("is answered").into_inner();
    assert_eq!(states.states[0].status(), TaskStatus::Unspecified);
    if room.inspects {
        assert!(stubs.pending(GetPendingTasksRequest::default()).await.tasks.is_empty());
    }
}

pub(crate) async fn callbacks_of_an_immutable_task_get_no_results(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let callback = || Task { immutable: true, ..then("", "first", &["own"]) };
    stubs.send(Task { immutable: true, on_success: vec![callback()], ..task("a") }).await;
    stubs.record(&stubs.lease("n").await, success([text("x")])).await;
    assert_eq!(next(&stubs, "first").await.args, [text("own")]);
    // As in Machinery, what the callback says of itself is for its own callbacks.
    stubs.send(Task { on_success: vec![callback()], ..task("b") }).await;
    stubs.record(&stubs.lease("n").await, success([text("x")])).await;
    assert_eq!(next(&stubs, "first").await.args, [text("own"), text("x")]);
}

pub(crate) async fn callbacks_of_failure_get_the_error_before_their_arguments(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let on_error = vec![then("one", "first", &["own"]), then("two", "second", &[])];
    stubs.send(Task { on_error, on_success: vec![then("never", "other", &[])], ..task("a") }).await;
    stubs.record(&stubs.lease("n").await, failure("broken")).await;
    assert_eq!(next(&stubs, "first").await.args, [text("broken"), text("own")]);
    assert_eq!(next(&stubs, "second").await.args, [text("broken")]);
    let never = stubs.tasks().get_state(GetStateRequest { task_id: "never".into() }).await.expect("is known");
    let never = never.into_inner().state.expect("has a state");
    assert_eq!((never.status(), never.failure_reason()), (TaskStatus::Failure, FailureReason::NotRun));
}

pub(crate) async fn callbacks_of_callbacks_are_sent(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let mut deep = then("c9", "n", &[]);
    for level in (1..9).rev() {
        deep = Task { on_success: vec![deep], ..then(&format!("c{level}"), "n", &[]) };
    }
    stubs.send(Task { on_success: vec![deep], ..task("c0") }).await;
    for level in 0..=9 {
        let lease = next(&stubs, "n").await;
        assert_eq!(lease.task_id, format!("c{level}"));
        assert_eq!(lease.args.len(), usize::from(level > 0));
        stubs.record(&lease, success([text("x")])).await;
    }
    assert_eq!(stubs.end("c9").await.status(), TaskStatus::Success);
}

pub(crate) async fn callbacks_wait_until_no_retry_is_left(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(Task { on_error: vec![then("one", "first", &[])], ..task("a") }).await;
    stubs.record(&stubs.lease("n").await, again("not yet")).await;
    let lease = stubs.lease("n").await;
    let known = stubs.tasks().get_state(GetStateRequest { task_id: "one".into() }).await;
    assert!(known.is_err(), "{known:?}");
    stubs.record(&lease, failure("broken")).await;
    assert_eq!(next(&stubs, "first").await.args, [text("broken")]);
}
