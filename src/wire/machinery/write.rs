//! Writing a task body.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::value::{self, Untyped};
use crate::task::{Arg, Body, Headers, Signature};
use crate::wire::json::{write_i64, write_string};

// A body without arguments is about 400 bytes; most have a few.
const USUAL_BYTES: usize = 768;

/// The task as Machinery writes it: all 19 keys in its order, byte for byte. Callbacks are written as they were read.
pub fn encode(task: &Signature) -> Bytes {
    let mut out = Vec::with_capacity(USUAL_BYTES + callback_bytes(task));
    write(&mut out, task, &task.sqs_receipt_handle);
    out.into()
}

/// The identity of a body's content: SHA-256 of [`encode`] without `SQSReceiptHandle`, which belongs to one delivery.
///
/// Bodies that decode to equal tasks have equal digests, whatever the order of their keys, their spacing, or the way their
/// strings are escaped. Callbacks count by their text: those that Machinery or we wrote have only one.
pub fn digest(task: &Signature) -> [u8; 32] {
    let mut out = Vec::with_capacity(USUAL_BYTES + callback_bytes(task));
    write(&mut out, task, "");
    Sha256::digest(&out).into()
}

fn callback_bytes(task: &Signature) -> usize {
    let lists = [&task.on_success, &task.on_error].into_iter().flatten().flatten();
    lists.chain(&task.chord_callback).map(|body| body.0.len()).sum()
}

fn write(out: &mut Vec<u8>, task: &Signature, receipt_handle: &str) {
    out.extend_from_slice(b"{\"UUID\":");
    write_string(out, &task.uuid);
    out.extend_from_slice(b",\"Name\":");
    write_string(out, &task.name);
    out.extend_from_slice(b",\"RoutingKey\":");
    write_string(out, &task.routing_key);
    out.extend_from_slice(b",\"ETA\":");
    match &task.eta {
        // No character of a time needs an escape.
        Some(eta) => out.extend_from_slice(format!("\"{eta}\"").as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"GroupUUID\":");
    write_string(out, &task.group_uuid);
    out.extend_from_slice(b",\"GroupTaskCount\":");
    write_i64(out, task.group_task_count);
    out.extend_from_slice(b",\"Args\":");
    list(out, task.args.as_deref(), argument);
    out.extend_from_slice(b",\"Headers\":");
    headers(out, task.headers.as_ref());
    out.extend_from_slice(b",\"Priority\":");
    write_i64(out, i64::from(task.priority));
    out.extend_from_slice(b",\"Immutable\":");
    boolean(out, task.immutable);
    out.extend_from_slice(b",\"RetryCount\":");
    write_i64(out, task.retry_count);
    out.extend_from_slice(b",\"RetryTimeout\":");
    write_i64(out, task.retry_timeout);
    out.extend_from_slice(b",\"OnSuccess\":");
    list(out, task.on_success.as_deref(), callback);
    out.extend_from_slice(b",\"OnError\":");
    list(out, task.on_error.as_deref(), callback);
    out.extend_from_slice(b",\"ChordCallback\":");
    match &task.chord_callback {
        Some(body) => callback(out, body),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"BrokerMessageGroupId\":");
    write_string(out, &task.broker_message_group_id);
    out.extend_from_slice(b",\"SQSReceiptHandle\":");
    write_string(out, receipt_handle);
    out.extend_from_slice(b",\"StopTaskDeletionOnError\":");
    boolean(out, task.stop_task_deletion_on_error);
    out.extend_from_slice(b",\"IgnoreWhenTaskNotRegistered\":");
    boolean(out, task.ignore_when_task_not_registered);
    out.push(b'}');
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends a list, or `null` for none.
pub(super) fn list<T>(out: &mut Vec<u8>, list: Option<&[T]>, write: impl Fn(&mut Vec<u8>, &T)) {
    let Some(list) = list else { return out.extend_from_slice(b"null") };
    out.push(b'[');
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn argument(out: &mut Vec<u8>, arg: &Arg) {
    out.extend_from_slice(b"{\"Name\":");
    write_string(out, &arg.name);
    out.extend_from_slice(b",\"Type\":");
    write_string(out, arg.type_name.as_str());
    out.extend_from_slice(b",\"Value\":");
    value::write(out, &arg.type_name, &arg.value, Untyped::Canonical);
    out.push(b'}');
}

fn headers(out: &mut Vec<u8>, headers: Option<&Headers>) {
    let Some(headers) = headers else { return out.extend_from_slice(b"null") };
    out.push(b'{');
    for (i, (key, value)) in headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, key);
        out.push(b':');
        value.write(out);
    }
    out.push(b'}');
}

fn callback(out: &mut Vec<u8>, body: &Body) {
    out.extend_from_slice(&body.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::RawJson;
    use crate::wire::machinery::decode;

    #[test]
    fn an_empty_task_has_all_19_keys() {
        let want = concat!(
            r#"{"UUID":"","Name":"","RoutingKey":"","ETA":null,"GroupUUID":"","GroupTaskCount":0,"Args":null,"#,
            r#""Headers":null,"Priority":0,"Immutable":false,"RetryCount":0,"RetryTimeout":0,"OnSuccess":null,"#,
            r#""OnError":null,"ChordCallback":null,"BrokerMessageGroupId":"","SQSReceiptHandle":"","#,
            r#""StopTaskDeletionOnError":false,"IgnoreWhenTaskNotRegistered":false}"#
        );
        assert_eq!(encode(&Signature::default()), want);
    }

    #[test]
    fn digests_see_the_content_and_not_its_form() {
        let digest_of = |body: &str| digest(&decode(body.as_bytes()).unwrap().signature);
        let one = r#"{"UUID":"x","Name":"add","Headers":{"a":{"k":1,"l":[2]}},"Args":[{"Type":"int64","Value":1}]}"#;
        let other = r#" {"args" : [ {"Value":1, "Type":"int64"} ], "ETA":null, "Headers":{"a":{"l":[ 2 ],"k":1}},
            "SQSReceiptHandle":"one delivery", "Name":"\u0061dd", "UUID":"x" } rest"#;
        assert_eq!(digest_of(one), digest_of(other));
        assert_ne!(digest_of(one), digest_of(&one.replace("\"Value\":1", "\"Value\":2")));
        assert_ne!(digest_of(one), digest_of(&one.replace("\"k\":1", "\"k\":1.0")));
    }

    #[test]
    fn a_header_made_by_hand_is_written_in_its_canonical_text() {
        let headers = Headers::from([("h".to_owned(), RawJson("{\"b\": \"<\", \"a\": 1}".to_owned()))]);
        let task = Signature { headers: Some(headers), ..Signature::default() };
        let body = encode(&task);
        let again = decode(&body).unwrap().signature;
        assert_eq!(again.headers.as_ref().unwrap()["h"].0, r#"{"a":1,"b":"\u003c"}"#);
        assert_eq!(encode(&again), body);
        assert_eq!(digest(&again), digest(&task));
    }
}
