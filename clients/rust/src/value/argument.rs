//! One native value to and from one argument.

use bytes::Bytes;

use super::{ValueError, type_name};
use crate::proto::arg::Value;
use crate::proto::{Arg, BoolList, DoubleList, Int64List, StringList, Uint64List};

/// A type that can be an argument or a result.
pub trait IntoArg {
    /// The argument, with its type name.
    fn into_arg(self) -> Arg;

    /// As [`IntoArg::into_arg`], for types of which not every value can be written.
    ///
    /// # Errors
    /// [`ValueError::Codec`] (its position 0, which the caller knows better).
    fn try_into_arg(self) -> Result<Arg, ValueError>
    where
        Self: Sized,
    {
        Ok(self.into_arg())
    }

    /// The name of the codec, if what the argument holds has one; a sent task names it in a header.
    fn codec(&self) -> Option<&'static str> {
        None
    }
}

/// A type that an argument or a result can be read as.
pub trait FromArg: Sized {
    /// Reads `arg`.
    ///
    /// # Errors
    /// [`ValueError::Mismatch`] (its position 0, which the caller knows better): another type, or out of range.
    fn from_arg(arg: Arg) -> Result<Self, ValueError>;
}

fn arg(type_name: &str, value: Value) -> Arg {
    Arg { name: String::new(), r#type: type_name.to_owned(), value: Some(value) }
}

/// The error for `arg` where `expected` was asked for.
pub(crate) fn mismatch(expected: &str, arg: &Arg) -> ValueError {
    // Numbers are shown, since it is their size that is wrong; texts and bytes may be secret or long.
    let found = match &arg.value {
        Some(Value::Int64Value(number)) => format!("{} {number}", type_name(arg)),
        Some(Value::Uint64Value(number)) => format!("{} {number}", type_name(arg)),
        Some(Value::DoubleValue(number)) => format!("{} {number}", type_name(arg)),
        _ => type_name(arg).to_owned(),
    };
    ValueError::Mismatch { position: 0, expected: expected.to_owned(), found }
}

impl IntoArg for Arg {
    fn into_arg(self) -> Arg {
        self
    }
}

impl FromArg for Arg {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        Ok(arg)
    }
}

macro_rules! integers {
    ($($native:ty, $variant:ident, $list:ident, $wide:ty, $name:literal;)*) => {$(
        impl IntoArg for $native {
            fn into_arg(self) -> Arg {
                // `as` widens here: no listed type is wider than its carrier.
                arg($name, Value::$variant(self as $wide))
            }
        }

        impl FromArg for $native {
            fn from_arg(arg: Arg) -> Result<Self, ValueError> {
                match &arg.value {
                    Some(Value::Int64Value(number)) => Self::try_from(*number).ok(),
                    Some(Value::Uint64Value(number)) => Self::try_from(*number).ok(),
                    _ => None,
                }
                .ok_or_else(|| mismatch($name, &arg))
            }
        }
    )*};
}

macro_rules! integer_lists {
    ($($native:ty, $variant:ident, $list:ident, $wide:ty, $name:literal;)*) => {$(
        impl IntoArg for Vec<$native> {
            fn into_arg(self) -> Arg {
                arg($name, Value::$variant($list { values: self.into_iter().map(|number| number as $wide).collect() }))
            }
        }

        impl FromArg for Vec<$native> {
            fn from_arg(arg: Arg) -> Result<Self, ValueError> {
                match &arg.value {
                    Some(Value::Int64List(list)) => {
                        list.values.iter().map(|number| <$native>::try_from(*number).ok()).collect()
                    }
                    Some(Value::Uint64List(list)) => {
                        list.values.iter().map(|number| <$native>::try_from(*number).ok()).collect()
                    }
                    _ => None,
                }
                .ok_or_else(|| mismatch($name, &arg))
            }
        }
    )*};
}

