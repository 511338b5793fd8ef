//! Two replicas on one real Redis that syncs every write; workers and producers that know both. Everything is killed again
//! and again, Redis with it, and what the witnesses saw is compared with `GetStates`.
//!
//! 2,000 tasks by default; with `LINESHAFT_LONG=1` 20,000, and a replica is also stopped for longer than it takes the
//! other to count it as dead. Without a `redis-server` each test says that it is skipped.

use std::path::Path;
use std::time::Duration;

use lineshaft::failpoint::Point;
use lineshaft_client::{Client, Task};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::arrows::{WITHIN_ONE_STEP, crash_at};
use super::checker::{self, Life};
use super::processes::{self, Program, Server, until};
use super::redis::Redis;
use super::witness::{Random, unfinished};

const REPLICAS: usize = 2;
const PRODUCERS: u64 = 2;
const WORKERS: usize = 3;
const SLOTS: u32 = 8;
/// Longer than what a busy machine needs to restart Redis or a replica.
const LEASE_SECONDS: u64 = 4;
/// Beyond the lease.
const PAUSE: Duration = Duration::from_secs(6);
/// Beyond the 14 s after which the other replica gives out what a dead one held.
const LONG_PAUSE: Duration = Duration::from_secs(20);
/// Ten times what a run takes.
const RUN_MAX: Duration = Duration::from_secs(600);
/// Longer than the 14 s after which a dead replica is noticed.
const OUTLASTS_NOTICE_MS: i64 = 16_000;
/// Arrows that are visited at a time: most of each visit is waiting for a dead replica to be noticed.
const LANES: usize = 4;

/// Skips a test where there is no server.
macro_rules! needs_redis {
    () => {
        if let Some(why) = Redis::missing() {
            use std::io::Write;
            // Not `eprintln`, which the test runner keeps to itself when a test passes.
            drop(writeln!(std::io::stderr(), "skipped {}: {why}", module_path!()));
            return;
        }
    };
}
pub(super) use needs_redis;

/// What is done to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Worker,
    Replica,
    Redis,
    /// A replica stands still beyond the lease.
    Pause(Duration),
}

fn is_long() -> bool {
    std::env::var_os("LINESHAFT_LONG").is_some_and(|long| long == "1")
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("starts")
}

/// A Redis that loses nothing it acknowledged.
fn durable_redis(runtime: &Runtime) -> Redis {
    runtime.block_on(Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]))
}

fn urls(replicas: &[Server]) -> String {
    replicas.iter().map(Server::url).collect::<Vec<_>>().join(",")
}

/// The kills of a run, in an order that the seed decides.
fn blows(random: &mut Random) -> Vec<Blow> {
    let times = if is_long() { 20 } else { 6 };
    let mut blows = vec![Blow::Worker; times];
    blows.extend(vec![Blow::Replica; times]);
    blows.extend(vec![Blow::Redis; times / 2]);
    blows.push(Blow::Pause(PAUSE));
    blows.extend(is_long().then_some(Blow::Pause(LONG_PAUSE)));
    for i in (1..blows.len()).rev() {
        let other = random.below(i as u64 + 1) as usize;
        blows.swap(i, other);
    }
    blows
}

/// Everything that a run kills.
struct Field {
    runtime: Runtime,
    redis: Redis,
    replicas: Vec<Server>,
    /// Killed, and not started yet: the others have its workers until the next blow.
    down: Option<usize>,
    alive: Vec<Program>,
    dead: Vec<Program>,
}

impl Field {
    fn new() -> Self {
        let runtime = runtime();
        let redis = durable_redis(&runtime);
        let replicas: Vec<Server> = (0..REPLICAS).map(|_| Server::replica(&redis.url(), LEASE_SECONDS, &[])).collect();
        let mut field = Self { runtime, redis, replicas, down: None, alive: Vec::new(), dead: Vec::new() };
        field.alive = (0..WORKERS).map(|n| field.worker(n)).collect();
        field
    }

    fn dir(&self) -> &Path {
        self.replicas[0].dir()
    }

    fn worker(&self, number: usize) -> Program {
        Program::worker_of(&urls(&self.replicas), self.dir(), &format!("worker-{number}"), SLOTS)
    }

    /// Starts the replica that is down.
    fn raise(&mut self) {
        if let Some(replica) = self.down.take() {
            self.replicas[replica].life(&[]);
        }
    }

    fn strike(&mut self, blow: Blow, random: &mut Random) {
        self.raise();
        let replica = random.below(REPLICAS as u64) as usize;
        match blow {
            Blow::Worker => {
                let victim = random.below(WORKERS as u64) as usize;
                let next = self.worker(WORKERS + self.dead.len());
                let mut killed = std::mem::replace(&mut self.alive[victim], next);
                killed.kill();
                self.dead.push(killed);
            }
            Blow::Replica => {
                self.replicas[replica].kill();
                self.down = Some(replica);
            }
            Blow::Redis => {
                self.redis.kill();
                self.runtime.block_on(self.redis.restart());
            }
            Blow::Pause(time) => {
                self.replicas[replica].signal(Signal::STOP);
                let begun = processes::now();
                until("the pause", RUN_MAX, || (processes::now() - begun > time.as_nanos()).then_some(()));
                self.replicas[replica].signal(Signal::CONT);
            }
        }
    }

    /// Reports that workers saw recorded.
    fn ended(&self) -> usize {
        let recorded = |worker: &Program| {
            checker::count(&worker.file, "verdict:Recorded") + checker::count(&worker.file, "verdict:Duplicate")
        };
        self.alive.iter().chain(&self.dead).map(recorded).sum()
    }

