//! `kill -9`: what a worker of Machinery takes with it, and that nothing of ours takes anything.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lineshaft_client::{Failure, Task};
use serde_json::json;

use crate::go;
use crate::ours;
use crate::support::until;
use crate::world::*;

/// Attempts that a worker of Machinery runs at once.
const CONCURRENCY: usize = 2;
/// Messages outside Redis because of one such worker, at most: running, buffered, and one in each hand-over.
const HELD_MAX: u64 = 2 * CONCURRENCY as u64 + 2;
/// Tasks sent to be killed with.
const TASKS: usize = 30;
/// Tasks that our worker and our server are killed among.
const OF_OURS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_machinery_worker_takes_what_it_holds_and_no_more() {
    needs_machinery!();
    let world = World::new().await;
    let mut connection = world.connection().await;
    let mut sent = Vec::new();
    for _ in 0..TASKS {
        sent.push(world.client.send(Task::new("hold")).await.unwrap());
    }
    let mut machinery = go::Worker::start(&world, "go", CONCURRENCY as u32, &["hold"]).await;
    machinery.saw("start", CONCURRENCY).await;
    machinery.kill().await;
    let left = length(&mut connection, QUEUE).await;
    assert!(left >= TASKS as u64 - HELD_MAX, "{left} of {TASKS} are left");
    let worker = ours::run(ours::worker(&world).register("hold", || async { Ok::<(), Failure>(()) }));
    let done = async || {
        let ids = sent.iter().map(|sent| sent.id().to_owned()).collect();
        let states = world.client.states(ids).await.unwrap();
        states.iter().flatten().filter(|state| state.is_success()).count() as u64
    };
    until("all that was left is done", async || (done().await >= left).then_some(())).await;
    worker.stop().await;
    assert_eq!(done().await, left, "what it held is gone with it");
}

/// A worker of ours in a process of its own: the one of the fault tests. Killed when dropped.
struct Process {
    child: Child,
    file: PathBuf,
}

impl Process {
    fn start(world: &World, name: &str) -> Self {
        // Examples are built beside the tests.
        let mut program = std::env::current_exe().unwrap();
        program.pop();
        program.pop();
        program.push("examples/fault-program");
        let file = world.directory.path().join(format!("{name}.witness"));
        let log = std::fs::File::create(file.with_extension("log")).unwrap();
        let mut command = Command::new(&program);
        command.args(["worker", &world.server.url(), file.to_str().unwrap(), name, "8"]).stdin(Stdio::null());
        let why = "cargo build --example fault-program builds it";
        let child = command.stderr(log).spawn().unwrap_or_else(|error| panic!("{}: {error}; {why}", program.display()));
        Self { child, file }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of the lines of a witness file about an event: `TIME EVENT TASK LEASE`.
fn events(file: &Path, event: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let words = text.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    words.filter(|words| words[1] == event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_machinery_sent_nothing_is_lost_when_our_worker_and_our_server_are_killed() {
    needs_machinery!();
    let mut world = World::new().await;
    let task = |n: usize| {
        let mut task = go::task("work", &[("int64", json!(n % 7 * 3))]);
        task["UUID"] = json!(format!("work-{n}"));
        task["RoutingKey"] = json!("fault");
        task
    };
    let ids = go::send(&world, &(0..OF_OURS).map(task).collect::<Vec<_>>()).await;
    let recorded = |workers: &[Process]| -> usize {
        workers.iter().map(|worker| events(&worker.file, "verdict:Recorded").len()).sum()
    };
    let mut workers = vec![Process::start(&world, "first")];
    let progress = async |workers: &[Process], count: usize| {
        until("progress between kills", async || (recorded(workers) >= count).then_some(())).await;
    };
    progress(&workers, OF_OURS / 4).await;
    world.server.kill();
    world.server.restart();
    progress(&workers, OF_OURS / 2).await;
    workers[0].child.kill().unwrap();
    workers.push(Process::start(&world, "second"));
    for ended in go::results(&world, &ids).await {
        assert_eq!(ended.state, "SUCCESS", "{ended:?}");
    }
    let leases = |event: &str| workers.iter().flat_map(|worker| events(&worker.file, event)).collect::<Vec<_>>();
    let begun = leases("start");
    let task_of = |lease: &String| begun.iter().find(|words| words[3] == *lease).unwrap()[2].clone();
    let mut ended: Vec<String> = leases("verdict:Recorded").iter().map(|words| task_of(&words[3])).collect();
    ended.sort();
    assert!(ended.windows(2).all(|pair| pair[0] != pair[1]), "none ended twice: {ended:?}");
    assert!(begun.len() >= OF_OURS);
}
