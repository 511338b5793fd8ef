//! `bench`: what this server does on this machine, and what its parts could do at most.
//!
//! The figures come from the public API over loopback, against `serve` of this very program. The ceilings are measured in the
//! same run: gRPC without a service, and the store without anything around it. A figure is held only against a ceiling
//! that is as strong as it is known to be ([`mod@reference`]).

use std::path::PathBuf;
use std::time::Duration;

pub mod ceilings;
pub mod commit;
pub mod cpu;
pub mod echo;
pub mod figures;
pub mod part;
pub mod reference;
pub mod report;

use super::{Exit, Failure, demo, output};
use figures::{BATCH, CONCURRENCY, Way};
use reference::Ceiling;
use report::{Figure, Report};

/// Measure this server, and hold it against what gRPC and the store can do alone.
///
/// Takes less than four minutes, with --quick less than one. Everything runs on loopback, on data of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:\n  0  measured\n  \
    1  measured, but gRPC or the store alone are slower than they are known to be (the machine is busy, or this is not a release build): ratios are not told\n  \
    4  a part of the measurement did not answer\n  5  a part of the measurement took too long\n  6  it could not be measured")]
pub struct Command {
    /// Measure each figure for a shorter time.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object, for programs.
    #[arg(long)]
    json: bool,
    /// Where the data of the measured stores goes: a real disk, not one in memory [default: the system's temporary
    /// directory].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// How long things are measured.
struct Scale {
    /// Each ceiling.
    ceiling: Duration,
    /// Each rate.
    figure: Duration,
    /// Tasks that are worked, alone and from end to end.
    tasks: u32,
    /// Latency.
    latency: Duration,
}

const QUICK: Scale = Scale {
    ceiling: Duration::from_millis(1_000),
    figure: Duration::from_millis(1_000),
    tasks: 8_000,
    latency: Duration::from_secs(2),
};

const FULL: Scale = Scale {
    ceiling: Duration::from_millis(3_000),
    figure: Duration::from_millis(4_000),
    tasks: 40_000,
    latency: Duration::from_secs(10),
};

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let end = tokio::select! {
            end = self.measure() => end,
            // Dropping the measurement kills its processes and removes their directories.
            () = demo::asked_to_stop() => Err(Failure::new(Exit::Other, "interrupted")),
        };
        output::finish(end, self.json)
    }

    async fn measure(&self) -> Result<Exit, Failure> {
        let scale = if self.quick { QUICK } else { FULL };
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        self.remark("measuring gRPC alone");
        let mut ceilings = ceilings::echoes(scale.ceiling).await?;
        self.remark("measuring the store alone");
        ceilings.extend(ceilings::commits(&dir, scale.ceiling).await?);

        let mut figures = Vec::new();
        // A call carries one task, or what came together while another was under way: all other producers' tasks at
        // most, or a batch. What is committed at once is what can be under way at once.
        let sends = [
            (Way::Unary, 1, Ceiling::Unary(1), 1, Ceiling::Enqueue(1)),
            (Way::Unary, 16, Ceiling::Unary(10), 1, Ceiling::Enqueue(16)),
            (Way::Unary, 64, Ceiling::Unary(100), 1, Ceiling::Enqueue(64)),
            (Way::Coalesced, 16, Ceiling::Unary(1), 16, Ceiling::Enqueue(16)),
            (Way::Coalesced, 64, Ceiling::Unary(1), 64, Ceiling::Enqueue(64)),
            (Way::Batch, 4, Ceiling::Unary(10), BATCH, Ceiling::Enqueue(1024)),
        ];
        for (way, producers, echo, in_a_call, commit) in sends {
            let name = match way {
                Way::Unary => format!("send, a call each, {producers} producers"),
                Way::Coalesced => format!("send, Rust client, {producers} producers"),
                Way::Batch => format!("send, {BATCH} in a call, {producers} producers"),
            };
            self.remark(&format!("measuring: {name}"));
            let sample = figures::enqueue(&dir, way, producers, scale.figure).await?;
            figures.push(Figure { name, sample, parts: vec![(echo, 1.0 / f64::from(in_a_call)), (commit, 1.0)] });
        }

        self.remark("measuring: drain");
        figures.push(Figure {
            name: format!("drain, one worker, {CONCURRENCY} slots"),
            sample: figures::drain(&dir, scale.tasks).await?,
            parts: vec![(Ceiling::Stream(256), 1.0), (Ceiling::Drain(64), 1.0)],
        });
        self.remark("measuring: end to end");
        figures.push(Figure {
            name: "end to end, Rust client, 16 producers".to_owned(),
            sample: figures::end_to_end(&dir, 16, scale.tasks).await?,
            parts: vec![(Ceiling::Unary(1), 1.0 / 16.0), (Ceiling::Stream(256), 1.0), (Ceiling::Cycle(16), 1.0)],
        });
        self.remark("measuring: latency");
        let latency = figures::latency(&dir, scale.latency).await?;
        self.tell(&Report { figures, latency, ceilings })
    }

    fn remark(&self, text: &str) {
        if !self.json {
            output::remark(text);
        }
    }

    fn tell(&self, report: &Report) -> Result<Exit, Failure> {
        if self.json {
            output::line(&report.to_json().to_string())?;
        } else {
            report.print()?;
        }
        let weaknesses = report.weaknesses();
        if weaknesses.is_empty() {
            return Ok(Exit::Ok);
        }
        let build = if cfg!(debug_assertions) { "this is not a release build" } else { "is the machine busy?" };
        Err(Failure::new(
            Exit::TaskFailed,
            format!("no ratios are told against weak ceilings ({build}): {}", weaknesses.join("; ")),
        ))
    }
}
