//! The command line as a shell meets it: the real program, its stdout, stderr and exit codes.

// Helpers of tests may panic like the tests themselves; clippy knows only the functions marked as tests.
#![allow(clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn lineshaft(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(args)
        .env_remove("LINESHAFT_SERVER")
        .env_remove("COLUMNS")
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// An address where nothing listens: bound, then given up.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    format!("http://{address}")
}

const CLIENTS: [&str; 12] =
    ["send", "state", "wait", "cancel", "queues", "pause", "tasks", "resume", "purge", "pending", "leases", "workers"];

#[test]
fn help_lists_every_command_and_hides_the_demos_own() {
    let output = lineshaft(&["--help"]);
    assert!(output.status.success());
    let help = stdout(&output);
    for command in CLIENTS.iter().chain(&["demo", "work"]) {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}: {help}");
    }
    assert!(!help.contains("demo-worker"), "{help}");
}

#[test]
fn every_client_command_documents_its_server_and_its_exit_codes() {
    for command in CLIENTS {
        let help = stdout(&lineshaft(&[command, "--help"]));
        assert!(help.contains("LINESHAFT_SERVER") && help.contains("http://127.0.0.1:7340"), "{command}: {help}");
        assert!(help.contains("Exit codes:") && help.contains("no such task or queue"), "{command}: {help}");
    }
    for action in ["list", "requeue", "delete"] {
        let help = stdout(&lineshaft(&["dead", action, "--help"]));
        assert!(help.contains("LINESHAFT_SERVER") && help.contains("older="), "{action}: {help}");
    }
    let work = stdout(&lineshaft(&["work", "--help"]));
    assert!(work.contains("75") && work.contains("65") && work.contains("LINESHAFT_FENCING_TOKEN"), "{work}");
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_says_what_is_wrong() {
    for (args, says) in [
        (vec!["send"], "<NAME>"),
        (vec!["send", "add", "int8:300"], "300 is out of range for int8"),
        (vec!["send", "add", "18446744073709551616"], "string:"),
        (vec!["send", "add", "--delay", "5 s"], "500ms"),
        (vec!["send", "add", "--eta", "tomorrow"], "2026-11-24T18:00:00Z"),
        (vec!["send", "add", "--eta", "2030-01-01T00:00:00Z", "--delay", "5s"], "cannot be used with"),
        (vec!["send", "add", "--priority", "256"], "256"),
        (vec!["send", "add", "--idempotency-key", "k", "--until", "later"], "started or ended"),
        (vec!["send", "add", "--until", "ended"], "--idempotency-key"),
        (vec!["send", "add", "--header", "novalue"], "no \"=\""),
        (vec!["send", "add", "--header", "a=1", "--header", "a=2", "--server", "127.0.0.1:1"], "given twice"),
        (vec!["pending", "--page-size", "1001"], "1001"),
        (vec!["state"], "<ID>"),
        (vec!["dead", "list", "color=red"], "\"color\" is not known"),
        (vec!["dead", "requeue"], "FILTER"),
        (vec!["dead", "delete", "--all", "queue=q"], "cannot be used with"),
        (vec!["dead", "delete", "--id", "x", "queue=q"], "cannot be used with"),
        (vec!["work", "--task", "x"], "PROGRAM"),
        (vec!["work", "--", "cat"], "--task"),
        (vec!["work", "--task", "x", "--", "/nonexistent/program"], "/nonexistent/program"),
        (vec!["state", "x", "--server", "https://127.0.0.1:1"], "TLS"),
        (vec!["state", "x", "--server", "http://[:"], "not an address"),
    ] {
        let output = lineshaft(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_exit_code_4() {
    let server = nobody();
    for command in [
        vec!["send", "add", "1"],
        vec!["state", "x"],
        vec!["wait", "x"],
        vec!["cancel", "x"],
        vec!["queues"],
        vec!["pause", "q"],
        vec!["resume", "q"],
        vec!["purge", "q", "--yes"],
        vec!["pending"],
        vec!["leases"],
        vec!["workers"],
        vec!["dead", "list"],
        vec!["dead", "delete", "--all", "--yes"],
    ] {
        let mut args = command.clone();
        args.extend(["--server", &server]);
        let output = lineshaft(&args);
        assert_eq!(output.status.code(), Some(4), "{command:?}: {}", stderr(&output));
        let error = stderr(&output);
        assert!(
            error.starts_with(&format!("error: no server answers at {server}")) && error.lines().count() == 1,
            "{error}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let output = lineshaft(&["state", "x", "--json", "--server", &nobody()]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&output)).expect("JSON");
    assert_eq!(error["error"]["exit_code"], 4);
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("no server answers")), "{error}");
}

// From here on with a server: the real program too, on the embedded store.

/// A running program, killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    url: String,
    // Dropped in this order: first the process, then its directory.
    _process: Running,
    _data: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these variables.
    fn start_with(environment: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut process = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
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

    fn run(&self, args: &[&str]) -> Output {
        let (options, program) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
        lineshaft(&[options, &["--server", &self.url], program].concat())
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[args, &["--json"]].concat());
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Starts `work --task NAME -- sh -c SCRIPT`; its remarks go to the lines it answers.
    fn work(&self, name: &str, script: &str) -> (Running, Receiver<String>) {
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
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}");
        std::thread::yield_now();
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("/bin/kill").arg(format!("-{name}")).arg(process.id().to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

fn trimmed(output: &Output) -> String {
    stdout(output).trim().to_owned()
}

#[test]
fn a_program_works_a_task_and_its_results_are_printed() {
    let server = Server::start();
    let (_worker, _) = server.work("echo", "cat");
    let output = server.run(&["send", "echo", "1", "2.5", "hello", "[]int64:[1,2]", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "1\n2.5\nhello\n[1,2]\n");
    assert!(stderr(&output).starts_with("sent task_"));

    let id = trimmed(&server.run(&["send", "echo", "18446744073709551615"]));
    let output = server.run(&["wait", &id]);
    assert_eq!((output.status.code(), trimmed(&output).as_str()), (Some(0), "18446744073709551615"));
    let states = server.json(&["state", &id]);
    assert_eq!(states[0]["status"], "SUCCESS");
    assert_eq!(states[0]["results"][0]["type"], "uint64");
    let table = stdout(&server.run(&["state", &id]));
    assert!(table.contains(&id) && table.contains("SUCCESS") && table.starts_with("TASK"), "{table}");
}

#[test]
fn the_exit_code_of_a_program_decides_what_comes_next() {
    let server = Server::start();
    let (_doomed, _) = server.work("doomed", "echo no such user >&2; exit 65");
    let output = server.run(&["send", "doomed", "--retries", "5", "--wait"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("failed: no such user"), "{}", stderr(&output));

    let flaky = r#"[ "$LINESHAFT_ATTEMPT" -gt 1 ] && echo '"ok"' || { echo unlucky >&2; exit 1; }"#;
    let (_flaky, _) = server.work("flaky", flaky);
    let output = server.run(&["send", "flaky", "--retries", "1", "--wait"]);
    assert_eq!((output.status.code(), trimmed(&output).as_str()), (Some(0), "ok"), "{}", stderr(&output));
    let output = server.run(&["send", "flaky", "--wait", "--json"]);
    assert_eq!(output.status.code(), Some(1), "without retries the first failure is the last");
    let state: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&state["status"], &state["error"]), (&"FAILURE".into(), &"unlucky".into()));

    let busy = r#"[ "$LINESHAFT_ATTEMPT" -gt 1 ] && echo 7 || { echo '{"retry_after_seconds": 0.1}'; exit 75; }"#;
    let (_busy, _) = server.work("busy", busy);
    let output = server.run(&["send", "busy", "--wait"]);
    assert_eq!((output.status.code(), trimmed(&output).as_str()), (Some(0), "7"), "later costs no retry");
}

#[test]
fn what_waits_is_shown_without_being_taken() {
    let server = Server::start();
    let first = trimmed(&server.run(&["send", "nobody", "1", "--priority", "3", "--header", "tenant=a"]));
    let second = trimmed(&server.run(&["send", "nobody", "two", "--delay", "1h"]));
    let due = server.json(&["pending"]);
    assert_eq!(due.iter().map(|task| task["task"]["id"].as_str().unwrap()).collect::<Vec<_>>(), [first.as_str()]);
    assert_eq!((&due[0]["unclaimed"], &due[0]["task"]["headers"]["tenant"]), (&true.into(), &"a".into()));
    assert_eq!(server.json(&["pending", "--delayed", "--page-size", "1"]).len(), 2);
    assert_eq!(server.json(&["pending", "--delayed", "--limit", "1"]).len(), 1);
    let table = stdout(&server.run(&["pending", "--delayed"]));
    assert!(table.contains(&second) && table.contains("in 59 min") && table.contains("no worker for it"), "{table}");
    assert_eq!(server.json(&["state", &first])[0]["status"], "PENDING");
}

#[test]
fn tasks_are_listed_by_filter() {
    let server = Server::start();
    for id in ["a", "b", "c"] {
        let sent = server.run(&["send", "count", &format!("text-{id}"), "--id", id, "--queue", "q"]);
        assert!(sent.status.success(), "{}", stderr(&sent));
    }
    let listed = server.json(&["tasks"]);
    assert_eq!(listed.len(), 3);
    assert_eq!(
        (&listed[0]["task_id"], &listed[0]["queue"], &listed[0]["status"]),
        (&"a".into(), &"q".into(), &"PENDING".into())
    );
    let found = server.json(&["tasks", "args=text-b", "state=pending", "newer=1h"]);
    assert_eq!(found.iter().map(|task| task["task_id"].clone()).collect::<Vec<_>>(), ["b"]);
    assert!(server.json(&["tasks", "state=success"]).is_empty());
    assert!(server.run(&["cancel", "c"]).status.success());
    let table = stdout(&server.run(&["tasks", "reason=cancelled"]));
    assert!(table.starts_with("TASK") && table.contains("FAILURE") && !table.contains("text-a"), "{table}");
    let some = server.run(&["tasks", "--limit", "1"]);
    assert!(stderr(&some).contains("--limit 0"), "{}", stderr(&some));
    assert_eq!(server.run(&["tasks", "state=gone"]).status.code(), Some(2));
}

#[test]
fn dead_tasks_are_found_sent_again_and_deleted() {
    let server = Server::start_with(&[("LINESHAFT_LEASES_KEEP_FAILED", "true")]);
    let script = r#"[ -e "$0" ] && echo 1 || { echo no luck >&2; exit 65; }"#;
    let gate = tempfile::tempdir().expect("a directory");
    let go = gate.path().join("go");
    let (_worker, _) = server.work("fragile", &script.replace("$0", &go.display().to_string()));
    let ids: Vec<String> = (0..3).map(|n| format!("f{n}")).collect();
    for id in &ids {
        assert_eq!(server.run(&["send", "fragile", "x", "--id", id, "--wait"]).status.code(), Some(1));
    }
    let dead = server.json(&["dead", "list"]);
    assert_eq!(dead.len(), 3);
    let first = dead.iter().find(|dead| dead["task_id"] == "f0").expect("is listed");
    assert_eq!(
        (&first["reason"], &first["attempts"], &first["queue"]),
        (&"FAILED".into(), &1.into(), &"machinery_tasks".into())
    );
    assert!(first["error"].as_str().is_some_and(|text| text.contains("no luck")), "{first}");
    assert_eq!(first["args"][0]["value"], "x");
    let dead_id = first["dead_id"].as_str().expect("an id").to_owned();
    let table = stdout(&server.run(&["dead", "list", "name=fragile", "newer=1h"]));
    assert!(table.starts_with("DEAD ID") && table.contains(&dead_id) && table.contains("no luck"), "{table}");
    assert!(server.json(&["dead", "list", "older=1h"]).is_empty());
    assert!(server.json(&["dead", "list", "reason=poison"]).is_empty());
    let some = server.run(&["dead", "list", "--limit", "2"]);
    assert_eq!((stdout(&some).lines().count(), stderr(&some).contains("--limit 0")), (3, true));

    // Without a terminal nobody can be asked.
    let output = server.run(&["dead", "requeue", "--all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("would requeue 3 dead tasks") && stderr(&output).contains("--yes"),
        "{}",
        stderr(&output)
    );
    let output = server.run(&["dead", "requeue", "task=f0", "--dry-run"]);
    assert_eq!((output.status.code(), trimmed(&output).as_str()), (Some(0), "1 dead task would be requeued"));
    assert_eq!(server.json(&["dead", "list"]).len(), 3);

    std::fs::write(&go, "").expect("the gate");
    let output = server.run(&["dead", "requeue", "--id", &dead_id, "--retries", "1", "--yes"]);
    assert_eq!(
        (output.status.code(), trimmed(&output).as_str()),
        (Some(0), "1 dead task requeued"),
        "{}",
        stderr(&output)
    );
    until("it has ended well", || server.json(&["state", "f0"])[0]["status"] == "SUCCESS");
    let output = server.run(&["dead", "requeue", "--id", &dead_id, "--yes"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("is not among the dead tasks"), "{}", stderr(&output));

    let deleted = server.json(&["dead", "delete", "--all", "--yes"]);
    assert_eq!(deleted.len(), 2);
    assert!(deleted.iter().all(|result| result["outcome"] == "DONE"), "{deleted:?}");
    assert!(server.json(&["dead", "list"]).is_empty());
    assert_eq!(server.json(&["state", "f1"])[0]["status"], "FAILURE", "its state stays");
}

#[test]
fn cancelled_tasks_are_told_one_a_line_and_fail_whoever_waits() {
    let server = Server::start();
    let id = trimmed(&server.run(&["send", "nobody"]));
    assert_eq!(trimmed(&server.run(&["cancel", &id])), format!("{id}  cancelled"));
    assert_eq!(server.json(&["cancel", &id])[0]["result"], "ENDED");
    let output = server.run(&["wait", &id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lineshaft: cancelled (CANCELLED)"), "{}", stderr(&output));
    let (unknown, known) = ("task_unknown", trimmed(&server.run(&["send", "nobody"])));
    let output = server.run(&["cancel", unknown, &known]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(trimmed(&output), format!("{known}  cancelled"), "the others are cancelled all the same");
}

#[test]
fn queues_are_shown_paused_resumed_and_purged() {
    let server = Server::start();
    let ids: Vec<String> = (0..3).map(|_| trimmed(&server.run(&["send", "nobody", "--queue", "media"]))).collect();
    server.run(&["send", "later", "--queue", "media", "--delay", "1h"]);
    let shown = &server.json(&["queues", "media"])[0];
    assert_eq!((&shown["name"], &shown["waiting"], &shown["delayed"]), (&"media".into(), &3.into(), &1.into()));
    assert!(shown["oldest_age_seconds"].is_number() && shown["rates"]["sent"].is_number(), "{shown}");
    assert_eq!(server.json(&["queues", "--prefix", "med"]).len(), 1);
    assert_eq!(server.run(&["queues", "unknown"]).status.code(), Some(3));
    assert!(stdout(&server.run(&["queues"])).contains("no worker"));

    let said = trimmed(&server.run(&["pause", "media"]));
    assert_eq!(said, "media  paused; 3 wait, 1 are delayed, 0 are leased");
    assert_eq!(server.json(&["queues", "media"])[0]["paused"], true);
    assert_eq!(server.json(&["resume", "media"])[0]["paused"], false);

    assert_eq!(trimmed(&server.run(&["purge", "media", "--dry-run"])), "3 tasks would be purged");
    let unasked = server.run(&["purge", "media"]);
    assert_eq!(unasked.status.code(), Some(2), "{}", stderr(&unasked));
    assert!(stderr(&unasked).contains("--yes"), "{}", stderr(&unasked));
    assert_eq!(trimmed(&server.run(&["purge", "media", "--yes"])), "3 tasks purged");
    assert_eq!(server.json(&["purge", "media", "--delayed", "--yes"])[0]["purged"], 1);
    let output = server.run(&["wait", &ids[0]]);
    assert!(stderr(&output).contains("lineshaft: purged (PURGED)"), "{}", stderr(&output));
}

#[test]
fn a_task_that_was_not_begun_in_its_time_is_shown_as_expired() {
    let server = Server::start();
    let output = server.run(&["send", "nobody", "--expires-in", "1s", "--wait=30s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lineshaft: expired (EXPIRED)"), "{}", stderr(&output));
    let id = trimmed(&server.run(&["tasks", "reason=expired"]));
    assert!(id.contains("lineshaft: expired"), "{id}");
    assert_eq!(server.json(&["tasks", "reason=expired"]).len(), 1);
    let refused = server.run(&["send", "nobody", "--expires-in", "100ms"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("task.expires_in"), "{}", stderr(&refused));
}

#[test]
fn a_program_that_runs_too_long_is_stopped_and_its_attempt_has_failed() {
    let server = Server::start();
    let (_working, _lines) = server.work("slow", "exec sleep 600");
    let output = server.run(&["send", "slow", "--attempt-timeout", "300ms", "--wait=30s"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the program was stopped"), "{}", stderr(&output));
    let refused = server.run(&["send", "slow", "--attempt-timeout", "50ms"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("task.attempt_timeout"), "{}", stderr(&refused));
}

#[test]
fn unknown_tasks_and_waits_in_vain_have_exit_codes_of_their_own() {
    let server = Server::start();
    let output = server.run(&["state", "task_unknown"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("TASK_UNKNOWN"), "{}", stderr(&output));
    let output = server.run(&["wait", "task_unknown", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let id = trimmed(&server.run(&["send", "nobody"]));
    let output = server.run(&["wait", &id, "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("has not ended within 100 ms; it is PENDING"), "{}", stderr(&output));
    let output = server.run(&["send", "", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("TASK_INVALID") && stderr(&output).contains("task.name"), "{}", stderr(&output));
}

#[test]
fn a_send_with_a_name_is_sent_once() {
    let server = Server::start();
    let named = ["send", "nobody", "1", "--request-id", "r", "--idempotency-key", "k", "--until", "10m"];
    let id = trimmed(&server.run(&named));
    let again = server.run(&named);
    assert_eq!((trimmed(&again), stderr(&again).trim()), (id.clone(), "already sent"));
    let told = server.json(&["send", "nobody", "2", "--idempotency-key", "k"]);
    assert_eq!((&told[0]["task_id"], &told[0]["already_sent"]), (&id.as_str().into(), &true.into()));
    let other = server.run(&["send", "nobody", "2", "--request-id", "r"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("REQUEST_ID_REUSED"), "{}", stderr(&other));
    assert_eq!(server.json(&["pending"]).len(), 1);
}

#[test]
fn workers_and_leases_are_seen_and_a_worker_that_stops_finishes_its_program() {
    let server = Server::start();
    let gate = tempfile::tempdir().expect("a directory");
    let (begun, go) = (gate.path().join("begun"), gate.path().join("go"));
    let script = format!("touch {}; until [ -e {} ]; do sleep 0.02; done; echo 1", begun.display(), go.display());
    let (mut worker, lines) = server.work("gated", &script);
    let id = trimmed(&server.run(&["send", "gated"]));
    until("the program has begun", || begun.exists());

    let leases = server.json(&["leases"]);
    assert_eq!((&leases[0]["task_id"], &leases[0]["accepted"]), (&id.as_str().into(), &true.into()));
    let workers = server.json(&["workers"]);
    assert_eq!((&workers[0]["leases"], &workers[0]["subscriptions"][0]["names"][0]), (&1.into(), &"gated".into()));
    assert!(stdout(&server.run(&["workers"])).contains("gated"));
    assert!(stdout(&server.run(&["leases"])).contains(&id));

    signal(&worker.0, "TERM");
    std::fs::write(&go, "").expect("the gate opens");
    let line = lines.recv_timeout(PATIENCE).expect("a line about the attempt");
    let said: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&said["outcome"], &said["task_id"]), (&"success".into(), &id.as_str().into()));
    let status = worker.0.wait().expect("the worker ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(trimmed(&server.run(&["wait", &id])), "1");
}

#[test]
fn the_demo_goes_as_it_expects() {
    let output = lineshaft(&["demo"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", stderr(&output));
    assert!(told.ends_with("Everything went as expected.\n"), "{told}");
}

#[test]
fn the_demo_is_told_in_json_too() {
    let output = lineshaft(&["demo", "--json", "--no-kill"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", stderr(&output));
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ended: Vec<&Value> = events.iter().filter(|event| event["event"] == "ended").collect();
    assert!(ended.len() >= 5 && ended.iter().all(|event| event["as_expected"] == true), "{told}");
    assert_eq!(events.last().map(|event| &event["event"]), Some(&"finished".into()));
}

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

#[test]
fn the_doctor_finds_what_waits_in_vain_and_who_is_away() {
    let server = Server::start();
    server.run(&["send", "nobody"]);
    server.run(&["pause", "held"]);
    let checks = server.json(&["doctor"]);
    let level = |name: &str| checks.iter().find(|check| check["check"] == name).map(|check| check["level"].clone());
    for good in ["configuration", "server", "encryption", "version", "clock", "stores"] {
        assert_eq!(level(good), Some("ok".into()), "{good}: {checks:?}");
    }
    assert_eq!(level("workers"), Some("warn".into()), "{checks:?}");
    let queues: Vec<&str> =
        checks.iter().filter(|check| check["check"] == "queue").filter_map(|check| check["found"].as_str()).collect();
    assert!(queues.iter().any(|found| found.contains("\"held\" is paused")), "{queues:?}");
    assert!(queues.iter().any(|found| found.contains("nobody takes: nobody")), "{queues:?}");

    let away = lineshaft(&["doctor", "--server", &nobody()]);
    assert_eq!(away.status.code(), Some(1), "{}", stdout(&away));
    assert!(stdout(&away).lines().any(|line| line.starts_with("fail  server")), "{}", stdout(&away));
}

#[test]
fn shells_and_the_manual_know_every_command_but_the_hidden_ones() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&lineshaft(&["completions", shell]));
        assert!(script.contains("doctor") && script.contains("requeue"), "{shell}");
        assert!(!script.contains("demo-worker") && !script.contains("bench-part"), "{shell}");
    }
    assert!(stdout(&lineshaft(&["man"])).contains("lineshaft"));
    let dir = tempfile::tempdir().expect("a directory");
    let output = lineshaft(&["man", "--dir", &dir.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for page in ["lineshaft.1", "lineshaft-watch.1", "lineshaft-dead-requeue.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert!(!dir.path().join("lineshaft-demo-worker.1").exists());
}
