//! Machinery's own keys: their sections, their variables, and what its library makes of a text.
//!
//! Names, units and meanings are those of a Machinery `config.yml`, so that such a file starts this server. A key that is
//! not set has no value here: its default belongs to the room that will use it.

use std::collections::BTreeMap;

use figment::value::{Dict, Tag, Value};
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Redis, within};

/// Longest that SQS waits for messages, seconds; Machinery's own example asks for 30.
const SQS_WAIT_SECONDS_MAX: u32 = 20;
/// Longest visibility timeout of SQS, seconds: 12 hours.
const SQS_VISIBILITY_SECONDS_MAX: u32 = 43_200;
/// What Machinery's example has for `results_expire_in`: meant as milliseconds, read as seconds.
const EXAMPLE_RESULTS_EXPIRE_IN: u64 = 3_600_000;

/// Arguments of a declaration or a binding, by name.
pub type Arguments = BTreeMap<String, Argument>;

/// One of [`Arguments`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a text, a number, true or false")]
pub enum Argument {
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Decimal(f64),
    /// A text.
    Text(String),
}

/// Section `amqp`: how queues and exchanges are declared on RabbitMQ. Kept for when this server runs on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amqp {
    /// The exchange. Variable `AMQP_EXCHANGE`. Since 0.1.
    pub exchange: Option<String>,
    /// `direct`, `fanout`, `topic`, `headers`, or a plug-in's, which begins with `x-`. Variable `AMQP_EXCHANGE_TYPE`.
    /// Since 0.1.
    pub exchange_type: Option<String>,
    /// Arguments of the queue's declaration. Variable `AMQP_QUEUE_DECLARE_ARGS`, as `key:value,key:value`, all texts.
    /// Since 0.1.
    pub queue_declare_args: Option<Arguments>,
    /// Arguments of its binding. Variable `AMQP_QUEUE_BINDING_ARGS`, likewise. Since 0.1.
    pub queue_binding_args: Option<Arguments>,
    /// The key of its binding. Variable `AMQP_BINDING_KEY`. Since 0.1.
    pub binding_key: Option<String>,
    /// Messages a consumer may hold unacknowledged: 0 (no limit) to 65,535. Variable `AMQP_PREFETCH_COUNT`. Since 0.1.
    pub prefetch_count: Option<u32>,
    /// Queues of delayed tasks are deleted when nobody uses them. Variable `AMQP_AUTO_DELETE`. Since 0.1.
    pub auto_delete: Option<bool>,
    /// One queue for all delayed tasks. Variable `AMQP_DELAYED_QUEUE`. Since 0.1.
    pub delayed_queue: Option<String>,
}

/// Section `sqs`. Kept for when this server runs on SQS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sqs {
    /// How long a poll waits, seconds: 0 to 20; more, as in Machinery's example, is taken as 20, with a warning. Variable
    /// `SQS_WAIT_TIME_SECONDS`. Since 0.1.
    pub receive_wait_time_seconds: Option<u32>,
    /// How long a received message is invisible, seconds: 0 to 43,200. Unset: the queue's own. Variable
    /// `SQS_VISIBILITY_TIMEOUT`. Since 0.1.
    pub receive_visibility_timeout: Option<u32>,
}

/// Section `dynamodb`. Kept; there is no such backend here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamoDb {
    /// The table of task states. Variable `TASK_STATES_TABLE`. Since 0.1.
    pub task_states_table: Option<String>,
    /// The table of groups. Variable `GROUP_METAS_TABLE`. Since 0.1.
    pub group_metas_table: Option<String>,
}

/// What a variable's text is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Whole,
    Truth,
    Arguments,
}

