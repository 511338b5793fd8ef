//! Proves `wire::machinery` on bytes that the real Machinery wrote.
//!
//! Every body, state and argument list in every file of `golden/machinery-v1` is found and proven; the counts are part of
//! the test, so that a file which is no longer understood fails instead of proving nothing. Where the files tell what a Go
//! worker made of its input, the same is asserted of ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

#[path = "golden/found.rs"]
mod found;
#[path = "golden/go.rs"]
mod go;

use std::collections::BTreeMap;

use lineshaft::task::{ArgValue, Label, Signature, Status, Timestamp};
use lineshaft::wire::machinery::{
    callback_after_error, callback_after_success, decode, decode_group, decode_state, digest, encode, encode_group,
    encode_state, salvage_uuid,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use found::{Counts, Found};

fn file(name: &str) -> Value {
    let path = format!("{}/tests/golden/machinery-v1/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
}

fn cases(name: &str) -> BTreeMap<String, Value> {
    let cases = file(name)["cases"].as_array().unwrap().clone();
    cases.into_iter().map(|case| (case["case"].as_str().unwrap().to_owned(), case)).collect()
}

fn strings<'a>(value: &'a Value, key: &'a str, each: &mut impl FnMut(&str, &'a str)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| strings(value, key, each)),
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, each)),
        Value::String(text) => each(key, text),
        _ => {}
    }
}

/// Decodes and encodes a body and every task inside it, level by level. Answers how many tasks there were.
fn prove_body(text: &str) -> usize {
    let mut open = vec![text.to_owned()];
    let mut proven = 0;
    while let Some(text) = open.pop() {
        let decoded = decode(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let task = decoded.signature;
        let written = encode(&task);
        assert_eq!(std::str::from_utf8(&written).unwrap(), text);
        assert_eq!(decode(&written).unwrap().signature, task);
        assert_eq!(salvage_uuid(text.as_bytes()).unwrap_or_default(), task.uuid);
        if task.sqs_receipt_handle.is_empty() {
            assert_eq!(digest(&task), <[u8; 32]>::from(Sha256::digest(&text)));
        }
        let callbacks = [task.on_success, task.on_error].into_iter().flatten().flatten().chain(task.chord_callback);
        open.extend(callbacks.map(|body| String::from_utf8(body.0.to_vec()).unwrap()));
        proven += 1;
    }
    proven
}

fn prove_state(text: &str) {
    let state = decode_state(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(std::str::from_utf8(&encode_state(&state)).unwrap(), text);
}

fn prove_group(text: &str) {
    let group = decode_group(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(std::str::from_utf8(&encode_group(&group)).unwrap(), text);
    assert!(!group.tasks.is_empty() && group.message.is_none(), "{group:?}");
}

fn prove_args(text: &str) {
    let body = encode(&Signature::default());
    let body = std::str::from_utf8(&body).unwrap().replace("\"Args\":null", &format!("\"Args\":{text}"));
    let written = encode(&decode(body.as_bytes()).unwrap().signature);
    // Go writes this escape for bytes that are not UTF-8 in a Go string. They are gone by then: whoever reads it, Go
    // included, has U+FFFD and writes that as it is.
    assert_eq!(std::str::from_utf8(&written).unwrap(), body.replace("\\ufffd", "\u{fffd}"));
}

fn prove_file(name: &str) -> Counts {
    let content = file(name);
    let mut counts = Counts::default();
    strings(&content, "", &mut |key, text| match key {
        // The input of a probe is no body of Machinery's; `probes_…` below look at them.
        "probe" => {}
        "args_raw" => {
            prove_args(text);
            counts.args += 1;
        }
        _ => {
            for found in found::tasks_and_states(text) {
                match found {
                    Found::Body(body) => counts.tasks += prove_body(&body),
                    Found::State(state) => {
                        prove_state(&state);
                        counts.states += 1;
                    }
                    Found::HandWritten(body) => {
                        decode(body.as_bytes()).unwrap();
                        counts.hand_written += 1;
                    }
                    Found::Cut(body) => {
                        assert!(decode(body.as_bytes()).is_err(), "a body that was cut was read: {body}");
                        assert!(salvage_uuid(body.as_bytes()).is_some_and(|id| id.contains("_00000000-")), "{body}");
                        counts.cut += 1;
                    }
                    Found::Group(group) => {
                        prove_group(&group);
                        counts.groups += 1;
                    }
                }
            }
        }
    });
    println!("{name}: {counts:?}");
    counts
}

#[test]
fn every_string_that_machinery_wrote_is_read_and_written_back_to_the_byte() {
    let expected = BTreeMap::from([
        ("amqp-backend.json", Counts { states: 8, ..Counts::default() }),
        ("amqp-broker.json", Counts { tasks: 6, ..Counts::default() }),
        ("arg-encodings.json", Counts { args: 51, ..Counts::default() }),
        ("memcache.json", Counts { states: 5, groups: 2, ..Counts::default() }),
        ("probes.json", Counts { tasks: 1, hand_written: 2, cut: 2, ..Counts::default() }),
        ("redis-command-traces.json", Counts { states: 29, groups: 3, cut: 13, ..Counts::default() }),
        ("redis-payloads.json", Counts { tasks: 31, states: 22, groups: 4, ..Counts::default() }),
        ("redis-states.json", Counts { tasks: 11, states: 49, groups: 5, ..Counts::default() }),
        ("sqs-requests.json", Counts { tasks: 3, ..Counts::default() }),
        // Stores that break tasks and states into fields; see below.
        ("dynamodb-requests.json", Counts::default()),
        ("mongo-bson.json", Counts::default()),
        ("probes-amqp.json", Counts::default()),
    ]);
    let directory = format!("{}/tests/golden/machinery-v1", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected.keys().copied().collect::<Vec<_>>());
    for (name, expected) in expected {
        assert_eq!(prove_file(name), expected, "{name}");
    }
}

#[test]
fn states_words_times_and_types_of_stores_with_fields_are_known() {
    let (mut times, mut words) = (0, 0);
    fn fields(value: &Value, each: &mut impl FnMut(&str, &str)) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    if let Some(text) = value["S"].as_str() {
                        each(key, text);
                    }
                    fields(value, each);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| fields(item, each)),
            _ => {}
        }
    }
    fields(&file("dynamodb-requests.json"), &mut |key, text| match key {
        "CreatedAt" => {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
            times += 1;
        }
        "State" | ":s" => {
            assert_eq!(Status::parse(text).unwrap().as_str(), text);
            words += 1;
        }
        _ => {}
    });
    println!("dynamodb-requests.json: {times} times, {words} states");
    let mut labels = 0;
    for result in file("mongo-bson.json")["results"].as_array().unwrap() {
        let go_type = result["go_type"].as_str().unwrap();
        assert_eq!(Label::parse(go_type).map(Label::as_str), Some(go_type));
        labels += 1;
    }
    println!("mongo-bson.json: {labels} types");
    assert_eq!((times, words, labels), (2, 4, 22));
}

