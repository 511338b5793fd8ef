//! What this server does: each figure on a server of its own, started with an empty data directory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use lineshaft_client::{Client, Failure as HandlerFailure, Stopper, Task, Worker, proto};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::cpu;
use super::echo::{PAYLOAD_BYTES, measure};
use super::part::Sample;
use crate::cli::demo::process::{Process, Scratch, serve};
use crate::cli::{Exit, Failure};

/// Tasks in one `SendTasks`, where the caller makes the batches.
pub const BATCH: u32 = 100;
/// Slots of the worker.
pub const CONCURRENCY: u32 = 32;
/// Tasks a second while latency is measured: few enough that each finds the server idle.
const LATENCY_RATE: u32 = 50;
/// How long anything that should take a moment may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the tasks of one figure may take to end.
const DRAIN_MAX: Duration = Duration::from_secs(60);

const QUEUE: &str = "bench";
const NAME: &str = "noop";

/// The server is configured as one that is started with nothing configured.
const CONFIG: &str = "{}\n";

/// How producers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A call for each task.
    Unary,
    /// The Rust client, whose concurrent sends travel together.
    Coalesced,
    /// [`BATCH`] tasks in a call, made by the caller.
    Batch,
}

/// Times from the send of a task, of all tasks of a run, sorted, milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    /// To the start of its function.
    pub start_ms: Vec<f64>,
    /// To its result being with the producer.
    pub result_ms: Vec<f64>,
}

/// A server with an empty store, and a client of it. Ended and removed when dropped.
struct Bench {
    // Dropped in this order: the directory goes last.
    server: Process,
    client: Client,
    _scratch: Scratch,
}

fn error(error: lineshaft_client::Error) -> Failure {
    Failure::from(error)
}

fn task() -> Task {
    Task::new(NAME).queue(QUEUE).arg("x".repeat(PAYLOAD_BYTES))
}

impl Bench {
    async fn start(dir: &Path) -> Result<Self, Failure> {
        let scratch = Scratch::within(dir, "bench", CONFIG)?;
        let (server, url) = serve(&scratch, "127.0.0.1:0").await?;
        let client = Client::connect(url).await.map_err(error)?;
        Ok(Self { server, client, _scratch: scratch })
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.server.stop().await
    }

    /// Sends one call's worth; answers how many tasks the server has taken.
    async fn send(&self, way: Way) -> Result<u64, Failure> {
        match way {
            Way::Unary => {
                let request = proto::SendTaskRequest { task: Some(task().into_proto()) };
                self.client.task_service().send_task(request).await?;
                Ok(1)
            }
            Way::Coalesced => {
                self.client.send(task()).await.map_err(error)?;
                Ok(1)
            }
            Way::Batch => {
                let tasks = (0..BATCH).map(|_| task().into_proto()).collect();
                let answer = self.client.task_service().send_tasks(proto::SendTasksRequest { tasks }).await?;
                let results = answer.into_inner().results;
                let sent =
                    results.iter().filter(|item| matches!(item.result, Some(proto::send_result::Result::TaskId(_))));
                match sent.count() as u64 {
                    count if count == u64::from(BATCH) => Ok(count),
                    count => Err(Failure::new(Exit::Other, format!("only {count} of {BATCH} tasks were taken"))),
                }
            }
        }
    }

    /// A worker that does nothing but tell `started` when each task starts; there must be room for all of them.
    fn work(&self, started: mpsc::Sender<Instant>) -> Result<Working, Failure> {
        let worker = Worker::builder(&self.client)
            .queue(QUEUE)
            .concurrency(CONCURRENCY)
            .register(NAME, move |_payload: String| {
                // Whoever counts may have enough.
                let _ = started.try_send(Instant::now());
                async { Ok::<_, HandlerFailure>(()) }
            })
            .build()
            .map_err(error)?;
        let stopper = worker.stopper();
        let running = tokio::spawn(worker.run_until(std::future::pending()));
        Ok(Working { stopper, running })
    }

