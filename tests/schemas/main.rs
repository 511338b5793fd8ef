//! `--json`: every line that a command prints is as its schema in `src/docs/schemas` says, and every command has one.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod catalogue;
mod commands;
mod shell;

use std::collections::BTreeSet;

use clap::CommandFactory;
use lineshaft_client::proto;
use serde_json::Value;

use catalogue::{Catalogue, OTHERS};

/// Commands with `--json` as their schemas are named: `dead list` is `dead-list`. Hidden ones are not for people.
fn commands() -> BTreeSet<String> {
    fn collect(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
        if command.get_arguments().any(|argument| argument.get_long() == Some("json")) {
            found.insert(name.to_owned());
        }
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let part = inner.get_name();
            collect(inner, &if name.is_empty() { part.to_owned() } else { format!("{name}-{part}") }, found);
        }
    }
    let mut found = BTreeSet::new();
    collect(&lineshaft::cli::Cli::command(), "", &mut found);
    found
}

#[test]
fn every_command_with_json_has_a_schema_and_every_schema_a_command() {
    let (commands, catalogue) = (commands(), Catalogue::read());
    assert!(commands.contains("state") && commands.contains("dead-list"), "{commands:?}");
    let schemas: BTreeSet<String> =
        catalogue.names().into_iter().filter(|name| !OTHERS.contains(&name.as_str())).collect();
    assert_eq!(commands, schemas);
    for name in schemas {
        let (title, description) = (&catalogue.document(&name)["title"], &catalogue.document(&name)["description"]);
        assert_eq!(
            title,
            &Value::from(format!("lineshaft {}", name.replacen("-", " ", usize::from(has_parts(&name)))))
        );
        let ends = ["One line.", "One line for each.", "One line for each id.", "One line for each that is known."];
        let told = description.as_str().unwrap();
        assert!(ends.iter().any(|end| told.ends_with(end)) || told.ends_with("for each look."), "{name}: {told}");
    }
}

fn has_parts(name: &str) -> bool {
    name.starts_with("dead-") || name.starts_with("config-")
}

#[test]
fn every_property_is_described_required_and_no_other_allowed() {
    let catalogue = Catalogue::read();
    for name in catalogue.names() {
        let document = catalogue.document(&name);
        assert_eq!(document["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(catalogue::id(document).ends_with(&format!("/src/docs/schemas/{name}.json")), "{name}");
        for object in catalogue::objects(document) {
            let Some(properties) = object.get("properties").and_then(Value::as_object) else {
                assert_eq!(object["additionalProperties"], true, "{name}: a map says so: {object:?}");
                continue;
            };
            assert_eq!(object["additionalProperties"], false, "{name}: {object:?}");
            let required: BTreeSet<&str> =
                object["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            for (key, property) in properties {
                let told = property["description"].as_str();
                assert!(told.is_some_and(|text| text.len() > 8), "{name}: {key} is not described");
                let unit = !key.ends_with("_seconds") || told.is_some_and(|text| text.contains("second"));
                assert!(unit, "{name}: {key} does not tell its unit");
                // What may be absent says so; everything else is null instead.
                let is_absent =
                    told.is_some_and(|text| text.contains("absent if") || text.contains("if it is the server"));
                assert_eq!(required.contains(key.as_str()), !is_absent, "{name}: {key}");
            }
            assert!(required.iter().all(|key| properties.contains_key(*key)), "{name}: {required:?}");
        }
    }
}

#[test]
fn schemas_name_every_word_of_the_protocol() {
    let catalogue = Catalogue::read();
    // What is no word today is none of the schema's business; enumerations are small.
    const NUMBERS: std::ops::Range<i32> = 0..100;
    let check = |name: &str, pointer: &str, words: Vec<String>| {
        let known = catalogue.document(name).pointer(pointer).unwrap();
        let known: BTreeSet<&str> = known.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let words: BTreeSet<&str> = words.iter().map(String::as_str).filter(|word| *word != "UNSPECIFIED").collect();
        assert!(words.len() > 2);
        assert_eq!(known.into_iter().filter(|word| *word != "UNKNOWN").collect::<BTreeSet<_>>(), words, "{name}");
    };
    fn words<T: TryFrom<i32>>(name: impl Fn(T) -> &'static str, prefix: &str) -> Vec<String> {
        let all = NUMBERS.filter_map(|number| T::try_from(number).ok());
        all.map(|value| name(value).trim_start_matches(prefix).to_owned()).collect()
    }
    let reasons = words(|reason: proto::FailureReason| reason.as_str_name(), "FAILURE_REASON_");
    check("common", "/$defs/failure_reason/enum", reasons);
    let statuses = words(|status: proto::TaskStatus| status.as_str_name(), "TASK_STATUS_");
    check("common", "/$defs/status/enum", statuses);
    let results = words(|result: proto::CancelResult| result.as_str_name(), "CANCEL_RESULT_");
    check("cancel", "/oneOf/0/properties/result/enum", results);
    let outcomes = ["DONE", "UNDECODABLE", "UNKNOWN"];
    assert_eq!(
        catalogue.document("dead-requeue")["properties"]["outcome"]["enum"].as_array().unwrap().len(),
        outcomes.len()
    );
}
