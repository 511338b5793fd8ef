//! Arguments and results: a value with the label that says how a worker reads it.

use std::fmt;

use bytes::Bytes;

use super::{Kind, Label, TypeName};

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
