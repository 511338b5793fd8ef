//! Who is attached to this replica, and which queues they take from.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attachment::{Attachment, State};
use super::share::Shares;
use super::slots::Queue;
use super::strangers::Strangers;
use super::types::{Event, Revoked};
use crate::ledger::Subscription;
use crate::task::{LeaseId, QueueName, SessionId, TaskName};

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
                    strangers: Strangers::default(),
                });
                fresh.push(queue.clone());
                queue
            });
            queue.strangers.welcome(&subscription.names);
            queue.members.lock().push(attachment.clone());
            queue.changed.notify_one();
        }
        (attachment, replaced, fresh)
    }

    /// How many tasks of a queue are parked here, see [`Strangers`].
    pub(super) fn parked(&self, queue: &QueueName, now: tokio::time::Instant) -> u64 {
        self.inner.lock().queues.get(queue).map_or(0, |queue| queue.strangers.parked(now))
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

    /// Wakes every dispatcher: what it goes by has changed.
    pub(super) fn stir_all(&self) {
        self.inner.lock().queues.values().for_each(|queue| queue.changed.notify_one());
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

    /// Tells the worker of a session to stop an attempt; `false`: it has no stream here.
    pub(super) fn revoke(&self, session: &SessionId, lease: &LeaseId, reason: Revoked) -> bool {
        let told = self.stream(session).map(|stream| stream.tell(Event::Revoke { lease: lease.clone(), reason }));
        told.is_some()
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
