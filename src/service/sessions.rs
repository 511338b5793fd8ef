//! Who is attached here: credit, numbering, and the queue of things to tell each worker.
//!
//! An *attachment* is one stream, or one unary call that waits. Everything is behind one short lock; nothing awaits
//! under it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::share::Shares;
use super::types::{Event, Granted, Parting};
use crate::ledger::Subscription;
use crate::task::{LeaseId, QueueName, SessionId, TaskName};

/// One stream or one waiting call.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) id: u64,
    pub(super) session: SessionId,
    pub(super) worker: String,
    /// The attach number of the session, for streams; 0 for unary calls.
    pub(super) attach: u64,
    pub(super) request_id: Option<String>,
    pub(super) subscriptions: Vec<Subscription>,
    state: Mutex<State>,
    /// Wakes whoever sends to the worker.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last lease that may be sent.
    limit: u64,
    /// Number of the last lease put into the queue.
    sent: u64,
    /// Slots promised to grants under way.
    reserved: u64,
    /// Leases that were queued and are not confirmed, by number.
    unconfirmed: BTreeMap<u64, LeaseId>,
    urgent: VecDeque<Event>,
    leases: VecDeque<Granted>,
    /// Bytes of `leases`.
    bytes: usize,
    shares: Shares,
    /// Set once; only what is queued before it is still sent.
    parting: Option<Parting>,
    closed: bool,
}

impl Attachment {
    /// Queues something urgent: it goes before leases. Acknowledgements of heartbeats are not piled up.
    pub(super) fn tell(&self, event: Event) {
        let mut state = self.state.lock();
        if state.closed || state.parting.is_some() {
            return;
        }
        if let Event::HeartbeatAck { .. } = event {
            state.urgent.retain(|e| !matches!(e, Event::HeartbeatAck { .. }));
        }
        state.urgent.push_back(event);
        drop(state);
        self.wake.notify_one();
    }

    /// Ends it: what is urgent is still sent, then the goodbye. Leases not yet taken out are answered, to be given back.
    pub(super) fn part(&self, parting: Parting) -> Vec<LeaseId> {
        let mut state = self.state.lock();
        if state.parting.is_none() {
            state.parting = Some(parting);
        }
        let unsent = state.unsent();
        drop(state);
        self.wake.notify_one();
        unsent
    }

    /// Closes it at once and answers the leases that were not taken out.
    pub(super) fn close(&self) -> Vec<LeaseId> {
        let mut state = self.state.lock();
        state.closed = true;
        state.urgent.clear();
        let unsent = state.unsent();
        drop(state);
        self.wake.notify_one();
        unsent
    }

    /// The next event to send, urgent ones first; `Err`: nothing now; `Ok(None)`: over.
    pub(super) fn pop(&self) -> Result<Option<Event>, ()> {
        /// Leases in one frame: enough to fill a DATA frame, few enough that an acknowledgement never waits long.
        const FRAME_LEASES_MAX: usize = 64;
        /// Bytes after which a frame ends.
        const FRAME_BYTES_MAX: usize = 256 << 10;
        let mut state = self.state.lock();
        if state.closed {
            return Ok(None);
        }
        if let Some(event) = state.urgent.pop_front() {
            return Ok(Some(event));
        }
        if let Some(parting) = state.parting {
            state.closed = true;
            return Ok(Some(Event::Goodbye(parting)));
        }
        let waiting = state.leases.len() as u64;
        let mut frame = Vec::new();
        let mut bytes = 0;
        while frame.len() < FRAME_LEASES_MAX
            && bytes < FRAME_BYTES_MAX
            && let Some(lease) = state.leases.pop_front()
        {
            bytes += lease.bytes;
            frame.push(lease);
        }
        state.bytes -= bytes;
        if frame.is_empty() {
            return Err(());
        }
        Ok(Some(Event::Leases { first_number: state.sent - waiting + 1, leases: frame }))
    }

    /// Takes every queued lease and closes: the end of a unary call.
    pub(super) fn collect(&self) -> Vec<Granted> {
        let mut state = self.state.lock();
        state.closed = true;
        state.bytes = 0;
        state.leases.drain(..).collect()
    }

    /// True once a lease waits.
    pub(super) fn has_leases(&self) -> bool {
        !self.state.lock().leases.is_empty()
    }

    /// Raises the limit; at most `ahead_max` beyond what was sent.
    pub(super) fn credit(&self, limit: u64, ahead_max: u64) {
        let mut state = self.state.lock();
        state.limit = state.limit.max(limit.min(state.sent.saturating_add(ahead_max)));
    }

