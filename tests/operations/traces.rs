//! Traces of real tasks, as a real collector has them, span by span.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lineshaft_client::proto::SendTaskRequest;
use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::{Client, Context, Failure, Task, Worker};
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;

use crate::jaeger::{Jaeger, Span, Spans};
use crate::support::{Options, Process, until};

const WAIT: Duration = Duration::from_secs(60);
/// The producer's span, in every trace.
const PRODUCER: &str = "00f067aa0ba902b7";
const SERVICE: &str = "lineshaft-under-test";

/// Jaeger's program; `None`: it is not here.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("LINESHAFT_TEST_JAEGER").filter(|path| !path.is_empty());
    if path.is_none() {
        println!("skipped: LINESHAFT_TEST_JAEGER does not say where Jaeger is");
    }
    path.map(PathBuf::from)
}

fn trace(n: u32) -> String {
    format!("4bf92f3577b34da6a3ce929d{n:08x}")
}

/// The producer's context in the `n`th trace.
fn producer(n: u32) -> String {
    format!("00-{}-{PRODUCER}-01", trace(n))
}

/// The contexts that the attempts of the worker in this process were given: name, attempt, context.
type Seen = Arc<Mutex<Vec<(String, u32, String)>>>;

fn seen(seen: &Seen, name: &str, attempt: u32) -> String {
    let seen = seen.lock();
    let found = seen.iter().find(|(n, a, _)| n == name && *a == attempt);
    found.unwrap_or_else(|| panic!("{name} {attempt}: {seen:?}")).2.clone()
}

/// A worker of everything here, which remembers what it was given.
fn worker(server: &Process, seen: &Seen) -> Worker {
    let note = |seen: Seen, context: Context| {
        let given = context.traceparent().unwrap_or_default().to_owned();
        seen.lock().push((context.task_name().to_owned(), context.attempt(), given));
    };
    let mut worker = Worker::builder(server.url());
    for name in ["flaky", "fails", "parent", "child", "stuck", "last"] {
        let seen = seen.clone();
        worker = worker.register(name, move |context: Context, _: String| {
            note(seen.clone(), context.clone());
            async move {
                match (context.task_name(), context.attempt()) {
                    ("flaky", 1) => Err(Failure::new("SECRET")),
                    ("fails", _) => Err(Failure::fatal("SECRET")),
                    _ => Ok("SECRET"),
                }
            }
        });
    }
    worker.build().unwrap()
}

/// A task that carries what nobody may see.
fn task(name: &str) -> Task {
    Task::new(name).arg("SECRET").header("token", "SECRET")
}

