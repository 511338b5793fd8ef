//! Files that cannot be used: each is refused with one sentence that says where and what.

use std::process::Command;

/// A file, and the sentence about it behind the file's name.
const TABLE: &[(&str, &str)] = &[
    // Keys.
    ("x", ""),
];

#[test]
fn show() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    let long = format!("default_queue: {}\n", "q".repeat(201));
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
        }
        text
    };
    let deep = "a: ".to_owned() + &"[".repeat(100) + &"]".repeat(100) + "\n";
    for text in [
        "leases:\n  hartbeat_interval: 1s\n",
        "brokr: embedded:d\n",
        "lease:\n  lost_max: 3\n",
        "data_dir: d\n",
        "something_else_entirely: 1\n",
        "amqp:\n  prefetch: 3\n",
        "redis:\n  max_idel: 3\n",
        "queues:\n  a:\n    wieght: 2\n",
        "leases:\n  lost_max: 3\n  lost_max: 4\n",
        "broker: a\nbroker: b\n",
        "leases:\n\tlost_max: 3\n",
        "leases:\n  lost_max: 3\n lost: 1\n",
        "a: [1,\n",
        "broker: 'embedded:d\n",
        "- a\n- b\n",
        "just words\n",
        "broker: embedded:d\n---\nbroker: embedded:e\n",
        "broker: *nobody\n",
        &bomb,
        &deep,
        "? [a, b]\n: c\n",
        "3: 4\n",
        "%YAML 9\n---\n",
        "leases: 3\n",
        "leases: [1]\n",
        "log: info\n",
        "queues: a\n",
        "queues:\n  a: 2\n",
        "queues:\n  - a\n",
        "leases:\n  lost_max: many\n",
        "leases:\n  lost_max: -1\n",
        "leases:\n  lost_max: 1.5\n",
        "leases:\n  lost_max: 5000000000\n",
        "leases:\n  lost_max: 99999999999999999999999999\n",
        "leases:\n  lost_max: 0\n",
        "leases:\n  lost_max: '3'\n",
        "leases:\n  lost_max:\n   a: 1\n",
        "leases:\n  heartbeat_interval: soon\n",
        "leases:\n  heartbeat_interval: 10 s\n",
        "leases:\n  heartbeat_interval: 10x\n",
        "leases:\n  heartbeat_interval: -1\n",
        "leases:\n  heartbeat_interval: 1h\n",
        "leases:\n  lease_duration: 1s\n",
        "leases:\n  heartbeat_interval: 1.5\n",
        "default_queue: 123\n",
        "default_queue: a b\n",
        &long,
        "default_queue: ''\n",
        "results_expire_in: -1\n",
        "results_expire_in: 1h\n",
        "results_expire_in: 315360001\n",
        "server:\n  listen: localhost\n",
        "server:\n  listen: 0.0.0.0:1\n",
        "server:\n  insecure: maybe\n",
        "server:\n  insecure: 1\n",
        "server:\n  data_dir: 3\n",
        "log:\n  format: xml\n",
        "log:\n  level: 'lineshaft=loud'\n",
        "log:\n  level: 3\n",
        "amqp:\n  exchange_type: derict\n",
        "amqp:\n  prefetch_count: 70000\n",
        "amqp:\n  auto_delete: 2\n",
        "amqp:\n  queue_binding_args: [a]\n",
        "amqp:\n  queue_binding_args: {a: [1]}\n",
        "sqs:\n  receive_visibility_timeout: 43201\n",
        "redis:\n  wait: 3\n",
        "queues:\n  a:\n    weight: 0\n",
        "queues:\n  a:\n    weight: heavy\n",
        "queues:\n  'a b':\n    weight: 2\n",
        "result_backend: embedded:x\n",
        "default_queue: q\n",
        "amqp:\n  exchange: e\n",
        "broker: secret\n",
        "broker: embedded:\n",
        "broker: embedded:a\nresult_backend: embedded:b\n",
        "broker: amqp://u:secret@h/\n",
        "broker: 7\n",
        "broker: [a]\n",
        "limits:\n  batch_max: 10001\n",
        "limits:\n  delay_max: 0s\n",
        "leases:\n  lost_max: !!binary aGk=\n",
        "leases:\n  lost_max: !custom 3\n",
        "leases: !!set {a}\n",
        "broker: \u{7}\n",
        "<<: 3\n",
        "leases: {lost_max: 3\n",
        "a: b: c\n",
        "leases:\nlost_max: 3\n",
        "@a: 3\n",
    ] {
        std::fs::write(&file, text).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
            .args(["config", "check", "--config"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&out.stderr).replace(&file.display().to_string(), "F");
        println!(
            "{:?}\n    {:?} {told:?} {:?}",
            text.chars().take(60).collect::<String>(),
            out.status.code(),
            String::from_utf8_lossy(&out.stdout)
        );
    }
    assert!(TABLE.is_empty());
}
