//! Processes that are stopped and go on (SIGSTOP, SIGCONT), as a suspended machine or a debugger does: what the living
//! have is not taken from them, and what is handed on is handed on once.
//!
//! Three lease times by default; with `LINESHAFT_LONG=1` a whole minute.

use std::time::Duration;

use lineshaft_client::{Client, Task};
use rustix::process::Signal;

use super::checker::{self, Life};
use super::processes::{self, Program, Server, until};

/// Three lease times of these tests.
const SHORT: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(60);
/// Longer than any pause.
const DONE_MAX: Duration = Duration::from_secs(180);

fn pause() -> Duration {
    if std::env::var_os("LINESHAFT_LONG").is_some_and(|long| long == "1") { LONG } else { SHORT }
}

/// Waits until the machine's clock has gone on by `time`.
fn passes(time: Duration) {
    let begun = processes::now();
    until("the pause", 2 * DONE_MAX, || (processes::now() - begun > time.as_nanos()).then_some(()));
}

fn send(server: &Server, ids: &[&str], time: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let ms = i64::try_from(time.as_millis()).expect("fits");
    runtime.block_on(async {
        let client = Client::connect(server.url()).await.expect("the server answers");
        for id in ids {
            client.send(Task::new("work").id(*id).queue("fault").arg(ms)).await.expect("is accepted");
        }
    });
}

fn unsuccessful(server: &Server, ids: &[String]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let states = runtime.block_on(async {
        let client = Client::connect(server.url()).await.expect("the server answers");
        client.states(ids.to_vec()).await.expect("are read")
    });
    let left = ids.iter().zip(states).filter(|(_, state)| !state.as_ref().is_some_and(|s| s.is_success()));
    left.map(|(id, _)| id.clone()).collect()
}

fn recorded(workers: &[&Program]) -> usize {
    let count = |worker: &&Program| {
        // A report whose answer the pause swallowed is repeated, and answered as a duplicate.
        checker::count(&worker.file, "verdict:Recorded") + checker::count(&worker.file, "verdict:Duplicate")
    };
    workers.iter().map(count).sum()
}

fn findings(workers: &[&Program]) -> checker::Findings {
    let lives: Vec<Life<'_>> = workers.iter().map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
    checker::check(&lives)
}

#[test]
fn a_stopped_server_takes_nothing_from_the_living_and_loses_nothing() {
    let server = Server::start(&[]);
    let worker = Program::worker(&server, "worker", 8);
    // Two end while the server is stopped, two after it.
    send(&server, &["ends-1", "ends-2"], pause() / 2);
    send(&server, &["lasts-1", "lasts-2"], 2 * pause());
    until("the starts", DONE_MAX, || (checker::count(&worker.file, "start") == 4).then_some(()));
    let rival = Program::worker(&server, "rival", 8);
    let mut producer = Program::producer(&server, "flow", 200);
    until("the flow", DONE_MAX, || (recorded(&[&worker, &rival]) > 20).then_some(()));
    server.signal(Signal::STOP);
    passes(pause());
    let ended = checker::count(&worker.file, "end ends-1") + checker::count(&worker.file, "end ends-2");
    assert_eq!(ended, 2, "workers go on without the server");
    server.signal(Signal::CONT);
    until("the producer's end", DONE_MAX, || producer.child.try_wait().ok().flatten());
    let mut ids = checker::accepted(&[&producer.file]);
    ids.extend(["ends-1", "ends-2", "lasts-1", "lasts-2"].map(str::to_owned));
    until("the ends", DONE_MAX, || unsuccessful(&server, &ids).is_empty().then_some(()));
    until("the verdicts", DONE_MAX, || (recorded(&[&worker, &rival]) >= ids.len()).then_some(()));
    let found = findings(&[&worker, &rival]);
    assert_eq!(found.again, 0, "{found:?}");
    assert!(found.ended_twice.is_empty() && found.overlapped.is_empty(), "{found:?}");
    assert_eq!(checker::count(&worker.file, "lost") + checker::count(&rival.file, "lost"), 0);
}

#[test]
fn a_worker_stopped_for_as_long_has_its_tasks_ended_once_by_another() {
    let server = Server::start(&[]);
    let stopped = Program::worker(&server, "stopped", 4);
    let ids = ["a", "b", "c", "d"];
    send(&server, &ids, Duration::from_secs(1));
    until("the starts", DONE_MAX, || (checker::count(&stopped.file, "start") == 4).then_some(()));
    processes::signal(&stopped.child, Signal::STOP);
    let other = Program::worker(&server, "other", 4);
    passes(pause());
    until("the ends elsewhere", DONE_MAX, || (recorded(&[&other]) == 4).then_some(()));
    processes::signal(&stopped.child, Signal::CONT);
    until("the word", DONE_MAX, || {
        let told = checker::count(&stopped.file, "lost") + checker::count(&stopped.file, "verdict:Superseded");
        (told >= 4).then_some(())
    });
    assert_eq!(recorded(&[&stopped]), 0, "what another ended is not ended again");
    assert!(unsuccessful(&server, &ids.map(str::to_owned)).is_empty());
    // It works on.
    send(&server, &["next-1", "next-2", "next-3", "next-4", "next-5"], Duration::from_secs(1));
    until("all ends", DONE_MAX, || (recorded(&[&stopped, &other]) == 9).then_some(()));
    assert!(recorded(&[&stopped]) > 0, "five tasks at once are more than the other takes alone");
}
