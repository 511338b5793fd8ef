//! Which stores a configuration names.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, machinery};
#[cfg(feature = "redis")]
use crate::link::redis::{Address, Server};

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a directory of this machine; made if it is not there.
    Embedded(PathBuf),
    /// On a Redis.
    #[cfg(feature = "redis")]
    Redis(Address),
}

/// The stores that a server runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    /// Carries.
    pub broker: Place,
    /// Decides.
    pub ledger: Place,
    /// Remembers.
    pub backend: Place,
}

impl Combination {
    /// True if all three are one store.
    pub fn is_one(&self) -> bool {
        self.broker == self.ledger && self.broker == self.backend
    }

    /// The directories of embedded stores, each once.
    pub fn directories(&self) -> Vec<&Path> {
        let mut directories = Vec::new();
        for place in [&self.broker, &self.ledger, &self.backend] {
            match place {
                Place::Embedded(dir) if !directories.contains(&dir.as_path()) => directories.push(dir.as_path()),
                _ => {}
            }
        }
        directories
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(dir) => write!(f, "the embedded store in {}", dir.display()),
            #[cfg(feature = "redis")]
            Self::Redis(address) => write!(f, "the Redis at {}, database {}", address.shown(), address.database),
        }
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() {
            return write!(f, "{}", self.broker);
        }
        write!(f, "broker: {}; ledger: {}; backend: {}", self.broker, self.ledger, self.backend)
    }
}

/// The stores that `config` names.
///
/// # Errors
/// [`ConfigError::Refused`]: a store that is not in this build or not in this version, or stores that do not go together.
/// URLs are never repeated: they may hold passwords.
pub fn combination(config: &Config) -> Result<Combination, ConfigError> {
    let read = |key, url: Option<&str>, schemes| url.map(|url| place(key, url, schemes)).transpose();
    let broker = read("broker", config.broker.as_deref(), BROKERS)?;
    let backend = read("result_backend", config.result_backend.as_deref(), BACKENDS)?;
    let ledger = read("server.ledger", config.server.ledger.as_deref(), LEDGERS)?;
    #[cfg(feature = "redis")]
    for (key, place) in [("broker", &broker), ("result_backend", &backend), ("server.ledger", &ledger)] {
        one_server(key, place.as_ref(), config)?;
    }
    let Some(broker) = broker else {
        return match (backend, machinery::first_set(config)) {
            (Some(_), _) => Err(no_broker("result_backend")),
            (None, Some(key)) => Err(no_broker(key)),
            (None, None) => {
                built_in("broker")?;
                together(Place::Embedded(config.server.data_dir.clone()), ledger, None)
            }
        };
    };
    together(broker, ledger, backend)
}

/// Refuses several servers that are no cluster, as a room that took the first for all of them would lose what is on the
/// others, and a cluster with a database.
#[cfg(feature = "redis")]
fn one_server(key: &'static str, place: Option<&Place>, config: &Config) -> Result<(), ConfigError> {
    let Some(Place::Redis(address)) = place else { return Ok(()) };
    let options = config.redis.options(address);
    let is_socket = |server: &Server| matches!(server, Server::Unix(_));
    let why = if options.master_name.is_some() && address.servers.iter().any(is_socket) {
        format!("{key} names a socket, and redis.master_name is set: sentinels are named by host and port")
    } else if options.is_cluster && address.database != 0 {
        let database = address.database;
        format!("{key} names database {database} of a cluster, which has database 0 only: leave it out")
    } else if !options.is_cluster && options.master_name.is_none() && address.servers.len() > 1 {
        format!("{key} names several servers, and redis.cluster_mode is false: name one, or leave cluster_mode out")
    } else {
        return Ok(());
    };
    Err(ConfigError::Refused { key, why })
}

