//! What the parts can do by themselves on a core like those they were first measured on, and how much of it a ceiling must
//! reach before a figure is held against it.
//!
//! A ratio to a weak ceiling flatters: on a loaded machine, or with a debug build, everything looks close to the limit.
//! Only figures per CPU-second are compared, since other programs on the machine hardly move them; wall-clock figures
//! of shared machines differ by factors.

use std::fmt;

/// The least part of a reference figure that a ceiling must reach.
pub const SHARE_MIN: f64 = 0.7;

/// A part that is measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// A bare unary echo with this many calls in flight.
    Unary(u32),
    /// A bare bidirectional echo, one task a message, this many on their way.
    Stream(u32),
    /// The engine alone: so many tasks in one commit, each sent, leased, ended and forgotten.
    Cycle(u32),
    /// The engine alone: so many tasks in one commit, each sent.
    Enqueue(u32),
    /// The engine alone: so many tasks in one commit, each leased and ended.
    Drain(u32),
}

impl Ceiling {
    /// What the part reached in the trial that chose the libraries, tasks per CPU-second of the busier process: the low
    /// end of the range over its runs. `None`: nothing was measured then, so it is shown and not checked.
    ///
    /// Origin: 24 November 2026, two cores of an AMD EPYC, Rust 1.95. Echo: tonic 0.14.9, server and client on a core
    /// each, 256 bytes, four runs: 12 to 17, 35 to 44 and 50 to 65 thousand, 1.2 to 1.5 million. Commit: redb 4.6.0,
    /// 256 bytes, ten key writes a task in five tables, fsync, one run: 83 thousand.
    pub fn reference(self) -> Option<f64> {
        match self {
            Self::Unary(1) => Some(12_000.0),
            Self::Unary(10) => Some(35_000.0),
            Self::Unary(100) => Some(50_000.0),
            Self::Stream(256) => Some(1_200_000.0),
            Self::Cycle(1024) => Some(83_000.0),
            _ => None,
        }
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unary(calls) => write!(f, "echo, unary, {calls} in flight"),
            Self::Stream(window) => write!(f, "echo, stream, window {window}"),
            Self::Cycle(batch) => write!(f, "commit, whole cycle, {batch} at once"),
            Self::Enqueue(batch) => write!(f, "commit, send, {batch} at once"),
            Self::Drain(batch) => write!(f, "commit, lease and end, {batch} at once"),
        }
    }
}

/// What a run has measured of a [`Ceiling`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Which.
    pub ceiling: Ceiling,
    /// Tasks per second of wall-clock time.
    pub rate: f64,
    /// Tasks per CPU-second of the busier process.
    pub per_cpu: f64,
}

impl Measured {
    /// A sentence with both numbers, if the ceiling is too weak to hold anything against it.
    pub fn weakness(&self) -> Option<String> {
        let reference = self.ceiling.reference()?;
        // NaN is no strength either.
        if self.per_cpu >= SHARE_MIN * reference {
            return None;
        }
        Some(format!(
            "\"{}\" reached {:.0} tasks per CPU-second, {:.1} % of the {reference:.0} it is known to reach; at least {:.0} % is needed",
            self.ceiling,
            self.per_cpu,
            100.0 * self.per_cpu / reference,
            100.0 * SHARE_MIN,
        ))
    }
}

/// Sentences on all ceilings that are too weak; empty: ratios may be told.
pub fn weaknesses(measured: &[Measured]) -> Vec<String> {
    measured.iter().filter_map(Measured::weakness).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ceiling: Ceiling, per_cpu: f64) -> Measured {
        Measured { ceiling, rate: 1.0, per_cpu }
    }

    #[test]
    fn a_ceiling_counts_from_seventy_percent_of_its_reference_on() {
        assert_eq!(measured(Ceiling::Unary(1), 8_400.0).weakness(), None);
        assert_eq!(
            measured(Ceiling::Unary(1), 8_399.0).weakness().unwrap(),
            "\"echo, unary, 1 in flight\" reached 8399 tasks per CPU-second, 70.0 % of the 12000 it is known to reach; at least 70 % is needed"
        );
        assert!(measured(Ceiling::Cycle(1024), 40_000.0).weakness().is_some());
        assert!(measured(Ceiling::Stream(256), f64::NAN).weakness().is_some());
    }

    #[test]
    fn what_has_no_reference_is_not_checked() {
        assert_eq!(measured(Ceiling::Cycle(1), 1.0).weakness(), None);
        assert_eq!(measured(Ceiling::Enqueue(1024), 1.0).weakness(), None);
    }

    #[test]
    fn every_weak_ceiling_is_named() {
        let all = [
            measured(Ceiling::Unary(10), 1_000.0),
            measured(Ceiling::Unary(100), 60_000.0),
            measured(Ceiling::Stream(256), 2.0),
        ];
        let told = weaknesses(&all);
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("10 in flight") && told[1].contains("stream"));
    }
}
