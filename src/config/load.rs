//! Reading the sources, in their order.

use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::origin::{self, Origin, Origins, Shown};
use super::yaml::{self, Found};
use super::{Combination, Config, ConfigError, keys, machinery, stores};

/// Where values come from, beside the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A YAML file.
    pub file: Option<PathBuf>,
    /// The environment, as pairs; passed in, so that a test has its own.
    pub environment: Vec<(String, String)>,
    /// Flags, as `section.key` and value.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The variables of this process; one that is not UTF-8 is none of ours.
    pub fn environment() -> Vec<(String, String)> {
        let utf8 = |(name, text): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, text.into_string().ok()?))
        };
        std::env::vars_os().filter_map(utf8).collect()
    }

    /// The file's bytes, if a file is named.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`].
    pub(super) fn bytes(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        self.file.as_deref().map(yaml::bytes_of).transpose()
    }
}

/// A configuration that was read and found good.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    origins: Origins,
}

impl Loaded {
    /// Every value with its origin, in order of the keys, secrets redacted.
    pub fn values(&self) -> Vec<Shown> {
        origin::shown(&self.config, &self.origins)
    }

    /// What was taken over from Machinery's keys in the file: each with its value, secrets redacted, in order of the keys.
    pub fn taken(&self) -> Vec<Shown> {
        let ones = |shown: &Shown| {
            let (section, key) = shown.key.split_once('.').unwrap_or(("", &shown.key));
            matches!(shown.origin, Origin::File { .. })
                && (machinery::is_section(section) || machinery::is_ones(section, key))
        };
        self.values().into_iter().filter(ones).collect()
    }

    /// The stores that it names.
    ///
    /// # Errors
    /// [`ConfigError::At`] or [`ConfigError::Refused`]: a store that is not in this build or not in this version, or stores
    /// that do not go together.
    pub fn stores(&self) -> Result<Combination, ConfigError> {
        stores::combination(&self.config).map_err(|error| at(&self.origins, error))
    }
}

/// Reads and checks a configuration.
///
/// # Errors
/// [`ConfigError`]: a file that cannot be read, an unknown key, a value of another type or out of its range; with file,
/// line and column, or the variable or flag, wherever one is to blame.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let bytes = sources.bytes()?;
    from_bytes(sources, bytes.as_deref())
}

/// As [`load`], the file being read already.
pub(super) fn from_bytes(sources: &Sources, bytes: Option<&[u8]>) -> Result<Loaded, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let mut origins = Origins::new();
    if let (Some(file), Some(bytes)) = (&sources.file, bytes) {
        let name = file.display().to_string();
        let mut found = yaml::read(&name, bytes)?;
        keys::sift(&name, &mut found)?;
        placed(file, &found, &mut origins);
        figment = figment.merge(Values(found.values));
    }
    figment = figment.merge(Values(from_environment(&sources.environment, &mut origins)?));
    let mut flags = Dict::new();
    for (full, text) in &sources.flags {
        let (section, key) = full.split_once('.').unwrap_or(("", full));
        insert(&mut flags, section, key, value(section, key, text));
        origins.insert((*full).to_owned(), Origin::Flag(format!("--{}", key.replace('_', "-"))));
    }
    figment = figment.merge(Values(flags));

    let mut config: Config = figment.extract().map_err(|e| described(&origins, e))?;
    config.check().map_err(|error| at(&origins, error))?;
    let warnings = machinery::settle(&mut config);
    let warnings = warnings.into_iter().map(|(key, text)| format!("{}{key}: {text}", before(&origins, key))).collect();
    Ok(Loaded { config, warnings, origins })
}

fn placed(file: &Path, found: &Found, origins: &mut Origins) {
    for (path, (line, column)) in &found.places {
        let origin = Origin::File { file: file.to_owned(), line: *line, column: *column };
        origins.insert(path.join("."), origin);
    }
}

