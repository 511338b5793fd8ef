//! Chords and chains while servers and workers are killed: every link and every callback ends once, with the right arguments,
//! and nobody is left waiting. What members come to is decided by the plan, so each task has one right end.
//!
//! 100 chords of 20 and 100 chains of 10 by default, 500 of each with `LINESHAFT_LONG=1`.

mod arrows;
mod compare;
mod kills;
// How they are sent is for the producer.
#[allow(dead_code)]
mod plan;
mod scale;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checker::{self, Life};
use super::processes::{self, Program, Server, until};
use super::witness::Random;
use plan::{Ends, Workflow};

/// Ten times what a run takes.
const RUN_MAX: Duration = Duration::from_secs(600);
const WORKERS: usize = 3;
const SLOTS: u32 = 16;
/// Longer than what a busy machine needs to start a server again.
const LEASE_SECONDS: u64 = 4;

fn is_long() -> bool {
    std::env::var_os("LINESHAFT_LONG").is_some_and(|long| long == "1")
}

/// Servers on one store, workers and a producer that know them all.
struct Field {
    servers: Vec<Server>,
    /// Killed, and not started yet: the others have its workers until the next blow.
    down: Option<usize>,
    alive: Vec<Program>,
    dead: Vec<Program>,
    producer: Option<Program>,
    workflows: Vec<Workflow>,
}

impl Field {
    /// `store`: where the servers keep everything; unset: one server in a directory of its own.
    fn new(store: Option<&str>, replicas: usize, env: &[(&str, &str)]) -> Self {
        let servers = match store {
            None => vec![Server::start(env)],
            Some(store) => (0..replicas).map(|_| Server::replica(store, LEASE_SECONDS, env)).collect(),
        };
        Self { servers, down: None, alive: Vec::new(), dead: Vec::new(), producer: None, workflows: Vec::new() }
    }

    fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    fn dir(&self) -> PathBuf {
        self.servers[0].dir().to_owned()
    }

    fn hire(&mut self) {
        let number = self.alive.len() + self.dead.len();
        let worker = Program::worker_of(&self.urls(), &self.dir(), &format!("worker-{number}"), SLOTS);
        self.alive.push(worker);
    }

    /// Starts the producer of so many of each.
    fn produce(&mut self, prefix: &str, chords: u32, chains: u32) {
        self.producer = Some(Program::workflows_of(&self.urls(), &self.dir(), prefix, chords, chains));
        self.workflows = (0..chords).map(|number| Workflow::chord(prefix, number)).collect();
        self.workflows.extend((0..chains).map(|number| Workflow::chain(prefix, number)));
    }

    /// Starts the server that is down.
    fn raise(&mut self) {
        if let Some(server) = self.down.take() {
            self.servers[server].life(&[]);
        }
    }

    fn kill_server(&mut self, random: &mut Random) {
        self.raise();
        let victim = random.below(self.servers.len() as u64) as usize;
        self.servers[victim].kill();
        self.down = Some(victim);
        if self.servers.len() == 1 {
            self.raise();
        }
    }

    fn kill_worker(&mut self, random: &mut Random) {
        let victim = random.below(self.alive.len() as u64) as usize;
        self.hire();
        let mut killed = self.alive.swap_remove(victim);
        killed.kill();
        self.dead.push(killed);
    }

    /// Reports that workers saw recorded.
    fn ended(&self) -> usize {
        let recorded = |worker: &Program| {
            checker::count(&worker.file, "verdict:Recorded") + checker::count(&worker.file, "verdict:Duplicate")
        };
        self.alive.iter().chain(&self.dead).map(recorded).sum()
    }

    /// What must come of all tasks.
    fn expected(&self) -> Ends {
        self.workflows.iter().flat_map(Workflow::ends).collect()
    }

    fn files(&self) -> Vec<&Path> {
        self.dead.iter().chain(&self.alive).map(|worker| worker.file.as_path()).collect()
    }

    fn findings(&self) -> checker::Findings {
        let workers = self.dead.iter().chain(&self.alive);
        let lives: Vec<Life<'_>> = workers.map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
        checker::check(&lives)
    }

    /// Waits for the producer's end, which was answered for everything.
    fn all_accepted(&mut self) {
        let mut producer = self.producer.take().expect("it was started");
        let status = until("the producer's end", RUN_MAX, || producer.child.try_wait().ok().flatten());
        assert!(status.success(), "the producer was refused; see {}", producer.file.display());
        let accepted = checker::accepted(&[&producer.file]);
        assert_eq!(accepted.len(), self.workflows.len(), "the producer was answered for each workflow, once");
    }
}
