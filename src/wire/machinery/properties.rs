//! What holds for every task and for every input, on random ones.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::{decode, decode_state, digest, encode, encode_state, salvage_uuid};
use crate::task::{Arg, ArgValue, Body, FailureReason, Kind, Label, RawJson, Signature, Status, TaskId, TaskState};
use crate::task::{Timestamp, TypeName};
use crate::wire::json::NESTING_MAX;

fn text() -> impl Strategy<Value = String> {
    // Ordinary text, and text made of everything that needs care.
    prop_oneof![
        "[a-z_ ]{0,12}",
        "\\PC{0,8}",
        vec(
            proptest::sample::select(&['<', '&', '"', '\\', '\0', '\n', '\u{7f}', '\u{2028}', '\u{fffd}', '😀', 'é']),
            0..8
        )
        .prop_map(String::from_iter),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&Kind::ALL)
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_filter("finite", |f| f.is_finite()), any::<i32>().prop_map(f64::from)]
}

fn narrow(kind: Kind) -> impl Strategy<Value = f64> {
    finite().prop_map(move |f| kind.float(f).unwrap_or_default())
}

fn int(kind: Kind) -> impl Strategy<Value = i64> {
    let range = kind.int_range().unwrap_or(0..=0);
    prop_oneof![Just(*range.start()), Just(*range.end()), range]
}

fn uint(kind: Kind) -> impl Strategy<Value = u64> {
    let max = kind.uint_max().unwrap_or_default();
    prop_oneof![Just(max), 0..=max]
}

fn value(label: Label) -> BoxedStrategy<ArgValue> {
    let kind = label.kind;
    let (signed, unsigned) = (kind.int_range().is_some(), kind.uint_max().is_some());
    match (label.list, kind) {
        (false, Kind::Bool) => any::<bool>().prop_map(ArgValue::Bool).boxed(),
        (false, Kind::String) => text().prop_map(ArgValue::String).boxed(),
        (false, _) if signed => int(kind).prop_map(ArgValue::Int).boxed(),
        (false, _) if unsigned => uint(kind).prop_map(ArgValue::Uint).boxed(),
        (false, _) => narrow(kind).prop_map(ArgValue::Float).boxed(),
        (true, Kind::Bool) => vec(any::<bool>(), 0..4).prop_map(ArgValue::Bools).boxed(),
        (true, Kind::String) => vec(text(), 0..4).prop_map(ArgValue::Strings).boxed(),
        (true, Kind::Uint8) => vec(any::<u8>(), 0..20).prop_map(|b| ArgValue::Bytes(b.into())).boxed(),
        (true, _) if signed => vec(int(kind), 0..4).prop_map(ArgValue::Ints).boxed(),
        (true, _) if unsigned => vec(uint(kind), 0..4).prop_map(ArgValue::Uints).boxed(),
        (true, _) => vec(narrow(kind), 0..4).prop_map(ArgValue::Floats).boxed(),
    }
}

fn arg() -> impl Strategy<Value = Arg> {
    (text(), kind(), any::<[bool; 3]>()).prop_flat_map(|(name, kind, [list, byte_alias, nil])| {
        let label = Label { kind, list, byte_alias: list && byte_alias && kind == Kind::Uint8 };
        let value = if list && nil { Just(ArgValue::Nil).boxed() } else { value(label) };
        value.prop_map(move |value| Arg { name: name.clone(), type_name: TypeName::Known(label), value })
    })
}

fn json() -> impl Strategy<Value = RawJson> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|i| i.to_string()),
        Just("1.50".to_owned()),
        Just("-0e+3".to_owned()),
        text().prop_map(|t| RawJson::string(&t).0),
    ];
    let tree = leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" , "))),
            vec((text(), inner), 0..4).prop_map(|members| {
                let members = members.iter().map(|(key, value)| format!("{} :{value}", RawJson::string(key).0));
                format!("{{{}}}", members.collect::<Vec<_>>().join("\n,"))
            }),
        ]
    });
    tree.prop_map(|text| RawJson::parse(text.as_bytes()).expect("made above"))
}

fn time() -> impl Strategy<Value = Timestamp> {
    let second = -62_135_596_800i64..253_402_200_000;
    (second, 0u32..1_000_000_000, -1439i16..=1439, any::<bool>()).prop_map(|(seconds, nanos, east, utc)| Timestamp {
        // A day from either end of the four-digit years, so that no zone leads beyond them.
        seconds: seconds.max(-62_135_500_000),
        nanos: if utc { nanos / 1_000_000 * 1_000_000 } else { nanos },
        offset_minutes: if utc { 0 } else { east },
    })
}

fn body() -> impl Strategy<Value = Body> {
    text().prop_map(|uuid| Body(encode(&Signature { uuid, ..Signature::default() })))
}

prop_compose! {
    fn task()(
        texts in proptest::array::uniform6(text()),
        eta in option::of(time()),
        counts in any::<[i64; 3]>(),
        args in option::of(vec(arg(), 0..5)),
        headers in option::of(btree_map(text(), json(), 0..4)),
        priority in any::<u8>(),
        flags in any::<[bool; 3]>(),
        on_success in option::of(vec(body(), 0..3)),
        on_error in option::of(vec(body(), 0..3)),
        chord_callback in option::of(body()),
    ) -> Signature {
        let [uuid, name, routing_key, group_uuid, broker_message_group_id, sqs_receipt_handle] = texts;
        let [group_task_count, retry_count, retry_timeout] = counts;
        let [immutable, stop_task_deletion_on_error, ignore_when_task_not_registered] = flags;
        Signature {
            uuid, name, routing_key, eta, group_uuid, group_task_count, args, headers, priority, immutable, retry_count,
            retry_timeout, on_success, on_error, chord_callback, broker_message_group_id, sqs_receipt_handle,
            stop_task_deletion_on_error, ignore_when_task_not_registered,
        }
    }
}

