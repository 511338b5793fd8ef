//! The same servers, with the Rust client on both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lineshaft_client::{Client, Context, Error, Failure, Task, Worker, WorkerBuilder};

use crate::rooms::Room;
use crate::support::InProcess;
use crate::support::until::{DEADLINE, soon};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, client:
            the_rust_client_sends_tasks_and_works_them
            the_rust_client_retries_fails_and_tells_why
            the_rust_client_works_a_batch_with_bounded_concurrency
            a_stopped_worker_finishes_what_it_runs
        );
    };
}
pub(crate) use cases;

pub(crate) async fn connect(server: &InProcess) -> Client {
    Client::connect(server.url()).await.expect("connects")
}

/// Runs a worker as long as `work` takes, then stops it.
pub(crate) async fn with<T>(worker: WorkerBuilder, work: impl Future<Output = T>) -> T {
    let worker = worker.build().expect("is valid");
    let stopper = worker.stopper();
    let running = tokio::spawn(worker.run());
    let done = soon("the work is done", work).await;
    stopper.stop();
    soon("the worker stops", running).await.expect("runs").expect("stops well");
    done
}

pub(crate) async fn the_rust_client_sends_tasks_and_works_them(room: Room) {
    let server = room.serve().await;
    let client = connect(&server).await;
    let worker = Worker::builder(&client)
        .register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) })
        .register("divide", |a: i64, b: i64| async move { Ok::<_, Failure>((a / b, a % b)) })
        .register("join", |parts: Vec<String>| async move { Ok::<_, Failure>(parts.join("-")) })
        .register("nothing", || async { Ok::<_, Failure>(()) });
    with(worker, async {
        let sum = client.send(Task::new("add").arg(i64::MAX).arg(-1i64)).await.expect("is sent");
        assert_eq!(sum.get::<i64>(DEADLINE).await.expect("succeeds"), i64::MAX - 1);
        assert!(sum.is_success().await.expect("is known") && sum.is_completed().await.expect("is known"));
        let parts = client.send(Task::new("divide").arg(17i64).arg(5i64)).await.expect("is sent");
        assert_eq!(parts.get::<(i64, i64)>(DEADLINE).await.expect("succeeds"), (3, 2));
        let words = vec!["a".to_owned(), "b".to_owned()];
        let joined = client.send(Task::new("join").arg(words)).await.expect("is sent");
        assert_eq!(joined.get::<String>(DEADLINE).await.expect("succeeds"), "a-b");
        let nothing = client.send(Task::new("nothing").id("by-id")).await.expect("is sent");
        assert_eq!(nothing.id(), "by-id");
        client.result("by-id").get::<()>(DEADLINE).await.expect("succeeds");
    })
    .await;
}

pub(crate) async fn the_rust_client_retries_fails_and_tells_why(room: Room) {
    let server = room.serve().await;
    let client = connect(&server).await;
    let failed = Arc::new(AtomicU32::new(0));
    let counted = failed.clone();
    let later = |context: Context| async move {
        match context.attempt() {
            3 => Ok(context.attempt()),
            _ => Err(Failure::retry_later(Duration::from_millis(1), "not yet")),
        }
    };
    let worker = Worker::builder(&client)
        .register("later", later)
        .register("never", || async { Err::<(), _>(Failure::fatal("never")) })
        .register("cleanup", |error: String, own: String| async move { Ok::<_, Failure>(format!("{error}, {own}")) })
        .on_failure(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async {}
        });
    with(worker, async {
        let third = client.send(Task::new("later")).await.expect("is sent");
        assert_eq!(third.get::<u32>(DEADLINE).await.expect("succeeds"), 3);
        let cleanup = Task::new("cleanup").id("cleanup").arg("own".to_owned());
        let never = client.send(Task::new("never").retry(3).on_error(cleanup)).await.expect("is sent");
        match never.get::<()>(DEADLINE).await {
            Err(Error::TaskFailed(failure)) => assert_eq!(failure.message, "never"),
            other => panic!("{other:?}"),
        }
        assert!(never.is_failure().await.expect("is known"));
        assert_eq!(client.result("cleanup").get::<String>(DEADLINE).await.expect("succeeds"), "never, own");
    })
    .await;
    assert_eq!(failed.load(Ordering::Relaxed), 1);
}

pub(crate) async fn the_rust_client_works_a_batch_with_bounded_concurrency(room: Room) {
    let server = room.serve().await;
    let client = connect(&server).await;
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (inside, seen) = (running.clone(), most.clone());
    let square = move |n: i64| {
        let (inside, seen) = (inside.clone(), seen.clone());
        async move {
            seen.fetch_max(inside.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::AcqRel);
            Ok::<_, Failure>(n * n)
        }
    };
    with(Worker::builder(&client).concurrency(3).register("square", square), async {
        let sent = client.send_all((0..200i64).map(|n| Task::new("square").arg(n))).await;
        for (n, sent) in (0..200i64).zip(sent) {
            let square: i64 = sent.expect("is sent").get(DEADLINE).await.expect("succeeds");
            assert_eq!(square, n * n);
        }
    })
    .await;
    assert!((1..=3).contains(&most.load(Ordering::Acquire)), "{most:?}");
}

pub(crate) async fn a_stopped_worker_finishes_what_it_runs(room: Room) {
    let server = room.serve().await;
    let client = connect(&server).await;
    let (begun, begin) = tokio::sync::oneshot::channel();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let once = Arc::new(parking_lot::Mutex::new(Some((begun, finished))));
    let hold = move || {
        let once = once.lock().take();
        async move {
            let (begun, finished) = once.ok_or_else(|| Failure::fatal("ran twice"))?;
            let _ = begun.send(());
            finished.await.map_err(|_| Failure::fatal("the test is over"))?;
            Ok::<_, Failure>("done".to_owned())
        }
    };
    let held = client.send(Task::new("hold")).await.expect("is sent");
    let worker = Worker::builder(&client).register("hold", hold).build().expect("is valid");
    let stopper = worker.stopper();
    let running = tokio::spawn(worker.run());
    soon("the task runs", begin).await.expect("begins");
    stopper.stop();
    finish.send(()).expect("is waited for");
    soon("the worker stops", running).await.expect("runs").expect("stops well");
    assert_eq!(held.get::<String>(DEADLINE).await.expect("succeeds"), "done");
}