    fn findings(&self) -> checker::Findings {
        let workers = self.dead.iter().chain(&self.alive);
        let lives: Vec<Life<'_>> = workers.map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
        checker::check(&lives)
    }
}

#[test]
fn thousands_of_tasks_survive_the_death_of_replicas_workers_and_redis() {
    needs_redis!();
    let (tasks, seeds) = if is_long() { (20_000, 1..=3) } else { (2_000, 1..=1) };
    for seed in seeds {
        run(seed, tasks);
    }
}

fn run(seed: u64, tasks: u64) {
    let begun = processes::now();
    let mut random = Random(seed);
    let blows = blows(&mut random);
    println!("seed {seed}: {blows:?}");
    let mut field = Field::new();
    let servers = urls(&field.replicas);
    let mut producers: Vec<Program> = (0..PRODUCERS)
        .map(|n| Program::producer_of(&servers, field.dir(), &format!("p{n}"), tasks / PRODUCERS))
        .collect();
    // One blow for every such number of tasks that ended, at a random place within it.
    let stretch = tasks / (blows.len() as u64 + 2);
    for (round, blow) in blows.iter().enumerate() {
        let goal = (round as u64 * stretch + random.below(stretch)) as usize;
        until("progress between blows", RUN_MAX, || (field.ended() >= goal).then_some(()));
        field.strike(*blow, &mut random);
    }
    field.raise();
    for producer in &mut producers {
        until("the producers' end", RUN_MAX, || producer.child.try_wait().ok().flatten());
    }
    let files: Vec<&Path> = producers.iter().map(|p| p.file.as_path()).collect();
    let accepted = checker::accepted(&files);
    assert_eq!(accepted.len() as u64, tasks, "seed {seed}: every producer was answered for every task");
    let lost = unfinished(&field.replicas[0].url(), accepted);
    let findings = field.findings();
    println!(
        "seed {seed}: {tasks} accepted, {} lost, {} ended twice, {} begun while the first lived, {} begun again, {} of \
         them though their worker lived, in {} s",
        lost.len(),
        findings.ended_twice.len(),
        findings.overlapped.len(),
        findings.again,
        findings.again_though_alive.len(),
        (processes::now() - begun) / 1_000_000_000,
    );
    assert!(findings.begun as u64 >= tasks, "seed {seed}: the witnesses saw only {} attempts", findings.begun);
    assert_eq!(lost, Vec::<String>::new(), "seed {seed}: lost");
    assert_eq!(findings.ended_twice, Vec::<String>::new(), "seed {seed}: ended twice");
    assert_eq!(findings.overlapped, Vec::<String>::new(), "seed {seed}: begun while the first lived");
    assert_eq!(findings.again_though_alive, Vec::<String>::new(), "seed {seed}: begun again though its worker lived");
    for replica in &field.replicas {
        let log = replica.log_text();
        let errors: Vec<&str> = log.lines().filter(|l| l.contains("ERROR") || l.contains("panicked")).collect();
        assert!(errors.is_empty(), "seed {seed}: a replica logged {errors:#?}");
    }
}

#[test]
fn a_session_goes_on_at_the_other_replica_and_what_runs_is_not_run_again() {
    needs_redis!();
    let mut field = Field::new();
    let servers = urls(&field.replicas);
    // A single slot, which nobody else can be: the others only would gladly take what it has.
    field.runtime.block_on(async {
        let client = Client::builder().addresses(servers.split(',')).connect_lazy().expect("addresses are fine");
        client.send(Task::new("work").id("long").queue("fault").arg(OUTLASTS_NOTICE_MS)).await.expect("is accepted");
    });
    let starts = |field: &Field| field.alive.iter().map(|w| checker::count(&w.file, "start")).sum::<usize>();
    until("the start", RUN_MAX, || (starts(&field) == 1).then_some(()));
    // Wherever its worker is attached, it has to go elsewhere at least once.
    field.replicas[0].kill();
    field.replicas[0].life(&[]);
    field.replicas[1].kill();
    // What the dead one held comes to the living one while the attempt runs.
    until("the verdict", RUN_MAX, || (field.ended() == 1).then_some(()));
    let findings = field.findings();
    assert_eq!((findings.begun, findings.again), (1, 0), "{findings:?}");
    assert_eq!(field.alive.iter().map(|w| checker::count(&w.file, "lost")).sum::<usize>(), 0);
    assert_eq!(unfinished(&field.replicas[0].url(), vec!["long".to_owned()]), Vec::<String>::new());
}

#[test]
fn one_step_on_redis_survives_a_crash_at_every_arrow() {
    crash_on_redis("", |point| !WITHIN_ONE_STEP.contains(point));
}

#[test]
fn separate_steps_on_redis_survive_a_crash_at_every_arrow() {
    crash_on_redis("unfused,", |_| true);
}

fn crash_on_redis(mode: &'static str, is_there: fn(&Point) -> bool) {
    needs_redis!();
    let points: Vec<Point> = Point::ALL.into_iter().filter(is_there).collect();
    let lane = points.len().div_ceil(LANES);
    std::thread::scope(|scope| {
        for points in points.chunks(lane) {
            scope.spawn(move || {
                for point in points {
                    let runtime = runtime();
                    let redis = durable_redis(&runtime);
                    crash_at(*point, mode, Some(&redis.url()));
                }
            });
        }
    });
}
