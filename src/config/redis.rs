//! Section `redis`: Machinery's keys and ours beside them.

use std::path::PathBuf;
#[cfg(feature = "redis")]
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, within};
#[cfg(feature = "redis")]
use crate::link::redis::{Address, Login, Options, Tls};

/// Longest wait for Redis, seconds.
const SECONDS_MAX: u32 = 300;
/// Shortest and longest time after which another server is taken for dead: more than two of its beats, 2 s each; later, what it
/// held would wait for long.
const REPLICA_TIMEOUT: (Span, Span) = (Span::seconds(5), Span::seconds(300));
/// A Redis has 10,000 connections by default (`maxclients`).
const BLOCKING_CONNECTIONS_MAX: u32 = 10_000;

/// Section `redis`: connections to Redis. Machinery's pool has no counterpart here: calls share one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Idle connections kept. Variable `REDIS_MAX_IDLE`. Since 0.1.
    pub max_idle: Option<u32>,
    /// Connections at once; 0: no limit. Variable `REDIS_MAX_ACTIVE`. Since 0.1.
    pub max_active: Option<u32>,
    /// An idle connection is closed after this long, seconds. Variable `REDIS_IDLE_TIMEOUT`. Since 0.1.
    pub max_idle_timeout: Option<u32>,
    /// Wait for a connection when `max_active` are in use. Variable `REDIS_WAIT`. Since 0.1.
    pub wait: Option<bool>,
    /// Longest wait for an answer, seconds: 1 to 300; unset or 0: 5. Variable `REDIS_READ_TIMEOUT`. Since 0.1.
    pub read_timeout: Option<u32>,
    /// Longest wait until a command is written, seconds. Variable `REDIS_WRITE_TIMEOUT`. Since 0.1.
    pub write_timeout: Option<u32>,
    /// Longest wait for a connection, seconds: 1 to 300; unset or 0: 2. Variable `REDIS_CONNECT_TIMEOUT`. Since 0.1.
    pub connect_timeout: Option<u32>,
    /// How often a queue is looked at, milliseconds. Variable `REDIS_NORMAL_TASKS_POLL_PERIOD`. Since 0.1.
    pub normal_tasks_poll_period: Option<u32>,
    /// How often delayed tasks are looked at, milliseconds. Variable `REDIS_DELAYED_TASKS_POLL_PERIOD`. Since 0.1.
    pub delayed_tasks_poll_period: Option<u32>,
    /// The sorted set of delayed tasks. Unset: `delayed_tasks`. Variable `REDIS_DELAYED_TASKS_KEY`. Since 0.1.
    pub delayed_tasks_key: Option<String>,
    /// How connections call themselves. Unset: `lineshaft`. Variable `REDIS_CLIENT_NAME`. Since 0.1.
    pub client_name: Option<String>,
    /// The master's name: the addresses are those of its sentinels. Variable `REDIS_MASTER_NAME`. Since 0.1.
    pub master_name: Option<String>,
    /// The addresses are those of a cluster, one or more of its nodes. Unset: they are if there are several and no master's
    /// name, as in Machinery. Variable `REDIS_CLUSTER_MODE`. Since 0.1.
    pub cluster_mode: Option<bool>,
    /// Ours. A file of authorities, in PEM, whose word on a server's certificate counts, with `rediss://`. Unset: those that the
    /// system trusts. Since 0.1.
    pub tls_ca: Option<PathBuf>,
    /// Ours. A file with a certificate of this server, in PEM, for a Redis that asks for one (`tls-auth-clients`). Only with
    /// `tls_key`. Since 0.1.
    pub tls_cert: Option<PathBuf>,
    /// Ours. A file with the key of `tls_cert`, in PEM. Since 0.1.
    pub tls_key: Option<PathBuf>,
    /// Ours. A user of the sentinels other than the default one. Since 0.1.
    pub sentinel_user: Option<String>,
    /// Ours. The password of the sentinels. Unset: they are asked without, as by Machinery. A secret. Since 0.1.
    pub sentinel_password: Option<String>,
    /// Ours. How long another server on the same Redis stands still until it is taken for dead, and what it holds goes to the
    /// others: 5 s to 5 min; it is noticed up to 4 s later. Unset: 10 s. Since 0.1.
    pub replica_timeout: Option<Span>,
    /// Ours. Most connections that wait for a queue each; further queues are looked at each second: 1 to 10,000. Unset: 256.
    /// Since 0.1.
    pub blocking_connections_max: Option<u32>,
}

