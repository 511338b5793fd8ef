//! One stream, or one unary call that waits: its credit, its numbering, and the queue of things to tell the worker.
//!
//! Everything is behind one short lock; nothing awaits under it.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::share::Shares;
use super::types::{Event, Granted, Parting};
use crate::ledger::Subscription;
use crate::task::{LeaseId, QueueName, SessionId};

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
    pub(super) state: Mutex<State>,
    /// Wakes whoever sends to the worker.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Number of the last lease that may be sent.
    pub(super) limit: u64,
    /// Number of the last lease put into the queue.
    pub(super) sent: u64,
    /// Slots promised to grants under way.
    pub(super) reserved: u64,
    /// Leases that were queued and are not confirmed, by number.
    pub(super) unconfirmed: BTreeMap<u64, LeaseId>,
    pub(super) urgent: VecDeque<Event>,
    pub(super) leases: VecDeque<Granted>,
    /// Bytes of `leases`.
    pub(super) bytes: usize,
    pub(super) shares: Shares,
    /// Set once; only what is queued before it is still sent.
    pub(super) parting: Option<Parting>,
    pub(super) closed: bool,
}

impl Attachment {
    /// Queues something urgent: it goes before leases. Acknowledgements of heartbeats are not piled up; a worker that lets
    /// too much else pile up does not read, and is parted with.
    pub(super) fn tell(&self, event: Event) {
        /// Many times what a worker that reads ever has waiting.
        const URGENT_MAX: usize = 8192;
        let mut state = self.state.lock();
        if state.closed || state.parting.is_some() {
            return;
        }
        if let Event::HeartbeatAck { .. } = event {
            state.urgent.retain(|e| !matches!(e, Event::HeartbeatAck { .. }));
        }
        if state.urgent.len() >= URGENT_MAX {
            state.parting = Some(Parting::Slow);
        } else {
            state.urgent.push_back(event);
        }
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
    pub(super) fn reserve(&self, slots: u64) -> u64 {
        let mut state = self.state.lock();
        let slots = slots.min(state.limit.saturating_sub(state.sent + state.reserved));
        state.reserved += slots;
        slots
    }

    /// Notes whether more waits in one of its queues than it was given.
    pub(super) fn backlog(&self, queue: &QueueName, more: bool) {
        self.state.lock().shares.backlog(queue, more);
    }

    pub(super) fn unreserve(&self, slots: u64) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(slots);
        drop(state);
        self.wake.notify_one();
    }

    /// True while grants for it are under way.
    pub(super) fn expects(&self) -> bool {
        self.state.lock().reserved > 0
    }

    pub(super) fn free(state: &State, bytes_max: usize) -> u64 {
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
