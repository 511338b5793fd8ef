//! What happens in each queue, as this replica sees it: over the last minute second by second, and, where metrics are told,
//! since the start.
//!
//! One look at the map and one short lock for each kind of event in a batch, nothing for each task.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::envelope;
use crate::clock::{Instant, WallTime};
use crate::ledger::{Decision, Lease};
use crate::task::{FailureReason, QueueName, Signature, Status, TaskName, Timestamp};
use crate::telemetry::metrics::Metrics;
pub(super) use crate::telemetry::tasks::{Event, Outcome, Time};

/// Queues that are counted one by one, some 2 KiB each; what happens in others is not counted.
const QUEUES_MAX: usize = 1_000;
/// Seconds that are remembered.
const SECONDS: usize = 60;
/// Kinds of events.
const KINDS: usize = 8;

/// Where an event stands among the rates of a queue; `None`: it has no rate.
fn place(event: Event) -> Option<usize> {
    Some(match event {
        Event::Sent => 0,
        Event::Leased => 1,
        Event::Ended(Outcome::Success) => 2,
        Event::Ended(Outcome::Failure(FailureReason::Purged)) => 7,
        Event::Ended(Outcome::Failure(_)) => 3,
        Event::Ended(Outcome::Retry) => 4,
        Event::Lost => 5,
        Event::Released => 6,
        Event::SentBefore | Event::SetAside => return None,
    })
}

/// What a decision is in its queue; `None`: it decides nothing.
pub(super) fn outcome(decision: &Decision) -> Option<Outcome> {
    let state = &decision.effects.states.first()?.state;
    match state.status {
        Status::Success => Some(Outcome::Success),
        Status::Failure => Some(Outcome::Failure(state.reason)),
        Status::Retry => Some(Outcome::Retry),
        Status::Pending | Status::Received | Status::Started => None,
    }
}

/// Events per second over the last minute, as one replica saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Tasks sent; no callbacks, no retries.
    pub sent: f64,
    /// Leases offered.
    pub leased: f64,
    /// Tasks that ended in SUCCESS.
    pub succeeded: f64,
    /// Tasks that ended in FAILURE, purged ones aside.
    pub failed: f64,
    /// Attempts followed by a retry.
    pub retried: f64,
    /// Attempts that ended in dead workers.
    pub lost: f64,
    /// Attempts given back.
    pub released: f64,
    /// Tasks purged.
    pub purged: f64,
}

/// The counters of all queues.
#[derive(Debug)]
pub(super) struct Traffic {
    began: Instant,
    queues: RwLock<HashMap<QueueName, Arc<Mutex<Counters>>>>,
    /// Where the same is counted for as long as the process runs, if anybody asks for that.
    metrics: Option<Arc<Metrics>>,
}

#[derive(Debug)]
struct Counters {
    /// Something was sent to it since the start.
    is_sent_to: bool,
    /// The second of the last event, counted from the start.
    second: u64,
    /// The last seconds, each at its number modulo [`SECONDS`].
    ring: [[u32; KINDS]; SECONDS],
}

impl Counters {
    const EMPTY: Self = Self { is_sent_to: false, second: 0, ring: [[0; KINDS]; SECONDS] };

    /// Goes on to a second, and forgets what is a minute older.
    fn go_to(&mut self, second: u64) {
        let steps = second.saturating_sub(self.second).min(SECONDS as u64);
        for step in 0..steps {
            self.ring[((second - step) % SECONDS as u64) as usize] = [0; KINDS];
        }
        self.second = self.second.max(second);
    }

    fn add(&mut self, event: Event, count: u64, second: u64) {
        self.go_to(second);
        self.is_sent_to |= event == Event::Sent;
        let Some(place) = place(event) else { return };
        let slot = &mut self.ring[(self.second % SECONDS as u64) as usize][place];
        *slot = slot.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn rates(&mut self, second: u64) -> Rates {
        self.go_to(second);
        let rate = |place: usize| {
            let sum: u64 = self.ring.iter().map(|counts| u64::from(counts[place])).sum();
            sum as f64 / SECONDS as f64
        };
        Rates {
            sent: rate(0),
            leased: rate(1),
            succeeded: rate(2),
            failed: rate(3),
            retried: rate(4),
            lost: rate(5),
            released: rate(6),
            purged: rate(7),
        }
    }
}

impl Traffic {
    /// Nothing has happened before `now`.
    pub(super) fn new(now: Instant, metrics: Option<Arc<Metrics>>) -> Self {
        Self { began: now, queues: RwLock::default(), metrics }
    }