/// Fills in what is not named, and refuses what does not go together.
fn together(broker: Place, ledger: Option<Place>, backend: Option<Place>) -> Result<Combination, ConfigError> {
    let refused = |key: &'static str, why: String| Err(ConfigError::Refused { key, why });
    let ledger = ledger.unwrap_or_else(|| broker.clone());
    let backend = backend.unwrap_or_else(|| broker.clone());
    for (key, other) in [("result_backend", &backend), ("server.ledger", &ledger)] {
        match (&broker, other) {
            (Place::Embedded(dir), Place::Embedded(named)) if !same(dir, named) => {
                let why = format!(
                    "broker is embedded:{} and {key} embedded:{}: the embedded store is one store, name the same directory \
                     in both, or leave {key} unset",
                    dir.display(),
                    named.display()
                );
                return refused(key, why);
            }
            (Place::Embedded(_), Place::Embedded(_)) => {}
            #[cfg(feature = "redis")]
            (Place::Embedded(_), Place::Redis(_)) => {
                let why = format!(
                    "broker is the embedded store and {key} is not: it keeps attempts and states itself, in the step that \
                     carries the task; leave {key} unset, or name a broker on that store"
                );
                return refused(key, why);
            }
            #[cfg(feature = "redis")]
            (Place::Redis(_), _) => {}
        }
    }
    match (&ledger, &backend) {
        (Place::Embedded(ledger), Place::Embedded(backend)) if !same(ledger, backend) => {
            let why = format!(
                "server.ledger is embedded:{} and result_backend embedded:{}: the embedded store is one store, name the same \
                 directory in both",
                ledger.display(),
                backend.display()
            );
            refused("result_backend", why)
        }
        // What is embedded is one store under one name, however its directory was written.
        (Place::Embedded(_), Place::Embedded(_)) => {
            let backend = ledger.clone();
            let broker = if matches!(broker, Place::Embedded(_)) { ledger.clone() } else { broker };
            Ok(Combination { broker, ledger, backend })
        }
        #[cfg(feature = "redis")]
        _ => Ok(Combination { broker, ledger, backend }),
    }
}

// A Machinery file without a broker means Machinery's default, a RabbitMQ on this machine. Running on another store instead
// would look like a queue that stays empty.
fn no_broker(key: &'static str) -> ConfigError {
    let why = format!(
        "{key} is set but broker is not: set broker to embedded:DIR for the store of this server, or to the URL of your \
         broker"
    );
    ConfigError::Refused { key, why }
}

/// Schemes, their feature, and whether the feature is in this build.
type Schemes = &'static [(&'static [&'static str], &'static str, bool)];

const BROKERS: Schemes = &[
    (&["redis", "rediss", "redis+socket"], "redis", cfg!(feature = "redis")),
    (&["amqp", "amqps"], "amqp", cfg!(feature = "amqp")),
    (&["https", "http"], "sqs", cfg!(feature = "sqs")),
];

const BACKENDS: Schemes = &[
    (&["redis", "rediss", "redis+socket"], "redis", cfg!(feature = "redis")),
    (&["amqp", "amqps"], "amqp", cfg!(feature = "amqp")),
    (&["memcache"], "memcached", cfg!(feature = "memcached")),
    (&["mongodb", "mongodb+srv"], "mongodb", cfg!(feature = "mongodb")),
];

const LEDGERS: Schemes = &[(&["redis", "rediss", "redis+socket"], "redis", cfg!(feature = "redis"))];

fn place(key: &'static str, url: &str, schemes: Schemes) -> Result<Place, ConfigError> {
    let refused = |why: String| Err(ConfigError::Refused { key, why });
    if let Some(dir) = url.strip_prefix("embedded:") {
        if dir.is_empty() {
            return refused(format!("{key} is embedded: without a directory, write embedded:DIR"));
        }
        built_in(key)?;
        return Ok(Place::Embedded(dir.into()));
    }
    // Only a scheme is quoted, and only one that looks like it: a URL may begin with a password by mistake.
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match schemes.iter().find(|(names, ..)| names.contains(&scheme)) {
        Some((_, feature, false)) => {
            refused(format!("{key} needs the feature `{feature}`: build with `--features {feature}`"))
        }
        #[cfg(feature = "redis")]
        Some((_, "redis", true)) => {
            Address::parse(url).map(Place::Redis).or_else(|error| refused(format!("{key} {error}")))
        }
        Some((_, feature, true)) => refused(format!(
            "{key} names a store of kind `{feature}`, which this version does not have yet: it runs on its embedded \
             store, {key}: embedded:DIR"
        )),
        None => {
            let known: Vec<&str> = schemes.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
            refused(format!("{key} begins with no scheme that is known: embedded:DIR, or one of {}", known.join(", ")))
        }
    }
}

