//! Types: the closed set of labels that Machinery workers can read.

use std::fmt;
use std::ops::RangeInclusive;

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

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
