//! Runs the program as a shell does, and holds every line of JSON against the schema of its command.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::catalogue::{Catalogue, present};
use crate::support::{Options, Process};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and what the commands that were run at it printed.
pub(crate) struct Shell {
    pub(crate) server: Process,
    catalogue: Catalogue,
    /// The properties that were something, of each command.
    seen: BTreeMap<String, BTreeSet<String>>,
}

impl Shell {
    /// On a server whose store is in `dir`.
    pub(crate) fn start(dir: &Path, options: Options) -> Self {
        Self { server: Process::start(dir, options), catalogue: Catalogue::read(), seen: BTreeMap::new() }
    }

    /// Runs a command at the server, with `--json`; what it prints must be as `schema` says.
    #[track_caller]
    pub(crate) fn run(&mut self, schema: &str, args: &[&str]) -> Vec<Value> {
        let url = self.server.url();
        self.run_alone(schema, &[args, &["--server", &url]].concat(), &[])
    }

    /// Runs a command that needs no server, in this environment.
    #[track_caller]
    pub(crate) fn run_alone(&mut self, schema: &str, args: &[&str], environment: &[(&str, &str)]) -> Vec<Value> {
        let output = lineshaft(&[args, &["--json"]].concat(), environment);
        let lines = objects(&output.stdout);
        assert!(!lines.is_empty(), "{args:?} printed nothing: {}", String::from_utf8_lossy(&output.stderr));
        lines.iter().for_each(|line| self.check(schema, line));
        lines
    }

    /// Runs a command that fails with this exit code, and answers its error.
    #[track_caller]
    pub(crate) fn fail(&mut self, exit_code: i32, args: &[&str]) -> Value {
        let url = self.server.url();
        let output = lineshaft(&[args, &["--json", "--server", &url]].concat(), &[]);
        let told = objects(&output.stderr);
        assert_eq!((output.status.code(), told.len()), (Some(exit_code), 1), "{args:?}: {told:?}");
        self.check("error", &told[0]);
        assert_eq!(told[0]["error"]["exit_code"], exit_code, "{told:?}");
        told[0]["error"].clone()
    }

    #[track_caller]
    pub(crate) fn check(&mut self, schema: &str, line: &Value) {
        self.catalogue.check(schema, line);
        present(line, "", self.seen.entry(schema.to_owned()).or_default());
    }

    /// The properties of the schema that no line had, or only null.
    pub(crate) fn unseen(&self, schema: &str) -> Vec<String> {
        let none = BTreeSet::new();
        let seen = self.seen.get(schema).unwrap_or(&none);
        self.catalogue.properties(schema).difference(seen).map(|path| format!("{schema}: {path}")).collect()
    }

    /// The dead tasks that fit, maybe none.
    pub(crate) fn dead(&mut self, filter: &str) -> Vec<Value> {
        objects(&lineshaft(&["dead", "list", filter, "--json", "--server", &self.server.url()], &[]).stdout)
    }

    /// Starts `work --task NAME -- sh -c SCRIPT`.
    pub(crate) fn work(&self, name: &str, script: &str) -> Working {
        self.work_from("", name, script)
    }

    /// The same, at this queue; empty: the default one.
    pub(crate) fn work_from(&self, queue: &str, name: &str, script: &str) -> Working {
        let url = self.server.url();
        let mut child = program()
            .args(["work", "--json", "--server", &url, "--task", name, "--retry-delay", "1h"])
            .args(["--queue", queue])
            .args(["--", "/bin/sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Working { child, lines }
    }
}

/// A worker, killed when dropped.
pub(crate) struct Working {
    child: Child,
    lines: Receiver<String>,
}

impl Working {
    /// What it says next of an attempt.
    pub(crate) fn said(&self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(PATIENCE).unwrap()).unwrap()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lineshaft"));
    // Nothing of whoever runs the tests may configure it.
    program.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    program
}

fn lineshaft(args: &[&str], environment: &[(&str, &str)]) -> Output {
    program().args(args).envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

fn objects(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

/// Asks until it is so; each look takes a while of its own, so nothing is slept between.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so in time: {what}");
        std::thread::yield_now();
    }
}