    /// Queues a lease whose slot was reserved; `false`: closed meanwhile, the lease must be given back.
    pub(super) fn offer(&self, lease: Granted) -> bool {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(1);
        if state.closed || state.parting.is_some() {
            return false;
        }
        state.sent += 1;
        let number = state.sent;
        state.unconfirmed.insert(number, lease.id.clone());
        state.bytes += lease.bytes;
        state.leases.push_back(lease);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// A report confirms its lease, whatever was said before.
    pub(super) fn reported(&self, lease: &LeaseId) {
        self.state.lock().unconfirmed.retain(|_, id| id != lease);
    }

    /// Confirms leases up to a number and answers them.
    pub(super) fn confirm(&self, up_to: u64) -> Vec<LeaseId> {
        let mut state = self.state.lock();
        let later = state.unconfirmed.split_off(&up_to.saturating_add(1));
        std::mem::replace(&mut state.unconfirmed, later).into_values().collect()
    }

    /// Promises up to so many slots; fewer if the dispatcher of another queue was faster.
    fn reserve(&self, slots: u64) -> u64 {
        let mut state = self.state.lock();
        let slots = slots.min(state.limit.saturating_sub(state.sent + state.reserved));
        state.reserved += slots;
        slots
    }

    /// Notes whether more waits in one of its queues than it was given.
    pub(super) fn backlog(&self, queue: &QueueName, more: bool) {
        self.state.lock().shares.backlog(queue, more);
    }

    fn unreserve(&self, slots: u64) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(slots);
        drop(state);
        self.wake.notify_one();
    }

    /// True while grants for it are under way.
    pub(super) fn expects(&self) -> bool {
        self.state.lock().reserved > 0
    }

    fn free(state: &State, bytes_max: usize) -> u64 {
        if state.closed || state.parting.is_some() || state.bytes >= bytes_max {
            return 0;
        }
        state.limit.saturating_sub(state.sent + state.reserved)
    }
}

impl State {
    fn unsent(&mut self) -> Vec<LeaseId> {
        self.bytes = 0;
        let unsent: Vec<LeaseId> = self.leases.drain(..).map(|l| l.id).collect();
        self.unconfirmed.retain(|_, id| !unsent.contains(id));
        unsent
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
    fn spread(names: Arc<[TaskName]>, mut members: Vec<Free>, max: u64, round: usize) -> Self {
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

/// All attachments of this replica.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    ids: AtomicU64,
    inner: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    attachments: HashMap<u64, Arc<Attachment>>,
    streams: HashMap<SessionId, u64>,
    queues: HashMap<QueueName, Arc<Queue>>,
}

/// A queue that somebody here takes from.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    /// Wakes its dispatcher: credit came, or somebody attached.
    pub(super) changed: Notify,
    /// Attachments that subscribe to it.
    members: Mutex<Vec<Arc<Attachment>>>,
    /// Where the next round begins, so that no group of names is always first.
    round: AtomicU64,
}

impl Sessions {
    /// Adds an attachment. Answers it, the older stream of the same session (this one itself, if a newer one is here), and
    /// the queues that nobody here took from before.
    pub(super) fn add(
        &self,
        session: SessionId,
        worker: String,
        attach: u64,
        request_id: Option<String>,
        subscriptions: Vec<Subscription>,
        limit: u64,
    ) -> (Arc<Attachment>, Option<Arc<Attachment>>, Vec<Arc<Queue>>) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let mut inner = self.inner.lock();
        let state = State {
            limit,
            shares: Shares::new(subscriptions.iter().map(|s| (s.queue.clone(), s.weight))),
            ..State::default()
        };
        let attachment = Arc::new(Attachment {
            id,
            session: session.clone(),
            worker,
            attach,
            request_id,
            subscriptions,
            state: Mutex::new(state),
            wake: Notify::new(),
        });
        let current = inner.streams.get(&session).and_then(|id| inner.attachments.get(id)).cloned();
        let replaced = match current {
            _ if attach == 0 => None,
            // A later attach was faster to come here: the newest wins all the same.
            Some(newer) if newer.attach > attach => Some(attachment.clone()),
            older => {
                inner.streams.insert(session, id);
                older
            }
        };
        inner.attachments.insert(id, attachment.clone());
        let mut fresh = Vec::new();
        for subscription in &attachment.subscriptions {
            let queue = inner.queues.entry(subscription.queue.clone()).or_insert_with(|| {
                let queue = Arc::new(Queue {
                    name: subscription.queue.clone(),
                    changed: Notify::new(),
                    members: Mutex::default(),
                    round: AtomicU64::new(0),
                });
                fresh.push(queue.clone());
                queue
            });
            queue.members.lock().push(attachment.clone());
            queue.changed.notify_one();
        }
        (attachment, replaced, fresh)
    }

