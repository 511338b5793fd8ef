//! `doctor`: what is wrong, and what to do about it. Each warning and each failure once, and where it begins.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::GetServerInfoResponse;
use serde_json::Value;

use crate::odd;
use crate::program::{Server, lineshaft, nobody, stderr, stdout};

/// One thing that `doctor` said.
#[derive(Debug, PartialEq)]
struct Said {
    level: String,
    found: String,
    advice: String,
}

/// What it said of `check`; each line is told once.
fn said(checks: &[Value], check: &str) -> Vec<Said> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let fits = checks.iter().filter(|told| told["check"] == check);
    fits.map(|told| Said { level: text(&told["level"]), found: text(&told["found"]), advice: text(&told["advice"]) })
        .collect()
}

#[track_caller]
fn assert_said(checks: &[Value], check: &str, level: &str, found: &str, advice: &str) {
    let said = said(checks, check);
    let fits = |said: &Said| said.level == level && said.found.contains(found) && said.advice.contains(advice);
    assert!(said.iter().any(fits), "{check} is {level}, {found:?}, {advice:?}: {said:?}");
}

fn doctor(args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = lineshaft(&[&["doctor", "--json"], args].concat());
    let lines = stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code(), lines)
}

#[test]
fn the_doctor_finds_what_waits_in_vain() {
    let server = Server::start();
    server.run(&["send", "nobody"]);
    server.run(&["pause", "held"]);
    let checks = server.json(&["doctor"]);
    for good in ["configuration", "server", "encryption", "version", "clock", "stores"] {
        assert_said(&checks, good, "ok", "", "");
    }
    assert_said(&checks, "workers", "warn", "none is attached", "start one");
    assert_said(&checks, "queue", "warn", "\"held\" is paused, 0 wait", "`lineshaft resume held`");
    assert_said(&checks, "queue", "warn", "nobody takes: nobody", "start a worker that registers them");
    assert_eq!(server.run(&["doctor"]).status.code(), Some(0), "warnings are no failure");
}

#[test]
fn the_doctor_has_nothing_to_say_of_a_server_that_is_well() {
    let server = Server::start();
    let (_worker, _) = server.work("echo", "cat");
    assert_eq!(server.run(&["send", "echo", "--wait"]).status.code(), Some(0));
    let checks = server.json(&["doctor"]);
    assert_said(&checks, "workers", "ok", "1 attached", "");
    assert_said(&checks, "queues", "ok", "none is paused or waits in vain", "");
    assert!(checks.iter().all(|check| check["level"] != "fail"), "{checks:?}");
}

#[test]
fn a_server_that_keeps_nothing_is_warned_of() {
    let server = Server::start_ephemeral();
    assert_said(&server.json(&["doctor"]), "stores", "warn", "memory", "without --ephemeral");
}

#[test]
fn a_server_that_is_away_fails() {
    let (code, checks) = doctor(&["--server", &nobody()]);
    assert_eq!(code, Some(1));
    assert_said(&checks, "server", "fail", "no server answers", "");
    let table = lineshaft(&["doctor", "--server", &nobody()]);
    assert!(stdout(&table).lines().any(|line| line.starts_with("fail  server")), "{}", stdout(&table));
}

#[test]
fn a_configuration_that_cannot_be_used_fails_and_one_with_a_slip_is_warned_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yml");
    let path = file.display().to_string();
    for (text, level, found) in [
        ("leases:\n  lost_max: 0\n", "fail", "config.yml:2:13: leases.lost_max is 0, it must be 1 to 1000"),
        ("leases: [", "fail", "config.yml:1:"),
        ("broker: embedded:data\nresults_expire_in: 3600000\n", "warn", "3600000 is the slip of Machinery's example"),
    ] {
        std::fs::write(&file, text).expect("the file");
        let (code, checks) = doctor(&["--config", &path, "--server", &nobody()]);
        assert_said(
            &checks,
            "configuration",
            level,
            found,
            if level == "fail" { "no server starts with it" } else { "" },
        );
        assert_eq!(code, Some(1), "the server is away");
    }
    let server = Server::start();
    std::fs::write(&file, "leases:\n  lost_max: 0\n").expect("the file");
    assert_eq!(server.run(&["doctor", "--config", &path]).status.code(), Some(1));
    std::fs::write(&file, "broker: embedded:data\nresults_expire_in: 3600000\n").expect("the file");
    assert_eq!(server.run(&["doctor", "--config", &path]).status.code(), Some(0));
}

#[test]
fn a_directory_that_cannot_be_written_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
    std::fs::write(&file, "").expect("a file");
    let checks = |path: &std::path::Path| doctor(&["--data-dir", &path.display().to_string(), "--server", &nobody()]).1;
    assert_said(&checks(&missing), "data directory", "ok", "is not there; a server makes it", "");
    assert!(!missing.exists(), "looking makes nothing");
    assert_said(&checks(&file), "data directory", "fail", "cannot be written", "that the user of the server can write");
    assert!(!said(&checks(dir.path()), "data directory")[0].level.contains("fail"));
    assert!(!said(&checks(dir.path()), "disk").is_empty());

    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).expect("a directory");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).expect("its mode");
    // Whoever may write everywhere, as root, is not kept out by a mode.
    if std::fs::write(closed.join("try"), "").is_err() {
        assert_said(&checks(&closed), "data directory", "fail", "cannot be written", "");
    }
}

#[test]
fn few_open_files_are_warned_of() {
    let under = |limit: u32| {
        let line = format!("ulimit -n {limit}; exec \"$0\" doctor --json --server {}", nobody());
        let output = Command::new("/bin/sh").args(["-c", &line, env!("CARGO_BIN_EXE_lineshaft")]).output();
        let output = output.expect("the program starts");
        let lines =
            stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>();
        assert!(!lines.is_empty(), "{}", stderr(&output));
        lines
    };
    assert_said(&under(1_023), "open files", "warn", "1023 at most", "ulimit -n");
    assert_said(&under(1_024), "open files", "ok", "1024 at most", "");
}

/// A clock that is ahead by so many seconds.
fn clock(ahead: i64) -> prost_types::Timestamp {
    let seconds = i64::try_from(SystemClock.wall().0 / 1_000_000_000).expect("a moment of these days");
    prost_types::Timestamp { seconds: seconds + ahead, nanos: 0 }
}

#[tokio::test]
async fn another_version_and_another_clock_are_warned_of() {
    let own = env!("CARGO_PKG_VERSION");
    let look = async |version: &str, ahead: Option<i64>| {
        let info = GetServerInfoResponse {
            version: version.to_owned(),
            server_time: ahead.map(clock),
            ..GetServerInfoResponse::default()
        };
        let addr = odd::serve(info).await;
        tokio::task::spawn_blocking(move || doctor(&["--server", &format!("http://{addr}")]).1).await.expect("it ends")
    };
    let checks = look("0.0.9", Some(3_600)).await;
    let versions = format!("the server is 0.0.9, this program {own}");
    assert_said(&checks, "version", "warn", &versions, "the program of the server's version");
    assert_said(&checks, "clock", "warn", "apart", "set both by NTP");
    let checks = look(own, Some(-3_600)).await;
    assert_said(&checks, "version", "ok", own, "");
    assert_said(&checks, "clock", "warn", "apart", "set both by NTP");
    let checks = look(own, None).await;
    assert_said(&checks, "clock", "warn", "does not tell its time", "update it");
}
