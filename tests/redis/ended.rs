//! The list of tasks that ended: through a whole server, on one Redis and on a cluster, beside other programs, and its bounds.

use std::process::Command;
use std::time::Duration;

use lineshaft::backend::redis::Backend;
use lineshaft::backend::{Backend as _, Ended, EndedQuery, StateWrite, Written};
use lineshaft::clock::{Clock as _, SystemClock, WallTime};
use lineshaft::task::{FailureReason, Status, TaskId, TaskState, Timestamp};
use lineshaft_client::{Client, Failure, Task, Worker};

use crate::cost::processor;
use crate::support::redis::Redis;
use crate::support::redis_cluster::Pooled;
use crate::support::until::{DEADLINE, soon};
use crate::support::{Options, Process};
use crate::world::*;

/// Tasks that end well, and tasks that fail.
const GOOD: usize = 150;
const BAD: usize = 30;

/// The list, as `redis-cli` sees it.
const LIST: &str = "{lineshaft}:ended";

/// The ids that `lineshaft tasks` prints, sorted.
fn tasks(server: &Process, filter: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(["tasks", "--json", "--limit", "0", "--server", &server.url()])
        .args(filter)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let id = |line: &str| {
        let task: serde_json::Value = serde_json::from_str(line).unwrap();
        task["task_id"].as_str().unwrap().to_owned()
    };
    let mut ids: Vec<String> = text.lines().map(id).collect();
    ids.sort();
    ids
}

