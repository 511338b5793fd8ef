//! Task states in stores that Machinery programs read: their seven keys, and behind them one of ours.
//!
//! Machinery's decoder passes over keys that it does not know, so what it has no word for (attempt, reason, the time of the
//! write, when the state expires, its place in the life of the task) travels in an object under `Lineshaft`. Its last two
//! members have fixed lengths and end the text, so that a script on the store finds them without reading the rest.

use bytes::Bytes;

use super::WireError;
use super::read::{integer, string, time};
use super::state::{decode_state, encode_state};
use crate::clock::WallTime;
use crate::task::record::REASONS;
use crate::task::{Order, Status, TaskState, Timestamp};
use crate::wire::json::{Cursor, write_i64, write_string};

/// The key of ours.
const OURS: &str = "Lineshaft";
/// Characters of [`order_text`].
pub const ORDER_CHARS: usize = 44;

/// A state as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The JSON.
    pub text: Bytes,
    /// Where the name stands in it, quotes and all; what is stored already takes its place if it is `""`.
    pub name_at: usize,
    /// Where the time of creation stands in it; likewise if it is that of [`Timestamp::ZERO`].
    pub created_at: usize,
}

/// An order as text that compares as it does.
pub fn order_text(order: Order) -> String {
    format!("{:020}.{:010}.{:010}.{}", order.generation, order.attempt, order.releases, order.rank)
}

/// The state as it is stored until `expires`.
pub fn encode_kept(state: &TaskState, expires: WallTime) -> Kept {
    let plain = encode_state(state);
    let mut out = Vec::with_capacity(plain.len() + 256);
    // All but the brace that ends it.
    out.extend_from_slice(plain.strip_suffix(b"}").unwrap_or(&plain));
    out.extend_from_slice(b",\"Lineshaft\":{\"Attempt\":");
    write_i64(&mut out, state.attempt.into());
    out.extend_from_slice(b",\"Releases\":");
    write_i64(&mut out, state.releases.into());
    let reason = REASONS.iter().position(|reason| *reason == state.reason).unwrap_or(0);
    out.extend_from_slice(format!(",\"Reason\":{reason}").as_bytes());
    if state.status != Status::Failure && !state.error.is_empty() {
        out.extend_from_slice(b",\"Error\":");
        write_string(&mut out, &state.error);
    }
    let named = state.results.iter().flatten().any(|result| !result.name.is_empty());
    if named {
        out.extend_from_slice(b",\"Names\":[");
        for (i, result) in state.results.iter().flatten().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_string(&mut out, &result.name);
        }
        out.push(b']');
    }
    let (updated, expires, order) = (state.updated_at, expires.0, order_text(state.order()));
    let tail = format!(",\"Updated\":\"{updated}\",\"Expires\":\"{expires:020}\",\"Order\":\"{order}\"}}}}");
    out.extend_from_slice(tail.as_bytes());
    // The id is the first value, the name the second; the time is the last but one of Machinery's.
    let mut id = Vec::with_capacity(state.task_id.as_str().len() + 2);
    write_string(&mut id, state.task_id.as_str());
    let name_at = b"{\"TaskUUID\":".len() + id.len() + b",\"TaskName\":".len();
    let created = format!("\"{}\",\"TTL\":0}}", state.created_at);
    let created_at = plain.len().saturating_sub(created.len());
    Kept { text: out.into(), name_at, created_at }
}

/// Reads a state as [`decode_state`], with what [`encode_kept`] added; and when it expires, if that is said.
///
/// # Errors
/// As [`decode_state`].
pub fn decode_kept(text: &[u8]) -> Result<(TaskState, Option<WallTime>), WireError> {
    let mut state = decode_state(text)?;
    let mut expires = None;
    let mut cursor = Cursor::new(text);
    cursor.members(|cursor, key| {
        if key == OURS {
            ours(cursor, &mut state, &mut expires)
        } else {
            cursor.skip()?;
            Ok(())
        }
    })?;
    Ok((state, expires))
}

fn ours(cursor: &mut Cursor<'_>, state: &mut TaskState, expires: &mut Option<WallTime>) -> Result<(), WireError> {
    let is_object = cursor.members(|cursor, key| {
        let mut text = String::new();
        match key {
            "Attempt" => integer(cursor, "Lineshaft.Attempt", &mut state.attempt),
            "Releases" => integer(cursor, "Lineshaft.Releases", &mut state.releases),
            "Reason" => {
                let mut number = 0u32;
                integer(cursor, "Lineshaft.Reason", &mut number)?;
                // One that a later version knows is not known here.
                state.reason = REASONS.get(number as usize).copied().unwrap_or_default();
                Ok(())
            }
            "Error" => string(cursor, "Lineshaft.Error", &mut state.error),
            "Names" => names(cursor, state),
            "Updated" => {
                state.updated_at = time(cursor, "Lineshaft.Updated")?.unwrap_or(Timestamp::ZERO);
                Ok(())
            }
            "Expires" => {
                string(cursor, "Lineshaft.Expires", &mut text)?;
                *expires = text.parse().ok().map(WallTime);
                Ok(())
            }
            "Order" => {
                string(cursor, "Lineshaft.Order", &mut text)?;
                state.generation = text.get(..20).and_then(|digits| digits.parse().ok()).unwrap_or(0);
                Ok(())
            }
            _ => {
                cursor.skip()?;
                Ok(())
            }
        }
    })?;
    if !is_object {
        cursor.skip()?;
    }
    Ok(())
}

