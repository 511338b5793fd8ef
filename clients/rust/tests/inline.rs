//! Functions and middleware without a server.

// What a helper meets here fails the test, where it was met.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lineshaft_client::proto::{Arg, FailureReason, TaskStatus};
use lineshaft_client::{
    Context, Error, Failure, FromArg, Inline, IntoArg, Json, Next, Results, Task, ValueError, Worker, WorkerBuilder,
};
use parking_lot::Mutex;

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn add(&self, text: impl Into<String>) {
        self.0.lock().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

fn builder() -> WorkerBuilder {
    Worker::builder("nowhere").register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) })
}

fn three() -> Task {
    Task::new("add").arg(1i64).arg(2i64)
}

/// Notes where an attempt passes.
fn noting(
    trace: &Trace,
    name: &'static str,
) -> impl Fn(Context, Vec<Arg>, Next) -> futures::future::BoxFuture<'static, Result<Results, Failure>> + use<> {
    let trace = trace.clone();
    move |context, args, next| {
        let trace = trace.clone();
        Box::pin(async move {
            trace.add(format!("{name} before attempt {} with {} args", context.attempt(), args.len()));
            let outcome = next.run(context, args).await;
            trace.add(format!("{name} after {}", outcome.as_ref().map_or_else(Failure::message, |_| "success")));
            outcome
        })
    }
}

#[tokio::test]
async fn a_task_runs_without_a_server_and_its_values_are_converted_as_on_the_way() {
    let inline = builder().inline().unwrap();
    let state = inline.run(three().id("mine")).await.unwrap();
    assert_eq!((state.status, state.task_id.as_str(), state.attempt), (TaskStatus::Success, "mine", 1));
    assert_eq!(state.results_as::<i64>(), Ok(3));
    let misfit = inline.run(Task::new("add").arg(1i64).arg("x").retry(5)).await.unwrap();
    assert_eq!(misfit.failure().unwrap().reason, FailureReason::Failed);
    assert_eq!(misfit.error, "argument 1: expected int64, found string");
    let unknown = inline.run(Task::new("nobody")).await;
    assert!(matches!(unknown, Err(Error::Config(text)) if text == "no function \"nobody\" is registered"));
    assert!(Worker::builder("nowhere").inline().is_err(), "mistakes are told as by `build`");
}

/// Fails until its third attempt; then tells its retries.
fn stubborn(later: bool) -> Inline {
    let function = move |context: Context| async move {
        match context.attempt() {
            3 => Ok(context.retries_left()),
            n if later => Err(Failure::retry_later(Duration::from_secs(3600), format!("attempt {n}"))),
            n => Err(Failure::new(format!("attempt {n}"))),
        }
    };
    Worker::builder("nowhere").register("stubborn", function).inline().unwrap()
}

#[tokio::test]
async fn retries_are_made_only_if_asked_for_and_cost_what_they_cost_at_a_server() {
    let task = || Task::new("stubborn").retry(2);
    let once = stubborn(false).run(task()).await.unwrap();
    assert_eq!((once.status, once.error.as_str(), once.attempt), (TaskStatus::Retry, "attempt 1", 1));
    let all = stubborn(false).with_retries().run(task()).await.unwrap();
    assert_eq!((all.attempt, all.results_as::<u32>()), (3, Ok(0)));
    let spent = stubborn(false).with_retries().run(Task::new("stubborn").retry(1)).await.unwrap();
    assert_eq!((spent.status, spent.error.as_str()), (TaskStatus::Failure, "attempt 2"));
    let later = stubborn(true).with_retries().run(task()).await.unwrap();
    assert_eq!(later.results_as::<u32>(), Ok(2), "asking for later costs no retry");
    let never = |_: Context| async { Err::<(), _>(Failure::retry_later(Duration::ZERO, "never")) };
    let inline = Worker::builder("nowhere").register("never", never).inline().unwrap().with_retries();
    assert_eq!(inline.run(Task::new("never")).await.unwrap().attempt, 100);
}

#[tokio::test]
async fn middleware_stands_around_each_attempt_the_first_outermost() {
    let trace = Trace::default();
    let inline = Worker::builder("nowhere")
        .middleware(noting(&trace, "outer"))
        .middleware(noting(&trace, "inner"))
        .register(
            "fails",
            |context: Context| async move { Err::<(), _>(Failure::new(format!("{}", context.attempt()))) },
        )
        .inline()
        .unwrap()
        .with_retries();
    let state = inline.run(Task::new("fails").retry(1)).await.unwrap();
    assert_eq!(state.status, TaskStatus::Failure);
    let lines = [1, 2].map(|n| {
        [
            format!("outer before attempt {n} with 0 args"),
            format!("inner before attempt {n} with 0 args"),
            format!("inner after {n}"),
            format!("outer after {n}"),
        ]
    });
    assert_eq!(trace.take(), lines.concat());
}

