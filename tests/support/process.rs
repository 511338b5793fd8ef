//! The real program in a process of its own: started, killed, started again on the same port and directory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// The longest that a start or an end may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Set for the process, beside a bare environment.
    pub environment: Vec<(String, String)>,
    /// Behind `serve`.
    pub arguments: Vec<String>,
}

impl Options {
    /// With one more variable.
    #[must_use]
    pub fn env(mut self, name: &str, text: &str) -> Self {
        self.environment.push((name.to_owned(), text.to_owned()));
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// A server process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// Where it listens; the same after a restart.
    pub addr: SocketAddr,
    child: Child,
    options: Options,
    dir: PathBuf,
}

impl Process {
    /// Starts a server on a free port, its store in `dir`; returns once it listens.
    pub fn start(dir: &Path, options: Options) -> Self {
        let (child, addr) = spawn(dir, &options, "127.0.0.1:0");
        Self { addr, child, options, dir: dir.to_owned() }
    }

    /// Its address as clients take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again after its end, on the same port and directory.
    pub fn restart(&mut self) {
        let (child, addr) = spawn(&self.dir, &self.options, &self.addr.to_string());
        assert_eq!(addr, self.addr);
        self.child = child;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end within {DEADLINE:?}: {}", self.log());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// What it logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(&self.dir)).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

fn spawn(dir: &Path, options: &Options, listen: &str) -> (Child, SocketAddr) {
    let log = File::options().create(true).append(true).open(log_of(dir)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(dir)
        .args(&options.arguments)
        // Nothing of whoever runs the tests may configure the server.
        .env_clear()
        .env("RUST_BACKTRACE", "1")
        .envs(options.environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let (tell, told) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        // Read to its end, so that the server never waits for a reader.
        for line in output.lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let line = told.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let _ = child.kill();
        panic!("the server did not listen: {}", std::fs::read_to_string(log_of(dir)).unwrap_or_default())
    });
    let addr = line.strip_prefix("listening on http://").and_then(|addr| addr.parse().ok());
    (child, addr.unwrap_or_else(|| panic!("{line:?}")))
}
