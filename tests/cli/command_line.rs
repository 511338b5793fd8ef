//! Help, wrong command lines, and errors without a server.

use crate::program::{lineshaft, nobody, stderr, stdout};

const CLIENTS: [&str; 13] = [
    "top", "send", "state", "wait", "cancel", "queues", "pause", "tasks", "resume", "purge", "pending", "leases",
    "workers",
];

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
        (vec!["top", "--interval", "50ms"], "out of range: 100 ms to 60 min"),
        (vec!["state"], "<ID>"),
        (vec!["leases", "reason=poison"], "a filter is queue=, name=, task=, session="),
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
        vec!["top"],
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
