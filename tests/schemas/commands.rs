//! Every command with `--json` at a server that has something of everything, so that no property stays null.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lineshaft::broker::{Broker, NewTask};
use lineshaft::clock::SystemClock;
use lineshaft::fused;
use lineshaft::task::{MessageKey, QueueName, TaskId, TaskName};

use crate::shell::{Shell, until};
use crate::support::Options;

/// Measures for a minute and more: its object is held against the schema beside the code that makes it.
const MEASURED: &str = "bench";

/// What is null whatever one does.
const NEVER: [&str; 2] = [
    // A queue that was resumed is not paused.
    "resume: paused_at",
    // What is taken is told of the file only.
    "config-check: taken[].origin.name",
];

/// A queue with a body in it that is no task, as another program may leave one.
const SPOILT: &str = "spoilt";

#[tokio::test]
async fn every_line_is_as_its_schema_says_and_nothing_is_always_null() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    spoil(&data).await;
    // A worker is lost soon after its death, and its task is set aside at once.
    let options = Options::default()
        .env("LINESHAFT_LEASES_KEEP_FAILED", "true")
        .env("LINESHAFT_LEASES_LOST_MAX", "1")
        .env("LINESHAFT_LEASES_HEARTBEAT_INTERVAL", "200ms")
        .env("LINESHAFT_LEASES_LEASE_DURATION", "2s");
    let mut shell = Shell::start(&data, options);

    what_waits(&mut shell);
    what_ends(&mut shell);
    what_belongs_together(&mut shell);
    what_runs(&mut shell, scratch.path());
    what_is_dead(&mut shell);
    what_fails(&mut shell);
    what_is_operated(&mut shell, scratch.path());
    shell.run_alone("demo", &["demo"], &[]);

    let unseen: BTreeSet<String> =
        crate::commands().iter().filter(|name| *name != MEASURED).flat_map(|name| shell.unseen(name)).collect();
    assert_eq!(unseen, NEVER.map(str::to_owned).into(), "what no case shows, and what none can");
}

/// Leaves a body in the store that is no task.
async fn spoil(data: &Path) {
    std::fs::create_dir(data).unwrap();
    let stores = fused::embedded::open(data, Default::default(), Arc::new(SystemClock)).unwrap();
    let broken = NewTask {
        key: MessageKey::new("broken").unwrap(),
        task: TaskId::new("task_broken").unwrap(),
        name: TaskName::new("unread").unwrap(),
        queue: QueueName::new(SPOILT).unwrap(),
        routing_key: None,
        body: "{".into(),
        available_at: None,
        priority: 0,
    };
    assert!(stores.broker.publish(&[broken]).await.iter().all(Result::is_ok));
}

fn what_waits(shell: &mut Shell) {
    let sent =
        shell.run("send", &["send", "nobody", "1", "two", "--delay", "1h", "--header", "tenant=a", "--priority", "3"]);
    let delayed = sent[0]["task_id"].as_str().unwrap().to_owned();
    shell.run("pending", &["pending", "--delayed"]);
    let spoilt = shell.run("pending", &["pending", SPOILT]);
    assert!(spoilt[0]["task"].is_null(), "{spoilt:?}");
    shell.run("tasks", &["tasks"]);
    shell.run("cancel", &["cancel", &delayed]);

    shell.run("send", &["send", "nobody", "--queue", "held"]);
    shell.run("pause", &["pause", "held"]);
    shell.run("queues", &["queues"]);
    shell.run("top", &["top", "--once"]);
    shell.run("purge", &["purge", "held", "--dry-run"]);
    shell.run("resume", &["resume", "held"]);
    // Left paused, with a task in it: for every command that shows queues.
    shell.run("pause", &["pause", "held"]);
}

fn what_ends(shell: &mut Shell) {
    let good = shell.work("good", "cat");
    let bad = shell.work("bad", "echo no luck >&2; exit 65");
    for (name, working) in [("good", &good), ("bad", &bad)] {
        let end = shell.run("send", &["send", name, "x", "--wait", "--id", name, "--header", "tenant=a"]);
        assert!(["SUCCESS", "FAILURE"].iter().any(|status| end[0]["status"] == *status), "{end:?}");
        shell.check("work", &working.said());
        shell.run("state", &["state", name]);
        shell.run("wait", &["wait", name]);
        shell.run("tasks", &["tasks", &format!("name={name}")]);
    }
    let unknown = shell.run("state", &["state", "task_unknown"]);
    assert_eq!(unknown[0]["status"], "UNKNOWN");
    shell.run("watch", &["watch", "good", "bad"]);
    shell.run("workers", &["workers"]);
    shell.run("top", &["top", "--once"]);
}

