//! The table of exit codes in the guide: a case for each, and no code without one.

use crate::program::{Server, lineshaft, nobody, stderr, trimmed};

/// The codes of the table in the guide.
fn documented() -> Vec<i32> {
    let guide = include_str!("../../src/docs/cli.md");
    let section = guide.split("\n## Exit codes\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("the section").lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn every_exit_code_of_the_guide_has_a_case() {
    let server = Server::start();
    let (_doomed, _) = server.work("doomed", "echo no luck >&2; exit 65");
    let waits = trimmed(&server.run(&["send", "nobody"]));
    let away = nobody();
    let cases: [(i32, &[&str], &str); 15] = [
        (0, &["state", &waits], ""),
        (0, &["purge", "empty", "--yes"], ""),
        (1, &["send", "doomed", "--wait"], "failed: no luck"),
        (1, &["doctor", "--data-dir", "/dev/null"], ""),
        (2, &["state"], "<ID>"),
        (2, &["send", ""], "task.name"),
        (2, &["config", "check", "--config", "/nonexistent.yml"], "/nonexistent.yml"),
        (3, &["state", "task_unknown"], "task_unknown"),
        (3, &["queues", "unknown"], "unknown"),
        (3, &["dead", "delete", "--id", "unknown", "--yes"], "is not among the dead tasks"),
        (4, &["queues", "--server", &away], "no server answers"),
        (5, &["wait", &waits, "--timeout", "50ms"], "has not ended within 50 ms"),
        (5, &["watch", &waits, "--timeout", "50ms"], "not all tasks have ended within 50 ms"),
        (6, &["backup", "--to", "/nonexistent/file"], "/nonexistent/file"),
        (6, &["restore", "--from", "/nonexistent", "--data-dir", "/nonexistent"], "cannot be read"),
    ];
    for (code, args, says) in cases {
        let has_server = ["config", "restore"].contains(&args[0]) || args.contains(&"--server");
        let output = if has_server { lineshaft(args) } else { server.run(args) };
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
    let mut tried: Vec<i32> = cases.iter().map(|(code, ..)| *code).collect();
    tried.dedup();
    assert_eq!(tried, documented(), "the table of src/docs/cli.md");
}
