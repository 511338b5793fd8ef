//! The `json` codec: maps and structs as arguments and results, the same in every client of Lineshaft.
//!
//! Machinery knows no maps, so a value of this codec travels as an argument of type `string` that holds its JSON text, and
//! every Machinery worker can carry it. A header of the task, [`ARG_CODECS`], says which arguments these are, for readers
//! that have no types to tell them (a worker in a dynamic language, a person): `0:json,2:json`, positions from 0 as the
//! worker receives them. Results have no header: whoever reads one has to know, as by `get::<Json<T>>`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FromArg, IntoArg, ValueError, mismatch};
use crate::proto::arg::Value;
use crate::proto::{self, Arg};

/// The header that names the codec of each argument that has one: `POSITION:CODEC`, joined by commas, in a string.
pub const ARG_CODECS: &str = "arg-codecs";

/// This codec's name in [`ARG_CODECS`].
pub(crate) const JSON: &str = "json";

/// A value that travels as JSON in a string: anything that serde can write or read, of at most 128 levels.
///
/// ```
/// # use lineshaft_client::{Failure, Json, Task, Worker};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Order {
///     id: u64,
///     items: Vec<String>,
/// }
///
/// let task = Task::new("ship").arg(Json(Order { id: 7, items: vec!["tea".into()] }));
/// let worker = Worker::builder("http://127.0.0.1:7340")
///     .register("ship", |Json(order): Json<Order>| async move { Ok::<_, Failure>(Json(order.items)) });
/// # drop((task, worker));
/// ```
///
/// A value that serde_json cannot write (a map whose keys are no strings, or a `Serialize` that fails) makes the send an
/// error, and as a result ends the task: another attempt would meet the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoArg for Json<T> {
    /// A value that cannot be written becomes an argument without a value, which every server refuses.
    fn into_arg(self) -> Arg {
        self.try_into_arg().unwrap_or_default()
    }

    fn try_into_arg(self) -> Result<Arg, ValueError> {
        serde_json::to_string(&self.0).map(IntoArg::into_arg).map_err(|error| unusable::<T>(&error))
    }

    fn codec(&self) -> Option<&'static str> {
        Some(JSON)
    }
}

impl<T: DeserializeOwned> FromArg for Json<T> {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match &arg.value {
            Some(Value::StringValue(text) | Value::JsonValue(text)) => {
                read(text).map(Self).map_err(|error| unusable::<T>(&error))
            }
            _ => Err(mismatch("string that holds JSON", &arg)),
        }
    }
}

/// Reads `text`.
///
/// This crate needs the feature of serde_json that keeps every digit of a number, and with it a fraction inside of
/// `#[serde(flatten)]` or an untagged enumeration is not read from text (as of serde_json 1.0). What failed by its shape is
/// therefore tried once more from a tree whose fractions are plain doubles, which is all that such types could hold.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        let tree = if error.is_data() { serde_json::from_str(text).ok() } else { None };
        tree.map(plain).and_then(|tree| serde_json::from_value(tree).ok()).ok_or(error)
    })
}

/// `tree`, whose depth was bounded when it was read, with its fractions as plain doubles.
fn plain(tree: serde_json::Value) -> serde_json::Value {
    use serde_json::{Number, Value};
    match tree {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            Value::Number(number.as_f64().and_then(Number::from_f64).unwrap_or(number))
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(members) => Value::Object(members.into_iter().map(|(key, value)| (key, plain(value))).collect()),
        other => other,
    }
}

/// What a person needs to find the fault. The texts of serde_json repeat parts of the value, which may be secret.
fn unusable<T>(error: &serde_json::Error) -> ValueError {
    use serde_json::error::Category;
    let fault = match error.classify() {
        Category::Io => "it cannot be written",
        Category::Syntax => "it is no JSON",
        Category::Data => "it has another shape",
        Category::Eof => "it ends too early",
    };
    let place = match (error.line(), error.column()) {
        (0, _) => String::new(),
        (line, column) => format!(" at line {line}, column {column}"),
    };
    let why = format!("{fault}{place}, read or written as {}", std::any::type_name::<T>());
    ValueError::Codec { position: 0, codec: JSON, why }
}

/// Notes in the headers of `task` that the argument at `position` is written with `codec`.
pub(crate) fn mark(task: &mut proto::Task, position: usize, codec: &str) {
    let entry = format!("{position}:{codec}");
    let marks = match marks(&task.headers) {
        Some(marks) => format!("{marks},{entry}"),
        None => entry,
    };
    set(task, marks);
}

/// Moves all marks of `task` by one: an error text is put before its arguments.
pub(crate) fn shift(task: &mut proto::Task) {
    let Some(marks) = marks(&task.headers) else { return };
    let moved: Vec<String> =
        entries(marks).map(|(position, codec)| format!("{}:{codec}", position.saturating_add(1))).collect();
    set(task, moved.join(","));
}

/// The codec of the argument at `position`, as [`ARG_CODECS`] among `headers` has it.
pub(crate) fn codec_at(headers: &std::collections::HashMap<String, proto::Value>, position: usize) -> Option<&str> {
    entries(marks(headers)?).find(|(at, _)| *at == position).map(|(_, codec)| codec)
}

