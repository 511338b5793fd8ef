//! The worker against a server whose every answer is written here.

// What a helper meets here fails the test, where it was met.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use lineshaft_client::proto::worker_lease_request::Message as FromWorker;
use lineshaft_client::proto::worker_lease_response::Message as FromServer;
use lineshaft_client::proto::{
    Arg, Drain, Failure as FailureReport, GoodbyeReason, HeartbeatAck, ReportVerdict, Revoke, ServerGoodbye, report,
};
use lineshaft_client::{Context, Failure, FromResults, IntoArg, IntoResults, Next, Stopped, Worker, WorkerBuilder};
use support::{Notes, Server, Stream, Tasks, lease, soon};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn adder(builder: WorkerBuilder) -> WorkerBuilder {
    builder.register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) })
}

fn two_and_three() -> Vec<Arg> {
    vec![2i64.into_arg(), 3i64.into_arg()]
}

/// Runs the worker beside the test.
fn run(builder: WorkerBuilder) -> (lineshaft_client::Stopper, JoinHandle<Stopped>) {
    let worker = builder.build().unwrap();
    let stopper = worker.stopper();
    (stopper, tokio::spawn(async move { worker.run_until(std::future::pending()).await.unwrap() }))
}

async fn greeted(server: &mut Server) -> Stream {
    let mut stream = server.stream().await;
    stream.hello().await;
    stream.welcome(false, &[]).await;
    stream
}

fn results_of(outcome: Option<report::Outcome>) -> Vec<Arg> {
    match outcome {
        Some(report::Outcome::Success(success)) => success.results,
        other => panic!("not a success: {other:?}"),
    }
}

fn failure_of(outcome: Option<report::Outcome>) -> FailureReport {
    match outcome {
        Some(report::Outcome::Failure(failure)) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

fn status(code: Code, reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "lineshaft.v1", []);
    Status::with_error_details(code, "as the test says", details)
}

#[tokio::test]
async fn a_task_is_confirmed_started_and_reported() {
    let mut server = Server::start();
    let (stopper, worker) = run(adder(Worker::builder(server.url()).queue("q").concurrency(3)));
    let mut stream = server.stream().await;
    let hello = stream.hello().await;
    assert_eq!((hello.language.as_str(), hello.concurrency), ("rust", 3));
    assert_eq!(
        (hello.subscriptions[0].queue.as_str(), &hello.subscriptions[0].names[..]),
        ("q", &["add".to_owned()][..])
    );
    assert!(hello.resume.is_none() && hello.held.is_empty());
    stream.welcome(false, &[]).await;
    assert_eq!(stream.credit().await, 3);
    stream.lease(vec![lease("a", "add", two_and_three())]).await;
    let report = stream.report().await;
    assert_eq!(i64::from_results(results_of(report.outcome.clone())), Ok(5));
    let accepted = stream.log.iter().position(|frame| matches!(frame, FromWorker::Accepted(_))).unwrap();
    let reported = stream.log.iter().position(|frame| matches!(frame, FromWorker::Report(_))).unwrap();
    assert!(accepted < reported);
    assert_eq!(stream.credit().await, 4);
    stream.acknowledge(&report, ReportVerdict::Recorded).await;
    stopper.stop();
    stream.part().await;
    assert_eq!(soon("the worker's end", worker).await.unwrap(), Stopped::Gracefully);
}

#[tokio::test]
async fn middleware_decides_what_is_reported() {
    let mut server = Server::start();
    let builder = adder(Worker::builder(server.url()))
        .middleware(|context: Context, mut args: Vec<Arg>, next: Next| async move {
            if context.lease_id() == "refused" {
                return Err(Failure::retry_later(Duration::from_secs(5), "not now"));
            }
            args.reverse();
            args.truncate(1);
            args.push(40i64.into_arg());
            next.run(context, args).await
        })
        .on_failure(|_, _| async { panic!("nothing ends here") });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("a", "add", two_and_three()), lease("refused", "add", two_and_three())]).await;
    for report in stream.reports(2).await {
        match report.lease_id.as_str() {
            "a" => assert_eq!(i64::from_results(results_of(report.outcome)), Ok(43)),
            _ => assert_eq!(failure_of(report.outcome).retry_after.unwrap().seconds, 5),
        }
    }
}

