//! Machinery's own integration scenarios of single tasks, in both directions, and what each side reads of an end.

use std::time::Duration;

use lineshaft_client::proto::{TaskStatus, WatchStateRequest};
use lineshaft_client::{Failure, Task};
use serde_json::{Value, json};

use crate::go;
use crate::ours;
use crate::support::until::{DEADLINE, soon};
use crate::world::*;

/// Delay of a task that waits.
const DELAY: Duration = Duration::from_millis(300);

/// A task, and its end: results with their types, or the text of the error.
type Scenario = (&'static str, Vec<(&'static str, Value)>, Result<Vec<(&'static str, Value)>, &'static str>);

fn scenarios() -> Vec<Scenario> {
    let int = |n: i64| ("int64", json!(n));
    let text = |text: &str| ("string", json!(text));
    vec![
        ("add", vec![int(1), int(1)], Ok(vec![int(2)])),
        ("add", vec![], Ok(vec![int(0)])),
        ("add", vec![int(9_007_199_254_740_993), int(-1)], Ok(vec![int(9_007_199_254_740_992)])),
        ("multiply", vec![int(2), int(4), int(11)], Ok(vec![int(88)])),
        ("sum", vec![("[]int64", json!([1, 2]))], Ok(vec![int(3)])),
        ("return_just_error", vec![text("Test error"), ("bool", json!(true))], Err("Test error")),
        ("return_just_error", vec![text("<é> & \"\u{2028}"), ("bool", json!(true))], Err("<é> & \"\u{2028}")),
        ("return_just_error", vec![text("Test error"), ("bool", json!(false))], Ok(vec![])),
        (
            "return_multiple_values",
            vec![text("foo"), text("bar"), ("bool", json!(false))],
            Ok(vec![text("foo"), text("bar")]),
        ),
        ("return_multiple_values", vec![text(""), text(""), ("bool", json!(true))], Err("some error")),
        ("panic", vec![], Err("oops")),
    ]
}

const NAMES: [&str; 7] =
    ["add", "multiply", "sum", "return_just_error", "return_multiple_values", "panic", "delay_test"];

