//! What is no task, or cannot be run: in the list, among the delayed tasks, in arguments.

use lineshaft_client::proto::{DeadTask, ListDeadTasksRequest};
use lineshaft_client::{Failure, Task};
use serde_json::json;

use crate::go;
use crate::ours;
use crate::support::until;
use crate::world::*;

async fn dead(world: &World, count: usize) -> Vec<DeadTask> {
    until("tasks are set aside", async || {
        let listed = world.queues().list_dead_tasks(ListDeadTasksRequest::default()).await.unwrap();
        Some(listed.into_inner().dead_tasks).filter(|dead| dead.len() >= count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_set_aside_here_and_a_machinery_worker_loses_nothing_by_it() {
    needs_machinery!();
    let world = World::new().await;
    let mut connection = world.connection().await;
    let truncated = r#"{"UUID":"cut","Name":"add","Priority":256}"#;
    run(&mut connection, &["RPUSH", QUEUE, "garbage", truncated]).await;
    run(&mut connection, &["ZADD", "delayed_tasks", "1", "late garbage"]).await;
    let worker = ours::run(ours::worker(&world).register("our_work", || async { Ok::<(), Failure>(()) }));
    let found = dead(&world, 3).await;
    let mut bodies: Vec<_> = found.iter().map(|dead| String::from_utf8_lossy(&dead.undecodable_body)).collect();
    bodies.sort();
    assert_eq!(bodies, ["garbage", "late garbage", truncated]);
    assert!(found.iter().all(|dead| !dead.undecodable.is_empty()));
    assert_eq!(go::result(&world, "cut").await.state, "FAILURE", "its sender is told");
    // A worker of Machinery's restarts its consumer on each such message, and loses others by it.
    let machinery = go::Worker::start(&world, "go", 2, &["add"]).await;
    let mut sent = Vec::new();
    for n in 0..30i64 {
        sent.push(world.client.send(Task::new("add").arg(n)).await.unwrap().id().to_owned());
        world.client.send(Task::new("our_work")).await.unwrap();
    }
    for (n, ended) in go::results(&world, &sent).await.into_iter().enumerate() {
        assert_eq!(ended.results, [("int64".to_owned(), json!(n))]);
    }
    assert_eq!(machinery.log(), "", "its consumer never restarted");
    assert!(go::pending(&world).await.is_empty() && go::delayed(&world).await.is_empty());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_cannot_be_read_end_with_machinerys_text_on_either_side() {
    needs_machinery!();
    let world = World::new().await;
    let mut connection = world.connection().await;
    let bad = [
        ("unknown", r#"[{"Type":"int63","Value":1}]"#),
        ("fraction", r#"[{"Type":"int64","Value":1.5}]"#),
        ("text", r#"[{"Type":"int64","Value":"1"}]"#),
        ("null", r#"[{"Type":"string","Value":null}]"#),
        ("negative", r#"[{"Type":"uint8","Value":-1}]"#),
        ("number", r#"[{"Type":"bool","Value":1}]"#),
        ("item", r#"[{"Type":"[]string","Value":["a",null]}]"#),
    ];
    let body = |side: &str, (id, args): (&str, &str)| {
        format!(r#"{{"UUID":"{side}-{id}","Name":"add","RetryCount":3,"Args":{args}}}"#)
    };
    for one in bad {
        run(&mut connection, &["RPUSH", QUEUE, &body("ours", one)]).await;
    }
    let worker = ours::run(ours::scenarios(ours::worker(&world)));
    let ours = go::results(&world, &bad.map(|(id, _)| format!("ours-{id}"))).await;
    worker.stop().await;
    // One at a time: each costs that worker its consumer, and tasks with it.
    let mut theirs = Vec::new();
    for one in bad {
        run(&mut connection, &["RPUSH", QUEUE, &body("go", one)]).await;
        let id = format!("go-{}", one.0);
        let mut machinery = go::Worker::start(&world, &id, 1, &["add"]).await;
        theirs.push(go::result(&world, &id).await);
        machinery.kill().await;
    }
    let texts =
        |ended: &[go::Ended]| ended.iter().map(|ended| (ended.state.clone(), ended.error.clone())).collect::<Vec<_>>();
    assert_eq!(texts(&ours), texts(&theirs));
}
