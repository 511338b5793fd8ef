//! Reading a task body.

use bytes::Bytes;

use super::WireError;
use super::value::{self, Misfit};
use crate::task::{Arg, ArgValue, Body, Headers, RawJson, Signature, Timestamp, TypeName};
use crate::wire::json::{Cursor, JsonError, folds_to};

/// A body that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The task. Arguments that cannot be read under their type are kept as [`ArgValue::Json`].
    pub signature: Signature,
    /// Why the task cannot be run: the first such argument. The task ends FAILURE without a retry, with this text.
    pub args_error: Option<ArgsError>,
}

/// An argument that cannot be read under its type. Its text is the error that a Go worker records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Reflect task args error: {why}")]
pub struct ArgsError {
    /// Position of the argument, from 0.
    pub index: usize,
    /// What Go says of it; bounded, whatever the size of the argument.
    pub why: String,
}

/// The names of a task's fields, in the order in which they are written.
const FIELDS: [&str; 19] = [
    "UUID",
    "Name",
    "RoutingKey",
    "ETA",
    "GroupUUID",
    "GroupTaskCount",
    "Args",
    "Headers",
    "Priority",
    "Immutable",
    "RetryCount",
    "RetryTimeout",
    "OnSuccess",
    "OnError",
    "ChordCallback",
    "BrokerMessageGroupId",
    "SQSReceiptHandle",
    "StopTaskDeletionOnError",
    "IgnoreWhenTaskNotRegistered",
];

/// Reads a task body, as leniently as a Go worker: missing fields and `null` are zero, keys match whatever their case,
/// unknown ones are ignored, and what follows the first JSON value is not looked at. `null` as a whole is an empty task.
///
/// # Errors
/// - [`WireError::Json`]: no JSON, or nested deeper than Go reads.
/// - [`WireError::Field`]: a field of another type, an integer out of range, an ETA that is not RFC 3339.
/// - [`WireError::Lethal`]: see there. [`salvage_uuid`] may still tell which task it was.
///
/// A value that does not fit its type is no error here: see [`Decoded::args_error`].
pub fn decode(body: &[u8]) -> Result<Decoded, WireError> {
    let mut cursor = Cursor::new(body);
    let mut decoded = Decoded { signature: Signature::default(), args_error: None };
    if cursor.null()? {
        return Ok(decoded);
    }
    let is_object = cursor.members(|cursor, key| field(&mut decoded, cursor, key, Case::Exact))?;
    if is_object { Ok(decoded) } else { Err(mistyped("task", "is not an object")) }
}

/// The id in a body that [`decode`] refuses, if it can be found: the task may then be ended under its id instead of only
/// being set aside. `None` also for an empty id.
pub fn salvage_uuid(body: &[u8]) -> Option<String> {
    let mut uuid = None;
    let mut found = |cursor: &mut Cursor<'_>, key: &str| {
        match cursor.string() {
            Ok(Some(text)) if key == "UUID" || folds_to(key, "UUID") => uuid = Some(text.into_owned()),
            Ok(Some(_)) => {}
            _ => drop(cursor.skip()?),
        }
        Ok::<_, JsonError>(())
    };
    // An error ends the search and nothing else: the id stands at the front of what Machinery writes.
    drop(Cursor::new(body).members(&mut found));
    uuid.filter(|uuid: &String| !uuid.is_empty())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Exact,
    Folded,
}