fn what_belongs_together(shell: &mut Shell) {
    let _good = shell.work("good", "cat");
    let chord = ["send", "good", "1", "--and", "good", "2", "--callback", "good", "--id"];
    let sent = shell.run("send", &[&chord[..], &["chord"]].concat());
    assert_eq!(sent[0]["task_ids"].as_array().map(Vec::len), Some(2), "{sent:?}");
    let shown = shell.run("group", &["group", "chord", "--watch"]);
    assert_eq!((&shown[0]["kind"], &shown[0]["completed"]), (&"CHORD".into(), &true.into()), "{shown:?}");
    let waited = shell.run("send", &["send", "good", "1", "--and", "good", "2", "--wait"]);
    assert_eq!(waited.len(), 2, "{waited:?}");
    let _bad = shell.work("bad", "echo no luck >&2; exit 65");
    let chain = shell.run("send", &["send", "bad", "--then", "good", "--id", "chain", "--wait"]);
    assert_eq!(chain[0]["failure_reason"], "FAILED", "{chain:?}");
    shell.run("send", &["send", "bad", "--callback", "good", "--id", "broken"]);
    let broken = shell.run("group", &["group", "broken", "--watch"]);
    assert_eq!(broken[0]["callback"]["failure_reason"], "NOT_RUN", "{broken:?}");
    let failed = shell.run("group", &["group", "chain"]);
    assert_eq!(failed[0]["tasks"][1]["failure_reason"], "NOT_RUN", "{failed:?}");
    shell.run("send", &["send", "nobody", "--and", "nobody", "--id", "group"]);
    let cancelled = shell.run("cancel", &["cancel", "--group", "group"]);
    assert_eq!(cancelled[0]["removed"], 2, "{cancelled:?}");
}

fn what_runs(shell: &mut Shell, scratch: &Path) {
    let gate = scratch.join("gate");
    let working = shell.work("gated", &format!("until [ -e {} ]; do sleep 0.05; done; exit 75", gate.display()));
    shell.run("send", &["send", "gated", "--id", "gated"]);
    until("it runs", || shell.run("state", &["state", "gated"])[0]["status"] == "STARTED");
    shell.run("tasks", &["tasks", "name=gated"]);
    shell.run("leases", &["leases"]);
    shell.run("cancel", &["cancel", "gated"]);
    std::fs::write(gate, "").unwrap();
    shell.check("work", &working.said());
}

fn what_is_dead(shell: &mut Shell) {
    // A program that kills its worker, once the server knows that it runs. Two must have died before a task is to blame;
    // the third is there for a lease that was not confirmed in time and counts as free.
    let _workers = [(); 3].map(|()| shell.work("deadly", "sleep 0.5; kill -9 $PPID"));
    shell.run("send", &["send", "deadly", "x", "--header", "tenant=a", "--id", "deadly"]);
    shell.run("wait", &["wait", "deadly"]);
    let lost = shell.run("dead-list", &["dead", "list", "reason=worker_lost"]);
    assert_eq!(lost[0]["lost_attempts"][0]["attempt"], 1, "{lost:?}");

    let _reader = shell.work_from(SPOILT, "unread", "cat");
    let mut poison = Vec::new();
    until("the broken body is set aside", || {
        poison = shell.dead("reason=poison");
        !poison.is_empty()
    });
    shell.check("dead-list", &poison[0]);
    let broken = poison[0]["dead_id"].as_str().unwrap().to_owned();
    let stays = shell.run("dead-requeue", &["dead", "requeue", "--id", &broken, "--yes"]);
    assert_eq!(stays[0]["outcome"], "UNDECODABLE");
    shell.run("dead-requeue", &["dead", "requeue", "task=deadly", "--yes"]);
    let gone = shell.run("dead-delete", &["dead", "delete", "--id", "unknown", "--yes"]);
    assert_eq!((&gone[0]["outcome"], &gone[0]["task_id"]), (&"UNKNOWN".into(), &serde_json::Value::Null));
    shell.run("dead-delete", &["dead", "delete", "--all", "--yes"]);
}

fn what_fails(shell: &mut Shell) {
    assert_eq!(shell.fail(2, &["send", ""])["field"], "task.name");
    assert_eq!(shell.fail(3, &["wait", "task_unknown", "--timeout", "10ms"])["reason"], "TASK_UNKNOWN");
    shell.fail(3, &["queues", "unknown"]);
    shell.fail(2, &["purge", "held"]);
    shell.fail(6, &["backup", "--to", "/nonexistent/file"]);
}

fn what_is_operated(shell: &mut Shell, scratch: &Path) {
    let doctor = shell.run("doctor", &["doctor"]);
    assert!(doctor.iter().any(|check| check["level"] == "warn"), "{doctor:?}");
    let (backup, restored) = (scratch.join("backup"), scratch.join("restored"));
    let (backup, restored) = (backup.to_str().unwrap(), restored.to_str().unwrap());
    shell.run("backup", &["backup", "--to", backup]);
    shell.run_alone("restore", &["restore", "--from", backup, "--data-dir", restored], &[]);

    let file = scratch.join("config.yml");
    let store = format!("embedded:{restored}");
    std::fs::write(&file, format!("broker: '{store}'\nresults_expire_in: 3600000\nleases:\n  lost_max: 5\n")).unwrap();
    let file = file.to_str().unwrap();
    let environment = [("RESULT_BACKEND", store.as_str()), ("LINESHAFT_LOG_FORMAT", "json")];
    shell.run_alone("config-check", &["config", "check", "--config", file], &environment);
    shell.run_alone("config-show", &["config", "show", "--config", file, "--listen", "127.0.0.1:1"], &environment);
}
