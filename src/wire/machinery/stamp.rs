//! A message's key inside its body, for brokers that carry bodies and nothing beside them.
//!
//! The key travels in a header, with a digest of all the rest. Go workers copy headers into whatever they publish because of
//! a task, so a key alone proves nothing: where the digest fits, it is this very message, maybe decoded and written again by
//! a mover of delayed tasks; where it does not, it is another message of the same task.

use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::wire::json::{Cursor, JsonError, write_string};

/// The header: the first 16 bytes of the SHA-256 of the body without it, in hexadecimal, then the key.
pub const STAMP: &str = "lineshaft-message";

/// Hexadecimal digits of the digest in a stamp.
const DIGITS: usize = 32;

/// The headers of a body.
struct Headers {
    /// Its value: an object, or `null`.
    value: Range<usize>,
    /// The stamp's entry with the comma that goes with it, and the value of the stamp.
    stamp: Option<(Range<usize>, String)>,
    /// Where an entry of the stamp's name belongs, and whether others stand before and behind it there.
    place: (usize, bool, bool),
}

/// The body with `key` in it; a stamp that it has is replaced. What is no task, or has no headers, is left as it is.
pub fn stamp(body: &Bytes, key: &str) -> Bytes {
    let mut plain = body.clone();
    if let Ok(Some(Headers { stamp: Some((entry, _)), .. })) = headers(body) {
        plain = without(body, &entry).into();
    }
    let Ok(Some(Headers { value, place: (at, is_behind, is_before), .. })) = headers(&plain) else { return plain };
    if plain.get(value.start) != Some(&b'{') {
        return plain;
    }
    let mut text = digest(&plain);
    text.push_str(key);
    let mut entry = Vec::with_capacity(text.len() + 32);
    if is_behind && !is_before {
        entry.push(b',');
    }
    write_string(&mut entry, STAMP);
    entry.push(b':');
    write_string(&mut entry, &text);
    if is_before {
        entry.push(b',');
    }
    let mut out = Vec::with_capacity(plain.len() + entry.len());
    out.extend_from_slice(&plain[..at]);
    out.extend_from_slice(&entry);
    out.extend_from_slice(&plain[at..]);
    out.into()
}

/// The key in a body; `None`: it has none, or it is that of another message.
pub fn stamped(body: &[u8]) -> Option<String> {
    let Headers { stamp: Some((entry, text)), .. } = headers(body).ok()?? else { return None };
    let (told, key) = text.split_at_checked(DIGITS)?;
    let is_this = told == digest(&without(body, &entry)) && !key.is_empty();
    is_this.then(|| key.to_owned())
}

fn without(body: &[u8], entry: &Range<usize>) -> Vec<u8> {
    [&body[..entry.start], &body[entry.end..]].concat()
}

fn digest(plain: &[u8]) -> String {
    Sha256::digest(plain).iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

fn headers(body: &[u8]) -> Result<Option<Headers>, JsonError> {
    let mut found = None;
    let mut cursor = Cursor::new(body);
    cursor.members(|cursor, key| {
        // Of equal keys the last one counts, here as in Go; bodies with two are not ours, and are none of a stamp's.
        if key == "Headers" {
            found = Some(entries(cursor, body)?);
        } else {
            cursor.skip()?;
        }
        Ok::<_, JsonError>(())
    })?;
    Ok(found)
}

fn entries(cursor: &mut Cursor<'_>, body: &[u8]) -> Result<Headers, JsonError> {
    cursor.peek()?;
    let start = cursor.at();
    if cursor.null()? {
        return Ok(Headers { value: start..cursor.at(), stamp: None, place: (start, false, false) });
    }
    let mut end = start + 1;
    let mut stamp = None;
    let mut place = None;
    let mut count = 0;
    let is_object = cursor.members(|cursor, key| {
        let from = if count == 0 { end } else { end + 1 };
        if key == STAMP {
            let text = cursor.string()?;
            let comma_behind = body.get(cursor.at()) == Some(&b',');
            let entry = match (count, comma_behind) {
                (_, true) => from..cursor.at() + 1,
                (0, false) => from..cursor.at(),
                (_, false) => end..cursor.at(),
            };
            match text {
                Some(text) => stamp = Some((entry, text.into_owned())),
                None => drop(cursor.skip()?),
            }
        } else {
            if key > STAMP && place.is_none() {
                place = Some((from, count > 0, true));
            }
            cursor.skip()?;
        }
        end = cursor.at();
        count += 1;
        Ok::<_, JsonError>(())
    })?;
    if !is_object {
        cursor.skip()?;
        return Ok(Headers { value: start..cursor.at(), stamp: None, place: (start, false, false) });
    }
    Ok(Headers { value: start..cursor.at(), stamp, place: place.unwrap_or((end, count > 0, false)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(headers: &str) -> Bytes {
        Bytes::from(format!(
            r#"{{"UUID":"u","Args":[{{"Value":"\"Headers\":{{}}"}}],"Headers":{headers},"Priority":0}}"#
        ))
    }

    #[test]
    fn a_key_is_found_again_wherever_its_header_stands_and_nothing_else_is_changed() {
        for headers in [
            "{}",
            r#"{"a":"1"}"#,
            r#"{"z":"1"}"#,
            r#"{"a":"1","lineshaft-attempts":"2","lineshaft-sent":"3","z":{"x":[1]}}"#,
        ] {
            let plain = body(headers);
            let with = stamp(&plain, "m-1");
            assert_eq!(stamped(&with).as_deref(), Some("m-1"), "{headers}");
            assert_eq!(stamped(&plain), None);
            let place = super::headers(&with).unwrap().unwrap().stamp.unwrap().0;
            assert_eq!(without(&with, &place), plain, "{headers}");
            let keys: Vec<String> = crate::wire::machinery::decode(&with)
                .map(|decoded| decoded.signature.headers.unwrap().into_keys().collect())
                .unwrap_or_default();
            assert!(keys.is_sorted() && keys.contains(&STAMP.to_owned()), "{keys:?}");
            assert_eq!(stamp(&with, "m-2"), stamp(&plain, "m-2"), "a stamp is replaced");
        }
    }

    #[test]
    fn what_go_writes_again_is_still_this_message_and_what_it_made_of_it_is_not() {
        let signature = crate::task::Signature {
            uuid: "u".into(),
            name: "add".into(),
            headers: Some([("lineshaft-sent".to_owned(), crate::task::RawJson::string("1"))].into()),
            retry_count: 3,
            ..Default::default()
        };
        let sent = stamp(&crate::wire::machinery::encode(&signature), "key \"quoted\"");
        let mut read = crate::wire::machinery::decode(&sent).unwrap().signature;
        assert_eq!(stamped(&crate::wire::machinery::encode(&read)).as_deref(), Some("key \"quoted\""));
        read.retry_count = 2;
        assert_eq!(stamped(&crate::wire::machinery::encode(&read)), None, "a retry is another message");
    }

    #[test]
    fn what_has_no_headers_is_left_alone() {
        for text in ["", "null", "[]", "{}", r#"{"Headers":null}"#, r#"{"Headers":5}"#, r#"{"Headers":{"a":"1""#] {
            let plain = Bytes::from(text);
            assert_eq!(stamp(&plain, "m"), plain, "{text}");
            assert_eq!(stamped(&plain), None);
        }
        for wrong in [r#"{"lineshaft-message":5}"#, r#"{"lineshaft-message":"short"}"#, r#"{"lineshaft-message":"é"}"#]
        {
            assert_eq!(stamped(&body(wrong)), None, "{wrong}");
        }
    }
}
