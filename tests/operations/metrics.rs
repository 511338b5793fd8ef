//! `/metrics`: what was done is what is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::config::{Config, Span};
use lineshaft::fused::Fused;
use lineshaft_client::proto::{self, PauseQueueRequest, PurgeQueueRequest};
use lineshaft_client::{Client, Context, Failure, Task, Worker};
use rustix::process::Signal;

use crate::scrape::{Page, get};
use crate::support::faulty::{Faulty, Mode, Switch};
use crate::support::in_process::memory;
use crate::support::{InProcess, Options, Process, until};

/// Queues that have series of their own.
const SERIES_MAX: usize = 200;
const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than any task here takes.
const LONG: Duration = Duration::from_secs(30);

async fn send(client: &Client, tasks: impl IntoIterator<Item = Task>) -> Vec<lineshaft_client::AsyncResult> {
    client.send_all(tasks).await.into_iter().map(|sent| sent.expect("is sent")).collect()
}

fn outcome(queue: &str, outcome: &str) -> String {
    format!("lineshaft_task_outcomes_total{{queue=\"{queue}\",outcome=\"{outcome}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_what_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"), Options::default());
    let client = Client::connect(server.url()).await.unwrap();
    let of = |name: &str| Task::new(name).queue("work");
    let mut sent = send(&client, (0..10).map(|_| of("good"))).await;
    sent.extend(send(&client, (0..3).map(|_| of("bad"))).await);
    sent.extend(send(&client, (0..2).map(|_| of("again").retry(1))).await);
    // The same send again is none.
    send(&client, [of("good").id("named").request_id("r"), of("good").id("named").request_id("r")]).await;
    sent.push(client.result("named"));
    let worker = Worker::builder(server.url())
        .queue("work")
        .concurrency(4)
        .register("good", || async { Ok::<_, Failure>(()) })
        .register("bad", || async { Err::<(), _>(Failure::fatal("no")) })
        .register("again", |context: Context| async move {
            match context.attempt() {
                1 => Err(Failure::retry_later(Duration::from_millis(1), "later")),
                _ => Ok(()),
            }
        })
        .build()
        .unwrap();
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());
    for result in &sent {
        result.wait(LONG).await.unwrap();
    }
    stopper.stop();
    working.await.unwrap().unwrap();
    // Of another queue three are purged, one is cancelled, and two wait, of which one until its time.
    send(&client, (0..3).map(|_| Task::new("never").queue("idle"))).await;
    let purge = PurgeQueueRequest { queue: "idle".into(), ..PurgeQueueRequest::default() };
    client.queue_service().purge_queue(purge).await.unwrap();
    let left = [Task::new("never").queue("idle"), Task::new("never").queue("idle").delay(HOUR)];
    let left = send(&client, left.into_iter().chain([Task::new("never").queue("idle")])).await;
    left[2].cancel().await.unwrap();
    client.queue_service().pause_queue(PauseQueueRequest { queue: "idle".into() }).await.unwrap();
    client.task_service().get_state(proto::GetStateRequest { task_id: "nobody".into() }).await.unwrap_err();

    let page = Page::scrape(server.addr).await;
    page.lint();
    for (series, value) in [
        ("lineshaft_tasks_sent_total{queue=\"work\"}", 16.0),
        ("lineshaft_tasks_already_sent_total{queue=\"work\"}", 1.0),
        ("lineshaft_leases_granted_total{queue=\"work\"}", 18.0),
        ("lineshaft_attempts_lost_total{queue=\"work\"}", 0.0),
        (&outcome("work", "success"), 13.0),
        (&outcome("work", "failed"), 3.0),
        (&outcome("work", "retry"), 2.0),
        (&outcome("idle", "purged"), 3.0),
        (&outcome("idle", "cancelled"), 1.0),
        // A retry waits as a message of its own, and each attempt runs.
        ("lineshaft_task_wait_seconds_count{queue=\"work\",name=\"again\"}", 4.0),
        ("lineshaft_task_run_seconds_count{queue=\"work\",name=\"again\"}", 4.0),
        ("lineshaft_task_run_seconds_bucket{queue=\"work\",name=\"bad\",le=\"+Inf\"}", 3.0),
        ("lineshaft_queue_waiting{queue=\"idle\"}", 1.0),
        ("lineshaft_queue_delayed{queue=\"idle\"}", 1.0),
        ("lineshaft_queue_paused{queue=\"idle\"}", 1.0),
        ("lineshaft_queue_paused{queue=\"work\"}", 0.0),
        ("lineshaft_queue_leased{queue=\"work\"}", 0.0),
        ("lineshaft_queues_unread", 0.0),
        ("lineshaft_grpc_calls_total{method=\"lineshaft.v1.TaskService/GetState\",code=\"NOT_FOUND\"}", 1.0),
        ("lineshaft_grpc_calls_total{method=\"lineshaft.v1.QueueService/PauseQueue\",code=\"OK\"}", 1.0),
        ("lineshaft_config_reloads_total{result=\"applied\"}", 0.0),
    ] {
        assert_eq!(page.value(series), value, "{series}\n{}", page.text);
    }
    for metric in lineshaft::telemetry::table::ALL {
        let told = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
        assert_eq!(page.text.matches(&told).count(), 1, "{told}");
    }
    assert!(page.value("lineshaft_queue_oldest_age_seconds{queue=\"idle\"}") > 0.0);
    assert!(page.sum("lineshaft_store_call_seconds_count{seam=\"fused\"") > 0.0, "{}", page.text);
    assert_eq!(page.sum("lineshaft_store_errors_total"), 0.0, "{}", page.text);
    assert!(page.value("process_start_time_seconds") > 1.7e9 && page.value("process_resident_memory_bytes") > 1e6);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_go_on_through_a_reload_and_a_refused_one_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (file, store) = (dir.path().join("config.yml"), dir.path().join("data"));
    let write = |text: &str| {
        let next = file.with_extension("next");
        std::fs::write(&next, format!("broker: 'embedded:{}'\n{text}", store.display())).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    write("");
    let server = Process::start(&store, Options::default().arg("--config").arg(path(&file)).arg("--reload"));
    let client = Client::connect(server.url()).await.unwrap();
    send(&client, (0..5).map(|_| Task::new("a").queue("q"))).await;
    let before = Page::scrape(server.addr).await;
    let reloads = async |result: &str| {
        let series = format!("lineshaft_config_reloads_total{{result=\"{result}\"}}");
        until(&series, async || (Page::scrape(server.addr).await.value(&series) >= 1.0).then_some(())).await;
    };
    write("limits:\n  batch_max: 20\n");
    server.signal(Signal::HUP);
    reloads("applied").await;
    write("limits:\n  batch_max: 0\n");
    server.signal(Signal::HUP);
    reloads("refused").await;
    send(&client, [Task::new("a").queue("q")]).await;
    let after = Page::scrape(server.addr).await;
    for (series, count) in before.counts() {
        assert!(after.value(series) >= count, "{series} was {count} and is {}", after.value(series));
    }
    assert_eq!(after.value("lineshaft_tasks_sent_total{queue=\"q\"}"), 6.0);
    after.lint();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_quotes_backslashes_and_letters_of_any_language_are_escaped() {
    let server = InProcess::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let sent = send(&client, [Task::new("say \"ü\" \\n").queue("a\"b\\n,{}=日本")]).await;
    let worker = Worker::builder(server.url())
        .queue("a\"b\\n,{}=日本")
        .register("say \"ü\" \\n", || async { Ok::<_, Failure>(()) })
        .build()
        .unwrap();
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run());
    sent[0].wait(LONG).await.unwrap();
    let page = Page::scrape(server.addr).await;
    page.lint();
    assert_eq!(page.value("lineshaft_tasks_sent_total{queue=\"a\\\"b\\\\n,{}=日本\"}"), 1.0);
    let times = "{queue=\"a\\\"b\\\\n,{}=日本\",name=\"say \\\"ü\\\" \\\\n\"}";
    assert_eq!(page.value(&format!("lineshaft_task_run_seconds_count{times}")), 1.0);
    assert_eq!(page.value("lineshaft_worker_sessions"), 1.0);
    assert!(page.value("lineshaft_worker_slots_free") >= 1.0);
    stopper.stop();
    working.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_queues_make_a_bounded_number_of_series() {
    let server = InProcess::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    for part in 0..10 {
        send(&client, (0..100).map(|n| Task::new("a").queue(format!("q{part}-{n:02}")))).await;
    }
    send(&client, [Task::new("a").queue("other")]).await;
    let page = Page::scrape(server.addr).await;
    page.lint();
    for (metric, all) in [("lineshaft_tasks_sent_total{", 1_001.0), ("lineshaft_queue_waiting{", 1_000.0)] {
        let series = page.series(metric);
        assert_eq!(series.len(), SERIES_MAX + 1, "{metric}");
        assert_eq!(page.sum(metric), all, "{metric}");
    }
    assert_eq!(page.value("lineshaft_tasks_sent_total{queue=\"other\"}"), 801.0);
    assert_eq!(page.value("lineshaft_queues_read"), 1_000.0);
    assert_eq!(page.value("lineshaft_queues_unread"), 1.0, "one queue more than a scrape reads");
    assert!(page.text.len() < 1 << 20, "{} bytes", page.text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_a_store_is_counted() {
    let switch = Switch::default();
    let mut stores = memory();
    stores.fused = stores.fused.map(|fused| Arc::new(Faulty::<dyn Fused>::new(fused, switch.clone())) as _);
    let server = InProcess::on(stores, |_| {}).await;
    let mut tasks = server.tasks().await;
    let request = || proto::SendTaskRequest { task: Some(proto::Task { name: "a".into(), ..proto::Task::default() }) };
    tasks.send_task(request()).await.unwrap();
    switch.next(1, Mode::Unavailable);
    tasks.send_task(request()).await.unwrap_err();
    let page = Page::scrape(server.addr).await;
    page.lint();
    let send = "seam=\"fused\",store=\"memory\",method=\"send\"";
    assert_eq!(page.value(&format!("lineshaft_store_errors_total{{{send},kind=\"unavailable\"}}")), 1.0);
    assert_eq!(page.value(&format!("lineshaft_store_errors_total{{{send},kind=\"full\"}}")), 0.0);
    assert_eq!(page.value(&format!("lineshaft_store_call_seconds_count{{{send}}}")), 2.0);
    assert_eq!(
        page.value("lineshaft_tasks_sent_total{queue=\"machinery_tasks\"}"),
        1.0,
        "what was not sent is not counted"
    );
    let call = "method=\"lineshaft.v1.TaskService/SendTask\"";
    assert_eq!(page.value(&format!("lineshaft_grpc_calls_total{{{call},code=\"UNAVAILABLE\"}}")), 1.0);
    assert_eq!(page.value(&format!("lineshaft_grpc_calls_total{{{call},code=\"OK\"}}")), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ended_in_a_dead_worker_is_counted() {
    let server = InProcess::with(|config: &mut Config| {
        config.leases.heartbeat_interval = Span::millis(100);
        config.leases.lease_duration = Span::millis(500);
        config.leases.silence_max = Span::millis(500);
    })
    .await;
    let task = proto::Task { name: "a".into(), queue: "q".into(), ..proto::Task::default() };
    server.tasks().await.send_task(proto::SendTaskRequest { task: Some(task) }).await.unwrap();
    let request = proto::LeaseTasksRequest {
        worker: "dies".into(),
        subscriptions: vec![proto::Subscription { queue: "q".into(), names: vec!["a".into()], weight: 0 }],
        ..proto::LeaseTasksRequest::default()
    };
    let leased = server.workers().await.lease_tasks(request).await.unwrap().into_inner();
    assert_eq!(leased.leases.len(), 1);
    let lost = "lineshaft_attempts_lost_total{queue=\"q\"}";
    until("the attempt is lost", async || (Page::scrape(server.addr).await.value(lost) == 1.0).then_some(())).await;
    let page = Page::scrape(server.addr).await;
    assert_eq!(page.value("lineshaft_leases_granted_total{queue=\"q\"}"), 1.0);
    assert_eq!(page.sum("lineshaft_task_outcomes_total{queue=\"q\""), 0.0, "the task has not ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_a_port_of_its_own_where_that_is_said_and_then_is_not_on_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().env("LINESHAFT_TELEMETRY_METRICS_LISTEN", "127.0.0.1:0");
    let mut server = Process::start(&dir.path().join("data"), options);
    let line = until("the port is told", async || {
        server.log().lines().find(|line| line.contains("the metrics have a port of their own")).map(str::to_owned)
    })
    .await;
    let port: String = line.split("127.0.0.1:").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    let apart = format!("127.0.0.1:{port}").parse().unwrap();
    Page::scrape(apart).await.lint();
    assert_eq!(get(server.addr, "/metrics").await.0, 404);
    assert_eq!(get(server.addr, "/healthz").await.0, 200);
    server.signal(Signal::TERM);
    assert!(server.ended().success(), "both ports close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tells_no_metrics_has_no_page() {
    let server = InProcess::with(|config| config.telemetry.metrics = false).await;
    let client = Client::connect(server.url()).await.unwrap();
    send(&client, [Task::new("a")]).await;
    assert_eq!(get(server.addr, "/metrics").await.0, 404);
}
