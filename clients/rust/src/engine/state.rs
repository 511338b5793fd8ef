//! A worker's session and streams: what is opened, resumed, left and ended, and when.
//!
//! Pure: every input carries its moment, every effect is a [`Command`] or a frame (see `frames`). Invariants, tried in
//! `tests` under random orders of events:
//!
//! - An attempt starts only after its lease was confirmed on the stream it came on, or kept in a `Welcome`.
//! - At most `concurrency` handlers run at once, those whose lease is lost included.
//! - Every lease taken ends in exactly one report, unless it is lost or the worker is gone.
//! - `held` in a frame names exactly the leases taken, not reported and not lost.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::leases::{Held, Stage};
use super::link::{Intervals, Link, Phase};
use super::reports::Reports;
use super::{Command, Config, Key, Outcome};
use crate::jitter::Backoff;
use crate::producer::task::from_proto;
use crate::proto::worker_lease_response::Message as FromServer;
use crate::proto::{ErrorReason, GoodbyeReason, Resume, RevokeReason, ServerGoodbye, Welcome, WorkerLeaseResponse};

/// Leases at once until a server has told its own limit: the default `Limits.session_leases_max` of a server.
const SESSION_LEASES_MAX: u32 = 10_000;
/// A stream that lived this long was a success: the next reconnect waits briefly again.
const STEADY: Duration = Duration::from_secs(5);
/// A server's wish to be called later is followed up to this.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
/// How long a stream that was replaced is read for late acknowledgements.
const LEAVING_WAIT: Duration = Duration::from_secs(10);
/// How long a stopping worker waits for the server to take its last frames.
pub(super) const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// The widest spread of reconnects on `Drain`, so that the workers of one server do not move in the same instant.
const DRAIN_SPREAD_MAX: Duration = Duration::from_secs(1);

/// Whether the worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Not,
    /// No new attempt; those that run go on.
    Soft,
    /// Nothing runs any more; the last frames have until then.
    Hard(Instant),
}

/// Why a stream ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closed {
    /// The reason of the server's status, if it gave one.
    pub(crate) reason: Option<ErrorReason>,
    /// When the server wants to be called again.
    pub(crate) retry_delay: Option<Duration>,
    /// For the log.
    pub(crate) message: String,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(super) config: Config,
    addresses: usize,
    next_address: usize,
    pub(super) session: Option<Resume>,
    pub(super) intervals: Intervals,
    pub(super) session_leases_max: u32,
    pub(super) links: HashMap<u64, Link>,
    /// The stream in use.
    pub(super) current: Option<u64>,
    next_link: u64,
    /// When to open the next stream, if one is wanted.
    reconnect_at: Instant,
    backoff: Backoff,
    pub(super) leases: HashMap<Key, Held>,
    pub(super) by_id: HashMap<String, Key>,
    pub(super) next_key: Key,
    pub(super) ready: VecDeque<Key>,
    pub(super) running: usize,
    pub(super) reports: Reports,
    /// Leases whose handlers began, not told yet.
    pub(super) begun: VecDeque<Key>,
    /// The latest progress of each lease that has news.
    pub(super) progress: HashMap<Key, (f64, String)>,
    /// Progress goes in bursts at most this often.
    pub(super) progress_at: Instant,
    pub(super) stop: Stop,
    pub(super) goodbye_at: Option<Instant>,
    /// In a soft stop: since when nothing runs any more and no report was answered.
    owing_since: Option<Instant>,
    is_finished: bool,
    pub(super) commands: VecDeque<Command>,
}