impl Redis {
    /// How connections to `address` are made and used.
    #[cfg(feature = "redis")]
    pub fn options(&self, address: &Address) -> Options {
        let seconds = |set: Option<u32>, default: Duration| match set {
            None | Some(0) => default,
            Some(seconds) => Duration::from_secs(seconds.into()),
        };
        let default = Options::default();
        let is_cluster = self.cluster_mode.unwrap_or(address.servers.len() > 1 && self.master_name.is_none());
        Options {
            answer_max: seconds(self.read_timeout, default.answer_max),
            connect_max: seconds(self.connect_timeout, default.connect_max),
            client_name: self.client_name.clone().unwrap_or(default.client_name),
            is_cluster,
            master_name: self.master_name.clone().filter(|_| !is_cluster),
            sentinel: Login { user: self.sentinel_user.clone(), password: self.sentinel_password.clone() },
            tls: Tls { ca: self.tls_ca.clone(), own: self.tls_cert.clone().zip(self.tls_key.clone()) },
        }
    }

    /// Checks ranges, and what goes together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("redis.read_timeout", self.read_timeout.unwrap_or(0), 0, SECONDS_MAX)?;
        within("redis.connect_timeout", self.connect_timeout.unwrap_or(0), 0, SECONDS_MAX)?;
        if let Some(span) = self.replica_timeout {
            within("redis.replica_timeout", span, REPLICA_TIMEOUT.0, REPLICA_TIMEOUT.1)?;
        }
        if let Some(most) = self.blocking_connections_max {
            within("redis.blocking_connections_max", most, 1, BLOCKING_CONNECTIONS_MAX)?;
        }
        let (key, other) = match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => ("redis.tls_cert", "redis.tls_key"),
            (None, Some(_)) => ("redis.tls_key", "redis.tls_cert"),
            _ => return Ok(()),
        };
        Err(ConfigError::Refused { key, why: format!("{key} is set but {other} is not: a certificate needs its key") })
    }

    /// A sentence for what is set and means nothing here, some Redis being used; `is_tls`: by TLS.
    pub(super) fn warnings(&self, is_tls: bool) -> Vec<(&'static str, String)> {
        let of_pool = named(&[
            ("max_idle", self.max_idle.is_some()),
            ("max_active", self.max_active.is_some()),
            ("max_idle_timeout", self.max_idle_timeout.is_some()),
            ("wait", self.wait.is_some()),
            ("write_timeout", self.write_timeout.is_some()),
            ("normal_tasks_poll_period", self.normal_tasks_poll_period.is_some()),
            ("delayed_tasks_poll_period", self.delayed_tasks_poll_period.is_some()),
        ]);
        let of_tls = named(&[
            ("tls_ca", !is_tls && self.tls_ca.is_some()),
            ("tls_cert", !is_tls && self.tls_cert.is_some()),
            ("tls_key", !is_tls && self.tls_key.is_some()),
        ]);
        let is_asked = self.master_name.is_some();
        let of_sentinels = named(&[
            ("sentinel_user", !is_asked && self.sentinel_user.is_some()),
            ("sentinel_password", !is_asked && self.sentinel_password.is_some()),
        ]);
        let why = [
            (of_pool, "calls share one connection, and a task is there when it comes"),
            (of_tls, "no URL begins with rediss://"),
            (of_sentinels, "redis.master_name is not set, so no sentinel is asked"),
        ];
        let told = |(names, why): (String, &str)| ("redis", format!("kept, and not used: {names}; {why}"));
        why.into_iter().filter(|(names, _)| !names.is_empty()).map(told).collect()
    }
}

