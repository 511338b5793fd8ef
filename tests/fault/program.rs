//! The two programs of the fault tests, each run as a process of its own: a producer and a worker that write down what
//! they saw, to files outside the system. The checker believes only these files.
//!
//! A line is one write to a file opened for appending, so that `kill -9` never tears one:
//! `TIME_NS EVENT TASK LEASE`, with the events `accepted` (producer), `start`, `end`, `lost`, and `verdict:NAME` (worker).
//! What belongs to a workflow begins with `start TASK/RETRIES_LEFT LEASE ARGUMENTS`: a retry is another attempt.

// A witness that cannot write must not go on, and here too an error is a panic.
#![allow(clippy::expect_used)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lineshaft_client::proto::Arg;
use lineshaft_client::proto::arg::Value;
use lineshaft_client::{Client, Context, Error, Failure, Function, IntoResults, Results, Task, Worker};
use tonic::Code;

// What must come of the workflows is for the tests.
#[allow(dead_code)]
#[path = "workflows/plan.rs"]
mod plan;

use plan::Workflow;

/// What the witness writes to.
struct Witness(File);

impl Witness {
    fn open(path: &str) -> std::io::Result<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    fn write(&self, event: &str, task: &str, lease: &str) {
        let line = format!("{} {event} {task} {lease}\n", now());
        // A witness that cannot write is none.
        (&self.0).write_all(line.as_bytes()).expect("the witness file takes a line");
    }
}

/// Nanoseconds by the monotonic clock of the machine: comparable between processes.
fn now() -> u128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u128::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000 + u128::try_from(time.tv_nsec).unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read only when something went wrong.
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text: Vec<&str> = args.iter().map(String::as_str).collect();
    match text.as_slice() {
        ["producer", server, file, prefix, count] => produce(server, file, prefix, count.parse()?).await,
        ["workflows", server, file, prefix, chords, chains] => {
            send_together(server, file, prefix, chords.parse()?, chains.parse()?).await
        }
        ["worker", server, file, name, concurrency] => work(server, file, name, concurrency.parse()?).await,
        _ => Err("usage: producer SERVER FILE PREFIX COUNT | workflows SERVER FILE PREFIX CHORDS CHAINS | worker SERVER FILE NAME CONCURRENCY; \
                  several servers have commas between them"
            .into()),
    }
}

