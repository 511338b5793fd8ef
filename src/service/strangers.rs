//! Messages that a broker without names handed out although nobody here takes their name.
//!
//! Of a shared queue each may be for a worker of another program. Whoever has waited longest at the broker is given what
//! comes, and that is mostly us, since those workers ask anew each second. So a stranger first goes back at once: whoever waits
//! there now has it. Met again, it is parked at the broker, for 1 s; and so each time that it comes back, for 2, 4 … 30 s. So many of a queue may
//! be parked by one replica (`limits.parked_max`); the others go to the end of the queue, so that what stands behind them still comes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Inner;
use super::slots::Queue;
use crate::broker::{Delivery, Receipt, Settle};
use crate::task::TaskName;

/// How long a stranger is parked the first time.
const REST: Duration = Duration::from_secs(1);
/// How long at most.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long one rests that may not be parked: enough that a broker puts it at the end of the queue.
const TO_THE_END: Duration = Duration::from_millis(1);
/// Rounds on end that met only strangers, until they are called a crowd.
const CROWD: u32 = 16;
/// Between two looks at a queue with a crowd: what a look costs times 20 each second.
const PACE: Duration = Duration::from_millis(50);
/// Most strangers of a queue that are remembered.
const REMEMBERED_MAX: usize = 8192;

/// A stranger of a round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met<'a> {
    /// Its body.
    pub(super) body: &'a [u8],
    /// Its name.
    pub(super) name: &'a TaskName,
    /// Somebody here takes that name, though nobody of this round: it is not parked for longer than the first time.
    pub(super) is_known: bool,
}

/// What is known of a stranger.
#[derive(Debug)]
struct Known {
    /// Of the task.
    name: TaskName,
    /// How often it was parked.
    times: u32,
    /// It went back at once, since it last came back.
    is_offered: bool,
    /// When it comes back, or came.
    until: Instant,
}

/// The strangers of one queue.
#[derive(Debug)]
pub(super) struct Strangers {
    known: Mutex<HashMap<u64, Known>>,
    /// Something that is parked may be for a worker that came.
    wanted: AtomicBool,
    /// How many rounds on end met only strangers, and when a crowd is looked at next.
    crowd: Mutex<(u32, Option<Instant>)>,
}

impl Default for Strangers {
    fn default() -> Self {
        // What was parked before anybody took from the queue here.
        Self { known: Mutex::default(), wanted: AtomicBool::new(true), crowd: Mutex::default() }
    }
}