/// The names of those that are set.
fn named(all: &[(&'static str, bool)]) -> String {
    all.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, Sources, load};

    /// Every key of Machinery 1.10.8's `RedisConfig`, with a value, and what becomes of it here: `true`, it is used.
    #[cfg(feature = "redis")]
    const MACHINERYS: [(&str, &str, bool); 13] = [
        ("REDIS_MAX_IDLE", "7", false),
        ("REDIS_MAX_ACTIVE", "7", false),
        ("REDIS_IDLE_TIMEOUT", "7", false),
        ("REDIS_WAIT", "true", false),
        ("REDIS_READ_TIMEOUT", "7", true),
        ("REDIS_WRITE_TIMEOUT", "7", false),
        ("REDIS_CONNECT_TIMEOUT", "7", true),
        ("REDIS_NORMAL_TASKS_POLL_PERIOD", "7", false),
        ("REDIS_DELAYED_TASKS_POLL_PERIOD", "7", false),
        ("REDIS_DELAYED_TASKS_KEY", "later", true),
        ("REDIS_CLIENT_NAME", "me", true),
        ("REDIS_MASTER_NAME", "mymaster", true),
        ("REDIS_CLUSTER_MODE", "true", true),
    ];

    fn with(variables: &[(&str, &str)]) -> Loaded {
        let mut environment = vec![("BROKER".to_owned(), "redis://h".to_owned())];
        environment.extend(variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        load(&Sources { environment, ..Sources::default() }).unwrap()
    }

    #[cfg(feature = "redis")]
    #[test]
    fn each_option_of_machinerys_is_used_or_named_in_one_warning() {
        let effects = |loaded: &Loaded| {
            let redis = &loaded.config.redis;
            (redis.options(&Address::parse("redis://h").unwrap()), redis.delayed_tasks_key.clone())
        };
        let plain = effects(&with(&[]));
        for (variable, text, is_used) in MACHINERYS {
            let loaded = with(&[(variable, text)]);
            assert_eq!(effects(&loaded) != plain, is_used, "{variable}");
            assert_eq!(loaded.warnings.is_empty(), is_used, "{variable}: {:?}", loaded.warnings);
        }
        let all: Vec<(&str, &str)> = MACHINERYS.iter().map(|(variable, text, _)| (*variable, *text)).collect();
        let [warning] = with(&all).warnings.try_into().unwrap();
        for (variable, key) in crate::config::machinery::variables_of("redis") {
            let (.., is_used) = MACHINERYS.iter().find(|(name, ..)| *name == variable).unwrap();
            assert_eq!(warning.contains(&format!(" {key}")), !is_used, "{key}: {warning}");
        }
    }

    #[test]
    fn ours_have_variables_ranges_and_companions() {
        let loaded = with(&[
            ("LINESHAFT_REDIS_REPLICA_TIMEOUT", "30s"),
            ("LINESHAFT_REDIS_BLOCKING_CONNECTIONS_MAX", "9"),
            ("LINESHAFT_REDIS_SENTINEL_PASSWORD", "123"),
            ("LINESHAFT_REDIS_TLS_CA", "/ca.pem"),
        ]);
        let redis = &loaded.config.redis;
        assert_eq!((redis.replica_timeout, redis.blocking_connections_max), (Some(Span::seconds(30)), Some(9)));
        assert_eq!(redis.sentinel_password.as_deref(), Some("123"));
        let told = loaded.warnings.join("\n");
        assert!(told.contains("tls_ca; no URL begins with rediss://"), "{told}");
        assert!(told.contains("sentinel_password; redis.master_name is not set"), "{told}");
        let shown = loaded.values();
        let password = shown.iter().find(|shown| shown.key == "redis.sentinel_password").unwrap();
        assert_eq!(password.value.as_deref(), Some("[redacted]"));
        let of = |change: fn(&mut Redis)| {
            let mut redis = Redis::default();
            change(&mut redis);
            redis.check().unwrap_err().to_string()
        };
        let told = of(|redis| redis.replica_timeout = Some(Span::seconds(4)));
        assert_eq!(told, "redis.replica_timeout is 4s, it must be 5s to 5m");
        let told = of(|redis| redis.blocking_connections_max = Some(0));
        assert_eq!(told, "redis.blocking_connections_max is 0, it must be 1 to 10000");
        let told = of(|redis| redis.tls_key = Some("k".into()));
        assert_eq!(told, "redis.tls_key is set but redis.tls_cert is not: a certificate needs its key");
        let environment = vec![("LINESHAFT_REDIS_MAX_IDLE".to_owned(), "1".to_owned())];
        let told = load(&Sources { environment, ..Sources::default() }).unwrap_err().to_string();
        assert_eq!(told, "LINESHAFT_REDIS_MAX_IDLE: the variable of redis.max_idle is REDIS_MAX_IDLE");
    }
}
