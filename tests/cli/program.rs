//! The program as a shell runs it, and servers of it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn lineshaft(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(args)
        .env_remove("LINESHAFT_SERVER")
        .env_remove("COLUMNS")
        .output()
        .expect("the program starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// An address where nothing listens: bound, then given up.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    format!("http://{address}")
}

/// A running program, killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    // Dropped in this order: first the process, then its directory.
    _process: Running,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these variables.
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let dir = data.path().to_str().expect("is text").to_owned();
        Self::launch(&["--data-dir", &dir], environment, data)
    }

    /// One that keeps everything in memory.
    pub(crate) fn start_ephemeral() -> Self {
        Self::launch(&["--ephemeral"], &[], tempfile::tempdir().expect("a directory"))
    }

    fn launch(arguments: &[&str], environment: &[(&str, &str)], data: tempfile::TempDir) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdout = process.stdout.take().expect("its stdout");
        let process = Running(process);
        let mut lines = BufReader::new(stdout).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
            .expect("the server listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { url, _process: process, _data: data }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let (options, program) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
        lineshaft(&[options, &["--server", &self.url], program].concat())
    }

    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[args, &["--json"]].concat());
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Starts `work --task NAME -- sh -c SCRIPT`; its remarks go to the lines it answers.
    pub(crate) fn work(&self, name: &str, script: &str) -> (Running, Receiver<String>) {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args([
                "work",
                "--server",
                &self.url,
                "--json",
                "--task",
                name,
                "--retry-delay",
                "1s",
                "--",
                "/bin/sh",
                "-c",
                script,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the worker starts");
        let stdout = process.stdout.take().expect("its stdout");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        (Running(process), lines)
    }
}

/// Waits for a condition; each look takes a while of its own, so nothing is slept between.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn signal(process: &Child, name: &str) {
    let sent = Command::new("/bin/kill").arg(format!("-{name}")).arg(process.id().to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

pub(crate) fn trimmed(output: &Output) -> String {
    stdout(output).trim().to_owned()
}
