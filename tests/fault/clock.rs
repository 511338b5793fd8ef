//! A wall clock that is stepped by an hour, in both directions, under a server that runs: leases, attempts and results
//! do not notice, only what waits for a moment does.
//!
//! The clock is stepped by libfaketime, for the server alone and without its monotonic clock. Where the library is comes
//! from `LINESHAFT_TEST_FAKETIME`, which `tests/run.sh` sets; without it these tests say so and are skipped.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lineshaft_client::proto::TaskStatus;
use lineshaft_client::{Client, Task, TaskState};

use super::checker::{self, Life};
use super::processes::{Program, Server, until};

const HOUR: i64 = 3600;
const DONE_MAX: Duration = Duration::from_secs(60);
/// Twice the lease time of these tests, and a start of a process on a busy machine.
const TWO_LEASES: Duration = Duration::from_secs(4 + 10);
/// How far a clock that was stepped may be from where it should be, seconds: what a slow machine takes for a send.
const NEAR: i64 = 300;
/// Tasks that flow while the clock is stepped.
const FLOW: u64 = 300;

/// The wall clock of one server.
struct Clock {
    library: String,
    file: PathBuf,
    broker: String,
}

impl Clock {
    /// `None`, with the reason printed: there is no way to step it.
    fn find(dir: &Path) -> Option<Self> {
        let Some(library) = std::env::var("LINESHAFT_TEST_FAKETIME").ok().filter(|library| !library.is_empty()) else {
            println!("skipped: LINESHAFT_TEST_FAKETIME does not say where libfaketime is");
            return None;
        };
        let broker = format!("embedded:{}", dir.join("data").display());
        let clock = Self { library, file: dir.join("clock"), broker };
        clock.step(0);
        Some(clock)
    }

    /// Sets it to so many seconds after the machine's.
    fn step(&self, seconds: i64) {
        // Renamed into place: the library reads the file whenever it likes.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}")).expect("can be written");
        std::fs::rename(&next, &self.file).expect("can be renamed");
    }

    fn env(&self) -> Vec<(&str, &str)> {
        vec![
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().expect("is text")),
            ("FAKETIME_NO_CACHE", "1"),
            // The name was changed between versions of the library.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            // Results outlive the steps: how long they are kept is by the wall clock.
            ("RESULTS_EXPIRE_IN", "86400"),
            ("BROKER", self.broker.as_str()),
        ]
    }
}

fn start(clock: &Clock, dir: tempfile::TempDir) -> Server {
    let data = dir.path().join("data");
    Server::start_in(dir, data, &[], &clock.env())
}

fn on<T>(server: &Server, work: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(async { work(Client::connect(server.url()).await.expect("the server answers")).await })
}

fn send(server: &Server, task: Task) {
    on(server, async |client| drop(client.send(task).await.expect("is accepted")));
}

fn work(id: &str, ms: i64) -> Task {
    Task::new("work").id(id).queue("fault").arg(ms)
}

fn states(server: &Server, ids: &[String]) -> Vec<Option<TaskState>> {
    on(server, async |client| client.states(ids.to_vec()).await.expect("are read"))
}

fn state(server: &Server, id: &str) -> TaskState {
    states(server, &[id.to_owned()]).remove(0).expect("is known")
}

/// The server shows the clock that it was given, so what follows is a test of it.
fn assert_stepped(server: &Server, id: &str, seconds: i64) {
    let sent = state(server, id).created_at.expect("is known");
    #[allow(clippy::disallowed_methods)]
    let now = SystemTime::now();
    let ahead = match sent.duration_since(now) {
        Ok(ahead) => ahead.as_secs() as i64,
        Err(behind) => -(behind.duration().as_secs() as i64),
    };
    assert!((ahead - seconds).abs() < NEAR, "the server's clock is {ahead} s ahead, not {seconds} s");
}

fn begun(worker: &Program, id: &str) -> Option<()> {
    (checker::count(&worker.file, &format!("start {id}")) > 0).then_some(())
}

fn recorded(workers: &[&Program]) -> usize {
    workers.iter().map(|worker| checker::count(&worker.file, "verdict:Recorded")).sum()
}

fn findings(workers: &[&Program]) -> checker::Findings {
    let lives: Vec<Life<'_>> = workers.iter().map(|w| Life { file: &w.file, killed_at: w.killed_at }).collect();
    checker::check(&lives)
}