fn from_environment(variables: &[(String, String)], origins: &mut Origins) -> Result<Dict, ConfigError> {
    let all = keys::known();
    let ours = || all.iter().filter(|(section, key)| !section.is_empty() && !machinery::is_ones(section, key));
    let mut found = Dict::new();
    let mut separator: Option<&str> = None;
    // An empty variable is one that is not set: that is how container tools write it. Those of Machinery that have their
    // section's name before them come last and win, as there.
    let mut set: Vec<&(String, String)> = variables.iter().filter(|(_, text)| !text.is_empty()).collect();
    set.sort_by_key(|(name, _)| machinery::of_variable(name).is_some_and(|key| key.2 != name));
    for (name, text) in set {
        if let Some((section, key, _, kind)) = machinery::of_variable(name) {
            if *key == "multiple_broker_separator" && separator.replace(text).is_some_and(|other| other != text) {
                return Err(ConfigError::Unreadable(
                    "MULTIPLE_BROKEN_SEPARATOR and MULTIPLE_BROKER_SEPARATOR are two spellings of one variable and say \
                     different things"
                        .to_owned(),
                ));
            }
            insert(&mut found, section, key, machinery::value(*kind, text));
            origins.insert(keys::dotted(section, key), Origin::Variable(name.clone()));
            continue;
        }
        let of_section = |section: &str| name.strip_prefix(&format!("LINESHAFT_{}_", section.to_uppercase()));
        let Some((section, rest)) = ours().find_map(|(section, _)| Some((section, of_section(section)?))) else {
            continue;
        };
        let key = rest.to_lowercase();
        if let Some(variable) = machinery::variable_of(section, &key) {
            let name_of_key = keys::dotted(section, &key);
            return Err(ConfigError::Unreadable(format!("{name}: the variable of {name_of_key} is {variable}")));
        }
        if ours().any(|(s, k)| s == section && *k == key) && rest.to_uppercase() == rest {
            insert(&mut found, section, &key, value(section, &key, text));
            origins.insert(keys::dotted(section, &key), Origin::Variable(name.clone()));
        } else if !is_service_link(rest) {
            return Err(keys::unknown(name, keys::dotted(section, &key), &all));
        }
    }
    Ok(found)
}

// Kubernetes gives every container variables about each service beside it: those of one that is called `lineshaft-server`
// would look like ours.
fn is_service_link(key: &str) -> bool {
    key == "PORT" || ["PORT_", "SERVICE_HOST", "SERVICE_PORT"].iter().any(|start| key.starts_with(start))
}

/// A text from the environment or the command line as the value of a key of ours: only what is a number or a truth in the
/// defaults is read as one, so that a directory may be called `123`.
fn value(section: &str, key: &str, text: &str) -> Value {
    let plain = |text: &str| Value::String(Tag::Default, text.to_owned());
    match (section, key) {
        ("server", "listen" | "data_dir") | ("log", _) | ("telemetry", "otlp_endpoint" | "service_name") => {
            return plain(text);
        }
        ("redis", "tls_ca" | "tls_cert" | "tls_key" | "sentinel_user" | "sentinel_password") => return plain(text),
        // The one number that is not whole. What is none is refused for its type.
        ("telemetry", "sample_ratio") => return text.parse::<f64>().map_or_else(|_| plain(text), Value::from),
        _ => {}
    }
    match (text.parse::<u64>(), text.parse::<bool>()) {
        (Ok(number), _) => Value::from(number),
        (_, Ok(truth)) => Value::from(truth),
        _ => plain(text),
    }
}

fn insert(dict: &mut Dict, section: &str, key: &str, value: Value) {
    if section.is_empty() {
        dict.insert(key.to_owned(), value);
        return;
    }
    let inner = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, inner) = inner {
        inner.insert(key.to_owned(), value);
    }
}

/// The error with whoever is to blame for its key.
fn at(origins: &Origins, error: ConfigError) -> ConfigError {
    let origin = error.key().and_then(|key| origin_of(origins, key));
    match origin {
        Some(origin) => ConfigError::At { origin: origin.to_string(), error: Box::new(error) },
        None => error,
    }
}

