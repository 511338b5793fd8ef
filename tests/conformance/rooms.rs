//! The rooms under test.

use std::sync::Arc;

use lineshaft::backend::Backend;
use lineshaft::broker::{Broker, StaleAck};
use lineshaft::clock::TestClock;
use lineshaft::ledger::Ledger;
use lineshaft::telemetry::stores::Stores as Calls;
use lineshaft::{backend, broker, fused, ledger};

use crate::room::{Seams, Stores};
use crate::support::faulty::{Faulty, Switch};

/// The reference models. Their stores outlive a "process", which is one handle of the broker.
pub(crate) struct Memory {
    broker: Arc<broker::memory::Broker>,
    ledger: Arc<ledger::memory::Ledger>,
    backend: Arc<backend::memory::Backend>,
}

impl Memory {
    fn with(clock: Arc<TestClock>, options: broker::memory::Options) -> Self {
        Self {
            broker: Arc::new(broker::memory::Broker::with(clock.clone(), options)),
            ledger: Arc::new(ledger::memory::Ledger::new(clock)),
            backend: Arc::new(backend::memory::Backend::new()),
        }
    }
}

impl Stores for Memory {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self::with(clock, broker::memory::Options::default())
    }

    fn seams(&self) -> Seams {
        let (broker, ledger, backend) = (self.broker.clone(), self.ledger.clone(), self.backend.clone());
        let fused = fused::memory::Fused::new(broker.clone(), ledger.clone(), backend.clone());
        Seams { broker, ledger: Some(ledger), backend: Some(backend), fused: Some(Arc::new(fused)) }
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        let broker = Arc::new(self.broker.replica());
        self.broker.crash();
        Ok(Self { broker, ..self })
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
impl Stores for Embedded {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self::open_in(tempfile::tempdir().expect("a directory"), clock)
    }

    fn seams(&self) -> Seams {
        Seams {
            broker: self.stores.broker.clone(),
            ledger: Some(self.stores.ledger.clone()),
            backend: Some(self.stores.backend.clone()),
            fused: Some(self.stores.fused.clone()),
        }
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

/// The model of a broker without any power that it may lack.
pub(crate) struct Plain(Memory);

impl Stores for Plain {
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

    fn seams(&self) -> Seams {
        Seams { broker: self.0.broker.clone(), ledger: None, backend: None, fused: None }
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        self.0.reopen().await.map(Self)
    }
}

/// Rooms behind the wrapper that counts their calls.
pub(crate) struct Measured<S> {
    stores: S,
    calls: Calls,
}

impl<S: Stores> Stores for Measured<S> {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self { stores: S::open(clock).await, calls: Calls::default() }
    }

    fn seams(&self) -> Seams {
        let (calls, bare) = (&self.calls, self.stores.seams());
        Seams {
            broker: calls.broker(bare.broker),
            ledger: bare.ledger.map(|ledger| calls.ledger(ledger)),
            backend: bare.backend.map(|backend| calls.backend(backend)),
            fused: bare.fused.map(|fused| calls.fused(fused, "measured")),
        }
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        Ok(Self { stores: self.stores.reopen().await?, calls: self.calls })
    }
}

/// The models behind the wrapper that makes stores fail, with its switch off.
pub(crate) struct WithoutFaults(Memory);

impl Stores for WithoutFaults {
    async fn open(clock: Arc<TestClock>) -> Self {
        Self(Memory::open(clock).await)
    }

    fn seams(&self) -> Seams {
        let Memory { broker, ledger, backend } = &self.0;
        Seams {
            broker: Arc::new(Faulty::<dyn Broker>::new(broker.clone(), Switch::default())),
            ledger: Some(Arc::new(Faulty::<dyn Ledger>::new(ledger.clone(), Switch::default()))),
            backend: Some(Arc::new(Faulty::<dyn Backend>::new(backend.clone(), Switch::default()))),
            fused: None,
        }
    }

    async fn reopen(self) -> Result<Self, &'static str> {
        self.0.reopen().await.map(Self)
    }
}