integers! {
    i8, Int64Value, Int64List, i64, "int8";
    i16, Int64Value, Int64List, i64, "int16";
    i32, Int64Value, Int64List, i64, "int32";
    i64, Int64Value, Int64List, i64, "int64";
    isize, Int64Value, Int64List, i64, "int";
    u8, Uint64Value, Uint64List, u64, "uint8";
    u16, Uint64Value, Uint64List, u64, "uint16";
    u32, Uint64Value, Uint64List, u64, "uint32";
    u64, Uint64Value, Uint64List, u64, "uint64";
    usize, Uint64Value, Uint64List, u64, "uint";
}

// Without `u8`: its list is `[]byte`.
integer_lists! {
    i8, Int64List, Int64List, i64, "[]int8";
    i16, Int64List, Int64List, i64, "[]int16";
    i32, Int64List, Int64List, i64, "[]int32";
    i64, Int64List, Int64List, i64, "[]int64";
    isize, Int64List, Int64List, i64, "[]int";
    u16, Uint64List, Uint64List, u64, "[]uint16";
    u32, Uint64List, Uint64List, u64, "[]uint32";
    u64, Uint64List, Uint64List, u64, "[]uint64";
    usize, Uint64List, Uint64List, u64, "[]uint";
}

impl IntoArg for bool {
    fn into_arg(self) -> Arg {
        arg("bool", Value::BoolValue(self))
    }
}

impl FromArg for bool {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::BoolValue(is)) => Ok(is),
            _ => Err(mismatch("bool", &arg)),
        }
    }
}

impl IntoArg for Vec<bool> {
    fn into_arg(self) -> Arg {
        arg("[]bool", Value::BoolList(BoolList { values: self }))
    }
}

impl FromArg for Vec<bool> {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::BoolList(list)) => Ok(list.values),
            _ => Err(mismatch("[]bool", &arg)),
        }
    }
}

impl IntoArg for f64 {
    fn into_arg(self) -> Arg {
        arg("float64", Value::DoubleValue(self))
    }
}

impl FromArg for f64 {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::DoubleValue(number)) => Ok(number),
            _ => Err(mismatch("float64", &arg)),
        }
    }
}

impl IntoArg for f32 {
    fn into_arg(self) -> Arg {
        arg("float32", Value::DoubleValue(f64::from(self)))
    }
}

/// `number` as a 32-bit float: rounded if it is declared as one (0.1 as `float32` has no exact double), else only exact.
fn narrow(number: f64, is_declared: bool) -> Option<f32> {
    let narrowed = number as f32;
    (narrowed.is_finite() && (is_declared || f64::from(narrowed) == number)).then_some(narrowed)
}

impl FromArg for f32 {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match &arg.value {
            Some(Value::DoubleValue(number)) => narrow(*number, arg.r#type == "float32"),
            _ => None,
        }
        .ok_or_else(|| mismatch("float32", &arg))
    }
}

impl IntoArg for Vec<f64> {
    fn into_arg(self) -> Arg {
        arg("[]float64", Value::DoubleList(DoubleList { values: self }))
    }
}

impl FromArg for Vec<f64> {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::DoubleList(list)) => Ok(list.values),
            _ => Err(mismatch("[]float64", &arg)),
        }
    }
}

impl IntoArg for Vec<f32> {
    fn into_arg(self) -> Arg {
        arg("[]float32", Value::DoubleList(DoubleList { values: self.into_iter().map(f64::from).collect() }))
    }
}

impl FromArg for Vec<f32> {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match &arg.value {
            Some(Value::DoubleList(list)) => {
                list.values.iter().map(|number| narrow(*number, arg.r#type == "[]float32")).collect()
            }
            _ => None,
        }
        .ok_or_else(|| mismatch("[]float32", &arg))
    }
}

impl IntoArg for String {
    fn into_arg(self) -> Arg {
        arg("string", Value::StringValue(self))
    }
}

impl IntoArg for &str {
    fn into_arg(self) -> Arg {
        self.to_owned().into_arg()
    }
}

impl FromArg for String {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::StringValue(text)) => Ok(text),
            _ => Err(mismatch("string", &arg)),
        }
    }
}

impl IntoArg for Vec<String> {
    fn into_arg(self) -> Arg {
        arg("[]string", Value::StringList(StringList { values: self }))
    }
}

impl IntoArg for Vec<&str> {
    fn into_arg(self) -> Arg {
        self.into_iter().map(str::to_owned).collect::<Vec<_>>().into_arg()
    }
}