#[tokio::test]
async fn functions_of_every_shape_are_called() {
    let mut server = Server::start();
    let builder = Worker::builder(server.url())
        .register("none", || async { Ok::<_, Failure>(()) })
        .register("context", |context: Context| async move { Ok::<_, Failure>(context.task_id().to_owned()) })
        .register("mixed", |context: Context, n: u8, bytes: Vec<u8>, list: Vec<f64>| async move {
            Ok::<_, Failure>((context.fencing_token(), n, bytes, list))
        })
        .register_blocking("blocking", |text: String| Ok::<_, Failure>(text.len() as u64))
        .register_blocking("blocking_context", |context: Context, _: bool| Ok::<_, Failure>(context.attempt()))
        .register("eight", |a: i64, b: i64, c: i64, d: i64, e: i64, f: i64, g: i64, h: i64| async move {
            Ok::<_, Failure>(a + b + c + d + e + f + g + h)
        });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    stream
        .lease(vec![
            lease("none", "none", vec![]),
            lease("context", "context", vec![]),
            lease("mixed", "mixed", (9u8, vec![1u8], vec![0.5f64]).into_results()),
            lease("blocking", "blocking", vec!["four".into_arg()]),
            lease("blocking_context", "blocking_context", vec![true.into_arg()]),
            lease("eight", "eight", (1i64, 2i64, 3i64, 4i64, 5i64, 6i64, 7i64, 8i64).into_results()),
        ])
        .await;
    for report in stream.reports(6).await {
        let results = results_of(report.outcome);
        match report.lease_id.as_str() {
            "none" => assert!(results.is_empty()),
            "context" => assert_eq!(String::from_results(results), Ok("task-context".to_owned())),
            "mixed" => assert_eq!(FromResults::from_results(results), Ok((7u64, 9u8, vec![1u8], vec![0.5f64]))),
            "blocking" => assert_eq!(u64::from_results(results), Ok(4)),
            "blocking_context" => assert_eq!(u32::from_results(results), Ok(1)),
            "eight" => assert_eq!(i64::from_results(results), Ok(36)),
            other => panic!("unknown lease {other:?}"),
        }
    }
}

#[tokio::test]
async fn failures_say_what_comes_next() {
    let mut server = Server::start();
    let last = Notes::new();
    let noted = last.clone();
    let builder = adder(Worker::builder(server.url()))
        .register("plain", || async { Err::<(), _>("broken") })
        .register("later", || async { Err::<(), _>(Failure::retry_later(Duration::from_millis(1500), "busy")) })
        .register("fatal", || async { Err::<(), _>(Failure::fatal("hopeless")) })
        .register("panics", || async { if true { panic!("at the {}", "disco") } else { Ok::<_, Failure>(()) } })
        .register_blocking("panics_too", || if true { panic!("below") } else { Ok::<_, Failure>(()) })
        .on_failure(move |context, failure| {
            noted.add((context.lease_id().to_owned(), failure.message().to_owned()));
            async {}
        });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    let retried = |id: &str| lineshaft_client::proto::Lease { retries_left: 1, ..lease(id, "plain", vec![]) };
    stream
        .lease(vec![
            lease("misfit", "add", vec![1i64.into_arg(), "x".into_arg()]),
            lease("count", "add", vec![]),
            lease("last", "plain", vec![]),
            retried("retried"),
            lease("later", "later", vec![]),
            lease("fatal", "fatal", vec![]),
            lease("panics", "panics", vec![]),
            lease("panics_too", "panics_too", vec![]),
        ])
        .await;
    for report in stream.reports(8).await {
        let failure = failure_of(report.outcome);
        let seen = (failure.error.as_str(), failure.r#final, failure.retry_after);
        match report.lease_id.as_str() {
            "misfit" => assert_eq!(seen, ("argument 1: expected int64, found string", true, None)),
            "count" => assert_eq!(seen, ("expected 2 arguments, found 0", true, None)),
            "last" | "retried" => assert_eq!(seen, ("broken", false, None)),
            "later" => assert_eq!(seen, ("busy", false, support::millis(1500))),
            "fatal" => assert_eq!(seen, ("hopeless", true, None)),
            "panics" => assert_eq!(seen, ("panicked: at the disco", false, None)),
            "panics_too" => assert_eq!(seen, ("panicked: below", false, None)),
            other => panic!("unknown lease {other:?}"),
        }
    }
    let mut handled: Vec<String> = last.all().into_iter().map(|(id, _)| id).collect();
    handled.sort_unstable();
    assert_eq!(handled, ["count", "fatal", "last", "misfit", "panics", "panics_too"]);
}

#[tokio::test]
async fn a_killed_server_is_found_again_with_what_is_held_and_what_is_owed() {
    let mut server = Server::start();
    let (go, gate) = tokio::sync::watch::channel(false);
    let builder = adder(Worker::builder(server.url())).register("waits", move || {
        let mut gate = gate.clone();
        async move { gate.wait_for(|open| *open).await.map(|_| ()) }
    });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("owed", "add", two_and_three()), lease("held", "waits", vec![])]).await;
    let owed = stream.report().await;
    assert_eq!(owed.lease_id, "owed");
    // No acknowledgement: the server dies first.
    let address = server.kill();
    let mut server = Server::start_at(address, Tasks::default());
    let mut stream = server.stream().await;
    let hello = stream.hello().await;
    let resume = hello.resume.unwrap();
    assert_eq!((resume.session_id.as_str(), resume.secret.as_str()), ("session", "secret"));
    assert_eq!(hello.held, ["held", "owed"]);
    stream.welcome(true, &[("held", true)]).await;
    let again = stream.report().await;
    assert_eq!(again, owed, "the same report under the same id");
    stream.acknowledge(&again, ReportVerdict::Duplicate).await;
    // Started is told again, and the attempt goes on: it was begun once.
    go.send(true).unwrap();
    let held = stream.report().await;
    assert_eq!(held.lease_id, "held");
    assert!(results_of(held.outcome).is_empty());
}

