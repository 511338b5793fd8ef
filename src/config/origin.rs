//! Where a value came from, and every value with its origin, as people are shown it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::value::{Dict, Num, Value};

use super::{Config, reload, secret};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File {
        /// As it was named.
        file: PathBuf,
        /// The line, from 1; 0 if it is not known.
        line: u64,
        /// The column, from 1; 0 if it is not known.
        column: u64,
    },
    /// A variable, by its name.
    Variable(String),
    /// A flag, as it is written.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: 0, .. } => write!(f, "{}", file.display()),
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Origins of values by their keys, `section.key`; what is not in it is a default.
pub(super) type Origins = BTreeMap<String, Origin>;

/// One value, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// `section.key`.
    pub key: String,
    /// The value, secrets left out. `None`: not set, and its default belongs to whoever uses it.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// A running server takes a change of it (`serve --reload`).
    pub is_live: bool,
}

/// Every value of `config`, in order of their keys, secrets redacted.
pub(super) fn shown(config: &Config, origins: &Origins) -> Vec<Shown> {
    let one = |(key, value): (String, Option<String>)| {
        let origin = origins.get(&key).cloned().unwrap_or(Origin::Default);
        let is_live = reload::is_live(&key);
        Shown { key, value, origin, is_live }
    };
    let redacted = |(key, value): (String, Option<String>)| {
        let value = value.map(|text| secret::redacted(&key, &text));
        (key, value)
    };
    plain(config).into_iter().map(redacted).map(one).collect()
}

/// Keys and values, with all secrets: not to be shown.
pub(super) fn plain(config: &Config) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    // A configuration is made of texts, numbers and truths: it can always be written.
    if let Ok(Value::Dict(_, top)) = Value::serialize(config) {
        flatten(None, top, &mut all);
    }
    all
}

fn flatten(above: Option<&str>, dict: Dict, all: &mut BTreeMap<String, Option<String>>) {
    for (key, value) in dict {
        let key = above.map_or_else(|| key.clone(), |above| format!("{above}.{key}"));
        match value {
            Value::Dict(_, inner) => flatten(Some(&key), inner, all),
            Value::Empty(..) => drop(all.insert(key, None)),
            value => drop(all.insert(key, Some(written(value)))),
        }
    }
}

fn written(value: Value) -> String {
    match value {
        Value::String(_, text) => text,
        Value::Bool(_, truth) => truth.to_string(),
        Value::Char(_, letter) => letter.to_string(),
        Value::Num(_, Num::F32(n)) => n.to_string(),
        Value::Num(_, Num::F64(n)) => n.to_string(),
        Value::Num(_, n) => {
            let signed = n.to_i128().map(|n| n.to_string());
            signed.or_else(|| n.to_u128().map(|n| n.to_string())).unwrap_or_default()
        }
        Value::Array(_, items) => items.into_iter().map(written).collect::<Vec<_>>().join(","),
        Value::Dict(..) | Value::Empty(..) => String::new(),
    }
}
