//! `dead`: what was set aside.

use crate::program::{Server, stderr, stdout, trimmed, until};

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
