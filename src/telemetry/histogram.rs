//! Histograms of times: counters for ranges, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds for what tasks take and wait, microseconds: from what a machine at rest does to hours of backlog.
pub static TASK_BOUNDS: [u64; 12] = [
    1_000,
    5_000,
    25_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
];

/// Upper bounds for calls of a store, microseconds: from memory to a time limit.
pub static STORE_BOUNDS: [u64; 12] =
    [100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// Microseconds in a second.
const MICROS: f64 = 1e6;

/// Counts times by their size.
#[derive(Debug)]
pub struct Histogram {
    /// Microseconds, growing.
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    counts: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

/// What a histogram has counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    bounds: &'static [u64],
    counts: Vec<u64>,
    /// Seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty one with these upper bounds, in microseconds and growing.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_micros: AtomicU64::new(0) }
    }

    /// Counts one time.
    pub fn observe(&self, time: Duration) {
        // What is a part of a microsecond over a bound is over it.
        let micros = u64::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        let place = self.bounds.partition_point(|bound| *bound < micros);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it has counted. The number of all is that of its parts, so the two agree though others count meanwhile.
    pub fn read(&self) -> Reading {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Reading { bounds: self.bounds, counts, sum: self.sum_micros.load(Ordering::Relaxed) as f64 / MICROS }
    }
}

impl Reading {
    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each upper bound in seconds, infinity last, with the number of times that were at most so long.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / MICROS).chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |all, (bound, count)| {
            *all += count;
            Some((bound, *all))
        })
    }
}
