//! `send`, `state`, `wait`, `cancel`: one task and what becomes of it.

use crate::program::{Server, stderr, trimmed};

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
