//! Leases and the death of one side: a worker that outlives its server, a server that outlives its worker, and a worker
//! that was away for too long.

use std::time::Duration;

use rustix::process::Signal;

use super::checker::{self, Life};
use super::processes::{Program, Server, until};

/// Twice the lease time of these tests, and a start of a process on a busy machine.
const TWO_LEASES: Duration = Duration::from_secs(4 + 10);
const DONE_MAX: Duration = Duration::from_secs(60);

fn send(server: &Server, id: &str, ms: i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(async {
        let client = lineshaft_client::Client::connect(server.url()).await.expect("the server answers");
        client.send(lineshaft_client::Task::new("work").id(id).queue("fault").arg(ms)).await.expect("is accepted");
    });
}

fn seen(worker: &Program, event: &str) -> Option<()> {
    (checker::count(&worker.file, event) > 0).then_some(())
}

fn findings(workers: &[&Program]) -> checker::Findings {
    let lives: Vec<Life<'_>> = workers.iter().map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
    checker::check(&lives)
}

#[test]
fn a_worker_alive_through_a_restart_keeps_its_leases() {
    let mut server = Server::start(&[]);
    let worker = Program::worker(&server, "worker", 1);
    send(&server, "long", 8_000);
    until("the start", DONE_MAX, || seen(&worker, "start"));
    // Another one that would gladly take it.
    let rival = Program::worker(&server, "rival", 1);
    for _ in 0..3 {
        server.kill();
        server.life(&[]);
    }
    until("the verdict", DONE_MAX, || seen(&worker, "verdict:Recorded"));
    let findings = findings(&[&worker, &rival]);
    assert_eq!((findings.begun, findings.again), (1, 0), "{findings:?}");
    assert_eq!(checker::count(&worker.file, "lost"), 0);
}

#[test]
fn a_killed_workers_task_runs_elsewhere_within_two_lease_times() {
    let server = Server::start(&[]);
    let mut worker = Program::worker(&server, "worker", 1);
    send(&server, "doomed", 60_000);
    until("the start", DONE_MAX, || seen(&worker, "start"));
    let other = Program::worker(&server, "other", 1);
    worker.kill();
    until("the start elsewhere", TWO_LEASES, || seen(&other, "start"));
}

#[test]
fn a_worker_paused_beyond_its_lease_is_superseded() {
    let server = Server::start(&[]);
    let paused = Program::worker(&server, "paused", 1);
    send(&server, "shared", 1_500);
    until("the start", DONE_MAX, || seen(&paused, "start"));
    super::processes::signal(&paused.child, Signal::STOP);
    let other = Program::worker(&server, "other", 1);
    until("the end elsewhere", DONE_MAX, || seen(&other, "verdict:Recorded"));
    super::processes::signal(&paused.child, Signal::CONT);
    // It either learns first that its lease is lost, or reports first and is told so.
    until("the word", DONE_MAX, || seen(&paused, "lost").or_else(|| seen(&paused, "verdict:Superseded")));
    assert_eq!(checker::count(&paused.file, "verdict:Recorded"), 0);
    assert!(findings(&[&other]).ended_twice.is_empty());
}