fn set(task: &mut proto::Task, marks: String) {
    let kind = Some(proto::value::Kind::StringValue(marks));
    task.headers.insert(ARG_CODECS.to_owned(), proto::Value { kind });
}

fn marks(headers: &std::collections::HashMap<String, proto::Value>) -> Option<&str> {
    match headers.get(ARG_CODECS)?.kind.as_ref()? {
        proto::value::Kind::StringValue(marks) => Some(marks),
        _ => None,
    }
}

/// What is no entry is passed over: others may write this header too.
fn entries(marks: &str) -> impl Iterator<Item = (usize, &str)> {
    marks.split(',').filter_map(|entry| {
        let (position, codec) = entry.split_once(':')?;
        Some((position.trim().parse().ok()?, codec.trim()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde::Deserialize;

    use super::*;
    use crate::{FromResults, IntoResults, Task};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: u64,
        price: f64,
        note: Option<String>,
        tags: BTreeMap<String, Vec<i64>>,
        #[serde(flatten)]
        rest: Rest,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Rest {
        weight: f64,
        kind: Kind,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Kind {
        Number(i64),
        Name(String),
    }

    fn order() -> Order {
        Order {
            id: u64::MAX,
            price: 0.1,
            note: Some("ü \"quoted\"".into()),
            tags: [("a".to_owned(), vec![i64::MIN])].into(),
            rest: Rest { weight: 1.5, kind: Kind::Number(7) },
        }
    }

    #[test]
    fn a_struct_survives_as_a_string_with_every_digit() {
        let arg = Json(order()).into_arg();
        assert_eq!(arg.r#type, "string");
        assert_eq!(Json::<Order>::from_arg(arg), Ok(Json(order())));
        let results = (1i64, Json(order())).into_results();
        assert_eq!(<(i64, Json<Order>)>::from_results(results), Ok((1, Json(order()))));
        let foreign = r#"{"weight":1.50e0,"kind":7,"id":1,"price":1E-1,"note":null,"tags":{}}"#;
        assert_eq!(Json::<Order>::from_arg(foreign.into_arg()).map(|Json(order)| order.rest.weight), Ok(1.5));
        let any = Arg { value: Some(Value::JsonValue("[1]".into())), ..Arg::default() };
        assert_eq!(Json::<Vec<u8>>::from_arg(any), Ok(Json(vec![1])));
    }

    #[test]
    fn what_does_not_fit_is_told_by_place_and_never_shown() {
        let error = |text: &str| Json::<Order>::from_arg(text.into_arg()).unwrap_err().to_string();
        let shape = error(r#"{"id":"secret"}"#);
        assert!(shape.starts_with("value 0: not json: it has another shape at line 1, column 14"), "{shape}");
        assert!(error("{secret").contains("it is no JSON"));
        assert!(error("{").contains("it ends too early"));
        for text in [shape, error("{secret")] {
            assert!(!text.contains("secret"), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Json::<serde_json::Value>::from_arg(deep.into_arg()).is_err());
        let number = Json::<i64>::from_arg(7i64.into_arg()).unwrap_err().to_string();
        assert_eq!(number, "value 0: expected string that holds JSON, found int64 7");
    }

    #[test]
    fn the_header_names_the_codec_of_each_argument_as_the_worker_receives_it() {
        let inner = Task::new("alarm").arg(Json(1)).arg(2i64).arg(Json("x"));
        assert_eq!(
            inner.clone().into_proto().headers,
            Task::new("x").header(ARG_CODECS, "0:json,2:json").into_proto().headers
        );
        let task = Task::new("a").arg(1i64).arg(Json([1])).on_success(inner.clone()).on_error(inner).into_proto();
        assert_eq!(codec_at(&task.headers, 1), Some("json"));
        assert_eq!(codec_at(&task.headers, 0), None);
        assert_eq!(marks(&task.on_success[0].headers), Some("0:json,2:json"));
        assert_eq!(marks(&task.on_error[0].headers), Some("1:json,3:json"), "behind the error text");
        assert!(Task::new("plain").arg(1i64).into_proto().headers.is_empty());
        let strange = Task::new("a").header(ARG_CODECS, "x,:,1:,2:json").into_proto();
        assert_eq!((codec_at(&strange.headers, 1), codec_at(&strange.headers, 2)), (Some(""), Some("json")));
    }

    #[test]
    fn a_value_that_cannot_be_written_is_an_error_with_its_position() {
        let pairs: HashMap<(i32, i32), i32> = [((1, 2), 3)].into();
        let error = Json(&pairs).try_into_arg().unwrap_err();
        assert!(matches!(error, ValueError::Codec { position: 0, codec: "json", .. }), "{error}");
        let error = (1i64, Json(&pairs)).try_into_results().unwrap_err();
        assert!(matches!(error, ValueError::Codec { position: 1, .. }), "{error}");
        assert!(Json(&pairs).into_arg().value.is_none());
    }
}
