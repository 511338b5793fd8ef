//! Looking: what waits, who holds what, who works. Changes nothing.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::types::{Claimed, LeaseView, Pending, PendingTasks, Worker};
use super::{Inner, Service, envelope};
use crate::broker::{Inspect, PendingQuery};
use crate::error::Error;
use crate::ledger::LeaseQuery;
use crate::task::{QueueName, SessionId};

/// Bytes of bodies after which a page of waiting tasks ends.
const PAGE_BYTES_MAX: usize = 2 << 20;

impl Inner {
    /// The broker's view into its queues, for `capability`.
    pub(super) fn inspect(&self, capability: &'static str) -> Result<&dyn Inspect, Error> {
        let combination = || format!("the {} broker", self.guarantees.broker.name);
        let missing = || Error::CapabilityMissing { combination: combination(), capability };
        self.stores.broker.inspect().ok_or_else(missing)
    }
}

/// Who is attached to this replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attached {
    /// Streams and waiting calls.
    pub sessions: u64,
    /// Leases that they asked for and were not offered yet.
    pub slots_free: u64,
}

impl Service {
    /// Who is attached to this replica now. Costs as much as they are.
    pub fn attached(&self) -> Attached {
        let free = |state: &super::attachment::State| state.limit.saturating_sub(state.sent + state.reserved);
        let all = self.inner.sessions.all();
        let slots_free = all.iter().fold(0, |sum: u64, one| sum.saturating_add(free(&one.state.lock())));
        Attached { sessions: all.len() as u64, slots_free }
    }

    /// What waits in a queue, in the order in which it would be leased; delayed tasks behind it if asked for.
    ///
    /// - `queue`: `None` is the default queue.
    /// - `after`: opaque, from the page before.
    ///
    /// # Errors
    /// [`Error::CapabilityMissing`]; [`Error::Invalid`] (`page_token`); [`Error::Store`].
    pub async fn pending(
        &self,
        queue: Option<QueueName>,
        delayed: bool,
        after: Option<&[u8]>,
        max: usize,
    ) -> Result<PendingTasks, Error> {
        let inner = &self.inner;
        let inspect = inner.inspect("listing what waits in a queue")?;
        let queue = queue.unwrap_or_else(|| inner.settings().default_queue.clone());
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        let query = PendingQuery { queue: &queue, delayed, after, max, body_bytes_max: PAGE_BYTES_MAX };
        let page = inspect.pending(&query).await?;
        let claimed: Claimed = inner.sessions.names(&queue).into_iter().collect();
        let tasks = page.items.into_iter().map(|waiting| {
            let task = envelope::open(&waiting.body).map(|opened| (*opened.signature).clone());
            let unclaimed = task.as_ref().is_ok_and(|t| !claimed.contains(t.name.as_str()));
            Pending { task, available_at: waiting.available_at, unclaimed }
        });
        Ok(PendingTasks { tasks: tasks.collect(), next: page.next })
    }

    /// Live leases, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn leases(&self, query: &LeaseQuery) -> Result<Vec<LeaseView>, Error> {
        let leases = self.inner.stores.ledger.leases(query).await?;
        let views = leases.into_iter().map(|lease| {
            let hand = self.inner.hands.get(&lease.id);
            let accepted = hand.as_ref().is_none_or(|h| h.accepted);
            let started = hand.as_ref().is_some_and(|h| h.started);
            LeaseView { lease, accepted, started, progress: hand.and_then(|h| h.progress) }
        });
        Ok(views.collect())
    }

    /// Workers in order of their sessions, after `after`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn workers(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Worker>, Error> {
        let inner = &self.inner;
        let mut workers = Vec::new();
        for session in inner.stores.ledger.sessions(after, max).await? {
            let leases = u32::try_from(inner.leases_of(&session.id).await?.len()).unwrap_or(u32::MAX);
            let attached = inner.sessions.attached(&session.id);
            let silent_for = inner.heard.lock().get(&session.id).map_or(Duration::ZERO, tokio::time::Instant::elapsed);
            workers.push(Worker { session, leases, attached, silent_for });
        }
        Ok(workers)
    }
}
