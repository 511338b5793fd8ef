//! Header values and the JSON text that the domain keeps them as.
//!
//! The protocol has them nest at most [`DEPTH_MAX`] deep, because protobuf libraries stop at 100 levels and one level of
//! JSON takes three. What other programs stored deeper is shown, from there on, as a string that holds its JSON text.

use std::collections::{BTreeMap, HashMap};

use lineshaft_client::proto::{ListValue, MapValue, Value, value::Kind};
use serde_json::value::RawValue;

use super::limit;
use crate::error::Error;
use crate::task::RawJson;

/// Lists and objects within each other.
const DEPTH_MAX: usize = 32;

/// The JSON text of a value. Paths in errors begin at the value.
pub(in crate::api) fn to_json(value: &Value) -> Result<RawJson, Error> {
    let mut out = String::new();
    write(value, 0, &mut out)?;
    Ok(RawJson(out))
}

fn write(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    let kind = value.kind.as_ref().ok_or_else(|| Error::invalid("kind", "is required"))?;
    match kind {
        Kind::NullValue(true) => out.push_str("null"),
        Kind::NullValue(false) => return Err(Error::invalid("null_value", "must be true")),
        Kind::BoolValue(b) => out.push_str(if *b { "true" } else { "false" }),
        Kind::NumberValue(text) if is_number(text) => out.push_str(text),
        Kind::NumberValue(_) => {
            return Err(Error::invalid("number_value", "must be a JSON number, as 3, -0.5 or 1e3"));
        }
        Kind::StringValue(text) => out.push_str(&RawJson::string(text).0),
        Kind::ListValue(list) => {
            deeper("list_value", depth)?;
            out.push('[');
            for (i, item) in list.values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, depth + 1, out).map_err(|e| e.within(&format!("list_value.values[{i}]")))?;
            }
            out.push(']');
        }
        Kind::MapValue(map) => {
            deeper("map_value", depth)?;
            // Sorted, so that the same object always has the same text and so the same digest.
            let mut members: Vec<_> = map.values.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (i, (key, item)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&RawJson::string(key).0);
                out.push(':');
                write(item, depth + 1, out).map_err(|e| e.within(&format!("map_value.values{}", limit::key(key))))?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn deeper(field: &str, depth: usize) -> Result<(), Error> {
    limit::at_most(field, depth + 1, DEPTH_MAX, "levels")
}

/// True for exactly what RFC 8259 calls a number.
fn is_number(text: &str) -> bool {
    fn digits(bytes: &[u8]) -> Option<&[u8]> {
        let n = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        (n > 0).then(|| &bytes[n..])
    }
    fn number(bytes: &[u8]) -> Option<&[u8]> {
        let mut rest = bytes.strip_prefix(b"-").unwrap_or(bytes);
        rest = rest.strip_prefix(b"0").or_else(|| digits(rest))?;
        if let Some(fraction) = rest.strip_prefix(b".") {
            rest = digits(fraction)?;
        }
        if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
            let unsigned = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
            rest = digits(unsigned)?;
        }
        Some(rest)
    }
    number(text.as_bytes()).is_some_and(<[u8]>::is_empty)
}

/// The value of a JSON text. Total: a text that cannot be read is shown as a string.
pub(in crate::api) fn from_json(json: &RawJson) -> Value {
    Value { kind: Some(read(json.0.trim(), DEPTH_MAX)) }
}

fn read(text: &str, depth_left: usize) -> Kind {
    let as_text = || Kind::StringValue(text.to_owned());
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_or_else(|_| as_text(), Kind::StringValue),
        Some(b'[') if depth_left > 0 => serde_json::from_str::<Vec<&RawValue>>(text).map_or_else(
            |_| as_text(),
            |items| {
                let values = items.into_iter().map(|item| nested(item, depth_left)).collect();
                Kind::ListValue(ListValue { values })
            },
        ),
        Some(b'{') if depth_left > 0 => serde_json::from_str::<BTreeMap<String, &RawValue>>(text).map_or_else(
            |_| as_text(),
            |members| {
                let values: HashMap<_, _> =
                    members.into_iter().map(|(key, item)| (key, nested(item, depth_left))).collect();
                Kind::MapValue(MapValue { values })
            },
        ),
        Some(_) if text == "null" => Kind::NullValue(true),
        Some(_) if text == "true" || text == "false" => Kind::BoolValue(text == "true"),
        Some(_) if is_number(text) => Kind::NumberValue(text.to_owned()),
        _ => as_text(),
    }
}

fn nested(item: &RawValue, depth_left: usize) -> Value {
    Value { kind: Some(read(item.get(), depth_left - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.into())) }
    }

    fn list(values: Vec<Value>) -> Value {
        Value { kind: Some(Kind::ListValue(ListValue { values })) }
    }

    fn map(key: &str, value: Value) -> Value {
        Value { kind: Some(Kind::MapValue(MapValue { values: HashMap::from([(key.to_owned(), value)]) })) }
    }

    fn number(text: &str) -> Value {
        Value { kind: Some(Kind::NumberValue(text.into())) }
    }

    #[test]
    fn values_keep_every_digit_there_and_back() {
        let value = list(vec![
            map("k\"", number("9007199254740993")),
            number("1.50"),
            number("-0"),
            number("1e3"),
            number("1E+400"),
            string("a\u{0}<é>"),
            Value { kind: Some(Kind::NullValue(true)) },
            Value { kind: Some(Kind::BoolValue(false)) },
            list(vec![]),
        ]);
        let json = to_json(&value).unwrap();
        assert!(json.0.contains("9007199254740993") && json.0.contains("1.50") && json.0.contains("1E+400"));
        assert_eq!(from_json(&json), value);
    }

    #[test]
    fn what_is_no_json_number_is_refused_with_its_path() {
        for bad in ["", "01", "1.", ".5", "+1", "NaN", "Infinity", "0x10", "1e", "1 ", "--1", "1,2", "1]"] {
            let error = to_json(&list(vec![string("a"), map("b", number(bad))])).unwrap_err();
            let Error::Invalid { field, .. } = error else { panic!("{error}") };
            assert_eq!(field, r#"list_value.values[1].map_value.values["b"].number_value"#, "{bad:?}");
        }
        assert!(matches!(to_json(&Value { kind: None }), Err(Error::Invalid { field, .. }) if field == "kind"));
    }

    #[test]
    fn nesting_is_refused_beyond_32_levels_and_shown_as_text_when_stored_deeper() {
        let deep = |levels: usize| (0..levels).fold(string("x"), |inner, _| list(vec![inner]));
        assert!(to_json(&deep(32)).is_ok());
        let error = to_json(&deep(33)).unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { limit: 32, actual: 33, unit: "levels", .. }), "{error}");

        let stored = RawJson(format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)));
        let mut shown = from_json(&stored);
        for _ in 0..32 {
            let Some(Kind::ListValue(mut l)) = shown.kind else { panic!("a list was expected") };
            shown = l.values.remove(0);
        }
        let expected = format!("{}1{}", "[".repeat(9_968), "]".repeat(9_968));
        assert_eq!(shown, string(&expected));
    }

    #[test]
    fn a_text_that_cannot_be_read_is_shown_as_a_string() {
        for odd in [r#""\ud800""#, "{\"a\":}", "[1,", "", "nul"] {
            assert_eq!(from_json(&RawJson(odd.into())), string(odd));
        }
    }
}
