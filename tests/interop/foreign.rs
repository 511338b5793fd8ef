//! Tasks whose states Machinery's programs wrote over ours: they are cancelled, expire and are listed as what they are.

use std::time::Duration;

use lineshaft_client::Task;
use lineshaft_client::proto::{CancelResult, FailureReason, ListTasksRequest, ListedTask, TaskFilter, TaskStatus};
use serde_json::json;

use crate::go;
use crate::ours::{self, Running, Seen};
use crate::support::until;
use crate::support::until::DEADLINE;
use crate::world::*;

/// What fails at Machinery's worker.
const FAILING: &str = "fail_here";
/// What Machinery's delay of a retry is counted from: the next in its sequence is 5 s.
const RETRY: Duration = Duration::from_secs(3);

/// A task of ours that failed at a Machinery worker, which is gone: it waits for its retry in a state of Machinery's.
async fn retried_by_machinery(world: &World, task: Task) -> String {
    let mut machinery = go::Worker::start(world, "go", 1, &[FAILING]).await;
    let sent = world.client.send(task.retry(3).retry_timeout(RETRY)).await.unwrap();
    let id = sent.id().to_owned();
    machinery.saw("end", 1).await;
    let mut connection = world.connection().await;
    until("its retry waits", async || {
        let delayed: u64 = redis::cmd("ZCARD").arg("delayed_tasks").query_async(&mut connection).await.unwrap();
        (delayed == 1).then_some(())
    })
    .await;
    let state: String = redis::cmd("GET").arg(&id).query_async(&mut connection).await.unwrap();
    // Its retry is a sending like any other to Machinery, and has no generation.
    assert!(state.contains(r#""State":"PENDING""#) && !state.contains("Lineshaft"), "{state}");
    machinery.kill().await;
    id
}

/// A worker of ours that takes [`FAILING`], and what it was given.
fn taker(world: &World) -> (Running, Seen) {
    let seen = Seen::default();
    (ours::run(ours::worker(world).register_function(FAILING, seen.echo())), seen)
}

async fn listed(world: &World, statuses: &[TaskStatus]) -> Vec<ListedTask> {
    let statuses = statuses.iter().map(|status| i32::from(*status)).collect();
    let request =
        ListTasksRequest { filter: Some(TaskFilter { statuses, ..Default::default() }), ..Default::default() };
    world.client.task_service().list_tasks(request).await.unwrap().into_inner().tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_machinery_tries_again_is_cancelled_and_not_run_by_ours() {
    needs_machinery!();
    let world = World::new().await;
    let id = retried_by_machinery(&world, Task::new(FAILING)).await;
    assert_eq!(world.client.result(&id).cancel().await.unwrap(), CancelResult::Removed);
    assert_eq!(go::delayed(&world).await, Vec::<String>::new(), "nobody else comes upon it either");
    let (worker, seen) = taker(&world);
    let end = world.client.result(&id).wait(DEADLINE).await.unwrap();
    assert_eq!(end.failure().unwrap().reason, FailureReason::Cancelled);
    assert_eq!(go::result(&world, &id).await.error, "lineshaft: cancelled");
    // The same id, sent anew, is another sending, and runs.
    world.client.send(Task::new(FAILING).id(&id)).await.unwrap().get::<()>(DEADLINE).await.unwrap();
    assert_eq!(seen.tasks(), [id]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_machinery_sent_is_cancelled_before_ours_run_it_and_runs_when_it_is_sent_anew() {
    needs_machinery!();
    let world = World::new().await;
    let mut task = go::task(FAILING, &[]);
    task["UUID"] = json!("theirs");
    go::send(&world, std::slice::from_ref(&task)).await;
    assert_eq!(world.client.result("theirs").cancel().await.unwrap(), CancelResult::Removed);
    assert_eq!(go::pending(&world).await, Vec::<String>::new(), "nobody else comes upon it either");
    let (worker, seen) = taker(&world);
    let end = world.client.result("theirs").wait(DEADLINE).await.unwrap();
    assert_eq!(end.failure().unwrap().reason, FailureReason::Cancelled);
    until("the mark is gone", async || {
        let marks: u64 =
            redis::cmd("HLEN").arg("{lineshaft}:marks").query_async(&mut world.connection().await).await.unwrap();
        (marks == 0).then_some(())
    })
    .await;
    assert_eq!(seen.tasks(), Vec::<String>::new());
    go::send(&world, &[task]).await;
    until("it runs", async || (seen.tasks() == ["theirs"]).then_some(())).await;
    assert_eq!(go::result(&world, "theirs").await.state, "SUCCESS");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_machinery_tries_again_expires() {
    needs_machinery!();
    let world = World::new().await;
    // Long enough for its first attempt, and over when the retry is due.
    let span = Duration::from_millis(2_500);
    let id = retried_by_machinery(&world, Task::new(FAILING).expires_in(span)).await;
    until("its time is over", async || {
        let sent = listed(&world, &[]).await[0].state.clone().unwrap().created_at.unwrap();
        let sent = sent.seconds * 1_000_000_000 + i64::from(sent.nanos);
        (ours::now() > sent + i64::try_from(span.as_nanos()).unwrap()).then_some(())
    })
    .await;
    let (worker, seen) = taker(&world);
    let end = world.client.result(&id).wait(DEADLINE).await.unwrap();
    assert_eq!(end.failure().unwrap().reason, FailureReason::Expired);
    assert_eq!(seen.tasks(), Vec::<String>::new());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_listed_with_the_time_of_their_sending_whoever_wrote_their_states() {
    needs_machinery!();
    let world = World::new().await;
    let id = retried_by_machinery(&world, Task::new(FAILING).expires_in(Duration::from_secs(3_600))).await;
    let before = ours::now();
    let theirs = go::send(&world, &[go::task("go_work", &[("int64", json!(1))])]).await;
    let waiting = listed(&world, &[TaskStatus::Pending]).await;
    let [first, second] = &waiting[..] else { panic!("{waiting:?}") };
    let sent = |listed: &ListedTask| {
        let state = listed.state.clone().unwrap();
        let at = state.created_at.unwrap();
        (state.task_id, state.task_name, at.seconds * 1_000_000_000 + i64::from(at.nanos))
    };
    // What is delayed stands behind what is due.
    let (first, second) = (sent(first), sent(second));
    assert_eq!((first.0.as_str(), first.1.as_str()), (theirs[0].as_str(), "go_work"));
    assert_eq!((second.0.as_str(), second.1.as_str()), (id.as_str(), FAILING));
    // The retry has the time of its own sending, not the one that Machinery wrote when it sent it again.
    assert!((1..before).contains(&second.2) && first.2 >= before, "{first:?} {second:?}");
}