// Takes the value of one member. Of equal keys the last wins, but a `null` leaves plain fields as they were and headers of
// several objects add up: that is how Go decodes into a struct.
fn field(decoded: &mut Decoded, cursor: &mut Cursor<'_>, key: &str, case: Case) -> Result<(), WireError> {
    let task = &mut decoded.signature;
    match key {
        "UUID" => string(cursor, "UUID", &mut task.uuid),
        "Name" => string(cursor, "Name", &mut task.name),
        "RoutingKey" => string(cursor, "RoutingKey", &mut task.routing_key),
        "ETA" => {
            task.eta = time(cursor, "ETA")?;
            Ok(())
        }
        "GroupUUID" => string(cursor, "GroupUUID", &mut task.group_uuid),
        "GroupTaskCount" => integer(cursor, "GroupTaskCount", &mut task.group_task_count),
        "Args" => args(decoded, cursor),
        "Headers" => headers(cursor, &mut task.headers),
        "Priority" => integer(cursor, "Priority", &mut task.priority),
        "Immutable" => boolean(cursor, "Immutable", &mut task.immutable),
        "RetryCount" => integer(cursor, "RetryCount", &mut task.retry_count),
        "RetryTimeout" => integer(cursor, "RetryTimeout", &mut task.retry_timeout),
        "OnSuccess" => callbacks(cursor, "OnSuccess", &mut task.on_success),
        "OnError" => callbacks(cursor, "OnError", &mut task.on_error),
        "ChordCallback" => {
            task.chord_callback = callback(cursor, "ChordCallback")?;
            Ok(())
        }
        "BrokerMessageGroupId" => string(cursor, "BrokerMessageGroupId", &mut task.broker_message_group_id),
        "SQSReceiptHandle" => string(cursor, "SQSReceiptHandle", &mut task.sqs_receipt_handle),
        "StopTaskDeletionOnError" => boolean(cursor, "StopTaskDeletionOnError", &mut task.stop_task_deletion_on_error),
        "IgnoreWhenTaskNotRegistered" => {
            boolean(cursor, "IgnoreWhenTaskNotRegistered", &mut task.ignore_when_task_not_registered)
        }
        _ => match FIELDS.into_iter().find(|name| case == Case::Exact && folds_to(key, name)) {
            Some(name) => field(decoded, cursor, name, Case::Folded),
            None => {
                cursor.skip()?;
                Ok(())
            }
        },
    }
}

pub(super) fn mistyped(field: &'static str, why: impl Into<String>) -> WireError {
    WireError::Field { field, why: why.into() }
}

pub(super) fn string(cursor: &mut Cursor<'_>, name: &'static str, into: &mut String) -> Result<(), WireError> {
    if cursor.null()? {
        return Ok(());
    }
    *into = cursor.string()?.ok_or_else(|| mistyped(name, "is not a string"))?.into_owned();
    Ok(())
}

pub(super) fn boolean(cursor: &mut Cursor<'_>, name: &'static str, into: &mut bool) -> Result<(), WireError> {
    if cursor.null()? {
        return Ok(());
    }
    *into = cursor.boolean()?.ok_or_else(|| mistyped(name, "is not true or false"))?;
    Ok(())
}

pub(super) fn integer<T: std::str::FromStr>(
    cursor: &mut Cursor<'_>,
    name: &'static str,
    into: &mut T,
) -> Result<(), WireError> {
    if cursor.null()? {
        return Ok(());
    }
    let token = cursor.number()?.ok_or_else(|| mistyped(name, "is not a number"))?;
    // Rust takes no fraction and no exponent for an integer, as Go does.
    *into = token.parse().map_err(|_| {
        let shown = token.get(..40).unwrap_or(token);
        mistyped(name, format!("{shown} is not an integer of its range"))
    })?;
    Ok(())
}

pub(super) fn time(cursor: &mut Cursor<'_>, name: &'static str) -> Result<Option<Timestamp>, WireError> {
    if cursor.null()? {
        return Ok(None);
    }
    // Go takes the characters as they stand, without looking for escapes, so no escaped form is a time.
    let raw = cursor.raw_string()?.ok_or_else(|| mistyped(name, "is not a string"))?;
    let text = std::str::from_utf8(raw).ok();
    let time = text.and_then(Timestamp::parse);
    let shown = |raw: &[u8]| String::from_utf8_lossy(raw.get(..40).unwrap_or(raw)).into_owned();
    time.map(Some).ok_or_else(|| mistyped(name, format!("{:?} is not a time of RFC 3339", shown(raw))))
}

fn headers(cursor: &mut Cursor<'_>, into: &mut Option<Headers>) -> Result<(), WireError> {
    if cursor.null()? {
        *into = None;
        return Ok(());
    }
    let headers = into.get_or_insert_default();
    let is_object = cursor.members(|cursor, key| {
        headers.insert(key.to_owned(), RawJson::parse(cursor.skip()?)?);
        Ok::<_, JsonError>(())
    })?;
    if is_object { Ok(()) } else { Err(mistyped("Headers", "is not an object")) }
}

fn callback(cursor: &mut Cursor<'_>, name: &'static str) -> Result<Option<Body>, WireError> {
    if cursor.null()? {
        return Ok(None);
    }
    if cursor.peek()? != b'{' {
        return Err(mistyped(name, "is not a task"));
    }
    Ok(Some(Body(Bytes::copy_from_slice(cursor.skip()?))))
}

