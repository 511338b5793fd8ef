//! How one worker's slots are shared among its queues, by weight, while all of them have tasks.
//!
//! Stride scheduling: each queue has a *pass* that grows by `1 / weight` with each lease. While another queue with a
//! backlog is further behind, a queue must leave the slot to it. A queue without backlog gives up its claim, so no slot
//! stays idle for fairness' sake.
//!
//! A weight is the worker's times the operator's for that queue; the second may change at any time, so it is given with
//! each question.

use crate::task::QueueName;

/// The pass of a queue with weight 1 grows by this for each lease; divisible by every small weight, and no less than the
/// greatest: 1,000 of the worker times 1,000 of the operator.
const STRIDE: u64 = 1_000_000;

#[derive(Debug, Clone)]
struct Share {
    queue: QueueName,
    weight: u64,
    pass: u64,
    backlog: bool,
}

impl Share {
    fn stride(&self, factor: u32) -> u64 {
        (STRIDE / (self.weight * u64::from(factor)).max(1)).max(1)
    }
}

/// The shares of one attachment.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Vec<Share>);

impl Shares {
    /// Shares of queues with their weights, from 1.
    pub(super) fn new(queues: impl Iterator<Item = (QueueName, u32)>) -> Self {
        Self(
            queues.map(|(queue, weight)| Share { queue, weight: u64::from(weight), pass: 0, backlog: false }).collect(),
        )
    }

    /// How many of `free` slots the queue may take now, its weight multiplied by `factor`.
    pub(super) fn allowed(&self, queue: &QueueName, free: u64, factor: u32) -> u64 {
        let Some(me) = self.0.iter().find(|s| s.queue == *queue) else { return free };
        let rivals = self.0.iter().filter(|s| s.queue != *queue && s.backlog);
        let Some(behind) = rivals.map(|s| s.pass).min() else { return free };
        if me.pass > behind {
            return 0;
        }
        // Until it is ahead of the one furthest behind, and one more.
        free.min((behind - me.pass) / me.stride(factor) + 1)
    }

    /// Counts one lease, the queue's weight multiplied by `factor`.
    pub(super) fn count(&mut self, queue: &QueueName, factor: u32) {
        if let Some(share) = self.0.iter_mut().find(|s| s.queue == *queue) {
            share.pass += share.stride(factor);
        }
    }

    /// Whether something is known to wait in the queue.
    pub(super) fn has_backlog(&self, queue: &QueueName) -> bool {
        self.0.iter().any(|s| s.queue == *queue && s.backlog)
    }

    /// Says whether the queue has more than was taken. One that comes back from being empty starts level with the
    /// others: it has no claim to the time it was idle.
    pub(super) fn backlog(&mut self, queue: &QueueName, more: bool) {
        let level = self.0.iter().filter(|s| s.backlog && s.queue != *queue).map(|s| s.pass).min();
        if let Some(share) = self.0.iter_mut().find(|s| s.queue == *queue) {
            if more && !share.backlog {
                share.pass = share.pass.max(level.unwrap_or(0));
            }
            share.backlog = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_weights_while_both_have_tasks() {
        let (a, b) = (QueueName::trusted("a"), QueueName::trusted("b"));
        let mut shares = Shares::new([(a.clone(), 3), (b.clone(), 1)].into_iter());
        shares.backlog(&a, true);
        shares.backlog(&b, true);
        let mut taken = (0, 0);
        for turn in 0..4000 {
            // Whichever asks first: the order must not matter.
            let order = if turn % 2 == 0 { [&a, &b] } else { [&b, &a] };
            let queue = order.into_iter().find(|q| shares.allowed(q, 1, 1) == 1).unwrap();
            shares.count(queue, 1);
            if *queue == a { taken.0 += 1 } else { taken.1 += 1 }
        }
        assert!((2990..=3010).contains(&taken.0), "{taken:?}");
    }

    #[test]
    fn a_factor_takes_hold_with_the_next_lease() {
        let (a, b) = (QueueName::trusted("a"), QueueName::trusted("b"));
        let mut shares = Shares::new([(a.clone(), 1), (b.clone(), 1)].into_iter());
        shares.backlog(&a, true);
        shares.backlog(&b, true);
        let mut run = |factor: u32| {
            let mut taken = 0;
            for _ in 0..1000 {
                let (queue, by) = if shares.allowed(&a, 1, factor) == 1 { (&a, factor) } else { (&b, 1) };
                shares.count(queue, by);
                taken += usize::from(*queue == a);
            }
            taken
        };
        assert!((499..=501).contains(&run(1)));
        assert!((898..=902).contains(&run(9)));
        assert!((499..=501).contains(&run(1)));
    }

    #[test]
    fn an_idle_queue_neither_blocks_nor_saves_up() {
        let (a, b) = (QueueName::trusted("a"), QueueName::trusted("b"));
        let mut shares = Shares::new([(a.clone(), 1), (b.clone(), 1)].into_iter());
        shares.backlog(&a, true);
        for _ in 0..1000 {
            assert_eq!(shares.allowed(&a, 1, 1), 1);
            shares.count(&a, 1);
        }
        shares.backlog(&b, true);
        shares.count(&b, 1);
        shares.count(&b, 1);
        assert_eq!(shares.allowed(&b, 1, 1), 0, "b has no claim to the time it was idle");
        assert_eq!(shares.allowed(&a, 1, 1), 1);
    }
}
