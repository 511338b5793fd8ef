//! Native types to and from arguments and results.
//!
//! Each native type has the one type name of Machinery that a Go worker reads into the same type: `i64` is `int64`,
//! `isize` is `int`, `Vec<u8>` is `[]byte`. Reading is by range, not by name: an `int32` of 7 can be read as `u8`, an
//! `int64` of 300 cannot. Integers and floating-point numbers are never read as each other, and no digit is dropped.
//!
//! Maps and structs travel as JSON in a string: [`Json`].

mod argument;
mod json;
mod results;

pub(crate) use argument::mismatch;
pub use argument::{FromArg, IntoArg};
pub use json::{ARG_CODECS, Json};
pub(crate) use json::{codec_at, mark, shift};
pub use results::{FromResults, IntoResults, Results};

use crate::proto::Arg;
use crate::proto::arg::Value;

/// An argument or result is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value at this position is of another type, or out of range.
    #[error("value {position}: expected {expected}, found {found}")]
    Mismatch {
        /// From 0.
        position: usize,
        /// The type asked for, by Machinery's name.
        expected: String,
        /// The type there, with the value if it is a number.
        found: String,
    },
    /// There are more or fewer values.
    #[error("expected {expected} values, found {found}")]
    Count {
        /// How many were asked for.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The value at this position cannot be read or written with its codec.
    #[error("value {position}: not {codec}: {why}")]
    Codec {
        /// From 0.
        position: usize,
        /// The codec's name, as `json`.
        codec: &'static str,
        /// What is wrong and where; without the value.
        why: String,
    },
}

impl ValueError {
    /// The same error at `position`, which whoever reads one value does not know.
    pub(crate) fn at(self, at: usize) -> Self {
        match self {
            Self::Mismatch { expected, found, .. } => Self::Mismatch { position: at, expected, found },
            Self::Codec { codec, why, .. } => Self::Codec { position: at, codec, why },
            Self::Count { .. } => self,
        }
    }
}

/// The type of `arg` by Machinery's name: as said, else as implied by the value; `nothing` if there is no value.
pub fn type_name(arg: &Arg) -> &str {
    if !arg.r#type.is_empty() {
        return &arg.r#type;
    }
    match &arg.value {
        Some(Value::BoolValue(_)) => "bool",
        Some(Value::Int64Value(_)) => "int64",
        Some(Value::Uint64Value(_)) => "uint64",
        Some(Value::DoubleValue(_)) => "float64",
        Some(Value::StringValue(_)) => "string",
        Some(Value::BytesValue(_)) => "[]byte",
        Some(Value::BoolList(_)) => "[]bool",
        Some(Value::Int64List(_)) => "[]int64",
        Some(Value::Uint64List(_)) => "[]uint64",
        Some(Value::DoubleList(_)) => "[]float64",
        Some(Value::StringList(_)) => "[]string",
        Some(Value::JsonValue(_)) => "json",
        None => "nothing",
    }
}

/// A header value from JSON. Numbers keep their text.
pub fn header_from_json(value: serde_json::Value) -> crate::proto::Value {
    use crate::proto::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(true),
        serde_json::Value::Bool(is) => Kind::BoolValue(is),
        serde_json::Value::Number(number) => Kind::NumberValue(number.to_string()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(crate::proto::ListValue { values: items.into_iter().map(header_from_json).collect() })
        }
        serde_json::Value::Object(members) => Kind::MapValue(crate::proto::MapValue {
            values: members.into_iter().map(|(key, value)| (key, header_from_json(value))).collect(),
        }),
    };
    crate::proto::Value { kind: Some(kind) }
}

/// JSON from a header value. Numbers keep their text; what is no JSON number, or has no kind, becomes null.
pub fn header_to_json(value: crate::proto::Value) -> serde_json::Value {
    use crate::proto::value::Kind;
    match value.kind {
        Some(Kind::BoolValue(is)) => serde_json::Value::Bool(is),
        Some(Kind::NumberValue(text)) => text.parse().map_or(serde_json::Value::Null, serde_json::Value::Number),
        Some(Kind::StringValue(text)) => serde_json::Value::String(text),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(header_to_json).collect(),
        Some(Kind::MapValue(map)) => {
            serde_json::Value::Object(map.values.into_iter().map(|(key, value)| (key, header_to_json(value))).collect())
        }
        Some(Kind::NullValue(_)) | None => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_keep_every_digit() {
        let text = r#"{"n":9007199254740993,"f":1.50,"deep":[null,true,"x",{"a":[]}]}"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(header_to_json(header_from_json(value.clone())), value);
        let back = header_to_json(header_from_json(json!(1.5)));
        assert_eq!(back.to_string(), "1.5");
    }
}