/// Sends tasks, runs them, and answers the ids of those that ended well and of those that failed, sorted.
async fn run_all(server: &Process) -> [Vec<String>; 2] {
    let client = Client::connect(server.url()).await.unwrap();
    let good = |_: String| async { Ok::<_, Failure>("done".to_owned()) };
    let bad = |_: String| async { Err::<String, _>(Failure::fatal("no luck")) };
    let worker = Worker::builder(&client).queue("q").concurrency(32).register("good", good).register("bad", bad);
    let worker = worker.build().unwrap();
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());
    let mut ids = [("good", GOOD), ("bad", BAD)].map(|(name, count)| (name, count, Vec::new()));
    for (name, count, ids) in &mut ids {
        let sent = client.send_all((0..*count).map(|_| Task::new(*name).queue("q").arg("x"))).await;
        for result in sent {
            let result = result.unwrap();
            let _ = result.get::<String>(DEADLINE).await;
            ids.push(result.id().to_owned());
        }
        ids.sort();
    }
    stopper.stop();
    soon("the worker stops", working).await.unwrap().unwrap();
    ids.map(|(_, _, ids)| ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_ended_are_printed_until_they_run_again_or_another_program_says_otherwise() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let options = Options::default().env("BROKER", &redis.url());
    let mut server = Process::start(&directory.path().join("data"), options);
    let [good, bad] = run_all(&server).await;
    assert_eq!(tasks(&server, &["state=success"]), good);
    assert_eq!(tasks(&server, &["state=failure", "reason=failed", "name=bad"]), bad);
    // One entry for many tasks, however they came.
    let mut connection = redis.connection().await;
    let entries: usize = redis::cmd("XLEN").arg(LIST).query_async(&mut connection).await.unwrap();
    assert!((1..GOOD + BAD).contains(&entries), "{entries} entries");

    // Deleted, stored anew by a Machinery worker, and of another type.
    let machinery = format!(r#"{{"TaskUUID":"{}","State":"SUCCESS","Results":null,"Error":""}}"#, good[1]);
    run(&mut connection, &["DEL", &good[0]]).await;
    run(&mut connection, &["SET", &good[1], &machinery]).await;
    run(&mut connection, &["DEL", &good[2]]).await;
    run(&mut connection, &["RPUSH", &good[2], "x"]).await;
    assert_eq!(tasks(&server, &["state=success"]), good[3..]);
    server.kill();
    server.restart();
    assert_eq!(tasks(&server, &["state=success"]), good[3..]);
    assert_eq!(tasks(&server, &[]).len(), GOOD - 3 + BAD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_ended_on_a_cluster_are_printed() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(&directory.path().join("data"), Options::default().env("BROKER", &cluster.url()));
    let [good, bad] = run_all(&server).await;
    // In the list behind the states: the last of them a moment later.
    crate::support::until("all are listed", async || {
        (tasks(&server, &["state=success"]) == good && tasks(&server, &["state=failure"]) == bad).then_some(())
    })
    .await;
}

/// A state of the task with this number, at `now`.
fn state(n: usize, generation: u64, status: Status, now: WallTime) -> StateWrite {
    let at = Timestamp::from_wall(now);
    let state = TaskState {
        task_id: TaskId::new(&format!("task_5e0e0c5c-4a39-4d5c-8d0c-{n:012}")).unwrap(),
        task_name: "work".to_owned(),
        status,
        results: None,
        error: String::new(),
        reason: FailureReason::Unknown,
        attempt: 1,
        releases: 0,
        generation,
        created_at: at,
        updated_at: at,
    };
    StateWrite { state, keep: Duration::from_secs(3_600) }
}

async fn end_all(backend: &Backend, count: usize, now: WallTime) {
    let all: Vec<StateWrite> = (0..count).map(|n| state(n, 1, Status::Success, now)).collect();
    for some in all.chunks(64) {
        assert!(backend.write(some, now).await.iter().all(|answer| *answer == Ok(Written::Applied)));
    }
}

async fn sweep(backend: &Backend, now: WallTime) {
    while backend.sweep(now).await.unwrap() > 0 {}
}

/// The ids that are listed, the newest first.
async fn listed(backend: &Backend, now: WallTime) -> Vec<TaskId> {
    let (mut ids, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let query = EndedQuery { after: after.as_deref(), max: 1_000, bytes_max: usize::MAX };
        let page = Ended::ended(backend, &query, now).await.unwrap();
        ids.extend(page.states.into_iter().map(|state| state.task_id));
        match page.next {
            None => return ids,
            next => after = next,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_too_large_forgets_its_oldest_and_no_state() {
    needs_redis!();
    const MOST: u64 = 100_000;
    const COUNT: usize = 6_000;
    let redis = Redis::start(&[]).await;
    let backend = Backend::new(redis.link().await).with_list_bytes_max(MOST);
    let now = SystemClock.wall();
    end_all(&backend, COUNT, now).await;
    assert_eq!(listed(&backend, now).await.len(), COUNT);
    sweep(&backend, now).await;
    let mut connection = redis.connection().await;
    let usage = redis::cmd("MEMORY").arg("USAGE").arg(LIST).query_async(&mut connection).await;
    let used: u64 = usage.unwrap();
    assert!(used <= MOST && used > MOST / 2, "{used} bytes");
    let left = listed(&backend, now).await;
    let newest: Vec<TaskId> = (0..COUNT).rev().map(|n| state(n, 1, Status::Success, now).state.task_id).collect();
    assert!(left.len() > 500 && left[..] == newest[..left.len()], "{} are left", left.len());
    assert!(backend.read(&newest, now).await.unwrap().iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_place_of_the_list_keeps_no_state_from_being_stored() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let backend = Backend::new(redis.link().await);
    run(&mut redis.connection().await, &["SET", LIST, "something"]).await;
    let now = SystemClock.wall();
    end_all(&backend, 10, now).await;
    let query = EndedQuery { after: None, max: 10, bytes_max: usize::MAX };
    assert!(Ended::ended(&backend, &query, now).await.is_err());
}

/// `LINESHAFT_MEASURE=1 cargo test --release --test redis ended::cost -- --nocapture`. Both are compared with a state that
/// is there, and replace it; only ends are listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cost_of_listing() {
    needs_redis!();
    if std::env::var_os("LINESHAFT_MEASURE").is_none() {
        return;
    }
    let redis = Redis::start(&[]).await;
    let backend = Backend::new(redis.link().await);
    let (pid, now) = (redis.pid().await, SystemClock.wall());
    println!("batch  no end  an end  swept (µs of Redis for each state)");
    for batch in [1, 16, 64, 256] {
        let rounds = 20_000 / batch;
        let mut spent = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for (place, status) in [Status::Started, Status::Success].into_iter().enumerate() {
                let generation = u64::try_from(round).unwrap() + 1;
                let states: Vec<_> = (0..batch).map(|n| state(n, generation, status, now)).collect();
                let before = processor(pid);
                let written = backend.write(&states, now).await;
                assert!(written.iter().all(|answer| *answer == Ok(Written::Applied)), "{round} {written:?}");
                spent[place].push(processor(pid) - before);
            }
        }
        let entries: usize = redis::cmd("XLEN").arg(LIST).query_async(&mut redis.connection().await).await.unwrap();
        assert_eq!(entries, rounds);
        let before = processor(pid);
        sweep(&backend, now.plus(Duration::from_secs(3_600))).await;
        let swept = processor(pid) - before;
        let left: usize = redis::cmd("XLEN").arg(LIST).query_async(&mut redis.connection().await).await.unwrap();
        assert_eq!(left, 0);
        // The middle one: now and then Redis does something else too.
        let [other, end] = spent.map(|mut spent: Vec<f64>| {
            spent.sort_by(f64::total_cmp);
            spent[spent.len() / 2] / batch as f64
        });
        let swept = swept / (rounds * batch) as f64;
        println!("{batch:5}  {other:6.2}  {end:6.2}  {swept:5.2}");
        run(&mut redis.connection().await, &["FLUSHALL"]).await;
    }
}
