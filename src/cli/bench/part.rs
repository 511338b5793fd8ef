//! A part of the measurement as a process of its own, so that its CPU time is its own, and nothing else runs on its core.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{commit, cpu, echo};
use crate::cli::{Exit, Failure, output, span};

/// A part of `bench`, started by it.
#[derive(Debug, clap::Args)]
pub struct Command {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Serve echoes until stdin ends.
    EchoServe,
    /// Call an echo.
    EchoCall {
        #[command(flatten)]
        echo: Echo,
        /// Calls at a time.
        #[arg(long)]
        in_flight: u32,
    },
    /// Stream to an echo.
    EchoStream {
        #[command(flatten)]
        echo: Echo,
        /// Messages on their way.
        #[arg(long)]
        window: u32,
    },
    /// Commit to a store.
    Commit {
        /// Where its data goes.
        #[arg(long)]
        dir: PathBuf,
        /// How long each of the plan is measured.
        #[arg(long, value_parser = span::parse)]
        span: Duration,
    },
}

#[derive(Debug, clap::Args)]
struct Echo {
    /// Where it listens.
    #[arg(long)]
    url: String,
    /// Its process.
    #[arg(long)]
    pid: u32,
    /// How long it is measured.
    #[arg(long, value_parser = span::parse)]
    span: Duration,
}

/// How much was done, and at which cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Tasks.
    pub count: u64,
    /// Wall-clock time, seconds.
    pub seconds: f64,
    /// CPU time of the process that measured, seconds.
    pub cpu_seconds: f64,
    /// CPU time of the process on the other side, seconds, if there is one.
    pub server_cpu_seconds: Option<f64>,
}

impl Sample {
    /// Tasks per second of wall-clock time.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// Tasks per CPU-second of the busier process.
    pub fn per_cpu(&self) -> f64 {
        self.count as f64 / self.server_cpu_seconds.unwrap_or(0.0).max(self.cpu_seconds)
    }

    fn to_json(self) -> Value {
        output::object([
            ("count", self.count.into()),
            ("seconds", self.seconds.into()),
            ("cpu_seconds", self.cpu_seconds.into()),
            ("server_cpu_seconds", self.server_cpu_seconds.into()),
        ])
    }

    /// Reads what [`Command`] prints.
    pub fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(Self {
            count: value.get("count")?.as_u64()?,
            seconds: value.get("seconds")?.as_f64()?,
            cpu_seconds: value.get("cpu_seconds")?.as_f64()?,
            server_cpu_seconds: value.get("server_cpu_seconds")?.as_f64(),
        })
    }
}

impl Command {
    /// Runs the part.
    pub async fn run(self) -> Exit {
        // A thread of its own with a runtime of its own: the program's runtime has a thread for each core, which is not what is
        // measured.
        let ended = tokio::task::spawn_blocking(|| {
            match self.part {
                Part::EchoServe => cpu::pin(0),
                Part::EchoCall { .. } | Part::EchoStream { .. } => cpu::pin(1),
                Part::Commit { .. } => {}
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::new(Exit::Other, format!("there is no runtime: {error}")))?;
            runtime.block_on(self.part.run())
        });
        let ended = ended.await.unwrap_or_else(|error| Err(Failure::new(Exit::Other, error.to_string())));
        output::finish(ended.map(|()| Exit::Ok), false)
    }
}

impl Part {
    async fn run(self) -> Result<(), Failure> {
        let tell = |sample: Sample| output::line(&sample.to_json().to_string());
        match self {
            Self::EchoServe => echo::serve(end_of_stdin()).await,
            Self::EchoCall { echo, in_flight } => tell(echo::call(&echo.url, echo.pid, in_flight, echo.span).await?),
            Self::EchoStream { echo, window } => tell(echo::stream(&echo.url, echo.pid, window, echo.span).await?),
            Self::Commit { dir, span } => commit::run(&dir, span, tell).await,
        }
    }
}

/// The one who started this process holds the other end, so it ends with it, whatever happens to it.
async fn end_of_stdin() {
    let read = tokio::task::spawn_blocking(|| io::stdin().lock().read_to_end(&mut Vec::new()));
    // An error is an end as well.
    let _ = read.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_survives_being_told() {
        for server_cpu_seconds in [None, Some(0.75)] {
            let sample = Sample { count: 300, seconds: 1.5, cpu_seconds: 0.5, server_cpu_seconds };
            assert_eq!(Sample::from_json(&sample.to_json().to_string()), Some(sample));
        }
        assert_eq!(Sample::from_json("{}"), None);
    }

    #[test]
    fn the_busier_process_counts() {
        let sample = Sample { count: 300, seconds: 2.0, cpu_seconds: 0.5, server_cpu_seconds: Some(1.0) };
        assert_eq!((sample.rate(), sample.per_cpu()), (150.0, 300.0));
        assert_eq!(Sample { server_cpu_seconds: None, ..sample }.per_cpu(), 600.0);
    }
}
