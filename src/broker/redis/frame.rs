//! What stands in our lists and sets: a body with what a Machinery list has no place for.
//!
//! Scripts read and write the same forms (`scripts/back.lua`, `move.lua`, `reap.lua`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::WallTime;
use crate::task::MessageKey;

/// Digits of the length of a key.
const SIZE_DIGITS: usize = 3;
/// Digits of the number of redeliveries.
const TIMES_DIGITS: usize = 5;
/// The largest number of redeliveries that is told apart.
const TIMES_MAX: u32 = 99_999;
/// Digits of a wall time and of a sequence.
const TIME_DIGITS: usize = 20;

/// A value of `again`: `\0`, length of the key, key, redeliveries, body. JSON never begins with `\0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// What the message is called; `None`: it was never given out.
    pub(super) key: Option<MessageKey>,
    /// How often it came back.
    pub(super) times: u32,
    /// The body.
    pub(super) body: Bytes,
}

impl Frame {
    /// Reads a frame; `None`: it is none.
    pub(super) fn read(value: &Bytes) -> Option<Self> {
        let size: usize = digits(value.get(1..=SIZE_DIGITS).filter(|_| value[0] == 0)?)?.try_into().ok()?;
        let key = value.get(1 + SIZE_DIGITS..)?.get(..size)?;
        let times = digits(value.get(1 + SIZE_DIGITS + size..)?.get(..TIMES_DIGITS)?)?.try_into().ok()?;
        let key = std::str::from_utf8(key).ok()?;
        let key = if key.is_empty() { None } else { Some(MessageKey::new(key).ok()?) };
        Some(Self { key, times, body: value.slice(1 + SIZE_DIGITS + size + TIMES_DIGITS..) })
    }
}

impl Frame {
    /// A frame as it is written.
    fn text(key: Option<&MessageKey>, times: u32, body: &[u8]) -> Bytes {
        let key = key.map_or("", MessageKey::as_str);
        let head = format!("\0{:03}{key}{:05}", key.len(), times.min(TIMES_MAX));
        let mut text = BytesMut::with_capacity(head.len() + body.len());
        text.put(head.as_bytes());
        text.put(body);
        text.freeze()
    }
}

/// A member of `later`: due, sequence, length of the target's name, the target, a frame.
///
/// The score is a double, which is coarser than a nanosecond; due and sequence in front keep the order within one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Later {
    /// When.
    pub(super) due: WallTime,
    /// The list that it goes to.
    pub(super) target: String,
    /// What goes there.
    pub(super) frame: Frame,
}

impl Later {
    /// What a member begins with. `sequence` is different for each member and grows.
    pub(super) fn prefix(due: WallTime, sequence: u64, target: &str) -> String {
        format!("{:020}{sequence:020}{:03}{target}", due.0, target.len())
    }

    /// A member for a body that was never given out.
    pub(super) fn fresh(due: WallTime, sequence: u64, target: &str, body: &[u8]) -> Bytes {
        Self::raw(due, sequence, target, &Frame::text(None, 0, body))
    }

    /// A member for a frame.
    pub(super) fn member(due: WallTime, sequence: u64, target: &str, frame: &Frame) -> Bytes {
        Self::raw(due, sequence, target, &Frame::text(frame.key.as_ref(), frame.times, &frame.body))
    }

    /// A member for what already is a frame, or is passed on as if it were.
    pub(super) fn raw(due: WallTime, sequence: u64, target: &str, frame: &[u8]) -> Bytes {
        let mut member = BytesMut::from(Self::prefix(due, sequence, target).as_bytes());
        member.put(frame);
        member.freeze()
    }

    /// Reads a member; `None`: it is none of ours.
    pub(super) fn read(member: &Bytes) -> Option<Self> {
        let due = WallTime(digits(member.get(..TIME_DIGITS)?)?);
        let rest = member.get(2 * TIME_DIGITS..)?;
        let size: usize = digits(rest.get(..SIZE_DIGITS)?)?.try_into().ok()?;
        let target = std::str::from_utf8(rest.get(SIZE_DIGITS..)?.get(..size)?).ok()?;
        let frame = Frame::read(&member.slice(2 * TIME_DIGITS + SIZE_DIGITS + size..))?;
        Some(Self { due, target: target.to_owned(), frame })
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// The queue that a body names, where it is written as Machinery writes it: the third field, without an escape. `None`: it
/// names none there.
///
/// Layout, not content: Machinery's delayed tasks of all queues are in one set, and this field says which queue is meant.
pub(super) fn routing_key(body: &[u8]) -> Option<&str> {
    let rest = text(body, b"{\"UUID\":\"")?.1;
    let rest = text(rest, b",\"Name\":\"")?.1;
    let (name, _) = text(rest, b",\"RoutingKey\":\"")?;
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// What stands behind `before` up to the next quotation mark, and what follows that.
fn text<'a>(body: &'a [u8], before: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = body.strip_prefix(before)?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (rest[end] == b'"').then_some((&rest[..end], &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_scripts_write_it() {
        let read = |value: &'static [u8]| Frame::read(&Bytes::from_static(value));
        let frame = read(b"\x00003a-100027\x00{}").unwrap();
        assert_eq!(
            (frame.key, frame.times, &frame.body[..]),
            (Some(MessageKey::new("a-1").unwrap()), 27, &b"\x00{}"[..])
        );
        assert_eq!(
            read(b"\x0000000000").map(|frame| (frame.key, frame.times, frame.body)),
            Some((None, 0, Bytes::new()))
        );
        for none in
            [&b""[..], b"{}", b"\0", b"\x00003a-1", b"\x00+03a-100001", b"\x00003a 100001x", b"\x00\xff {\"a\": 1}"]
        {
            assert_eq!(read(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_member_of_later_is_read_as_it_was_written() {
        let member = Later::fresh(WallTime(17), 3, "q", b"body");
        let read = Later::read(&member).unwrap();
        assert_eq!((read.due, read.target.as_str(), &read.frame.body[..]), (WallTime(17), "q", &b"body"[..]));
        assert_eq!(Later::read(&member.slice(1..)), None);
        let key = Some(MessageKey::new("a-1").unwrap());
        let frame = Frame { key, times: 100_027, body: Bytes::from_static(b"{}") };
        let read = Later::read(&Later::member(WallTime(1), 2, "{q}:again", &frame)).unwrap();
        assert_eq!((read.target.as_str(), read.frame), ("{q}:again", Frame { times: TIMES_MAX, ..frame }));
        assert!(Later::fresh(WallTime(9), 4, "q", b"") < Later::fresh(WallTime(10), 1, "a", b""));
    }

    #[test]
    fn the_queue_of_a_body_is_found_where_machinery_writes_it() {
        assert_eq!(routing_key(br#"{"UUID":"u","Name":"n","RoutingKey":"mail","ETA":null}"#), Some("mail"));
        for none in
            [r#"{"UUID":"u","Name":"n","RoutingKey":""}"#, r#"{"UUID":"u","Name":"a\"","RoutingKey":"q"}"#, "a", ""]
        {
            assert_eq!(routing_key(none.as_bytes()), None, "{none}");
        }
    }
}