impl State {
    /// A worker that knows `addresses` servers, at least one; `name` makes its reports' ids unlike any other worker's.
    pub(crate) fn new(now: Instant, config: Config, addresses: usize, name: String, seed: u64) -> Self {
        Self {
            config,
            addresses: addresses.max(1),
            next_address: 0,
            session: None,
            intervals: Intervals::default(),
            session_leases_max: SESSION_LEASES_MAX,
            links: HashMap::new(),
            current: None,
            next_link: 1,
            reconnect_at: now,
            backoff: Backoff::new(seed),
            leases: HashMap::new(),
            by_id: HashMap::new(),
            next_key: 1,
            ready: VecDeque::new(),
            running: 0,
            reports: Reports::new(name),
            begun: VecDeque::new(),
            progress: HashMap::new(),
            progress_at: now,
            stop: Stop::Not,
            goodbye_at: None,
            owing_since: None,
            is_finished: false,
            commands: VecDeque::new(),
        }
    }

    /// What to do next; none: nothing until the next input.
    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Time has passed, or something else has changed. Called after every other input.
    pub(crate) fn on_tick(&mut self, now: Instant) {
        self.expire_links(now);
        self.start_ready();
        self.open_link(now);
        self.finish_if_done(now);
    }

    /// The next moment at which [`State::on_tick`] has something to do; none: only after another input.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(|link| link.next_due(&self.intervals));
        let reconnect = self.wants_link().then_some(self.reconnect_at);
        // Without a stream these wait for one, not for a moment.
        let progress = (self.current.is_some() && !self.progress.is_empty()).then_some(self.progress_at);
        let reports = self.current.and_then(|_| self.reports.next_due());
        let stop = match self.stop {
            Stop::Hard(deadline) => Some(deadline),
            _ => None,
        };
        let goodbye = self.goodbye_at.map(|at| at + FLUSH_WAIT);
        let owing = self.owing_since.map(|since| since + self.intervals.owing);
        links.chain([reconnect, reports, progress, stop, goodbye, owing].into_iter().flatten()).min()
    }

    fn expire_links(&mut self, now: Instant) {
        let dead: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| match link.phase {
                Phase::Connecting | Phase::Greeted | Phase::Leaving => now >= link.deadline,
                Phase::Connected => false,
                Phase::Attached => now >= link.heard_at + self.intervals.silence_max,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            self.commands.push_back(Command::Close { link: id });
            self.on_closed(now, id, Closed { message: "the server is silent".into(), ..Closed::default() });
        }
    }

    /// Whether another stream should be opened when the time comes.
    fn wants_link(&self) -> bool {
        let has_coming = self.links.values().any(Link::is_coming);
        let is_settled = self.current.and_then(|id| self.links.get(&id)).is_some_and(|link| !link.is_draining);
        // A worker that stops needs a stream only for what it still owes.
        let is_needed = self.stop == Stop::Not || !self.leases.is_empty() || !self.reports.is_empty();
        !has_coming && !is_settled && is_needed && !self.is_finished
    }

    fn open_link(&mut self, now: Instant) {
        if !self.wants_link() || now < self.reconnect_at {
            return;
        }
        let id = self.next_link;
        self.next_link += 1;
        self.links.insert(id, Link::new(now));
        self.commands.push_back(Command::Connect { link: id, address: self.next_address });
    }

    /// The connection stands: `Hello` may go.
    pub(crate) fn on_connected(&mut self, now: Instant, id: u64) {
        if let Some(link) = self.links.get_mut(&id)
            && link.phase == Phase::Connecting
        {
            link.phase = Phase::Connected;
            link.deadline = now + self.intervals.welcome;
        }
    }

    /// A frame came. Variants that are unset or unknown count as a sign of life, and as nothing else.
    pub(crate) fn on_frame(&mut self, now: Instant, id: u64, frame: WorkerLeaseResponse) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard_at = now;
        match frame.message {
            Some(FromServer::Welcome(welcome)) => self.on_welcome(now, id, &welcome),
            Some(FromServer::Leases(leases)) => self.on_leases(now, id, leases),
            Some(FromServer::ReportAck(ack)) => {
                let verdict = ack.verdict();
                if let Some(lease_id) = self.reports.acknowledge(now, &ack.report_id, verdict) {
                    // A server that answers is given the time to answer for all.
                    self.owing_since = self.owing_since.map(|_| now);
                    tracing::debug!(lease = %lease_id, ?verdict, "report settled");
                    self.commands.push_back(Command::Settled { lease_id, verdict });
                }
            }
            Some(FromServer::Revoke(revoke)) => {
                if let Some(key) = self.by_id.get(&revoke.lease_id).copied() {
                    tracing::warn!(lease = %revoke.lease_id, reason = ?revoke.reason(), "lease revoked");
                    match revoke.reason() {
                        RevokeReason::Cancelled | RevokeReason::TimedOut => self.cancel(key),
                        _ => self.lose(key),
                    }
                }
            }
            Some(FromServer::Drain(drain)) => self.on_drain(now, id, from_proto(drain.deadline)),
            Some(FromServer::Goodbye(goodbye)) => self.on_goodbye(now, id, goodbye),
            Some(FromServer::HeartbeatAck(_)) | None => {}
        }
    }

    fn on_welcome(&mut self, now: Instant, id: u64, welcome: &Welcome) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.phase != Phase::Greeted {
            return;
        }
        link.phase = Phase::Attached;
        link.attached_at = Some(now);
        link.heartbeat_at = now;
        let asked = std::mem::take(&mut link.hello_held);
        let was_resuming = link.is_resuming;
        self.intervals = Intervals::new(welcome.timing.as_ref());
        if welcome.session_leases_max > 0 {
            self.session_leases_max = welcome.session_leases_max;
        }
        self.session = Some(Resume { session_id: welcome.session_id.clone(), secret: welcome.secret.clone() });
        tracing::info!(session = %welcome.session_id, resumed = welcome.resumed, held = asked.len(), "attached");

        if was_resuming && !welcome.resumed {
            self.lose_all();
        }
        let kept: HashMap<&str, bool> =
            welcome.held.iter().map(|verdict| (verdict.lease_id.as_str(), verdict.kept)).collect();
        for key in asked {
            let Some(held) = self.leases.get_mut(&key) else { continue };
            match kept.get(held.lease_id.as_str()) {
                // Kept is confirmed, whether or not the confirmation on the stream before arrived.
                Some(true) if held.stage == Stage::Offered => {
                    held.stage = Stage::Ready;
                    self.ready.push_back(key);
                }
                Some(true) => {}
                Some(false) | None => self.lose(key),
            }
        }
        self.replace_current(now, id);
    }

    /// Makes `id` the stream in use.
    fn replace_current(&mut self, now: Instant, id: u64) {
        if let Some(old) = self.current.replace(id)
            && let Some(link) = self.links.get_mut(&old)
        {
            link.phase = Phase::Leaving;
            link.deadline = now + LEAVING_WAIT;
            self.commands.push_back(Command::FinishSending { link: old });
        }
        self.reports.resend_all();
        // What runs is told again: `Started` may have been lost with the stream before.
        self.begun =
            self.held().into_iter().filter(|key| self.leases.get(key).is_some_and(|held| held.has_begun)).collect();
    }

    fn on_drain(&mut self, now: Instant, id: u64, deadline: Option<Duration>) {
        let is_current = self.current == Some(id);
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.is_draining || !is_current {
            return;
        }
        link.is_draining = true;
        tracing::info!("the server drains: another stream is opened first");
        let spread = deadline.map_or(DRAIN_SPREAD_MAX, |deadline| (deadline / 4).min(DRAIN_SPREAD_MAX));
        self.next_address = (self.next_address + 1) % self.addresses;
        self.reconnect_at = now + self.backoff.up_to(spread);
    }

    fn on_goodbye(&mut self, now: Instant, id: u64, goodbye: ServerGoodbye) {
        let reason = goodbye.reason();
        self.commands.push_back(Command::Close { link: id });
        let reason_of_status = (reason == GoodbyeReason::Expired).then_some(ErrorReason::LeaseLost);
        let closed = Closed { reason: reason_of_status, message: format!("goodbye: {reason:?}"), ..Closed::default() };
        self.on_closed(now, id, closed);
    }

    /// A stream has ended, or could not be opened.
    pub(crate) fn on_closed(&mut self, now: Instant, id: u64, closed: Closed) {
        let Some(link) = self.links.remove(&id) else { return };
        if link.phase == Phase::Leaving {
            return;
        }
        let was_current = self.current == Some(id);
        if was_current {
            self.current = None;
        }
        if closed.reason == Some(ErrorReason::LeaseLost) && self.current.is_none() && self.session.is_some() {
            // The session is gone and with it every lease. Reports are kept: one whose lease was not granted again counts.
            tracing::warn!(reason = %closed.message, "session lost");
            self.session = None;
            self.lose_all();
        }
        if self.goodbye_at.is_some() {
            self.is_finished = true;
            self.commands.push_back(Command::Finish);
            return;
        }
        if link.attached_at.is_some_and(|since| now >= since + STEADY) {
            self.backoff.reset();
        }
        if was_current || self.current.is_none() || link.is_coming() {
            // The delay is that server's; others need not be waited for.
            let asked = closed.retry_delay.filter(|_| self.addresses == 1).unwrap_or_default();
            let pause = self.backoff.next_within(self.intervals.reconnect).max(asked.min(RETRY_DELAY_MAX));
            // Another address may be well; the same one has just failed.
            self.next_address = (self.next_address + 1) % self.addresses;
            let is_moving = self.links.values().any(Link::is_coming);
            if !is_moving {
                self.reconnect_at = now + pause;
            }
            tracing::warn!(reason = %closed.message, retry_in = ?pause, "stream ended");
        }
    }

    /// No new attempt; what runs goes on; the engine finishes once all is reported.
    pub(crate) fn stop_softly(&mut self) {
        if self.stop == Stop::Not {
            self.stop = Stop::Soft;
            self.start_ready();
        }
    }

    /// What runs is dropped and given back; the engine finishes once that is told, or shortly.
    pub(crate) fn stop_hard(&mut self, now: Instant) {
        if matches!(self.stop, Stop::Hard(_)) {
            return;
        }
        self.stop_softly();
        self.stop = Stop::Hard(now + FLUSH_WAIT);
        let mut keys: Vec<Key> = self.leases.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.commands.push_back(Command::Cancel { key });
            self.commands.push_back(Command::Abort { key });
            self.report(key, Outcome::Release);
        }
    }

    /// Whether everything is reported and only the goodbye is left.
    pub(super) fn is_done(&self) -> bool {
        self.stop != Stop::Not && self.leases.is_empty() && self.reports.is_empty()
    }

    /// How many reports no server has answered.
    pub(crate) fn owed(&self) -> usize {
        self.reports.len()
    }

    fn finish_if_done(&mut self, now: Instant) {
        let is_owing = self.stop == Stop::Soft && self.leases.is_empty() && !self.reports.is_empty();
        self.owing_since = is_owing.then(|| self.owing_since.unwrap_or(now));
        if !self.is_finished && self.owing_since.is_some_and(|since| now >= since + self.intervals.owing) {
            tracing::warn!(
                reports = self.reports.len(),
                waited = ?self.intervals.owing,
                "no server takes the last reports: given up, these attempts are made again"
            );
            self.is_finished = true;
            self.commands.push_back(Command::Finish);
        }
        let is_overdue = matches!(self.stop, Stop::Hard(deadline) if now >= deadline);
        let is_unanswered = self.goodbye_at.is_some_and(|at| now >= at + FLUSH_WAIT);
        // A server that has our hello has a session of ours: worth a goodbye, once it has answered.
        let is_answering = self.links.values().any(|link| link.phase == Phase::Greeted);
        let is_away = self.is_done() && self.current.is_none() && !is_answering;
        if !self.is_finished && (is_overdue || is_unanswered || is_away) {
            self.is_finished = true;
            self.commands.push_back(Command::Finish);
        }
    }
}