/// Sends `count` tasks, 16 at a time, and does not rest before each is accepted. A send whose answer did not come is
/// repeated under another id: the first may exist too, and must not be counted as the second.
async fn produce(server: &str, file: &str, prefix: &str, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let witness = Arc::new(Witness::open(file)?);
    let client = Client::builder().addresses(server.split(',')).connect_lazy()?;
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (witness, client, next, prefix) = (witness.clone(), client.clone(), next.clone(), prefix.to_owned());
        senders.spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return;
                }
                // Sent again under its name until it is accepted: whatever became of the tries before, it runs once.
                let id = format!("{prefix}-{i}");
                loop {
                    // 0 to 18 ms of work, spread over the tasks.
                    let task = Task::new("work").id(&id).queue("fault").arg(i64::try_from(i % 7 * 3).unwrap_or(0));
                    if client.send(task.request_id(format!("send-{id}"))).await.is_ok() {
                        break witness.write("accepted", &id, "-");
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    while senders.join_next().await.transpose()?.is_some() {}
    Ok(())
}

/// Sends chords and chains, 8 at a time, each repeated under its name until it is accepted.
async fn send_together(
    server: &str,
    file: &str,
    prefix: &str,
    chords: u32,
    chains: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let witness = Arc::new(Witness::open(file)?);
    let client = Client::builder().addresses(server.split(',')).connect_lazy()?;
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (witness, client, next, prefix) = (witness.clone(), client.clone(), next.clone(), prefix.to_owned());
        senders.spawn(async move {
            loop {
                let i = u32::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(u32::MAX);
                // Mixed, as long as there are both.
                let both = 2 * chords.min(chains);
                let (is_chord, number) = if i < both { (i % 2 == 0, i / 2) } else { (chords > chains, i - both / 2) };
                if number >= if is_chord { chords } else { chains } {
                    return Ok(());
                }
                let workflow =
                    if is_chord { Workflow::chord(&prefix, number) } else { Workflow::chain(&prefix, number) };
                while let Err(error) = send_one(&client, &workflow).await {
                    if let Error::Refused {
                        code: Code::InvalidArgument | Code::AlreadyExists | Code::Internal, ..
                    } = error
                    {
                        witness.write("refused", &workflow.id, "-");
                        return Err(format!("{}: {error}", workflow.id));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                witness.write("accepted", &workflow.id, "-");
            }
        });
    }
    while let Some(done) = senders.join_next().await.transpose()? {
        done?;
    }
    Ok(())
}

async fn send_one(client: &Client, workflow: &Workflow) -> Result<(), Error> {
    match workflow.as_chord() {
        Some(chord) => client.send_chord(chord).await.map(drop),
        None => client.send_chain(workflow.as_chain()).await.map(drop),
    }
}

/// An argument as the witness writes it. What a chord that is called back in any case tells of a member is its task and state.
fn word(arg: &Arg) -> String {
    match &arg.value {
        Some(Value::Int64Value(number)) => number.to_string(),
        Some(Value::StringValue(text)) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(outcome) if outcome.is_object() => {
                let field = |name: &str| outcome[name].as_str().unwrap_or("?").to_owned();
                format!("{}:{}", field("TaskUUID"), field("State"))
            }
            _ => text.replace(' ', "_"),
        },
        other => format!("{other:?}").replace(' ', "_"),
    }
}

/// A function of the plan.
fn planned(name: &'static str, witness: Arc<Witness>) -> Function {
    Function::raw(move |context: Context, args: Vec<Arg>| {
        let witness = witness.clone();
        async move {
            let words: Vec<String> = args.iter().map(word).collect();
            let task = format!("{}/{}", context.task_id(), context.retries_left());
            witness.write("start", &task, &format!("{} {}", context.lease_id(), plan::word(&words)));
            // 0 to 12 ms of work.
            let pause = Duration::from_millis(plan::sum(&words).unsigned_abs() % 7 * 2);
            tokio::select! {
                () = tokio::time::sleep(pause) => witness.write("end", &task, context.lease_id()),
                () = context.cancelled() => {
                    witness.write("lost", &task, context.lease_id());
                    return Err(Failure::new("the lease was lost"));
                }
            }
            match name {
                "fail" => Err(Failure::fatal(plan::failure(&words))),
                "flaky" if context.retries_left() > 0 => Err(Failure::new("once")),
                _ => Ok(Results(plan::sum(&words).into_results())),
            }
        }
    })
}

/// Works `work` tasks, and those of the plan, until it is killed.
async fn work(server: &str, file: &str, name: &str, concurrency: u32) -> Result<(), Box<dyn std::error::Error>> {
    let witness = Arc::new(Witness::open(file)?);
    let verdicts = witness.clone();
    let functions = plan::NAMES.map(|name| (name, planned(name, witness.clone())));
    let worker = Worker::builder(server.split(',').collect::<Vec<_>>())
        .name(name)
        .queue("fault")
        .concurrency(concurrency)
        .on_verdict(move |lease, verdict| verdicts.write(&format!("verdict:{verdict:?}"), "-", lease))
        .register_all(functions)
        .register("work", move |context: Context, ms: i64| {
            let witness = witness.clone();
            async move {
                witness.write("start", context.task_id(), context.lease_id());
                let pause = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {
                        witness.write("end", context.task_id(), context.lease_id());
                        Ok::<_, Failure>(i64::from(context.attempt()))
                    }
                    () = context.cancelled() => {
                        witness.write("lost", context.task_id(), context.lease_id());
                        Err(Failure::new("the lease was lost"))
                    }
                }
            }
        })
        .build()?;
    worker.run().await?;
    Ok(())
}
