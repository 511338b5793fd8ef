//! `queues`, `pause`, `resume`, `purge`.

use crate::program::{Server, stderr, stdout, trimmed};

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
