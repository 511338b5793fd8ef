//! Finds the bodies and states in a text, under however many layers of quoting it shows them.

use serde_json::value::RawValue;

/// What stands in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Whole tasks, those inside others included.
    pub(crate) tasks: usize,
    /// Whole states.
    pub(crate) states: usize,
    /// Argument lists.
    pub(crate) args: usize,
    /// Records of groups.
    pub(crate) groups: usize,
    /// Tasks that a test wrote and not Machinery: not all keys are there.
    pub(crate) hand_written: usize,
    /// Tasks cut short by whoever recorded them.
    pub(crate) cut: usize,
}

/// One of them.
#[derive(Debug)]
pub(crate) enum Found {
    Body(String),
    State(String),
    HandWritten(String),
    Cut(String),
    Group(String),
}

/// All that `text` holds, outermost only.
pub(crate) fn tasks_and_states(text: &str) -> Vec<Found> {
    let mut text = text.to_owned();
    // Redis quotes what MONITOR shows, and some notes quote that again.
    for _ in 0..4 {
        let found = at_this_layer(&text);
        if !found.is_empty() {
            return found;
        }
        text = unquoted(&text);
    }
    Vec::new()
}

fn at_this_layer(text: &str) -> Vec<Found> {
    const STARTS: [&str; 3] = ["{\"UUID\":", "{\"TaskUUID\":", "{\"GroupUUID\":"];
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((at, start)) = STARTS.iter().filter_map(|start| Some((rest.find(start)?, *start))).min() {
        rest = &rest[at..];
        let whole = serde_json::Deserializer::from_str(rest).into_iter::<Box<RawValue>>().next();
        let length = match whole {
            Some(Ok(value)) => {
                let value = value.get().to_owned();
                let length = value.len();
                found.push(match start {
                    "{\"UUID\":" if value.contains("\"IgnoreWhenTaskNotRegistered\":") => Found::Body(value),
                    "{\"UUID\":" => Found::HandWritten(value),
                    "{\"TaskUUID\":" => Found::State(value),
                    _ => Found::Group(value),
                });
                length
            }
            _ => {
                let length = rest.find('…').expect("whole or cut");
                found.push(Found::Cut(rest[..length].to_owned()));
                length
            }
        };
        rest = &rest[length..];
    }
    found
}

fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}
