//! Arguments and results as text and as JSON.
//!
//! Three notations meet the protocol's typed values here: the command line (`5`, `int8:5`, `[]string:["a"]`), the JSON
//! that is shown and handed to programs, and the JSON that programs answer with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lineshaft_client::proto;
use proto::arg::Value as Typed;
use serde_json::{Number, Value};

/// The types of Machinery's closed set with the range of the integers among them.
const SIGNED: [(&str, i64, i64); 5] = [
    ("int", i64::MIN, i64::MAX),
    ("int8", i8::MIN as i64, i8::MAX as i64),
    ("int16", i16::MIN as i64, i16::MAX as i64),
    ("int32", i32::MIN as i64, i32::MAX as i64),
    ("int64", i64::MIN, i64::MAX),
];
const UNSIGNED: [(&str, u64); 5] = [
    ("uint", u64::MAX),
    ("uint8", u8::MAX as u64),
    ("uint16", u16::MAX as u64),
    ("uint32", u32::MAX as u64),
    ("uint64", u64::MAX),
];
const FLOATS: [(&str, f64); 2] = [("float32", f32::MAX as f64), ("float64", f64::MAX)];

/// Reads an argument of the command line.
///
/// `TYPE:VALUE`, where TYPE is one of Machinery's type names (`int8`, `[]string`, `[]byte`, …), is of that type: lists
/// are JSON arrays, `[]byte` is base64, a `string` is taken as it is. Otherwise an integer is `int64` (`uint64` beyond
/// its range), a decimal number `float64`, `true` and `false` are `bool`, and anything else is a `string`.
///
/// # Errors
/// A sentence that says what is wrong, for clap.
pub fn parse(text: &str) -> Result<proto::Arg, String> {
    if let Some((name, value)) = text.split_once(':')
        && is_type(name)
    {
        return Ok(arg(name, typed(name, value)?));
    }
    Ok(arg("", infer(text)?))
}

/// Reads a value of this type, in the notation of [`parse`] behind the colon.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_typed(type_name: &str, text: &str) -> Result<proto::Arg, String> {
    if !is_type(type_name) {
        return Err(format!("{type_name:?} is no type of Machinery's"));
    }
    Ok(arg(type_name, typed(type_name, text)?))
}

/// A header that is a text.
pub fn text_header(text: String) -> proto::Value {
    proto::Value { kind: Some(proto::value::Kind::StringValue(text)) }
}

