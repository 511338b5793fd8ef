//! The rooms on Redis, each case on a server of its own.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::TestClock;
use lineshaft::fused::Fused;
use lineshaft::ledger::Ledger;
use lineshaft::{backend, broker, fused, ledger};

use crate::room::{BackendRoom, BrokerRoom, FusedRoom, LedgerRoom, Room};
use crate::support::redis::Redis as Server;

/// A dead replica is noticed within the patience of a test.
pub(crate) fn quick() -> broker::redis::Options {
    broker::redis::Options {
        beat: Duration::from_millis(20),
        dead_after: Duration::from_millis(200),
        ..Default::default()
    }
}

/// A plain server.
pub(crate) struct Redis {
    clock: Arc<TestClock>,
    broker: Arc<broker::redis::Broker>,
    ledger: Arc<ledger::redis::Ledger>,
    backend: Arc<backend::redis::Backend>,
    fused: Arc<fused::redis::Fused>,
    server: Server,
}

impl Redis {
    /// Runs a command beside the rooms.
    pub(crate) async fn command(&self, parts: &[&str]) {
        let mut command = redis::cmd(parts[0]);
        command.arg(&parts[1..]);
        command.query_async::<redis::Value>(&mut self.server.connection().await).await.expect("an answer");
    }

    async fn on(server: Server, clock: Arc<TestClock>) -> Self {
        let opened = broker::redis::Broker::open(server.link().await, quick(), clock.clone()).await;
        let ledger = Arc::new(ledger::redis::Ledger::new(server.link().await, clock.clone()));
        let backend = Arc::new(backend::redis::Backend::new(server.link().await));
        let broker = Arc::new(opened.expect("the broker"));
        let rooms = (broker.clone(), ledger.clone(), backend.clone());
        let fused = fused::redis::Fused::new(server.link().await, rooms.0, rooms.1, rooms.2, clock.clone());
        Self { clock, broker, ledger, backend, fused: Arc::new(fused), server }
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
        let Self { clock, broker, ledger, backend, fused, server } = self;
        drop((fused, broker, ledger, backend));
        Ok(Self::on(server, clock).await)
    }
}

/// A server that takes a password, in another database than the first.
pub(crate) struct Locked(Redis);

impl Room for Locked {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        let server = Server::start(&["--requirepass", "secret"]).await.in_database(3);
        Self(Redis::on(server, clock).await)
    }

    fn clock(&self) -> &TestClock {
        self.0.clock()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        self.0.reopen().await.map(Self)
    }
}

impl BrokerRoom for Locked {
    fn broker(&self) -> Arc<dyn Broker> {
        self.0.broker()
    }
}

impl LedgerRoom for Locked {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.0.ledger()
    }
}

impl BackendRoom for Locked {
    fn backend(&self) -> Arc<dyn Backend> {
        self.0.backend()
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

impl FusedRoom for Redis {
    fn fused(&self) -> Arc<dyn Fused> {
        self.fused.clone()
    }
}

impl BackendRoom for Redis {
    fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }
}
