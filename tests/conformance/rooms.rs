//! The rooms under test.

use std::sync::Arc;

use lineshaft::backend::Backend;
use lineshaft::broker::{Broker, StaleAck};
use lineshaft::clock::TestClock;
use lineshaft::fused::Fused;
use lineshaft::ledger::Ledger;
use lineshaft::telemetry::stores::Stores as Calls;
use lineshaft::{backend, broker, fused, ledger};

use crate::room::{BackendRoom, BrokerRoom, FusedRoom, LedgerRoom, Room};
use crate::support::faulty::{Faulty, Switch};

/// The reference models. Their stores outlive a "process", which is one handle of the broker.
pub(crate) struct Memory {
    clock: Arc<TestClock>,
    broker: Arc<broker::memory::Broker>,
    ledger: Arc<ledger::memory::Ledger>,
    backend: Arc<backend::memory::Backend>,
}

impl Memory {
    fn with(clock: Arc<TestClock>, options: broker::memory::Options) -> Self {
        Self {
            broker: Arc::new(broker::memory::Broker::with(clock.clone(), options)),
            ledger: Arc::new(ledger::memory::Ledger::new(clock.clone())),
            backend: Arc::new(backend::memory::Backend::new()),
            clock,
        }
    }
}

impl Room for Memory {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self::with(clock, broker::memory::Options::default())
    }

    fn clock(&self) -> &TestClock {
        &self.clock
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        let broker = Arc::new(self.broker.replica());
        self.broker.crash();
        Ok(Self { broker, ..self })
    }
}

impl BrokerRoom for Memory {
    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }
}

impl LedgerRoom for Memory {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }
}

impl BackendRoom for Memory {
    fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }
}

impl FusedRoom for Memory {
    fn fused(&self) -> Arc<dyn Fused> {
        Arc::new(fused::memory::Fused::new(self.broker.clone(), self.ledger.clone(), self.backend.clone()))
    }
}

/// The embedded rooms in a directory of their own.
#[cfg(feature = "embedded")]
pub(crate) struct Embedded {
    clock: Arc<TestClock>,
    stores: fused::embedded::Stores,
    // Declared last, so that it is removed after the store in it is closed.
    directory: tempfile::TempDir,
}

#[cfg(feature = "embedded")]
impl Embedded {
    fn open_in(directory: tempfile::TempDir, clock: Arc<TestClock>) -> Self {
        let stores = fused::embedded::open(directory.path(), Default::default(), clock.clone()).expect("the stores");
        Self { clock, stores, directory }
    }
}

#[cfg(feature = "embedded")]
impl Room for Embedded {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self::open_in(tempfile::tempdir().expect("a directory"), clock)
    }

    fn clock(&self) -> &TestClock {
        &self.clock
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        // A copy of the files as they are is what a process finds whose predecessor was killed.
        let copy = tempfile::tempdir().expect("a directory");
        for entry in std::fs::read_dir(self.directory.path()).expect("the directory") {
            let entry = entry.expect("a file");
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
        }
        Ok(Self::open_in(copy, self.clock.clone()))
    }
}

#[cfg(feature = "embedded")]
impl BrokerRoom for Embedded {
    fn broker(&self) -> Arc<dyn Broker> {
        self.stores.broker.clone()
    }
}

#[cfg(feature = "embedded")]
impl LedgerRoom for Embedded {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.stores.ledger.clone()
    }
}

#[cfg(feature = "embedded")]
impl BackendRoom for Embedded {
    fn backend(&self) -> Arc<dyn Backend> {
        self.stores.backend.clone()
    }
}

#[cfg(feature = "embedded")]
impl FusedRoom for Embedded {
    fn fused(&self) -> Arc<dyn Fused> {
        self.stores.fused.clone()
    }
}

/// The model of a broker without any power that it may lack.
pub(crate) struct Plain(Memory);

impl Room for Plain {
    async fn open(clock: Arc<TestClock>) -> Self {
        let options = broker::memory::Options {
            by_name: false,
            recall: false,
            inspect: false,
            find: false,
            priorities: false,
            exact_redelivery: false,
            stale_ack: StaleAck::Undetected,
        };
        Self(Memory::with(clock, options))
    }

    fn clock(&self) -> &TestClock {
        self.0.clock()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        self.0.reopen().await.map(Self)
    }
}

impl BrokerRoom for Plain {
    fn broker(&self) -> Arc<dyn Broker> {
        self.0.broker()
    }
}

/// Rooms behind the wrapper that counts their calls.
pub(crate) struct Measured<R> {
    room: R,
    calls: Calls,
}

impl<R: Room> Room for Measured<R> {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self { room: R::open(clock).await, calls: Calls::default() }
    }

    fn clock(&self) -> &TestClock {
        self.room.clock()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        Ok(Self { room: self.room.reopen().await?, calls: self.calls })
    }
}

impl<R: BrokerRoom> BrokerRoom for Measured<R> {
    fn broker(&self) -> Arc<dyn Broker> {
        self.calls.broker(self.room.broker())
    }
}

impl<R: LedgerRoom> LedgerRoom for Measured<R> {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.calls.ledger(self.room.ledger())
    }
}

impl<R: BackendRoom> BackendRoom for Measured<R> {
    fn backend(&self) -> Arc<dyn Backend> {
        self.calls.backend(self.room.backend())
    }
}

impl<R: FusedRoom> FusedRoom for Measured<R> {
    fn fused(&self) -> Arc<dyn Fused> {
        self.calls.fused(self.room.fused(), "measured")
    }
}

/// The models behind the wrapper that makes stores fail, with its switch off.
pub(crate) struct WithoutFaults(Memory);

impl Room for WithoutFaults {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self(Memory::open(clock).await)
    }

    fn clock(&self) -> &TestClock {
        self.0.clock()
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        self.0.reopen().await.map(Self)
    }
}

impl BrokerRoom for WithoutFaults {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(Faulty::new(self.0.broker(), Switch::default()))
    }
}

impl LedgerRoom for WithoutFaults {
    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::new(Faulty::new(self.0.ledger(), Switch::default()))
    }
}

impl BackendRoom for WithoutFaults {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Faulty::new(self.0.backend(), Switch::default()))
    }
}
