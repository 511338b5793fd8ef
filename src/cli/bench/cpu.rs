//! CPU time of processes, and cores.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::cli::{Exit, Failure};

/// CPU time of this process so far, all its threads.
pub fn own() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of another process so far, all its threads, to the tick of the kernel's clock (10 ms on most systems).
///
/// # Errors
/// [`Exit::Other`]: it has ended, or this system has no `/proc`.
pub fn of(pid: u32) -> Result<Duration, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(Exit::Other, format!("the CPU time in {path:?} cannot be read: {error}")))?;
    let ticks = ticks(&text).ok_or_else(|| Failure::new(Exit::Other, format!("{path:?} is not as expected")))?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// User and system time of a line of `/proc/PID/stat`. The name before them may hold anything, parentheses included.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    user.parse::<u64>().ok()?.checked_add(system.parse().ok()?)
}

/// Keeps this thread, and those it will start, on one core: the `index`-th of those allowed, counted round.
/// Does nothing where the system gives no choice.
pub fn pin(index: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if let Some(core) = cores.get(index % cores.len().max(1)) {
        let mut one = CpuSet::new();
        one.set(*core);
        // An unpinned measurement is less steady, not wrong.
        let _ = sched_setaffinity(None, &one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_confuse_its_times() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 12345 1 2 3";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn cpu_time_of_this_process_is_seen_from_inside_and_outside() {
        let enough = own() + Duration::from_millis(30);
        let mut sum = 0u64;
        while own() < enough {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        let outside = of(std::process::id()).unwrap();
        assert!(outside >= Duration::from_millis(10) && outside <= own() + Duration::from_millis(20), "{outside:?}");
    }
}