#[tokio::test]
async fn a_report_that_was_superseded_is_not_sent_again() {
    let mut server = Server::start();
    let (_stopper, _worker) = run(adder(Worker::builder(server.url())));
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("a", "add", two_and_three())]).await;
    let report = stream.report().await;
    stream.acknowledge(&report, ReportVerdict::Superseded).await;
    // Its effect is seen on the next stream only; this lease shows that the verdict was read before the end.
    stream.lease(vec![lease("b", "add", two_and_three())]).await;
    let second = stream.report().await;
    assert_eq!(second.lease_id, "b");
    stream.fail(status(Code::Unavailable, "BROKER_UNAVAILABLE")).await;
    let mut stream = server.stream().await;
    stream.hello().await;
    stream.welcome(true, &[]).await;
    assert_eq!(stream.report().await, second, "only the other one is owed");
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let mut server = Server::start();
    let (_stopper, _worker) = run(adder(Worker::builder(server.url())));
    let mut stream = server.stream().await;
    stream.hello().await;
    stream.welcome_with(false, &[], 50, 200).await;
    // Nothing more is said here. The worker speaks on, then opens another stream with its session.
    let mut next = server.stream().await;
    let hello = next.hello().await;
    assert_eq!(hello.resume.map(|resume| resume.session_id), Some("session".to_owned()));
    let heartbeats = async {
        let mut count = 0;
        while let Some(frame) = stream.any().await {
            count += u32::from(matches!(frame, FromWorker::Heartbeat(_)));
        }
        count
    };
    assert!(soon("the end of the silent stream", heartbeats).await >= 2);
}

#[tokio::test]
async fn on_drain_the_worker_moves_before_the_stream_closes() {
    let mut first = Server::start();
    let mut second = Server::start();
    let (go, gate) = tokio::sync::watch::channel(false);
    let builder = Worker::builder([first.url(), second.url()]).register("waits", move || {
        let mut gate = gate.clone();
        async move { gate.wait_for(|open| *open).await.map(|_| ()) }
    });
    let (_stopper, _worker) = run(builder);
    let mut old = greeted(&mut first).await;
    old.lease(vec![lease("a", "waits", vec![])]).await;
    old.until("started", |frame| matches!(frame, FromWorker::Started(_)).then_some(())).await;
    old.send(FromServer::Drain(Drain { deadline: support::millis(1000) })).await;
    let mut new = second.stream().await;
    let hello = new.hello().await;
    assert_eq!(hello.held, ["a"]);
    // The old stream is open until the new one is welcomed: a report can go there still.
    new.welcome(true, &[("a", true)]).await;
    assert!(new.credit().await > 0);
    assert!(old.next().await.is_none(), "the worker ends its side of the old stream");
    go.send(true).unwrap();
    assert_eq!(new.report().await.lease_id, "a");
}