/// A key of Machinery's: section (`""` for the top), key, variable, kind.
pub(super) type Key = (&'static str, &'static str, &'static str, Kind);

/// All of them. `MULTIPLE_BROKEN_SEPARATOR` is Machinery's own spelling; the right one is taken too.
pub(super) const KEYS: [Key; 33] = [
    ("", "broker", "BROKER", Kind::Text),
    ("", "lock", "LOCK", Kind::Text),
    ("", "multiple_broker_separator", "MULTIPLE_BROKEN_SEPARATOR", Kind::Text),
    ("", "multiple_broker_separator", "MULTIPLE_BROKER_SEPARATOR", Kind::Text),
    ("", "default_queue", "DEFAULT_QUEUE", Kind::Text),
    ("", "result_backend", "RESULT_BACKEND", Kind::Text),
    ("", "results_expire_in", "RESULTS_EXPIRE_IN", Kind::Whole),
    ("", "no_unix_signals", "NO_UNIX_SIGNALS", Kind::Truth),
    ("amqp", "exchange", "AMQP_EXCHANGE", Kind::Text),
    ("amqp", "exchange_type", "AMQP_EXCHANGE_TYPE", Kind::Text),
    ("amqp", "queue_declare_args", "AMQP_QUEUE_DECLARE_ARGS", Kind::Arguments),
    ("amqp", "queue_binding_args", "AMQP_QUEUE_BINDING_ARGS", Kind::Arguments),
    ("amqp", "binding_key", "AMQP_BINDING_KEY", Kind::Text),
    ("amqp", "prefetch_count", "AMQP_PREFETCH_COUNT", Kind::Whole),
    ("amqp", "auto_delete", "AMQP_AUTO_DELETE", Kind::Truth),
    ("amqp", "delayed_queue", "AMQP_DELAYED_QUEUE", Kind::Text),
    ("sqs", "receive_wait_time_seconds", "SQS_WAIT_TIME_SECONDS", Kind::Whole),
    ("sqs", "receive_visibility_timeout", "SQS_VISIBILITY_TIMEOUT", Kind::Whole),
    ("redis", "max_idle", "REDIS_MAX_IDLE", Kind::Whole),
    ("redis", "max_active", "REDIS_MAX_ACTIVE", Kind::Whole),
    ("redis", "max_idle_timeout", "REDIS_IDLE_TIMEOUT", Kind::Whole),
    ("redis", "wait", "REDIS_WAIT", Kind::Truth),
    ("redis", "read_timeout", "REDIS_READ_TIMEOUT", Kind::Whole),
    ("redis", "write_timeout", "REDIS_WRITE_TIMEOUT", Kind::Whole),
    ("redis", "connect_timeout", "REDIS_CONNECT_TIMEOUT", Kind::Whole),
    ("redis", "normal_tasks_poll_period", "REDIS_NORMAL_TASKS_POLL_PERIOD", Kind::Whole),
    ("redis", "delayed_tasks_poll_period", "REDIS_DELAYED_TASKS_POLL_PERIOD", Kind::Whole),
    ("redis", "delayed_tasks_key", "REDIS_DELAYED_TASKS_KEY", Kind::Text),
    ("redis", "client_name", "REDIS_CLIENT_NAME", Kind::Text),
    ("redis", "master_name", "REDIS_MASTER_NAME", Kind::Text),
    ("redis", "cluster_mode", "REDIS_CLUSTER_MODE", Kind::Truth),
    ("dynamodb", "task_states_table", "TASK_STATES_TABLE", Kind::Text),
    ("dynamodb", "group_metas_table", "GROUP_METAS_TABLE", Kind::Text),
];

/// The keys that a variable sets. Machinery takes those of a section also with the section's name before them.
pub(super) fn of_variable(name: &str) -> Option<&'static Key> {
    let with_section = |(section, _, variable, _): &Key| {
        !section.is_empty() && name.strip_prefix(&format!("{}_", section.to_uppercase())) == Some(variable)
    };
    KEYS.iter().find(|key| key.2 == name || with_section(key))
}

/// True for a key of Machinery's, or a section of it.
pub(super) fn is_ones(section: &str, key: &str) -> bool {
    KEYS.iter().any(|k| k.0 == section && k.1 == key)
}

/// The variable of a key of Machinery's.
pub(super) fn variable_of(section: &str, key: &str) -> Option<&'static str> {
    KEYS.iter().find(|k| k.0 == section && k.1 == key).map(|k| k.2)
}

/// Variables and keys of a section of Machinery's.
#[cfg(all(test, feature = "redis"))]
pub(super) fn variables_of(section: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().filter(move |k| k.0 == section).map(|k| (k.2, k.1))
}

/// True for one of Machinery's sections.
pub(super) fn is_section(name: &str) -> bool {
    !name.is_empty() && KEYS.iter().any(|k| k.0 == name)
}

/// A variable's text as Machinery reads it. What it could not read stays a text, and is refused with the key's type.
pub(super) fn value(kind: Kind, text: &str) -> Value {
    let plain = || Value::String(Tag::Default, text.to_owned());
    match kind {
        Kind::Text => plain(),
        Kind::Whole => text.parse::<i64>().map_or_else(|_| plain(), Value::from),
        // The spellings of Go's `strconv.ParseBool`.
        Kind::Truth => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::from(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::from(false),
            _ => plain(),
        },
        Kind::Arguments => {
            let pairs: Option<Dict> = text
                .split(',')
                .map(|pair| pair.split_once(':').map(|(k, v)| (k.trim().to_owned(), Value::from(v.trim()))))
                .collect();
            pairs.map_or_else(plain, Value::from)
        }
    }
}

