//! What the suite asks of a room.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::{Clock, TestClock, WallTime};
use lineshaft::fused::Fused;
use lineshaft::ledger::Ledger;

/// Stores to be tested.
pub(crate) trait Room: Sized + 'static {
    /// Time cannot be paused, because the store is another program. Default: it can.
    const REAL_TIME: bool = false;

    /// Why the room cannot be opened here; `None`: it can.
    fn missing() -> Option<&'static str> {
        None
    }

    /// Empty stores that read `clock`.
    fn open(clock: Arc<TestClock>) -> impl Future<Output = Self>;

    /// The clock.
    fn clock(&self) -> &TestClock;

    /// The same stores after the process that used them was killed and began anew; `Err`: why nothing is left.
    fn reopen(self) -> impl Future<Output = Result<Self, &'static str>>;

    /// The wall time.
    fn now(&self) -> WallTime {
        self.clock().wall()
    }

    /// Lets time pass; a room in real time steps the wall clock instead.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> {
        async move {
            crate::harness::settle_down().await;
            if Self::REAL_TIME {
                self.clock().step_to(self.now().plus(time));
            } else {
                tokio::time::advance(time).await;
            }
        }
    }
}

/// A room that carries tasks.
pub(crate) trait BrokerRoom: Room {
    /// It.
    fn broker(&self) -> Arc<dyn Broker>;
}

/// A room that knows the truth about attempts.
pub(crate) trait LedgerRoom: Room {
    /// It.
    fn ledger(&self) -> Arc<dyn Ledger>;
}

/// A room that keeps states.
pub(crate) trait BackendRoom: Room {
    /// It.
    fn backend(&self) -> Arc<dyn Backend>;
}

/// A store that is all three.
pub(crate) trait FusedRoom: BrokerRoom + LedgerRoom + BackendRoom {
    /// It.
    fn fused(&self) -> Arc<dyn Fused>;
}
