//! One attempt on the user's runtime, from its start to the word of its end.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::failure::{Failure, Next};
use super::function::Function;
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
    functions: Arc<HashMap<String, Function>>,
    on_failure: Option<OnFailure>,
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
        functions: Arc<HashMap<String, Function>>,
        on_failure: Option<OnFailure>,
        on_verdict: Option<OnVerdict>,
        events: mpsc::Sender<HandlerEvent>,
    ) -> Self {
        Self { runtime, functions, on_failure, on_verdict, events, running: HashMap::new() }
    }
}

impl Hands for RuntimeHands {
    fn start(&mut self, key: Key, lease: Lease) {
        let cancel = CancellationToken::new();
        let attempt = Attempt {
            key,
            function: self.functions.get(&lease.name).cloned(),
            on_failure: self.on_failure.clone(),
            cancel: cancel.clone(),
            events: self.events.clone(),
        };
        let task = self.runtime.spawn(attempt.run(lease)).abort_handle();
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

struct Attempt {
    key: Key,
    function: Option<Function>,
    on_failure: Option<OnFailure>,
    cancel: CancellationToken,
    events: mpsc::Sender<HandlerEvent>,
}

impl Attempt {
    async fn run(self, mut lease: Lease) {
        let args = std::mem::take(&mut lease.args);
        let retries_left = lease.retries_left;
        let context = Context::new(self.key, lease, self.cancel.clone(), self.events.clone());
        let Some(function) = self.function.clone() else {
            // The server sends registered names only; another worker may know this one.
            tracing::warn!(task = context.task_name(), "no such function here: given back");
            return self.end(Outcome::Release).await;
        };
        // Fails only if the engine has ended; then nobody hears of the end either.
        let _ = self.events.send(HandlerEvent::Began(self.key)).await;
        let inner = context.clone();
        let answer = AssertUnwindSafe(async move { function.call(inner, args).await }).catch_unwind().await;
        let outcome = match answer {
            Ok(Ok(results)) => Outcome::Success(results),
            Ok(Err(failure)) => self.failed(context, retries_left, failure).await,
            Err(panic) => {
                let failure = Failure::new(format!("panicked: {}", panic_text(panic.as_ref())));
                self.failed(context, retries_left, failure).await
            }
        };
        self.end(outcome).await;
    }

    async fn failed(&self, context: Context, retries_left: u32, failure: Failure) -> Outcome {
        tracing::debug!(
            task_id = context.task_id(),
            attempt = context.attempt(),
            error = failure.message(),
            "attempt failed"
        );
        // What was told to stop did not fail for good: it is made again elsewhere.
        let is_last = failure.is_last(retries_left) && !self.cancel.is_cancelled();
        if let Some(OnFailure(handler)) = self.on_failure.as_ref().filter(|_| is_last) {
            let handled = handler(context, failure.clone());
            if let Err(panic) = AssertUnwindSafe(handled).catch_unwind().await {
                tracing::error!(panic = %panic_text(panic.as_ref()), "the failure handler panicked");
            }
        }
        let Failure { message, next } = failure;
        Outcome::Failure {
            error: message,
            is_final: next == Next::Nothing,
            retry_after: match next {
                Next::Later(delay) => Some(delay),
                Next::Retries | Next::Nothing => None,
            },
        }
    }

    async fn end(&self, outcome: Outcome) {
        let _ = self.events.send(HandlerEvent::Finished(self.key, outcome)).await;
    }
}

/// What `panic!` was given, if it was a text.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
