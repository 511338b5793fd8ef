//! What this replica has in its hands: deliveries taken from the broker, and what it knows of their leases.
//!
//! Nothing here is the truth: the ledger is. A replica that dies loses its hands and no task.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use parking_lot::Mutex;

use super::envelope::Opened;
use super::timeouts::Limit;
use crate::broker::Receipt;
use crate::ledger::Lease;
use crate::task::{LeaseId, MessageKey, SessionId};

/// A leased message that this replica granted, or met again after a restart.
#[derive(Debug, Clone)]
pub(super) struct InHand {
    /// The lease as last known.
    pub(super) lease: Lease,
    /// To settle the delivery with; `None`: the broker has not delivered it to this process.
    pub(super) receipt: Option<Receipt>,
    /// The task, opened; `None` until it is needed.
    pub(super) opened: Option<Opened>,
    /// The body as received.
    pub(super) body: Option<Bytes>,
    /// The worker said that it has the lease. Unknown counts as yes: an attempt is remembered rather than forgotten.
    pub(super) accepted: bool,
    /// The worker said that it runs.
    pub(super) started: bool,
    /// How long it may run, if it may not for ever and this is known.
    pub(super) limit: Option<Limit>,
    /// Its lease is being ended by somebody who will settle the delivery.
    pub(super) ending: bool,
    /// How far it is, 0 to 1, and what it said.
    pub(super) progress: Option<(f64, String)>,
}

impl InHand {
    /// A lease that its worker says it has, and of which this process knows nothing else.
    pub(super) fn brought_back(lease: Lease) -> Self {
        Self {
            lease,
            receipt: None,
            opened: None,
            body: None,
            accepted: true,
            started: true,
            limit: None,
            ending: false,
            progress: None,
        }
    }
}

/// Everything in hand, by message and by session.
#[derive(Debug, Default)]
pub(super) struct Hands(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    messages: HashMap<MessageKey, InHand>,
    sessions: HashMap<SessionId, HashSet<MessageKey>>,
}

impl Inner {
    fn insert(&mut self, hand: InHand) {
        let message = hand.lease.id.message.clone();
        self.sessions.entry(hand.lease.session.clone()).or_default().insert(message.clone());
        self.messages.insert(message, hand);
    }

    fn remove(&mut self, message: &MessageKey) -> Option<InHand> {
        let hand = self.messages.remove(message)?;
        if let Some(of_session) = self.sessions.get_mut(&hand.lease.session) {
            of_session.remove(message);
            if of_session.is_empty() {
                self.sessions.remove(&hand.lease.session);
            }
        }
        Some(hand)
    }
}

impl Hands {
    /// Puts a lease in hand; an older one of the message goes, its receipt is kept if the new one has none.
    pub(super) fn put(&self, mut hand: InHand) {
        let mut inner = self.0.lock();
        if let Some(old) = inner.remove(&hand.lease.id.message) {
            hand.receipt = hand.receipt.or(old.receipt);
        }
        inner.insert(hand);
    }

    /// Puts a lease in hand, unless the message is already under this lease or another.
    pub(super) fn put_if_absent(&self, hand: InHand) {
        let mut inner = self.0.lock();
        if !inner.messages.contains_key(&hand.lease.id.message) {
            inner.insert(hand);
        }
    }

    /// A delivery of a message whose live lease somebody holds: keeps the receipt until that lease ends.
    pub(super) fn hold(&self, lease: Lease, receipt: Receipt, body: Bytes, opened: Option<Opened>) {
        let mut inner = self.0.lock();
        if let Some(hand) = inner.messages.get_mut(&lease.id.message)
            && hand.lease.id == lease.id
        {
            hand.receipt = Some(receipt);
            hand.body = Some(body);
            hand.opened = hand.opened.take().or(opened);
            return;
        }
        drop(inner);
        let hand = InHand::brought_back(lease);
        self.put(InHand { receipt: Some(receipt), body: Some(body), opened, ..hand });
    }

    /// What is in hand under exactly this lease.
    pub(super) fn get(&self, lease: &LeaseId) -> Option<InHand> {
        self.0.lock().messages.get(&lease.message).filter(|h| h.lease.id == *lease).cloned()
    }

    /// Changes what is in hand under exactly this lease.
    pub(super) fn update<R>(&self, lease: &LeaseId, change: impl FnOnce(&mut InHand) -> R) -> Option<R> {
        self.0.lock().messages.get_mut(&lease.message).filter(|h| h.lease.id == *lease).map(change)
    }

    /// Lets go of a message, whatever its lease.
    pub(super) fn take(&self, message: &MessageKey) -> Option<InHand> {
        self.0.lock().remove(message)
    }

    /// Lets go of a message if it is in hand under exactly this lease.
    pub(super) fn take_lease(&self, lease: &LeaseId) -> Option<InHand> {
        let mut inner = self.0.lock();
        if inner.messages.get(&lease.message).is_some_and(|h| h.lease.id == *lease) {
            return inner.remove(&lease.message);
        }
        None
    }

    /// How long the attempt under exactly this lease may run, if that is limited.
    pub(super) fn limit(&self, lease: &LeaseId) -> Option<Limit> {
        self.update(lease, |hand| hand.limit).flatten()
    }

    /// How many messages are in hand.
    pub(super) fn len(&self) -> usize {
        self.0.lock().messages.len()
    }

    /// How many leases of a session are in hand.
    pub(super) fn of_session(&self, session: &SessionId) -> usize {
        self.0.lock().sessions.get(session).map_or(0, HashSet::len)
    }

    /// Marks a lease that is being ended, or not any more.
    pub(super) fn set_ending(&self, lease: &LeaseId, ending: bool) {
        self.update(lease, |hand| hand.ending = ending);
    }

    /// The messages in hand that nobody is ending, to be compared with the ledger.
    pub(super) fn messages(&self) -> Vec<(MessageKey, LeaseId)> {
        self.0.lock().messages.iter().filter(|(_, h)| !h.ending).map(|(m, h)| (m.clone(), h.lease.id.clone())).collect()
    }
}