#[test]
fn results_read_as_the_values_that_a_go_client_got() {
    let mut compared = 0;
    for (name, case) in cases("redis-states.json") {
        let Some(values) = case["get_results"].as_array() else { continue };
        let state = decode_state(case["raw"].as_str().unwrap().as_bytes()).unwrap();
        let ours: Vec<String> =
            state.results.unwrap().iter().map(|arg| format!("{}:{}", arg.type_name, go::shown(arg))).collect();
        assert_eq!(ours, values.iter().map(|value| value.as_str().unwrap()).collect::<Vec<_>>(), "{name}");
        compared += values.len();
    }
    assert_eq!(compared, 33);
}

#[test]
fn callbacks_get_the_arguments_that_go_workers_gave_them() {
    let cases = cases("redis-states.json");
    for (name, immutable) in [
        ("on_success_appends_results", false),
        ("on_success_parent_immutable", true),
        ("on_success_child_immutable", false),
        ("on_success_multi_value_and_bytes", false),
        ("on_error_prepends_message", false),
        ("on_error_immutable_ignored", true),
    ] {
        let keys = cases[name]["keys"].as_array().unwrap();
        let parent = decode_state(keys[0]["raw"].as_str().unwrap().as_bytes()).unwrap();
        let sent = keys.iter().find_map(|key| key["items"][0].as_str()).unwrap();
        // The callback as its parent carried it: what was sent, without what was added.
        let mut before = decode(sent.as_bytes()).unwrap().signature;
        let args = before.args.get_or_insert_default();
        let body = |task: &Signature| lineshaft::task::Body(encode(task));
        let after = match parent.status {
            Status::Success => {
                let results = parent.results.unwrap();
                if !immutable {
                    args.truncate(args.len() - results.len());
                }
                let parent = Signature { immutable, ..Signature::default() };
                callback_after_success(&parent, &body(&before), &results)
            }
            _ => {
                args.remove(0);
                callback_after_error(&body(&before), &parent.error)
            }
        };
        assert_eq!(std::str::from_utf8(&encode(&after.unwrap())).unwrap(), sent, "{name}");
    }
}

