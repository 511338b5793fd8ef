//! Arguments and results: a value with the label that says how a worker reads it.

use bytes::Bytes;

/// The element types of Machinery's closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Bool,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float32,
    Float64,
    String,
}

/// A type of Machinery's closed set: an element type, or a slice of it. `[]byte` and `[]uint8` are one type with two
/// names; `byte_alias` remembers which was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label {
    /// The element type.
    pub kind: Kind,
    /// A slice of it.
    pub list: bool,
    /// Written `[]byte`.
    pub byte_alias: bool,
}

/// The type of an argument as its label says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeName {
    /// One that workers can read.
    Known(Label),
    /// Any other text: as an argument it ends the attempt in FAILURE, as a result it is kept as JSON.
    Other(String),
}

/// A value. Its variant fits its label, except for [`ArgValue::Json`].
#[derive(Debug, Clone, PartialEq)]
pub enum ArgValue {
    /// `bool`.
    Bool(bool),
    /// `int*`.
    Int(i64),
    /// `uint*`.
    Uint(u64),
    /// `float*`; finite.
    Float(f64),
    /// `string`.
    String(String),
    /// `[]uint8`, `[]byte`.
    Bytes(Bytes),
    /// `[]bool`.
    Bools(Vec<bool>),
    /// `[]int*`.
    Ints(Vec<i64>),
    /// `[]uint*`.
    Uints(Vec<u64>),
    /// `[]float*`; finite.
    Floats(Vec<f64>),
    /// `[]string`.
    Strings(Vec<String>),
    /// A nil slice: `null` under a slice label. Workers see an empty list.
    Nil,
    /// The JSON text of a value whose label is [`TypeName::Other`].
    Json(String),
}

/// One argument or result.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// Informational.
    pub name: String,
    /// The label.
    pub type_name: TypeName,
    /// The value.
    pub value: ArgValue,
}

/// Why a value does not fit its label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// The label is not in the closed set.
    #[error("type {0:?} is not one of the supported types")]
    UnknownType(String),
    /// The value is of another kind than the label.
    #[error("a {found} value does not fit type {expected}")]
    Mismatch {
        /// The label.
        expected: String,
        /// What stands there.
        found: &'static str,
    },
    /// An integer beyond the width of its label.
    #[error("{value} is out of range for {label}")]
    OutOfRange {
        /// The label.
        label: String,
        /// The value.
        value: String,
    },
    /// NaN, an infinity, or beyond the range of `float32`.
    #[error("{0} is not a finite number of its type")]
    NotFinite(String),
}
impl Arg {
    pub fn string(text: impl Into<String>) -> Self {
        todo!()
    }
}