proptest! {
    #[test]
    fn every_task_survives_both_ways(task in task()) {
        let body = encode(&task);
        let decoded = decode(&body).unwrap();
        prop_assert_eq!(decoded.args_error, None);
        prop_assert_eq!(&encode(&decoded.signature), &body);
        prop_assert_eq!(digest(&decoded.signature), digest(&task));
        prop_assert_eq!(&decoded.signature, &task);
        // Whoever else reads the body must be able to.
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn every_argument_that_is_accepted_survives_both_ways(arg in arg()) {
        if arg.value != ArgValue::Nil {
            prop_assert_eq!(Arg::new(&*arg.name, Some(arg.type_name.as_str()), arg.value.clone()), Ok(arg));
        }
    }

    #[test]
    fn every_state_survives_both_ways(
        id in text(), task_name in text(), error in text(), results in option::of(vec(arg(), 0..4)), created_at in time(),
        status in proptest::sample::select(&[Status::Pending, Status::Success, Status::Failure]),
    ) {
        let state = TaskState {
            task_id: TaskId::trusted(id),
            task_name,
            status,
            results: results.map(|list| list.into_iter().map(|arg| Arg { name: String::new(), ..arg }).collect()),
            error: if status == Status::Failure { error } else { String::new() },
            reason: FailureReason::Unknown,
            generation: 0,
            attempt: 0,
            releases: 0,
            created_at,
            updated_at: Timestamp::ZERO,
        };
        prop_assert_eq!(decode_state(&encode_state(&state)), Ok(state));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = (decode(&bytes), decode_state(&bytes), salvage_uuid(&bytes), RawJson::parse(&bytes));
    }

    #[test]
    fn a_body_with_changed_bytes_is_read_or_refused_and_what_is_read_can_be_written(
        task in task(), changes in vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut body = encode(&task).to_vec();
        for (at, byte, change) in changes {
            let at = at.index(body.len());
            match change {
                0 => body[at] = byte,
                1 if body.len() > 1 => drop(body.remove(at)),
                _ => body.truncate(at.max(1)),
            }
        }
        let _ = (salvage_uuid(&body), decode_state(&body));
        if let Ok(decoded) = decode(&body) {
            let written = encode(&decoded.signature);
            let again = decode(&written).unwrap();
            prop_assert_eq!(again.args_error, decoded.args_error);
            prop_assert_eq!(encode(&again.signature), written);
        }
    }

    #[test]
    fn floats_print_so_that_they_read_back_and_no_shorter_text_does(value in finite()) {
        let mut out = Vec::new();
        crate::wire::json::write_f64(&mut out, value);
        let printed = std::str::from_utf8(&out).unwrap();
        prop_assert_eq!(printed.parse::<f64>().unwrap().to_bits(), value.to_bits());
        let exponent = value != 0.0 && !(1e-6..1e21).contains(&value.abs());
        prop_assert_eq!(printed.contains('e'), exponent);
    }
}

// A thread with little stack: recursion would show.
fn with_little_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
}

#[test]
fn depth_needs_no_stack_wherever_it_is() {
    with_little_stack(|| {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        // Of the 10,000 levels, the task is one, its list of arguments another, the argument a third.
        for (levels, body) in [
            (NESTING_MAX - 2, |deep: &str| format!(r#"{{"Headers":{{"h":{deep}}}}}"#)),
            (NESTING_MAX - 3, |deep: &str| format!(r#"{{"Args":[{{"Type":"int64","Value":{deep}}}]}}"#)),
            (NESTING_MAX - 3, |deep: &str| format!(r#"{{"Args":[{{"Type":"string","Value":{deep}}}]}}"#)),
            (NESTING_MAX - 3, |deep: &str| format!(r#"{{"Args":[{{"Type":"[]int64","Value":{deep}}}]}}"#)),
            (NESTING_MAX - 3, |deep: &str| format!(r#"{{"Args":[{{"Type":"main.point","Value":{deep}}}]}}"#)),
            (NESTING_MAX - 1, |deep: &str| format!(r#"{{"unknown":{deep}}}"#)),
            (NESTING_MAX - 2, |deep: &str| format!(r#"{{"ChordCallback":{{"x":{deep}}}}}"#)),
        ] as [(usize, fn(&str) -> String); 7]
        {
            let read =
                decode(body(&deep(levels)).as_bytes()).map(|decoded| decode(&encode(&decoded.signature)).is_ok());
            assert_eq!(read, Ok(true));
            assert!(decode(body(&deep(levels + 1)).as_bytes()).is_err());
        }
        let state = format!(r#"{{"State":"SUCCESS","Results":[{{"Type":"x","Value":{}}}]}}"#, deep(NESTING_MAX - 3));
        let written = encode_state(&decode_state(state.as_bytes()).unwrap());
        assert!(String::from_utf8_lossy(&written).contains(&deep(NESTING_MAX - 3)));
    });
}

#[test]
fn a_chain_of_thousands_is_read_one_level_at_a_time() {
    with_little_stack(|| {
        let mut body = encode(&Signature::default());
        let levels = 4_900;
        for _ in 0..levels {
            // By hand and short: a body of all 19 keys would make this a test of copying megabytes.
            body = Bytes::from([b"{\"OnSuccess\":[".as_slice(), &body, b"]}"].concat());
        }
        let mut read = 0;
        while let Some(next) = decode(&body).unwrap().signature.on_success.and_then(|mut list| list.pop()) {
            body = next.0;
            read += 1;
        }
        assert_eq!(read, levels);
    });
}
