//! Files that cannot be used: each is refused with one sentence that says where and what.

use lineshaft::config::{Sources, load};

const WHOLE: &str = "must be a whole number from 0 to 4294967295";
const SECTION: &str = "must be a section: keys and values, each on a line of its own under it";
const SPAN: &str = "is no length of time; write it as 500ms, 10s, 1m30s, 2h or 7d";
const NO_BROKER: &str =
    "set but broker is not: set broker to embedded:DIR for the store of this server, or to the URL of your broker";

/// Files, and what is said of each behind its name. `…` at an end: the sentence goes on.
const TABLE: &[(&str, &str)] = &[
    // Keys that nobody knows, with the nearest that somebody does.
    (
        "leases:\n  hartbeat_interval: 1s\n",
        r#":2:3: no key "leases.hartbeat_interval" is known; did you mean "leases.heartbeat_interval"?"#,
    ),
    ("brokr: embedded:d\n", r#":1:1: no key "brokr" is known; did you mean "broker"?"#),
    ("lease:\n  lost_max: 3\n", r#":1:1: no key "lease" is known; did you mean "leases"?"#),
    ("data_dir: d\n", r#":1:1: no key "data_dir" is known; did you mean "server.data_dir"?"#),
    ("leases:\nlost_max: 3\n", r#":2:1: no key "lost_max" is known; did you mean "leases.lost_max"?"#),
    ("something_else_entirely: 1\n", r#":1:1: no key "something_else_entirely" is known"#),
    ("amqp:\n  prefetch: 3\n", r#":2:3: no key "amqp.prefetch" is known"#),
    ("redis:\n  max_idel: 3\n", r#":2:3: no key "redis.max_idel" is known; did you mean "redis.max_idle"?"#),
    ("queues:\n  a:\n    wieght: 2\n", r#":3:5: no key "queues.a.wieght" is known; did you mean "queues.a.weight"?"#),
    ("3: 4\n", r#":1:1: no key "3" is known"#),
    // What is no YAML, or more than it should be.
    ("leases:\n  lost_max: 3\n  lost_max: 4\n", r#":3:3: the key "lost_max" is written twice"#),
    ("broker: a\nbroker: b\n", r#":2:1: the key "broker" is written twice"#),
    ("leases:\n\tlost_max: 3\n", ":2:2: tabs disallowed within this context (block indentation)"),
    ("leases:\n  lost_max: 3\n lost: 1\n", ":3:2: while parsing a block mapping, did not find expected key"),
    ("a: [1,\n", ":1:4: unclosed bracket '['"),
    ("leases: {lost_max: 3\n", ":1:9: unclosed bracket '{'"),
    ("broker: 'embedded:d\n", ":1:9: unclosed quote"),
    ("broker: embedded:\n", ":1:17: mapping values are not allowed in this context"),
    ("@a: 3\n", ":1:1: unexpected character: `@'"),
    ("broker: \u{7}\n", ":1:9: unexpected character: `\\u{7}'"),
    ("- a\n- b\n", ":1:1: the file must be keys and values, as broker: embedded:DIR"),
    ("just words\n", ":1:1: the file must be keys and values, as broker: embedded:DIR"),
    ("broker: embedded:d\n---\nbroker: embedded:e\n", ":3:1: a second document begins; a configuration is one"),
    ("broker: *nobody\n", ":1:9: alias references unknown anchor"),
    ("? [a, b]\n: c\n", ":1:3: expected string scalar"),
    ("<<: 3\n", ":1:5: YAML merge value must be mapping or sequence of mappings"),
    // Types.
    ("leases: 3\n", ":1:1: leases: {SECTION}"),
    ("leases: [1]\n", ":1:1: leases: {SECTION}"),
    ("log: info\n", ":1:1: log: {SECTION}"),
    ("queues:\n  - a\n", ":1:1: queues: {SECTION}"),
    ("queues:\n  a: 2\n", ":2:3: queues.a: {SECTION}"),
    ("leases:\n  lost_max: many\n", ":2:13: leases.lost_max: {WHOLE}"),
    ("leases:\n  lost_max: -1\n", ":2:13: leases.lost_max: {WHOLE}"),
    ("leases:\n  lost_max: 1.5\n", ":2:13: leases.lost_max: {WHOLE}"),
    ("leases:\n  lost_max: '3'\n", ":2:13: leases.lost_max: {WHOLE}"),
    ("leases:\n  lost_max: 99999999999999999999999999\n", ":2:13: leases.lost_max: {WHOLE}"),
    ("default_queue: 123\n", ":1:16: default_queue: must be a text; put it in quotes"),
    ("broker: [secret]\n", ":1:9: broker: must be a text; put it in quotes"),
    ("server:\n  insecure: maybe\n", ":2:13: server.insecure: must be true or false"),
    ("server:\n  listen: localhost\n", ":2:11: server.listen: must be an address and a port, as 127.0.0.1:7340"),
    ("server:\n  data_dir: 3\n", ":2:13: server.data_dir: must be a path"),
    ("log:\n  format: xml\n", ":2:11: log.format: must be one of auto, pretty, text, json"),
    ("telemetry:\n  sample_ratio: often\n", ":2:17: telemetry.sample_ratio: must be a number, as 0.25"),
    ("telemetry:\n  sample_ratio: 1.5\n", ":2:17: telemetry.sample_ratio is 1.5, it must be 0 to 1"),
    (
        "telemetry:\n  otlp_endpoint: https://h:4317\n",
        ":2:18: telemetry.otlp_endpoint must begin with http://: this version has no TLS",
    ),
    ("amqp:\n  auto_delete: 2\n", ":2:16: amqp.auto_delete: must be true or false"),
    (
        "amqp:\n  queue_binding_args: [a]\n",
        ":2:23: amqp.queue_binding_args: must be keys and values, each on a line of its own",
    ),
    (
        "amqp:\n  queue_binding_args: {a: [1]}\n",
        ":2:27: amqp.queue_binding_args.a: must be a text, a number, true or false",
    ),
    ("queues:\n  a:\n    weight: heavy\n", ":3:13: queues.a.weight: {WHOLE}"),
    // Units.
    ("leases:\n  heartbeat_interval: soon\n", ":2:23: leases.heartbeat_interval: \"soon\" {SPAN}"),
    ("leases:\n  heartbeat_interval: 10 s\n", ":2:23: leases.heartbeat_interval: \"10 s\" {SPAN}"),
    ("leases:\n  heartbeat_interval: 10x\n", ":2:23: leases.heartbeat_interval: \"10x\" {SPAN}"),
    ("leases:\n  heartbeat_interval: -1\n", ":2:23: leases.heartbeat_interval: a length of time must not be negative"),
    ("results_expire_in: 1h\n", ":1:20: results_expire_in: must be a whole number, 0 or more"),
    // Ranges.
    ("leases:\n  lost_max: 0\n", ":2:13: leases.lost_max is 0, it must be 1 to 1000"),
    ("leases:\n  heartbeat_interval: 1h\n", ":2:23: leases.heartbeat_interval is 1h, it must be 100ms to 5m"),
    (
        "leases:\n  lease_duration: 1s\n",
        ":2:19: leases.lease_duration is 1s, it must be at least twice leases.heartbeat_interval (10s)",
    ),
    ("results_expire_in: 315360001\n", ":1:20: results_expire_in is 315360001, it must be 0 to 315360000"),
    ("limits:\n  batch_max: 10001\n", ":2:14: limits.batch_max is 10001, it must be 1 to 10000"),
    ("limits:\n  delay_max: 0s\n", ":2:14: limits.delay_max is 0s, it must be 1s to 3650d"),
    ("amqp:\n  prefetch_count: 70000\n", ":2:19: amqp.prefetch_count is 70000, it must be 0 to 65535"),
    (
        "sqs:\n  receive_visibility_timeout: 43201\n",
        ":2:31: sqs.receive_visibility_timeout is 43201, it must be 0 to 43200",
    ),
    ("queues:\n  a:\n    weight: 0\n", ":3:13: queues.a.weight is 0, it must be 1 to 1000"),
    ("default_queue: a b\n", ":1:16: default_queue is \"a b\", it must be a queue's name: it must not contain ' '"),
    ("default_queue: ''\n", ":1:16: default_queue is \"\", it must be a queue's name: it must not be empty"),
    ("queues:\n  'a b':\n    weight: 2\n", ":3:5: queues.a b is \"a b\", it must be a queue's name…"),
    ("telemetry:\n  metrics: perhaps\n", ":2:12: telemetry.metrics: must be true or false"),
    (
        "telemetry:\n  metrics_listen: 0.0.0.0:7341\n",
        ":2:19: telemetry.metrics_listen is 0.0.0.0:7341, which others can reach, and nobody is asked who they are: listen on 127.0.0.1, or say --insecure (server.insecure: true) if the network is trusted",
    ),
    (
        "telemetry:\n  metrics: false\n  metrics_listen: 127.0.0.1:7341\n",
        ":3:19: telemetry.metrics_listen is 127.0.0.1:7341, but telemetry.metrics is false: leave one of them out",
    ),
    ("log:\n  level: 'lineshaft=loud'\n", ":2:10: log.level is \"lineshaft=loud\", it must be a level or directives…"),
    ("amqp:\n  exchange_type: derict\n", ":2:18: amqp.exchange_type is \"derict\", it must be direct, fanout, topic…"),
    // What does not go together, or is not here.
    ("server:\n  listen: 0.0.0.0:1\n", ":2:11: server.listen is 0.0.0.0:1, which others can reach…"),
    ("result_backend: embedded:x\n", ":1:17: result_backend is {NO_BROKER}"),
    ("default_queue: q\n", ":1:16: default_queue is {NO_BROKER}"),
    ("amqp:\n  exchange: e\n", ":2:3: amqp is {NO_BROKER}"),
    ("broker: secret\n", ":1:9: broker begins with no scheme that is known: embedded:DIR, or one of redis…"),
    ("broker: amqp://u:secret@h/\n", ":1:9: broker names a store of kind `amqp`, which this version does not have…"),
    ("broker: redis://h:port\n", ":1:9: broker has a port that is none…"),
    ("broker: redis://a,b/2\n", ":1:9: broker names database 2 of a cluster, which has database 0 only…"),
    (
        "broker: redis://a,b\nredis:\n  cluster_mode: false\n",
        ":1:9: broker names several servers, and redis.cluster_mode is false…",
    ),
    (
        "broker: redis+socket:///a.sock\nredis:\n  master_name: m\n",
        ":1:9: broker names a socket, and redis.master_name is set: sentinels are named by host and port",
    ),
    ("redis:\n  replica_timeout: 1s\n", ":2:20: redis.replica_timeout is 1s, it must be 5s to 5m"),
    (
        "redis:\n  blocking_connections_max: 10001\n",
        ":2:29: redis.blocking_connections_max is 10001, it must be 1 to 10000",
    ),
    (
        "redis:\n  tls_cert: a.pem\n",
        ":2:13: redis.tls_cert is set but redis.tls_key is not: a certificate needs its key",
    ),
    ("redis:\n  read_timeout: 301\n", ":2:17: redis.read_timeout is 301, it must be 0 to 300"),
    (
        "broker: embedded:a\nserver:\n  ledger: embedded:b\n",
        ":3:11: broker is embedded:a and server.ledger embedded:b…",
    ),
    ("broker: 'embedded:'\n", ":1:9: broker is embedded: without a directory, write embedded:DIR"),
    ("broker: embedded:a\nresult_backend: embedded:b\n", ":2:17: broker is embedded:a and result_backend embedded:b…"),
];

/// What is said of a file with these bytes, behind its name.
fn told(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    std::fs::write(&file, bytes).unwrap();
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    let error = load(&sources).and_then(|loaded| loaded.stores()).expect_err(&String::from_utf8_lossy(bytes));
    let text = error.to_string();
    text.strip_prefix(&file.display().to_string()).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn each_is_told_in_one_sentence_with_its_place() {
    let mut wrong = Vec::new();
    for (text, sentence) in TABLE {
        let mut sentence = (*sentence).to_owned();
        for (name, part) in [("{WHOLE}", WHOLE), ("{SECTION}", SECTION), ("{SPAN}", SPAN), ("{NO_BROKER}", NO_BROKER)] {
            sentence = sentence.replace(name, part);
        }
        let told = told(text.as_bytes());
        let holds = match sentence.strip_suffix('…') {
            Some(begin) => told.starts_with(begin),
            None => told == sentence,
        };
        if !holds || told.contains('\n') || told.contains("secret") || told.len() > 400 {
            wrong.push(format!("{text:?}\n    is told {told:?}\n    and not {sentence:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(TABLE.len() >= 40);
}

#[test]
fn a_file_that_grows_without_end_is_refused_before_it_does() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    let text = told(bomb.as_bytes());
    assert!(text.ends_with(": the file is nested too deep, or its aliases grow without end"), "{text}");
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    let text = told(deep.as_bytes());
    assert!(text.ends_with(": the file is nested too deep, or its aliases grow without end"), "{text}");
    let large = "# filled\n".repeat((1 << 20) / 9 + 1);
    assert_eq!(told(large.as_bytes()), ": the file is larger than 1048576 bytes");
    let long = format!("{}: 1\n", "k".repeat(100_000));
    assert!(told(long.as_bytes()).len() < 400);
    let long = format!("default_queue: {}\n", "q".repeat(100_000));
    assert!(told(long.as_bytes()).ends_with("it is 100000 bytes long, the limit is 200 bytes"));
}

#[test]
fn a_file_that_is_no_text_is_told_with_its_line() {
    assert_eq!(told(b"broker: embedded:d\n# caf\xe9\n"), ":2: the file is not UTF-8");
}
