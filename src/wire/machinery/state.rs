//! Task states as Machinery programs read and write them.

use bytes::Bytes;

use super::WireError;
use super::read::{argument, integer, mistyped, string, time};
use super::value::{self, Untyped};
use super::write::list;
use crate::task::{Arg, ArgValue, FailureReason, Status, TaskId, TaskState, Timestamp};
use crate::wire::json::{Cursor, folds_to, write_string};

const FIELDS: [&str; 7] = ["TaskUUID", "TaskName", "State", "Results", "Error", "CreatedAt", "TTL"];

/// The state as Machinery writes it: seven keys. What Machinery does not know (attempt, reason, time of the write, the
/// error of a RETRY) is left out; `TTL`, which only DynamoDB uses, is 0.
pub fn encode_state(state: &TaskState) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"TaskUUID\":");
    write_string(&mut out, state.task_id.as_str());
    out.extend_from_slice(b",\"TaskName\":");
    write_string(&mut out, &state.task_name);
    out.extend_from_slice(b",\"State\":\"");
    out.extend_from_slice(state.status.as_str().as_bytes());
    out.extend_from_slice(b"\",\"Results\":");
    list(&mut out, state.results.as_deref(), result);
    out.extend_from_slice(b",\"Error\":");
    write_string(&mut out, if state.status == Status::Failure { &state.error } else { "" });
    out.extend_from_slice(b",\"CreatedAt\":\"");
    out.extend_from_slice(state.created_at.to_string().as_bytes());
    out.extend_from_slice(b"\",\"TTL\":0}");
    out.into()
}

/// Results as [`encode_state`] writes them: for their size and their identity.
pub fn encode_results(results: &[Arg]) -> Bytes {
    let mut out = Vec::with_capacity(64);
    list(&mut out, Some(results), result);
    out.into()
}

fn result(out: &mut Vec<u8>, result: &Arg) {
    out.extend_from_slice(b"{\"Type\":");
    write_string(out, result.type_name.as_str());
    out.extend_from_slice(b",\"Value\":");
    value::write(out, &result.type_name, &result.value, Untyped::AsRead);
    out.push(b'}');
}

/// Reads a state, as leniently as [`super::decode`] reads tasks. What it does not hold is zero: generation and attempt 0,
/// which mean a foreign writer, and [`Timestamp::ZERO`] for the time of the write.
///
/// Results of types that are not Machinery's, or that do not fit their type, are kept as [`ArgValue::Json`].
///
/// # Errors
/// [`WireError::Json`], [`WireError::Field`]; the latter also for a `State` that is none of the six.
pub fn decode_state(text: &[u8]) -> Result<TaskState, WireError> {
    let mut cursor = Cursor::new(text);
    let mut state = Reading {
        task_uuid: String::new(),
        task_name: String::new(),
        state: String::new(),
        results: None,
        error: String::new(),
        created_at: Timestamp::ZERO,
    };
    if !cursor.members(|cursor, key| state.field(cursor, key))? {
        return Err(mistyped("state", "is not an object"));
    }
    let status = Status::parse(&state.state)
        .ok_or_else(|| mistyped("State", format!("{:?} is no state", state.state.get(..40).unwrap_or(&state.state))))?;
    Ok(TaskState {
        task_id: TaskId::trusted(state.task_uuid),
        task_name: state.task_name,
        status,
        results: state.results,
        error: state.error,
        reason: FailureReason::Unknown,
        generation: 0,
        attempt: 0,
        releases: 0,
        created_at: state.created_at,
        updated_at: Timestamp::ZERO,
    })
}

struct Reading {
    task_uuid: String,
    task_name: String,
    state: String,
    results: Option<Vec<Arg>>,
    error: String,
    created_at: Timestamp,
}

impl Reading {
    fn field(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), WireError> {
        let name = FIELDS.into_iter().find(|name| key == *name);
        match name.or_else(|| FIELDS.into_iter().find(|name| folds_to(key, name))) {
            Some("TaskUUID") => string(cursor, "TaskUUID", &mut self.task_uuid),
            Some("TaskName") => string(cursor, "TaskName", &mut self.task_name),
            Some("State") => string(cursor, "State", &mut self.state),
            Some("Results") => {
                self.results = results(cursor)?;
                Ok(())
            }
            Some("Error") => string(cursor, "Error", &mut self.error),
            Some("CreatedAt") => {
                self.created_at = time(cursor, "CreatedAt")?.unwrap_or(self.created_at);
                Ok(())
            }
            Some("TTL") => integer(cursor, "TTL", &mut 0i64),
            _ => {
                cursor.skip()?;
                Ok(())
            }
        }
    }
}

fn results(cursor: &mut Cursor<'_>) -> Result<Option<Vec<Arg>>, WireError> {
    if cursor.null()? {
        return Ok(None);
    }
    let mut results = Vec::new();
    let is_list = cursor.elements(|cursor| {
        let parts = argument(cursor, "Results")?;
        let read = parts.type_name.label().and_then(|label| value::read(label, parts.value).ok());
        let value = read.unwrap_or_else(|| ArgValue::Json(String::from_utf8_lossy(parts.value).into_owned()));
        results.push(Arg { name: String::new(), type_name: parts.type_name, value });
        Ok::<_, WireError>(())
    })?;
    if is_list { Ok(Some(results)) } else { Err(mistyped("Results", "is not a list")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Label, TypeName};

    #[test]
    fn what_machinery_does_not_know_is_left_out() {
        let mut state = decode_state(br#"{"State":"RETRY","TaskUUID":"x","Error":"boom"}"#).unwrap();
        state.attempt = 3;
        let want = concat!(
            r#"{"TaskUUID":"x","TaskName":"","State":"RETRY","Results":null,"Error":"","#,
            r#""CreatedAt":"0001-01-01T00:00:00Z","TTL":0}"#
        );
        assert_eq!(encode_state(&state), want);
    }

    #[test]
    fn reading_is_lenient_but_a_state_it_must_be() {
        let state =
            decode_state(br#" {"taskuuid":"x","state":"SUCCESS","Results":[{"type":"int8","value":300},null],"x":[]}"#);
        let results = state.unwrap().results.unwrap();
        assert_eq!(results[0].type_name, TypeName::Known(Label::parse("int8").unwrap()));
        assert_eq!(results[0].value, ArgValue::Json("300".to_owned()));
        assert_eq!(results[1].value, ArgValue::Json("null".to_owned()));
        for (text, want) in [
            ("{}", "State: \"\" is no state"),
            (r#"{"State":"success"}"#, "State: \"success\" is no state"),
            (r#"{"State":"SUCCESS","TTL":1.5}"#, "TTL: 1.5 is not an integer of its range"),
            (r#"{"State":"SUCCESS","CreatedAt":"now"}"#, "CreatedAt: \"now\" is not a time of RFC 3339"),
            (r#"{"State":"SUCCESS","Results":{}}"#, "Results: is not a list"),
            ("5", "state: is not an object"),
        ] {
            assert_eq!(decode_state(text.as_bytes()).map_err(|e| e.to_string()), Err(want.to_owned()));
        }
    }
}
