//! What stands around each attempt.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::context::Context;
use super::failure::Failure;
use super::function::Function;
use crate::proto::Arg;
use crate::value::Results;

type Answer = Result<Results, Failure>;

/// Stands around each attempt of a worker: sees its [`Context`], its arguments and its outcome, and may replace each of
/// them, or answer without running the function at all.
///
/// Any `Fn(Context, Vec<Arg>, Next) -> impl Future<Output = Result<Results, Failure>>` is one; the first that is given to
/// [`WorkerBuilder::middleware`](crate::WorkerBuilder::middleware) is the outermost.
///
/// - A function that panics answers [`Next::run`] with a [`Failure`] of its text; a middleware that panics fails the
///   attempt in the same way.
/// - Its outcome is what is reported; `on_failure` follows after it.
/// - A worker that stops at once drops the future at any await: what must be undone belongs into a `Drop`.
///
/// ```
/// use lineshaft_client::proto::Arg;
/// use lineshaft_client::{Context, Failure, Next, Worker};
///
/// let worker = Worker::builder("http://127.0.0.1:7340")
///     .middleware(|context: Context, args: Vec<Arg>, next: Next| async move {
///         println!("{} begins, attempt {}", context.task_id(), context.attempt());
///         let outcome = next.run(context, args).await;
///         println!("it {}", if outcome.is_ok() { "succeeded" } else { "failed" });
///         outcome
///     })
///     .register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) });
/// # drop(worker);
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Makes the attempt, by [`Next::run`] or without.
    fn call(&self, context: Context, args: Vec<Arg>, next: Next) -> BoxFuture<'static, Answer>;
}

impl<F, Answered> Middleware for F
where
    F: Fn(Context, Vec<Arg>, Next) -> Answered + Send + Sync + 'static,
    Answered: Future<Output = Answer> + Send + 'static,
{
    fn call(&self, context: Context, args: Vec<Arg>, next: Next) -> BoxFuture<'static, Answer> {
        self(context, args, next).boxed()
    }
}

/// All middleware of a worker, the outermost first.
#[derive(Clone, Default)]
pub(super) struct Stack(Vec<Arc<dyn Middleware>>);

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stack").field(&self.0.len()).finish()
    }
}

impl Stack {
    pub(super) fn push(&mut self, middleware: impl Middleware) {
        self.0.push(Arc::new(middleware));
    }
}

/// What a [`Middleware`] stands around: the rest of the middleware, and the function. A clone can be run too, for another
/// go within the same attempt.
#[derive(Clone)]
pub struct Next {
    stack: Arc<Stack>,
    at: usize,
    function: Function,
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Next {
    /// The whole attempt: all of `stack` around `function`.
    pub(super) fn new(stack: Arc<Stack>, function: Function) -> Self {
        Self { stack, at: 0, function }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The failure of the attempt; a panic is one too.
    pub async fn run(self, context: Context, args: Vec<Arg>) -> Answer {
        let Self { stack, at, function } = self;
        // Called within the future, so that a panic before the first await is caught as well.
        let answer = async move {
            match stack.0.get(at) {
                Some(middleware) => {
                    let next = Self { stack: Arc::clone(&stack), at: at + 1, function };
                    middleware.call(context, args, next).await
                }
                None => function.call(context, args).await.map(Results),
            }
        };
        AssertUnwindSafe(answer)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(Failure::new(format!("panicked: {}", panic_text(panic.as_ref())))))
    }
}

/// What `panic!` was given, if it was a text.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