#[tokio::test]
async fn middleware_replaces_arguments_context_and_outcome_or_answers_itself() {
    struct Tenant(&'static str);
    let inline = builder()
        .register("who", |context: Context| async move {
            Ok::<_, Failure>(context.value::<Tenant>().map_or("nobody", |tenant| tenant.0).to_owned())
        })
        .register_blocking("asleep", || Err::<(), _>(Failure::new("is never run")))
        .middleware(|context: Context, mut args: Vec<Arg>, next: Next| async move {
            match context.task_name() {
                "add" => {
                    args[0] = 40i64.into_arg();
                    let results = next.run(context, args).await?;
                    let sum = i64::from_arg(results.0.into_iter().next().unwrap_or_default())?;
                    Ok(Results(vec![(sum * 10).into_arg()]))
                }
                "asleep" => Err(Failure::fatal("not now")),
                _ => next.run(context.with_value(Tenant("acme")), args).await,
            }
        })
        .inline()
        .unwrap();
    assert_eq!(inline.run(three()).await.unwrap().results_as::<i64>(), Ok(420));
    assert_eq!(inline.run(Task::new("who")).await.unwrap().results_as::<String>(), Ok("acme".into()));
    let refused = inline.run(Task::new("asleep").retry(9)).await.unwrap();
    assert_eq!((refused.status, refused.error.as_str()), (TaskStatus::Failure, "not now"));
}

#[tokio::test]
async fn panics_are_failures_that_middleware_and_the_failure_handler_see() {
    let trace = Trace::default();
    let told = trace.clone();
    let inline = Worker::builder("nowhere")
        .middleware(noting(&trace, "outer"))
        .middleware(|context: Context, args: Vec<Arg>, next: Next| async move {
            assert!(context.task_name() != "middleware", "by the middleware");
            // Another go within the same attempt.
            match next.clone().run(context.clone(), args.clone()).await {
                Err(_) => next.run(context, args).await,
                outcome => outcome,
            }
        })
        .register("function", |context: Context| {
            assert!(context.task_id().is_empty(), "before its future");
            async { Ok::<_, Failure>(()) }
        })
        .register_blocking("middleware", || Ok::<_, Failure>(()))
        .on_failure(move |_, failure| {
            told.add(format!("told {}", failure.message()));
            async { panic!("the handler's own") }
        })
        .inline()
        .unwrap();
    for (name, text) in [("function", "before its future"), ("middleware", "by the middleware")] {
        let state = inline.run(Task::new(name)).await.unwrap();
        assert_eq!((state.status, state.error), (TaskStatus::Failure, format!("panicked: {text}")));
        let seen = trace.take();
        assert_eq!(seen[1..], [format!("outer after panicked: {text}"), format!("told panicked: {text}")]);
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    id: u64,
    tags: Vec<String>,
}

#[tokio::test]
async fn structs_travel_as_json_and_what_cannot_be_written_is_told_in_time() {
    let inline = Worker::builder("nowhere")
        .register("ship", |context: Context, urgent: bool, Json(mut order): Json<Order>| async move {
            order.tags.push(format!("{urgent} {}", context.arg_codec(1).unwrap_or("plain")));
            Ok::<_, Failure>(Json(order))
        })
        .register("unwritable", || async { Ok::<_, Failure>((1i64, Json(HashMap::from([((1, 2), 3)])))) })
        .inline()
        .unwrap();
    let order = || Order { id: u64::MAX, tags: vec!["a".into()] };
    let state = inline.run(Task::new("ship").arg(true).arg(Json(order()))).await.unwrap();
    let Json(shipped) = state.results_as::<Json<Order>>().unwrap();
    assert_eq!(shipped, Order { tags: vec!["a".into(), "true json".into()], ..order() });
    // By hand, as any Machinery program may send it.
    let state = inline.run(Task::new("ship").arg(false).arg(r#"{"id":1,"tags":[]}"#)).await.unwrap();
    assert_eq!(state.results_as::<Json<Order>>().unwrap().0.tags, ["false plain"]);
    let state = inline.run(Task::new("ship").arg(false).arg("{}").retry(3)).await.unwrap();
    assert_eq!(state.status, TaskStatus::Failure);
    assert!(state.error.starts_with("argument 1: not json: it has another shape"), "{}", state.error);

    let state = inline.run(Task::new("unwritable").retry(3)).await.unwrap();
    assert_eq!(state.status, TaskStatus::Failure, "another attempt would answer the same");
    assert!(state.error.starts_with("result: value 1: not json"), "{}", state.error);
    let task = Task::new("ship").arg(true).arg(Json(HashMap::from([((1, 2), 3)])));
    let error = inline.run(Task::new("outer").on_success(task)).await.unwrap_err();
    assert!(matches!(error, Error::Value(ValueError::Codec { position: 1, .. })), "{error}");
}
