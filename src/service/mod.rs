//! All policy: what is accepted, who gets what, when a lease ends, what follows from an outcome.
//!
//! Sees brokers, ledgers and backends only as traits. Knows no protocol.
//!
//! - `enqueue`: accepting tasks; `claims`: those whose sender named them; `earlier`: ids that were sent before. `dispatch`:
//!   whom a task goes to. `strangers`: what is for workers of other programs. `sessions`,
//!   `attachment`, `slots`, `share`: who is there, credit and fairness.
//! - `worker`, `unary`: streams and single calls of workers. `hands`: what this replica holds.
//! - `settle`, `outcome`, `acknowledge`: recording how attempts end, and what follows. `expiry`: workers that died.
//! - `workflows`: tasks that belong together, and what follows when all have ended.
//! - `dead`: tasks set aside, and what becomes of them.
//! - `cancel`: ending tasks that nobody wants any more. `nobody`: granting what is only to be ended.
//! - `lifetimes`: ending tasks that were not begun in their time. `timeouts`: ending attempts that run too long.
//! - `queues`, `pauses`, `traffic`, `purge`: queues, how much happens in them, stopping and emptying them.
//! - `trail`: what a task went through, told to the log.
//! - `states`, `watch`: states on their way, and waiting for them. `inspect`, `tasks`: looking. `backup`: copying the store.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod acknowledge;
mod attachment;
mod backup;
mod cancel;
mod claims;
pub mod dead;
mod dispatch;
mod earlier;
mod enqueue;
mod envelope;
mod expiry;
mod hands;
mod inspect;
mod lifetimes;
mod nobody;
mod outcome;
mod pauses;
mod picked;
pub mod purge;
pub mod queues;
mod sessions;
mod settle;
mod share;
mod slots;
mod stamped;
mod states;
mod strangers;
pub mod tasks;
mod timeouts;
mod traffic;
mod trail;
pub mod types;
mod unary;
mod watch;
mod worker;
mod workflows;

use crate::backend::Backend;
use crate::broker::{Broker, Receipt};
use crate::clock::{Clock, Instant, WallTime};
use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::fused::Fused;
use crate::ledger::Ledger;
use crate::task::{LeaseId, MessageKey, SessionId};
use crate::telemetry::metrics::Metrics;
pub use backup::Backup;
pub use envelope::{ATTEMPT_TIMEOUT_MAX, RESULT_RETENTION_MAX, attempt_timeout, expires_in, result_retention};
pub use inspect::Attached;
use types::{Event, Guarantees, Parting, Report, Settings};
pub use watch::StateWatch;
pub use worker::{Inbound, Stream};
pub use workflows::GroupWatch;

/// Reports of streams that wait to be decided.
const REPORTS_QUEUED_MAX: usize = 4096;
/// How often expired records are looked for.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);
/// On a store of its own a server has nobody its workers could move to: it only finishes what is under way.
const DRAIN_ALONE: Duration = Duration::from_millis(500);

/// The stores a service works on.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Carries.
    pub broker: Arc<dyn Broker>,
    /// Decides.
    pub ledger: Arc<dyn Ledger>,
    /// Remembers.
    pub backend: Arc<dyn Backend>,
    /// All three at once, where they are one store.
    pub fused: Option<Arc<dyn Fused>>,
}

impl Stores {
    /// Whether a decision is one transaction with the acknowledgement of its message.
    fn acknowledges(&self) -> bool {
        self.fused.as_ref().is_some_and(|fused| fused.acknowledges())
    }
}

/// One replica. Cheap to clone; its work goes on until [`Service::drain`] or the end of its runtime.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

