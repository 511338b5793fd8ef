//! Reading the sources, in their order.

use std::path::PathBuf;

use figment::providers::{Format, Serialized};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde_saphyr::figment::Yaml;

use super::keys::{self, VARIABLES_NOT_USED_YET};
use super::{Config, ConfigError};

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

/// A configuration that was read and found good.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Reads and checks a configuration.
///
/// # Errors
/// [`ConfigError`]: a file that cannot be read, an unknown key, a value of another type or out of its range.
pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = sources.file {
        let origin = file.display().to_string();
        let mut found = read_file(&file)?;
        for key in keys::sift(&origin, &mut found)? {
            warnings.push(format!("{origin}: {key} is Machinery's and not used yet"));
        }
        figment = figment.merge(Values { name: origin, values: found });
    }
    let environment = from_environment(&sources.environment, &mut warnings)?;
    figment = figment.merge(Values { name: "the environment".to_owned(), values: environment });
    let mut flags = Dict::new();
    for (key, text) in sources.flags {
        let (section, key) = key.split_once('.').unwrap_or(("", key));
        insert(&mut flags, section, key, value(section, key, &text));
    }
    figment = figment.merge(Values { name: "the command line".to_owned(), values: flags });

    let config: Config = figment.extract().map_err(|e| ConfigError::Unreadable(described(&e)))?;
    config.check()?;
    Ok(Loaded { config, warnings })
}

fn read_file(file: &std::path::Path) -> Result<Dict, ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable(format!("{}: {why}", file.display()));
    // Read here, since figment takes a file that is not there for an empty one.
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
    if text.trim().is_empty() {
        return Ok(Dict::new());
    }
    let data = Yaml::string(&text).data().map_err(|e| unreadable(e.to_string()))?;
    Ok(data.into_iter().next().map(|(_, dict)| dict).unwrap_or_default())
}

fn from_environment(variables: &[(String, String)], warnings: &mut Vec<String>) -> Result<Dict, ConfigError> {
    let ours = keys::ours();
    let variable = |section: &str, key: &str| match section {
        "" => key.to_uppercase(),
        section => format!("LINESHAFT_{}_{}", section, key).to_uppercase(),
    };
    let mut found = Dict::new();
    // An empty variable is one that is not set: that is how container tools write it.
    for (name, text) in variables.iter().filter(|(_, text)| !text.is_empty()) {
        if let Some((section, key)) = ours.iter().find(|(section, key)| variable(section, key) == *name) {
            insert(&mut found, section, key, value(section, key, text));
            continue;
        }
        let of_section = |section: &str| name.starts_with(&format!("LINESHAFT_{}_", section.to_uppercase()));
        if let Some((section, _)) = ours.iter().find(|(section, _)| !section.is_empty() && of_section(section)) {
            let key = name.strip_prefix(&format!("LINESHAFT_{}_", section.to_uppercase())).unwrap_or(name);
            if is_service_link(key) {
                continue;
            }
            return Err(keys::unknown("the environment", keys::dotted(section, &key.to_lowercase()), &ours));
        }
        if VARIABLES_NOT_USED_YET.contains(&name.as_str()) {
            warnings.push(format!("the environment: {name} is Machinery's and not used yet"));
        }
    }
    Ok(found)
}

// Kubernetes gives every container variables about each service beside it: those of one that is called `lineshaft-server`
// would look like ours.
fn is_service_link(key: &str) -> bool {
    key == "PORT" || ["PORT_", "SERVICE_HOST", "SERVICE_PORT"].iter().any(|start| key.starts_with(start))
}

/// A text from the environment or the command line as the value of its key: only what is a number or a truth in the
/// defaults is read as one, so that a queue may be called `123`.
fn value(section: &str, key: &str, text: &str) -> Value {
    let is_text = matches!((section, key), ("", "broker" | "result_backend" | "default_queue"))
        || matches!((section, key), ("server", "listen" | "data_dir") | ("log", _));
    let plain = |text: &str| Value::String(Tag::Default, text.to_owned());
    if is_text {
        return plain(text);
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

// Every error of figment, with the key and where its value came from; never the value itself, which may hold a password.
fn described(errors: &figment::Error) -> String {
    let one = |e: figment::Error| {
        let origin = e.metadata.as_ref().map(|m| format!("{}: ", m.name)).unwrap_or_default();
        format!("{origin}{}: {}", e.path.join("."), without_value(&e.kind))
    };
    errors.clone().into_iter().map(one).collect::<Vec<_>>().join("; ")
}

fn without_value(kind: &figment::error::Kind) -> String {
    use figment::error::Kind;
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("must be {expected}"),
        other => other.to_string(),
    }
}

// One source: its values, and the name that errors give it.
struct Values {
    name: String,
    values: Dict,
}

impl Provider for Values {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
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
        load(Sources {
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
    fn a_machinery_file_is_read_and_what_is_not_used_yet_said() {
        let yaml = "broker: 'embedded:d'\nresults_expire_in: 60\namqp:\n  exchange: e\nredis:\n  max_idle: 3\nno_unix_signals: true\n";
        let loaded = from(yaml, &[("AMQP_EXCHANGE", "e"), ("AMQP_URL", "u"), ("HOME", "h")], &[]).unwrap();
        assert_eq!(loaded.config.results_expire_in, Some(60));
        assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
        assert!(loaded.warnings.iter().all(|w| w.ends_with("not used yet")));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_origin_key_and_the_right_form() {
        let told = |yaml: &str, env: &[(&str, &str)]| from(yaml, env, &[]).unwrap_err().to_string();
        let text = told("leases:\n  hartbeat_interval: 1s\n", &[]);
        assert!(
            text.ends_with(r#"no key "leases.hartbeat_interval" is known; did you mean "leases.heartbeat_interval"?"#),
            "{text}"
        );
        let text = told("", &[("LINESHAFT_LIMITS_BATCHMAX", "1")]);
        assert_eq!(text, r#"the environment: no key "limits.batchmax" is known; did you mean "limits.batch_max"?"#);
        let text = told("leases:\n  heartbeat_interval: soon\n", &[]);
        assert!(text.contains("leases.heartbeat_interval") && text.contains("10s"), "{text}");
        let text = told("", &[("LINESHAFT_LEASES_LOST_MAX", "many")]);
        assert_eq!(text, "the environment: leases.lost_max: must be u32");
        let text = told("leases: 3\n", &[]);
        assert!(text.contains("leases"), "{text}");
        let text = told("a: [1,\n", &[]);
        assert!(text.contains("config.yml"), "{text}");
        let text = told("", &[("LINESHAFT_LIMITS_HEADERS_MAX", "10001")]);
        assert_eq!(text, "limits.headers_max is 10001, it must be 0 to 10000");
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
        let missing = load(Sources { file: Some("/nonexistent/config.yml".into()), ..Sources::default() });
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