    /// Forgets an attachment.
    pub(super) fn remove(&self, attachment: &Attachment) {
        let mut inner = self.inner.lock();
        inner.attachments.remove(&attachment.id);
        if inner.streams.get(&attachment.session) == Some(&attachment.id) {
            inner.streams.remove(&attachment.session);
        }
        for subscription in &attachment.subscriptions {
            if let Some(queue) = inner.queues.get(&subscription.queue) {
                queue.members.lock().retain(|a| a.id != attachment.id);
                queue.changed.notify_one();
            }
        }
    }

    /// Forgets a queue that nobody takes from, so that its dispatcher may end; `false`: somebody does.
    pub(super) fn retire(&self, queue: &Queue) -> bool {
        let mut inner = self.inner.lock();
        let idle = queue.members.lock().is_empty();
        if idle {
            inner.queues.remove(&queue.name);
        }
        idle
    }

    /// Wakes the dispatchers of an attachment's queues.
    pub(super) fn stir(&self, attachment: &Attachment) {
        let inner = self.inner.lock();
        for subscription in &attachment.subscriptions {
            if let Some(queue) = inner.queues.get(&subscription.queue) {
                queue.changed.notify_one();
            }
        }
    }

    /// Wakes the other queues of those who take from `queue` and from others: their shares have moved.
    pub(super) fn stir_shared(&self, queue: &Queue) {
        let inner = self.inner.lock();
        let members = queue.members.lock();
        let others = members.iter().filter(|a| a.subscriptions.len() > 1).flat_map(|a| &a.subscriptions);
        for subscription in others.filter(|s| s.queue != queue.name) {
            if let Some(other) = inner.queues.get(&subscription.queue) {
                other.changed.notify_one();
            }
        }
    }

    /// The stream of a session.
    pub(super) fn stream(&self, session: &SessionId) -> Option<Arc<Attachment>> {
        let inner = self.inner.lock();
        inner.streams.get(session).and_then(|id| inner.attachments.get(id)).cloned()
    }

    /// True if the session has a stream or a waiting call here.
    pub(super) fn attached(&self, session: &SessionId) -> bool {
        let inner = self.inner.lock();
        inner.streams.contains_key(session) || inner.attachments.values().any(|a| a.session == *session)
    }

    /// Every attachment.
    pub(super) fn all(&self) -> Vec<Arc<Attachment>> {
        self.inner.lock().attachments.values().cloned().collect()
    }

    /// How many attachments there are.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().attachments.len()
    }

    /// The names that somebody here takes from a queue.
    pub(super) fn names(&self, queue: &QueueName) -> Vec<TaskName> {
        let inner = self.inner.lock();
        inner.queues.get(queue).map(|q| q.names()).unwrap_or_default()
    }
}

impl Queue {
    fn names(&self) -> Vec<TaskName> {
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
        let mut groups: Vec<(Arc<[TaskName]>, Vec<Free>)> = Vec::new();
        for attachment in self.members.lock().iter() {
            let Some(subscription) = attachment.subscriptions.iter().find(|s| s.queue == self.name) else { continue };
            let free = limits.free(attachment);
            let free = attachment.state.lock().shares.allowed(&self.name, free);
            if free == 0 {
                continue;
            }
            match groups.iter_mut().find(|(names, _)| **names == *subscription.names) {
                Some((_, members)) => members.push((attachment.clone(), free)),
                None => groups.push((subscription.names.clone().into(), vec![(attachment.clone(), free)])),
            }
        }
        // A new round begins with another group, and within a group with another worker.
        let round = self.round.fetch_add(1, Ordering::Relaxed) as usize;
        if !groups.is_empty() {
            let shift = round % groups.len();
            groups.rotate_left(shift);
        }
        groups.into_iter().map(|(names, members)| Reservation::spread(names, members, max, round)).collect()
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

    /// Counts a lease against the queue's share.
    pub(super) fn count(&self, attachment: &Attachment) {
        attachment.state.lock().shares.count(&self.name);
    }
}

/// What bounds the slots of a session beyond its credit.
pub(super) struct SlotLimits<'a> {
    pub(super) bytes_max: usize,
    pub(super) leases_max: usize,
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
