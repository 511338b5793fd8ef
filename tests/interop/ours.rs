//! Our side: a worker on the Rust client, with the functions of Machinery's integration tests and some of our own.

use std::sync::Arc;

use lineshaft_client::proto::Arg;
use lineshaft_client::{
    Context, Error, Failure, FromArg, Function, IntoArg, Results, Stopped, Stopper, Worker, WorkerBuilder,
};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::support::until::soon;
use crate::world::{QUEUE, World};

/// A running worker.
pub(crate) struct Running {
    stopper: Stopper,
    running: JoinHandle<Result<Stopped, Error>>,
}

impl Running {
    /// Stops it, and waits until what it did is recorded.
    pub(crate) async fn stop(self) {
        self.stopper.stop();
        let stopped = soon("the worker's end", self.running).await.unwrap().unwrap();
        assert_eq!(stopped, Stopped::Gracefully);
    }
}

/// A worker of [`QUEUE`], to be given functions.
pub(crate) fn worker(world: &World) -> WorkerBuilder {
    Worker::builder(world.server.url()).queue(QUEUE).concurrency(8)
}

/// Runs it.
pub(crate) fn run(worker: WorkerBuilder) -> Running {
    let worker = worker.build().unwrap();
    Running { stopper: worker.stopper(), running: tokio::spawn(worker.run_until(std::future::pending())) }
}

fn numbers(args: Vec<Arg>) -> Result<Vec<i64>, Failure> {
    Ok(args.into_iter().map(i64::from_arg).collect::<Result<_, _>>()?)
}

/// Registers the functions of Machinery's integration tests.
pub(crate) fn scenarios(worker: WorkerBuilder) -> WorkerBuilder {
    let add = |_: Context, args| async move { Ok(Results(vec![numbers(args)?.iter().sum::<i64>().into_arg()])) };
    let multiply =
        |_: Context, args| async move { Ok(Results(vec![numbers(args)?.iter().product::<i64>().into_arg()])) };
    worker
        .register_function("add", Function::raw(add))
        .register_function("multiply", Function::raw(multiply))
        .register("sum", |numbers: Vec<i64>| async move { Ok::<i64, Failure>(numbers.iter().sum()) })
        .register("return_just_error", |text: String, fails: bool| async move {
            if fails { Err(Failure::new(text)) } else { Ok(()) }
        })
        .register("return_multiple_values", |first: String, second: String, fails: bool| async move {
            if fails { Err(Failure::new("some error")) } else { Ok((first, second)) }
        })
        .register("panic", || async { if true { panic!("oops") } else { Ok::<(), Failure>(()) } })
        .register("delay_test", || async { Ok::<i64, Failure>(now()) })
}

/// Registers what both sides work of mixed workflows, and what only ours do: the names that end in `_ours`. `seen`: what it was given.
pub(crate) fn mixed(worker: WorkerBuilder, seen: &Seen) -> WorkerBuilder {
    let list = |_: Context, args| async move { Ok(Results(vec![numbers(args)?.into_arg()])) };
    let add = |_: Context, args| async move { Ok(Results(vec![numbers(args)?.iter().sum::<i64>().into_arg()])) };
    worker
        .register_function("list", seen.noting(list))
        .register_function("add_ours", seen.noting(add))
        .register_function("either", seen.noting(add))
        .register("held_ours", |path: String, n: i64| async move {
            file(&path).await;
            Ok::<i64, Failure>(n)
        })
        .register("fails_ours", |path: String, text: String| async move {
            file(&path).await;
            Err::<i64, _>(Failure::new(text))
        })
        .register_function(
            "text",
            seen.noting(|_: Context, args: Vec<Arg>| async move {
                let [text, n] = <[Arg; 2]>::try_from(args).map_err(|args| Failure::fatal(format!("{args:?}")))?;
                let text = format!("{}/{}", String::from_arg(text)?, i64::from_arg(n)?);
                Ok(Results(vec![text.into_arg()]))
            }),
        )
}

/// Waits until a file is there. As long as a test likes: it is the test that makes it.
async fn file(path: &str) {
    while !std::path::Path::new(path).exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Unix nanoseconds.
pub(crate) fn now() -> i64 {
    use lineshaft::clock::Clock as _;
    i64::try_from(lineshaft::clock::SystemClock.wall().0).unwrap()
}

/// The id and the arguments of an attempt.
type Attempt = (String, Vec<Arg>);

/// What a worker of ours was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Attempt>>>);

impl Seen {
    /// The ids of tasks, in the order in which they began.
    pub(crate) fn tasks(&self) -> Vec<String> {
        self.0.lock().iter().map(|(id, _)| id.clone()).collect()
    }

    /// The arguments of a task.
    pub(crate) fn args(&self, id: &str) -> Vec<Arg> {
        self.0.lock().iter().find(|(task, _)| task == id).unwrap().1.clone()
    }

    /// A function that writes down what it is given, and gives it back.
    pub(crate) fn echo(&self) -> Function {
        self.noting(|_, args| async move { Ok(Results(args)) })
    }

    /// This function, which writes down what it is given before.
    pub(crate) fn noting<F>(&self, function: impl Fn(Context, Vec<Arg>) -> F + Send + Sync + 'static) -> Function
    where
        F: Future<Output = Result<Results, Failure>> + Send + 'static,
    {
        let seen = self.clone();
        Function::raw(move |context: Context, args: Vec<Arg>| {
            seen.0.lock().push((context.task_id().to_owned(), args.clone()));
            function(context, args)
        })
    }
}
