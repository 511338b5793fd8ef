//! Waits between attempts to reach a server.

use std::time::Duration;

/// The longest wait before the first repetition.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait at all: a server that is back is found again within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Exponential back-off with full jitter: each wait is drawn evenly from zero to a bound that doubles, so that the
/// workers that lost a server together do not come back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    random: u64,
    failures: u32,
}

impl Backoff {
    /// Starts over a seed; the same seed gives the same waits.
    pub(crate) fn new(seed: u64) -> Self {
        // Xorshift stands still on zero.
        Self { random: seed | 1, failures: 0 }
    }

    /// Starts over a seed that no other process has.
    pub(crate) fn random() -> Self {
        Self::new(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.next_within(BACKOFF_MAX)
    }

    /// The wait after one more failure, at most `max`, which may be less than the longest wait there is.
    pub(crate) fn next_within(&mut self, max: Duration) -> Duration {
        let bound = BACKOFF_MIN.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX).min(max);
        self.failures = self.failures.saturating_add(1);
        self.up_to(bound)
    }

    /// Forgets the failures: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// An even draw from zero to `bound`.
    pub(crate) fn up_to(&mut self, bound: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random % micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_spread_below_it() {
        let mut backoff = Backoff::new(7);
        assert!(backoff.next() <= BACKOFF_MIN);
        let late: Vec<_> = (0..1000).map(|_| backoff.next()).collect();
        assert!(late.iter().all(|wait| *wait <= BACKOFF_MAX));
        assert!(late.iter().skip(20).any(|wait| *wait < BACKOFF_MAX / 4));
        assert!(late.iter().skip(20).any(|wait| *wait > BACKOFF_MAX / 4 * 3));
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
