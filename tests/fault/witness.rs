//! The witness test: producers, workers and the server in processes of their own, killed again and again while 20,000
//! tasks flow; then the files of the witnesses are compared with `GetStates`.
//!
//! Kills come by progress, not by time, so that each run has its full number of them however fast the machine is.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use lineshaft_client::Error;
use tonic::Code;

use super::checker::{self, Life};
use super::processes::{Program, Server, until};

const TASKS: u64 = 20_000;
const PRODUCERS: u64 = 4;
const WORKERS: usize = 3;
/// Kills of the server and of workers, each.
const KILLS: usize = 30;
/// Ten times what a run takes.
const RUN_MAX: Duration = Duration::from_secs(600);

/// Small random numbers from a seed: the order of a run can be repeated, its timing cannot.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn twenty_thousand_tasks_survive_the_death_of_everything() {
    for seed in 1..=5 {
        run(seed);
    }
}

fn run(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut server = Server::start(&[]);
    let mut producers: Vec<Program> =
        (0..PRODUCERS).map(|p| Program::producer(&server, &format!("p{p}"), TASKS / PRODUCERS)).collect();
    let mut alive: Vec<Program> = (0..WORKERS).map(|w| Program::worker(&server, &format!("worker-{w}"), 8)).collect();
    let mut dead: Vec<Program> = Vec::new();
    // One kill of each kind for every such number of tasks that ended, at a random place within it.
    let stretch = TASKS / (KILLS as u64 + 2);
    let (mut server_kills, mut worker_kills) = (0, 0);
    for round in 0..KILLS as u64 {
        let mut kills = [(random.below(stretch), true), (random.below(stretch), false)];
        kills.sort_unstable();
        for (place, of_server) in kills {
            let goal = (round * stretch + place) as usize;
            until("progress between kills", RUN_MAX, || (ended(&alive, &dead) >= goal).then_some(()));
            if of_server {
                server.kill();
                server.life(&[]);
                server_kills += 1;
            } else {
                let victim = random.below(WORKERS as u64) as usize;
                let name = format!("worker-{}", WORKERS + worker_kills);
                let next = Program::worker(&server, &name, 8);
                let mut killed = std::mem::replace(&mut alive[victim], next);
                killed.kill();
                dead.push(killed);
                worker_kills += 1;
            }
        }
    }
    for producer in &mut producers {
        until("the producers' end", RUN_MAX, || producer.child.try_wait().ok().flatten());
    }
    let files: Vec<&Path> = producers.iter().map(|p| p.file.as_path()).collect();
    let accepted = checker::accepted(&files);
    assert_eq!(accepted.len() as u64, TASKS, "seed {seed}: every producer was answered for every task");
    let lost = unfinished(&server.url(), accepted);
    // The last verdicts are on their way to the workers.
    let lives: Vec<Life<'_>> =
        dead.iter().chain(&alive).map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
    let findings = checker::check(&lives);
    println!(
        "seed {seed}: {TASKS} accepted, {} lost, {} ended twice, {} begun while the first lived, {} begun again after \
         {server_kills} kills of the server and {worker_kills} of workers",
        lost.len(),
        findings.ended_twice.len(),
        findings.overlapped.len(),
        findings.again,
    );
    assert!(findings.begun as u64 >= TASKS, "seed {seed}: the witnesses saw only {} attempts", findings.begun);
    assert_eq!(lost, Vec::<String>::new(), "seed {seed}: lost");
    assert_eq!(findings.ended_twice, Vec::<String>::new(), "seed {seed}: ended twice");
    assert_eq!(findings.overlapped, Vec::<String>::new(), "seed {seed}: begun while the first lived");
    assert!(server_kills >= KILLS && worker_kills >= KILLS);
    let log = server.log_text();
    let errors: Vec<&str> = log.lines().filter(|l| l.contains("ERROR") || l.contains("panicked")).collect();
    assert!(errors.is_empty(), "seed {seed}: the server logged {errors:#?}");
}

fn ended(alive: &[Program], dead: &[Program]) -> usize {
    alive.iter().chain(dead).map(|w| checker::count(&w.file, "verdict:Recorded")).sum()
}

/// Waits until every task has ended well; answers those that have not within the time.
pub(super) fn unfinished(url: &str, ids: Vec<String>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let mut left: HashSet<String> = ids.into_iter().collect();
    runtime.block_on(async {
        let client = lineshaft_client::Client::connect(url).await.expect("the server answers");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        while !left.is_empty() && tokio::time::Instant::now() < deadline {
            let batch: Vec<String> = left.iter().take(500).cloned().collect();
            let states = match client.states(batch.clone()).await {
                Ok(states) => states,
                // A store that was killed last of all may still read its log.
                Err(Error::Refused { code: Code::Unavailable, .. }) => vec![None; batch.len()],
                Err(error) => panic!("the server answers: {error:?}"),
            };
            let ended = batch.into_iter().zip(states).filter(|(_, s)| s.as_ref().is_some_and(|s| s.is_success()));
            let ended: Vec<String> = ended.map(|(id, _)| id).collect();
            if ended.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            for id in ended {
                left.remove(&id);
            }
        }
    });
    left.into_iter().collect()
}
