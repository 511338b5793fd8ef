//! `pending`, `tasks`: what there is.

use crate::program::{Server, stderr, stdout, trimmed};

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