fn arg(type_name: &str, value: Typed) -> proto::Arg {
    proto::Arg { name: String::new(), r#type: type_name.to_owned(), value: Some(value) }
}

fn is_type(name: &str) -> bool {
    let element = name.strip_prefix("[]").unwrap_or(name);
    name == "[]byte"
        || ["bool", "string"].contains(&element)
        || SIGNED.iter().any(|(known, ..)| *known == element)
        || UNSIGNED.iter().any(|(known, _)| *known == element)
        || FLOATS.iter().any(|(known, _)| *known == element)
}

fn infer(text: &str) -> Result<Typed, String> {
    match text {
        "true" => return Ok(Typed::BoolValue(true)),
        "false" => return Ok(Typed::BoolValue(false)),
        _ => {}
    }
    // JSON's notation of numbers and nothing beside it: "007", "+1", "0x10", "NaN" and " 1" are texts.
    let looks_like_number =
        text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && !text.ends_with(char::is_whitespace);
    match serde_json::from_str::<Number>(text) {
        Ok(number) if looks_like_number => {
            if let Some(exact) = integer(&number) {
                return Ok(exact);
            }
            if text.contains(['.', 'e', 'E']) {
                return finite(&number, f64::MAX).map(Typed::DoubleValue).ok_or_else(|| {
                    format!("{text} is out of range for float64; write string:{text} to send it as text")
                });
            }
            Err(format!("{text} is out of range for int64 and uint64; write string:{text} to send it as text"))
        }
        _ => Ok(Typed::StringValue(text.to_owned())),
    }
}

fn integer(number: &Number) -> Option<Typed> {
    number.as_i64().map(Typed::Int64Value).or_else(|| number.as_u64().map(Typed::Uint64Value))
}

fn finite(number: &Number, max: f64) -> Option<f64> {
    number.as_f64().filter(|value| value.is_finite() && value.abs() <= max)
}

fn typed(name: &str, text: &str) -> Result<Typed, String> {
    let Some(element) = name.strip_prefix("[]") else { return scalar(name, text) };
    if element == "byte" || element == "uint8" {
        return match BASE64.decode(text) {
            Ok(bytes) => Ok(Typed::BytesValue(bytes.into())),
            Err(error) => Err(format!("{text:?} is not base64, as {name} wants it: {error}")),
        };
    }
    let wrong = || format!("{text:?} is not a JSON array of {element}, as {name} wants it");
    let items: Vec<Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    let each = |item: &Value| match (element, item) {
        ("string", Value::String(text)) => Ok(Typed::StringValue(text.clone())),
        ("bool", Value::Bool(truth)) => Ok(Typed::BoolValue(*truth)),
        ("string" | "bool", _) => Err(wrong()),
        (_, Value::Number(number)) => scalar(element, &number.to_string()),
        _ => Err(wrong()),
    };
    let values: Vec<Typed> = items.iter().map(each).collect::<Result<_, _>>()?;
    let empty = match element {
        "string" => Typed::StringList(proto::StringList::default()),
        "bool" => Typed::BoolList(proto::BoolList::default()),
        _ if SIGNED.iter().any(|(known, ..)| *known == element) => Typed::Int64List(proto::Int64List::default()),
        _ if UNSIGNED.iter().any(|(known, _)| *known == element) => Typed::Uint64List(proto::Uint64List::default()),
        _ => Typed::DoubleList(proto::DoubleList::default()),
    };
    if values.is_empty() { Ok(empty) } else { list(values).ok_or_else(wrong) }
}

fn scalar(name: &str, text: &str) -> Result<Typed, String> {
    let number = || {
        let wrong = |_| format!("{text:?} is not a number, as {name} wants it");
        serde_json::from_str::<Number>(text).map_err(wrong)
    };
    let out_of_range = || format!("{text} is out of range for {name}");
    match name {
        "string" => return Ok(Typed::StringValue(text.to_owned())),
        "bool" => {
            return text
                .parse()
                .map(Typed::BoolValue)
                .map_err(|_| format!("{text:?} is neither true nor false, as bool wants it"));
        }
        _ => {}
    }
    if let Some((_, max)) = FLOATS.iter().find(|(known, _)| *known == name) {
        return finite(&number()?, *max).map(Typed::DoubleValue).ok_or_else(out_of_range);
    }
    // "5.0" is no integer here: what reads as one is decided by the notation, not by the value.
    let number = number()?;
    if let Some((_, min, max)) = SIGNED.iter().find(|(known, ..)| *known == name) {
        return number
            .as_i64()
            .filter(|value| (*min..=*max).contains(value))
            .map(Typed::Int64Value)
            .ok_or_else(out_of_range);
    }
    let max = UNSIGNED.iter().find(|(known, _)| *known == name).map_or(u64::MAX, |(_, max)| *max);
    number.as_u64().filter(|value| *value <= max).map(Typed::Uint64Value).ok_or_else(out_of_range)
}

// One list of values of one kind; integers of both signs meet in int64 if they fit, and integers beside decimals are
// decimals. None if they do not fit in one list.
fn list(values: Vec<Typed>) -> Option<Typed> {
    fn all<T>(values: &[Typed], take: impl Fn(&Typed) -> Option<T>) -> Option<Vec<T>> {
        values.iter().map(take).collect()
    }
    let signed = |value: &Typed| match value {
        Typed::Int64Value(v) => Some(*v),
        _ => None,
    };
    let unsigned = |value: &Typed| match value {
        Typed::Uint64Value(v) => Some(*v),
        Typed::Int64Value(v) => u64::try_from(*v).ok(),
        _ => None,
    };
    // An integer that a float64 would round stays out, so that no digit is lost.
    let double = |value: &Typed| match value {
        Typed::DoubleValue(v) => Some(*v),
        Typed::Int64Value(v) if v.unsigned_abs() <= 1 << 53 => Some(*v as f64),
        _ => None,
    };
    let string = |value: &Typed| match value {
        Typed::StringValue(v) => Some(v.clone()),
        _ => None,
    };
    let truth = |value: &Typed| match value {
        Typed::BoolValue(v) => Some(*v),
        _ => None,
    };
    None.or_else(|| all(&values, signed).map(|values| Typed::Int64List(proto::Int64List { values })))
        .or_else(|| all(&values, unsigned).map(|values| Typed::Uint64List(proto::Uint64List { values })))
        .or_else(|| all(&values, double).map(|values| Typed::DoubleList(proto::DoubleList { values })))
        .or_else(|| all(&values, string).map(|values| Typed::StringList(proto::StringList { values })))
        .or_else(|| all(&values, truth).map(|values| Typed::BoolList(proto::BoolList { values })))
}

/// A value that a program answered, as a result: integers are `int64` (`uint64` beyond its range), decimals `float64`,
/// and arrays of one kind lists; an empty array is a list of strings. Anything else (objects, mixed or nested arrays,
/// null, numbers beyond range) is a `string` that holds its JSON.
pub fn from_json(value: &Value) -> proto::Arg {
    let simple = |value: &Value| match value {
        Value::Bool(truth) => Some(Typed::BoolValue(*truth)),
        Value::String(text) => Some(Typed::StringValue(text.clone())),
        Value::Number(number) => {
            integer(number).or_else(|| {
                // A whole number beyond 64 bits would lose digits as a float64.
                let whole = !number.to_string().contains(['.', 'e', 'E']);
                finite(number, f64::MAX).filter(|_| !whole).map(Typed::DoubleValue)
            })
        }
        _ => None,
    };
    let exact = match value {
        Value::Array(items) if items.is_empty() => Some(Typed::StringList(proto::StringList::default())),
        Value::Array(items) => items.iter().map(simple).collect::<Option<Vec<_>>>().and_then(list),
        other => simple(other),
    };
    arg("", exact.unwrap_or_else(|| Typed::StringValue(value.to_string())))
}

/// A value as plain JSON: integers with every digit, bytes as base64, JSON of foreign types as it is.
pub fn to_json(arg: &proto::Arg) -> Value {
    fn array<T: Clone + Into<Value>>(values: &[T]) -> Value {
        values.iter().cloned().map(Into::into).collect::<Vec<Value>>().into()
    }
    match &arg.value {
        None => Value::Null,
        Some(Typed::BoolValue(v)) => (*v).into(),
        Some(Typed::Int64Value(v)) => (*v).into(),
        Some(Typed::Uint64Value(v)) => (*v).into(),
        Some(Typed::DoubleValue(v)) => (*v).into(),
        Some(Typed::StringValue(v)) => v.clone().into(),
        Some(Typed::BytesValue(v)) => BASE64.encode(v).into(),
        Some(Typed::BoolList(v)) => array(&v.values),
        Some(Typed::Int64List(v)) => array(&v.values),
        Some(Typed::Uint64List(v)) => array(&v.values),
        Some(Typed::DoubleList(v)) => array(&v.values),
        Some(Typed::StringList(v)) => array(&v.values),
        Some(Typed::JsonValue(v)) => serde_json::from_str(v).unwrap_or_else(|_| v.clone().into()),
    }
}

/// The type of a value: as it is labelled, else as the value implies.
pub fn type_name(arg: &proto::Arg) -> &str {
    if !arg.r#type.is_empty() {
        return &arg.r#type;
    }
    match &arg.value {
        None | Some(Typed::JsonValue(_)) => "",
        Some(Typed::BoolValue(_)) => "bool",
        Some(Typed::Int64Value(_)) => "int64",
        Some(Typed::Uint64Value(_)) => "uint64",
        Some(Typed::DoubleValue(_)) => "float64",
        Some(Typed::StringValue(_)) => "string",
        Some(Typed::BytesValue(_)) => "[]byte",
        Some(Typed::BoolList(_)) => "[]bool",
        Some(Typed::Int64List(_)) => "[]int64",
        Some(Typed::Uint64List(_)) => "[]uint64",
        Some(Typed::DoubleList(_)) => "[]float64",
        Some(Typed::StringList(_)) => "[]string",
    }
}

