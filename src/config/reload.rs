//! Reading the file again while the server runs: the whole is checked, then what is live is put in force at once.
//!
//! Looked at by its bytes and not by its time or by notices of the file system: mounted configurations are swapped by links,
//! and network disks give no notices. Variables and flags are those of the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::load::{self, Loaded, Sources};
use super::{Config, ConfigError, origin, secret};

/// How often the file is looked at, as in Machinery.
pub const PERIOD: Duration = Duration::from_secs(10);

/// Keys whose change a running server takes; `queues` with all that is under it.
///
/// The others stay as they were until the next start: what clients were told when they came (intervals of leases, the default
/// queue), and what is part of open connections and files.
const LIVE: [&str; 21] = [
    "leases.cancel_grace",
    "leases.dead_expire_in",
    "leases.lost_max",
    "limits.args_max",
    "limits.batch_max",
    "limits.callback_depth_max",
    "limits.group_tasks_max",
    "limits.chain_tasks_max",
    "limits.delay_max",
    "limits.headers_max",
    "limits.parked_max",
    "limits.request_window",
    "limits.result_bytes_max",
    "limits.sends_in_flight_max",
    "limits.session_bytes_max",
    "limits.session_leases_max",
    "limits.sessions_max",
    "limits.task_bytes_max",
    "log.level",
    "results_expire_in",
    "server.drain_deadline",
];

/// Whether a running server takes a change of this key.
pub(super) fn is_live(key: &str) -> bool {
    LIVE.contains(&key) || key.starts_with("queues.")
}

/// How often reloading went well, and how often it did not, since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    applied: AtomicU64,
    refused: AtomicU64,
}

static COUNTS: Counts = Counts { applied: AtomicU64::new(0), refused: AtomicU64::new(0) };

/// The counts of this process.
pub fn counts() -> &'static Counts {
    &COUNTS
}

impl Counts {
    /// Files that were read again, found good and put in force.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// Files that were read again and could not be used; each counts once, however often it is looked at, and again for
    /// each SIGHUP.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// One value that has changed, secrets redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `section.key`.
    pub key: String,
    /// Before. `None`: it was not set.
    pub from: Option<String>,
    /// Now. `None`: it is not set any more.
    pub to: Option<String>,
    /// It is in force now, and not only after the next start.
    pub is_live: bool,
}

/// What a look at the file found.
#[derive(Debug, Clone)]
pub enum Look {
    /// The same as last time.
    Same,
    /// A good file; nothing may differ, if it says the same in other words.
    Changed {
        /// The new values.
        config: Box<Config>,
        /// What differs, in order of the keys.
        differences: Vec<Difference>,
        /// What the operator should know, a sentence each.
        warnings: Vec<String>,
    },
    /// A file that cannot be used: the old values stay.
    Refused(ConfigError),
}

/// What is in force, and what the file was when it was last looked at.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    current: Config,
    seen: Result<Option<Vec<u8>>, ConfigError>,
}

impl Reloader {
    /// Reads the sources for the first time.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn start(sources: Sources) -> Result<(Self, Loaded), ConfigError> {
        let bytes = sources.bytes()?;
        let loaded = load::from_bytes(&sources, bytes.as_deref())?;
        Ok((Self { sources, current: loaded.config.clone(), seen: Ok(bytes) }, loaded))
    }

    /// Looks at the file again; `asked`: somebody wants an answer even if it is the same as last time. Counts in
    /// [`counts`]. Blocks for as long as reading the file takes.
    pub fn look(&mut self, asked: bool) -> Look {
        let bytes = self.sources.bytes();
        if bytes == self.seen && !asked {
            return Look::Same;
        }
        let read = bytes.clone().and_then(|bytes| {
            let loaded = load::from_bytes(&self.sources, bytes.as_deref())?;
            // What cannot start must not be taken for good either.
            loaded.stores()?;
            Ok(loaded)
        });
        self.seen = bytes;
        match read {
            Ok(loaded) => {
                COUNTS.applied.fetch_add(1, Ordering::Relaxed);
                let differences = differences(&self.current, &loaded.config);
                self.current = loaded.config.clone();
                Look::Changed { config: Box::new(loaded.config), differences, warnings: loaded.warnings }
            }
            Err(error) => {
                COUNTS.refused.fetch_add(1, Ordering::Relaxed);
                Look::Refused(error)
            }
        }
    }
}

/// What differs, in order of the keys. A secret that changed shows as changed, and not as what.
fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let (before, mut after) = (origin::plain(old), origin::plain(new));
    let mut all = Vec::new();
    for (key, from) in before {
        let to = after.remove(&key).flatten();
        if from != to {
            all.push((key, from, to));
        }
    }
    all.extend(after.into_iter().filter(|(_, to)| to.is_some()).map(|(key, to)| (key, None, to)));
    all.sort();
    let told = |(key, from, to): (String, Option<String>, Option<String>)| {
        let shown = |text: Option<String>| text.map(|text| secret::redacted(&key, &text));
        Difference { from: shown(from), to: shown(to), is_live: is_live(&key), key }
    };
    all.into_iter().map(told).collect()
}
