//! Queues for people: how much waits, who takes, what happens; pausing them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::pauses::Paused;
pub use super::traffic::Rates;
use super::{Inner, Service, envelope};
use crate::broker::Depth;
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::task::QueueName;

/// Queues whose depths are asked for at once: each brings a body, of up to 16 MiB where the limits allow it.
const DEPTHS_MAX: usize = 16;
/// Sessions read at once.
const SESSIONS_PAGE: usize = 1_000;

/// A queue for people. Its counts are of moments a little apart.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its name.
    pub name: QueueName,
    /// Tasks that are due and wait; 0 too where the broker cannot be looked into.
    pub waiting: u64,
    /// Tasks that wait for their time; 0 likewise.
    pub delayed: u64,
    /// Of `delayed`: parked by this replica, as nobody here takes their names.
    pub parked: u64,
    /// Live leases.
    pub leased: u64,
    /// When the oldest of `waiting` was sent, if that is known.
    pub oldest_sent_at: Option<WallTime>,
    /// How long ago that was.
    pub oldest_age: Option<Duration>,
    /// Since when it is paused; `None`: it is not.
    pub paused_at: Option<WallTime>,
    /// Sessions that take from it, attached or not.
    pub workers: u32,
    /// What happened in it, as far as this replica saw and counts it.
    pub rates: Option<Rates>,
    /// Other programs may take from it.
    pub others_may_take: bool,
}

/// A page of queues.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// In order of their names.
    pub queues: Vec<View>,
    /// More follow.
    pub has_more: bool,
}

/// What is known of all queues beside what waits in them.
struct Around {
    leased: HashMap<QueueName, u64>,
    workers: HashMap<QueueName, u32>,
    paused: Arc<Paused>,
}

impl Service {
    /// Queues after `after` whose names begin with `prefix`, at most `max`, in order: those in which anything waits or is
    /// leased, from which a worker takes, which are paused, or to which this replica has sent. Costs as much as there are
    /// queues, sessions and live leases, not as there are messages.
    ///
    /// # Errors
    /// [`Error::CapabilityMissing`]; [`Error::Store`].
    pub async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Page, Error> {
        let inner = &self.inner;
        let inspect = inner.inspect("listing queues")?;
        let waiting = inspect.queues(after, prefix, max.saturating_add(1)).await?;
        let around = inner.around().await?;
        let fits = |queue: &&QueueName| after.is_none_or(|after| *queue > after) && queue.as_str().starts_with(prefix);
        let sent_to = inner.traffic.sent_to();
        let others = around.leased.keys().chain(around.workers.keys()).chain(around.paused.keys()).chain(&sent_to);
        let mut names: BTreeSet<QueueName> = others.filter(fits).cloned().collect();
        names.extend(waiting);
        let has_more = names.len() > max;
        let names: Vec<QueueName> = names.into_iter().take(max).collect();
        Ok(Page { queues: inner.views(names, &around).await?, has_more })
    }

    /// One queue.
    ///
    /// # Errors
    /// [`Error::QueueUnknown`] if it is none of [`Service::queues`]; [`Error::CapabilityMissing`]; [`Error::Store`].
    pub async fn queue(&self, queue: QueueName) -> Result<View, Error> {
        let inner = &self.inner;
        inner.inspect("looking at a queue")?;
        let view = inner.view(queue).await?;
        let is_known = view.waiting + view.delayed + view.leased + u64::from(view.workers) > 0
            || view.paused_at.is_some()
            || inner.traffic.is_sent_to(&view.name);
        if is_known { Ok(view) } else { Err(Error::QueueUnknown(view.name.to_string())) }
    }

    /// Stops taking from a queue, on every replica, until it is resumed. Any name may be paused.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] (`queue`): too many are paused; [`Error::Store`]: pause again.
    pub async fn pause(&self, queue: QueueName) -> Result<View, Error> {
        self.inner.pause(&queue).await?;
        tracing::info!(%queue, "a queue is paused");
        self.inner.view(queue).await
    }

    /// Takes from a queue again.
    ///
    /// # Errors
    /// [`Error::Store`]: resume again.
    pub async fn resume(&self, queue: QueueName) -> Result<View, Error> {
        self.inner.resume(&queue).await?;
        tracing::info!(%queue, "a queue is resumed");
        self.inner.view(queue).await
    }
}

impl Inner {
    async fn around(&self) -> Result<Around, StoreError> {
        let leased = self.stores.ledger.leased().await?.into_iter().collect();
        let paused = self.read_paused().await?;
        let mut workers: HashMap<QueueName, u32> = HashMap::new();
        let mut after = None;
        loop {
            let page = self.stores.ledger.sessions(after.as_ref(), SESSIONS_PAGE).await?;
            for subscription in page.iter().flat_map(|session| &session.subscriptions) {
                *workers.entry(subscription.queue.clone()).or_default() += 1;
            }
            if page.len() < SESSIONS_PAGE {
                return Ok(Around { leased, workers, paused });
            }
            after = page.last().map(|session| session.id.clone());
        }
    }

    async fn view(&self, queue: QueueName) -> Result<View, Error> {
        let around = self.around().await?;
        let views = self.views(vec![queue], &around).await?;
        views.into_iter().next().ok_or_else(|| Error::Invariant("a broker told no depth of a queue".into()))
    }

    async fn views(&self, names: Vec<QueueName>, around: &Around) -> Result<Vec<View>, StoreError> {
        let mut views = Vec::with_capacity(names.len());
        for chunk in names.chunks(DEPTHS_MAX) {
            let depths = match self.stores.broker.inspect() {
                Some(inspect) => inspect.depths(chunk).await?,
                None => vec![Depth::default(); chunk.len()],
            };
            views.extend(chunk.iter().zip(depths).map(|(name, depth)| self.shown(name, &depth, around)));
        }
        Ok(views)
    }

    fn shown(&self, name: &QueueName, depth: &Depth, around: &Around) -> View {
        let oldest = depth.oldest.as_deref().and_then(|body| envelope::open(body).ok());
        let sent = oldest.map_or(0, |opened| envelope::generation(&opened.signature));
        let oldest_sent_at = (sent > 0).then_some(WallTime(sent));
        View {
            name: name.clone(),
            waiting: depth.waiting,
            delayed: depth.delayed,
            parked: self.sessions.parked(name, self.clock.now()),
            leased: around.leased.get(name).copied().unwrap_or(0),
            oldest_sent_at,
            oldest_age: oldest_sent_at.map(|at| at.until(self.clock.wall())),
            paused_at: around.paused.get(name).copied(),
            workers: around.workers.get(name).copied().unwrap_or(0),
            rates: self.traffic.rates(name, self.clock.now()),
            others_may_take: self.guarantees.broker.shared,
        }
    }
}