/// Values for `--json`: `[{"type":"int64","value":3}]`.
pub fn list_to_json(args: &[proto::Arg]) -> Value {
    args.iter()
        .map(|arg| super::output::object([("type", type_name(arg).into()), ("value", to_json(arg))]))
        .collect::<Vec<_>>()
        .into()
}

/// Headers for `--json`: plain JSON, numbers with every digit.
pub fn headers_to_json(headers: &std::collections::HashMap<String, proto::Value>) -> Value {
    headers.iter().map(|(key, value)| (key.clone(), header_to_json(value))).collect::<serde_json::Map<_, _>>().into()
}

// Servers hand out headers at most 32 levels deep, so the recursion is bounded.
fn header_to_json(value: &proto::Value) -> Value {
    use proto::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => (*truth).into(),
        Some(Kind::NumberValue(text)) => {
            serde_json::from_str::<Number>(text).map_or_else(|_| text.clone().into(), Value::Number)
        }
        Some(Kind::StringValue(text)) => text.clone().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(header_to_json).collect::<Vec<_>>().into(),
        Some(Kind::MapValue(map)) => headers_to_json(&map.values),
    }
}

/// A value for people: a string as it is, anything else as its JSON.
pub fn text(arg: &proto::Arg) -> String {
    match &arg.value {
        Some(Typed::StringValue(text)) => text.clone(),
        _ => to_json(arg).to_string(),
    }
}

