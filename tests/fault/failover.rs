//! A server with its workers on a master that three sentinels watch, and what takes the master away while tasks flow: its
//! death, and that it stands still with all connections open.
//!
//! Redis copies to its replica after it has answered, so what was answered in the last moment may be lost with the master.
//! Nothing else may be, and no worker may notice.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::checker::{self, Life};
use super::processes::{self, Program, Server, until};
use super::redis::Redis;
use super::redis_sentinel::Sentinels;
use super::replicas::{needs_redis, runtime};
use super::witness::unfinished;

const PRODUCERS: u64 = 2;
const TASKS: u64 = 2_000;
const WORKERS: usize = 2;
const SLOTS: u32 = 8;
/// Shorter than a failover takes: leases outlive it all the same.
const LEASE_SECONDS: u64 = 2;
/// What was answered so shortly before the end of the master may not have been copied, ns.
const UNCOPIED: u128 = 100_000_000;
/// Ten times what a run takes.
const RUN_MAX: Duration = Duration::from_secs(600);
/// From the blow to the first report that is recorded again: the sentinels take a second to miss a master and up to some more to
/// agree, an answer is waited for for 2 s; the rest is for a busy machine.
const OUTAGE_MAX: Duration = Duration::from_secs(40);

#[test]
fn a_master_that_dies_under_load_takes_no_task_and_no_lease_with_it() {
    needs_redis!();
    run(|group, _| group.servers[0].kill());
}

#[test]
fn a_master_that_stands_still_under_load_takes_no_task_and_no_lease_with_it() {
    needs_redis!();
    run(|_, master| kill_process(master, Signal::STOP).expect("the master is there"));
}

fn run(strike: impl FnOnce(&mut Sentinels, Pid)) {
    let runtime = runtime();
    let mut group = runtime.block_on(Sentinels::start());
    let master = runtime.block_on(group.servers[0].pid());
    let master = Pid::from_raw(i32::try_from(master).expect("a process id")).expect("a process id");
    let lines = "redis:\n  master_name: mymaster\n  read_timeout: 2\n  connect_timeout: 1\n";
    let server = Server::replica_with(&format!("broker: {}\n{lines}", group.url()), LEASE_SECONDS, &[]);
    let worker = |n| Program::worker(&server, &format!("worker-{n}"), SLOTS);
    let workers: Vec<Program> = (0..WORKERS).map(worker).collect();
    let producer = |n| Program::producer(&server, &format!("p{n}"), TASKS / PRODUCERS);
    let mut producers: Vec<Program> = (0..PRODUCERS).map(producer).collect();
    let verdict = |word: &str| workers.iter().map(|w| checker::count(&w.file, word)).sum::<usize>();
    let ended = || verdict("verdict:Recorded") + verdict("verdict:Duplicate");

    until("a quarter of the tasks", RUN_MAX, || (ended() as u64 >= TASKS / 4).then_some(()));
    let blow = processes::now();
    strike(&mut group, master);
    // What was under way at the blow may still be told.
    until("the silence after the blow", RUN_MAX, || (processes::now() - blow > 500_000_000).then_some(()));
    let before = ended();
    until("a report is recorded again", OUTAGE_MAX, || (ended() > before).then_some(()));
    println!("without service for {} ms", (processes::now() - blow) / 1_000_000);

    for producer in &mut producers {
        until("the producers' end", RUN_MAX, || producer.child.try_wait().ok().flatten());
    }
    let files: Vec<&Path> = producers.iter().map(|p| p.file.as_path()).collect();
    let accepted = checker::accepted(&files);
    assert_eq!(accepted.len() as u64, TASKS, "every producer was answered for every task");
    let all: Vec<&Path> = files.iter().copied().chain(workers.iter().map(|w| w.file.as_path())).collect();
    let uncopied = checker::touched(&all, blow - UNCOPIED, blow);
    let lives: Vec<Life<'_>> = workers.iter().map(|w| Life { file: &w.file, killed_at: None }).collect();
    let lost = unfinished(&server.url(), accepted);
    let findings = checker::check(&lives);
    println!(
        "{TASKS} accepted, {} lost, {} ended twice, {} begun again though their worker lived; {} touched just before the blow",
        lost.len(),
        findings.ended_twice.len(),
        findings.again_though_alive.len(),
        uncopied.len(),
    );
    for (what, found) in [
        ("lost", lost),
        ("ended twice", findings.ended_twice),
        ("begun while the first lived", findings.overlapped),
        ("begun again though its worker lived", findings.again_though_alive),
    ] {
        let is_old = |task: &String| !uncopied.contains(task.split(':').next().unwrap_or(task));
        assert_eq!(found.into_iter().filter(is_old).collect::<Vec<_>>(), Vec::<String>::new(), "{what}");
    }
    assert_eq!(verdict("lost"), 0, "a worker was told that a lease is lost");
    let log = server.log_text();
    let errors: Vec<&str> = log.lines().filter(|l| l.contains("ERROR") || l.contains("panicked")).collect();
    assert!(errors.is_empty(), "the server logged {errors:#?}");
}
