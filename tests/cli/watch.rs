//! `watch`: each state as it comes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::program::{PATIENCE, Running, Server, lineshaft, stderr, stdout, trimmed};
use crate::support::{Options, Process};

#[test]
fn watched_tasks_are_printed_until_all_have_ended() {
    let server = Server::start();
    let (_worker, _) = server.work("echo", "cat");
    let (_doomed, _) = server.work("doomed", "echo no luck >&2; exit 65");
    let good = trimmed(&server.run(&["send", "echo", "7"]));
    let states = server.json(&["watch", &good]);
    assert_eq!(states.last().map(|state| &state["status"]), Some(&"SUCCESS".into()), "{states:?}");
    let bad = trimmed(&server.run(&["send", "doomed"]));
    let output = server.run(&["watch", &good, &bad]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).lines().any(|line| line == format!("{good}  SUCCESS  attempt 1  7")),
        "{}",
        stdout(&output)
    );
    assert!(stdout(&output).contains("no luck") && stderr(&output).contains("1 of 2 tasks failed"));
    let waits = trimmed(&server.run(&["send", "nobody"]));
    assert_eq!(server.run(&["watch", &waits, "--timeout", "100ms"]).status.code(), Some(5));
}

/// A `watch` in a process of its own, and its lines as they come.
struct Watch {
    process: Running,
    lines: Receiver<String>,
}

impl Watch {
    fn start(url: &str, ids: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args(["watch", "--json", "--server", url])
            .args(ids)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the watch starts");
        let output = BufReader::new(process.stdout.take().expect("its stdout"));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process: Running(process), lines }
    }

    /// Id and status of the next line.
    fn next(&self) -> (String, String) {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line");
        let state: Value = serde_json::from_str(&line).expect("JSON");
        let text = |key: &str| state[key].as_str().expect("a text").to_owned();
        (text("task_id"), text("status"))
    }
}

#[test]
fn a_watch_outlives_the_server_and_tells_nothing_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Process::start(&dir.path().join("data"), Options::default());
    let url = server.url();
    let at = |args: &[&str]| lineshaft(&[args, &["--server", &url]].concat());
    for id in ["first", "second"] {
        assert!(at(&["send", "echo", id, "--id", id]).status.success());
    }
    let mut watch = Watch::start(&url, &["first", "second"]);
    let pending = |id: &str| (id.to_owned(), "PENDING".to_owned());
    let mut seen = [watch.next(), watch.next()];
    seen.sort();
    assert_eq!(seen, [pending("first"), pending("second")]);

    server.kill();
    // In the server's place: whoever watches asks there again and again, and is turned away.
    let listener = TcpListener::bind(server.addr).expect("its port");
    for _ in 0..2 {
        drop(listener.accept().expect("the watch asks again"));
    }
    drop(listener);
    server.restart();
    let worker = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(["work", "--server", &url, "--task", "echo", "--", "cat"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the worker starts");
    let _worker = Running(worker);
    let mut rest = Vec::new();
    while rest.iter().filter(|(_, status)| status == "SUCCESS").count() < 2 {
        rest.push(watch.next());
    }
    assert!(rest.iter().all(|(_, status)| status != "PENDING"), "told before the server went: {rest:?}");
    let mut once = rest.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), rest.len(), "{rest:?}");
    assert_eq!(watch.process.0.wait().expect("it ends").code(), Some(0));
}
