//! Which keys there are, ours and Machinery's, and which one was meant.

use figment::value::Value;

use super::yaml::Found;
use super::{Config, ConfigError, Queue, machinery};

/// No known key is nearly as long; what is longer resembles none, and is cut where it is quoted.
const KEY_BYTES_MAX: usize = 100;

/// The section whose keys are names of queues.
const QUEUES: &str = "queues";

/// Sections and keys, Machinery's and ours, in order: (`""` for the top, key).
pub(super) fn known() -> Vec<(String, String)> {
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

/// Refuses keys that nobody knows, and takes out what is written without a value: `leases:` says nothing.
///
/// # Errors
/// A key that nobody knows, with the nearest one that is known.
pub(super) fn sift(origin: &str, found: &mut Found) -> Result<(), ConfigError> {
    let all = known();
    let at = |path: &[&str]| {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        found.keys.get(&path).map_or_else(|| origin.to_owned(), |(line, column)| format!("{origin}:{line}:{column}"))
    };
    for (key, value) in &mut found.values {
        let is_section = key == QUEUES || all.iter().any(|(section, _)| section == key);
        let is_key = all.iter().any(|(section, k)| section.is_empty() && k == key);
        if !is_section && !is_key {
            return Err(unknown(&at(&[key]), key.clone(), &all));
        }
        if is_section && !matches!(value, Value::Dict(..) | Value::Empty(..)) {
            return Err(no_section(&at(&[key]), key));
        }
        machinery::truth_in_file("", key, value);
        let Value::Dict(_, inner) = value else { continue };
        for (inner_key, value) in inner.iter_mut() {
            if key == QUEUES {
                queue(&at, inner_key, value)?;
            } else if !all.iter().any(|(section, k)| section == key && k == inner_key) {
                return Err(unknown(&at(&[key, inner_key]), dotted(key, inner_key), &all));
            }
            machinery::truth_in_file(key, inner_key, value);
        }
        inner.retain(|_, value| !matches!(value, Value::Empty(..)));
    }
    found.values.retain(|_, value| !matches!(value, Value::Empty(..)));
    Ok(())
}

// Under `queues` stand names, and under each name the keys of a queue.
fn queue(at: &dyn Fn(&[&str]) -> String, name: &str, value: &Value) -> Result<(), ConfigError> {
    let given = match value {
        Value::Dict(_, given) => given,
        Value::Empty(..) => return Ok(()),
        _ => return Err(no_section(&at(&[QUEUES, name]), &dotted(QUEUES, name))),
    };
    let Ok(Value::Dict(_, known)) = Value::serialize(Queue::default()) else { return Ok(()) };
    match given.keys().find(|key| !known.contains_key(*key)) {
        None => Ok(()),
        Some(key) => {
            let known: Vec<_> = known.into_keys().map(|key| (format!("{QUEUES}.{name}"), key)).collect();
            Err(unknown(&at(&[QUEUES, name, key]), format!("{QUEUES}.{name}.{key}"), &known))
        }
    }
}

// Refused here, since figment would take a list for a section, its items in the order of the fields.
fn no_section(at: &str, key: &str) -> ConfigError {
    ConfigError::Unreadable(format!(
        "{at}: {key}: must be a section: keys and values, each on a line of its own under it"
    ))
}

/// The error for a key that nobody knows.
pub(super) fn unknown(origin: &str, key: String, all: &[(String, String)]) -> ConfigError {
    let sections = all.iter().map(|(section, _)| section.clone()).filter(|s| !s.is_empty()).chain([QUEUES.to_owned()]);
    let names = all.iter().map(|(section, k)| dotted(section, k)).chain(sections);
    let origin = origin.to_owned();
    if key.len() > KEY_BYTES_MAX {
        let cut = &key[..key.floor_char_boundary(KEY_BYTES_MAX)];
        return ConfigError::UnknownKey { origin, key: format!("{cut}…"), nearest: None };
    }
    // A key under no section may be one that belongs under one.
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
    let distance_to = |known: &String| {
        let whole = distance(&key, known);
        if key.contains('.') { whole } else { whole.min(distance(&key, &last(known)) + 1) }
    };
    let nearest = names.map(|known| (distance_to(&known), known)).min();
    // Beyond a third of its length a resemblance is chance.
    let nearest = nearest.filter(|(d, _)| *d <= key.len() / 3 + 1).map(|(_, known)| known);
    ConfigError::UnknownKey { origin, key, nearest }
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
        let nearest = |key: &str| match unknown("f", key.to_owned(), &known()) {
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
