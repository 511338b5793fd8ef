//! A producer and a worker on the Rust client, as `tests/bench/peers/run.py` runs them; its README.md has the contract.
//!
//! `bench-peer producer enqueue|latency|chord`, `bench-peer worker`, `bench-peer count`. Beside the `PEERS_…` variables:
//! `PEERS_LINESHAFT` is the server's URL; `PEERS_SEND` is `client` (the Rust client, whose concurrent sends travel
//! together; the default) or `unary` (a plain `SendTask` for each task).

// A benchmark that cannot run ends with a message; nobody handles its errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::{Chord, Client, Failure, Task, Worker, proto};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const NAME: &str = "noop";
/// Where the producer leaves the ids of what it has sent, for `count`: in the working directory.
const IDS: &str = "lineshaft.ids";
/// How long a result may take.
const RESULT_MAX: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let run = async {
        let peer = Peer::from_env().await?;
        match args[..] {
            ["producer", "enqueue"] => peer.enqueue().await,
            ["producer", "latency"] => peer.latency().await,
            ["producer", "chord"] => peer.chord().await,
            ["worker"] => peer.work().await,
            ["count"] => peer.count().await,
            _ => bail!("usage: bench-peer producer enqueue|latency|chord, bench-peer worker, bench-peer count"),
        }
    };
    let limit = Duration::from_secs(setting("LIMIT_S", 300).unwrap_or(300));
    match tokio::time::timeout(limit, run).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => told(&format!("{error:#}")),
        Err(_) => told(&format!("not done within {limit:?}")),
    }
}

fn told(error: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "bench-peer: {error}");
    ExitCode::FAILURE
}

fn setting(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(format!("PEERS_{name}")) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("PEERS_{name} is {text:?}")),
        _ => Ok(default),
    }
}

