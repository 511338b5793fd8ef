//! Which keys there are, ours and Machinery's, and which one was meant.

use figment::value::{Dict, Value};

use super::{Config, ConfigError};

/// Keys of a Machinery `config.yml`, and its sections, that this version does not use yet. Tolerated, with a warning, so
/// that such a file starts the server.
pub(super) const NOT_USED_YET: [&str; 7] =
    ["lock", "multiple_broker_separator", "no_unix_signals", "amqp", "sqs", "redis", "dynamodb"];

/// Machinery's variables that this version does not use yet; tolerated likewise. By their exact names: what else begins with
/// `REDIS_` or `AMQP_` belongs to other programs. `MULTIPLE_BROKEN_SEPARATOR` is Machinery's own spelling.
pub(super) const VARIABLES_NOT_USED_YET: [&str; 26] = [
    "LOCK",
    "MULTIPLE_BROKEN_SEPARATOR",
    "NO_UNIX_SIGNALS",
    "AMQP_EXCHANGE",
    "AMQP_EXCHANGE_TYPE",
    "AMQP_BINDING_KEY",
    "AMQP_PREFETCH_COUNT",
    "AMQP_QUEUE_DECLARE_ARGS",
    "AMQP_QUEUE_BINDING_ARGS",
    "AMQP_AUTO_DELETE",
    "AMQP_DELAYED_QUEUE",
    "SQS_WAIT_TIME_SECONDS",
    "SQS_VISIBILITY_TIMEOUT",
    "REDIS_MAX_IDLE",
    "REDIS_MAX_ACTIVE",
    "REDIS_IDLE_TIMEOUT",
    "REDIS_WAIT",
    "REDIS_READ_TIMEOUT",
    "REDIS_WRITE_TIMEOUT",
    "REDIS_CONNECT_TIMEOUT",
    "REDIS_NORMAL_TASKS_POLL_PERIOD",
    "REDIS_DELAYED_TASKS_POLL_PERIOD",
    "REDIS_DELAYED_TASKS_KEY",
    "REDIS_MASTER_NAME",
    "REDIS_CLUSTER_MODE",
    "TASK_STATES_TABLE",
];

/// Sections and keys of ours, in order: (`""` for the top, key).
pub(super) fn ours() -> Vec<(String, String)> {
    let Ok(Value::Dict(_, top)) = Value::serialize(Config::default()) else { return Vec::new() };
    let mut keys = Vec::new();
    for (key, value) in top {
        match value {
            Value::Dict(_, section) => keys.extend(section.into_keys().map(|k| (key.clone(), k))),
            _ => keys.push((String::new(), key)),
        }
    }
    keys
}

/// The key as it is written in messages: `section.key`.
pub(super) fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Takes what is tolerated out of `found` and answers its names.
///
/// # Errors
/// A key that nobody knows, with the nearest one that is known.
pub(super) fn sift(origin: &str, found: &mut Dict) -> Result<Vec<String>, ConfigError> {
    let ours = ours();
    let mut tolerated = Vec::new();
    let sections: Vec<String> = found.keys().cloned().collect();
    for key in sections {
        if NOT_USED_YET.contains(&key.as_str()) {
            found.remove(&key);
            tolerated.push(key);
            continue;
        }
        let is_section = ours.iter().any(|(section, _)| *section == key);
        let is_key = ours.iter().any(|(section, k)| section.is_empty() && *k == key);
        match found.get(&key) {
            Some(Value::Dict(_, inner)) if is_section => {
                for inner_key in inner.keys() {
                    let full = dotted(&key, inner_key);
                    if !ours.iter().any(|(section, k)| *section == key && k == inner_key) {
                        return Err(unknown(origin, full, &ours));
                    }
                }
            }
            // An empty section is written `leases:` and read as null.
            Some(Value::Empty(..)) if is_section => drop(found.remove(&key)),
            Some(_) if is_key || is_section => {}
            _ => return Err(unknown(origin, key, &ours)),
        }
    }
    Ok(tolerated)
}

/// The error for a key that nobody knows.
pub(super) fn unknown(origin: &str, key: String, ours: &[(String, String)]) -> ConfigError {
    let sections = ours.iter().map(|(section, _)| section.clone()).filter(|s| !s.is_empty());
    let all = ours.iter().map(|(section, k)| dotted(section, k)).chain(sections);
    // A key under no section may be one that belongs under one.
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
    let distance_to = |known: &String| {
        let whole = distance(&key, known);
        if key.contains('.') { whole } else { whole.min(distance(&key, &last(known)) + 1) }
    };
    let nearest = all.map(|known| (distance_to(&known), known)).min();
    // Beyond a third of its length a resemblance is chance.
    let nearest = nearest.filter(|(d, _)| *d <= key.len() / 3 + 1).map(|(_, known)| known);
    ConfigError::UnknownKey { origin: origin.to_owned(), key, nearest }
}

/// Letters to be added, left out or changed to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_one() {
        let nearest = |key: &str| match unknown("f", key.to_owned(), &ours()) {
            ConfigError::UnknownKey { nearest, .. } => nearest,
            other => panic!("{other}"),
        };
        assert_eq!(nearest("leases.hartbeat_interval").as_deref(), Some("leases.heartbeat_interval"));
        assert_eq!(nearest("brokr").as_deref(), Some("broker"));
        assert_eq!(nearest("lease").as_deref(), Some("leases"));
        assert_eq!(nearest("data_dir").as_deref(), Some("server.data_dir"));
        assert_eq!(nearest("something_else_entirely"), None);
    }

    #[test]
    fn distances_are_counted_in_letters() {
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
    }
}