// Of the key, else of the section it stands in.
fn origin_of<'a>(origins: &'a Origins, key: &str) -> Option<&'a Origin> {
    let above = || key.rsplit_once('.').and_then(|(above, _)| origin_of(origins, above));
    origins.get(key).or_else(above)
}

fn before(origins: &Origins, key: &str) -> String {
    origin_of(origins, key).map(|origin| format!("{origin}: ")).unwrap_or_default()
}

// The first error of figment, with the key and where its value came from; never the value itself, which may hold a password.
fn described(origins: &Origins, error: figment::Error) -> ConfigError {
    let key = error.path.join(".");
    ConfigError::Unreadable(format!("{}{key}: {}", before(origins, &key), without_value(&error.kind)))
}

fn without_value(kind: &figment::error::Kind) -> String {
    use figment::error::Kind;
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("must be {}", people(expected)),
        Kind::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
        // The standard library's word on addresses.
        Kind::Message(text) if text == "invalid socket address syntax" => {
            "must be an address and a port, as 127.0.0.1:7340".to_owned()
        }
        Kind::InvalidLength(_, expected) => format!("must be {expected}"),
        other => other.to_string(),
    }
}

// What a type is to those who write configurations.
fn people(expected: &str) -> String {
    match expected {
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "f64" => "a number, as 0.25".to_owned(),
        "bool" | "a boolean" => "true or false".to_owned(),
        "string" | "a string" => "a text; put it in quotes".to_owned(),
        "path string" => "a path".to_owned(),
        "a map" => "keys and values, each on a line of its own".to_owned(),
        section if section.starts_with("struct ") => {
            "a section: keys and values, each on a line of its own under it".to_owned()
        }
        other => other.to_owned(),
    }
}

// One source.
struct Values(Dict);

