//! The processes of a fault test: a server on one address and directory through many lives, workers and producers.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ten times what a start takes on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);
/// Lease times of most of these tests.
const SHORT_LEASES: &str = "leases:\n  lease_duration: 2s\n  heartbeat_interval: 500ms\n";

/// Time on the clock of the witnesses, ns.
pub(crate) fn now() -> u128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u128::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000 + u128::try_from(time.tv_nsec).unwrap_or_default()
}

/// Waits until `done` answers something; panics with `what` after `max`.
pub(crate) fn until<T>(what: &str, max: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < max, "{what}: not within {max:?}");
        // The interval of a poll for a condition in another process.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A signal to a process that this test started.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// The server, through its lives.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    data: PathBuf,
    /// What starts the program: nothing, or a shell that limits it first.
    wrapper: Vec<String>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    /// `127.0.0.1:PORT`; the same in every life.
    pub(crate) address: String,
}

impl Server {
    /// Starts a server in a directory of its own, with short leases.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        Self::start_in(dir, data, &[], env)
    }

    /// Starts a server with its data in `data`, by way of `wrapper`.
    pub(crate) fn start_in(dir: tempfile::TempDir, data: PathBuf, wrapper: &[&str], env: &[(&str, &str)]) -> Self {
        Self::configured(dir, data, wrapper, env, SHORT_LEASES)
    }

    /// Starts a replica on a store that is there, with leases of so many seconds.
    pub(crate) fn replica(store: &str, lease_seconds: u64, env: &[(&str, &str)]) -> Self {
        Self::replica_with(&format!("broker: {store}\n"), lease_seconds, env)
    }

    /// Starts a replica with these lines of configuration, and leases of so many seconds.
    pub(crate) fn replica_with(lines: &str, lease_seconds: u64, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let leases = format!("leases:\n  lease_duration: {lease_seconds}s\n  heartbeat_interval: 500ms\n");
        Self::configured(dir, data, &[], env, &format!("{lines}{leases}"))
    }

    fn configured(dir: tempfile::TempDir, data: PathBuf, wrapper: &[&str], env: &[(&str, &str)], config: &str) -> Self {
        std::fs::write(dir.path().join("config.yml"), config).expect("can be written");
        let wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        let mut server = Self { dir, data, wrapper, env: Vec::new(), child: None, address: "127.0.0.1:0".to_owned() };
        server.life(env);
        server
    }

    /// The next life; the last one must be over.
    pub(crate) fn life(&mut self, env: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the server still runs");
        self.env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("a log");
        let words: Vec<&str> =
            self.wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_lineshaft")]).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["serve", "--listen", &self.address, "--config"])
            .arg(self.dir.path().join("config.yml"))
            .arg("--data-dir")
            .arg(&self.data)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let out = child.stdout.take().expect("it was piped");
        let (told, heard) = std::sync::mpsc::channel();
        // Reads to the end, so that the server never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(address) = line.split("http://").nth(1) {
                    let _ = told.send(address.trim().to_owned());
                }
            }
        });
        self.child = Some(child);
        match heard.recv_timeout(START_MAX) {
            Ok(address) => self.address = address,
            Err(_) => panic!("the server does not listen; its log:\n{}", self.log_text()),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Waits for the server to end by itself, as a failpoint makes it.
    pub(crate) fn ended(&mut self, max: Duration) -> bool {
        let mut child = self.child.take().expect("it runs");
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        while start.elapsed() < max {
            if child.try_wait().expect("it can be asked").is_some() {
                return true;
            }
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        false
    }

    /// True while the process runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, which: rustix::process::Signal) {
        signal(self.child.as_ref().expect("it runs"), which);
    }

    /// `http://ADDRESS`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Where its data and files of the test are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// What it logged in all its lives.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the processes logged explains more than the assertion.
            self.dir.disable_cleanup(true);
            println!("logs and witness files are kept in {}", self.dir.path().display());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A worker or producer process.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// Its witness file.
    pub(crate) file: PathBuf,
    /// When it was killed.
    pub(crate) killed_at: Option<u128>,
}

impl Program {
    /// Starts a worker that writes to a file of its own.
    pub(crate) fn worker(server: &Server, name: &str, concurrency: u32) -> Self {
        Self::worker_of(&server.url(), server.dir(), name, concurrency)
    }

    /// Starts a worker that knows these servers (with commas between them), its file in `dir`.
    pub(crate) fn worker_of(servers: &str, dir: &Path, name: &str, concurrency: u32) -> Self {
        let file = dir.join(format!("{name}.witness"));
        Self::spawn(&["worker", servers, &text(&file), name, &concurrency.to_string()], file)
    }

    /// Starts a producer of so many tasks.
    pub(crate) fn producer(server: &Server, prefix: &str, count: u64) -> Self {
        Self::producer_of(&server.url(), server.dir(), prefix, count)
    }

    /// Starts a producer that knows these servers (with commas between them), its file in `dir`.
    pub(crate) fn producer_of(servers: &str, dir: &Path, prefix: &str, count: u64) -> Self {
        let file = dir.join(format!("{prefix}.witness"));
        Self::spawn(&["producer", servers, &text(&file), prefix, &count.to_string()], file)
    }

    /// Starts a producer of so many chords and chains.
    pub(crate) fn workflows_of(servers: &str, dir: &Path, prefix: &str, chords: u32, chains: u32) -> Self {
        let file = dir.join(format!("{prefix}.witness"));
        let (chords, chains) = (chords.to_string(), chains.to_string());
        Self::spawn(&["workflows", servers, &text(&file), prefix, &chords, &chains], file)
    }

    fn spawn(args: &[&str], file: PathBuf) -> Self {
        // Examples are built beside the tests.
        let mut program = std::env::current_exe().expect("this test has a path");
        program.pop();
        program.pop();
        program.push("examples/fault-program");
        let log = File::create(file.with_extension("log")).expect("a log");
        let child = Command::new(program).args(args).stderr(log).spawn().expect("the program starts");
        Self { child, file, killed_at: None }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // Before the signal: an attempt is the worker's until then at least.
        self.killed_at = Some(now());
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