fn ends_as(ended: &go::Ended, name: &str, expected: &Result<Vec<(&'static str, Value)>, &'static str>) {
    let owned = |values: &Vec<(&str, Value)>| -> Vec<(String, Value)> {
        values.iter().map(|(label, value)| ((*label).to_owned(), value.clone())).collect()
    };
    assert_eq!(ended.name, name);
    match expected {
        Ok(values) => assert_eq!((ended.state.as_str(), &ended.results), ("SUCCESS", &owned(values)), "{name}"),
        // Each language tells a panic in words of its own; Machinery's text is in ours.
        Err(text) => assert!(ended.state == "FAILURE" && ended.error.contains(text), "{name}: {ended:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_machinery_sends_ours_work_and_machinery_reads_the_ends() {
    needs_machinery!();
    let world = World::new().await;
    let worker = ours::run(ours::scenarios(ours::worker(&world)));
    let tasks: Vec<Value> = scenarios().iter().map(|(name, args, _)| go::task(name, args)).collect();
    let ids = go::send(&world, &tasks).await;
    for ((name, _, expected), ended) in scenarios().iter().zip(go::results(&world, &ids).await) {
        ends_as(&ended, name, expected);
        if let (Err(text), true) = (expected, *name != "panic") {
            assert_eq!(ended.error, *text);
        }
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_send_machinery_works_and_both_read_the_ends() {
    needs_machinery!();
    let world = World::new().await;
    let _worker = go::Worker::start(&world, "go", 2, &NAMES).await;
    for (name, args, expected) in scenarios() {
        let task = args.iter().fold(Task::new(name), |task, (label, value)| match (*label, value) {
            ("int64", value) => task.arg(value.as_i64().unwrap()),
            ("bool", value) => task.arg(value.as_bool().unwrap()),
            ("string", value) => task.arg(value.as_str().unwrap()),
            (_, value) => task.arg(value.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect::<Vec<_>>()),
        });
        let sent = world.client.send(task).await.unwrap();
        let state = sent.wait(DEADLINE).await.unwrap();
        assert_eq!(state.task_name, name);
        match &expected {
            Ok(values) => assert_eq!((state.is_success(), state.results.len()), (true, values.len()), "{state:?}"),
            Err(text) => assert_eq!((state.is_failure(), state.error.as_str()), (true, *text)),
        }
        ends_as(&go::result(&world, sent.id()).await, name, &expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_a_task_here_sees_what_a_machinery_worker_makes_of_it() {
    needs_machinery!();
    let world = World::new().await;
    let sent = world.client.send(Task::new("add").arg(2i64).arg(3i64)).await.unwrap();
    let request = WatchStateRequest { task_id: sent.id().to_owned(), ..Default::default() };
    let mut watched = world.client.task_service().watch_state(request).await.unwrap().into_inner();
    let first = soon("the state", watched.message()).await.unwrap().unwrap().state.unwrap();
    assert_eq!(first.status(), TaskStatus::Pending);
    let _worker = go::Worker::start(&world, "go", 2, &NAMES).await;
    let mut statuses = vec![first.status()];
    let mut last = first;
    while let Some(next) = soon("the end", watched.message()).await.unwrap() {
        last = next.state.unwrap();
        statuses.push(last.status());
    }
    let rank = |status: &TaskStatus| {
        let order = [TaskStatus::Pending, TaskStatus::Received, TaskStatus::Started, TaskStatus::Success];
        order.iter().position(|known| known == status).unwrap()
    };
    assert!(statuses.is_sorted_by_key(rank), "{statuses:?}");
    assert_eq!(last.status(), TaskStatus::Success);
    assert_eq!(sent.get::<i64>(DEADLINE).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_task_runs_no_earlier_wherever_it_was_sent_and_whoever_moves_it() {
    needs_machinery!();
    let mut world = World::new().await;
    // Sent by Machinery, moved and worked by ours.
    let worker = ours::run(ours::scenarios(ours::worker(&world)));
    let eta = ours::now() + i64::try_from(DELAY.as_nanos()).unwrap();
    let mut task = go::task("delay_test", &[]);
    task["ETA"] = json!(lineshaft::task::Timestamp::from_wall(lineshaft::clock::WallTime(eta as u64)).to_string());
    let ids = go::send(&world, &[task]).await;
    assert!(go::delayed(&world).await == ids || ours::now() >= eta);
    let ended = go::result(&world, &ids[0]).await;
    assert!(ended.results[0].1.as_i64().unwrap() >= eta, "{ended:?}");
    worker.stop().await;
    // Sent by us, moved by ours, worked by Machinery.
    let machinery = go::Worker::start(&world, "go", 2, &NAMES).await;
    let due = ours::now() + i64::try_from(DELAY.as_nanos()).unwrap();
    let sent = world.client.send(Task::new("delay_test").delay(DELAY)).await.unwrap();
    assert!(sent.get::<i64>(DEADLINE).await.unwrap() >= due);
    drop(machinery);
    // Sent by us; with no server of ours only Machinery moves it.
    let due = ours::now() + i64::try_from(DELAY.as_nanos()).unwrap();
    let sent = world.client.send(Task::new("delay_test").delay(DELAY)).await.unwrap();
    world.server.kill();
    let machinery = go::Worker::start(&world, "alone", 2, &NAMES).await;
    let ended = go::result(&world, sent.id()).await;
    assert!(ended.results[0].1.as_i64().unwrap() >= due, "{ended:?}");
    drop(machinery);
    world.server.restart();
    assert!(world.client.result(sent.id()).state().await.unwrap().is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_failure_of_ours_is_an_end_in_machinery_whatever_retries_are_left() {
    needs_machinery!();
    let world = World::new().await;
    let worker = ours::worker(&world).register("fatal", || async { Err::<(), _>(Failure::fatal("never again")) });
    let worker = ours::run(worker);
    let mut task = go::task("fatal", &[]);
    task["RetryCount"] = json!(5);
    let ids = go::send(&world, &[task]).await;
    let ended = go::result(&world, &ids[0]).await;
    assert_eq!((ended.state.as_str(), ended.error.as_str()), ("FAILURE", "never again"));
    worker.stop().await;
}
