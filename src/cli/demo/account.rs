//! What the demo tells: one line for each thing that happens, and a table at the end of each scene.

use std::io;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::cli::output;

/// Tells what happens, as it happens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Account {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    begun: Instant,
    json: bool,
    colours: bool,
}

impl Account {
    /// An account that begins now: text for people, or one JSON object a line.
    pub fn new(json: bool) -> Self {
        let colours = !json && output::colours(&io::stdout());
        Self { inner: Arc::new(Inner { begun: Instant::now(), json, colours }) }
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.inner.begun.elapsed().as_secs_f64()
    }

    /// True if it is told in JSON.
    pub fn is_json(&self) -> bool {
        self.inner.json
    }

    /// A heading; people only.
    pub fn heading(&self, text: &str) {
        if !self.inner.json {
            self.print(&format!("\n{}", self.paint("1", text)));
        }
    }

    /// A sentence of explanation; people only.
    pub fn explain(&self, text: &str) {
        if !self.inner.json {
            self.print(text);
        }
    }

    /// Something that `who` did or that became of it. `event` and `fields` are for programs, `text` is for people.
    pub fn tell<const N: usize>(&self, who: &str, event: &str, text: &str, fields: [(&str, Value); N]) {
        let at = self.seconds();
        if self.inner.json {
            let mut object = Map::from_iter(fields.map(|(key, value)| (key.to_owned(), value)));
            let milliseconds = (at * 1_000.0).round() / 1_000.0;
            object.insert("at_seconds".into(), milliseconds.into());
            object.insert("who".into(), who.into());
            object.insert("event".into(), event.into());
            self.print(&Value::Object(object).to_string());
        } else {
            let who = format!("{who:<9}");
            let who = match event {
                "killed" => self.paint("31", &who),
                "state" => self.paint("36", &who),
                _ => who,
            };
            self.print(&format!("{at:7.2} s  {who} {text}"));
        }
    }

    /// A word in green if `good`, else in red.
    pub fn verdict(&self, good: bool, text: &str) -> String {
        self.paint(if good { "32" } else { "1;31" }, text)
    }

    /// One line as it is; people only unless the caller made JSON.
    pub fn print(&self, text: &str) {
        // Whoever reads may leave early; the demo then ends as its expectations say.
        let _ = output::line(text);
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.inner.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
