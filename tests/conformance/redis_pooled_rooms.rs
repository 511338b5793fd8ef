//! The rooms on servers that are dear to start, so that the cases take them from a pool, each of them empty: a Redis Cluster
//! of three nodes, and a master and its replica behind a sentinel.

use std::sync::Arc;

use lineshaft::clock::TestClock;
use lineshaft::link::redis::Link;
use lineshaft::{backend, broker, ledger};

use crate::redis_rooms::quick;
use crate::room::{Seams, Stores};
use crate::support::redis::Redis as Server;
use crate::support::{redis_cluster, redis_sentinel};

/// Servers of a pool.
pub(crate) trait Pool: Sized + Send + Sync + 'static {
    /// Empty ones that nobody else uses.
    async fn take() -> Self;
    /// A link to them.
    async fn open(&self) -> Link;
}

impl Pool for redis_cluster::Pooled {
    async fn take() -> Self {
        Self::take().await
    }

    async fn open(&self) -> Link {
        self.link().await
    }
}

impl Pool for redis_sentinel::Pooled {
    async fn take() -> Self {
        Self::take().await
    }

    async fn open(&self) -> Link {
        self.link().await
    }
}

/// A cluster.
pub(crate) type Cluster = Pooled<redis_cluster::Pooled>;
/// A master and its replica, as a sentinel names them.
pub(crate) type Sentinel = Pooled<redis_sentinel::Pooled>;

/// The rooms on servers of a pool.
pub(crate) struct Pooled<P> {
    clock: Arc<TestClock>,
    seams: Seams,
    servers: P,
}

impl<P: Pool> Pooled<P> {
    async fn on(servers: P, clock: Arc<TestClock>) -> Self {
        let opened = broker::redis::Broker::open(servers.open().await, quick(), clock.clone()).await;
        let ledger = Arc::new(ledger::redis::Ledger::new(servers.open().await, clock.clone()));
        let backend = Arc::new(backend::redis::Backend::new(servers.open().await));
        let broker = Arc::new(opened.expect("the broker"));
        let seams = Seams { broker, ledger: Some(ledger), backend: Some(backend), fused: None };
        Self { clock, seams, servers }
    }
}

impl<P: Pool> Stores for Pooled<P> {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        Self::on(P::take().await, clock).await
    }

    fn seams(&self) -> Seams {
        self.seams.clone()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        let Self { clock, seams, servers } = self;
        drop(seams);
        Ok(Self::on(servers, clock).await)
    }
}