/// A worker process that takes tasks `stuck` and never ends one: its program ends once its parent is gone.
fn stuck_worker(server: &Process) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(["work", "--server", &server.url(), "--name", "doomed", "--task", "stuck", "--"])
        .args(["sh", "-c", "while kill -0 $PPID 2>/dev/null; do sleep 0.1; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What holds of the spans of every trace: whose they are, what each says of its task, and that nothing it carries is there.
#[track_caller]
fn well_formed(spans: &Spans, task: &str) {
    for span in spans.all() {
        let what = span.name().split(' ').next().unwrap();
        assert_eq!(span.service, SERVICE, "{span:?}");
        assert_eq!(span.tag("messaging.system"), "lineshaft", "{span:?}");
        assert_eq!(span.tag("messaging.operation.name"), what, "{span:?}");
        assert_eq!(span.tag("messaging.destination.name"), "machinery_tasks", "{span:?}");
        assert_eq!(span.name(), format!("{what} {}", span.tag("lineshaft.task.name").as_str().unwrap()));
        let kind = match what {
            "send" => "producer",
            "attempt" => "consumer",
            _ => "internal",
        };
        assert_eq!(span.tag("span.kind"), kind, "{span:?}");
        if span.tag("lineshaft.task.name") != "child" {
            assert_eq!(span.tag("messaging.message.id"), task, "{span:?}");
        }
    }
    assert!(!format!("{spans:?}").contains("SECRET"), "{spans:?}");
}

/// What holds of an attempt: it comes after its wait, under the same send, and ended so.
#[track_caller]
fn attempt<'a>(spans: &'a Spans, name: &str, n: usize, outcome: &str, error: Option<&str>) -> &'a Span {
    let send = spans.of(&format!("send {name}"), 0);
    let (wait, work) = (spans.of(&format!("wait {name}"), n), spans.of(&format!("attempt {name}"), n));
    for span in [wait, work] {
        assert_eq!(span.parent(), Some(send.id()), "{span:?}");
        assert_eq!(span.tag("lineshaft.attempt"), n + 1, "{span:?}");
    }
    assert!(send.start() <= wait.start() && wait.start() <= wait.end(), "{spans:#?}");
    assert!(wait.end() <= work.start() && work.start() <= work.end(), "{spans:#?}");
    assert_eq!(work.tag("lineshaft.outcome"), outcome, "{work:?}");
    let status = error.map_or(Value::Null, |_| "ERROR".into());
    assert_eq!((work.tag("otel.status_code"), work.tag("error.type").as_str()), (&status, error), "{work:?}");
    work
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_has_every_step_of_every_task_under_its_producers_span() {
    let Some(program) = program() else { return };
    let jaeger = Jaeger::start(&program).await;
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default()
        .env("LINESHAFT_TELEMETRY_OTLP_ENDPOINT", &jaeger.endpoint())
        .env("LINESHAFT_TELEMETRY_SERVICE_NAME", SERVICE)
        // Only what a producer wants recorded is.
        .env("LINESHAFT_TELEMETRY_SAMPLE_RATIO", "0")
        .env("LINESHAFT_LEASES_HEARTBEAT_INTERVAL", "500ms")
        .env("LINESHAFT_LEASES_LEASE_DURATION", "2s");
    let mut server = Process::start(&dir.path().join("data"), options);
    let client = Client::connect(server.url()).await.unwrap();

    // One whose worker is killed: before any other worker could take it.
    let mut doomed = stuck_worker(&server);
    let lost = client.send(task("stuck").traceparent(producer(4))).await.unwrap();
    until("the worker has it", async || {
        lost.state().await.unwrap().status.eq(&lineshaft_client::proto::TaskStatus::Started).then_some(())
    })
    .await;
    doomed.kill().unwrap();
    doomed.wait().unwrap();

    let given = Seen::default();
    let worker = worker(&server, &given);
    let stopper = worker.stopper();
    let running = tokio::spawn(worker.run());
    let flaky = client.send(task("flaky").retry(1).traceparent(producer(1))).await.unwrap();
    let fails = client.send(task("fails").traceparent(producer(2))).await.unwrap();
    let parent = task("parent").on_success(Task::new("child")).traceparent(producer(3));
    let parent = client.send(parent).await.unwrap();
    // By the metadata of the call; a flag that says no; and no trace at all.
    let mut raw = TaskServiceClient::connect(server.url()).await.unwrap();
    let message = task("parent").id("by-metadata").into_proto();
    let mut request = tonic::Request::new(SendTaskRequest { task: Some(message) });
    request.metadata_mut().insert("traceparent", producer(5).parse().unwrap());
    raw.send_task(request).await.unwrap();
    let unsampled = client.send(task("parent").traceparent(producer(6).replace("-01", "-00"))).await.unwrap();
    flaky.get::<String>(WAIT).await.unwrap();
    fails.get::<String>(WAIT).await.unwrap_err();
    for sent in [&parent, &unsampled, &client.result("by-metadata"), &lost] {
        sent.get::<String>(WAIT).await.unwrap();
    }

    // Succeeds after one retry.
    let spans = jaeger.whole(&trace(1), 5).await;
    assert_eq!(spans.names(), [("attempt flaky", 2), ("send flaky", 1), ("wait flaky", 2)]);
    well_formed(&spans, flaky.id());
    assert_eq!(spans.of("send flaky", 0).parent(), Some(PRODUCER));
    let first = attempt(&spans, "flaky", 0, "retry", Some("FAILED"));
    let second = attempt(&spans, "flaky", 1, "success", None);
    assert_eq!((first.events(), second.events()), (vec!["retry"], vec![]));
    assert_eq!(first.tag("lineshaft.retry.delay_ms"), 1000);
    assert!(spans.of("wait flaky", 1).start() >= first.end() + 1_000_000, "its delay is no wait");
    for (n, span) in [(1, first), (2, second)] {
        assert_eq!(
            seen(&given, "flaky", n),
            format!("00-{}-{}-01", trace(1), span.id()),
            "what the worker does is under it"
        );
    }

    // Fails.
    let spans = jaeger.whole(&trace(2), 3).await;
    well_formed(&spans, fails.id());
    attempt(&spans, "fails", 0, "failure", Some("FAILED"));

    // Causes another.
    let spans = jaeger.whole(&trace(3), 6).await;
    well_formed(&spans, parent.id());
    let cause = attempt(&spans, "parent", 0, "success", None);
    assert_eq!(spans.of("send child", 0).parent(), Some(cause.id()));
    assert!(spans.of("send child", 0).start() >= cause.start());
    let effect = attempt(&spans, "child", 0, "success", None);
    assert_eq!(seen(&given, "child", 1), format!("00-{}-{}-01", trace(3), effect.id()));

    // Loses a worker.
    let spans = jaeger.whole(&trace(4), 5).await;
    well_formed(&spans, lost.id());
    let died = attempt(&spans, "stuck", 0, "lost", Some("WORKER_LOST"));
    assert_eq!(died.tag("lineshaft.worker"), "doomed");
    let again = attempt(&spans, "stuck", 1, "success", None);
    assert!(died.end() <= spans.of("wait stuck", 1).start() && died.end() <= again.start(), "{spans:#?}");

    // Came with its call.
    let spans = jaeger.whole(&trace(5), 3).await;
    well_formed(&spans, "by-metadata");
    assert_eq!(spans.of("send parent", 0).parent(), Some(PRODUCER));

    // A server that drains leaves nothing behind.
    let last = client.send(task("last").traceparent(producer(7))).await.unwrap();
    last.get::<String>(WAIT).await.unwrap();
    stopper.stop();
    running.await.unwrap().unwrap();
    server.signal(Signal::TERM);
    assert!(server.ended().success());
    assert_eq!(jaeger.trace(&trace(7)).count(), 3);
    assert_eq!(jaeger.trace(&trace(6)).count(), 0, "its producer did not want it recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_told_of_once_and_delays_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // A port that nobody listens on: its listener is gone.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options::default().env("LINESHAFT_TELEMETRY_OTLP_ENDPOINT", &format!("http://{nobody}"));
    let mut server = Process::start(&dir.path().join("data"), options);
    let client = Client::connect(server.url()).await.unwrap();
    let given = Seen::default();
    let worker = worker(&server, &given);
    let stopper = worker.stopper();
    let running = tokio::spawn(worker.run());
    let told = || server.log().matches("spans cannot be exported").count();
    until("it is told", async || {
        client.send(task("last")).await.unwrap().get::<String>(WAIT).await.unwrap();
        (told() > 0).then_some(())
    })
    .await;
    for _ in 0..3 {
        client.send(task("last")).await.unwrap().get::<String>(WAIT).await.unwrap();
    }
    assert_eq!(told(), 1, "{}", server.log());
    stopper.stop();
    running.await.unwrap().unwrap();
    server.signal(Signal::TERM);
    assert!(server.ended().success());
}