/// A report on its way, with whom to tell the verdict.
#[derive(Debug)]
struct Reported {
    report: Report,
    to: Option<Arc<attachment::Attachment>>,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Inner {
    stores: Stores,
    settings: RwLock<Arc<Settings>>,
    guarantees: Guarantees,
    clock: Arc<dyn Clock>,
    failpoints: Failpoints,
    sessions: sessions::Sessions,
    hands: hands::Hands,
    states: states::States,
    watches: watch::Watches,
    cancels: cancel::Cancels,
    lifetimes: lifetimes::Lifetimes,
    timeouts: timeouts::Timeouts,
    pauses: pauses::Pauses,
    looks: workflows::Looks,
    traffic: traffic::Traffic,
    reports: mpsc::Sender<Reported>,
    /// Sends under way.
    sends: enqueue::UnderWay,
    /// Permits for backups under way.
    backups: Arc<Semaphore>,
    /// The last generation given to a send.
    generation: AtomicU64,
    /// Sessions heard of since the last renewal.
    heartbeats: Mutex<HashSet<SessionId>>,
    /// When each session was last heard of.
    heard: Mutex<HashMap<SessionId, Instant>>,
    /// Leases that cost no attempt and could not be ended while the ledger was away.
    owed: Mutex<Vec<LeaseId>>,
    /// Messages whose tasks have ended, and their deliveries: to be acknowledged in a moment.
    settled: Mutex<Vec<(MessageKey, Option<Receipt>)>>,
    /// Counts the times a store could not be reached: the watch over sessions begins anew after each.
    stalls: AtomicU64,
    /// No new work.
    draining: CancellationToken,
    /// Nothing at all any more.
    stopping: CancellationToken,
    /// Not even the steps under way go on.
    halted: CancellationToken,
    /// Steps under way that a drain waits for.
    steps: TaskTracker,
}

impl Service {
    /// Starts a replica on `stores`: dispatch, expiry, repair and sweeping run on the current runtime.
    pub fn start(stores: Stores, settings: Settings, clock: Arc<dyn Clock>, failpoints: Failpoints) -> Self {
        Self::measured(stores, settings, clock, failpoints, None)
    }

    /// The same; what happens is counted in `metrics` too.
    pub fn measured(
        mut stores: Stores,
        settings: Settings,
        clock: Arc<dyn Clock>,
        failpoints: Failpoints,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        if failpoints.is_unfused() {
            stores.fused = None;
        }
        if !stores.broker.capabilities().carries_keys {
            stores.broker = Arc::new(stamped::Stamped(stores.broker));
            stores.fused = stores.fused.map(|fused| Arc::new(stamped::Stamped(fused)) as Arc<dyn Fused>);
        }
        let guarantees = Guarantees {
            broker: stores.broker.capabilities().clone(),
            ledger: stores.ledger.name(),
            backend: stores.backend.name(),
            fused: stores.fused.is_some(),
            single_replica: !stores.ledger.replicas() || !stores.broker.capabilities().replicas,
        };
        let (reports, reported) = mpsc::channel(REPORTS_QUEUED_MAX);
        let inner = Arc::new(Inner {
            sends: enqueue::UnderWay::default(),
            backups: Arc::new(Semaphore::new(backup::BACKUPS_MAX)),
            settings: RwLock::new(Arc::new(settings)),
            guarantees,
            failpoints,
            sessions: sessions::Sessions::default(),
            hands: hands::Hands::default(),
            states: states::States::default(),
            watches: watch::Watches::default(),
            cancels: cancel::Cancels::default(),
            lifetimes: lifetimes::Lifetimes::default(),
            timeouts: timeouts::Timeouts::default(),
            pauses: pauses::Pauses::default(),
            looks: workflows::Looks::default(),
            traffic: traffic::Traffic::new(clock.now(), metrics),
            reports,
            generation: AtomicU64::new(0),
            heartbeats: Mutex::default(),
            heard: Mutex::default(),
            owed: Mutex::default(),
            settled: Mutex::default(),
            stalls: AtomicU64::new(0),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            halted: CancellationToken::new(),
            steps: TaskTracker::new(),
            stores,
            clock,
        });
        inner.forever(pauses::run(inner.clone()));
        inner.forever(settle::run(inner.clone(), reported));
        inner.forever(settle::repair(inner.clone()));
        inner.forever(expiry::run(inner.clone()));
        // Listening begins here and not when the loops first run: nothing told from now on is missed.
        let notices = inner.stores.ledger.notices().listen();
        let changes = inner.stores.backend.watch().map(|watch| watch.changes());
        inner.forever(expiry::listen(inner.clone(), notices));
        inner.forever(cancel::run(inner.clone()));
        inner.forever(lifetimes::run(inner.clone()));
        inner.forever(timeouts::run(inner.clone()));
        inner.forever(timeouts::meet(inner.clone()));
        inner.forever(workflows::run(inner.clone()));
        inner.forever(states::run(inner.clone()));
        inner.forever(watch::run(inner.clone(), changes));
        inner.forever(sweep(inner.clone()));
        Self { inner }
    }

    /// Limits and intervals in force now. Whoever answers one call asks once, so that the call sees one set of them.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings()
    }

    /// Puts other settings in force, for all that begins from now on; nothing that is under way is refused or given back
    /// for it. Intervals that workers were told ([`Settings::heartbeat_interval`], [`Settings::lease_duration`],
    /// [`Settings::silence_max`]) and what a running server cannot change ([`Settings::default_queue`],
    /// [`Settings::message_bytes_max`]) stay as they are.
    pub fn reconfigure(&self, settings: Settings) {
        let inner = &self.inner;
        let mut current = inner.settings.write();
        *current = Arc::new(current.followed_by(settings));
        drop(current);
        // A dispatcher that waits for a slot may have one now, and shares have moved.
        inner.sessions.stir_all();
    }

