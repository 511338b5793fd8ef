//! The rooms on Redis, each case on a server of its own.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::TestClock;
use lineshaft::ledger::Ledger;
use lineshaft::{backend, broker, ledger};

use crate::room::{BackendRoom, BrokerRoom, LedgerRoom, Room};
use crate::support::redis::Redis as Server;

/// A plain server.
pub(crate) struct Redis {
    clock: Arc<TestClock>,
    broker: Arc<broker::redis::Broker>,
    ledger: Arc<ledger::redis::Ledger>,
    backend: Arc<backend::redis::Backend>,
    server: Server,
}

impl Redis {
    async fn on(server: Server, clock: Arc<TestClock>) -> Self {
        // A dead replica is noticed within the patience of a test.
        let options = broker::redis::Options {
            beat: Duration::from_millis(20),
            dead_after: Duration::from_millis(200),
            ..Default::default()
        };
        let opened = broker::redis::Broker::open(server.link().await, options, clock.clone()).await;
        let ledger = Arc::new(ledger::redis::Ledger::new(server.link().await, clock.clone()));
        let backend = Arc::new(backend::redis::Backend::new(server.link().await));
        Self { clock, broker: Arc::new(opened.expect("the broker")), ledger, backend, server }
    }
}

impl Room for Redis {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        Self::on(Server::start(&[]).await, clock).await
    }

    fn clock(&self) -> &TestClock {
        &self.clock
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        let Self { clock, broker, ledger, backend, server } = self;
        drop((broker, ledger, backend));
        Ok(Self::on(server, clock).await)
    }
}

impl BrokerRoom for Redis {
    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

impl LedgerRoom for Redis {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }
}

impl BackendRoom for Redis {
    fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }
}
