//! One stream, from the decision to connect to its end.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Key;
use crate::producer::task::from_proto;
use crate::proto::Timing;

/// The longest and the shortest wait for a `Welcome` after the `Hello`; see [`Intervals::welcome`].
const WELCOME_WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// No connection within this time: another address. The endpoint's own connect timeout is shorter unless configured.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(30);

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection yet.
    Connecting,
    /// Connected; `Hello` is next.
    Connected,
    /// `Hello` went; `Welcome` is awaited.
    Greeted,
    /// In use.
    Attached,
    /// A newer stream holds the session; what the server still says here is read.
    Leaving,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) phase: Phase,
    /// In `Connecting`, `Greeted` and `Leaving`: when it is given up.
    pub(super) deadline: Instant,
    /// The server will stop.
    pub(super) is_draining: bool,
    /// Since when it is attached.
    pub(super) attached_at: Option<Instant>,
    /// When the server was last heard of.
    pub(super) heard_at: Instant,
    /// When the last heartbeat went.
    pub(super) heartbeat_at: Instant,
    pub(super) heartbeat_sequence: u64,
    /// The leases named in `Hello`, whose verdicts come in `Welcome`.
    pub(super) hello_held: Vec<Key>,
    /// Whether `Hello` asked for the session before.
    pub(super) is_resuming: bool,
    /// The number of the last lease received.
    pub(super) received: u64,
    /// Confirmed up to this number.
    pub(super) accepted: u64,
    /// The highest credit given.
    pub(super) credit: u64,
    /// Leases received here that wait for their confirmation to go, with their numbers.
    pub(super) offered: VecDeque<(u64, Key)>,
    /// A lease was received and not taken: the server learns it from a heartbeat that names all that are held.
    pub(super) has_refused: bool,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Connecting,
            deadline: now + CONNECT_WAIT,
            is_draining: false,
            attached_at: None,
            heard_at: now,
            heartbeat_at: now,
            heartbeat_sequence: 0,
            hello_held: Vec::new(),
            is_resuming: false,
            received: 0,
            accepted: 0,
            credit: 0,
            offered: VecDeque::new(),
            has_refused: false,
        }
    }

    /// Whether it will be the stream in use, if all goes well.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Connected | Phase::Greeted)
    }

    /// When something must be done about it even if nothing happens.
    pub(super) fn next_due(&self, intervals: &Intervals) -> Option<Instant> {
        match self.phase {
            Phase::Connecting | Phase::Greeted | Phase::Leaving => Some(self.deadline),
            // Its `Hello` is due now; the driver asks for frames after every step anyway.
            Phase::Connected => None,
            Phase::Attached => {
                Some((self.heard_at + intervals.silence_max).min(self.heartbeat_at + intervals.heartbeat))
            }
        }
    }
}

/// The server's timing, made safe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    /// Between two heartbeats.
    pub(super) heartbeat: Duration,
    /// Nothing from the server for this long: the connection is dead. No longer than half way from a heartbeat to the end of
    /// the leases: a server that stands still is left while another can still keep them.
    pub(super) silence_max: Duration,
    /// No `Welcome` within this time of the `Hello`: another connection. A third of the lease time, 10 s at most, for the
    /// same reason.
    pub(super) welcome: Duration,
    /// The longest wait before the next attempt to connect: a small part of the lease time, so that several attempts fit
    /// into it and what is held is not lost while the worker waits.
    pub(super) reconnect: Duration,
    /// How long a stopping worker in which nothing runs any more waits for a server to answer its reports: half the lease
    /// time. A server that restarts is back well before; after a whole lease time its leases would be lost anyway.
    pub(super) owing: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Intervals {
    /// Reads a server's timing; what is unset or zero has the protocol's default (heartbeat 10 s, three of them silent).
    pub(super) fn new(timing: Option<&Timing>) -> Self {
        let read = |duration: Option<prost_types::Duration>, default| {
            from_proto(duration).filter(|duration| !duration.is_zero()).unwrap_or(default)
        };
        let interval = read(timing.and_then(|timing| timing.heartbeat_interval), Duration::from_secs(10));
        let lease = read(timing.and_then(|timing| timing.lease_duration), interval.saturating_mul(3));
        let silence = read(timing.and_then(|timing| timing.silence_max), interval.saturating_mul(3));
        // Sent early: the interval is an upper bound, and the frame has a way to go. Never so often that a timing of
        // nanoseconds would keep a core busy.
        let heartbeat = (interval * 4 / 5).clamp(Duration::from_millis(10), Duration::from_secs(3600));
        let silence = silence.min(heartbeat.saturating_add(lease.saturating_sub(heartbeat) / 2));
        Self {
            heartbeat,
            silence_max: silence.clamp(Duration::from_millis(50), Duration::from_secs(3 * 3600)),
            welcome: (lease / 3).clamp(WELCOME_WAIT.1, WELCOME_WAIT.0),
            reconnect: (lease / 8).max(Duration::from_millis(50)),
            owing: (lease / 2).clamp(Duration::from_secs(1), Duration::from_secs(3600)),
        }
    }
}
