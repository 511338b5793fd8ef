//! What the server runs with: defaults, then a YAML file, then the environment, then flags; the last one that names a key
//! wins. One struct per section.
//!
//! At the top stand the keys of a Machinery `config.yml`, with its names and its variables, so that such a file starts
//! this server too; its sections `amqp`, `redis`, `sqs` and `dynamodb` are kept for when this server runs on such stores.
//! Beside them stand our sections: `server`, `leases`, `limits`, `queues`, `log`, `telemetry`. A variable of ours is the section and the key:
//! `LINESHAFT_LEASES_LOST_MAX`.
//!
//! Differences from Machinery: the whole file is read, not its first 1,000 bytes; a key that nobody knows is refused; loading
//! one file leaves no trace in the next; variables do not switch TLS on.

mod keys;
mod leases;
mod limits;
mod load;
mod log;
mod machinery;
mod origin;
mod queues;
mod redis;
pub mod reload;
mod secret;
mod server;
mod span;
mod stores;
mod telemetry;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::api::Bounds;
use crate::service::types::Settings;
use crate::task::QueueName;

pub use self::redis::Redis;
pub use leases::Leases;
pub use limits::Limits;
pub use load::{Loaded, Sources, load};
pub use log::{Log, LogFormat};
pub use machinery::{Amqp, Argument, Arguments, DynamoDb, Sqs};
pub use origin::{Origin, Shown};
pub use queues::Queue;
pub use server::Server;
pub use span::Span;
pub use stores::{Combination, Place, combination};
pub use telemetry::Telemetry;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where tasks are carried: `embedded:DIR`, or the URL of a broker as Machinery writes it. Unset: the embedded store
    /// in `server.data_dir`. Variable `BROKER`. Since 0.1.
    pub broker: Option<String>,
    /// Where task states are kept: `embedded:DIR`, or the URL of a backend as Machinery writes it. Unset: the broker's own
    /// store. Variable `RESULT_BACKEND`. Since 0.1.
    pub result_backend: Option<String>,
    /// The queue of tasks that name none: 1 to 200 bytes, no spaces. Default `machinery_tasks`, as in Machinery. Variable
    /// `DEFAULT_QUEUE`. Since 0.1.
    pub default_queue: Option<String>,
    /// How long results are kept after the end of their task: whole seconds, 1 to 315,360,000 (ten years); 0 is the
    /// default, 3,600, as in Machinery. Its example's 3600000 is a slip: 41 days, where an hour in milliseconds was meant.
    /// Live. Variable `RESULTS_EXPIRE_IN`. Since 0.1.
    pub results_expire_in: Option<u64>,
    /// What separates several brokers in `broker`. Kept. Variables `MULTIPLE_BROKEN_SEPARATOR`, as Machinery spells it, and
    /// `MULTIPLE_BROKER_SEPARATOR`. Since 0.1.
    pub multiple_broker_separator: Option<String>,
    /// Where locks of periodic tasks are kept. Kept. Variable `LOCK`. Since 0.1.
    pub lock: Option<String>,
    /// True: Machinery leaves signals alone. Kept; this server always drains on SIGTERM. Variable `NO_UNIX_SIGNALS`. Since
    /// 0.1.
    pub no_unix_signals: Option<bool>,
    /// How queues are declared on RabbitMQ. Since 0.1.
    pub amqp: Amqp,
    /// How SQS is asked. Since 0.1.
    pub sqs: Sqs,
    /// Connections to Redis. Since 0.1.
    pub redis: Redis,
    /// Names of tables. Since 0.1.
    pub dynamodb: DynamoDb,
    /// Address, directories, stopping. Since 0.1.
    pub server: Server,
    /// How long workers may be silent, and what follows. Since 0.1.
    pub leases: Leases,
    /// Sizes and counts beyond which requests are refused. Since 0.1.
    pub limits: Limits,
    /// What is said of single queues, by their names. Live. Since 0.1.
    pub queues: BTreeMap<String, Queue>,
    /// What is logged, and how. Since 0.1.
    pub log: Log,
    /// What is told to those who watch the server. Since 0.1.
    pub telemetry: Telemetry,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file or a variable cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// No such key.
    #[error("{origin}: no key {key:?} is known{}", nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    UnknownKey {
        /// The file, or the environment.
        origin: String,
        /// The key, with its section.
        key: String,
        /// The known key that resembles it most.
        nearest: Option<String>,
    },
    /// A value out of its range.
    #[error("{key} is {value}, it must be {range}")]
    OutOfRange {
        /// The key, with its section.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        range: String,
    },
    /// Values that do not go together, or stores that are not here.
    #[error("{why}")]
    Refused {
        /// The key, with its section.
        key: &'static str,
        /// One sentence.
        why: String,
    },
    /// Any of them, and who is to blame.
    #[error("{origin}: {error}")]
    At {
        /// File, line and column; or a variable; or a flag.
        origin: String,
        /// What is wrong.
        error: Box<ConfigError>,
    },
}

impl ConfigError {
    /// The key whose value is wrong, where one is known.
    fn key(&self) -> Option<&str> {
        match self {
            Self::OutOfRange { key, .. } => Some(key),
            Self::Refused { key, .. } => Some(key),
            Self::Unreadable(_) | Self::UnknownKey { .. } | Self::At { .. } => None,
        }
    }
}

const TEN_YEARS_SECONDS: u64 = 10 * 365 * 86400;