impl Strangers {
    /// After what time each of the strangers of one round goes back, in order. Two that say the
    /// same are one here, which parks the second at once. `max`: that may be parked. `is_all`: the round met nobody else.
    pub(super) fn met(&self, some: &[Met<'_>], max: usize, is_all: bool, now: Instant) -> Vec<Duration> {
        if some.is_empty() {
            *self.crowd.lock() = (0, None);
            return Vec::new();
        }
        let mut known = self.known.lock();
        if known.len() + some.len() > REMEMBERED_MAX {
            // What does not come back when it is due was taken by somebody, or its turn has not come yet.
            known.retain(|_, stranger| stranger.until + REST_MAX > now);
        }
        let mut parked = known.values().filter(|stranger| stranger.until > now).count();
        let rests = some
            .iter()
            .map(|met| {
                let mut hasher = DefaultHasher::new();
                met.body.hash(&mut hasher);
                let is_full = known.len() >= REMEMBERED_MAX;
                if met.is_known && known.remove(&hasher.finish()).is_some() {
                    return REST;
                }
                match known.get_mut(&hasher.finish()) {
                    Some(stranger) if parked < max && !stranger.is_offered => {
                        stranger.is_offered = true;
                        Duration::ZERO
                    }
                    Some(stranger) if parked < max => {
                        let rest = (REST * (1 << stranger.times.min(5))).min(REST_MAX);
                        parked += usize::from(stranger.until <= now);
                        stranger.times += 1;
                        stranger.is_offered = false;
                        stranger.until = now + rest;
                        rest
                    }
                    None if !is_full && parked < max => {
                        let fresh = Known { name: met.name.clone(), times: 0, until: now, is_offered: true };
                        known.insert(hasher.finish(), fresh);
                        Duration::ZERO
                    }
                    _ => TO_THE_END,
                }
            })
            .collect();
        let mut crowd = self.crowd.lock();
        let rounds = if is_all { crowd.0.saturating_add(1) } else { 0 };
        *crowd = (rounds, (rounds >= CROWD).then(|| now + PACE));
        rests
    }

    /// When the next look is, if many on end met only strangers. Such a look takes as many as it can.
    pub(super) fn crowded(&self) -> Option<Instant> {
        self.crowd.lock().1
    }

    /// How many are parked.
    pub(super) fn parked(&self, now: Instant) -> u64 {
        self.known.lock().values().filter(|stranger| stranger.until > now).count() as u64
    }

    /// Somebody here takes these names from now on: those are no strangers any more.
    pub(super) fn welcome(&self, names: &[TaskName]) {
        let mut known = self.known.lock();
        let before = known.len();
        known.retain(|_, stranger| !names.contains(&stranger.name));
        if known.len() < before {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether what is parked should come now: once for each time.
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// What is parked could not be asked for.
    pub(super) fn still_wanted(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }
}

/// Makes what was parked come now if a worker has come that takes its name.
pub(super) async fn call(inner: &Inner, queue: &Queue) {
    if !inner.guarantees.broker.by_name
        && queue.strangers.are_wanted()
        && let Err(error) = inner.stores.broker.hasten(&queue.name).await
    {
        // They come when their time is over. The next worker asks once more.
        queue.strangers.still_wanted();
        tracing::debug!(%error, queue = %queue.name, "parked tasks were not called");
    }
}

/// How the strangers of a round of `all` deliveries go back.
pub(super) fn back(
    inner: &Inner,
    queue: &Queue,
    unknown: Vec<(Delivery, TaskName)>,
    all: usize,
) -> impl Iterator<Item = (Receipt, Settle)> {
    let here = if unknown.is_empty() { Vec::new() } else { queue.names() };
    let met: Vec<Met<'_>> = unknown
        .iter()
        .map(|(delivery, name)| Met { body: &delivery.body, name, is_known: here.binary_search(name).is_ok() })
        .collect();
    let max = inner.settings().parked_max as usize;
    let rests = queue.strangers.met(&met, max, met.len() == all, inner.clock.now());
    unknown
        .into_iter()
        .zip(rests)
        .map(|((delivery, _), after)| (delivery.receipt, Settle::Return { after, began: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 10;

    fn met(strangers: &Strangers, body: &[u8], is_known: bool, now: Instant) -> Duration {
        let name = TaskName::trusted("n");
        strangers.met(&[Met { body, name: &name, is_known }], MAX, true, now)[0]
    }

    #[test]
    fn a_stranger_goes_back_at_once_and_is_parked_longer_each_time_it_comes_again() {
        let strangers = Strangers::default();
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..16 {
            let rest = met(&strangers, b"a", false, now);
            assert_eq!(strangers.parked(now), u64::from(!rest.is_zero()));
            rests.push(rest.as_secs());
            now += rest;
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30].map(|rest| [0, rest]).concat());
        assert_eq!(strangers.parked(now), 0);
    }

    #[test]
    fn a_task_that_another_worker_here_takes_never_waits_long() {
        let strangers = Strangers::default();
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(met(&strangers, b"a", true, now), Duration::ZERO);
            assert_eq!(met(&strangers, b"a", true, now), REST);
        }
    }

    #[test]
    fn beyond_what_may_be_parked_strangers_go_to_the_end() {
        let strangers = Strangers::default();
        let now = Instant::now();
        for n in 0..MAX as u8 {
            assert_eq!(met(&strangers, &[n], false, now), Duration::ZERO);
        }
        let rests: Vec<_> = (0..2 * MAX as u8).map(|n| met(&strangers, &[n], false, now)).collect();
        assert_eq!(rests, [[REST; MAX], [TO_THE_END; MAX]].concat());
        assert_eq!(strangers.parked(now), MAX as u64);
    }

    #[test]
    fn a_crowd_is_looked_at_at_a_bounded_pace_until_somebody_else_is_met() {
        let strangers = Strangers::default();
        let now = Instant::now();
        for n in 1..=CROWD {
            assert_eq!(strangers.crowded(), None);
            met(&strangers, &n.to_be_bytes(), false, now);
        }
        assert_eq!(strangers.crowded(), Some(now + PACE));
        strangers.met(&[], MAX, true, now);
        assert_eq!(strangers.crowded(), None);
    }

    #[test]
    fn strangers_are_wanted_once_somebody_comes_who_takes_them() {
        let strangers = Strangers::default();
        assert!(strangers.are_wanted() && !strangers.are_wanted());
        met(&strangers, b"a", false, Instant::now());
        strangers.welcome(&[TaskName::trusted("other")]);
        assert!(!strangers.are_wanted());
        strangers.welcome(&[TaskName::trusted("n")]);
        assert!(strangers.are_wanted() && !strangers.are_wanted());
    }

    #[test]
    fn memory_is_bounded() {
        let strangers = Strangers::default();
        for n in 0..2 * REMEMBERED_MAX {
            met(&strangers, &n.to_be_bytes(), false, Instant::now());
        }
        assert!(strangers.known.lock().len() <= REMEMBERED_MAX);
    }
}
