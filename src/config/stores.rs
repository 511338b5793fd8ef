//! Which stores a configuration names.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError, machinery};

/// The embedded store, in its directory: what this version can run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// Made if it is not there.
    pub dir: PathBuf,
}

/// The stores that `config` names.
///
/// # Errors
/// [`ConfigError::Refused`]: a store that is not in this build or not in this version, or stores that do not go together.
/// URLs are never repeated: they may hold passwords.
pub fn combination(config: &Config) -> Result<Embedded, ConfigError> {
    let broker = config.broker.as_deref().map(|url| dir("broker", url, BROKERS)).transpose()?;
    let backend = config.result_backend.as_deref().map(|url| dir("result_backend", url, BACKENDS)).transpose()?;
    match (broker, backend) {
        (Some(broker), Some(backend)) if !same(broker, backend) => Err(ConfigError::Refused {
            key: "result_backend",
            why: format!(
                "broker is embedded:{} and result_backend embedded:{}: the embedded store is one store, name the same \
                 directory in both, or leave result_backend unset",
                broker.display(),
                backend.display()
            ),
        }),
        (Some(dir), _) => Ok(Embedded { dir: dir.to_owned() }),
        (None, None) => match machinery::first_set(config) {
            None => {
                built_in("broker")?;
                Ok(Embedded { dir: config.server.data_dir.clone() })
            }
            Some(key) => Err(no_broker(key)),
        },
        (None, Some(_)) => Err(no_broker("result_backend")),
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

fn dir<'a>(key: &'static str, url: &'a str, schemes: Schemes) -> Result<&'a Path, ConfigError> {
    let refused = |why: String| Err(ConfigError::Refused { key, why });
    if let Some(dir) = url.strip_prefix("embedded:") {
        if dir.is_empty() {
            return refused(format!("{key} is embedded: without a directory, write embedded:DIR"));
        }
        built_in(key)?;
        return Ok(Path::new(dir));
    }
    // Only a scheme is quoted, and only one that looks like it: a URL may begin with a password by mistake.
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match schemes.iter().find(|(names, ..)| names.contains(&scheme)) {
        Some((_, feature, false)) => {
            refused(format!("{key} needs the feature `{feature}`: build with `--features {feature}`"))
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
        assert_eq!(combination(&Config::default()).unwrap().dir, Path::new("./lineshaft-data"));
        assert_eq!(combination(&with(Some("embedded:d"), None)).unwrap().dir, Path::new("d"));
        assert_eq!(combination(&with(Some("embedded:d"), Some("embedded:./d/"))).unwrap().dir, Path::new("d"));
    }

    #[test]
    fn two_directories_or_a_missing_broker_are_refused_naming_both_choices() {
        assert!(refusal(&with(Some("embedded:a"), Some("embedded:b"))).contains("same directory"));
        let text = refusal(&with(None, Some("embedded:a")));
        assert!(text.starts_with("result_backend is set but broker is not") && text.contains("embedded:DIR"), "{text}");
        let queue = Config { default_queue: Some("q".into()), ..Config::default() };
        assert!(refusal(&queue).starts_with("default_queue is set but broker is not"));
    }

    #[test]
    fn a_store_that_is_not_here_says_what_would_bring_it_and_never_its_password() {
        for url in ["redis://:secret@h:1/0", "amqp://u:secret@h/", "https://sqs.secret/1"] {
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
