//! The rooms on Redis, each case on a server of its own.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::clock::TestClock;
use lineshaft::{backend, broker, fused, ledger};

use crate::room::{Seams, Stores};
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
    seams: Seams,
    server: Server,
}

impl Redis {
    /// On this server.
    pub(crate) async fn on(server: Server, clock: Arc<TestClock>) -> Self {
        let opened = broker::redis::Broker::open(server.link().await, quick(), clock.clone()).await;
        let broker = Arc::new(opened.expect("the broker"));
        let ledger = Arc::new(ledger::redis::Ledger::new(server.link().await, clock.clone()));
        let backend = Arc::new(backend::redis::Backend::new(server.link().await));
        let rooms = (broker.clone(), ledger.clone(), backend.clone());
        let fused = fused::redis::Fused::new(server.link().await, rooms.0, rooms.1, rooms.2, clock.clone());
        let seams = Seams { broker, ledger: Some(ledger), backend: Some(backend), fused: Some(Arc::new(fused)) };
        Self { clock, seams, server }
    }
}

impl Stores for Redis {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        Self::on(Server::start(&[]).await, clock).await
    }

    fn seams(&self) -> Seams {
        self.seams.clone()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        let Self { clock, seams, server } = self;
        drop(seams);
        Ok(Self::on(server, clock).await)
    }
}

/// A server that takes a password, in another database than the first.
pub(crate) struct Locked(Redis);

impl Stores for Locked {
    const REAL_TIME: bool = true;

    fn missing() -> Option<&'static str> {
        Server::missing()
    }

    async fn open(clock: Arc<TestClock>) -> Self {
        let server = Server::start(&["--requirepass", "secret"]).await.in_database(3);
        Self(Redis::on(server, clock).await)
    }

    fn seams(&self) -> Seams {
        self.0.seams()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        self.0.reopen().await.map(Self)
    }
}
