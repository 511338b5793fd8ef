//! The slots of the workers that take from one queue: who has some free, and to whom they are promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attachment::Attachment;
use super::strangers::Strangers;
use crate::task::{QueueName, SessionId, TaskName};

/// A queue that somebody here takes from.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    /// Wakes its dispatcher: credit came, or somebody attached.
    pub(super) changed: Notify,
    /// Attachments that subscribe to it.
    pub(super) members: Mutex<Vec<Arc<Attachment>>>,
    /// Where the next round begins, so that no group of names is always first.
    pub(super) round: AtomicU64,
    /// What it hands out and nobody here takes.
    pub(super) strangers: Strangers,
}

impl Queue {
    pub(super) fn names(&self) -> Vec<TaskName> {
        let members = self.members.lock();
        let mut names: Vec<TaskName> = members
            .iter()
            .flat_map(|a| a.subscriptions.iter().filter(|s| s.queue == self.name))
            .flat_map(|s| s.names.iter().cloned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names for which somebody has a free slot now.
    pub(super) fn wanted(&self, limits: &SlotLimits<'_>) -> Vec<TaskName> {
        let members = self.members.lock();
        let mut names: Vec<TaskName> = Vec::new();
        for attachment in members.iter() {
            if limits.free(attachment) > 0 {
                let of_queue = attachment.subscriptions.iter().filter(|s| s.queue == self.name);
                names.extend(of_queue.flat_map(|s| s.names.iter().cloned()));
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Reserves up to `max` free slots in each group of attachments that take the same names, spread evenly: whoever has
    /// a slot gets one before anybody gets many. Grouping keeps slots from being held for tasks that only another worker
    /// can take.
    pub(super) fn reserve(&self, limits: &SlotLimits<'_>, max: u64) -> Vec<Reservation> {
        let mut groups: Vec<Group> = Vec::new();
        for attachment in self.members.lock().iter() {
            let Some(subscription) = attachment.subscriptions.iter().find(|s| s.queue == self.name) else { continue };
            let free = limits.free(attachment);
            let free = attachment.state.lock().shares.allowed(&self.name, free, limits.factor);
            if free == 0 {
                continue;
            }
            let member = (attachment.clone(), free);
            match groups.iter_mut().find(|group| *group.names == *subscription.names) {
                Some(group) => group.members.push(member),
                None => groups.push(Group { names: subscription.names.clone().into(), members: vec![member] }),
            }
        }
        // A new round begins with another group, and within a group with another worker.
        let round = self.round.fetch_add(1, Ordering::Relaxed) as usize;
        if !groups.is_empty() {
            let shift = round % groups.len();
            groups.rotate_left(shift);
        }
        groups.into_iter().map(|group| Reservation::spread(group, max, round)).collect()
    }

    /// Members that share their slots among several queues and for whom nothing is known to wait in this one, by the names
    /// they take.
    pub(super) fn silent_sharers(&self) -> Vec<(Vec<TaskName>, Vec<Arc<Attachment>>)> {
        let mut groups: Vec<(Vec<TaskName>, Vec<Arc<Attachment>>)> = Vec::new();
        for attachment in self.members.lock().iter().filter(|a| a.subscriptions.len() > 1) {
            let Some(subscription) = attachment.subscriptions.iter().find(|s| s.queue == self.name) else { continue };
            if attachment.state.lock().shares.has_backlog(&self.name) {
                continue;
            }
            match groups.iter_mut().find(|(names, _)| *names == subscription.names) {
                Some((_, members)) => members.push(attachment.clone()),
                None => groups.push((subscription.names.clone(), vec![attachment.clone()])),
            }
        }
        groups
    }

    /// Notes that nothing waits for members with a free slot; `true`: something was thought to.
    pub(super) fn is_idle(&self, limits: &SlotLimits<'_>) -> bool {
        let mut news = false;
        for attachment in self.members.lock().iter() {
            if limits.free(attachment) > 0 {
                let mut state = attachment.state.lock();
                news |= state.shares.has_backlog(&self.name);
                state.shares.backlog(&self.name, false);
            }
        }
        news
    }

    /// Gives up the queue's claim to its members' slots, whether they have a free one or not; `true`: it had one.
    pub(super) fn rest(&self) -> bool {
        let mut had_claim = false;
        for attachment in self.members.lock().iter() {
            let mut state = attachment.state.lock();
            had_claim |= state.shares.has_backlog(&self.name);
            state.shares.backlog(&self.name, false);
        }
        had_claim
    }

    /// Counts a lease against the queue's share, its weight multiplied by `factor`.
    pub(super) fn count(&self, attachment: &Attachment, factor: u32) {
        attachment.state.lock().shares.count(&self.name, factor);
    }
}

/// Attachments of one queue that take the same names from it.
struct Group {
    names: Arc<[TaskName]>,
    /// Each with its free slots.
    members: Vec<(Arc<Attachment>, u64)>,
}

/// What bounds the slots of a session beyond its credit.
pub(super) struct SlotLimits<'a> {
    pub(super) bytes_max: usize,
    pub(super) leases_max: usize,
    /// What the queue's weight is multiplied by.
    pub(super) factor: u32,
    /// Leases a session holds now.
    pub(super) held: &'a (dyn Fn(&SessionId) -> usize + Sync),
}

impl SlotLimits<'_> {
    fn free(&self, attachment: &Attachment) -> u64 {
        let held = (self.held)(&attachment.session) as u64;
        let state = attachment.state.lock();
        let by_credit = Attachment::free(&state, self.bytes_max);
        by_credit.min((self.leases_max as u64).saturating_sub(held + state.reserved))
    }
}

/// An attachment and some of its slots.
type Free = (Arc<Attachment>, u64);

/// Slots promised on attachments that take the same names from one queue.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) names: Arc<[TaskName]>,
    slots: Vec<Free>,
    next: usize,
}

impl Reservation {
    /// Spreads up to `max` slots over members with so many free: the ones with few first, so that what they leave goes to
    /// those with many.
    fn spread(group: Group, max: u64, round: usize) -> Self {
        let Group { names, mut members } = group;
        let shift = round % members.len().max(1);
        members.rotate_left(shift);
        members.sort_by_key(|(_, free)| *free);
        let mut left = max;
        let mut slots = Vec::with_capacity(members.len());
        let count = members.len() as u64;
        for (i, (attachment, free)) in members.into_iter().enumerate() {
            let take = attachment.reserve(free.min(left.div_ceil(count - i as u64)));
            if take > 0 {
                left -= take;
                slots.push((attachment, take));
            }
        }
        Self { names, slots, next: 0 }
    }

    /// How many slots.
    pub(super) fn total(&self) -> u64 {
        self.slots.iter().map(|(_, n)| n).sum()
    }

    /// True if its attachments take this name.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.names.iter().any(|taken| taken.as_str() == name)
    }

    /// The next attachment with a slot, round robin, so that one batch spreads over all workers. The slot stays reserved
    /// until [`Attachment::offer`] or [`Reservation::cancel`].
    pub(super) fn next(&mut self) -> Option<Arc<Attachment>> {
        for _ in 0..self.slots.len() {
            let at = self.next % self.slots.len();
            self.next += 1;
            let (attachment, left) = &mut self.slots[at];
            if *left > 0 {
                *left -= 1;
                return Some(attachment.clone());
            }
        }
        None
    }

    /// Tells the members' shares whether the queue had more than was taken.
    pub(super) fn backlog(&self, queue: &QueueName, more: bool) {
        self.slots.iter().for_each(|(attachment, _)| attachment.backlog(queue, more));
    }

    /// Gives back one slot that [`Reservation::next`] answered.
    pub(super) fn cancel(attachment: &Attachment) {
        attachment.unreserve(1);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for (attachment, left) in &self.slots {
            attachment.unreserve(*left);
        }
    }
}
