//! All policy: what is accepted, who gets what, when a lease ends, what follows from an outcome.
//!
//! Sees brokers, ledgers and backends only as traits. Knows no protocol.

use std::sync::Arc;
use std::time::Duration;

pub mod types;

use crate::backend::Backend;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::error::Error;
use crate::fused::Fused;
use crate::ledger::{Lease, LeaseQuery, Ledger, Verdict};
use crate::task::{LeaseId, QueueName, SessionId, TaskId, TaskState};
use types::*;

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

/// One replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {}

impl Service {
    /// Starts a replica on `stores`: dispatch, expiry, repair and sweeping run until it is stopped or dropped.
    pub fn start(_stores: Stores, _settings: Settings, _clock: Arc<dyn Clock>) -> Self {
        todo!()
    }
    /// Limits and intervals in force.
    pub fn settings(&self) -> Arc<Settings> {
        todo!()
    }
    /// What the stores promise.
    pub fn guarantees(&self) -> &Guarantees {
        todo!()
    }
    /// Accepts tasks, one answer each, in order.
    pub async fn send(&self, _tasks: Vec<Submission>) -> Vec<Result<TaskId, Error>> {
        todo!()
    }
    /// States, in order; `None`: unknown.
    pub async fn states(&self, _ids: &[TaskId]) -> Result<Vec<Option<TaskState>>, Error> {
        todo!()
    }
    /// The states of a task from now on, to its end.
    pub fn watch(&self, _id: TaskId) -> StateWatch {
        todo!()
    }
    /// The state of a task at its end, or after `timeout`; `None`: still unknown then.
    pub async fn wait(&self, _id: TaskId, _timeout: Duration) -> Result<Option<TaskState>, Error> {
        todo!()
    }
    /// What waits in a queue. `queue` `None`: the default queue.
    pub async fn pending(
        &self,
        _queue: Option<QueueName>,
        _delayed: bool,
        _after: Option<&[u8]>,
        _max: usize,
    ) -> Result<PendingTasks, Error> {
        todo!()
    }
    /// Live leases, oldest first, and whether this replica knows that the worker has confirmed each.
    pub async fn leases(&self, _query: &LeaseQuery) -> Result<Vec<(Lease, bool)>, Error> {
        todo!()
    }
    /// Workers in order of their sessions.
    pub async fn workers(&self, _after: Option<&SessionId>, _max: usize) -> Result<Vec<Worker>, Error> {
        todo!()
    }
    /// Opens a stream. Answers at once, before any broker work.
    pub async fn attach(&self, _hello: Hello) -> Result<(Welcome, Stream), Error> {
        todo!()
    }
    /// Leases tasks for one call.
    pub async fn lease(&self, _request: LeaseRequest) -> Result<LeaseReply, Error> {
        todo!()
    }
    /// Records outcomes; one verdict each, in order.
    pub async fn report(&self, _reports: Vec<Report>) -> Result<Vec<Verdict>, Error> {
        todo!()
    }
    /// Renews a session; tells which of `leases` live.
    pub async fn extend(&self, _session: Resume, _leases: &[LeaseId]) -> Result<Vec<bool>, Error> {
        todo!()
    }
    /// Stops taking work: streams are told to drain; resolves when all is settled or `Settings::drain_deadline` has passed.
    pub async fn drain(&self) {
        todo!()
    }
}

/// One attached stream. Dropping it detaches the session.
#[derive(Debug)]
pub struct Stream {}

impl Stream {
    /// The next thing to send; `None` after [`Event::Goodbye`]. Urgent events come before leases. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        todo!()
    }
    /// The other half, for what the worker says. Cheap to clone.
    pub fn inbound(&self) -> Inbound {
        todo!()
    }
}

/// What a worker may say on a stream. None of these waits for a store.
#[derive(Debug, Clone)]
pub struct Inbound {}

impl Inbound {
    /// Number of the last lease that may be sent.
    pub fn credit(&self, _limit: u64) {
        todo!()
    }
    /// Renews the session; `accepted` > 0 confirms, and gives back what `held` does not name.
    pub fn heartbeat(&self, _sequence: u64, _accepted: u64, _held: Vec<LeaseId>) {
        todo!()
    }
    /// Confirms leases up to this number.
    pub fn accepted(&self, _up_to: u64) {
        todo!()
    }
    /// The attempt runs.
    pub fn started(&self, _lease: LeaseId) {
        todo!()
    }
    /// How far it is.
    pub fn progress(&self, _lease: LeaseId, _fraction: f64, _message: String) {
        todo!()
    }
    /// Outcomes; verdicts come as [`Event::ReportAck`].
    ///
    /// # Errors
    /// [`Error::QueueFull`]: too many reports wait; the stream should not be read for now.
    pub async fn report(&self, _reports: Vec<Report>) {
        todo!()
    }
    /// The worker leaves for good.
    pub fn goodbye(&self) {
        todo!()
    }
}

/// States of one task as they are seen.
#[derive(Debug)]
pub struct StateWatch {}

impl StateWatch {
    /// The next state seen; `None` after a final one. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<TaskState>, Error> {
        todo!()
    }
}
