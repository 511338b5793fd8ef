//! The program `lineshaft serve`, as a process: how it starts, stops, is killed and comes back.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output};

use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use lineshaft_client::proto::*;
use lineshaft_client::{Client, Context, Failure, Stopped, Worker};
use rustix::process::Signal;
use support::until::{DEADLINE, soon, until};
use support::{Options, Process};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .arg("serve")
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn refusal_of(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_there_after_a_crash_on_the_same_port_and_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::start(&dir.path().join("data"), Options::default());
    let mut tasks = TaskServiceClient::connect(server.url()).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..20 {
        let task = Task { id: format!("task{n}"), name: "n".into(), ..Default::default() };
        let sent = tasks.send_task(SendTaskRequest { task: Some(task) }).await.unwrap();
        ids.push(sent.into_inner().task_id);
    }
    server.kill();
    server.restart();
    let mut tasks = TaskServiceClient::connect(server.url()).await.unwrap();
    let states = tasks.get_states(GetStatesRequest { task_ids: ids.clone() }).await.unwrap().into_inner().states;
    assert!(states.iter().all(|s| s.status() == TaskStatus::Pending), "{states:?}");
    let mut workers = WorkerServiceClient::connect(server.url()).await.unwrap();
    let subscriptions = vec![Subscription { queue: String::new(), names: vec!["n".into()], weight: 0 }];
    let wait_max = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    let request = LeaseTasksRequest { subscriptions, tasks_max: 100, wait_max, ..Default::default() };
    let leases = workers.lease_tasks(request).await.unwrap().into_inner().leases;
    let leased: Vec<_> = leases.into_iter().map(|l| l.task_id).collect();
    assert_eq!(leased, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_restarts_within_a_lease_time_cost_no_lease() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::start(&dir.path().join("data"), Options::default());
    let (started, mut starts) = mpsc::unbounded_channel();
    let (go, gate) = tokio::sync::watch::channel(false);
    let worker = Worker::builder(server.url())
        .register("held", move |context: Context| {
            let (started, mut gate) = (started.clone(), gate.clone());
            async move {
                let _ = started.send((context.attempt(), context.fencing_token()));
                tokio::select! {
                    () = context.cancelled() => Err(Failure::new("its lease is lost")),
                    _ = gate.wait_for(|open| *open) => Ok(context.fencing_token()),
                }
            }
        })
        .build()
        .unwrap();
    let stopper = worker.stopper();
    let working = tokio::spawn(worker.run_until(std::future::pending()));
    let client = Client::builder().address(server.url()).retry_for(DEADLINE).connect().await.unwrap();
    let result = client.send(lineshaft_client::Task::new("held")).await.unwrap();
    let (attempt, token) = soon("a start", starts.recv()).await.unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        server.kill();
        server.restart();
        // The worker is back with its lease.
        until("the worker is attached again", async || {
            let mut workers = WorkerServiceClient::connect(server.url()).await.ok()?;
            let listed = workers.list_workers(ListWorkersRequest::default()).await.ok()?.into_inner().workers;
            listed.iter().any(|worker| worker.leases == 1 && worker.attached).then_some(())
        })
        .await;
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "that was more than the lease time of 30 s");
    go.send(true).unwrap();
    assert_eq!(result.get::<u64>(DEADLINE).await.unwrap(), token);
    assert_eq!(attempt, 1);
    assert!(starts.try_recv().is_err(), "it ran once");
    stopper.stop();
    assert_eq!(soon("the worker's end", working).await.unwrap().unwrap(), Stopped::Gracefully);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_ends_with_success() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Process::start(&dir.path().join("data"), Options::default());
    let (say, said) = mpsc::channel(8);
    let subscriptions = vec![Subscription { queue: String::new(), names: vec!["n".into()], weight: 0 }];
    let hello = Hello { subscriptions, ..Default::default() };
    say.send(WorkerLeaseRequest { message: Some(Said::Hello(hello)) }).await.unwrap();
    let mut workers = WorkerServiceClient::connect(server.url()).await.unwrap();
    let mut told = workers.worker_lease(ReceiverStream::new(said)).await.unwrap().into_inner();
    assert!(soon("a welcome", told.message()).await.unwrap().is_some());
    server.signal(Signal::TERM);
    let mut kinds = Vec::new();
    while let Some(told) = soon("the stream ends", told.message()).await.unwrap() {
        kinds.push(format!("{:?}", told.message.unwrap()).split('(').next().unwrap().to_owned());
    }
    assert_eq!(kinds, ["Drain", "Goodbye"]);
    assert!(server.ended().success());
    // The directory is free again, and the port too.
    server.restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_server_works_from_memory_and_forgets_all() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yml");
    // What the file names is not looked at, its other keys are in force.
    std::fs::write(&config, "broker: redis://127.0.0.1:1\ndefault_queue: mine\n").unwrap();
    let mut server = ephemeral(dir.path(), &config);
    let client = Client::connect(server.url.clone()).await.unwrap();
    let worker = Worker::builder(&client)
        .register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) })
        .build()
        .unwrap();
    let (stopper, working) = (worker.stopper(), tokio::spawn(worker.run_until(std::future::pending())));
    let sum = client.send(lineshaft_client::Task::new("add").arg(1i64).arg(2i64)).await.unwrap();
    assert_eq!(sum.get::<i64>(DEADLINE).await.unwrap(), 3);
    stopper.stop();
    assert_eq!(soon("the worker's end", working).await.unwrap().unwrap(), Stopped::Gracefully);
    let waiting = client.send(lineshaft_client::Task::new("nobody")).await.unwrap();
    let mut tasks = TaskServiceClient::connect(server.url.clone()).await.unwrap();
    let state = tasks.get_state(GetStateRequest { task_id: waiting.id().to_owned() }).await.unwrap();
    assert_eq!(state.into_inner().state.unwrap().status(), TaskStatus::Pending);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.yml"], "nothing was written");

    let server = ephemeral(dir.path(), &config);
    let client = Client::connect(server.url.clone()).await.unwrap();
    assert_eq!(client.result(waiting.id()).state().await.unwrap_err().reason(), Some(ErrorReason::TaskUnknown));
    let output = run(&["--ephemeral", "--data-dir", "x"], &[]);
    assert!(refusal_of(&output, 2).contains("cannot be used with"));
}

