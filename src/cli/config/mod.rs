//! `lineshaft config`: what a server would run with, without running one.

use serde_json::{Value, json};

use super::{Exit, Failure, output};
use crate::config::{self, Loaded, Origin, Shown};

mod given;

pub use given::Given;

/// Check a configuration, or show what a server would run with and where each value comes from.
///
/// Reads what `serve` reads: defaults, the file, the environment, flags.
#[derive(Debug, clap::Args)]
pub struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say whether a server would start with it, what is taken from Machinery's keys, and what deserves a warning.
    Check(Asked),
    /// Print every value and its origin: default, file with line and column, variable, flag. Secrets are left out.
    Show(Asked),
}

#[derive(Debug, clap::Args)]
struct Asked {
    #[command(flatten)]
    given: Given,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Answers 0 for a configuration that can be used, 2 for one that cannot.
    pub async fn run(self) -> Exit {
        let (What::Check(asked) | What::Show(asked)) = &self.what;
        let json = asked.json;
        let unusable = |error: config::ConfigError| Failure::new(Exit::Usage, error.to_string());
        let loaded = config::load(&asked.given.clone().sources()).map_err(unusable);
        let done = loaded.and_then(|loaded| match &self.what {
            What::Check(_) => check(&loaded, json),
            What::Show(_) => show(&loaded, json),
        });
        let done = done.map(|()| Exit::Ok);
        output::finish(done, json)
    }
}

fn check(loaded: &Loaded, json: bool) -> Result<(), Failure> {
    // Whoever must change it wants to know first what was understood.
    for shown in loaded.taken() {
        if !json {
            output::line(&format!("taken: {} = {} ({})", shown.key, text(&shown), shown.origin))?;
        }
    }
    for warning in &loaded.warnings {
        if !json {
            output::line(&format!("warning: {warning}"))?;
        }
    }
    let stores = loaded.stores().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    if json {
        let taken: Vec<Value> = loaded.taken().iter().map(object).collect();
        let stores = json!({
            "broker": stores.broker.to_string(),
            "ledger": stores.ledger.to_string(),
            "backend": stores.backend.to_string(),
        });
        return output::line(
            &json!({ "good": true, "stores": stores, "taken": taken, "warnings": loaded.warnings }).to_string(),
        );
    }
    output::line(&format!("good: {stores}"))
}

fn show(loaded: &Loaded, json: bool) -> Result<(), Failure> {
    if json {
        return loaded.values().iter().try_for_each(|shown| output::line(&object(shown).to_string()));
    }
    let mut table = output::table(["KEY", "VALUE", "LIVE", "ORIGIN"]);
    for shown in loaded.values() {
        let live = if shown.is_live { "yes" } else { "no" };
        table.add_row([shown.key.clone(), output::cell(&text(&shown)), live.to_owned(), shown.origin.to_string()]);
    }
    output::print_table(&table)
}

fn text(shown: &Shown) -> String {
    shown.value.clone().unwrap_or_else(|| "unset".to_owned())
}

fn object(shown: &Shown) -> Value {
    let (kind, file, line, column, name) = match &shown.origin {
        Origin::Default => ("default", None, None, None, None),
        Origin::File { file, line, column } => {
            ("file", Some(file.to_string_lossy().into_owned()), Some(*line), Some(*column), None)
        }
        Origin::Variable(name) => ("variable", None, None, None, Some(name)),
        Origin::Flag(name) => ("flag", None, None, None, Some(name)),
    };
    json!({
        "key": shown.key,
        "value": shown.value,
        "live": shown.is_live,
        "origin": { "kind": kind, "file": file, "line": line, "column": column, "name": name },
    })
}