#[tokio::test(flavor = "current_thread")]
async fn a_handler_that_blocks_the_runtime_does_not_stop_the_heartbeats() {
    let mut server = Server::start();
    let (seen, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let builder = Worker::builder(server.url()).register("blocks", move || {
        // On the runtime's only thread, until the server has seen its heartbeats.
        let answer = blocked.lock().unwrap().recv_timeout(support::PATIENCE);
        async move { answer }
    });
    // The server's side of the conversation runs elsewhere: here nothing else runs meanwhile.
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let conversation = elsewhere.spawn(async move {
        let mut stream = server.stream().await;
        stream.hello().await;
        // Its server says nothing meanwhile, so leases are longer than the whole.
        stream.welcome_timed(false, &[], [30, 60_000, 10_000]).await;
        stream.lease(vec![lease("a", "blocks", vec![])]).await;
        stream.until("accepted", |frame| matches!(frame, FromWorker::Accepted(_)).then_some(())).await;
        for _ in 0..10 {
            stream.until("a heartbeat", |frame| matches!(frame, FromWorker::Heartbeat(_)).then_some(())).await;
        }
        seen.send(()).unwrap();
        stream.report().await
    });
    let (_stopper, _worker) = run(builder);
    let report = soon("the report", conversation).await.unwrap();
    assert!(results_of(report.outcome).is_empty(), "the handler saw ten heartbeats while it blocked");
    elsewhere.shutdown_background();
}

#[tokio::test]
async fn a_revoked_lease_cancels_its_context() {
    let mut server = Server::start();
    let notes = Notes::new();
    let noted = notes.clone();
    let builder = Worker::builder(server.url()).concurrency(1).register("waits", move |context: Context| {
        let noted = noted.clone();
        async move {
            context.cancelled().await;
            noted.add(context.is_cancelled());
            Err::<(), _>("told to stop")
        }
    });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    assert_eq!(stream.credit().await, 1);
    stream.lease(vec![lease("a", "waits", vec![])]).await;
    stream.until("started", |frame| matches!(frame, FromWorker::Started(_)).then_some(())).await;
    stream.send(FromServer::Revoke(Revoke { lease_id: "a".into(), reason: 1 })).await;
    assert_eq!(notes.wait(1).await, [true]);
    // The slot is free again; the failure of what was told to stop is no report.
    assert_eq!(stream.credit().await, 2);
    assert!(!stream.log.iter().any(|frame| matches!(frame, FromWorker::Report(_))));
}

#[tokio::test]
async fn a_lost_session_is_replaced_and_its_work_cancelled() {
    let mut server = Server::start();
    let notes = Notes::new();
    let noted = notes.clone();
    let builder = Worker::builder(server.url()).register("waits", move |context: Context| {
        let noted = noted.clone();
        async move {
            context.cancelled().await;
            noted.add(());
            Err::<(), _>("told to stop")
        }
    });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("a", "waits", vec![])]).await;
    stream.until("started", |frame| matches!(frame, FromWorker::Started(_)).then_some(())).await;
    stream.send(FromServer::Goodbye(ServerGoodbye { reason: GoodbyeReason::Expired as i32 })).await;
    let mut stream = server.stream().await;
    let hello = stream.hello().await;
    assert!(hello.resume.is_none() && hello.held.is_empty());
    notes.wait(1).await;
    // Refusing a resume has the same effect.
    stream.welcome(false, &[]).await;
    stream.fail(status(Code::Unavailable, "DRAINING")).await;
    let mut stream = server.stream().await;
    assert!(stream.hello().await.resume.is_some());
    stream.fail(status(Code::FailedPrecondition, "LEASE_LOST")).await;
    assert!(server.stream().await.hello().await.resume.is_none());
}

#[tokio::test]
async fn one_at_a_time_is_strictly_one_after_another() {
    let mut server = Server::start();
    let running = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let builder = Worker::builder(server.url()).concurrency(1).prefetch(20).register("counts", move || {
        let running = running.clone();
        async move {
            let others = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, Failure>(others)
        }
    });
    let (_stopper, _worker) = run(builder);
    let mut stream = greeted(&mut server).await;
    assert_eq!(stream.credit().await, 21);
    stream.lease((0..20).map(|index| lease(&format!("{index}"), "counts", vec![])).collect()).await;
    let reports = stream.reports(20).await;
    let order: Vec<usize> = reports.iter().map(|report| report.lease_id.parse().unwrap()).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
    for report in reports {
        assert_eq!(u32::from_results(results_of(report.outcome)), Ok(0));
    }
}