fn now_ns() -> u64 {
    SystemClock.wall().0
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[derive(Debug, Clone)]
struct Peer {
    client: Client,
    tasks: usize,
    queue: String,
    fill: Arc<str>,
    is_unary: bool,
}

impl Peer {
    async fn from_env() -> anyhow::Result<Self> {
        let url = std::env::var("PEERS_LINESHAFT").context("PEERS_LINESHAFT is the server's URL")?;
        let is_unary = match std::env::var("PEERS_SEND").as_deref() {
            Ok("unary") => true,
            Ok("client") | Err(_) => false,
            Ok(other) => bail!("PEERS_SEND is {other:?}; it is \"client\" or \"unary\""),
        };
        let payload = usize::try_from(setting("PAYLOAD", 256)?)?;
        Ok(Self {
            client: Client::connect(url).await?,
            tasks: usize::try_from(setting("N", 100)?)?,
            queue: std::env::var("PEERS_QUEUE").unwrap_or_else(|_| "peers".to_owned()),
            fill: "abcdefgh".chars().cycle().take(payload.saturating_sub(12)).collect::<String>().into(),
            is_unary,
        })
    }

    fn task(&self, index: usize) -> Task {
        // Its id is left to the server, as most programs do.
        Task::new(NAME).queue(&self.queue).arg(format!("{index:012}{}", self.fill))
    }

    /// Answers the id.
    async fn send(&self, index: usize) -> anyhow::Result<String> {
        let task = self.task(index);
        if self.is_unary {
            let request = proto::SendTaskRequest { task: Some(task.into_proto()) };
            Ok(self.client.task_service().send_task(request).await?.into_inner().task_id)
        } else {
            Ok(self.client.send(task).await?.id().to_owned())
        }
    }

    async fn enqueue(self) -> anyhow::Result<()> {
        let next = Arc::new(AtomicUsize::new(0));
        let producers = setting("P", 1)?;
        let (cpu, t0) = (cpu_seconds(), now_ns());
        let all = (0..producers).map(|_| {
            let (peer, next) = (self.clone(), Arc::clone(&next));
            // A task each, as a program with so many threads would have.
            tokio::spawn(async move {
                let (mut ids, mut failed, mut error) = (Vec::new(), 0_usize, None);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= peer.tasks {
                        return (ids, failed, error);
                    }
                    match peer.send(index).await {
                        Ok(id) => ids.push(id),
                        Err(e) => {
                            failed += 1;
                            error = Some(e.to_string());
                        }
                    }
                }
            })
        });
        let ends = join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (t1, cpu) = (now_ns(), cpu_seconds() - cpu);
        let ids: String = ends.iter().flat_map(|(ids, ..)| ids).map(|id| format!("{id}\n")).collect();
        std::fs::write(IDS, ids).with_context(|| format!("{IDS:?} cannot be written"))?;
        let failed: usize = ends.iter().map(|(_, failed, _)| failed).sum();
        let error = ends.into_iter().find_map(|(.., error)| error);
        result(&json!({ "n": self.tasks, "failed": failed, "error": error, "t0_ns": t0, "t1_ns": t1, "cpu_s": cpu }))
    }

    async fn latency(self) -> anyhow::Result<()> {
        let ledger = Ledger::open(self.tasks)?;
        let rate = setting("RATE", 50)?.max(1);
        let span = Duration::from_secs(setting("SECONDS", 10)?);
        let (mut start_us, mut result_us) = (Vec::new(), Vec::new());
        let begun = tokio::time::Instant::now();
        for index in 0..self.tasks {
            if begun.elapsed() >= span {
                break;
            }
            tokio::time::sleep_until(begun + Duration::from_secs(index as u64) / u32::try_from(rate)?).await;
            let sent = now_ns();
            let id = self.send(index).await?;
            self.client.result(id).get::<()>(RESULT_MAX).await?;
            result_us.push((now_ns() - sent) as f64 / 1e3);
            // Written before the task ended, so it is there.
            let start = ledger.start(index)?;
            ensure!(start != 0, "task {index} has a result and no start");
            start_us.push(start.saturating_sub(sent) as f64 / 1e3);
        }
        result(&json!({ "n": result_us.len(), "start_us": start_us, "result_us": result_us }))
    }

    async fn chord(self) -> anyhow::Result<()> {
        let members = self.tasks.checked_sub(1).context("a chord has a task and a callback at least")?;
        let (cpu, t0) = (cpu_seconds(), now_ns());
        let chord = Chord::new((0..members).map(|index| self.task(index)), self.task(members));
        self.client.send_chord(chord).await?;
        let (t1, cpu) = (now_ns(), cpu_seconds() - cpu);
        result(&json!({ "n": members, "t0_ns": t0, "t1_ns": t1, "cpu_s": cpu }))
    }

    async fn work(self) -> anyhow::Result<()> {
        let ledger = Arc::new(Ledger::open(self.tasks)?);
        let worker = Worker::builder(&self.client)
            .queue(&self.queue)
            .concurrency(u32::try_from(setting("CONCURRENCY", 32)?)?)
            .prefetch(u32::try_from(setting("PREFETCH", 0)?)?)
            .register(NAME, move |payload: String| {
                let written = ledger.hit(&payload);
                async move { written.map_err(|error| Failure::fatal(error.to_string())) }
            })
            .build()?;
        let ready = async {
            while self
                .client
                .worker_service()
                .list_workers(proto::ListWorkersRequest::default())
                .await?
                .get_ref()
                .workers
                .is_empty()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            writeln!(std::io::stdout(), "PEER_READY")?;
            anyhow::Ok(())
        };
        let (stopped, ready) = tokio::join!(worker.run(), ready);
        ready?;
        stopped?;
        Ok(())
    }

    /// How many of the tasks that were sent have ended well.
    async fn count(self) -> anyhow::Result<()> {
        let mut ended = 0;
        let text = std::fs::read_to_string(IDS).with_context(|| format!("{IDS:?} cannot be read"))?;
        let ids: Vec<String> = text.lines().map(str::to_owned).collect();
        for batch in ids.chunks(500) {
            let states = self.client.states(batch.to_vec()).await?;
            ended += states.iter().flatten().filter(|state| state.is_success()).count();
        }
        writeln!(std::io::stdout(), "{ended}")?;
        Ok(())
    }
}

fn result(value: &serde_json::Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "PEER_RESULT {value}")?;
    Ok(())
}

/// The file that says which tasks ran: when each was first started, eight bytes each, then how often, one byte each. Written at
/// once, not mapped: that takes no `unsafe`, and whoever has it mapped sees it all the same.
#[derive(Debug)]
struct Ledger {
    file: File,
    path: PathBuf,
    begun: Vec<AtomicBool>,
    runs: Vec<AtomicU8>,
}

impl Ledger {
    fn open(tasks: usize) -> anyhow::Result<Self> {
        let path = PathBuf::from(std::env::var_os("PEERS_LEDGER").context("PEERS_LEDGER is the file of starts")?);
        let file = File::options().read(true).write(true).open(&path).with_context(|| format!("{path:?}"))?;
        let begun = (0..tasks).map(|_| AtomicBool::new(false)).collect();
        let runs = (0..tasks).map(|_| AtomicU8::new(0)).collect();
        Ok(Self { file, path, begun, runs })
    }

    fn hit(&self, payload: &str) -> anyhow::Result<()> {
        let index: usize = payload.get(..12).context("a payload begins with its number")?.parse()?;
        let (Some(begun), Some(runs)) = (self.begun.get(index), self.runs.get(index)) else {
            bail!("there is no task {index}");
        };
        if !begun.swap(true, Ordering::Relaxed) {
            self.file.write_all_at(&now_ns().to_le_bytes(), 8 * index as u64)?;
        }
        let count = runs.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.file.write_all_at(&[count], (8 * self.begun.len() + index) as u64)?;
        Ok(())
    }

    fn start(&self, index: usize) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8 * index as u64).with_context(|| format!("{:?}", self.path))?;
        Ok(u64::from_le_bytes(bytes))
    }
}