/// Tasks run and flow while the clock is stepped, and over a restart; each ends once, and none is begun again.
fn nothing_is_lost_or_run_twice(by: i64) {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(clock) = Clock::find(dir.path()) else { return };
    let mut server = start(&clock, dir);
    let mut worker = Program::worker(&server, "worker", 4);
    let long: Vec<String> = (0..4).map(|i| format!("long-{i}")).collect();
    long.iter().for_each(|id| send(&server, work(id, 8_000)));
    until("the starts", DONE_MAX, || (checker::count(&worker.file, "start") == 4).then_some(()));
    let mut rival = Program::worker(&server, "rival", 4);
    let mut producer = Program::producer(&server, "flow", FLOW);
    until("the flow", DONE_MAX, || (recorded(&[&rival]) > 20).then_some(()));
    clock.step(by);
    until("the producer's end", DONE_MAX, || producer.child.try_wait().ok().flatten());
    let mut ids = checker::accepted(&[&producer.file]);
    assert_eq!(ids.len() as u64, FLOW);
    ids.extend(long);
    until("all verdicts", DONE_MAX, || (recorded(&[&worker, &rival]) == ids.len()).then_some(()));
    send(&server, work("after", 0));
    ids.push("after".to_owned());
    until("the verdict after the step", DONE_MAX, || (recorded(&[&worker, &rival]) == ids.len()).then_some(()));
    // A life that begins with the stepped clock, and knows of the other time only what is stored.
    server.kill();
    server.life(&clock.env());
    for (id, state) in ids.iter().zip(states(&server, &ids)) {
        assert!(state.as_ref().is_some_and(TaskState::is_success), "{id}: {state:?}");
    }
    let found = findings(&[&worker, &rival]);
    assert_eq!((found.begun, found.again), (ids.len(), 0), "{found:?}");
    assert!(found.ended_twice.is_empty() && found.overlapped.is_empty(), "{found:?}");
    send(&server, work("stepped", 0));
    assert_stepped(&server, "stepped", by);
    // Sent again, a task of the other time begins anew, and its new end shows.
    until("the verdict after the restart", DONE_MAX, || (recorded(&[&worker, &rival]) > ids.len()).then_some(()));
    worker.kill();
    rival.kill();
    send(&server, work("long-0", 0));
    assert_eq!(state(&server, "long-0").status, TaskStatus::Pending);
    let last = Program::worker(&server, "last", 1);
    until("the end of what was sent again", DONE_MAX, || (recorded(&[&last]) == 1).then_some(()));
    assert!(state(&server, "long-0").is_success());
}

#[test]
fn a_clock_stepped_forward_by_an_hour_loses_nothing_and_runs_nothing_twice() {
    nothing_is_lost_or_run_twice(HOUR);
}

#[test]
fn a_clock_stepped_back_by_an_hour_loses_nothing_and_runs_nothing_twice() {
    nothing_is_lost_or_run_twice(-HOUR);
}

#[test]
fn a_killed_workers_task_runs_elsewhere_within_two_lease_times_however_the_clock_steps() {
    for by in [HOUR, -HOUR] {
        let dir = tempfile::tempdir().expect("a directory");
        let Some(clock) = Clock::find(dir.path()) else { return };
        let server = start(&clock, dir);
        let mut worker = Program::worker(&server, "worker", 1);
        send(&server, work("doomed", 60_000));
        until("the start", DONE_MAX, || begun(&worker, "doomed"));
        let other = Program::worker(&server, "other", 1);
        worker.kill();
        clock.step(by);
        until("the start elsewhere", TWO_LEASES, || begun(&other, "doomed"));
        let found = findings(&[&worker, &other]);
        assert_eq!((found.begun, found.again, found.overlapped.len()), (2, 1, 0), "{found:?}");
    }
}

#[test]
fn a_delayed_task_comes_by_the_wall_clock_wherever_that_is_stepped() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(clock) = Clock::find(dir.path()) else { return };
    let mut server = start(&clock, dir);
    let worker = Program::worker(&server, "worker", 4);
    send(&server, work("soon", 0).delay(Duration::from_secs(4)));
    send(&server, work("later", 0).delay(Duration::from_secs(1800)));
    send(&server, work("latest", 0).delay(Duration::from_secs(5400)));
    // An hour back, before the first is due: it waits for its moment, in another life too.
    clock.step(-HOUR);
    send(&server, work("first", 6_000));
    until("the end of what is not delayed", DONE_MAX, || (recorded(&[&worker]) == 1).then_some(()));
    server.kill();
    server.life(&clock.env());
    send(&server, work("second", 0));
    until("what is not delayed in the next life", DONE_MAX, || (recorded(&[&worker]) == 2).then_some(()));
    for id in ["soon", "later", "latest"] {
        assert_eq!((begun(&worker, id), state(&server, id).status), (None, TaskStatus::Pending), "{id}");
    }
    clock.step(0);
    until("the one that is due", DONE_MAX, || begun(&worker, "soon"));
    assert_eq!(begun(&worker, "later"), None);
    clock.step(HOUR);
    until("the one that the step makes due", DONE_MAX, || begun(&worker, "later"));
    assert_eq!(begun(&worker, "latest"), None);
    until("the verdicts", DONE_MAX, || (recorded(&[&worker]) == 4).then_some(()));
    let found = findings(&[&worker]);
    assert_eq!((found.begun, found.again), (4, 0), "{found:?}");
}
