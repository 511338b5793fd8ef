//! Functions of up to eight typed arguments, as the worker calls them.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::context::Context;
use super::failure::Failure;
use crate::proto::Arg;
use crate::value::{FromArg, IntoResults, Results, ValueError};

type Answer = Result<Vec<Arg>, Failure>;
type Call = dyn Fn(Context, Vec<Arg>) -> BoxFuture<'static, Answer> + Send + Sync;

/// A function that a worker can run, whatever its type was.
#[derive(Clone)]
pub struct Function {
    call: Arc<Call>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").finish_non_exhaustive()
    }
}

impl Function {
    /// An async function of up to eight arguments, behind a [`Context`] or not. It MUST NOT block its thread for long: other
    /// tasks of the worker wait for it (the worker's leases do not).
    pub fn new<Kind>(handler: impl Handler<Kind>) -> Self {
        Self { call: Arc::new(move |context, args| handler.call(context, args)) }
    }

    /// A function that blocks; it runs on the runtime's threads for such.
    pub fn blocking<Kind: 'static>(handler: impl BlockingHandler<Kind>) -> Self {
        let handler = Arc::new(handler);
        Self {
            call: Arc::new(move |context, args| {
                let handler = Arc::clone(&handler);
                async move {
                    match tokio::task::spawn_blocking(move || handler.call(context, args)).await {
                        Ok(answer) => answer,
                        Err(error) => match error.try_into_panic() {
                            // Goes on to whoever catches the panics of async functions.
                            Ok(panic) => std::panic::resume_unwind(panic),
                            Err(error) => Err(Failure::new(error.to_string())),
                        },
                    }
                }
                .boxed()
            }),
        }
    }

    /// An async function of any arguments and any results.
    pub fn raw<F, Answered>(handler: F) -> Self
    where
        F: Fn(Context, Vec<Arg>) -> Answered + Send + Sync + 'static,
        Answered: Future<Output = Result<Results, Failure>> + Send + 'static,
    {
        Self {
            call: Arc::new(move |context, args| {
                handler(context, args).map(|answer| answer.map(|results| results.0)).boxed()
            }),
        }
    }

    pub(crate) fn call(&self, context: Context, args: Vec<Arg>) -> BoxFuture<'static, Answer> {
        (self.call)(context, args)
    }
}

/// An async function of up to eight [`FromArg`] parameters, behind a [`Context`] or not, whose output is a `Result` of
/// [`IntoResults`] and of anything that becomes a [`Failure`]. `Kind` is inferred.
pub trait Handler<Kind>: Send + Sync + 'static {
    /// Reads the arguments and calls the function. Arguments that do not fit are a fatal failure.
    fn call(&self, context: Context, args: Vec<Arg>) -> BoxFuture<'static, Result<Vec<Arg>, Failure>>;
}

/// As [`Handler`], for functions that are not async and may block.
pub trait BlockingHandler<Kind>: Send + Sync + 'static {
    /// Reads the arguments and calls the function. Arguments that do not fit are a fatal failure.
    fn call(&self, context: Context, args: Vec<Arg>) -> Result<Vec<Arg>, Failure>;
}

/// Marks functions without a [`Context`].
#[derive(Debug)]
pub enum Bare {}

/// Marks functions behind a [`Context`].
#[derive(Debug)]
pub enum InContext {}

fn answer<T: IntoResults, E: Into<Failure>>(result: Result<T, E>) -> Answer {
    // Another attempt would answer the same.
    result.map_err(Into::into)?.try_into_results().map_err(|error| Failure::fatal(format!("result: {error}")))
}

/// Another attempt would meet the same arguments.
fn misfit(error: &ValueError) -> Failure {
    let text = match error {
        ValueError::Mismatch { position, expected, found } => {
            format!("argument {position}: expected {expected}, found {found}")
        }
        ValueError::Count { expected, found } => format!("expected {expected} arguments, found {found}"),
        ValueError::Codec { position, codec, why } => format!("argument {position}: not {codec}: {why}"),
    };
    Failure::fatal(text)
}

/// The next argument.
fn next<T: FromArg>(args: &mut std::vec::IntoIter<Arg>, position: &mut usize) -> Result<T, Failure> {
    let at = *position;
    *position += 1;
    // The count was checked before.
    T::from_arg(args.next().unwrap_or_default()).map_err(|error| misfit(&error.at(at)))
}

macro_rules! functions {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<Func, Answered, T, E, $($name),*> Handler<(Bare, $($name,)*)> for Func
        where
            Func: Fn($($name),*) -> Answered + Send + Sync + 'static,
            Answered: Future<Output = Result<T, E>> + Send + 'static,
            T: IntoResults + 'static,
            E: Into<Failure> + 'static,
            $($name: FromArg,)*
        {
            functions!(@call $count, context, $($name)*);
        }

        impl<Func, Answered, T, E, $($name),*> Handler<(InContext, $($name,)*)> for Func
        where
            Func: Fn(Context, $($name),*) -> Answered + Send + Sync + 'static,
            Answered: Future<Output = Result<T, E>> + Send + 'static,
            T: IntoResults + 'static,
            E: Into<Failure> + 'static,
            $($name: FromArg,)*
        {
            functions!(@call $count, context, $($name)*; context);
        }

        impl<Func, T, E, $($name),*> BlockingHandler<(Bare, $($name,)*)> for Func
        where
            Func: Fn($($name),*) -> Result<T, E> + Send + Sync + 'static,
            T: IntoResults,
            E: Into<Failure>,
            $($name: FromArg,)*
        {
            functions!(@block $count, context, $($name)*);
        }

        impl<Func, T, E, $($name),*> BlockingHandler<(InContext, $($name,)*)> for Func
        where
            Func: Fn(Context, $($name),*) -> Result<T, E> + Send + Sync + 'static,
            T: IntoResults,
            E: Into<Failure>,
            $($name: FromArg,)*
        {
            functions!(@block $count, context, $($name)*; context);
        }
    )*};
    (@call $count:literal, $context:ident, $($name:ident)*$(; $first:ident)?) => {
        #[allow(unused_variables)]
        fn call(&self, $context: Context, args: Vec<Arg>) -> BoxFuture<'static, Answer> {
            // Read in a closure, so that a misfit is an answer of the same kind as the function's own.
            let called = (|| {
                functions!(@read $count, args, $($name)*);
                Ok(self($($first,)? $($name),*))
            })();
            match called {
                Ok(future) => future.map(answer).boxed(),
                Err(failure) => futures::future::ready(Err(failure)).boxed(),
            }
        }
    };
    (@block $count:literal, $context:ident, $($name:ident)*$(; $first:ident)?) => {
        #[allow(unused_variables)]
        fn call(&self, $context: Context, args: Vec<Arg>) -> Answer {
            functions!(@read $count, args, $($name)*);
            answer(self($($first,)? $($name),*))
        }
    };
    (@read $count:literal, $args:ident, $($name:ident)*) => {
        if $args.len() != $count {
            return Err(misfit(&ValueError::Count { expected: $count, found: $args.len() }));
        }
        #[allow(unused_mut)]
        let (mut rest, mut position) = ($args.into_iter(), 0usize);
        $(#[allow(non_snake_case)] let $name = next::<$name>(&mut rest, &mut position)?;)*
    };
}

functions! {
    0: ;
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D G;
    6: A B C D G H;
    7: A B C D G H I;
    8: A B C D G H I J;
}
