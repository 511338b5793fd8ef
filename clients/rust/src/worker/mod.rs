//! The worker's side: functions, how they are run, and how a worker stops.

pub(crate) mod attempt;
pub(crate) mod builder;
pub(crate) mod context;
pub(crate) mod failure;
pub(crate) mod function;
pub(crate) mod inline;
pub(crate) mod middleware;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::transport::Endpoint;

use crate::engine::Config;
use crate::engine::driver::{Parts, StopSignal, spawn};
use crate::error::Error;
use attempt::{Handlers, OnVerdict, RuntimeHands};
use builder::{Servers, WorkerBuilder};

/// Events of handlers on their way to the engine; a handler that ends waits beyond that.
const HANDLER_EVENTS_MAX: usize = 1024;

/// Leases tasks, runs the registered functions, and reports; through restarts of its servers, until it is stopped.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    endpoints: Vec<Endpoint>,
    handlers: Handlers,
    on_verdict: Option<OnVerdict>,
    grace: Duration,
    stopper: Stopper,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that ran was finished first, and a server has answered every report.
    Gracefully,
    /// Everything that ran was finished, but no server could be reached to answer the last reports: their attempts count
    /// as lost with this worker, and are made again elsewhere.
    Unreported {
        /// How many; at least 1.
        reports: usize,
    },
    /// The grace was over, or it was stopped a second time: what still ran was given back.
    AtOnce,
}

/// Stops a worker from anywhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopper {
    signal: Arc<watch::Sender<StopSignal>>,
}

impl Stopper {
    fn new() -> Self {
        Self { signal: Arc::new(watch::channel(StopSignal::Not).0) }
    }

    /// The first time: no new attempt is begun, what runs is finished and reported. The second time: at once, what runs
    /// is cancelled and given back.
    pub fn stop(&self) {
        self.signal.send_modify(|signal| {
            *signal = if *signal == StopSignal::Not { StopSignal::Soft } else { StopSignal::Hard };
        });
    }

    /// At once: what runs is cancelled and given back, at no cost of a retry.
    pub fn stop_now(&self) {
        self.signal.send_replace(StopSignal::Hard);
    }
}

impl Worker {
    /// A worker of these servers: a [`Client`](crate::Client), whose addresses and options it takes over, or addresses.
    pub fn builder(servers: impl Into<Servers>) -> WorkerBuilder {
        WorkerBuilder::new(servers.into())
    }

    /// A way to stop the worker while it runs.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs until SIGTERM or SIGINT (Ctrl-C), then stops: the first signal gracefully, the second at once.
    ///
    /// # Errors
    /// [`Error::Config`]: the system gives no thread, or no signals.
    pub async fn run(self) -> Result<Stopped, Error> {
        let stopper = self.stopper();
        let mut signals = Signals::new()?;
        let listen = async move {
            loop {
                signals.next().await;
                stopper.stop();
            }
        };
        tokio::select! {
            stopped = self.run_until(std::future::pending()) => stopped,
            () = listen => Ok(Stopped::AtOnce),
        }
    }

    /// Runs until `shutdown` or until stopped by a [`Stopper`]. Then what runs has the grace to finish and is reported.
    /// Once nothing runs any more, a server that answers no report is waited for half a lease time (15 s by default), and
    /// never beyond the grace.
    ///
    /// A server that cannot be reached is no error: the worker tries for ever. Dropping the future stops at once.
    ///
    /// # Errors
    /// [`Error::Config`]: the system gives no thread. [`Error::Closed`]: the lease engine died, by a fault of ours.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Stopped, Error> {
        let (events, handlers) = mpsc::channel(HANDLER_EVENTS_MAX);
        let hands = RuntimeHands::new(tokio::runtime::Handle::current(), self.handlers, self.on_verdict, events);
        // Owned by this future alone, so that the engine sees it dropped.
        let (engine_stop, stop) = watch::channel(StopSignal::Not);
        let mut ended = spawn(Parts { config: self.config, endpoints: self.endpoints, hands, handlers, stop })?;

        let mut asked = self.stopper.signal.subscribe();
        tokio::select! {
            () = shutdown => {}
            // The stopper is held here, so the channel is open.
            _ = asked.wait_for(|signal| *signal != StopSignal::Not) => {}
            // The engine ends by itself only if its thread was killed by a fault of ours.
            _ = &mut ended => return Err(Error::Closed),
        }
        tracing::info!(grace = ?self.grace, "stopping: what runs is finished first");
        engine_stop.send_replace(StopSignal::Soft);
        tokio::select! {
            ended = &mut ended => {
                return match ended {
                    Ok(0) => Ok(Stopped::Gracefully),
                    Ok(reports) => Ok(Stopped::Unreported { reports }),
                    Err(_) => Err(Error::Closed),
                };
            }
            _ = asked.wait_for(|signal| *signal == StopSignal::Hard) => {}
            () = tokio::time::sleep(self.grace) => {}
        }
        tracing::warn!("stopping at once: what runs is given back");
        engine_stop.send_replace(StopSignal::Hard);
        // The engine bounds its own last words.
        let _ = ended.await;
        Ok(Stopped::AtOnce)
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self, Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| Error::Config(format!("no signals: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, Error> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
