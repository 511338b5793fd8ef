//! How durable a Redis is by its own settings, and what to set if that is little.
//!
//! Looked at again whenever the connection was made anew, as another server may be behind it then, and at each
//! sweep, as `CONFIG SET` tells nobody. A look is five commands.

use std::sync::Arc;

use redis::Value;

use super::Inner;
use crate::link::redis::{Access, Failure, Link};

/// Settings that decide what outlives a crash; `None`: Redis does not let it be read.
#[derive(Debug, Default, Clone)]
pub(super) struct Settings {
    appendonly: Option<String>,
    appendfsync: Option<String>,
    policy: Option<String>,
    min_replicas: Option<String>,
    /// Replicas that are connected, of a master.
    replicas: Option<usize>,
}

impl Settings {
    /// Asks Redis, in a cluster any node; `None`: it does not answer at present.
    pub(super) async fn read(link: &Link) -> Option<Self> {
        let mut asked = redis::pipe();
        for name in ["appendonly", "appendfsync", "maxmemory-policy", "min-replicas-to-write"] {
            asked.cmd("CONFIG").arg("GET").arg(name);
        }
        asked.cmd("ROLE");
        let answers = link.pipeline(Access::Read, &asked).await.ok()?;
        if answers.iter().any(|answer| answer.as_ref().is_err_and(Failure::is_loading)) {
            return None;
        }
        let mut answers = answers.into_iter();
        let setting = |answer: Option<Result<Value, Failure>>| -> Option<String> {
            let pair: Vec<String> = redis::from_redis_value(answer?.ok()?).ok()?;
            pair.into_iter().nth(1)
        };
        let [appendonly, appendfsync, policy, min_replicas] = std::array::from_fn(|_| setting(answers.next()));
        let replicas = answers.next().and_then(Result::ok).and_then(|role| match role {
            Value::Array(parts) => parts.into_iter().nth(2),
            _ => None,
        });
        let replicas = replicas.and_then(|list| match list {
            Value::Array(list) => Some(list.len()),
            _ => None,
        });
        Some(Self { appendonly, appendfsync, policy, min_replicas, replicas })
    }

    /// What becomes of an acknowledged task, as a sentence.
    pub(super) fn sentence(&self) -> &'static str {
        match (self.appendonly.as_deref(), self.appendfsync.as_deref()) {
            (Some("yes"), Some("always")) => {
                "in the log of Redis, synced before it is acknowledged (appendfsync always)"
            }
            (Some("yes"), Some("everysec")) => {
                "in the log of Redis, synced each second: the last two seconds may be lost when Redis ends (appendfsync everysec)"
            }
            (Some("yes"), Some(_)) => "in the log of Redis, synced when the system does so (appendfsync no)",
            (Some(_), _) => "as long as the Redis process lives, and in its snapshots (appendonly no)",
            _ => "not known: Redis does not let its configuration be read",
        }
    }

    /// A sentence for each way in which acknowledged tasks can be lost, with what to set.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match (self.appendonly.as_deref(), self.appendfsync.as_deref()) {
            (Some("no"), _) => warnings.push(
                "tasks since the last snapshot are lost when Redis ends: set appendonly yes and appendfsync always"
                    .to_owned(),
            ),
            (Some("yes"), Some(sync @ ("everysec" | "no"))) => warnings.push(format!(
                "the last tasks may be lost when Redis ends (appendfsync {sync}): set appendfsync always"
            )),
            _ => {}
        }
        if let Some(policy) = self.policy.as_deref().filter(|policy| *policy != "noeviction") {
            warnings
                .push(format!("tasks are lost when memory is short (maxmemory-policy {policy}): set it to noeviction"));
        }
        if self.replicas.is_some_and(|count| count > 0) && self.min_replicas.as_deref() == Some("0") {
            warnings.push(
                "acknowledged tasks may be lost in a failover: set min-replicas-to-write 1, which takes two replicas to \
                 stay available and still is no proof"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Keeps what is known of them, for as long as the handle lives.
pub(super) fn start_looking(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        loop {
            let mut renewal = inner.link.renewal();
            tokio::select! {
                () = tokio::time::sleep(inner.options.sweep) => {}
                () = renewal.happened() => {}
                () = inner.closing.cancelled() => return,
            }
            if let Some(found) = Settings::read(&inner.link).await {
                inner.put(found);
            }
        }
    });
}

impl Inner {
    /// These are the settings now: what is new and worse is warned about.
    fn put(&self, found: Settings) {
        let redis = self.link.address().shown();
        let before = std::mem::replace(&mut *self.durability.lock(), found.clone());
        if before.sentence() != found.sentence() {
            tracing::info!(redis, before = before.sentence(), now = found.sentence(), "what Redis keeps has changed");
        }
        let told = before.warnings();
        for warning in found.warnings().into_iter().filter(|warning| !told.contains(warning)) {
            tracing::warn!(redis, "{warning}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(appendonly: &str, appendfsync: &str, policy: &str, replicas: usize) -> Settings {
        let own = |text: &str| Some(text.to_owned());
        Settings {
            appendonly: own(appendonly),
            appendfsync: own(appendfsync),
            policy: own(policy),
            min_replicas: own("0"),
            replicas: Some(replicas),
        }
    }

    #[test]
    fn each_way_to_lose_tasks_is_warned_about_with_what_to_set() {
        assert!(with("yes", "always", "noeviction", 0).warnings().is_empty());
        let all = with("yes", "everysec", "allkeys-lru", 1).warnings();
        assert_eq!(all.len(), 3);
        assert!(all[0].contains("set appendfsync always"), "{all:?}");
        assert!(all[1].contains("allkeys-lru") && all[1].contains("noeviction"), "{all:?}");
        assert!(all[2].contains("min-replicas-to-write"), "{all:?}");
        assert!(with("no", "everysec", "noeviction", 0).warnings()[0].contains("appendonly yes"));
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_unknown_and_warned_about_no_further() {
        let unread = Settings::default();
        assert!(unread.warnings().is_empty());
        assert!(unread.sentence().starts_with("not known"));
    }
}
