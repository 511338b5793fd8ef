//! What a client must not send, each with the code, the reason and the field it is answered with; and after each the
//! server serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod stream;
mod transport;
mod values;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use prost::Message;
use support::until::soon;
use support::{InProcess, Refusal, raw, refusal, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

fn named(name: &str) -> Task {
    Task { name: name.to_owned(), ..Default::default() }
}

fn with(change: impl FnOnce(&mut Task)) -> Task {
    let mut task = named("n");
    change(&mut task);
    task
}

fn arg(type_name: &str, value: arg::Value) -> Task {
    with(|t| t.args = vec![Arg { name: String::new(), r#type: type_name.to_owned(), value: Some(value) }])
}

fn header(key: &str, kind: value::Kind) -> Task {
    with(|t| t.headers = HashMap::from([(key.to_owned(), Value { kind: Some(kind) })]))
}

fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

async fn send(server: &InProcess, task: Task) -> Result<String, Status> {
    let sent = server.tasks().await.send_task(SendTaskRequest { task: Some(task) }).await;
    sent.map(|response| response.into_inner().task_id)
}

async fn refused(server: &InProcess, task: Task) -> Refusal {
    refusal(&send(server, task).await.unwrap_err())
}

/// The server takes a task, leases it, records its end and shows it.
async fn unharmed(server: &InProcess) {
    let task = Task { queue: "unharmed".to_owned(), ..named("unharmed") };
    let id = send(server, task).await.unwrap();
    let mut workers = server.workers().await;
    let subscriptions =
        vec![Subscription { queue: "unharmed".to_owned(), names: vec!["unharmed".to_owned()], weight: 0 }];
    let leased = workers.lease_tasks(LeaseTasksRequest { subscriptions, wait_max: span(10, 0), ..Default::default() });
    let leases = leased.await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 1);
    let outcome = report::Outcome::Success(Success { results: vec![] });
    let report = Report { report_id: String::new(), lease_id: leases[0].lease_id.clone(), outcome: Some(outcome) };
    let acks = workers.report_tasks(ReportTasksRequest { reports: vec![report] }).await.unwrap().into_inner().acks;
    assert_eq!(acks[0].verdict(), ReportVerdict::Recorded);
    let waited = WaitForResultRequest { task_id: id, timeout: span(10, 0) };
    let state = server.tasks().await.wait_for_result(waited).await.unwrap().into_inner().state.unwrap();
    assert_eq!(state.status(), TaskStatus::Success);
}

fn taking(names: &[&str]) -> Vec<Subscription> {
    let names = names.iter().map(ToString::to_string).collect();
    vec![Subscription { queue: String::new(), names, weight: 0 }]
}

fn hello(names: &[&str]) -> Said {
    Said::Hello(Hello { worker: "w".into(), subscriptions: taking(names), ..Default::default() })
}

/// A stream of ours: what is said goes in, what is told comes out.
struct Talk {
    say: mpsc::Sender<WorkerLeaseRequest>,
    told: Streaming<WorkerLeaseResponse>,
}

impl Talk {
    async fn open(server: &InProcess) -> Self {
        let (say, said) = mpsc::channel(64);
        let told = server.workers().await.worker_lease(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say, told }
    }

    async fn say(&self, message: Said) {
        self.say.send(WorkerLeaseRequest { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<Told>, Status> {
        let told = soon("the server says something", self.told.message()).await?;
        Ok(told.map(|t| t.message.expect("a message of this version")))
    }

    /// The end, after whatever else is told.
    async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn welcome(&mut self) -> Welcome {
        match self.next().await.unwrap() {
            Some(Told::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }
}
