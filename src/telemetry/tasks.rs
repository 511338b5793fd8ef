//! What happens to tasks, counted by queue and by name for as long as the process runs.
//!
//! A batch looks its queue up once; a count is one atomic addition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bounded::{Bounded, OTHER, Places};
use super::exposition::Exposition;
use super::histogram::{Histogram, TASK_BOUNDS};
use super::table::{self, Metric};
use crate::task::{FailureReason, QueueName, TaskName};

/// Queues that have series of their own; what happens in others is counted under [`OTHER`].
pub const QUEUES_MAX: usize = 200;
/// Pairs of queue and task name that have histograms of their own; all others share one.
pub const NAMES_MAX: usize = 200;

/// What can happen in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A task was sent to it; no callback, no retry.
    Sent,
    /// A send was answered with a task that was sent before.
    SentBefore,
    /// A lease was offered to a worker.
    Leased,
    /// A worker gave an attempt back.
    Released,
    /// An attempt ended in a dead worker.
    Lost,
    /// A task was set aside as dead.
    SetAside,
    /// An outcome was recorded.
    Ended(Outcome),
}

/// How an attempt, or a task that waited, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// SUCCESS.
    Success,
    /// A retry follows.
    Retry,
    /// FAILURE, for this reason.
    Failure(FailureReason),
}

/// Counters that have no label but the queue, in the order of their places in [`Queue`].
const PLAIN: [(Event, &Metric); 6] = [
    (Event::Sent, &table::SENT),
    (Event::SentBefore, &table::SENT_BEFORE),
    (Event::Leased, &table::LEASED),
    (Event::Released, &table::RELEASED),
    (Event::Lost, &table::LOST),
    (Event::SetAside, &table::SET_ASIDE),
];

/// Outcomes and their labels, likewise.
const OUTCOMES: [(Outcome, &str); 11] = [
    (Outcome::Success, "success"),
    (Outcome::Retry, "retry"),
    (Outcome::Failure(FailureReason::Failed), "failed"),
    (Outcome::Failure(FailureReason::WorkerLost), "worker_lost"),
    (Outcome::Failure(FailureReason::ResultTooLarge), "result_too_large"),
    (Outcome::Failure(FailureReason::Poison), "poison"),
    (Outcome::Failure(FailureReason::Cancelled), "cancelled"),
    (Outcome::Failure(FailureReason::Purged), "purged"),
    (Outcome::Failure(FailureReason::TimedOut), "timed_out"),
    (Outcome::Failure(FailureReason::Expired), "expired"),
    (Outcome::Failure(FailureReason::Unknown), "unknown"),
];

impl Event {
    fn place(self) -> usize {
        let plain = || PLAIN.iter().position(|(event, _)| *event == self);
        match self {
            Self::Ended(outcome) => PLAIN.len() + outcome.place(),
            _ => plain().unwrap_or_default(),
        }
    }
}

impl Outcome {
    /// Whether there was an attempt that ran to its end: a worker has said so, or its time was over.
    pub fn is_reported(self) -> bool {
        let by_worker = [FailureReason::Failed, FailureReason::ResultTooLarge, FailureReason::TimedOut];
        !matches!(self, Self::Failure(reason) if !by_worker.contains(&reason))
    }

    fn place(self) -> usize {
        OUTCOMES.iter().position(|(outcome, _)| *outcome == self).unwrap_or(OUTCOMES.len() - 1)
    }
}

/// The counters of one queue.
#[derive(Debug, Default)]
struct Queue {
    counts: [AtomicU64; PLAIN.len() + OUTCOMES.len()],
    names: Bounded<TaskName, Times>,
}

/// The times of one name in one queue.
#[derive(Debug)]
struct Times {
    wait: Histogram,
    run: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        Self { wait: Histogram::new(&TASK_BOUNDS), run: Histogram::new(&TASK_BOUNDS) }
    }
}

/// Which time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// From its send, or the moment it was delayed to, until its first lease.
    Wait,
    /// From the lease until success or failure is recorded.
    Run,
}

/// The counters of all queues.
#[derive(Debug)]
pub struct Tasks {
    queues: Bounded<QueueName, Queue>,
    queue_places: Places,
    name_places: Places,
    other: Arc<Queue>,
    other_times: Times,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            queues: Bounded::default(),
            queue_places: Places::new(QUEUES_MAX),
            name_places: Places::new(NAMES_MAX),
            other: Arc::default(),
            other_times: Times::default(),
        }
    }
}

