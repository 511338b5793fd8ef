//! What the server's log says of a task, and what it never says.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use lineshaft_client::proto::{LeaseTasksRequest, Subscription};
use lineshaft_client::{Client, Context, Failure, Task, Worker};
use serde_json::Value;
use support::{Options, Process, until};

const WAIT: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The lines of a log, each one object.
fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_no_person_watches_is_json_with_ids_and_without_what_tasks_carry() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().env("LINESHAFT_LOG_LEVEL", "info,lineshaft=trace");
    let server = Process::start(&dir.path().join("data"), options);
    let worker = Worker::builder(server.url())
        .register("echo", |word: String| async move { Ok::<_, Failure>(format!("{word}-RESULTMARK")) })
        .register("fails", |context: Context, word: String| async move {
            let text = format!("{word}-ERRORMARK");
            if context.attempt() == 1 {
                Err::<(), _>(Failure::retry_later(Duration::ZERO, text))
            } else {
                Err(Failure::fatal(text))
            }
        })
        .build()
        .unwrap();
    let running = tokio::spawn(worker.run());
    let client = Client::connect(server.url()).await.unwrap();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let task = |name: &str| {
        Task::new(name).arg("ARGUMENTMARK").header("token", "HEADERMARK").header("traceparent", traceparent.as_str())
    };
    let echoed = client.send(task("echo")).await.unwrap();
    assert_eq!(echoed.get::<String>(WAIT).await.unwrap(), "ARGUMENTMARK-RESULTMARK");
    let failed = client.send(task("fails").idempotency_key("key", lineshaft_client::Until::Ended)).await.unwrap();
    failed.get::<()>(WAIT).await.unwrap_err();

    let subscriptions = vec![Subscription { queue: "other".into(), names: vec!["n".into()], weight: 0 }];
    let request = LeaseTasksRequest { subscriptions, tasks_max: 1, ..Default::default() };
    let mut workers = WorkerServiceClient::connect(server.url()).await.unwrap();
    let secret = workers.lease_tasks(request).await.unwrap().into_inner().session.unwrap().secret;
    assert!(!secret.is_empty());

    let of = |log: &str, message: &str, id: &str| -> Vec<Value> {
        lines(log).into_iter().filter(|line| line["message"] == message && line["task"] == id).collect()
    };
    let ended = until("both ends are logged", async || {
        let (echoed, failed) = (
            of(&server.log(), "an attempt has ended", echoed.id()),
            of(&server.log(), "an attempt has ended", failed.id()),
        );
        (echoed.len() == 1 && failed.len() == 2).then_some([echoed, failed].concat())
    })
    .await;
    let log = server.log();
    for line in &ended {
        assert!(line["attempt"].is_u64() && line["session"].is_string() && line["lease"].is_string(), "{line}");
        assert_eq!(line["trace"], TRACE, "{line}");
    }
    let ends: Vec<&str> = ended.iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(ends, ["Success", "Retry", "Failure"]);
    assert_eq!(of(&log, "an attempt was leased", failed.id()).len(), 2);
    assert_eq!(of(&log, "a task was sent", failed.id()).len(), 1);
    assert!(!log.contains("MARK"), "{log}");
    assert!(!log.contains(&secret), "{log}");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_for_people_may_be_asked_for_by_either_word() {
    for word in ["pretty", "text"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::start(&dir.path().join("data"), Options::default().env("LINESHAFT_LOG_FORMAT", word));
        until("a line for people", async || server.log().contains(" INFO lineshaft").then_some(())).await;
        assert!(!server.log().starts_with('{'), "{}", server.log());
    }
}