#[tokio::test]
async fn a_stop_waits_for_what_runs_and_a_second_one_does_not() {
    let mut server = Server::start();
    let (go, gate) = tokio::sync::watch::channel(false);
    let waits = move || {
        let mut gate = gate.clone();
        async move { gate.wait_for(|open| *open).await.map(|_| ()) }
    };
    let (stopper, worker) = run(Worker::builder(server.url()).register("waits", waits.clone()));
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("a", "waits", vec![])]).await;
    stream.until("started", |frame| matches!(frame, FromWorker::Started(_)).then_some(())).await;
    stopper.stop();
    go.send(true).unwrap();
    let report = stream.report().await;
    assert!(results_of(report.outcome.clone()).is_empty());
    stream.acknowledge(&report, ReportVerdict::Recorded).await;
    stream.part().await;
    assert_eq!(soon("the graceful end", worker).await.unwrap(), Stopped::Gracefully);

    go.send(false).unwrap();
    let (stopper, worker) = run(Worker::builder(server.url()).register("waits", waits));
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("b", "waits", vec![])]).await;
    stream.until("started", |frame| matches!(frame, FromWorker::Started(_)).then_some(())).await;
    stopper.stop();
    stopper.stop();
    let report = stream.report().await;
    assert!(matches!(report.outcome, Some(report::Outcome::Release(_))), "given back: {report:?}");
    stream.acknowledge(&report, ReportVerdict::Recorded).await;
    stream.part().await;
    assert_eq!(soon("the end at once", worker).await.unwrap(), Stopped::AtOnce);
}

#[tokio::test]
async fn the_grace_ends_a_stop_that_takes_too_long() {
    let mut server = Server::start();
    let builder = Worker::builder(server.url())
        .grace(Duration::from_millis(50))
        .register("never", || async { std::future::pending::<Result<(), Failure>>().await });
    let worker = builder.build().unwrap();
    let (shutdown, asked) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(worker.run_until(async move {
        let _ = asked.await;
    }));
    let mut stream = greeted(&mut server).await;
    stream.lease(vec![lease("a", "never", vec![])]).await;
    stream.until("started", |frame| matches!(frame, FromWorker::Started(_)).then_some(())).await;
    shutdown.send(()).unwrap();
    let report = stream.report().await;
    assert!(matches!(report.outcome, Some(report::Outcome::Release(_))));
    stream.acknowledge(&report, ReportVerdict::Recorded).await;
    stream.part().await;
    assert_eq!(soon("the end", worker).await.unwrap().unwrap(), Stopped::AtOnce);
}

#[tokio::test]
async fn a_worker_whose_server_stopped_with_it_does_not_wait_out_its_grace() {
    let mut server = Server::start();
    let (stopper, worker) = run(adder(Worker::builder(server.url()).grace(Duration::from_secs(3600))));
    let mut stream = server.stream().await;
    stream.hello().await;
    stream.welcome_with(false, &[], 100, 60_000).await;
    stream.lease(vec![lease("a", "add", two_and_three())]).await;
    stream.report().await;
    server.kill();
    stopper.stop();
    assert_eq!(soon("the end without a server", worker).await.unwrap(), Stopped::Unreported { reports: 1 });
}

#[tokio::test]
async fn a_dropped_worker_says_goodbye() {
    let mut server = Server::start();
    let (_stopper, worker) = run(adder(Worker::builder(server.url())));
    let stream = greeted(&mut server).await;
    worker.abort();
    stream.part().await;
}

#[tokio::test]
async fn heartbeats_are_answered_and_progress_is_told() {
    let mut server = Server::start();
    let builder = Worker::builder(server.url()).register("tells", |context: Context| async move {
        context.progress(0.5, "half");
        context.cancelled().await;
        Ok::<_, Failure>(())
    });
    let (_stopper, _worker) = run(builder);
    let mut stream = server.stream().await;
    stream.hello().await;
    stream.welcome_timed(false, &[], [50, 60_000, 5_000]).await;
    stream.lease(vec![lease("a", "tells", vec![])]).await;
    let progress = stream
        .until("progress", |frame| match frame {
            FromWorker::Progress(progress) => Some(progress),
            _ => None,
        })
        .await;
    assert_eq!((progress.lease_id.as_str(), progress.fraction, progress.message.as_str()), ("a", 0.5, "half"));
    for _ in 0..3 {
        let sequence = stream
            .until("a heartbeat", |frame| match frame {
                FromWorker::Heartbeat(heartbeat) => Some(heartbeat.sequence),
                _ => None,
            })
            .await;
        stream.send(FromServer::HeartbeatAck(HeartbeatAck { sequence })).await;
    }
}