impl FromArg for Vec<String> {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::StringList(list)) => Ok(list.values),
            _ => Err(mismatch("[]string", &arg)),
        }
    }
}

impl IntoArg for Bytes {
    fn into_arg(self) -> Arg {
        arg("[]byte", Value::BytesValue(self))
    }
}

impl IntoArg for Vec<u8> {
    fn into_arg(self) -> Arg {
        Bytes::from(self).into_arg()
    }
}

impl FromArg for Bytes {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        match arg.value {
            Some(Value::BytesValue(bytes)) => Ok(bytes),
            _ => Err(mismatch("[]byte", &arg)),
        }
    }
}

impl FromArg for Vec<u8> {
    fn from_arg(arg: Arg) -> Result<Self, ValueError> {
        Bytes::from_arg(arg).map(Vec::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survives<T: IntoArg + FromArg + Clone + PartialEq + std::fmt::Debug>(type_name: &str, values: Vec<T>) {
        for value in values {
            let arg = value.clone().into_arg();
            assert_eq!(arg.r#type, type_name);
            assert_eq!(T::from_arg(arg), Ok(value));
        }
    }

    #[test]
    fn every_type_survives_with_its_machinery_name() {
        survives("bool", vec![true, false]);
        survives("int8", vec![i8::MIN, i8::MAX]);
        survives("int16", vec![i16::MIN, i16::MAX]);
        survives("int32", vec![i32::MIN, i32::MAX]);
        survives("int64", vec![i64::MIN, (1 << 53) + 1, i64::MAX]);
        survives("int", vec![isize::MIN, isize::MAX]);
        survives("uint8", vec![u8::MAX]);
        survives("uint16", vec![u16::MAX]);
        survives("uint32", vec![u32::MAX]);
        survives("uint64", vec![u64::MAX]);
        survives("uint", vec![usize::MAX]);
        survives("float32", vec![0.1f32, f32::MAX]);
        survives("float64", vec![0.1f64, f64::MIN_POSITIVE]);
        survives("string", vec![String::new(), "ü".to_owned()]);
        survives("[]byte", vec![vec![0u8, 255]]);
        survives("[]byte", vec![Bytes::from_static(b"x")]);
        survives("[]bool", vec![vec![true, false]]);
        survives("[]int8", vec![vec![i8::MIN]]);
        survives("[]int", vec![vec![1isize], vec![]]);
        survives("[]int64", vec![vec![i64::MAX]]);
        survives("[]uint64", vec![vec![u64::MAX]]);
        survives("[]float32", vec![vec![0.1f32]]);
        survives("[]float64", vec![vec![0.1f64]]);
        survives("[]string", vec![vec!["a".to_owned()]]);
    }

    #[test]
    fn integers_are_read_by_range_across_widths() {
        assert_eq!(u8::from_arg(7i64.into_arg()), Ok(7));
        assert_eq!(i64::from_arg(7u64.into_arg()), Ok(7));
        assert!(u8::from_arg(300i64.into_arg()).is_err());
        assert!(u64::from_arg((-1i64).into_arg()).is_err());
        assert!(i64::from_arg(u64::MAX.into_arg()).is_err());
        assert_eq!(
            i8::from_arg(300i16.into_arg()).map_err(|error| error.to_string()),
            Err("value 0: expected int8, found int16 300".to_owned())
        );
    }

    #[test]
    fn kinds_are_never_mixed() {
        assert!(f64::from_arg(1i64.into_arg()).is_err());
        assert!(i64::from_arg(1.0f64.into_arg()).is_err());
        assert!(String::from_arg(vec![1u8].into_arg()).is_err());
        assert!(f32::from_arg(0.1f64.into_arg()).is_err());
        assert_eq!(f32::from_arg(0.5f64.into_arg()), Ok(0.5));
        assert!(i64::from_arg(Arg::default()).is_err());
    }

    #[test]
    fn a_text_of_the_wrong_type_is_not_shown() {
        let error = i64::from_arg("secret".into_arg()).unwrap_err().to_string();
        assert_eq!(error, "value 0: expected int64, found string");
    }
}
