//! Section `leases`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, within};

const DAY_SECONDS: u64 = 86_400;

/// How long workers may be silent, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leases {
    /// Workers are told to send a heartbeat this often: 100 ms to 5 min. Default 10 s. Since 0.1.
    pub heartbeat_interval: Span,
    /// Without any heartbeat for this long, a worker's leases are lost: at least twice `heartbeat_interval`, at most 1 h.
    /// Default 30 s. Since 0.1.
    pub lease_duration: Span,
    /// A stream on which nothing was heard for this long is dead: at least twice `heartbeat_interval`, at most 1 h.
    /// Default 45 s. Since 0.1.
    pub silence_max: Span,
    /// A worker that is told to stop, since the task was cancelled or its attempt ran too long, has this long to report it;
    /// then the lease ends: 0 s to 1 h. Default 10 s. Since 0.1.
    pub cancel_grace: Span,
    /// After this many attempts that ended in dead workers a task is set aside: 1 to 1,000. Default 3. Since 0.1.
    pub lost_max: u32,
    /// True: tasks that end in FAILURE are set aside too, with their body, until they are requeued or deleted: they take
    /// room on disk as long. Those whose workers died, and bodies that are no task, always are. Default false. Since 0.1.
    pub keep_failed: bool,
    /// A task that was set aside, and neither requeued nor deleted, is forgotten this long after: 1 min to 3650 d. Default
    /// 30 d. Live. Since 0.1.
    pub dead_expire_in: Span,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            heartbeat_interval: Span::seconds(10),
            lease_duration: Span::seconds(30),
            silence_max: Span::seconds(45),
            cancel_grace: Span::seconds(10),
            lost_max: 3,
            keep_failed: false,
            dead_expire_in: Span::seconds(30 * DAY_SECONDS),
        }
    }
}

impl Leases {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("leases.heartbeat_interval", self.heartbeat_interval, Span::millis(100), Span::seconds(300))?;
        let heartbeat = Duration::from(self.heartbeat_interval);
        for (key, span) in [("leases.lease_duration", self.lease_duration), ("leases.silence_max", self.silence_max)] {
            if Duration::from(span) < 2 * heartbeat {
                // One heartbeat may always be late.
                let range = format!("at least twice leases.heartbeat_interval ({})", self.heartbeat_interval);
                return Err(ConfigError::OutOfRange { key: key.to_owned(), value: span.to_string(), range });
            }
            within(key, span, Span::seconds(0), Span::seconds(3600))?;
        }
        within("leases.cancel_grace", self.cancel_grace, Span::seconds(0), Span::seconds(3600))?;
        let (least, most) = (Span::seconds(60), Span::seconds(3650 * DAY_SECONDS));
        within("leases.dead_expire_in", self.dead_expire_in, least, most)?;
        within("leases.lost_max", self.lost_max, 1, 1000)
    }
}
