//! What the suite asks of a room.
//!
//! The cases see one type, [`Room`], whatever is behind it: so each is compiled once, and not once for every room.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lineshaft::backend::Backend;
use lineshaft::broker::Broker;
use lineshaft::clock::{Clock, TestClock, WallTime};
use lineshaft::fused::Fused;
use lineshaft::ledger::Ledger;

/// Stores of one kind, for as long as a process would use them.
pub(crate) trait Stores: Sized + 'static {
    /// Time cannot be paused, because the store is another program. Default: it can.
    const REAL_TIME: bool = false;

    /// Why none can be opened here; `None`: they can.
    fn missing() -> Option<&'static str> {
        None
    }

    /// Empty stores that read `clock`.
    fn open(clock: Arc<TestClock>) -> impl Future<Output = Self>;

    /// What they are.
    fn seams(&self) -> Seams;

    /// The same stores after the process that used them was killed and began anew; `Err`: why nothing is left.
    fn reopen(self) -> impl Future<Output = Result<Self, &'static str>>;
}

/// The seams that stores have. A room without one is given no cases of it.
#[derive(Clone)]
pub(crate) struct Seams {
    /// Carries tasks.
    pub(crate) broker: Arc<dyn Broker>,
    /// Knows the truth about attempts.
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
    /// Keeps states.
    pub(crate) backend: Option<Arc<dyn Backend>>,
    /// Is all three.
    pub(crate) fused: Option<Arc<dyn Fused>>,
}

/// How rooms of one kind are opened.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    real_time: bool,
    missing: fn() -> Option<&'static str>,
    open: fn(Arc<TestClock>) -> LocalBoxFuture<'static, Room>,
}

impl Kind {
    /// That of these stores.
    pub(crate) const fn of<S: Stores>() -> Self {
        let open = |clock: Arc<TestClock>| async { Room::of(S::open(clock.clone()).await, clock) }.boxed_local();
        Self { real_time: S::REAL_TIME, missing: S::missing, open }
    }

    /// Why no room can be opened here; `None`: it can.
    pub(crate) fn missing(self) -> Option<&'static str> {
        (self.missing)()
    }

    /// Time cannot be paused.
    pub(crate) fn real_time(self) -> bool {
        self.real_time
    }

    /// A room of its own, empty, that reads `clock`.
    pub(crate) async fn open(self, clock: Arc<TestClock>) -> Room {
        (self.open)(clock).await
    }
}

/// Stores to be tested.
pub(crate) struct Room {
    kind: Kind,
    clock: Arc<TestClock>,
    // Declared, and so dropped, before the stores: nothing of them outlives the directory or the server that they use.
    seams: Seams,
    reopen: Box<dyn FnOnce() -> LocalBoxFuture<'static, Result<Self, &'static str>>>,
}

impl Room {
    /// Empty stores that read `clock`.
    pub(crate) async fn open<S: Stores>(clock: Arc<TestClock>) -> Self {
        Kind::of::<S>().open(clock).await
    }

    /// These stores, which read `clock`.
    pub(crate) fn of<S: Stores>(stores: S, clock: Arc<TestClock>) -> Self {
        let (seams, again) = (stores.seams(), clock.clone());
        let reopen = || async { Ok(Self::of(stores.reopen().await?, again)) }.boxed_local();
        Self { kind: Kind::of::<S>(), clock, seams, reopen: Box::new(reopen) }
    }

    /// The same stores after the process that used them was killed and began anew; `Err`: why nothing is left.
    pub(crate) async fn reopen(self) -> Result<Self, &'static str> {
        drop(self.seams);
        (self.reopen)().await
    }

    /// What it is one of.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its broker.
    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        self.seams.broker.clone()
    }

    /// Its ledger.
    pub(crate) fn ledger(&self) -> Arc<dyn Ledger> {
        self.seams.ledger.clone().expect("a room with a ledger")
    }

    /// Its backend.
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.seams.backend.clone().expect("a room with a backend")
    }

    /// The store that is all three.
    pub(crate) fn fused(&self) -> Arc<dyn Fused> {
        self.seams.fused.clone().expect("a room with a fused store")
    }

    /// Time cannot be paused.
    pub(crate) fn real_time(&self) -> bool {
        self.kind.real_time
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// The wall time.
    pub(crate) fn now(&self) -> WallTime {
        self.clock.wall()
    }

    /// Lets time pass; a room in real time steps the wall clock instead.
    pub(crate) async fn pass(&self, time: Duration) {
        crate::harness::settle_down().await;
        if self.real_time() {
            self.clock.step_to(self.now().plus(time));
        } else {
            tokio::time::advance(time).await;
        }
    }
}
