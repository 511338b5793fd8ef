//! What a running attempt knows of itself.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::{HandlerEvent, Key};
use crate::producer::task::{TRACEPARENT, TRACESTATE};
use crate::proto::{self, Lease};
use crate::value::{codec_at, header_to_json};

/// The attempt that a function runs in: what it is, whether it should stop, and a way to tell how far it is.
///
/// A function takes it as its first parameter, if it wants it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    inner: Arc<Inner>,
    values: Values,
}

/// One value of each type, put there by middleware.
#[derive(Clone, Default)]
struct Values(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Values").field(&self.0.len()).finish()
    }
}

#[derive(Debug)]
struct Inner {
    key: Key,
    // Without its arguments, which went to the function.
    lease: Lease,
    until: Until,
    events: mpsc::Sender<HandlerEvent>,
}

/// How long an attempt may go on.
#[derive(Debug, Default)]
pub(crate) struct Until {
    /// It is told to stop.
    pub(crate) cancelled: CancellationToken,
    /// It will be told to stop then.
    pub(crate) deadline: Option<Instant>,
}

impl Context {
    pub(crate) fn new(key: Key, lease: Lease, until: Until, events: mpsc::Sender<HandlerEvent>) -> Self {
        Self { inner: Arc::new(Inner { key, lease, until, events }), values: Values::default() }
    }

    /// The task's id. The same in every attempt.
    pub fn task_id(&self) -> &str {
        &self.inner.lease.task_id
    }

    /// The name under which the function was registered.
    pub fn task_name(&self) -> &str {
        &self.inner.lease.name
    }

    /// The queue the task came from.
    pub fn queue(&self) -> &str {
        &self.inner.lease.queue
    }

    /// The lease's id. Opaque.
    pub fn lease_id(&self) -> &str {
        &self.inner.lease.lease_id
    }

    /// The attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.lease.attempt
    }

    /// Grows with every attempt of the task. A store that keeps the highest it has seen can refuse the writes of an attempt
    /// that was replaced.
    pub fn fencing_token(&self) -> u64 {
        self.inner.lease.fencing_token
    }

    /// How many retries are left if this attempt fails.
    pub fn retries_left(&self) -> u32 {
        self.inner.lease.retries_left
    }

    /// The group the task is a member of.
    pub fn group_id(&self) -> Option<&str> {
        Some(self.inner.lease.group_id.as_str()).filter(|id| !id.is_empty())
    }

    /// When the task was sent, where it is known.
    pub fn sent_at(&self) -> Option<SystemTime> {
        self.inner.lease.sent_at.and_then(|at| at.try_into().ok())
    }

    /// The header of that name.
    pub fn header(&self, key: &str) -> Option<serde_json::Value> {
        self.inner.lease.headers.get(key).cloned().map(header_to_json)
    }

    /// All headers.
    pub fn headers(&self) -> HashMap<String, serde_json::Value> {
        let headers = self.inner.lease.headers.clone();
        headers.into_iter().map(|(key, value)| (key, header_to_json(value))).collect()
    }

    /// The trace of this attempt, a W3C `traceparent`, to be the parent of the spans that the function records. Where the server
    /// exports spans it names the attempt; else it is what the producer gave the task; none: neither.
    pub fn traceparent(&self) -> Option<&str> {
        self.text(TRACEPARENT)
    }

    /// What tracing systems added to the producer's trace, a W3C `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.text(TRACESTATE)
    }

    fn text(&self, header: &str) -> Option<&str> {
        match self.inner.lease.headers.get(header)?.kind.as_ref()? {
            proto::value::Kind::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// The codec in which the argument at `position`, from 0, was sent, as `json`; none for a plain one. Typed functions
    /// need not ask: [`Json`](crate::Json) says it all.
    pub fn arg_codec(&self, position: usize) -> Option<&str> {
        codec_at(&self.inner.lease.headers, position)
    }

    /// This context with `value` in it, for what a middleware passes on to the functions: a pool of connections, a caller's
    /// identity. One value of each type; the last one counts.
    #[must_use]
    pub fn with_value<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        Arc::make_mut(&mut self.values.0).insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// The value of that type that a middleware put here by [`Context::with_value`].
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.values.0.get(&TypeId::of::<T>()).cloned()?.downcast().ok()
    }

    /// Tells people how far the attempt is: `fraction` from 0 to 1, and at most 1,000 bytes of text. Never waits; where
    /// many words come at once, the latest counts, and under load one may be lost.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        // A full channel means that the engine has newer things to tell than this.
        let _ = self.inner.events.try_send(HandlerEvent::Progress(self.inner.key, fraction, message.into()));
    }

    /// When the attempt has run as long as its task's `attempt_timeout` allows, by this machine's clock: then it is told to
    /// stop, and has the server's grace time (10 s by default) to end. None: it may run for as long as it takes.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.until.deadline
    }

    /// Whether the attempt should stop: its lease is gone (the task may run elsewhere), its task was cancelled, it has run too
    /// long, or the worker stops at once.
    pub fn is_cancelled(&self) -> bool {
        self.inner.until.cancelled.is_cancelled()
    }

    /// Waits until the attempt should stop; for ever, if it never should.
    pub async fn cancelled(&self) {
        self.inner.until.cancelled.cancelled().await;
    }
}
