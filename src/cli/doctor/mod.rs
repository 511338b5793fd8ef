//! `doctor`: what is wrong here, and what to do about it.

use serde_json::Value;

use super::config::Given;
use super::{Exit, Failure, Remote, exit, output};

mod machine;
mod service;

/// Check the configuration, this machine, the server and its queues; say what to do about what is not well.
///
/// Looking changes nothing but a file that is written to the data directory and removed. The configuration, the data
/// directory and the open files are those of this machine and this shell: run it where the server runs.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    given: Given,
}

/// How well it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    level: Level,
    /// What was looked at, one word or two.
    name: &'static str,
    /// What was found.
    found: String,
    /// What to do; empty: nothing.
    advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, name, found: found.into(), advice: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, name, found: found.into(), advice: advice.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, name, found: found.into(), advice: advice.into() }
    }

    fn word(&self) -> &'static str {
        match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }

    fn print(&self, json: bool) -> Result<(), Failure> {
        let advice = if self.advice.is_empty() { Value::Null } else { self.advice.clone().into() };
        if json {
            let told = output::object([
                ("check", self.name.into()),
                ("level", self.word().into()),
                ("found", self.found.clone().into()),
                ("advice", advice),
            ]);
            return output::line(&told.to_string());
        }
        let advice = if self.advice.is_empty() { String::new() } else { format!("; {}", output::cell(&self.advice)) };
        output::line(&format!("{:<5} {:<15} {}{advice}", self.word(), self.name, output::cell(&self.found)))
    }
}

impl Command {
    /// Runs the command: 1 if a check failed; warnings leave it at 0.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.look().await, json)
    }

    async fn look(self) -> Result<Exit, Failure> {
        let json = self.remote.json;
        let mut has_failed = false;
        let mut tell = |checks: Vec<Check>| {
            checks.iter().try_for_each(|check| {
                has_failed |= check.level == Level::Fail;
                check.print(json)
            })
        };
        tell(machine::look(&self.given))?;
        tell(service::look(&self.remote).await)?;
        Ok(if has_failed { Exit::TaskFailed } else { Exit::Ok })
    }
}