    /// The wall clock of this replica now, for those who compare clocks.
    pub fn wall(&self) -> WallTime {
        self.inner.clock.wall()
    }

    /// What the stores promise at present.
    pub fn guarantees(&self) -> Guarantees {
        let mut guarantees = self.inner.guarantees.clone();
        guarantees.broker.durability = self.inner.stores.broker.durability();
        guarantees
    }

    /// Stops this instant, wherever each step is, as a crash does; only the stores know what was done. For tests.
    pub fn halt(&self) {
        self.inner.halted.cancel();
        self.inner.draining.cancel();
        self.inner.stopping.cancel();
    }

    /// Takes no new work, tells every stream to drain, waits until they have moved and all steps under way are done, or
    /// until [`Settings::drain_deadline`]; then ends the streams that are left and stops.
    pub async fn drain(&self) {
        let inner = &self.inner;
        inner.draining.cancel();
        let wait = if inner.guarantees.single_replica { DRAIN_ALONE } else { inner.settings().drain_deadline };
        let deadline = inner.clock.now() + wait;
        for attachment in inner.sessions.all() {
            attachment.tell(Event::Drain { deadline: wait });
        }
        while inner.sessions.len() > 0 && inner.clock.now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for attachment in inner.sessions.all() {
            let unsent = attachment.part(Parting::Drained);
            inner.give_back(&unsent, Duration::ZERO, None).await;
        }
        inner.steps.close();
        // Steps are bounded by the stores' own time limits; past the deadline the repair loop of the next process does the rest.
        let _ = tokio::time::timeout(inner.settings().drain_deadline, inner.steps.wait()).await;
        inner.stopping.cancel();
        let closed = tokio::time::timeout(inner.settings().drain_deadline, inner.stores.broker.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "the broker was not told of the end; it finds out");
        }
    }
}

impl Inner {
    fn settings(&self) -> Arc<Settings> {
        self.settings.read().clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// A session was heard of: it is renewed with the next batch.
    fn hear(&self, session: &SessionId) {
        self.heard.lock().insert(session.clone(), self.clock.now());
        self.heartbeats.lock().insert(session.clone());
    }

    /// A store could not be reached: nothing is concluded from the time that passes meanwhile.
    fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::AcqRel);
    }

    /// Runs a step that must not be cut short by whoever asked for it.
    fn spawn(&self, step: impl Future<Output = ()> + Send + 'static) {
        let halted = self.halted.clone();
        self.steps.spawn(async move {
            tokio::select! {
                biased;
                () = halted.cancelled() => {}
                () = step => {}
            }
        });
    }

    /// Runs a step to its end although whoever asked may go away; `None`: the replica was halted first.
    async fn finished<T: Send + 'static>(&self, step: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        self.spawn(async move {
            // An error says that the caller has gone.
            let _ = tell.send(step.await);
        });
        told.await.ok()
    }

    /// Runs a loop until the replica stops.
    fn forever(self: &Arc<Self>, run: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = run => {}
            }
        });
    }

    /// Starts the dispatchers of queues that nobody here took from before.
    fn serve(self: &Arc<Self>, queues: Vec<Arc<slots::Queue>>) {
        for queue in queues {
            self.forever(dispatch::run(self.clone(), queue));
        }
    }

    /// Queues a report that this server makes itself.
    fn report_own(self: &Arc<Self>, report: Report) {
        let inner = self.clone();
        self.spawn(async move {
            let _ = inner.reports.send(Reported { report, to: None, permit: None }).await;
        });
    }
}

/// Forgets what is past its time, for as long as the replica runs.
async fn sweep(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_PERIOD).await;
        loop {
            let now = inner.clock.wall();
            let dead_before = WallTime(now.0.saturating_sub(inner.settings().dead_expire_in.as_nanos() as u64));
            let swept = async {
                let dead = inner.stores.ledger.sweep_dead(dead_before).await?;
                if dead > 0 {
                    tracing::info!(tasks = dead, "dead tasks are forgotten that nobody requeued in their time");
                }
                Ok::<_, Error>(dead + inner.stores.ledger.sweep(now).await? + inner.stores.backend.sweep(now).await?)
            };
            match swept.await {
                Ok(0) => break,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(%error, "expired records are not forgotten yet");
                    break;
                }
            }
        }
    }
}