/// The names of results, which Machinery's form has no place for.
fn names(cursor: &mut Cursor<'_>, state: &mut TaskState) -> Result<(), WireError> {
    let mut results = state.results.iter_mut().flatten();
    let is_list = cursor.elements(|cursor| {
        let mut name = String::new();
        string(cursor, "Lineshaft.Names", &mut name)?;
        if let Some(result) = results.next() {
            result.name = name;
        }
        Ok::<_, WireError>(())
    })?;
    if !is_list {
        cursor.skip()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Arg, ArgValue, FailureReason, Kind, Label, TaskId, TypeName};

    fn state(status: Status) -> TaskState {
        let label = Label { kind: Kind::Int64, list: false, byte_alias: false };
        let result = Arg { name: "sum".into(), type_name: TypeName::Known(label), value: ArgValue::Int(2) };
        TaskState {
            task_id: TaskId::trusted("task \"1\""),
            task_name: "add <1>".into(),
            status,
            results: (status == Status::Success).then(|| vec![result]),
            error: if matches!(status, Status::Retry | Status::Failure) { "boom".into() } else { String::new() },
            reason: if status == Status::Failure { FailureReason::WorkerLost } else { FailureReason::Unknown },
            generation: u64::MAX,
            attempt: 7,
            releases: 3,
            created_at: Timestamp { seconds: 1_700_000_000, nanos: 120_000_000, offset_minutes: 0 },
            updated_at: Timestamp { seconds: 1_700_000_001, nanos: 1, offset_minutes: 0 },
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_machinery_reads_its_part() {
        for status in
            [Status::Pending, Status::Received, Status::Started, Status::Retry, Status::Success, Status::Failure]
        {
            let (state, expires) = (state(status), WallTime(5_000_000_000));
            let kept = encode_kept(&state, expires);
            assert_eq!(decode_kept(&kept.text).unwrap(), (state.clone(), Some(expires)));
            let plain = decode_state(&kept.text).unwrap();
            assert_eq!(
                (plain.status, plain.results.is_some(), plain.generation),
                (state.status, state.results.is_some(), 0)
            );
            assert!(kept.text.starts_with(encode_state(&state).strip_suffix(b"}").unwrap()));
            let value: serde_json::Value = serde_json::from_slice(&kept.text).unwrap();
            assert_eq!(value.as_object().unwrap().len(), 8);
        }
    }

    #[test]
    fn the_places_that_scripts_look_at_are_where_they_are_said_to_be() {
        let mut state = state(Status::Success);
        let told = |state: &TaskState| {
            let kept = encode_kept(state, WallTime(9));
            let text = String::from_utf8(kept.text.to_vec()).unwrap();
            let order = text[text.len() - 3 - ORDER_CHARS..text.len() - 3].to_owned();
            let expires = text[text.len() - 3 - ORDER_CHARS - 11 - 20..text.len() - 3 - ORDER_CHARS - 11].to_owned();
            assert!(text[..text.len() - 3 - ORDER_CHARS].ends_with("\",\"Order\":\""));
            (text[kept.name_at..].to_owned(), text[kept.created_at..].to_owned(), expires, order)
        };
        let (name, created, expires, order) = told(&state);
        assert!(name.starts_with("\"add \\u003c1\\u003e\",\"State\""), "{name}");
        assert!(created.starts_with("\"2023-11-14T22:13:20.12Z\",\"TTL\""), "{created}");
        assert_eq!((expires.as_str(), order), ("00000000000000000009", order_text(state.order())));
        (state.task_name, state.created_at) = (String::new(), Timestamp::ZERO);
        let (name, created, ..) = told(&state);
        assert!(name.starts_with("\"\",") && created.starts_with("\"0001-01-01T00:00:00Z\","));
    }

    #[test]
    fn orders_compare_as_their_texts_do() {
        let orders = [
            (0, 0, 0, 0),
            (0, 1, 0, 0),
            (1, 1, 0, 2),
            (1, 1, 1, 0),
            (1, 2, 0, 0),
            (1, u32::MAX, u32::MAX, 4),
            (2, 1, 0, 0),
        ];
        let texts: Vec<String> = orders
            .into_iter()
            .map(|(generation, attempt, releases, rank)| order_text(Order { generation, attempt, releases, rank }))
            .collect();
        assert!(texts.is_sorted() && texts.iter().all(|text| text.len() == ORDER_CHARS), "{texts:?}");
        assert_eq!(order_text(Order { generation: u64::MAX, attempt: 1, releases: 0, rank: 9 }).len(), ORDER_CHARS);
    }
}
