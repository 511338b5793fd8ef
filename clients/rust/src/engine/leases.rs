//! The leases of a worker: taken, confirmed, run, reported or lost.

use tokio::time::Instant;

use super::link::Phase;
use super::reports::truncate;
use super::state::{State, Stop};
use super::{Command, Key, Outcome};
use crate::producer::task::from_proto;
use crate::proto::{Lease, Leases};

/// `Progress.message` is refused by the server beyond this.
const PROGRESS_BYTES_MAX: usize = 1000;

/// Where a lease stands in this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Received; the confirmation has not gone.
    Offered,
    /// Confirmed; waits for a free slot.
    Ready,
    /// Its handler was started.
    Running,
    /// Its handler runs, but the lease is gone. It takes up a slot and is not held.
    Lost,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease_id: String,
    pub(super) stage: Stage,
    /// The handler has said that it runs.
    pub(super) has_begun: bool,
    /// Until it starts.
    pub(super) lease: Option<Box<Lease>>,
    /// When the attempt has run as long as it may; none: it may run for ever.
    pub(super) deadline: Option<Instant>,
}

impl State {
    /// How many more leases this worker can take beyond those it has; counts handlers whose lease is lost.
    pub(super) fn free(&self) -> u64 {
        if self.stop != Stop::Not || self.reports.bytes() > self.config.report_bytes_max {
            return 0;
        }
        let wanted = match self.config.concurrency {
            0 => self.session_leases_max,
            limit => limit.saturating_add(self.config.prefetch).min(self.session_leases_max),
        };
        // Reports count too once they are more than everything that can be held: the server is slower than the handlers,
        // and the backlog belongs to it, not to our memory.
        let waiting = self.reports.len().saturating_sub(wanted as usize);
        u64::from(wanted).saturating_sub((self.leases.len() + waiting) as u64)
    }

    /// The ids of all leases held, oldest first.
    pub(super) fn held(&self) -> Vec<Key> {
        let mut keys: Vec<_> =
            self.leases.iter().filter(|(_, held)| held.stage != Stage::Lost).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn ids(&self, keys: &[Key]) -> Vec<String> {
        keys.iter().filter_map(|key| self.leases.get(key)).map(|held| held.lease_id.clone()).collect()
    }

    pub(super) fn on_leases(&mut self, now: Instant, id: u64, frame: Leases) {
        // Once a `Hello` elsewhere has named what is held, leases that were not named go back; so they are not taken.
        let is_moving = self.links.values().any(|link| link.phase == Phase::Greeted && link.is_resuming);
        let is_taking = self.current == Some(id) && !is_moving;
        let Some(link) = self.links.get_mut(&id) else { return };
        for (number, lease) in (frame.first_number..).zip(frame.leases) {
            link.received = link.received.max(number);
            if self.by_id.contains_key(&lease.lease_id) {
                continue;
            }
            if !is_taking || number > link.credit {
                link.has_refused = true;
                continue;
            }
            let key = self.next_key;
            self.next_key += 1;
            link.offered.push_back((number, key));
            self.by_id.insert(lease.lease_id.clone(), key);
            let lease_id = lease.lease_id.clone();
            let deadline = from_proto(lease.timeout).and_then(|timeout| now.checked_add(timeout));
            let lease = Some(Box::new(lease));
            let held = Held { lease_id, stage: Stage::Offered, has_begun: false, lease, deadline };
            self.leases.insert(key, held);
        }
    }

    /// The confirmation of all leases up to `number` has been handed to the stream they came on.
    pub(super) fn on_accepted(&mut self, id: u64, number: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.accepted = link.accepted.max(number);
        while let Some((offered, key)) = link.offered.front().copied() {
            if offered > number {
                break;
            }
            link.offered.pop_front();
            if let Some(held) = self.leases.get_mut(&key)
                && held.stage == Stage::Offered
            {
                held.stage = Stage::Ready;
                self.ready.push_back(key);
            }
        }
        self.start_ready();
    }

    pub(super) fn start_ready(&mut self) {
        while self.stop == Stop::Not
            && (self.config.concurrency == 0 || self.running < self.config.concurrency as usize)
        {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(held) = self.leases.get_mut(&key) else { continue };
            let Some(lease) = held.lease.take() else { continue };
            held.stage = Stage::Running;
            self.running += 1;
            self.commands.push_back(Command::Start { key, lease, deadline: held.deadline });
        }
        if self.stop != Stop::Not {
            // Confirmed and never started: given back, so that another worker need not wait for us.
            for key in std::mem::take(&mut self.ready) {
                self.report(key, Outcome::Release);
            }
        }
    }

    /// Forgets a lease that is not running, or tells its handler to stop.
    pub(super) fn lose(&mut self, key: Key) {
        let Some(held) = self.leases.get_mut(&key) else { return };
        self.by_id.remove(&held.lease_id);
        self.progress.remove(&key);
        match held.stage {
            Stage::Offered | Stage::Ready => {
                self.leases.remove(&key);
            }
            Stage::Running => {
                held.stage = Stage::Lost;
                self.commands.push_back(Command::Cancel { key });
            }
            Stage::Lost => {}
        }
    }

    /// The task was cancelled, or ran too long: what has not started is given back, a handler is told to stop. The lease stays held until
    /// its report.
    pub(super) fn cancel(&mut self, key: Key) {
        let Some(held) = self.leases.get(&key) else { return };
        match held.stage {
            Stage::Offered | Stage::Ready => self.report(key, Outcome::Release),
            Stage::Running => self.commands.push_back(Command::Cancel { key }),
            Stage::Lost => {}
        }
    }

    pub(super) fn lose_all(&mut self) {
        for key in self.held() {
            self.lose(key);
        }
    }

    /// The lease is done with: its report waits from now on.
    pub(super) fn report(&mut self, key: Key, outcome: Outcome) {
        let Some(held) = self.leases.remove(&key) else { return };
        self.by_id.remove(&held.lease_id);
        self.progress.remove(&key);
        if matches!(held.stage, Stage::Running | Stage::Lost) {
            self.running = self.running.saturating_sub(1);
        }
        // An attempt whose lease is gone may be made elsewhere. If it succeeded all the same, the server decides by the
        // fencing token; if it failed, it most likely failed because it was told to stop, which should cost no retry.
        if held.stage != Stage::Lost || matches!(outcome, Outcome::Success(_)) {
            self.reports.add(held.lease_id, outcome);
        }
    }

    /// A handler runs.
    pub(crate) fn on_began(&mut self, key: Key) {
        if let Some(held) = self.leases.get_mut(&key) {
            held.has_begun = true;
            self.begun.push_back(key);
        }
    }

    /// A handler tells how far it is; the latest word counts.
    pub(crate) fn on_progress(&mut self, key: Key, fraction: f64, mut message: String) {
        if self.leases.get(&key).is_some_and(|held| held.stage == Stage::Running) {
            truncate(&mut message, PROGRESS_BYTES_MAX);
            let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
            self.progress.insert(key, (fraction, message));
        }
    }

    /// A handler has ended.
    pub(crate) fn on_finished(&mut self, key: Key, outcome: Outcome) {
        self.report(key, outcome);
    }
}