/// In a file, what Go's YAML library takes for a truth: `yes` and `on` too.
pub(super) fn truth_in_file(section: &str, key: &str, found: &mut Value) {
    let is_truth = KEYS.iter().any(|k| k.0 == section && k.1 == key && k.3 == Kind::Truth);
    if let (true, Value::String(_, text)) = (is_truth, &*found) {
        match text.to_lowercase().as_str() {
            "yes" | "on" | "y" => *found = Value::from(true),
            "no" | "off" | "n" => *found = Value::from(false),
            _ => {}
        }
    }
}

/// Checks ranges of Machinery's sections.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if let Some(kind) = &config.amqp.exchange_type
        && !matches!(kind.as_str(), "direct" | "fanout" | "topic" | "headers")
        && !kind.starts_with("x-")
    {
        return Err(ConfigError::OutOfRange {
            key: "amqp.exchange_type".to_owned(),
            value: format!("{kind:?}"),
            range: "direct, fanout, topic, headers, or a plug-in's, which begins with x-".to_owned(),
        });
    }
    within("amqp.prefetch_count", config.amqp.prefetch_count.unwrap_or(0), 0, 65_535)?;
    let visibility = config.sqs.receive_visibility_timeout.unwrap_or(0);
    within("sqs.receive_visibility_timeout", visibility, 0, SQS_VISIBILITY_SECONDS_MAX)
}

/// The first of Machinery's keys and sections that says something, `broker` and `result_backend` apart.
pub(super) fn first_set(config: &Config) -> Option<&'static str> {
    let all = [
        ("default_queue", config.default_queue.is_some()),
        ("results_expire_in", config.results_expire_in.is_some()),
        ("multiple_broker_separator", config.multiple_broker_separator.is_some()),
        ("lock", config.lock.is_some()),
        ("no_unix_signals", config.no_unix_signals.is_some()),
        ("amqp", config.amqp != Amqp::default()),
        ("sqs", config.sqs != Sqs::default()),
        ("redis", config.redis != Redis::default()),
        ("dynamodb", config.dynamodb != DynamoDb::default()),
    ];
    all.into_iter().find(|(_, is_set)| *is_set).map(|(key, _)| key)
}

/// Takes what is over a store's limit at the limit; answers a sentence for each such value, for each slip that can be
/// told, and for what is kept and not used.
pub(super) fn settle(config: &mut Config) -> Vec<(&'static str, String)> {
    let mut warnings = Vec::new();
    if let Some(wait) = &mut config.sqs.receive_wait_time_seconds
        && *wait > SQS_WAIT_SECONDS_MAX
    {
        let text = format!("SQS waits at most {SQS_WAIT_SECONDS_MAX} s: {wait} is taken as {SQS_WAIT_SECONDS_MAX}");
        warnings.push(("sqs.receive_wait_time_seconds", text));
        *wait = SQS_WAIT_SECONDS_MAX;
    }
    if config.results_expire_in == Some(EXAMPLE_RESULTS_EXPIRE_IN) {
        let text = "3600000 is the slip of Machinery's example: seconds, not milliseconds, so results are kept for 41 \
                    days; 3600 is an hour";
        warnings.push(("results_expire_in", text.to_owned()));
    }
    let names = |schemes: &[&str]| {
        let stores = [&config.broker, &config.result_backend, &config.server.ledger, &config.lock];
        stores.into_iter().flatten().any(|url| schemes.iter().any(|s| url.starts_with(&format!("{s}:"))))
    };
    let unused = [
        ("amqp", config.amqp != Amqp::default() && !names(&["amqp", "amqps"])),
        ("sqs", config.sqs != Sqs::default() && !names(&["https", "http"])),
        ("redis", config.redis != Redis::default() && !names(&["redis", "rediss", "redis+socket"])),
        ("dynamodb", config.dynamodb != DynamoDb::default()),
        ("multiple_broker_separator", config.multiple_broker_separator.is_some()),
        ("lock", config.lock.is_some()),
    ];
    for (key, _) in unused.into_iter().filter(|(_, is_unused)| *is_unused) {
        warnings.push((key, "kept, and not used: no store of this configuration needs it".to_owned()));
    }
    if names(&["redis", "rediss", "redis+socket"]) {
        warnings.extend(config.redis.warnings(names(&["rediss"])));
    }
    if config.no_unix_signals == Some(true) {
        let text = "kept, and not used: this server always drains on SIGTERM";
        warnings.push(("no_unix_signals", text.to_owned()));
    }
    warnings
}
