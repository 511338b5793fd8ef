//! The processes of the demo: a server and its workers, each this same program started again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::account::Account;
use crate::cli::{Exit, Failure};

/// How long a process may take to start, and to stop when asked.
const PATIENCE: Duration = Duration::from_secs(10);

// What of the surroundings would point the demo's server at somebody's real queue, or change its times.
fn is_foreign_setting(name: &str) -> bool {
    ["BROKER", "RESULT_BACKEND", "DEFAULT_QUEUE", "RESULTS_EXPIRE_IN"].contains(&name) || name.starts_with("LINESHAFT_")
}

/// Leases short enough that a killed worker's task runs elsewhere while somebody watches.
const CONFIG: &str = "leases:\n  heartbeat_interval: 500ms\n  lease_duration: 2s\n";

/// A directory of the demo's own, removed with all in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it in the system's temporary directory, with the configuration of the demo's server in it.
    ///
    /// # Errors
    /// [`Exit::Other`] if it cannot be made.
    pub fn new() -> Result<Self, Failure> {
        Self::within(&std::env::temp_dir(), "demo", CONFIG)
    }

    /// Makes it in `parent`, named for a `purpose`, with the configuration of a server in it.
    ///
    /// # Errors
    /// [`Exit::Other`] if it cannot be made.
    pub fn within(parent: &Path, purpose: &str, config: &str) -> Result<Self, Failure> {
        let path = parent.join(format!("lineshaft-{purpose}-{}", uuid::Uuid::new_v4().simple()));
        let scratch = Self { path };
        std::fs::create_dir(&scratch.path)
            .and_then(|()| std::fs::write(scratch.config(), config))
            .map_err(|error| Failure::new(Exit::Other, format!("{:?} cannot be made: {error}", scratch.path)))?;
        Ok(scratch)
    }

    /// Where the server keeps its data.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    fn config(&self) -> PathBuf {
        self.path.join("config.yml")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, whose temporary directory it is in.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A process of the demo. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, scratch: &Scratch, args: &[&str]) -> Result<(Self, Lines<BufReader<ChildStdout>>), Failure> {
        let fail = |error: std::io::Error| Failure::new(Exit::Other, format!("{name} cannot be started: {error}"));
        let log = scratch.log(name);
        let stderr = File::options().create(true).append(true).open(&log).map_err(fail)?;
        let mut command = Command::new(std::env::current_exe().map_err(fail)?);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_foreign_setting)) {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(fail)?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new(Exit::Other, format!("{name} has no stdout")))?;
        Ok((Self { name: name.to_owned(), child, log }, BufReader::new(stdout).lines()))
    }

    /// The process id; 0 once it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// As in the account.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kill -9`, and waits for its end.
    pub async fn kill(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill().await;
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Errors
    /// [`Exit::TaskFailed`] if it does not end in time, or not well.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failure(&format!("ended with {status} when asked to stop"))),
            Ok(Err(error)) => Err(self.failure(&format!("cannot be waited for: {error}"))),
            Err(_) => Err(self.failure(&format!("did not stop within {} s", PATIENCE.as_secs()))),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(Exit::TaskFailed, format!("{} {what}{}", self.name, log_end(&self.log)))
    }
}

// The end of a process's log, for a failure whose directory is about to be removed.
fn log_end(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    match lines.get(from..) {
        None | Some([]) => String::new(),
        Some(end) => format!("; its log ends:\n{}", end.join("\n")),
    }
}

/// Starts the server on `listen` (`127.0.0.1:0` for a free port) and answers it with its URL.
///
/// # Errors
/// [`Exit::Other`] if it does not come up, with the end of its log.
pub async fn serve(scratch: &Scratch, listen: &str) -> Result<(Process, String), Failure> {
    let (data, config) = (scratch.data(), scratch.config());
    let (data, config) = (data.to_string_lossy(), config.to_string_lossy());
    let args = ["serve", "--listen", listen, "--data-dir", &data, "--config", &config];
    let (server, mut lines) = Process::start("server", scratch, &args)?;
    let url = timeout(PATIENCE, async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, url)) = line.split_once("listening on ") {
                return Some(url.trim().to_owned());
            }
        }
        None
    });
    match url.await {
        Ok(Some(url)) => {
            // Read on, so that the server never waits for room in the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok((server, url))
        }
        _ => Err(Failure::new(Exit::Other, format!("the server did not come up{}", log_end(&server.log)))),
    }
}

/// An attempt that a worker began, as it said itself.
#[derive(Debug, Clone)]
pub struct Run {
    /// Which worker.
    pub worker: String,
    /// Which task.
    pub task_id: String,
    /// Which attempt, from 1.
    pub attempt: u64,
    /// Under which fencing token.
    pub fencing_token: u64,
}

/// Starts a worker; each attempt it begins is told in `account` and added to `runs`.
///
/// # Errors
/// [`Exit::Other`] if it cannot be started.
pub fn work(
    scratch: &Scratch,
    name: &str,
    url: &str,
    account: &Account,
    runs: &watch::Sender<Vec<Run>>,
) -> Result<Process, Failure> {
    let (worker, mut lines) = Process::start(name, scratch, &["demo-worker", "--server", url, "--name", name])?;
    let (name, account, runs) = (name.to_owned(), account.clone(), runs.clone());
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
            let number = |key: &str| said.get(key).and_then(Value::as_u64).unwrap_or(0);
            let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (attempt, fencing_token) = (number("attempt"), number("fencing_token"));
            account.tell(
                &name,
                "runs",
                &format!("runs {}, attempt {attempt}, fencing token {fencing_token}", text("call")),
                [
                    ("task_id", text("task_id").into()),
                    ("task_name", text("task_name").into()),
                    ("attempt", attempt.into()),
                    ("fencing_token", fencing_token.into()),
                ],
            );
            let run = Run { worker: name.clone(), task_id: text("task_id"), attempt, fencing_token };
            runs.send_modify(|runs| runs.push(run));
        }
    });
    Ok(worker)
}