/// A server that keeps nothing. Killed when dropped.
struct Ephemeral {
    child: std::process::Child,
    url: String,
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As a test in any language starts one: with a free port, which the first line of its output tells.
fn ephemeral(dir: &std::path::Path, config: &std::path::Path) -> Ephemeral {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lineshaft"))
        .args(["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .env_clear()
        .current_dir(dir)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let url = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
    Ephemeral { child, url }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().env("LINESHAFT_FAILPOINTS", "").env("LINESHAFT_SERVER_DRAIN_DEADLINE", "1h");
    let mut server = Process::start(&dir.path().join("data"), options);
    server.signal(Signal::INT);
    server.signal(Signal::TERM);
    // Either it had drained before the second came, or the second ended it.
    let code = server.ended().code();
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
}

#[test]
fn one_directory_belongs_to_one_server_and_the_second_says_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data, Options::default());
    let output = run(&["--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()], &[]);
    let text = refusal_of(&output, 1);
    assert!(text.contains(&format!("process {}", server.pid())), "{text}");
    let taken = server.addr.to_string();
    let other = dir.path().join("other");
    let output = run(&["--listen", &taken, "--data-dir", other.to_str().unwrap()], &[]);
    assert!(refusal_of(&output, 1).contains(&format!("cannot listen on {taken}")));
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    let with_file = |text: &str, environment: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let data = dir.path().join("data");
        let arguments =
            ["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
        run(&arguments, environment)
    };
    let cases = [
        (with_file("leases:\n  lost_maximum: 3\n", &[]), "did you mean \"leases.lost_max\"?"),
        (with_file("", &[("LINESHAFT_LEASES_LOST_MAX", "0")]), "leases.lost_max is 0, it must be 1 to 1000"),
        (with_file("log:\n  format: xml\n", &[]), "log.format"),
        (with_file("a: [\n", &[]), "config.yml"),
        (with_file("result_backend: embedded:x\n", &[]), "broker is not"),
        (with_file("", &[("BROKER", "amqp://u:secret@127.0.0.1:5672")]), "embedded:DIR"),
        (with_file("", &[("BROKER", "redis://:secret@127.0.0.1:1,127.0.0.1:2/3")]), "database 3 of a cluster"),
        (run(&["--listen", "0.0.0.0:0"], &[]), "--insecure"),
        (run(&["--config", "/nonexistent.yml"], &[]), "/nonexistent.yml"),
    ];
    for (output, part) in cases {
        let text = refusal_of(&output, 2);
        assert!(text.contains(part) && !text.contains("secret"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is made for a configuration that cannot be used");
}
