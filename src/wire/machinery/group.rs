//! Records of groups as Machinery programs read and write them.
//!
//! Behind Machinery's six keys stands one of ours, once we have set the flag: the message that its callback is sent with.
//! Machinery's decoder passes over keys that it does not know.

use bytes::Bytes;

use super::WireError;
use super::read::{boolean, integer, mistyped, string, time};
use super::write::list;
use crate::task::{TaskId, Timestamp};
use crate::wire::json::{Cursor, folds_to, write_string};

/// The key of ours.
const OURS: &str = "Lineshaft";
const FIELDS: [&str; 6] = ["GroupUUID", "TaskUUIDs", "ChordTriggered", "Lock", "CreatedAt", "TTL"];

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its id.
    pub id: String,
    /// The ids of its members, in order.
    pub tasks: Vec<TaskId>,
    /// Somebody has set out to send its callback.
    pub is_triggered: bool,
    /// What Machinery's other stores lock it with; false on Redis.
    pub is_locked: bool,
    /// When it was sent; [`Timestamp::ZERO`]: not known.
    pub created_at: Timestamp,
    /// The message for which the flag was set by us; `None`: it is not, or another program set it.
    pub message: Option<String>,
}

/// The record as Machinery writes it, and ours behind it, if there is a message.
pub fn encode_group(group: &GroupRecord) -> Bytes {
    let mut out = Vec::with_capacity(160 + group.tasks.len() * 48);
    out.extend_from_slice(b"{\"GroupUUID\":");
    write_string(&mut out, &group.id);
    out.extend_from_slice(b",\"TaskUUIDs\":");
    list(&mut out, Some(&group.tasks), |out, id| write_string(out, id.as_str()));
    let (is_triggered, is_locked, created_at) = (group.is_triggered, group.is_locked, group.created_at);
    let rest =
        format!(",\"ChordTriggered\":{is_triggered},\"Lock\":{is_locked},\"CreatedAt\":\"{created_at}\",\"TTL\":0");
    out.extend_from_slice(rest.as_bytes());
    if let Some(message) = &group.message {
        out.extend_from_slice(b",\"Lineshaft\":{\"Message\":");
        write_string(&mut out, message);
        out.push(b'}');
    }
    out.push(b'}');
    out.into()
}

/// Reads a record, as leniently as [`super::decode`] reads tasks.
///
/// # Errors
/// [`WireError::Json`], [`WireError::Field`]; the latter also if it does not say which group it is of: a state of a task is none.
pub fn decode_group(text: &[u8]) -> Result<GroupRecord, WireError> {
    let mut cursor = Cursor::new(text);
    let mut group = GroupRecord {
        id: String::new(),
        tasks: Vec::new(),
        is_triggered: false,
        is_locked: false,
        created_at: Timestamp::ZERO,
        message: None,
    };
    if !cursor.members(|cursor, key| group.field(cursor, key))? {
        return Err(mistyped("group", "is not an object"));
    }
    if group.id.is_empty() {
        return Err(mistyped("GroupUUID", "is missing"));
    }
    Ok(group)
}

impl GroupRecord {
    fn field(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), WireError> {
        if key == OURS {
            return self.ours(cursor);
        }
        let name = FIELDS.into_iter().find(|name| key == *name);
        match name.or_else(|| FIELDS.into_iter().find(|name| folds_to(key, name))) {
            Some("GroupUUID") => string(cursor, "GroupUUID", &mut self.id),
            Some("TaskUUIDs") => self.members(cursor),
            Some("ChordTriggered") => boolean(cursor, "ChordTriggered", &mut self.is_triggered),
            Some("Lock") => boolean(cursor, "Lock", &mut self.is_locked),
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

    fn members(&mut self, cursor: &mut Cursor<'_>) -> Result<(), WireError> {
        if cursor.null()? {
            return Ok(());
        }
        self.tasks.clear();
        let is_list = cursor.elements(|cursor| {
            let mut id = String::new();
            string(cursor, "TaskUUIDs", &mut id)?;
            self.tasks.push(TaskId::trusted(id));
            Ok::<_, WireError>(())
        })?;
        if is_list { Ok(()) } else { Err(mistyped("TaskUUIDs", "is not a list")) }
    }

    fn ours(&mut self, cursor: &mut Cursor<'_>) -> Result<(), WireError> {
        let is_object = cursor.members(|cursor, key| {
            if key == "Message" {
                let mut message = String::new();
                string(cursor, "Lineshaft.Message", &mut message)?;
                self.message = Some(message);
            } else {
                cursor.skip()?;
            }
            Ok::<_, WireError>(())
        })?;
        if !is_object {
            cursor.skip()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupRecord {
        GroupRecord {
            id: "group \"1\"".into(),
            tasks: ["a", "b", "a"].map(TaskId::trusted).to_vec(),
            is_triggered: true,
            is_locked: false,
            created_at: Timestamp { seconds: 1_700_000_000, nanos: 5, offset_minutes: 0 },
            message: Some("m <1>".into()),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let of_others = GroupRecord { message: None, tasks: Vec::new(), is_locked: true, ..group() };
        for group in [group(), of_others] {
            assert_eq!(decode_group(&encode_group(&group)), Ok(group));
        }
        let value: serde_json::Value = serde_json::from_slice(&encode_group(&group())).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 7);
    }

    #[test]
    fn reading_is_lenient_but_a_group_it_must_be() {
        let read = decode_group(br#" {"groupuuid":"g","TaskUUIDs":null,"chordTRIGGERED":true,"x":{},"Lineshaft":5}"#);
        let group = read.unwrap();
        assert_eq!((group.id.as_str(), group.tasks.len(), group.is_triggered, group.message), ("g", 0, true, None));
        for (text, want) in [
            ("{}", "GroupUUID: is missing"),
            (r#"{"TaskUUID":"t","State":"SUCCESS"}"#, "GroupUUID: is missing"),
            (r#"{"GroupUUID":"g","TaskUUIDs":5}"#, "TaskUUIDs: is not a list"),
            (r#"{"GroupUUID":"g","ChordTriggered":1}"#, "ChordTriggered: is not true or false"),
            ("[]", "group: is not an object"),
        ] {
            assert_eq!(decode_group(text.as_bytes()).map_err(|e| e.to_string()), Err(want.to_owned()));
        }
    }
}