impl Provider for Values {
    // Figment's own idea of origins is coarser than ours.
    fn metadata(&self) -> Metadata {
        Metadata::default()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    fn from(yaml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yml");
        std::fs::write(&file, yaml).unwrap();
        load(&Sources {
            file: Some(file),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
        })
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_defaults() {
        let yaml = "default_queue: from_file\nleases:\n  lost_max: 5\n  heartbeat_interval: 2s\nlimits:\n";
        let loaded = from(
            yaml,
            &[("DEFAULT_QUEUE", "123"), ("LINESHAFT_LEASES_LOST_MAX", "7"), ("LINESHAFT_SERVER_LISTEN", "127.0.0.1:1")],
            &[("server.listen", "127.0.0.1:0")],
        )
        .unwrap();
        let config = loaded.config;
        assert_eq!(config.default_queue.as_deref(), Some("123"));
        assert_eq!((config.leases.lost_max, config.leases.heartbeat_interval), (7, Span::seconds(2)));
        assert_eq!(config.server.listen.port(), 0);
        assert_eq!(config.limits, crate::config::Limits::default());
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn a_machinery_file_is_read_and_what_is_not_used_said() {
        let yaml = "broker: 'embedded:d'\nresults_expire_in: 60\namqp:\n  exchange: e\n  queue_binding_args: {a: 1, b: c, d: yes}\nredis:\n  max_idle: 3\nno_unix_signals: yes\n";
        let loaded = from(yaml, &[("AMQP_EXCHANGE_TYPE", "topic"), ("AMQP_URL", "u"), ("HOME", "h")], &[]).unwrap();
        let config = &loaded.config;
        assert_eq!(config.results_expire_in, Some(60));
        assert_eq!((config.amqp.exchange.as_deref(), config.amqp.exchange_type.as_deref()), (Some("e"), Some("topic")));
        assert_eq!(config.amqp.queue_binding_args.as_ref().unwrap()["a"], crate::config::Argument::Whole(1));
        assert_eq!((config.redis.max_idle, config.no_unix_signals), (Some(3), Some(true)));
        let warned: Vec<&str> = loaded.warnings.iter().map(|w| w.split(": ").nth(1).unwrap()).collect();
        assert_eq!(warned, ["amqp", "redis", "no_unix_signals"], "{:?}", loaded.warnings);
        let taken: Vec<String> = loaded.taken().into_iter().map(|shown| shown.key).collect();
        assert_eq!(
            taken,
            [
                "amqp.exchange",
                "amqp.queue_binding_args.a",
                "amqp.queue_binding_args.b",
                "amqp.queue_binding_args.d",
                "broker",
                "no_unix_signals",
                "redis.max_idle",
                "results_expire_in"
            ]
        );
    }

    #[test]
    fn machinerys_variables_are_read_as_its_library_reads_them() {
        let loaded = from(
            "",
            &[
                ("BROKER", "embedded:d"),
                ("MULTIPLE_BROKEN_SEPARATOR", ";"),
                ("AMQP_PREFETCH_COUNT", "7"),
                ("AMQP_AUTO_DELETE", "T"),
                ("AMQP_QUEUE_BINDING_ARGS", "x-match:any, image:png"),
                ("REDIS_CLUSTER_MODE", "0"),
                ("REDIS_DELAYED_TASKS_KEY", "123"),
                ("GROUP_METAS_TABLE", "g"),
                ("REDIS_MAX_IDLE", "1"),
                ("REDIS_REDIS_MAX_IDLE", "2"),
                ("SQS_WAIT_TIME_SECONDS", "30"),
            ],
            &[],
        );
        let loaded = loaded.unwrap();
        let config = &loaded.config;
        assert_eq!(config.multiple_broker_separator.as_deref(), Some(";"));
        assert_eq!((config.amqp.prefetch_count, config.amqp.auto_delete), (Some(7), Some(true)));
        let args = config.amqp.queue_binding_args.as_ref().unwrap();
        assert_eq!(args["image"], crate::config::Argument::Text("png".to_owned()));
        assert_eq!((config.redis.cluster_mode, config.redis.max_idle), (Some(false), Some(2)));
        assert_eq!(config.redis.delayed_tasks_key.as_deref(), Some("123"));
        assert_eq!(config.dynamodb.group_metas_table.as_deref(), Some("g"));
        assert_eq!(config.sqs.receive_wait_time_seconds, Some(20));
        let first = &loaded.warnings[0];
        assert!(
            first.starts_with("SQS_WAIT_TIME_SECONDS: sqs.receive_wait_time_seconds: SQS waits at most 20 s"),
            "{first}"
        );
        let both = [("MULTIPLE_BROKEN_SEPARATOR", ";"), ("MULTIPLE_BROKER_SEPARATOR", ",")];
        assert!(from("", &both, &[]).unwrap_err().to_string().contains("two spellings"));
        assert_eq!(from("", &both[1..], &[]).unwrap().config.multiple_broker_separator.as_deref(), Some(","));
    }

    #[test]
    fn every_value_has_its_origin_and_no_secret() {
        let yaml = "broker: 'redis://:secret@h:1'\nleases:\n  lost_max: 5\nqueues:\n  a.b:\n    weight: 3\n";
        let env = [("RESULT_BACKEND", "redis://:secret@h:1"), ("LINESHAFT_LIMITS_BATCH_MAX", "7")];
        let loaded = from(yaml, &env, &[("server.data_dir", "d")]).unwrap();
        let values = loaded.values();
        assert!(!format!("{values:?}").contains("secret"));
        let told = |key: &str| {
            let shown = values.iter().find(|s| s.key == key).unwrap();
            let origin = shown.origin.to_string();
            (shown.value.clone().unwrap_or_default(), origin.rsplit('/').next().unwrap_or_default().to_owned())
        };
        let own = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
        assert_eq!(told("broker"), own("redis://[redacted]@h:1", "config.yml:1:9"));
        assert_eq!(told("leases.lost_max"), own("5", "config.yml:3:13"));
        assert_eq!(told("queues.a.b.weight"), own("3", "config.yml:6:13"));
        assert_eq!(told("limits.batch_max"), own("7", "LINESHAFT_LIMITS_BATCH_MAX"));
        assert_eq!(told("server.data_dir"), own("d", "--data-dir"));
        assert_eq!(told("leases.heartbeat_interval"), own("10s", "default"));
        assert_eq!(told("amqp.exchange"), own("", "default"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_origin_key_and_the_right_form() {
        let told = |env: &[(&str, &str)]| from("", env, &[]).unwrap_err().to_string();
        let text = told(&[("LINESHAFT_LIMITS_BATCHMAX", "1")]);
        assert_eq!(
            text,
            r#"LINESHAFT_LIMITS_BATCHMAX: no key "limits.batchmax" is known; did you mean "limits.batch_max"?"#
        );
        let text = told(&[("LINESHAFT_LEASES_LOST_MAX", "many")]);
        assert_eq!(text, "LINESHAFT_LEASES_LOST_MAX: leases.lost_max: must be a whole number from 0 to 4294967295");
        let text = told(&[("LINESHAFT_LIMITS_HEADERS_MAX", "10001")]);
        assert_eq!(text, "LINESHAFT_LIMITS_HEADERS_MAX: limits.headers_max is 10001, it must be 0 to 10000");
        let text = told(&[("NO_UNIX_SIGNALS", "maybe")]);
        assert_eq!(text, "NO_UNIX_SIGNALS: no_unix_signals: must be true or false");
    }

    #[test]
    fn a_ratio_is_read_from_a_variable_as_a_number_that_need_not_be_whole() {
        let ratio = |text| {
            Ok::<_, ConfigError>(
                from("", &[("LINESHAFT_TELEMETRY_SAMPLE_RATIO", text)], &[])?.config.telemetry.sample_ratio,
            )
        };
        assert_eq!((ratio("0.25").unwrap(), ratio("1").unwrap(), ratio("0").unwrap()), (0.25, 1.0, 0.0));
        for bad in ["-1", "1.01", "NaN", "inf", "often"] {
            let told = ratio(bad).unwrap_err().to_string();
            assert!(told.starts_with("LINESHAFT_TELEMETRY_SAMPLE_RATIO: telemetry.sample_ratio"), "{told}");
        }
        let named = from("", &[("LINESHAFT_TELEMETRY_SERVICE_NAME", "123")], &[]).unwrap();
        assert_eq!(named.config.telemetry.service_name, "123");
    }

    #[test]
    fn variables_that_kubernetes_makes_of_a_service_are_not_taken_for_ours() {
        let links = ["PORT", "PORT_7340_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT_GRPC"];
        let names: Vec<String> = links.iter().map(|link| format!("LINESHAFT_SERVER_{link}")).collect();
        let variables: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "tcp://10.0.0.1:7340")).collect();
        assert_eq!(from("", &variables, &[]).unwrap().config, Config::default());
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_and_an_empty_one_is_not() {
        let missing = load(&Sources { file: Some("/nonexistent/config.yml".into()), ..Sources::default() });
        assert!(missing.unwrap_err().to_string().starts_with("/nonexistent/config.yml: "));
        assert_eq!(from("", &[], &[]).unwrap().config, Config::default());
        assert_eq!(from("# nothing\n", &[], &[]).unwrap().config, Config::default());
    }

    #[test]
    fn listening_beyond_loopback_needs_insecure() {
        let open = [("server.listen", "0.0.0.0:0")];
        assert!(from("", &[], &open).unwrap_err().to_string().contains("--insecure"));
        assert!(from("server:\n  insecure: true\n", &[], &open).is_ok());
        assert!(from("", &[], &[("server.listen", "[::1]:0")]).is_ok());
    }
}
