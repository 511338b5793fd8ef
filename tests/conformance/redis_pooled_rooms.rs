//! The rooms on servers that are dear to start, so that the cases take them from a pool, each of them empty: a Redis Cluster
//! of three nodes, and a master and its replica behind a sentinel.

use std::sync::Arc;

use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::TestClock;
use lineshaft::ledger::Ledger;
use lineshaft::link::redis::Link;
use lineshaft::{backend, broker, ledger};

use crate::redis_rooms::quick;
use crate::room::{BackendRoom, BrokerRoom, LedgerRoom, Room};
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
    broker: Arc<broker::redis::Broker>,
    ledger: Arc<ledger::redis::Ledger>,
    backend: Arc<backend::redis::Backend>,
    servers: P,
}

impl<P: Pool> Pooled<P> {
    async fn on(servers: P, clock: Arc<TestClock>) -> Self {
        let opened = broker::redis::Broker::open(servers.open().await, quick(), clock.clone()).await;
        let ledger = Arc::new(ledger::redis::Ledger::new(servers.open().await, clock.clone()));
        let backend = Arc::new(backend::redis::Backend::new(servers.open().await));
        Self { clock, broker: Arc::new(opened.expect("the broker")), ledger, backend, servers }
    }
}

impl<P: Pool> Room for Pooled<P> {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        Self::on(P::take().await, clock).await
    }

    fn clock(&self) -> &TestClock {
        &self.clock
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        let Self { clock, broker, ledger, backend, servers } = self;
        drop((broker, ledger, backend));
        Ok(Self::on(servers, clock).await)
    }
}

impl<P: Pool> BrokerRoom for Pooled<P> {
    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

impl<P: Pool> LedgerRoom for Pooled<P> {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }
}

impl<P: Pool> BackendRoom for Pooled<P> {
    fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }
}
