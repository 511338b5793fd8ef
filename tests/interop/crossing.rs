//! Tasks that begin on one side and end on the other.

use std::time::Duration;

use lineshaft_client::{Context, Failure, Task};
use serde_json::json;

use crate::go;
use crate::ours;
use crate::support::until::{DEADLINE, soon};
use crate::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_in_machinery_is_retried_here_with_its_retries_counted() {
    needs_machinery!();
    let world = World::new().await;
    let mut machinery = go::Worker::start(&world, "go", 1, &["fail_here"]).await;
    let mut theirs = go::task("fail_here", &[]);
    theirs["RetryCount"] = json!(3);
    let theirs = go::send(&world, &[theirs]).await.remove(0);
    let own = world.client.send(Task::new("fail_here").retry(3)).await.unwrap();
    machinery.saw("end", 2).await;
    machinery.kill().await;
    let failed = machinery.tasks("end");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = ours::worker(&world).register("fail_here", move |context: Context| {
        let _ = tell.send((context.task_id().to_owned(), context.retries_left()));
        async { Ok::<_, Failure>("done here") }
    });
    let worker = ours::run(worker);
    for _ in 0..2 {
        let (id, retries) = soon("an attempt", told.recv()).await.unwrap();
        let before = failed.iter().filter(|failed| **failed == id).count();
        assert_eq!(retries as usize, 3 - before, "each attempt in Machinery cost one");
    }
    for id in [&theirs, own.id()] {
        let ended = go::result(&world, id).await;
        assert_eq!(ended.results, [("string".to_owned(), json!("done here"))]);
        assert_eq!(world.client.result(id).get::<String>(DEADLINE).await.unwrap(), "done here");
    }
    worker.stop().await;
    assert!(told.try_recv().is_err(), "each ran once here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_here_is_retried_in_machinery() {
    needs_machinery!();
    let world = World::new().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let later = tell.clone();
    let worker = ours::worker(&world)
        .register("succeed_here", move |context: Context| {
            let _ = tell.send(context.task_id().to_owned());
            async { Err::<(), _>(Failure::new("failed here")) }
        })
        .register("try_later", move |context: Context, _: i64| {
            let _ = later.send(context.task_id().to_owned());
            async { Err::<(), _>(Failure::retry_later(Duration::from_secs(2), "not now")) }
        });
    let worker = ours::run(worker);
    let mut theirs = go::task("succeed_here", &[]);
    theirs["RetryCount"] = json!(1);
    let theirs = go::send(&world, &[theirs, go::task("try_later", &[("int64", json!(60_000))])]).await;
    let own =
        world.client.send(Task::new("succeed_here").retry(1).retry_timeout(Duration::from_secs(1))).await.unwrap();
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(soon("an attempt", told.recv()).await.unwrap());
    }
    worker.stop().await;
    let machinery = go::Worker::start(&world, "go", 2, &["succeed_here", "try_later"]).await;
    let ended = go::results(&world, &[theirs[0].clone(), own.id().to_owned(), theirs[1].clone()]).await;
    let texts: Vec<_> = ended.iter().map(|ended| ended.results[0].1.as_str().unwrap()).collect();
    // Machinery's function asks for another time unless it has been given one: it was, by ours.
    assert_eq!(texts, ["done in Go", "done in Go", "at last"]);
    let mut run = machinery.saw("end", 3).await;
    run.sort();
    begun.sort();
    assert_eq!(run, begun, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_to_and_fro_until_its_retries_are_used_up() {
    needs_machinery!();
    let world = World::new().await;
    let own = world.client.send(Task::new("fail_here").retry(2)).await.unwrap();
    // First there, then here, then there again.
    let mut machinery = go::Worker::start(&world, "first", 1, &["fail_here"]).await;
    machinery.saw("end", 1).await;
    machinery.kill().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = ours::worker(&world).register("fail_here", move |context: Context| {
        let _ = tell.send(context.retries_left());
        async { Err::<(), _>(Failure::new("failed here")) }
    });
    let worker = ours::run(worker);
    assert_eq!(soon("an attempt here", told.recv()).await.unwrap(), 1);
    worker.stop().await;
    let _machinery = go::Worker::start(&world, "second", 1, &["fail_here"]).await;
    let state = own.wait(DEADLINE).await.unwrap();
    assert_eq!((state.is_failure(), state.error.as_str()), (true, "failed in Go"));
    let ended = go::result(&world, own.id()).await;
    assert_eq!((ended.state.as_str(), ended.error.as_str()), ("FAILURE", "failed in Go"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_machinery_wants_later_is_worked_here() {
    needs_machinery!();
    let world = World::new().await;
    let mut machinery = go::Worker::start(&world, "go", 1, &["try_later"]).await;
    let own = world.client.send(Task::new("try_later").arg(700i64)).await.unwrap();
    machinery.saw("end", 1).await;
    machinery.kill().await;
    let worker = ours::run(ours::worker(&world).register("try_later", |n: i64| async move { Ok::<_, Failure>(n) }));
    assert_eq!(own.get::<i64>(DEADLINE).await.unwrap(), 700);
    worker.stop().await;
}
