//! One attempt on the user's runtime, from its start to the word of its end.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::{Context, Until};
use super::failure::{self, Failure};
use super::function::Function;
use super::middleware::{Next, Stack, panic_text};
use crate::engine::driver::Hands;
use crate::engine::{HandlerEvent, Key, Outcome};
use crate::proto::{Lease, ReportVerdict};

/// Called when a task has failed for good.
#[derive(Clone)]
pub(crate) struct OnFailure(pub(super) Arc<dyn Fn(Context, Failure) -> BoxFuture<'static, ()> + Send + Sync>);

impl fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFailure").finish_non_exhaustive()
    }
}

/// Takes a lease and the verdict on its report.
type Told = dyn Fn(&str, ReportVerdict) + Send + Sync;

/// Is told what became of each report.
#[derive(Clone)]
pub(crate) struct OnVerdict(pub(super) Arc<Told>);

impl fmt::Debug for OnVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnVerdict").finish_non_exhaustive()
    }
}

/// The engine's hands on the runtime that the worker was started on.
pub(super) struct RuntimeHands {
    runtime: Handle,
    handlers: Handlers,
    on_verdict: Option<OnVerdict>,
    events: mpsc::Sender<HandlerEvent>,
    running: HashMap<Key, Running>,
}

struct Running {
    cancel: CancellationToken,
    task: tokio::task::AbortHandle,
}

impl RuntimeHands {
    pub(super) fn new(
        runtime: Handle,
        handlers: Handlers,
        on_verdict: Option<OnVerdict>,
        events: mpsc::Sender<HandlerEvent>,
    ) -> Self {
        Self { runtime, handlers, on_verdict, events, running: HashMap::new() }
    }
}

impl Hands for RuntimeHands {
    fn start(&mut self, key: Key, lease: Lease, deadline: Option<Instant>) {
        let cancel = CancellationToken::new();
        let (handlers, events) = (self.handlers.clone(), self.events.clone());
        let end = Until { cancelled: cancel.clone(), deadline: deadline.map(Instant::into_std) };
        let attempt = async move {
            let outcome = handlers.attempt(key, lease, end, events.clone()).await;
            // Fails only if the engine has ended.
            let _ = events.send(HandlerEvent::Finished(key, outcome)).await;
        };
        let task = self.runtime.spawn(attempt).abort_handle();
        self.running.insert(key, Running { cancel, task });
    }

    fn cancel(&mut self, key: Key) {
        if let Some(running) = self.running.get(&key) {
            running.cancel.cancel();
        }
    }

    fn abort(&mut self, key: Key) {
        if let Some(running) = self.running.remove(&key) {
            running.task.abort();
        }
    }

    fn forget(&mut self, key: Key) {
        self.running.remove(&key);
    }

    fn settled(&mut self, lease_id: &str, verdict: ReportVerdict) {
        if let Some(OnVerdict(told)) = &self.on_verdict {
            told(lease_id, verdict);
        }
    }
}

/// What a worker runs: its functions, and what stands around them.
#[derive(Debug, Clone)]
pub(super) struct Handlers {
    pub(super) functions: Arc<HashMap<String, Function>>,
    pub(super) middleware: Arc<Stack>,
    pub(super) on_failure: Option<OnFailure>,
}

impl Handlers {
    pub(super) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// One attempt at `lease`.
    pub(super) async fn attempt(
        &self,
        key: Key,
        mut lease: Lease,
        until: Until,
        events: mpsc::Sender<HandlerEvent>,
    ) -> Outcome {
        let function = self.function(&lease.name).cloned();
        let args = std::mem::take(&mut lease.args);
        let retries_left = lease.retries_left;
        let context = Context::new(key, lease, until, events.clone());
        let Some(function) = function else {
            // The server sends registered names only; another worker may know this one.
            tracing::warn!(task = context.task_name(), "no such function here: given back");
            return Outcome::Release;
        };
        // Fails only if the engine has ended; then nobody hears of the end either.
        let _ = events.send(HandlerEvent::Began(key)).await;
        match Next::new(Arc::clone(&self.middleware), function).run(context.clone(), args).await {
            Ok(results) => Outcome::Success(results.0),
            Err(failure) => self.failed(context, retries_left, failure).await,
        }
    }

    async fn failed(&self, context: Context, retries_left: u32, failure: Failure) -> Outcome {
        tracing::debug!(
            task_id = context.task_id(),
            attempt = context.attempt(),
            error = failure.message(),
            "attempt failed"
        );
        // What was told to stop did not fail for good: it is made again elsewhere.
        let is_last = failure.is_last(retries_left) && !context.is_cancelled();
        if let Some(OnFailure(handler)) = self.on_failure.as_ref().filter(|_| is_last) {
            let failure = failure.clone();
            let handled = async move { handler(context, failure).await };
            if let Err(panic) = AssertUnwindSafe(handled).catch_unwind().await {
                tracing::error!(panic = %panic_text(panic.as_ref()), "the failure handler panicked");
            }
        }
        let Failure { message, next } = failure;
        Outcome::Failure {
            error: message,
            is_final: next == failure::Next::Nothing,
            retry_after: match next {
                failure::Next::Later(delay) => Some(delay),
                failure::Next::Retries | failure::Next::Nothing => None,
            },
        }
    }
}
