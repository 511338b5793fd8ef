//! Measures the parts, each in processes of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::commit;
use super::part::Sample;
use super::reference::{Ceiling, Measured};
use crate::cli::demo::process::Scratch;
use crate::cli::{Exit, Failure};

/// How much longer than its measurement a part may take; filling the store takes most of it.
const SLACK: Duration = Duration::from_secs(60);

/// What is measured of the echo.
const ECHOES: [Ceiling; 4] = [Ceiling::Unary(1), Ceiling::Unary(10), Ceiling::Unary(100), Ceiling::Stream(256)];

/// A part that runs. Killed when dropped.
struct Part {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    fn start(args: &[&str]) -> Result<Self, Failure> {
        let fail = |error: std::io::Error| Failure::new(Exit::Other, format!("a part cannot be started: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(fail)?);
        command.arg("bench-part").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(fail)?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new(Exit::Other, "a part has no stdout"))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    async fn line(&mut self, within: Duration) -> Result<String, Failure> {
        match timeout(within, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            // It has said why on stderr, which it shares with this process.
            Ok(_) => Err(Failure::new(Exit::Other, "a part of the measurement failed")),
            Err(_) => Err(Failure::new(Exit::TimedOut, "a part of the measurement took too long")),
        }
    }

    async fn sample(&mut self, within: Duration) -> Result<Sample, Failure> {
        let line = self.line(within).await?;
        Sample::from_json(&line).ok_or_else(|| Failure::new(Exit::Other, format!("a part told {line:?}")))
    }

    async fn stop(mut self) -> Result<(), Failure> {
        // Nothing is lost with it.
        self.child.kill().await.map_err(|error| Failure::new(Exit::Other, format!("a part cannot be ended: {error}")))
    }
}

fn measured(ceiling: Ceiling, sample: Sample) -> Measured {
    Measured { ceiling, rate: sample.rate(), per_cpu: sample.per_cpu() }
}

/// The echo, each way for `span`.
///
/// # Errors
/// A part fails or takes too long.
pub async fn echoes(span: Duration) -> Result<Vec<Measured>, Failure> {
    let mut server = Part::start(&["echo-serve"])?;
    let line = server.line(SLACK).await?;
    let (_, url) = line.split_once("listening on ").unwrap_or(("", &line));
    let pid = server.child.id().unwrap_or(0).to_string();
    let span_text = format!("{}ms", span.as_millis());
    let mut all = Vec::new();
    for ceiling in ECHOES {
        let (part, option, number) = match ceiling {
            Ceiling::Stream(window) => ("echo-stream", "--window", window),
            Ceiling::Unary(n) | Ceiling::Cycle(n) | Ceiling::Enqueue(n) | Ceiling::Drain(n) => {
                ("echo-call", "--in-flight", n)
            }
        };
        let number = number.to_string();
        let args = [part, "--url", url, "--pid", &pid, "--span", &span_text, option, &number];
        let mut client = Part::start(&args)?;
        all.push(measured(ceiling, client.sample(span + SLACK).await?));
        client.stop().await?;
    }
    server.stop().await?;
    Ok(all)
}

/// The engine, each shape and size for `span`, its data in `dir`.
///
/// # Errors
/// As [`echoes`].
pub async fn commits(dir: &Path, span: Duration) -> Result<Vec<Measured>, Failure> {
    let scratch = Scratch::within(dir, "bench", "")?;
    let data = scratch.data();
    let mut part =
        Part::start(&["commit", "--dir", &data.to_string_lossy(), "--span", &format!("{}ms", span.as_millis())])?;
    let mut all = Vec::new();
    for ceiling in commit::PLAN {
        all.push(measured(ceiling, part.sample(span + SLACK).await?));
    }
    part.stop().await?;
    Ok(all)
}