impl Config {
    /// Reads a YAML file, and nothing but it: an existing Machinery `config.yml`, or one of ours. The file is at most 1 MiB of
    /// UTF-8.
    ///
    /// # Errors
    /// [`ConfigError`], with file, line and column: a file that cannot be read, a key that is not known, a value of another
    /// type or out of its range.
    pub fn from_yaml(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let sources = Sources { file: Some(path.as_ref().to_owned()), ..Sources::default() };
        Ok(load(&sources)?.config)
    }

    /// Reads the environment of this process, and nothing but it: Machinery's variables (`BROKER`, `AMQP_EXCHANGE`) and ours
    /// (`LINESHAFT_LEASES_LOST_MAX`). An empty variable counts as not set.
    ///
    /// # Errors
    /// [`ConfigError`], with the variable: a key that is not known, a value of another type or out of its range.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let sources = Sources { environment: Sources::environment(), ..Sources::default() };
        Ok(load(&sources)?.config)
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] for the first value that is out of its range, by name and limit.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(queue) = &self.default_queue
            && let Err(why) = QueueName::new(queue)
        {
            let value = quoted(queue);
            return Err(ConfigError::OutOfRange {
                key: "default_queue".to_owned(),
                value,
                range: format!("a queue's name: it {why}"),
            });
        }
        within("results_expire_in", self.results_expire_in.unwrap_or(0), 0, TEN_YEARS_SECONDS)?;
        self.server.check()?;
        self.leases.check()?;
        self.limits.check()?;
        machinery::check(self)?;
        self.redis.check()?;
        queues::check(self)?;
        self.log.check()?;
        self.telemetry.check(&self.server)
    }

    /// As the service takes it. To be called on what [`Config::check`] found good.
    pub fn settings(&self) -> Settings {
        let base = Settings::default();
        let seconds = self.results_expire_in.filter(|seconds| *seconds > 0);
        Settings {
            default_queue: self.default_queue.as_deref().map_or(base.default_queue, QueueName::trusted),
            results_expire_in: seconds.map_or(base.results_expire_in, std::time::Duration::from_secs),
            heartbeat_interval: self.leases.heartbeat_interval.into(),
            lease_duration: self.leases.lease_duration.into(),
            silence_max: self.leases.silence_max.into(),
            cancel_grace: self.leases.cancel_grace.into(),
            lost_max: self.leases.lost_max,
            keep_failed: self.leases.keep_failed,
            dead_expire_in: self.leases.dead_expire_in.into(),
            task_bytes_max: self.limits.task_bytes_max,
            result_bytes_max: self.limits.result_bytes_max,
            message_bytes_max: self.limits.message_bytes_max,
            batch_max: self.limits.batch_max,
            args_max: self.limits.args_max,
            headers_max: self.limits.headers_max,
            delay_max: self.limits.delay_max.into(),
            session_leases_max: self.limits.session_leases_max,
            held_max: self.limits.session_leases_max as usize,
            reports_max: self.limits.batch_max,
            sessions_max: self.limits.sessions_max,
            callback_depth_max: self.limits.callback_depth_max,
            group_tasks_max: self.limits.group_tasks_max,
            chain_tasks_max: self.limits.chain_tasks_max,
            sends_in_flight_max: self.limits.sends_in_flight_max,
            request_window: self.limits.request_window.into(),
            drain_deadline: self.server.drain_deadline.into(),
            session_bytes_max: self.limits.session_bytes_max,
            parked_max: self.limits.parked_max,
            weights: self
                .queues
                .iter()
                .map(|(name, queue)| (QueueName::trusted(name.as_str()), queue.weight))
                .collect(),
            spans: base.spans,
        }
    }

    /// As the worker's stream takes it.
    pub fn bounds(&self) -> Bounds {
        // What the protocol promises to the worker, which else takes this server for dead.
        let settings = self.settings();
        let breath = Bounds::default().speak_every.min(settings.silence_max / 3).min(settings.lease_duration / 3);
        Bounds { stall_max: self.limits.stall_max.into(), speak_every: breath, ..Bounds::default() }
    }
}

/// A text as it is quoted in a sentence, cut where it is longer than a sentence may be.
fn quoted(text: &str) -> String {
    const QUOTED_BYTES_MAX: usize = 60;
    let cut = &text[..text.floor_char_boundary(QUOTED_BYTES_MAX)];
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{text:?}") }
}

/// Refuses what is not from `min` to `max`, both included.
fn within<T: PartialOrd + std::fmt::Display + Copy>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { key: key.to_owned(), value: value.to_string(), range: format!("{min} to {max}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_those_of_the_service() {
        let config = Config::default();
        config.check().unwrap();
        assert_eq!(format!("{:?}", config.settings()), format!("{:?}", Settings::default()));
        assert_eq!(config.bounds(), Bounds::default());
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_limit() {
        let told = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(told(|c| c.leases.lost_max = 0), "leases.lost_max is 0, it must be 1 to 1000");
        assert_eq!(told(|c| c.limits.batch_max = 10_001), "limits.batch_max is 10001, it must be 1 to 10000");
        assert_eq!(
            told(|c| c.leases.lease_duration = Span::seconds(1)),
            "leases.lease_duration is 1s, it must be at least twice leases.heartbeat_interval (10s)"
        );
        assert_eq!(
            told(|c| c.server.drain_deadline = Span::seconds(7200)),
            "server.drain_deadline is 2h, it must be 0s to 1h"
        );
        assert!(told(|c| c.default_queue = Some("a b".into())).starts_with("default_queue is \"a b\""));
        assert!(told(|c| c.results_expire_in = Some(u64::MAX)).starts_with("results_expire_in is"));
    }
}
