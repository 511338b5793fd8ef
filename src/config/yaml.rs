//! Reading a YAML file: its values, and where each of them stands.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use figment::value::{Dict, Tag, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::ConfigError;

/// Largest file, bytes: a thousand times what a configuration needs, and small enough to be read at any time.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Line and column, both from 1.
pub(super) type Place = (u64, u64);

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The values.
    pub(super) values: Dict,
    /// Where each key stands, by its path from the top.
    pub(super) keys: BTreeMap<Vec<String>, Place>,
    /// Where each value stands.
    pub(super) places: BTreeMap<Vec<String>, Place>,
}

/// The bytes of a file.
///
/// # Errors
/// [`ConfigError::Unreadable`]: it cannot be read, or is larger than a configuration can be.
pub(super) fn bytes_of(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |why: &dyn fmt::Display| ConfigError::Unreadable(format!("{}: {why}", file.display()));
    let opened = std::fs::File::open(file).map_err(|e| unreadable(&e))?;
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(&format_args!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Reads a file's bytes; `origin` is its name in errors.
///
/// # Errors
/// [`ConfigError::Unreadable`], with line and column where there is one.
pub(super) fn read(origin: &str, bytes: &[u8]) -> Result<Found, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        ConfigError::Unreadable(format!("{origin}:{line}: the file is not UTF-8"))
    })?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Found::default());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let top: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|e| told(origin, &e))?;
    let mut found = Found::default();
    match top.value {
        Node::Map(entries) => found.values = dict(entries, &mut Vec::new(), &mut found.keys, &mut found.places),
        Node::Value(Value::Empty(..)) => {}
        _ => {
            let (line, column) = place(top.referenced);
            return Err(ConfigError::Unreadable(format!(
                "{origin}:{line}:{column}: the file must be keys and values, as broker: embedded:DIR"
            )));
        }
    }
    Ok(found)
}

fn place(location: Location) -> Place {
    (location.line(), location.column())
}

// One sentence, behind file, line and column. The library's, without the place at its end, except where it speaks to
// programmers.
fn told(origin: &str, error: &serde_saphyr::Error) -> ConfigError {
    use serde_saphyr::Error;
    let error = error.without_snippet();
    let text = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} is written twice"),
        Error::DuplicateMappingKey { key: None, .. } => "a key is written twice".to_owned(),
        Error::MultipleDocuments { .. } => "a second document begins; a configuration is one".to_owned(),
        // Where an alias went too far, this is inside another error.
        other if other.to_string().contains("budget breached") => {
            "the file is nested too deep, or its aliases grow without end".to_owned()
        }
        other => {
            let text = other.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let text = text.find(" at line ").map_or(text, |end| &text[..end]);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    };
    let at = error.location().filter(|at| at.line() > 0).map(place);
    let at = at.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
    ConfigError::Unreadable(format!("{origin}{at}: {text}"))
}

fn dict(
    entries: Vec<(Spanned<String>, Spanned<Node>)>,
    path: &mut Vec<String>,
    keys: &mut BTreeMap<Vec<String>, Place>,
    places: &mut BTreeMap<Vec<String>, Place>,
) -> Dict {
    let mut values = Dict::new();
    for (key, node) in entries {
        path.push(key.value.clone());
        keys.insert(path.clone(), place(key.referenced));
        places.insert(path.clone(), place(node.referenced));
        let value = match node.value {
            Node::Value(value) => value,
            Node::Map(entries) => Value::from(dict(entries, path, keys, places)),
        };
        values.insert(key.value, value);
        path.pop();
    }
    values
}

/// A node: a mapping, whose parts are placed, or anything else. Read by recursion: the library refuses what is nested deeper
/// than 64 levels, and aliases that would grow without end.
#[derive(Debug)]
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    Value(Value),
}

impl Node {
    fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Map(entries) => {
                Value::from(entries.into_iter().map(|(k, v)| (k.value, v.value.into_value())).collect::<Dict>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Node, E> {
                Ok(Node::Value(Value::from(truth)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Value(u64::try_from(number).map_or_else(|_| Value::from(number), Value::from)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Value(Value::from(number)))
            }

            fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
                Ok(Node::Value(Value::from(number)))
            }

            fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
                Ok(Node::Value(Value::from(number)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Value(Value::from(number)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Value(Value::from(text)))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Value(Value::Empty(Tag::Default, figment::value::Empty::None)))
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Value(Value::Empty(Tag::Default, figment::value::Empty::None)))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(node) = seq.next_element::<Node>()? {
                    items.push(node.into_value());
                }
                Ok(Node::Value(Value::from(items)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Node::Map(entries))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