#[test]
fn values_that_a_go_worker_refuses_are_refused_in_its_words() {
    let mut compared = 0;
    for probe in file("probes.json")["probes"].as_array().unwrap() {
        let (name, observed) = (probe["probe"].as_str().unwrap(), probe["observed"].as_str().unwrap());
        let (label, raw, want) = if let Some(input) = name.strip_prefix("decode \"") {
            let (label, raw) = input.split_once("\" ").unwrap();
            (label, raw, observed.to_owned())
        } else if let Some(raw) = name.strip_prefix("slice_value_") {
            // The process ended; or the task did, with this text; or it ran.
            let end = observed.split_once("state FAILURE Reflect task args error: ");
            let want = match end {
                Some((_, why)) => format!("error: {why}"),
                None if observed.contains("panic") => "panic".to_owned(),
                None => "[]int64([])".to_owned(),
            };
            ("[]int64", raw, want)
        } else {
            continue;
        };
        let body = format!(r#"{{"UUID":"x","Args":[{{"Type":{},"Value":{raw}}}]}}"#, Value::from(label));
        let ours = match decode(body.as_bytes()) {
            Err(_) => "panic".to_owned(),
            Ok(decoded) => match decoded.args_error {
                Some(error) => format!("error: {}", error.why),
                None => {
                    let arg = &decoded.signature.args.unwrap()[0];
                    format!("{}({})", arg.type_name, go::shown(arg))
                }
            },
        };
        // Where Go computes with another value than was sent, ours refuses: see `wire::machinery`.
        let want = match (label, raw) {
            ("uint8", "256") => "error: strconv.ParseUint: parsing \"256\": value out of range".to_owned(),
            ("float32", "1e300") => "error: strconv.ParseFloat: parsing \"1e300\": value out of range".to_owned(),
            _ => want,
        };
        assert_eq!(ours, want, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 29);
}

#[test]
fn envelopes_are_read_and_refused_as_by_a_go_worker() {
    let mut compared = 0;
    for probe in file("probes.json")["probes"].as_array().unwrap() {
        let Some(body) = probe["probe"].as_str().unwrap().strip_prefix("envelope ") else { continue };
        let observed = probe["observed"].as_str().unwrap();
        let decoded = decode(body.as_bytes());
        assert_eq!(decoded.is_ok(), observed.ends_with("err=<nil>"), "{body}");
        if let Ok(decoded) = decoded {
            let task = decoded.signature;
            let eta = match task.eta {
                None => "<nil>".to_owned(),
                // As Go prints a time for people.
                Some(eta) => eta.to_string().replace('T', " ").replace('Z', " +0000 UTC"),
            };
            assert_eq!(format!("UUID={:?} Name={:?} ETA={eta} err=<nil>", task.uuid, task.name), observed);
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
    let amqp = file("probes-amqp.json");
    let bad_arg = amqp["probes"].as_array().unwrap().iter().find(|probe| probe["probe"] == "amqp_bad_arg").unwrap();
    let error = decode(br#"{"Args":[{"Type":"nope","Value":1}]}"#).unwrap().args_error.unwrap();
    assert!(bad_arg["observed"].as_str().unwrap().contains(&format!("\"FAILURE {error}\"")));
}

#[test]
fn numbers_in_headers_keep_every_digit() {
    let cases = cases("redis-payloads.json");
    let body = cases["headers_custom"]["keys"][0]["items"][0].as_str().unwrap();
    let headers = decode(body.as_bytes()).unwrap().signature.headers.unwrap();
    assert_eq!(headers["big"].0, "9007199254740993");
    assert_eq!(headers["a"].as_string().as_deref(), Some("first"));
    assert_eq!(headers["list"].0, "[1,\"x\"]");
}

#[test]
fn the_widest_integers_are_exact() {
    let content = file("arg-encodings.json");
    let mut args = Vec::new();
    strings(&content, "", &mut |key, text| {
        if key == "args_raw" {
            args.push(text.to_owned());
        }
    });
    let read = |args: &String| {
        let body = format!("{{\"Args\":{args}}}");
        decode(body.as_bytes()).unwrap().signature.args.unwrap().into_iter().map(|arg| arg.value)
    };
    let values: Vec<ArgValue> = args.iter().flat_map(read).collect();
    for extreme in [ArgValue::Int(i64::MIN), ArgValue::Uint(u64::MAX)] {
        assert!(values.contains(&extreme), "{extreme:?}");
    }
}