fn built_in(key: &'static str) -> Result<(), ConfigError> {
    if cfg!(feature = "embedded") {
        return Ok(());
    }
    let why = format!("{key} needs the feature `embedded`: build with `--features embedded`");
    Err(ConfigError::Refused { key, why })
}

// The same directory, however it is written; one that is not there yet is compared as written.
fn same(a: &Path, b: &Path) -> bool {
    let real =
        |dir: &Path| std::fs::canonicalize(dir).or_else(|_| std::path::absolute(dir)).unwrap_or_else(|_| dir.into());
    real(a).components().eq(real(b).components())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(broker: Option<&str>, backend: Option<&str>) -> Config {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Config { broker: own(broker), result_backend: own(backend), ..Config::default() }
    }

    fn refusal(config: &Config) -> String {
        combination(config).unwrap_err().to_string()
    }

    #[test]
    fn nothing_configured_is_the_embedded_store_in_the_data_directory() {
        let one = |config: &Config| {
            let stores = combination(config).unwrap();
            assert!(stores.is_one());
            stores.directories()[0].to_owned()
        };
        assert_eq!(one(&Config::default()), Path::new("./lineshaft-data"));
        assert_eq!(one(&with(Some("embedded:d"), None)), Path::new("d"));
        assert_eq!(one(&with(Some("embedded:d"), Some("embedded:./d/"))), Path::new("d"));
    }

    #[test]
    fn two_directories_or_a_missing_broker_are_refused_naming_both_choices() {
        assert!(refusal(&with(Some("embedded:a"), Some("embedded:b"))).contains("same directory"));
        let text = refusal(&with(None, Some("embedded:a")));
        assert!(text.starts_with("result_backend is set but broker is not") && text.contains("embedded:DIR"), "{text}");
        let queue = Config { default_queue: Some("q".into()), ..Config::default() };
        assert!(refusal(&queue).starts_with("default_queue is set but broker is not"));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn on_a_redis_ledger_and_states_are_there_too_unless_another_store_is_named() {
        let stores = combination(&with(Some("redis://:secret@h:1/2"), None)).unwrap();
        assert!(stores.is_one() && stores.directories().is_empty());
        assert_eq!(stores.to_string(), "the Redis at h:1, database 2");
        let mut config = with(Some("redis://h"), Some("redis://h:2"));
        assert!(!combination(&config).unwrap().is_one());
        config.server.ledger = Some("embedded:d".into());
        let stores = combination(&config).unwrap();
        assert_eq!((stores.ledger.clone(), stores.directories()), (Place::Embedded("d".into()), vec![Path::new("d")]));
        config.result_backend = Some("embedded:e".into());
        assert!(refusal(&config).contains("same directory"));
        assert!(refusal(&with(Some("embedded:d"), Some("redis://:secret@h"))).contains("leave result_backend unset"));
        assert!(refusal(&with(Some("redis://a,b/1"), None)).starts_with("broker names database 1 of a cluster"));
        let mut sentinels = with(Some("redis://:secret@a,b"), None);
        sentinels.redis.master_name = Some("mymaster".into());
        assert!(combination(&sentinels).is_ok());
        sentinels.broker = Some("redis+socket://secret@/a.sock".into());
        assert!(refusal(&sentinels).starts_with("broker names a socket"));
        let text = refusal(&with(Some("redis://:secret@h:port"), None));
        assert!(text.starts_with("broker has a port") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_store_that_is_not_here_says_what_would_bring_it_and_never_its_password() {
        for url in ["amqp://u:secret@h/", "https://sqs.secret/1"] {
            let text = refusal(&with(Some(url), None));
            assert!(!text.contains("secret"), "{text}");
            assert!(text.contains("does not have yet") || text.contains("build with `--features"), "{text}");
        }
        if !cfg!(feature = "sqs") {
            let text = refusal(&with(Some("https://sqs.eu/1"), None));
            assert_eq!(text, "broker needs the feature `sqs`: build with `--features sqs`");
        }
        assert!(refusal(&with(Some("secret"), None)).starts_with("broker begins with no scheme that is known"));
        assert!(refusal(&with(Some("embedded:"), None)).contains("without a directory"));
    }
}
