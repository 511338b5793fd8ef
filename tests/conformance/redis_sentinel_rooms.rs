//! The rooms behind a sentinel, each case on an empty master.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::TestClock;
use lineshaft::ledger::Ledger;
use lineshaft::{backend, broker, ledger};

use crate::room::{BackendRoom, BrokerRoom, LedgerRoom, Room};
use crate::support::redis::Redis as Server;
use crate::support::redis_sentinel::Pooled;

/// A master and its replica, as a sentinel names them.
pub(crate) struct Sentinel {
    clock: Arc<TestClock>,
    broker: Arc<broker::redis::Broker>,
    ledger: Arc<ledger::redis::Ledger>,
    backend: Arc<backend::redis::Backend>,
    servers: Pooled,
}

impl Sentinel {
    async fn on(servers: Pooled, clock: Arc<TestClock>) -> Self {
        // A dead replica is noticed within the patience of a test.
        let options = broker::redis::Options {
            beat: Duration::from_millis(20),
            dead_after: Duration::from_millis(200),
            ..Default::default()
        };
        let opened = broker::redis::Broker::open(servers.link().await, options, clock.clone()).await;
        let ledger = Arc::new(ledger::redis::Ledger::new(servers.link().await, clock.clone()));
        let backend = Arc::new(backend::redis::Backend::new(servers.link().await));
        Self { clock, broker: Arc::new(opened.expect("the broker")), ledger, backend, servers }
    }
}

impl Room for Sentinel {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        Self::on(Pooled::take().await, clock).await
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

impl BrokerRoom for Sentinel {
    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

impl LedgerRoom for Sentinel {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }
}

impl BackendRoom for Sentinel {
    fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }
}
