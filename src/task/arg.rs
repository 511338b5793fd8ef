//! Arguments and results: a value with the label that says how a worker reads it.

use std::fmt;
use std::ops::RangeInclusive;

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

/// A value. Its variant fits its label and is in its range, except for [`ArgValue::Json`].
#[derive(Debug, Clone, PartialEq)]
pub enum ArgValue {
    /// `bool`.
    Bool(bool),
    /// `int*`.
    Int(i64),
    /// `uint*`.
    Uint(u64),
    /// `float*`; finite. Under `float32` a value that a `f32` holds exactly.
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
    /// The JSON text of a value whose label is [`TypeName::Other`], or which was read from a foreign message and does not
    /// fit its label: kept so that the task can be set aside or sent on as it was.
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

impl Kind {
    const ALL: [Self; 14] = [
        Self::Bool,
        Self::Int,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Float32,
        Self::Float64,
        Self::String,
    ];

    /// Machinery's word for the element type.
    pub fn as_str(self) -> &'static str {
        // The words of the lists without their brackets, so that each is written once.
        &self.list_str()[2..]
    }

    fn list_str(self) -> &'static str {
        match self {
            Self::Bool => "[]bool",
            Self::Int => "[]int",
            Self::Int8 => "[]int8",
            Self::Int16 => "[]int16",
            Self::Int32 => "[]int32",
            Self::Int64 => "[]int64",
            Self::Uint => "[]uint",
            Self::Uint8 => "[]uint8",
            Self::Uint16 => "[]uint16",
            Self::Uint32 => "[]uint32",
            Self::Uint64 => "[]uint64",
            Self::Float32 => "[]float32",
            Self::Float64 => "[]float64",
            Self::String => "[]string",
        }
    }

    /// The values of a signed integer type, `None` for any other kind. `int` has 64 bits, as on every platform that Go
    /// workers run on.
    pub fn int_range(self) -> Option<RangeInclusive<i64>> {
        Some(match self {
            Self::Int | Self::Int64 => i64::MIN..=i64::MAX,
            Self::Int8 => i64::from(i8::MIN)..=i64::from(i8::MAX),
            Self::Int16 => i64::from(i16::MIN)..=i64::from(i16::MAX),
            Self::Int32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
            _ => return None,
        })
    }

    /// The greatest value of an unsigned integer type, `None` for any other kind. `uint` has 64 bits.
    pub fn uint_max(self) -> Option<u64> {
        Some(match self {
            Self::Uint | Self::Uint64 => u64::MAX,
            Self::Uint8 => u64::from(u8::MAX),
            Self::Uint16 => u64::from(u16::MAX),
            Self::Uint32 => u64::from(u32::MAX),
            _ => return None,
        })
    }

    /// `value` as this float type holds it: rounded to 32 bits under `float32`. `None` if that is not finite, or if this
    /// is no float type.
    pub fn float(self, value: f64) -> Option<f64> {
        let value = match self {
            // The rounding is Go's: it reads 64 bits first and narrows them then.
            Self::Float32 => f64::from(value as f32),
            Self::Float64 => value,
            _ => return None,
        };
        value.is_finite().then_some(value)
    }
}

impl Label {
    /// A single value of `kind`.
    pub const fn one(kind: Kind) -> Self {
        Self { kind, list: false, byte_alias: false }
    }

    /// A slice of `kind`.
    pub const fn list(kind: Kind) -> Self {
        Self { kind, list: true, byte_alias: false }
    }

    /// `[]byte`.
    pub const BYTES: Self = Self { kind: Kind::Uint8, list: true, byte_alias: true };