fn callbacks(cursor: &mut Cursor<'_>, name: &'static str, into: &mut Option<Vec<Body>>) -> Result<(), WireError> {
    if cursor.null()? {
        *into = None;
        return Ok(());
    }
    let mut bodies = Vec::new();
    let is_list = cursor.elements(|cursor| {
        let index = bodies.len();
        bodies.push(callback(cursor, name)?.ok_or(WireError::Lethal { field: name, index, why: "null" })?);
        Ok::<_, WireError>(())
    })?;
    if !is_list {
        return Err(mistyped(name, "is not a list"));
    }
    *into = Some(bodies);
    Ok(())
}

fn args(decoded: &mut Decoded, cursor: &mut Cursor<'_>) -> Result<(), WireError> {
    decoded.args_error = None;
    decoded.signature.args = None;
    if cursor.null()? {
        return Ok(());
    }
    let mut args = Vec::new();
    let is_list = cursor.elements(|cursor| {
        let index = args.len();
        let parts = argument(cursor, "Args")?;
        let (value, misfit) = match parts.type_name.label() {
            Some(label) => match value::read(label, parts.value) {
                Ok(value) => (value, None),
                Err(Misfit::Lethal(why)) => return Err(WireError::Lethal { field: "Args", index, why }),
                Err(Misfit::Refused(why)) => (json(parts.value)?, Some(why)),
            },
            None => (json(parts.value)?, Some(format!("{} is not one of supported types", parts.type_name))),
        };
        if let Some(why) = misfit {
            // A Go worker reads them in order and stops at the first.
            decoded.args_error.get_or_insert(ArgsError { index, why });
        }
        args.push(Arg { name: parts.name, type_name: parts.type_name, value });
        Ok(())
    })?;
    if !is_list {
        return Err(mistyped("Args", "is not a list"));
    }
    decoded.signature.args = Some(args);
    Ok(())
}

fn json(raw: &[u8]) -> Result<ArgValue, WireError> {
    Ok(ArgValue::Json(RawJson::parse(raw)?.0))
}

/// An argument or result before its value is read.
pub(super) struct Parts<'a> {
    pub(super) name: String,
    pub(super) type_name: TypeName,
    pub(super) value: &'a [u8],
}

