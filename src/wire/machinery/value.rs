//! The value of an argument or result: the label decides how it is read, not the kind of JSON.

use std::borrow::Cow;

use super::super::base64;
use super::super::json::{self, Cursor, JsonError};
use crate::task::{ArgValue, Kind, Label, TypeName};

/// Why a value cannot be read under its label.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A Go worker ends the task in FAILURE with this text, which is Go's to the letter wherever Go would refuse too.
    Refused(String),
    /// A Go worker's process ends.
    Lethal(&'static str),
}

impl From<JsonError> for Misfit {
    fn from(error: JsonError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Reads the value whose text is `raw` under `label`.
pub(super) fn read(label: Label, raw: &[u8]) -> Result<ArgValue, Misfit> {
    let mut cursor = Cursor::new(raw);
    if label.list { list(label.kind, &mut cursor, raw) } else { one(label.kind, &mut cursor, raw) }
}

fn one(kind: Kind, cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<ArgValue, Misfit> {
    Ok(match kind {
        Kind::Bool => ArgValue::Bool(boolean(cursor, raw)?),
        Kind::String => ArgValue::String(string(cursor, raw)?),
        Kind::Float32 | Kind::Float64 => ArgValue::Float(float(kind, cursor, raw)?),
        _ if kind.int_range().is_some() => ArgValue::Int(int(kind, cursor, raw)?),
        _ => ArgValue::Uint(uint(kind, cursor, raw)?),
    })
}

fn list(kind: Kind, cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<ArgValue, Misfit> {
    match cursor.peek()? {
        b'[' => elements(kind, cursor),
        b'n' => Ok(ArgValue::Nil),
        b'{' => {
            let mut members = 0usize;
            cursor.members(|cursor, _| {
                members += 1;
                cursor.skip().map(drop)
            })?;
            if members > 0 {
                return Err(Misfit::Lethal("an object with members under a slice type"));
            }
            Ok(empty(kind))
        }
        b't' | b'f' => Err(Misfit::Lethal("a bool under a slice type")),
        b'"' => {
            let text = cursor.string()?.unwrap_or_default();
            if kind.uint_max().is_some() {
                return from_base64(kind, &text);
            }
            // Go walks the bytes of the string as if they were the elements, and stumbles over the first.
            match text.as_bytes().first() {
                None => Ok(empty(kind)),
                Some(byte) => Err(unlike(&byte.to_string(), kind)),
            }
        }
        // A number too is a string of bytes to Go.
        _ => Err(unlike(&raw.first().copied().unwrap_or_default().to_string(), kind)),
    }
}

fn empty(kind: Kind) -> ArgValue {
    match kind {
        Kind::Bool => ArgValue::Bools(Vec::new()),
        Kind::String => ArgValue::Strings(Vec::new()),
        Kind::Float32 | Kind::Float64 => ArgValue::Floats(Vec::new()),
        Kind::Uint8 => ArgValue::Bytes(bytes::Bytes::new()),
        _ if kind.int_range().is_some() => ArgValue::Ints(Vec::new()),
        _ => ArgValue::Uints(Vec::new()),
    }
}

fn elements(kind: Kind, cursor: &mut Cursor<'_>) -> Result<ArgValue, Misfit> {
    Ok(match kind {
        Kind::Bool => ArgValue::Bools(each(cursor, boolean)?),
        Kind::String => ArgValue::Strings(each(cursor, string)?),
        Kind::Float32 | Kind::Float64 => ArgValue::Floats(each(cursor, |cursor, raw| float(kind, cursor, raw))?),
        Kind::Uint8 => {
            // The range was checked: the cast takes nothing away.
            let bytes = each(cursor, |cursor, raw| uint(kind, cursor, raw).map(|value| value as u8))?;
            ArgValue::Bytes(bytes.into())
        }
        _ if kind.int_range().is_some() => ArgValue::Ints(each(cursor, |cursor, raw| int(kind, cursor, raw))?),
        _ => ArgValue::Uints(each(cursor, |cursor, raw| uint(kind, cursor, raw))?),
    })
}

fn each<T>(
    cursor: &mut Cursor<'_>,
    mut read: impl FnMut(&mut Cursor<'_>, &[u8]) -> Result<T, Misfit>,
) -> Result<Vec<T>, Misfit> {
    let mut list = Vec::new();
    cursor.elements(|cursor| {
        let raw = cursor.skip()?;
        list.push(read(&mut Cursor::new(raw), raw)?);
        Ok::<_, Misfit>(())
    })?;
    Ok(list)
}

fn from_base64(kind: Kind, text: &str) -> Result<ArgValue, Misfit> {
    let bytes = base64::read(text.as_bytes())
        .map_err(|at| Misfit::Refused(format!("illegal base64 data at input byte {at}")))?;
    Ok(match kind {
        Kind::Uint8 => ArgValue::Bytes(bytes.into()),
        _ => ArgValue::Uints(bytes.into_iter().map(u64::from).collect()),
    })
}

fn boolean(cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<bool, Misfit> {
    cursor.boolean()?.ok_or_else(|| unlike(&shown(raw), Kind::Bool))
}

fn string(cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<String, Misfit> {
    Ok(cursor.string()?.ok_or_else(|| unlike(&shown(raw), Kind::String))?.into_owned())
}

fn float(kind: Kind, cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<f64, Misfit> {
    let token = cursor.number()?.ok_or_else(|| unlike(&shown(raw), kind))?;
    let value = token.parse().ok().and_then(|value| kind.float(value));
    value.ok_or_else(|| refused("ParseFloat", token, "value out of range"))
}

fn int(kind: Kind, cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<i64, Misfit> {
    let token = cursor.number()?.ok_or_else(|| unlike(&shown(raw), kind))?;
    if !is_integer(token.strip_prefix('-').unwrap_or(token)) {
        return Err(refused("ParseInt", token, "invalid syntax"));
    }
    let in_range = |value: &i64| kind.int_range().is_some_and(|range| range.contains(value));
    let value = token.parse().ok().filter(in_range);
    value.ok_or_else(|| refused("ParseInt", token, "value out of range"))
}

fn uint(kind: Kind, cursor: &mut Cursor<'_>, raw: &[u8]) -> Result<u64, Misfit> {
    let token = cursor.number()?.ok_or_else(|| unlike(&shown(raw), kind))?;
    if !is_integer(token) {
        return Err(refused("ParseUint", token, "invalid syntax"));
    }
    let in_range = |value: &u64| kind.uint_max().is_some_and(|max| *value <= max);
    let value = token.parse().ok().filter(in_range);
    value.ok_or_else(|| refused("ParseUint", token, "value out of range"))
}

fn is_integer(token: &str) -> bool {
    token.bytes().all(|c| c.is_ascii_digit())
}

fn refused(function: &str, token: &str, why: &str) -> Misfit {
    Misfit::Refused(format!("strconv.{function}: parsing \"{}\": {why}", short(token)))
}

fn unlike(shown: &str, kind: Kind) -> Misfit {
    Misfit::Refused(format!("{shown} is not {}", kind.as_str()))
}

// The value as Go prints it with `%v`; lists and objects as JSON instead, which people can read.
fn shown(raw: &[u8]) -> Cow<'_, str> {
    let text = match Cursor::new(raw).string() {
        Ok(Some(text)) => text,
        _ if raw == b"null" => Cow::Borrowed("<nil>"),
        _ => String::from_utf8_lossy(raw),
    };
    match short(&text) {
        start if start.len() < text.len() => Cow::Owned(format!("{start}…")),
        _ => text,
    }
}

// Go prints the value whole; a megabyte of it would end up in the task's state.
fn short(text: &str) -> &str {
    const CHARS_MAX: usize = 200;
    text.char_indices().nth(CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// What becomes of the text of a value that has no type of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untyped {
    /// Its canonical text. In arguments: Go reads them into maps, and writes maps sorted.
    Canonical,
    /// As it was read. In results: Go writes structs there, whose fields have an order.
    AsRead,
}

/// Appends `value` as Go prints it.
pub(super) fn write(out: &mut Vec<u8>, type_name: &TypeName, value: &ArgValue, untyped: Untyped) {
    let narrow = type_name.label().is_some_and(|label| label.kind == Kind::Float32);
    let float = |out: &mut Vec<u8>, value: f64| {
        if narrow { json::write_f32(out, value as f32) } else { json::write_f64(out, value) }
    };
    match value {
        ArgValue::Bool(value) => boolean_word(out, *value),
        ArgValue::Int(value) => json::write_i64(out, *value),
        ArgValue::Uint(value) => json::write_u64(out, *value),
        ArgValue::Float(value) => float(out, *value),
        ArgValue::String(value) => json::write_string(out, value),
        ArgValue::Bytes(value) => {
            out.push(b'"');
            base64::write(out, value);
            out.push(b'"');
        }
        ArgValue::Bools(list) => write_list(out, list, |out, item| boolean_word(out, *item)),
        ArgValue::Ints(list) => write_list(out, list, |out, item| json::write_i64(out, *item)),
        ArgValue::Uints(list) => write_list(out, list, |out, item| json::write_u64(out, *item)),
        ArgValue::Floats(list) => write_list(out, list, |out, item| float(out, *item)),
        ArgValue::Strings(list) => write_list(out, list, |out, item| json::write_string(out, item)),
        ArgValue::Nil => out.extend_from_slice(b"null"),
        ArgValue::Json(text) if untyped == Untyped::Canonical => json::write_canonical(out, text),
        ArgValue::Json(text) => match Cursor::new(text.as_bytes()).skip() {
            Ok(value) => out.extend_from_slice(value),
            Err(_) => json::write_string(out, text),
        },
    }
}

fn boolean_word(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn write_list<T>(out: &mut Vec<u8>, list: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(label: &str, raw: &str) -> Result<ArgValue, Misfit> {
        read(Label::parse(label).unwrap(), raw.as_bytes())
    }

    #[test]
    fn integers_are_refused_where_a_go_worker_would_wrap_them() {
        for (label, raw, why) in [
            ("int8", "300", "strconv.ParseInt: parsing \"300\": value out of range"),
            ("uint8", "256", "strconv.ParseUint: parsing \"256\": value out of range"),
            ("int64", "9223372036854775808", "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"),
            ("[]uint16", "[65536]", "strconv.ParseUint: parsing \"65536\": value out of range"),
            ("float32", "1e300", "strconv.ParseFloat: parsing \"1e300\": value out of range"),
            ("float64", "1e400", "strconv.ParseFloat: parsing \"1e400\": value out of range"),
        ] {
            assert_eq!(value(label, raw), Err(Misfit::Refused(why.to_owned())));
        }
        assert_eq!(value("int64", "-0"), Ok(ArgValue::Int(0)));
        assert_eq!(value("float64", "1e-400"), Ok(ArgValue::Float(0.0)));
    }

    #[test]
    fn slices_take_what_go_takes_for_them() {
        assert_eq!(value("[]uint8", "[0, 255]"), Ok(ArgValue::Bytes(bytes::Bytes::from_static(&[0, 255]))));
        assert_eq!(value("[]int64", "{}"), Ok(ArgValue::Ints(vec![])));
        assert_eq!(value("[]string", "\"\""), Ok(ArgValue::Strings(vec![])));
        assert_eq!(value("[]uint32", "\"AP8=\""), Ok(ArgValue::Uints(vec![0, 255])));
        assert_eq!(value("[]byte", "null"), Ok(ArgValue::Nil));
    }

    #[test]
    fn a_huge_value_does_not_become_a_huge_error() {
        let Err(Misfit::Refused(why)) = value("int64", &format!("\"{}\"", "é".repeat(100_000))) else {
            panic!("a string was read as an integer")
        };
        assert!(why.len() < 500, "{} bytes", why.len());
    }
}
