//! `work`: any program as a worker.

use serde_json::Value;

use crate::program::{PATIENCE, Server, signal, stderr, stdout, trimmed, until};

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
    let fits = |terms: &[&str]| server.json(&[&["leases"], terms].concat()).len();
    let session = format!("session={}", leases[0]["session_id"].as_str().expect("an id"));
    assert_eq!((fits(&["name=gated", "newer=1h", &session]), fits(&["name=other"]), fits(&["older=1h"])), (1, 0, 0));
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
