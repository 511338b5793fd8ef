//! The only door to time.
//!
//! Wall time serves ETAs, expiry of records and what people read. Everything that decides whether a lease lives uses
//! monotonic time, which is tokio's, so that tests can pause and advance it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970-01-01T00:00:00Z, by the wall clock of whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This moment plus `d`; the end of time (year 2554) if that is later.
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long from `self` until `later`; zero if it has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

/// A monotonic moment of this process.
pub type Instant = tokio::time::Instant;

/// Source of wall time and of monotonic time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock, which may step in either direction.
    fn wall(&self) -> WallTime;

    /// The monotonic clock: tokio's, so paused when a test pauses it.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The clocks of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    // The one place that reads the wall clock.
    #[allow(clippy::disallowed_methods)]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A wall clock that follows tokio's monotonic clock from a given start, and can be stepped: for tests with paused time.
#[derive(Debug, Clone)]
pub struct TestClock {
    start: Instant,
    offset: Arc<std::sync::atomic::AtomicU64>,
}

impl TestClock {
    /// A clock that shows `wall` now.
    pub fn new(wall: WallTime) -> Self {
        Self { start: Instant::now(), offset: Arc::new(std::sync::atomic::AtomicU64::new(wall.0)) }
    }

    /// Steps the wall clock to `wall`, as an operator or NTP may; monotonic time is untouched.
    pub fn step_to(&self, wall: WallTime) {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.offset.store(wall.0.saturating_sub(elapsed), std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> WallTime {
        WallTime(self.offset.load(std::sync::atomic::Ordering::SeqCst)).plus(self.start.elapsed())
    }
}
