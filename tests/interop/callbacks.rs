//! `OnSuccess` and `OnError` as a Machinery producer sets them, where a worker of ours runs the task that has them.

use lineshaft_client::proto::Arg;
use lineshaft_client::{Failure, IntoArg};
use serde_json::{Value, json};

use crate::go;
use crate::ours::{self, Seen};
use crate::world::*;

fn int(value: i64) -> (&'static str, Value) {
    ("int64", json!(value))
}

/// A task with an id, which sends these when it has succeeded.
fn named(id: &str, name: &str, args: &[(&str, Value)], on_success: &[Value]) -> Value {
    let mut task = go::task(name, args);
    task["UUID"] = json!(id);
    task["OnSuccess"] = json!(on_success);
    task
}

async fn value_of(world: &World, id: &str) -> i64 {
    let ended = go::result(world, id).await;
    assert_eq!(ended.state, "SUCCESS", "{id}: {ended:?}");
    ended.results[0].1.as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_passed_down_a_chain_as_machinery_passes_them() {
    needs_machinery!();
    let world = World::new().await;
    let worker = ours::run(ours::scenarios(ours::worker(&world)));
    let third = named("chain-3", "multiply", &[int(4)], &[]);
    let second = named("chain-2", "add", &[int(5), int(6)], &[third]);
    go::send(&world, &[named("chain-1", "add", &[int(2), int(2)], &[second])]).await;
    assert_eq!(value_of(&world, "chain-1").await, 4);
    assert_eq!(value_of(&world, "chain-2").await, 15);
    assert_eq!(value_of(&world, "chain-3").await, 60);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immutable_task_passes_nothing_on_and_an_immutable_callback_is_given_all_the_same() {
    needs_machinery!();
    let world = World::new().await;
    let worker = ours::run(ours::scenarios(ours::worker(&world)));
    let mut immutable = named("parent", "add", &[int(2)], &[named("untouched", "add", &[int(7)], &[])]);
    immutable["Immutable"] = json!(true);
    let mut callback = named("given", "add", &[int(7)], &[]);
    callback["Immutable"] = json!(true);
    go::send(&world, &[immutable, named("other", "add", &[int(2)], &[callback])]).await;
    assert_eq!(value_of(&world, "untouched").await, 7);
    assert_eq!(value_of(&world, "given").await, 9);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_tells_its_text_before_the_arguments_and_only_once_no_retry_is_left() {
    needs_machinery!();
    let world = World::new().await;
    let seen = Seen::default();
    let worker = ours::worker(&world)
        .register("fails", || async { Err::<(), _>(Failure::new("boom")) })
        .register_function("told", seen.echo());
    let worker = ours::run(worker);
    let mut told = named("told-1", "told", &[int(1)], &[]);
    told["Immutable"] = json!(true);
    let mut task = named("fails-1", "fails", &[], &[named("never", "told", &[], &[])]);
    task["OnError"] = json!([told]);
    task["RetryCount"] = json!(1);
    go::send(&world, &[task]).await;
    let ended = go::result(&world, "fails-1").await;
    assert_eq!((ended.state.as_str(), ended.error.as_str()), ("FAILURE", "boom"));
    let ended = go::result(&world, "told-1").await;
    assert_eq!(ended.results, [("string".to_owned(), json!("boom")), ("int64".to_owned(), json!(1))]);
    let args: [Arg; 2] = ["boom".into_arg(), 1i64.into_arg()];
    assert_eq!(seen.args("told-1"), args);
    assert_eq!(seen.tasks(), ["told-1"], "once, and nothing for a success");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_cross_from_ours_to_machinery_and_back() {
    needs_machinery!();
    let world = World::new().await;
    let worker = ours::worker(&world).register("double", |n: i64| async move { Ok::<i64, Failure>(2 * n) });
    let worker = ours::run(worker);
    let machinery = go::Worker::start(&world, "go", 2, &["add"]).await;
    let last = named("last", "double", &[], &[]);
    let middle = named("middle", "add", &[int(1)], &[last]);
    go::send(&world, &[named("first", "double", &[int(5)], &[middle])]).await;
    assert_eq!(value_of(&world, "first").await, 10);
    assert_eq!(value_of(&world, "middle").await, 11);
    assert_eq!(value_of(&world, "last").await, 22);
    assert_eq!(machinery.tasks("start"), ["middle"]);
    worker.stop().await;
}
