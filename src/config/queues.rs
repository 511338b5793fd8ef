//! Section `queues`.

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, quoted};
use crate::task::QueueName;

/// Greatest weight of a queue.
const WEIGHT_MAX: u32 = 1000;

/// What is said of one queue, under its name. In the file only: a name is no good part of a variable's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Multiplies the weight of every worker's subscription to it, so that a worker of several queues takes more of this one
    /// while all of them have tasks: 1 to 1,000. Default 1. Since 0.1.
    pub weight: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { weight: 1 }
    }
}

/// Checks names and weights.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    for (name, queue) in &config.queues {
        let refused = |key: String, value: String, range: String| ConfigError::OutOfRange { key, value, range };
        if let Err(why) = QueueName::new(name) {
            return Err(refused(format!("queues.{name}"), quoted(name), format!("a queue's name: it {why}")));
        }
        if !(1..=WEIGHT_MAX).contains(&queue.weight) {
            let key = format!("queues.{name}.weight");
            return Err(refused(key, queue.weight.to_string(), format!("1 to {WEIGHT_MAX}")));
        }
    }
    Ok(())
}