    /// Whether somebody asks for more than rates.
    pub(super) fn is_measured(&self) -> bool {
        self.metrics.is_some()
    }

    fn second(&self, now: Instant) -> u64 {
        now.duration_since(self.began).as_secs()
    }

    /// Counts events of one kind in one queue.
    pub(super) fn count(&self, queue: &QueueName, event: Event, count: u64, now: Instant) {
        if count == 0 {
            return;
        }
        if let Some(metrics) = &self.metrics {
            metrics.tasks.count(queue, event, count);
        }
        if place(event).is_none() {
            return;
        }
        let known = self.queues.read().get(queue).cloned();
        let counters = match known {
            Some(counters) => counters,
            None => {
                let mut queues = self.queues.write();
                if queues.len() >= QUEUES_MAX && !queues.contains_key(queue) {
                    return;
                }
                queues.entry(queue.clone()).or_insert_with(|| Arc::new(Mutex::new(Counters::EMPTY))).clone()
            }
        };
        counters.lock().add(event, count, self.second(now));
    }

    /// Counts what a batch came to.
    pub(super) fn add(&self, tally: Tally, now: Instant) {
        for ((queue, event), count) in tally.0 {
            self.count(&queue, event, count, now);
        }
    }

    /// Counts times of tasks of one queue.
    pub(super) fn observe(&self, queue: &QueueName, which: Time, times: &[(TaskName, Duration)]) {
        if let Some(metrics) = &self.metrics {
            metrics.tasks.observe(queue, which, times);
        }
    }

    /// The rates of a queue; `None`: nothing was counted in it.
    pub(super) fn rates(&self, queue: &QueueName, now: Instant) -> Option<Rates> {
        let counters = self.queues.read().get(queue).cloned()?;
        Some(counters.lock().rates(self.second(now)))
    }

    /// Whether something was sent to the queue since the start.
    pub(super) fn is_sent_to(&self, queue: &QueueName) -> bool {
        self.queues.read().get(queue).is_some_and(|counters| counters.lock().is_sent_to)
    }

    /// The queues to which something was sent since the start.
    pub(super) fn sent_to(&self) -> Vec<QueueName> {
        let queues = self.queues.read();
        queues.iter().filter(|(_, counters)| counters.lock().is_sent_to).map(|(queue, _)| queue.clone()).collect()
    }
}

/// What happened in one batch, before it is counted.
#[derive(Debug, Default)]
pub(super) struct Tally(HashMap<(QueueName, Event), u64>);

impl Tally {
    /// One event.
    pub(super) fn add(&mut self, queue: &QueueName, event: Event) {
        *self.0.entry((queue.clone(), event)).or_default() += 1;
    }
}

/// How long a task waited for a lease: from its send, or from the moment it was delayed to. `None`: it waited before, or
/// another program sent it and did not say when.
pub(super) fn waited(lease: &Lease, signature: &Signature) -> Option<Duration> {
    let is_first = lease.releases == 0 && lease.lost.is_empty();
    let sent = envelope::generation(signature);
    let due = signature.eta.map(Timestamp::to_wall);
    let from = due.into_iter().chain((sent > 0).then_some(WallTime(sent))).max()?;
    is_first.then(|| from.until(lease.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_of_the_last_minute() {
        let start = Instant::now();
        let traffic = Traffic::new(start, None);
        let queue = QueueName::trusted("q");
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(traffic.rates(&queue, at(0)), None);
        traffic.count(&queue, Event::Sent, 60, at(5));
        traffic.count(&queue, Event::Leased, 30, at(30));
        let rates = traffic.rates(&queue, at(59)).unwrap();
        assert_eq!((rates.sent, rates.leased), (1.0, 0.5));
        let rates = traffic.rates(&queue, at(65)).unwrap();
        assert_eq!((rates.sent, rates.leased), (0.0, 0.5), "the first is a minute old");
        assert_eq!(traffic.rates(&queue, at(1_000)), Some(Rates::default()));
        assert!(traffic.is_sent_to(&queue));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_queues_is_bounded() {
        let now = Instant::now();
        let traffic = Traffic::new(now, None);
        for n in 0..=QUEUES_MAX {
            traffic.count(&QueueName::trusted(format!("q{n}")), Event::Sent, 1, now);
        }
        assert_eq!(traffic.sent_to().len(), QUEUES_MAX);
    }
}
