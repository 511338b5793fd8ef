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
    /// `pretty` for people (`text` is another word for it), `json` for programs, one object a line; `auto`: `pretty` if
    /// standard error is a terminal, `json` otherwise. Default `auto`. Since 0.1.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, for programs elsewhere.
    #[default]
    Auto,
    /// For people.
    #[serde(alias = "text")]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// What is written to a standard error that is a terminal, or is none: never [`LogFormat::Auto`].
    pub fn settled(self, is_terminal: bool) -> Self {
        match self {
            Self::Auto if is_terminal => Self::Pretty,
            Self::Auto => Self::Json,
            given => given,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_for_people_and_anything_else_for_programs() {
        assert_eq!(LogFormat::default().settled(true), LogFormat::Pretty);
        assert_eq!(LogFormat::default().settled(false), LogFormat::Json);
        for given in [LogFormat::Pretty, LogFormat::Json] {
            assert_eq!((given.settled(true), given.settled(false)), (given, given));
        }
    }

    #[test]
    fn text_is_another_word_for_pretty() {
        let read = |word: &str| serde_json::from_value::<LogFormat>(word.into());
        assert_eq!(read("text").unwrap(), LogFormat::Pretty);
        assert_eq!(read("pretty").unwrap(), LogFormat::Pretty);
        assert!(read("xml").is_err());
    }
}