impl Tasks {
    /// Counts events of one kind in one queue.
    pub fn count(&self, queue: &QueueName, event: Event, count: u64) {
        self.queue(queue).counts[event.place()].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts times of tasks of one queue.
    pub fn observe(&self, queue: &QueueName, which: Time, times: &[(TaskName, Duration)]) {
        if times.is_empty() {
            return;
        }
        let series = self.queue(queue);
        let is_other = Arc::ptr_eq(&series, &self.other);
        // Tasks of one name come together, so most of a batch looks nothing up.
        let mut last: Option<(&TaskName, Option<Arc<Times>>)> = None;
        for (name, time) in times {
            let of_name = match last.take() {
                Some((known, times)) if known == name => times,
                _ if is_other => None,
                _ => series.names.get(name, &self.name_places),
            };
            let of_all = of_name.as_deref().unwrap_or(&self.other_times);
            match which {
                Time::Wait => of_all.wait.observe(*time),
                Time::Run => of_all.run.observe(*time),
            }
            last = Some((name, of_name));
        }
    }

    /// The label under which a queue is told.
    pub fn label<'a>(&self, queue: &'a QueueName) -> &'a str {
        if self.queues.get(queue, &self.queue_places).is_some() { queue.as_str() } else { OTHER }
    }

    fn queue(&self, queue: &QueueName) -> Arc<Queue> {
        self.queues.get(queue, &self.queue_places).unwrap_or_else(|| self.other.clone())
    }

    /// Writes all of them. A queue that was seen has every counter, at 0 too, so that its first step is one.
    pub fn tell(&self, page: &mut Exposition) {
        let queues = self.queues.all();
        let named = || queues.iter().map(|(name, queue)| (name.as_str(), queue)).chain([(OTHER, &self.other)]);
        for (place, (_, metric)) in PLAIN.iter().enumerate() {
            let mut samples = page.begin(metric);
            named().for_each(|(name, queue)| samples.count(&[name], queue.counts[place].load(Ordering::Relaxed)));
        }
        let mut samples = page.begin(&table::OUTCOMES);
        for (name, queue) in named() {
            for (place, (_, outcome)) in OUTCOMES.iter().enumerate() {
                let count = queue.counts[PLAIN.len() + place].load(Ordering::Relaxed);
                samples.count(&[name, outcome], count);
            }
        }
        let times: Vec<_> = queues.iter().map(|(queue, series)| (queue, series.names.all())).collect();
        for which in [Time::Wait, Time::Run] {
            let (metric, of): (_, fn(&Times) -> &Histogram) = match which {
                Time::Wait => (&table::WAIT, |times| &times.wait),
                Time::Run => (&table::RUN, |times| &times.run),
            };
            let mut samples = page.begin(metric);
            for (queue, names) in &times {
                for (name, times) in names {
                    samples.histogram(&[queue.as_str(), name.as_str()], &of(times).read());
                }
            }
            samples.histogram(&[OTHER, OTHER], &of(&self.other_times).read());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tasks: &Tasks) -> String {
        let mut page = Exposition::default();
        tasks.tell(&mut page);
        page.into_text()
    }

    #[test]
    fn every_event_and_outcome_has_a_place_of_its_own() {
        let outcomes = OUTCOMES.iter().map(|(outcome, _)| Event::Ended(*outcome));
        let places: Vec<usize> = PLAIN.iter().map(|(event, _)| *event).chain(outcomes).map(Event::place).collect();
        assert_eq!(places, (0..PLAIN.len() + OUTCOMES.len()).collect::<Vec<_>>());
    }

    #[test]
    fn what_happens_is_counted_by_queue_and_timed_by_name() {
        let tasks = Tasks::default();
        let queue = QueueName::trusted("mail");
        tasks.count(&queue, Event::Sent, 3);
        tasks.count(&queue, Event::Ended(Outcome::Failure(FailureReason::Poison)), 2);
        let time = Duration::from_millis(200);
        tasks.observe(&queue, Time::Wait, &[(TaskName::trusted("a"), time), (TaskName::trusted("a"), time)]);
        tasks.observe(&queue, Time::Run, &[(TaskName::trusted("b"), time)]);
        let text = told(&tasks);
        for line in [
            "lineshaft_tasks_sent_total{queue=\"mail\"} 3",
            "lineshaft_tasks_sent_total{queue=\"other\"} 0",
            "lineshaft_leases_granted_total{queue=\"mail\"} 0",
            "lineshaft_task_outcomes_total{queue=\"mail\",outcome=\"poison\"} 2",
            "lineshaft_task_outcomes_total{queue=\"mail\",outcome=\"success\"} 0",
            "lineshaft_task_wait_seconds_bucket{queue=\"mail\",name=\"a\",le=\"0.1\"} 0",
            "lineshaft_task_wait_seconds_bucket{queue=\"mail\",name=\"a\",le=\"0.5\"} 2",
            "lineshaft_task_wait_seconds_sum{queue=\"mail\",name=\"a\"} 0.4",
            "lineshaft_task_run_seconds_count{queue=\"mail\",name=\"b\"} 1",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
        }
    }

    #[test]
    fn queues_and_names_beyond_the_bound_are_counted_together() {
        let tasks = Tasks::default();
        for n in 0..QUEUES_MAX + 50 {
            let queue = QueueName::trusted(format!("q{n}"));
            tasks.count(&queue, Event::Sent, 1);
            tasks.observe(&queue, Time::Wait, &[(TaskName::trusted(format!("t{n}")), Duration::ZERO)]);
        }
        // A queue of the name of all others is told among them: no series is told twice.
        tasks.count(&QueueName::trusted(OTHER), Event::Sent, 1);
        let text = told(&tasks);
        let series = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(series("lineshaft_tasks_sent_total{"), QUEUES_MAX + 1);
        assert_eq!(series("lineshaft_task_wait_seconds_count{"), NAMES_MAX + 1);
        assert!(text.contains("\nlineshaft_tasks_sent_total{queue=\"other\"} 51\n"), "{text}");
        assert!(text.contains("\nlineshaft_task_wait_seconds_count{queue=\"other\",name=\"other\"} 50\n"));
        assert_eq!(tasks.label(&QueueName::trusted("q0")), "q0");
        assert_eq!(tasks.label(&QueueName::trusted("never seen")), OTHER);
    }
}
