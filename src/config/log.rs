//! Section `log`.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or directives such as `info,lineshaft::service=debug`.
    /// Default `info`. Live. Since 0.1.
    pub level: String,
    /// `text` for people, `json` for programs. Default `text`. Since 0.1.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        crate::telemetry::check(&self.level).map_err(|why| ConfigError::OutOfRange {
            key: "log.level".to_owned(),
            value: super::quoted(&self.level),
            range: format!("a level or directives, as info,lineshaft::service=debug ({why})"),
        })
    }
}