/// Takes `{"Name":…,"Type":…,"Value":…}` with its members in any order; `null` is all zero.
pub(super) fn argument<'a>(cursor: &mut Cursor<'a>, field: &'static str) -> Result<Parts<'a>, WireError> {
    let mut name = String::new();
    let mut type_name = None;
    let mut value: &[u8] = b"null";
    if !cursor.null()? {
        let is_object = cursor.members(|cursor, key| {
            if key == "Name" || folds_to(key, "Name") {
                string(cursor, field, &mut name)?;
            } else if key == "Type" || folds_to(key, "Type") {
                if !cursor.null()? {
                    let text = cursor.string()?.ok_or_else(|| mistyped(field, "Type is not a string"))?;
                    type_name = Some(TypeName::parse(&text));
                }
            } else if key == "Value" || folds_to(key, "Value") {
                value = cursor.skip()?;
            } else {
                cursor.skip()?;
            }
            Ok::<_, WireError>(())
        })?;
        if !is_object {
            return Err(mistyped(field, "holds an item that is not an object"));
        }
    }
    Ok(Parts { name, type_name: type_name.unwrap_or_else(|| TypeName::Other(String::new())), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::machinery::encode;

    fn read(text: &str) -> Result<Signature, WireError> {
        decode(text.as_bytes()).map(|decoded| decoded.signature)
    }

    fn args_error(args: &str) -> Option<String> {
        decode(format!("{{\"UUID\":\"x\",\"Args\":{args}}}").as_bytes()).unwrap().args_error.map(|e| e.to_string())
    }

    #[test]
    fn every_field_reads_under_a_key_of_any_case_and_null_is_zero() {
        let body = String::from_utf8(encode(&Signature::default()).to_vec()).unwrap();
        for name in FIELDS {
            assert!(body.contains(&format!("\"{name}\":")));
            assert_eq!(read(&format!("{{\"{}\":null}}", name.to_lowercase())), Ok(Signature::default()));
        }
        assert_eq!(
            read(&body.to_uppercase().replace("NULL", "null").replace("FALSE", "false")),
            Ok(Signature::default())
        );
        let task = read(r#"{"priority":255,"RETRYCOUNT":-3,"ımmutable":1,"Immutable":true}"#).unwrap();
        assert_eq!((task.priority, task.retry_count, task.immutable), (255, -3, true));
    }

    #[test]
    fn the_last_of_equal_keys_wins_as_go_decodes_them() {
        let task = read(r#"{"UUID":"a","uuid":"b","UUID":null,"Headers":{"x":1},"Headers":{"y":2}}"#).unwrap();
        assert_eq!(task.uuid, "b");
        assert_eq!(task.headers.unwrap().len(), 2);
        let task = read(r#"{"Args":[{"Type":"nope"}],"Args":null}"#).unwrap();
        assert_eq!(task.args, None);
    }

    #[test]
    fn fields_of_another_type_are_refused_by_name() {
        for (body, want) in [
            (r#"{"UUID":5}"#, "UUID: is not a string"),
            (r#"{"RetryCount":1.5}"#, "RetryCount: 1.5 is not an integer of its range"),
            (r#"{"RetryCount":1e3}"#, "RetryCount: 1e3 is not an integer of its range"),
            (r#"{"RetryCount":"1"}"#, "RetryCount: is not a number"),
            (
                r#"{"RetryTimeout":9223372036854775808}"#,
                "RetryTimeout: 9223372036854775808 is not an integer of its range",
            ),
            (r#"{"Priority":256}"#, "Priority: 256 is not an integer of its range"),
            (r#"{"Priority":-1}"#, "Priority: -1 is not an integer of its range"),
            (r#"{"Immutable":1}"#, "Immutable: is not true or false"),
            (r#"{"ETA":""}"#, "ETA: \"\" is not a time of RFC 3339"),
            (r#"{"ETA":1}"#, "ETA: is not a string"),
            (r#"{"Args":{}}"#, "Args: is not a list"),
            (r#"{"Args":[1]}"#, "Args: holds an item that is not an object"),
            (r#"{"Headers":[]}"#, "Headers: is not an object"),
            (r#"{"OnError":{}}"#, "OnError: is not a list"),
            (r#"{"OnError":[1]}"#, "OnError: is not a task"),
            (r#"{"ChordCallback":[]}"#, "ChordCallback: is not a task"),
            ("[]", "task: is not an object"),
            ("", "not JSON at byte 0: unexpected end"),
            (r#"{"UUID":"x""#, "not JSON at byte 11: unexpected end"),
        ] {
            assert_eq!(read(body).map_err(|e| e.to_string()), Err(want.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_ends_a_go_worker_is_refused_and_its_id_can_be_salvaged() {
        for (body, want) in [
            (
                r#"{"UUID":"x","OnSuccess":[{},null]}"#,
                "OnSuccess[1]: null, which ends the process of a machinery worker",
            ),
            (
                r#"{"UUID":"x","Args":[{"Type":"[]int64","Value":true}]}"#,
                "Args[0]: a bool under a slice type, which ends the process of a machinery worker",
            ),
            (
                r#"{"UUID":"x","Args":[{"Type":"[]byte","Value":{"a":1}}]}"#,
                "Args[0]: an object with members under a slice type, which ends the process of a machinery worker",
            ),
        ] {
            assert_eq!(read(body).map_err(|e| e.to_string()), Err(want.to_owned()));
            assert_eq!(salvage_uuid(body.as_bytes()).as_deref(), Some("x"));
        }
        assert_eq!(salvage_uuid(br#"{"Name":"n","uuid":"y","Priority":256"#).as_deref(), Some("y"));
        for none in ["", "garbage", "{}", "[1]", r#"{"UUID":""}"#, r#"{"UUID":7}"#] {
            assert_eq!(salvage_uuid(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn the_first_bad_argument_is_told_in_gos_words_and_all_are_kept() {
        assert_eq!(args_error(r#"[{"Type":"int64","Value":1}]"#), None);
        let two = r#"[{"Type":"int64","Value":1},{"Type":"Int64","Value":{"b":1e3,"a":2}},{"Type":"bool","Value":1}]"#;
        assert_eq!(args_error(two).as_deref(), Some("Reflect task args error: Int64 is not one of supported types"));
        let decoded = decode(format!("{{\"Args\":{two}}}").as_bytes()).unwrap();
        assert_eq!(decoded.args_error.unwrap().index, 1);
        let args = decoded.signature.args.unwrap();
        assert_eq!(args[1].value, ArgValue::Json(r#"{"a":2,"b":1e3}"#.to_owned()));
        assert_eq!(args[2].value, ArgValue::Json("1".to_owned()));
        assert_eq!(args_error("[null]").as_deref(), Some("Reflect task args error:  is not one of supported types"));
    }

    #[test]
    fn a_value_may_stand_before_its_type() {
        let task = read(r#"{"Args":[{"Value":18446744073709551615,"type":"uint64","name":"n"}]}"#).unwrap();
        let arg = &task.args.unwrap()[0];
        assert_eq!((arg.name.as_str(), &arg.value), ("n", &ArgValue::Uint(u64::MAX)));
    }
}
