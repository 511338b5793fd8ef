//! `send --then`, `--and`, `--callback`, `group`, `cancel --group`: tasks that belong together.

use crate::program::{Server, stderr, stdout, trimmed};

/// Writes its arguments' sum; jq is not everywhere, so the shell adds.
const ADD: &str = r#"echo $(($(tr -d '[] ' | tr , +)))"#;

#[test]
fn a_chain_a_group_and_a_chord_print_their_results() {
    let server = Server::start_ephemeral();
    let (_worker, _) = server.work("add", ADD);
    let chain = server.run(&["send", "add", "1", "2", "--then", "add", "10", "--then", "add", "100", "--wait"]);
    assert_eq!(trimmed(&chain), "113", "{}", stderr(&chain));
    let group = server.run(&["send", "add", "1", "1", "--and", "add", "2", "2", "--and", "add", "-3", "3", "--wait"]);
    assert_eq!(trimmed(&group).lines().collect::<Vec<_>>(), ["2", "4", "0"], "{}", stderr(&group));
    let chord = server.run(&["send", "add", "1", "1", "--and", "add", "2", "2", "--callback", "add", "10", "--wait"]);
    assert_eq!(trimmed(&chord), "16", "{}", stderr(&chord));
}

#[test]
fn a_file_is_sent_as_it_says_and_its_group_is_shown_watched_and_known() {
    let server = Server::start_ephemeral();
    let (_worker, _) = server.work("add", ADD);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tasks.json");
    let tasks: Vec<String> = (0..30).map(|n| format!(r#"{{"name":"add","args":[{n},1],"id":"t{n}"}}"#)).collect();
    let text = format!(r#"{{"tasks":[{}],"callback":{{"name":"add","id":"sum"}}}}"#, tasks.join(","));
    std::fs::write(&file, text).expect("is written");
    let file = file.to_str().expect("is text");
    let sent = server.json(&["send", "--chord", file, "--id", "g"]);
    assert_eq!((&sent[0]["group_id"], &sent[0]["callback_id"]), (&"g".into(), &"sum".into()));
    assert_eq!(sent[0]["task_ids"].as_array().map(Vec::len), Some(30));
    let watched = server.run(&["group", "g", "--watch", "--limit", "2"]);
    assert_eq!(watched.status.code(), Some(0), "{}", stderr(&watched));
    let shown = stdout(&watched);
    assert!(shown.contains("chord g  [########################]  30 of 30 have ended"), "{shown}");
    assert!(shown.contains("├─ … and 28 more") && shown.contains("└─ then sum"), "{shown}");
    let group = server.json(&["group", "g", "--limit", "0"]);
    assert_eq!(group[0]["callback"]["results"][0]["value"], 465, "{group:?}");
    assert_eq!(group[0]["tasks"].as_array().map(Vec::len), Some(30));
    let again = server.run(&["send", "--chord", file, "--id", "g"]);
    assert_eq!(again.status.code(), Some(6));
    assert!(stderr(&again).contains("GROUP_EXISTS"), "{}", stderr(&again));
}

#[test]
fn a_failure_ends_what_is_behind_it_and_is_what_the_wait_tells() {
    let server = Server::start_ephemeral();
    let (_worker, _) = server.work("add", ADD);
    let (_doomed, _) = server.work("doomed", "echo no luck >&2; exit 65");
    let line = ["send", "add", "1", "2", "--then", "doomed", "--then", "add", "--id", "c", "--wait"];
    let chain = server.run(&line);
    assert_eq!(chain.status.code(), Some(1));
    assert!(stderr(&chain).contains("no luck"), "{}", stderr(&chain));
    let watched = server.run(&["group", "c", "--watch"]);
    assert_eq!(watched.status.code(), Some(1));
    let first = stdout(&watched).lines().find(|line| line.starts_with("├─")).map(str::to_owned);
    assert!(first.is_some_and(|line| line.contains("doomed")), "those that failed first: {}", stdout(&watched));
    assert!(stdout(&watched).contains("NOT_RUN"), "{}", stdout(&watched));
    let always = ["send", "doomed", "--callback", "told", "--always", "--wait"];
    let (_told, _) = server.work("told", "cat");
    let chord = server.run(&always);
    assert_eq!(chord.status.code(), Some(0), "{}", stderr(&chord));
    assert!(trimmed(&chord).contains("FAILURE"), "{}", trimmed(&chord));
}

#[test]
fn groups_are_cancelled_waited_for_in_vain_and_not_found_with_their_exit_codes() {
    let server = Server::start_ephemeral();
    let line = ["send", "nobody", "--and", "nobody", "--callback", "nobody", "--id", "g", "--wait=100ms"];
    let waited = server.run(&line);
    assert_eq!(waited.status.code(), Some(5));
    assert!(stderr(&waited).contains("0 of 2 have ended"), "{}", stderr(&waited));
    let cancelled = trimmed(&server.run(&["cancel", "--group", "g"]));
    assert!(cancelled.starts_with("g  ") && cancelled.contains("cancelled"), "{cancelled}");
    assert_eq!(server.run(&["group", "g", "--watch"]).status.code(), Some(1));
    for unknown in [&["group", "never"][..], &["cancel", "--group", "never"]] {
        let output = server.run(unknown);
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains("GROUP_UNKNOWN"), "{}", stderr(&output));
    }
    for bad in [&["send", "--group", "/nonexistent"][..], &["send", "a", "--always"], &["send", "a", "--then", ""]] {
        let output = server.run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {}", stderr(&output));
    }
}