    /// Reads a label of the closed set: exact and case-sensitive, as Go workers do. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "[]byte" {
            return Some(Self::BYTES);
        }
        let (list, element) = match text.strip_prefix("[]") {
            Some(element) => (true, element),
            None => (false, text),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == element)?;
        Some(Self { kind, list, byte_alias: false })
    }

    /// The label as it was written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self { list: false, kind, .. } => kind.as_str(),
            Self { byte_alias: true, kind: Kind::Uint8, .. } => "[]byte",
            Self { kind, .. } => kind.list_str(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TypeName {
    /// The type that `text` names. Never fails: what is not in the closed set is kept as it is.
    pub fn parse(text: &str) -> Self {
        Label::parse(text).map_or_else(|| Self::Other(text.to_owned()), Self::Known)
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(label) => label.as_str(),
            Self::Other(text) => text,
        }
    }

    /// The label, if it is in the closed set.
    pub fn label(&self) -> Option<Label> {
        match self {
            Self::Known(label) => Some(*label),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ArgValue {
    /// The label of a value that came without one: the widest of its kind, `[]byte` for bytes. `None` for [`Self::Nil`]
    /// and [`Self::Json`], which say nothing about their type.
    pub fn implied_label(&self) -> Option<Label> {
        Some(match self {
            Self::Bool(_) => Label::one(Kind::Bool),
            Self::Int(_) => Label::one(Kind::Int64),
            Self::Uint(_) => Label::one(Kind::Uint64),
            Self::Float(_) => Label::one(Kind::Float64),
            Self::String(_) => Label::one(Kind::String),
            Self::Bytes(_) => Label::BYTES,
            Self::Bools(_) => Label::list(Kind::Bool),
            Self::Ints(_) => Label::list(Kind::Int64),
            Self::Uints(_) => Label::list(Kind::Uint64),
            Self::Floats(_) => Label::list(Kind::Float64),
            Self::Strings(_) => Label::list(Kind::String),
            Self::Nil | Self::Json(_) => return None,
        })
    }

    // For messages: what stands there, in the words of the protocol.
    fn found(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Int(_) => "signed integer",
            Self::Uint(_) => "unsigned integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Bools(_) => "list of bools",
            Self::Ints(_) => "list of signed integers",
            Self::Uints(_) => "list of unsigned integers",
            Self::Floats(_) => "list of floats",
            Self::Strings(_) => "list of strings",
            Self::Nil => "nil",
            Self::Json(_) => "json",
        }
    }
}

impl Arg {
    /// Checks `value` against the type that workers will read it as.
    ///
    /// - `name`: informational, may be empty.
    /// - `type_name`: a label of the closed set; `None` or empty: [`ArgValue::implied_label`].
    /// - `value`: signed and unsigned integers are taken under each other's labels where nothing is lost; under `float32`
    ///   a value is rounded to 32 bits; integers under `[]uint8` become bytes. Nothing is ever wrapped or cut.
    ///
    /// # Errors
    /// - [`ArgError::UnknownType`]: a label beyond the closed set, or a value that needs one and has none.
    /// - [`ArgError::Mismatch`]: a value of another kind.
    /// - [`ArgError::OutOfRange`], [`ArgError::NotFinite`]: of the right kind, but not a value of the type.
    /// - [`ArgError::Element`]: one of these, about an element of a list.
    pub fn new(name: impl Into<String>, type_name: Option<&str>, value: ArgValue) -> Result<Self, ArgError> {
        let label = match type_name.filter(|text| !text.is_empty()) {
            Some(text) => Label::parse(text).ok_or_else(|| ArgError::UnknownType(text.to_owned()))?,
            None => value.implied_label().ok_or_else(|| ArgError::UnknownType(String::new()))?,
        };
        Ok(Self { name: name.into(), type_name: TypeName::Known(label), value: fit(label, value)? })
    }

    /// A string argument, as Machinery puts an error text before the arguments of an `OnError` task.
    pub fn string(text: impl Into<String>) -> Self {
        let type_name = TypeName::Known(Label::one(Kind::String));
        Self { name: String::new(), type_name, value: ArgValue::String(text.into()) }
    }
}

// `value` in the form that its label asks for.
fn fit(label: Label, value: ArgValue) -> Result<ArgValue, ArgError> {
    use ArgValue::*;
    let kind = label.kind;
    let signed = kind.int_range().is_some();
    let unsigned = kind.uint_max().is_some();
    let float = matches!(kind, Kind::Float32 | Kind::Float64);
    Ok(match (label.list, value) {
        (false, Bool(b)) if kind == Kind::Bool => Bool(b),
        (false, String(s)) if kind == Kind::String => String(s),
        (false, Int(i)) if signed => Int(int(label, i)?),
        (false, Uint(u)) if signed => Int(int(label, u)?),
        (false, Int(i)) if unsigned => Uint(uint(label, i)?),
        (false, Uint(u)) if unsigned => Uint(uint(label, u)?),
        (false, Float(f)) if float => Float(finite(label, f)?),
        (true, Nil) => Nil,
        (true, Bools(list)) if kind == Kind::Bool => Bools(list),
        (true, Strings(list)) if kind == Kind::String => Strings(list),
        (true, Bytes(bytes)) if kind == Kind::Uint8 => Bytes(bytes),
        (true, Ints(list)) if kind == Kind::Uint8 => Bytes(each(list, |i| byte(label, i))?.into()),
        (true, Uints(list)) if kind == Kind::Uint8 => Bytes(each(list, |u| byte(label, u))?.into()),
        (true, Ints(list)) if signed => Ints(each(list, |i| int(label, i))?),
        (true, Uints(list)) if signed => Ints(each(list, |u| int(label, u))?),
        (true, Ints(list)) if unsigned => Uints(each(list, |i| uint(label, i))?),
        (true, Uints(list)) if unsigned => Uints(each(list, |u| uint(label, u))?),
        (true, Floats(list)) if float => Floats(each(list, |f| finite(label, f))?),
        (_, other) => {
            return Err(ArgError::Mismatch { expected: label.as_str().to_owned(), found: other.found() });
        }
    })
}

fn each<T, U>(list: Vec<T>, mut check: impl FnMut(T) -> Result<U, ArgError>) -> Result<Vec<U>, ArgError> {
    let element = |(index, item)| check(item).map_err(|why| ArgError::Element { index, why: Box::new(why) });
    list.into_iter().enumerate().map(element).collect()
}

fn out_of_range(label: Label, value: impl fmt::Display) -> ArgError {
    ArgError::OutOfRange { label: label.kind.as_str().to_owned(), value: value.to_string() }
}

fn int<T: TryInto<i64> + fmt::Display + Copy>(label: Label, value: T) -> Result<i64, ArgError> {
    let in_range = |v: &i64| label.kind.int_range().is_some_and(|range| range.contains(v));
    value.try_into().ok().filter(in_range).ok_or_else(|| out_of_range(label, value))
}

fn uint<T: TryInto<u64> + fmt::Display + Copy>(label: Label, value: T) -> Result<u64, ArgError> {
    let in_range = |v: &u64| label.kind.uint_max().is_some_and(|max| *v <= max);
    value.try_into().ok().filter(in_range).ok_or_else(|| out_of_range(label, value))
}

fn byte<T: TryInto<u8> + fmt::Display + Copy>(label: Label, value: T) -> Result<u8, ArgError> {
    value.try_into().map_err(|_| out_of_range(label, value))
}

fn finite(label: Label, value: f64) -> Result<f64, ArgError> {
    label.kind.float(value).ok_or_else(|| ArgError::NotFinite(value.to_string()))
}

/// Why a value does not fit its label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// An element of a list does not fit.
    #[error("element {index}: {why}")]
    Element {
        /// Its position, from 0.
        index: usize,
        /// What is wrong with it.
        why: Box<ArgError>,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn new(label: &str, value: ArgValue) -> Result<ArgValue, ArgError> {
        Arg::new("", Some(label), value).map(|arg| arg.value)
    }

    #[test]
    fn the_closed_set_has_29_labels_and_each_reads_back_exactly() {
        let mut labels: Vec<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
        labels.extend(Kind::ALL.iter().map(|kind| format!("[]{}", kind.as_str())));
        labels.push("[]byte".to_owned());
        assert_eq!(labels.len(), 29);
        for label in &labels {
            assert_eq!(Label::parse(label).map(Label::as_str), Some(label.as_str()));
        }
        for other in ["", "Int64", "byte", "rune", "[]", "[][]int", "int64 ", "[]interface {}", "error"] {
            assert_eq!(Label::parse(other), None, "{other:?}");
            assert_eq!(TypeName::parse(other).to_string(), other);
        }
    }

    #[test]
    fn a_value_without_a_label_gets_the_widest_of_its_kind() {
        for (value, label) in [
            (ArgValue::Bool(true), "bool"),
            (ArgValue::Int(-1), "int64"),
            (ArgValue::Uint(1), "uint64"),
            (ArgValue::Float(1.5), "float64"),
            (ArgValue::String("x".to_owned()), "string"),
            (ArgValue::Bytes(Bytes::from_static(b"x")), "[]byte"),
            (ArgValue::Bools(vec![]), "[]bool"),
            (ArgValue::Ints(vec![1]), "[]int64"),
            (ArgValue::Uints(vec![1]), "[]uint64"),
            (ArgValue::Floats(vec![1.0]), "[]float64"),
            (ArgValue::Strings(vec![]), "[]string"),
        ] {
            assert_eq!(Arg::new("", None, value.clone()).unwrap().type_name.as_str(), label);
            assert_eq!(Arg::new("", Some(""), value).unwrap().type_name.as_str(), label);
        }
        assert_eq!(Arg::new("", None, ArgValue::Nil), Err(ArgError::UnknownType(String::new())));
    }

    #[test]
    fn every_integer_label_takes_its_extremes_and_refuses_the_next_value() {
        for kind in Kind::ALL {
            if let Some(range) = kind.int_range() {
                for edge in [*range.start(), *range.end()] {
                    assert_eq!(new(kind.as_str(), ArgValue::Int(edge)), Ok(ArgValue::Int(edge)));
                }
                for beyond in [range.start().checked_sub(1), range.end().checked_add(1)].into_iter().flatten() {
                    assert!(matches!(new(kind.as_str(), ArgValue::Int(beyond)), Err(ArgError::OutOfRange { .. })));
                }
            }
            if let Some(max) = kind.uint_max() {
                assert_eq!(new(kind.as_str(), ArgValue::Uint(max)), Ok(ArgValue::Uint(max)));
                if let Some(beyond) = max.checked_add(1) {
                    assert!(matches!(new(kind.as_str(), ArgValue::Uint(beyond)), Err(ArgError::OutOfRange { .. })));
                }
            }
        }
    }

    #[test]
    fn signed_and_unsigned_meet_only_where_nothing_is_lost() {
        assert_eq!(new("uint8", ArgValue::Int(255)), Ok(ArgValue::Uint(255)));
        assert_eq!(new("int64", ArgValue::Uint(7)), Ok(ArgValue::Int(7)));
        assert_eq!(new("[]uint8", ArgValue::Ints(vec![0, 255])), Ok(ArgValue::Bytes(Bytes::from_static(&[0, 255]))));
        let refused = new("uint64", ArgValue::Int(-1)).unwrap_err();
        assert_eq!(refused.to_string(), "-1 is out of range for uint64");
        let refused = new("int64", ArgValue::Uint(1 << 63)).unwrap_err();
        assert_eq!(refused.to_string(), "9223372036854775808 is out of range for int64");
    }

    #[test]
    fn an_element_is_named_by_its_position() {
        let refused = new("[]int8", ArgValue::Ints(vec![1, 2, 300])).unwrap_err();
        assert_eq!(refused.to_string(), "element 2: 300 is out of range for int8");
        let refused = new("[]float64", ArgValue::Floats(vec![0.0, f64::NAN])).unwrap_err();
        assert_eq!(refused.to_string(), "element 1: NaN is not a finite number of its type");
    }

    #[test]
    fn floats_are_finite_and_narrowed_under_float32() {
        assert_eq!(new("float32", ArgValue::Float(0.1)), Ok(ArgValue::Float(f64::from(0.1f32))));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert!(matches!(new("float32", ArgValue::Float(bad)), Err(ArgError::NotFinite(_))), "{bad}");
        }
        assert_eq!(new("float64", ArgValue::Float(1e300)), Ok(ArgValue::Float(1e300)));
    }

    #[test]
    fn another_kind_or_label_is_refused() {
        let refused = new("int64", ArgValue::Float(1.0)).unwrap_err();
        assert_eq!(refused.to_string(), "a float value does not fit type int64");
        for (label, value) in [
            ("bool", ArgValue::Int(1)),
            ("float64", ArgValue::Int(1)),
            ("string", ArgValue::Bytes(Bytes::new())),
            ("[]string", ArgValue::String("x".to_owned())),
            ("[]uint16", ArgValue::Bytes(Bytes::new())),
            ("int64", ArgValue::Nil),
            ("string", ArgValue::Json("\"x\"".to_owned())),
        ] {
            assert!(matches!(new(label, value), Err(ArgError::Mismatch { .. })), "{label}");
        }
        assert_eq!(new("map[string]int", ArgValue::Int(1)), Err(ArgError::UnknownType("map[string]int".to_owned())));
    }
}