    async fn until_attached(&self) -> Result<(), Failure> {
        let attached = async {
            loop {
                let answer = self.client.worker_service().list_workers(proto::ListWorkersRequest::default()).await?;
                if !answer.into_inner().workers.is_empty() {
                    return Ok::<_, Failure>(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, attached).await.map_err(|_| late("the worker did not attach"))?
    }
}

fn late(what: &str) -> Failure {
    Failure::new(Exit::TimedOut, what)
}

/// A worker that runs.
struct Working {
    stopper: Stopper,
    running: JoinHandle<Result<lineshaft_client::Stopped, lineshaft_client::Error>>,
}

impl Working {
    /// Stops it. Every result is then on record at the server.
    async fn stop(self) -> Result<(), Failure> {
        self.stopper.stop();
        let ended = timeout(PATIENCE, self.running).await.map_err(|_| late("the worker did not stop"))?;
        ended.map_err(|e| Failure::new(Exit::Other, format!("the worker failed: {e}")))?.map_err(error)?;
        Ok(())
    }
}

/// Sends for `span` from `producers` at once, with no worker there.
///
/// # Errors
/// The server does not start, or refuses.
pub async fn enqueue(dir: &Path, way: Way, producers: u32, span: Duration) -> Result<Sample, Failure> {
    let bench = Bench::start(dir).await?;
    let done = AtomicU64::new(0);
    let all = join_all((0..producers).map(|_| async {
        loop {
            match bench.send(way).await {
                Ok(count) => done.fetch_add(count, Ordering::Relaxed),
                Err(failure) => return failure,
            };
        }
    }));
    let run = async { all.await.pop().unwrap_or_else(|| Failure::usage("no producer")) };
    let sample = measure(&done, bench.server.pid(), span, run).await?;
    bench.stop().await?;
    Ok(sample)
}

/// One worker works `count` tasks that wait. The clock runs from the first start until every result is on record.
///
/// # Errors
/// As [`enqueue`]; not all of them ran.
pub async fn drain(dir: &Path, count: u32) -> Result<Sample, Failure> {
    let bench = Bench::start(dir).await?;
    for _ in 0..count.div_ceil(BATCH) {
        bench.send(Way::Batch).await?;
    }
    let count = u64::from(count.next_multiple_of(BATCH));
    let (started, mut starts) = channel(count);
    let (own, other) = (cpu::own(), cpu::of(bench.server.pid())?);
    let working = bench.work(started)?;
    let begun = first_of(&mut starts, count).await?;
    working.stop().await?;
    let sample = sample(&bench, count, begun, own, other)?;
    bench.stop().await?;
    Ok(sample)
}

/// `producers` on one client send `count` tasks while one worker works them. The clock runs from the first send until
/// every result is on record.
///
/// # Errors
/// As [`drain`].
pub async fn end_to_end(dir: &Path, producers: u32, count: u32) -> Result<Sample, Failure> {
    let bench = Bench::start(dir).await?;
    let each = count.div_ceil(producers);
    let count = u64::from(each * producers);
    let (started, mut starts) = channel(count);
    let working = bench.work(started)?;
    bench.until_attached().await?;
    let (own, other, begun) = (cpu::own(), cpu::of(bench.server.pid())?, Instant::now());
    let send = join_all((0..producers).map(|_| async {
        for _ in 0..each {
            bench.send(Way::Coalesced).await?;
        }
        Ok::<_, Failure>(())
    }));
    let (sent, ran) = tokio::join!(send, first_of(&mut starts, count));
    sent.into_iter().collect::<Result<(), _>>()?;
    ran?;
    working.stop().await?;
    let sample = sample(&bench, count, begun, own, other)?;
    bench.stop().await?;
    Ok(sample)
}

fn channel(count: u64) -> (mpsc::Sender<Instant>, mpsc::Receiver<Instant>) {
    // As many as were sent, which was a number of 32 bits.
    mpsc::channel(usize::try_from(count).unwrap_or(1).max(1))
}

/// One task at a time, each sent when the one before has ended, on a server that does nothing else.
///
/// # Errors
/// As [`drain`].
pub async fn latency(dir: &Path, span: Duration) -> Result<Latency, Failure> {
    let bench = Bench::start(dir).await?;
    let (started, mut starts) = channel(1);
    let working = bench.work(started)?;
    bench.until_attached().await?;
    let mut latency = Latency::default();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / LATENCY_RATE);
    while begun.elapsed() < span {
        ticks.tick().await;
        let sent = Instant::now();
        let result = bench.client.send(task()).await.map_err(error)?;
        result.get::<()>(PATIENCE).await.map_err(error)?;
        latency.result_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        let start = first_of(&mut starts, 1).await?;
        latency.start_ms.push(start.saturating_duration_since(sent).as_secs_f64() * 1e3);
    }
    working.stop().await?;
    bench.stop().await?;
    latency.start_ms.sort_by(f64::total_cmp);
    latency.result_ms.sort_by(f64::total_cmp);
    Ok(latency)
}

/// The value below which this part, 0 to 1, of sorted values lie; NaN of none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let index = (part * sorted.len() as f64) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Waits for `count` starts; the moment of the first.
async fn first_of(starts: &mut mpsc::Receiver<Instant>, count: u64) -> Result<Instant, Failure> {
    let mut first = None;
    let all = async {
        for _ in 0..count {
            let start = starts.recv().await.ok_or_else(|| Failure::new(Exit::Other, "the worker has ended"))?;
            first.get_or_insert(start);
        }
        Ok::<_, Failure>(())
    };
    timeout(DRAIN_MAX, all).await.map_err(|_| late("not all tasks were run in time"))??;
    first.ok_or_else(|| Failure::usage("no task"))
}

fn sample(bench: &Bench, count: u64, begun: Instant, own: Duration, other: Duration) -> Result<Sample, Failure> {
    Ok(Sample {
        count,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu::own().saturating_sub(own).as_secs_f64(),
        server_cpu_seconds: Some(cpu::of(bench.server.pid())?.saturating_sub(other).as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (51.0, 100.0, 100.0));
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
