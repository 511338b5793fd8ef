//! `demo`, as people and as programs read it.

use serde_json::Value;

use crate::program::{lineshaft, stderr, stdout};

#[test]
fn the_demo_goes_as_it_expects() {
    let output = lineshaft(&["demo"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", stderr(&output));
    assert!(told.ends_with("Everything went as expected.\n"), "{told}");
}

#[test]
fn the_demo_is_told_in_json_too() {
    let output = lineshaft(&["demo", "--json", "--no-kill"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}\n{}", stderr(&output));
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ended: Vec<&Value> = events.iter().filter(|event| event["event"] == "ended").collect();
    assert!(ended.len() >= 5 && ended.iter().all(|event| event["as_expected"] == true), "{told}");
    assert_eq!(events.last().map(|event| &event["event"]), Some(&"finished".into()));
}