/// Several values for people, on one line: each as its JSON, so that strings are told from numbers.
pub fn texts(args: &[proto::Arg]) -> String {
    args.iter().map(|arg| to_json(arg).to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(text: &str) -> (String, Value) {
        let arg = parse(text).unwrap();
        (type_name(&arg).to_owned(), to_json(&arg))
    }

    #[test]
    fn arguments_without_a_type_are_inferred() {
        for (text, type_name, value) in [
            ("5", "int64", json!(5)),
            ("-5", "int64", json!(-5)),
            ("9223372036854775807", "int64", json!(i64::MAX)),
            ("18446744073709551615", "uint64", json!(u64::MAX)),
            ("2.5", "float64", json!(2.5)),
            ("1e3", "float64", json!(1000.0)),
            ("true", "bool", json!(true)),
            ("hello", "string", json!("hello")),
            ("007", "string", json!("007")),
            ("NaN", "string", json!("NaN")),
            ("null", "string", json!("null")),
            ("http://x", "string", json!("http://x")),
            ("", "string", json!("")),
            ("5 ", "string", json!("5 ")),
            ("[1]", "string", json!("[1]")),
        ] {
            assert_eq!(shown(text), (type_name.to_owned(), value), "{text}");
        }
        for text in ["18446744073709551616", "1e999"] {
            assert!(parse(text).unwrap_err().contains("string:"), "{text}");
        }
    }

    #[test]
    fn arguments_with_a_type_are_of_that_type() {
        for (text, type_name, value) in [
            ("int8:-128", "int8", json!(-128)),
            ("uint64:18446744073709551615", "uint64", json!(u64::MAX)),
            ("float32:1", "float32", json!(1.0)),
            ("string:5", "string", json!("5")),
            ("string:int:5", "string", json!("int:5")),
            ("string:", "string", json!("")),
            ("[]string:[\"a\",\"b\"]", "[]string", json!(["a", "b"])),
            ("[]int64:[]", "[]int64", json!([])),
            ("[]uint16:[0,65535]", "[]uint16", json!([0, 65535])),
            ("[]float64:[1,2.5]", "[]float64", json!([1.0, 2.5])),
            ("[]bool:[true]", "[]bool", json!([true])),
            ("[]byte:aGk=", "[]byte", json!("aGk=")),
            ("[]uint8:aGk=", "[]uint8", json!("aGk=")),
        ] {
            assert_eq!(shown(text), (type_name.to_owned(), value), "{text}");
        }
        for text in [
            "int8:128",
            "int8:x",
            "int8:1.0",
            "uint8:-1",
            "bool:1",
            "float32:1e39",
            "float64:NaN",
            "[]int8:[300]",
            "[]int64:5",
            "[]string:[1]",
            "[]byte:?",
            "[]bool:[1]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers_of_programs_become_results() {
        for (value, type_name, back) in [
            ("3", "int64", json!(3)),
            ("18446744073709551615", "uint64", json!(u64::MAX)),
            ("3.0", "float64", json!(3.0)),
            ("\"x\"", "string", json!("x")),
            ("true", "bool", json!(true)),
            ("[1,2]", "[]int64", json!([1, 2])),
            ("[1,18446744073709551615]", "[]uint64", json!([1, u64::MAX])),
            ("[1,2.5]", "[]float64", json!([1.0, 2.5])),
            ("[\"a\"]", "[]string", json!(["a"])),
            ("[true,false]", "[]bool", json!([true, false])),
            ("[]", "[]string", json!([])),
            ("[1,\"a\"]", "string", json!("[1,\"a\"]")),
            ("[9007199254740993,0.5]", "string", json!("[9007199254740993,0.5]")),
            ("{\"a\":1}", "string", json!("{\"a\":1}")),
            ("null", "string", json!("null")),
            ("184467440737095516160", "string", json!("184467440737095516160")),
        ] {
            let arg = from_json(&serde_json::from_str(value).unwrap());
            assert_eq!((super::type_name(&arg), to_json(&arg)), (type_name, back), "{value}");
        }
    }
}
