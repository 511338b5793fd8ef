//! `lineshaft config`, and what `serve` says of a Machinery file.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Options, Process};

fn run(arguments: &[&str], file: &Path, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(arguments)
        .arg("--config")
        .arg(file)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The configuration of Machinery's own example, its broker and backend replaced by what this version runs on.
const EXAMPLE: &str = "---
broker: '{broker}'
default_queue: machinery_tasks

result_backend: '{backend}'
results_expire_in: 3600000

amqp:
  binding_key: machinery_tasks
  exchange: machinery_exchange
  exchange_type: direct
  prefetch_count: 3
";

#[test]
fn machinerys_example_starts_the_server_which_says_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("config.yml"), dir.path().join("data"));
    let store = format!("embedded:{}", data.display());
    std::fs::write(&file, EXAMPLE.replace("{broker}", &store).replace("{backend}", &store)).unwrap();
    let server = Process::start(&data, Options::default().arg("--config").arg(file.to_str().unwrap()));
    let log = server.log();
    assert!(
        log.contains(
            "taken from Machinery's keys in the file: amqp.binding_key, amqp.exchange, amqp.exchange_type, \
             amqp.prefetch_count, broker, default_queue, result_backend, results_expire_in"
        ),
        "{log}"
    );
    assert!(log.contains("config.yml:6:20: results_expire_in: 3600000 is the slip of Machinery's example"), "{log}");
    assert!(log.contains("config.yml:9:3: amqp: kept, and not used"), "{log}");

    let output = run(&["config", "check"], &file, &[]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("taken: amqp.prefetch_count = 3 (") && told.contains(":12:19)"), "{told}");
    assert!(told.lines().last().unwrap().starts_with("good: the embedded store in "), "{told}");
}

#[test]
fn machinerys_example_as_it_is_says_which_store_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    let urls = ("amqp://guest:guest@localhost:5672/", "redis://localhost:6379");
    std::fs::write(&file, EXAMPLE.replace("{broker}", urls.0).replace("{backend}", urls.1)).unwrap();
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["config", "check"]] {
        let output = run(arguments, &file, &[]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("config.yml:2:9: broker"), "{told}");
        let missing =
            ["names a store of kind `amqp`, which this version does not have yet", "needs the feature `amqp`"];
        assert!(missing.iter().any(|part| told.contains(part)), "{told}");
        assert!(!told.contains("guest"), "{told}");
    }
}

#[test]
fn show_prints_every_value_with_its_origin_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    std::fs::write(&file, "broker: 'redis://:secret@h:1'\nqueues:\n  mail:\n    weight: 3\n").unwrap();
    let environment = [
        ("LINESHAFT_LOG_FORMAT", "json"),
        ("RESULT_BACKEND", "redis://:secret@h:1"),
        ("LINESHAFT_REDIS_SENTINEL_PASSWORD", "secret"),
    ];
    let output = run(&["config", "show", "--json", "--listen", "127.0.0.1:1"], &file, &environment);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(!told.contains("secret"), "{told}");
    let values: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |key: &str| values.iter().find(|v| v["key"] == key).unwrap_or_else(|| panic!("{key}: {told}"));
    let origin = |key: &str| found(key)["origin"].clone();
    assert_eq!(found("broker")["value"], "redis://[redacted]@h:1");
    assert_eq!((origin("broker")["line"].as_u64(), origin("broker")["column"].as_u64()), (Some(1), Some(9)));
    assert_eq!(
        (found("queues.mail.weight")["value"].as_str(), found("queues.mail.weight")["live"].as_bool()),
        (Some("3"), Some(true))
    );
    assert_eq!(origin("log.format")["name"], "LINESHAFT_LOG_FORMAT");
    assert_eq!(origin("server.listen")["name"], "--listen");
    assert_eq!(
        (origin("leases.lost_max")["kind"].as_str(), found("amqp.exchange")["value"].is_null()),
        (Some("default"), true)
    );

    let output = run(&["config", "show"], &file, &environment);
    let told = text(&output.stdout);
    let line = told.lines().find(|line| line.starts_with("queues.mail.weight")).unwrap();
    assert!(line.contains("config.yml:4:13"), "{line}");
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_bad_file_ends_every_command_with_two() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    std::fs::write(&file, "leases:\n  lost_max: 0\n").unwrap();
    for arguments in [&["config", "check"][..], &["config", "show"], &["config", "check", "--json"]] {
        let output = run(arguments, &file, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let told = text(&output.stderr);
        assert!(told.contains("config.yml:2:13: leases.lost_max is 0, it must be 1 to 1000"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn the_example_is_good_and_names_every_section() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config.yml");
    let output = run(&["config", "check"], &file, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("warning"), "{}", text(&output.stdout));
    let config = lineshaft::config::Config::from_yaml(&file).unwrap();
    assert_eq!(config.broker.as_deref(), Some("embedded:./lineshaft-data"));
    let written = std::fs::read_to_string(file).unwrap();
    for section in ["server", "leases", "limits", "queues", "log", "telemetry"] {
        assert!(written.contains(&format!("\n{section}:\n")), "{section}");
    }
}
