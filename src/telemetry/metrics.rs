//! All that a server counts, and the page that tells it.

use super::calls::Calls;
use super::exposition::Exposition;
use super::stores::Stores;
use super::tasks::Tasks;
use super::{process, table};
use crate::clock::WallTime;
use crate::config::reload;
use crate::task::QueueName;

/// Nanoseconds in a second.
const NANOS: f64 = 1e9;

/// The counters of one server.
#[derive(Debug)]
pub struct Metrics {
    /// Tasks.
    pub tasks: Tasks,
    /// Calls of stores.
    pub stores: Stores,
    /// gRPC calls.
    pub calls: Calls,
    began: WallTime,
}

/// What is read for a scrape.
#[derive(Debug, Clone, Default)]
pub struct Now {
    /// The queues; `None`: they could not be read.
    pub queues: Option<Vec<Queue>>,
    /// There are queues that were not read.
    pub are_more: bool,
    /// Sessions attached to this server.
    pub sessions: u64,
    /// Leases that they may still be offered.
    pub slots_free: u64,
    /// Spans that were dropped since the start.
    pub spans_dropped: u64,
}

/// A queue at a scrape.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// Tasks that are due and wait.
    pub waiting: u64,
    /// Tasks that wait for their time.
    pub delayed: u64,
    /// Live leases.
    pub leased: u64,
    /// Of `delayed`: parked by this server.
    pub parked: u64,
    /// Age of the oldest of `waiting`, seconds.
    pub oldest_seconds: f64,
    /// Sessions that take from it.
    pub workers: u64,
    /// It is paused.
    pub is_paused: bool,
}

/// A metric of a queue, and how it is read.
type Gauge = (&'static table::Metric, fn(&Queue) -> f64);

impl Metrics {
    /// Nothing is counted yet. `methods`: paths of the gRPC methods that are told one by one; `began`: now.
    pub fn new(methods: impl IntoIterator<Item = String>, began: WallTime) -> Self {
        Self { tasks: Tasks::default(), stores: Stores::default(), calls: Calls::new(methods), began }
    }

    /// The page.
    pub fn page(&self, now: &Now) -> String {
        let mut page = Exposition::default();
        self.tasks.tell(&mut page);
        self.tell_queues(now, &mut page);
        page.one(&table::SESSIONS, now.sessions as f64);
        page.one(&table::SLOTS, now.slots_free as f64);
        self.stores.tell(&mut page);
        self.calls.tell(&mut page);
        let reloads = reload::counts();
        let mut samples = page.begin(&table::RELOADS);
        samples.count(&["applied"], reloads.applied());
        samples.count(&["refused"], reloads.refused());
        page.one(&table::SPANS_DROPPED, now.spans_dropped as f64);
        page.begin(&table::BUILD).value(&[env!("CARGO_PKG_VERSION")], 1.0);
        page.one(&table::STARTED, self.began.0 as f64 / NANOS);
        process::tell(&mut page);
        page.into_text()
    }

    fn tell_queues(&self, now: &Now, page: &mut Exposition) {
        let all = now.queues.as_deref().unwrap_or_default();
        // Queues beyond the bound are one: their sums, the greatest age, and how many are paused.
        let mut told: Vec<(&str, Queue)> = Vec::new();
        let mut other: Option<Queue> = None;
        for queue in all {
            let label = self.tasks.label(&queue.name);
            if label == queue.name.as_str() && label != super::bounded::OTHER {
                told.push((label, queue.clone()));
                continue;
            }
            match &mut other {
                None => other = Some(queue.clone()),
                Some(sum) => {
                    sum.waiting += queue.waiting;
                    sum.delayed += queue.delayed;
                    sum.parked += queue.parked;
                    sum.leased += queue.leased;
                    sum.oldest_seconds = sum.oldest_seconds.max(queue.oldest_seconds);
                    sum.workers += queue.workers;
                    sum.is_paused |= queue.is_paused;
                }
            }
        }
        told.extend(other.map(|sum| (super::bounded::OTHER, sum)));
        let gauges: [Gauge; 7] = [
            (&table::WAITING, |queue| queue.waiting as f64),
            (&table::DELAYED, |queue| queue.delayed as f64),
            (&table::PARKED, |queue| queue.parked as f64),
            (&table::HELD, |queue| queue.leased as f64),
            (&table::OLDEST, |queue| queue.oldest_seconds),
            (&table::TAKERS, |queue| queue.workers as f64),
            (&table::PAUSED, |queue| f64::from(u8::from(queue.is_paused))),
        ];
        for (metric, value) in gauges {
            let mut samples = page.begin(metric);
            told.iter().for_each(|(label, queue)| samples.value(&[label], value(queue)));
        }
        page.one(&table::QUEUES_READ, all.len() as f64);
        page.one(&table::QUEUES_UNREAD, f64::from(u8::from(now.queues.is_none() || now.are_more)));
    }
}
