//! `lineshaft serve`: runs a server.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config::Given;
use crate::clock::SystemClock;
use crate::config::reload::{self, Look, Reloader};
use crate::config::{Combination, Config};
use crate::failpoint::Failpoints;
use crate::server::{Server, in_memory, open};
use crate::service::Service;
use crate::telemetry;

/// The variable with the plan of failures, for tests.
const FAILPOINTS: &str = "LINESHAFT_FAILPOINTS";

/// Exit code of a process that a signal told to stop at once: 128 and the number of SIGINT, as shells have it.
const STOPPED_AT_ONCE: i32 = 130;

/// Run a server: gRPC, health, reflection and HTTP on one port.
///
/// The first SIGTERM or Ctrl-C drains it, the second stops it at once; nothing that was accepted is lost either way.
#[derive(Debug, clap::Args)]
pub struct Command {
    #[command(flatten)]
    given: Given,
    /// Look at the file every 10 s, and on SIGHUP, and put in force what may change while the server runs.
    #[arg(long, requires = "config")]
    reload: bool,
    /// For tests: keep everything in memory, whatever broker and result_backend the configuration names. All tasks, states
    /// and results are lost when this server ends, however it ends.
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
}

impl Command {
    /// Serves until a signal comes. Answers 0 after a drain, 1 if the server cannot run, 2 for a configuration that cannot
    /// be used.
    pub async fn run(self) -> ExitCode {
        let (reloader, loaded) = match Reloader::start(self.given.sources()) {
            Ok(read) => read,
            Err(error) => return told(2, &error),
        };
        if let Err(error) = telemetry::start(&loaded.config.log) {
            return told(2, &error);
        }
        let stores = match loaded.stores() {
            _ if self.ephemeral => None,
            Ok(stores) => Some(stores),
            Err(error) => return told(2, &error),
        };
        let taken: Vec<String> = loaded.taken().into_iter().map(|shown| shown.key).collect();
        if !taken.is_empty() {
            tracing::info!("taken from Machinery's keys in the file: {}", taken.join(", "));
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        match serve(&loaded.config, stores.as_ref(), self.reload.then_some(reloader)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => told(1, &format!("{error:#}")),
        }
    }
}

fn told(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    // A closed standard error leaves only the exit code to tell it.
    let _ = writeln!(std::io::stderr(), "lineshaft: {error}");
    ExitCode::from(code)
}

/// Serves from the stores named, or from memory if none are.
async fn serve(config: &Config, named: Option<&Combination>, reloader: Option<Reloader>) -> anyhow::Result<()> {
    let plan = std::env::var(FAILPOINTS).unwrap_or_default();
    let failpoints = Failpoints::parse(&plan).map_err(anyhow::Error::msg)?;
    // Before anything is opened, so that a signal that comes meanwhile is kept.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    // Only a server that reloads takes it for a request: any other ends with its terminal.
    let reloader = reloader.map(|r| signal(SignalKind::hangup()).map(|hangup| (r, hangup))).transpose();
    let reloader = reloader.context("cannot wait for SIGHUP")?;
    let clock = Arc::new(SystemClock);
    let stores = match named {
        // Reading a large store takes a while, and nothing else has to run meanwhile.
        Some(named) => open(named, config, clock.clone()).await?,
        None => in_memory(clock.clone()),
    };
    let server = Server::bind(config, stores, clock, failpoints).await?;
    // Programs read this line to learn the port.
    let line = writeln!(std::io::stdout(), "listening on http://{}", server.addr());
    line.and_then(|()| std::io::stdout().flush())
        .unwrap_or_else(|error| tracing::warn!(%error, "nobody reads our output"));
    match named {
        Some(named) => tracing::info!(stores = %named, addr = %server.addr(), "serving"),
        None => tracing::warn!(addr = %server.addr(), "serving from memory: everything is lost when this server ends"),
    }

    // Ends with the process: a change while the server drains does no harm.
    if let Some((reloader, hangup)) = reloader {
        tokio::spawn(keep_reading(reloader, hangup, server.service().clone()));
    }

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut running = std::pin::pin!(server.run(async { drop(stopped.await) }));
    tokio::select! {
        end = &mut running => return Ok(end?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // `running` holds the other end.
    let _ = stop.send(());
    tokio::select! {
        end = &mut running => Ok(end?),
        _ = terminate.recv() => std::process::exit(STOPPED_AT_ONCE),
        _ = interrupt.recv() => std::process::exit(STOPPED_AT_ONCE),
    }
}

/// Looks at the configuration again and again, for as long as the process runs.
async fn keep_reading(mut reloader: Reloader, mut hangup: Signal, service: Service) {
    let mut often = tokio::time::interval(reload::PERIOD);
    often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            _ = often.tick() => false,
            heard = hangup.recv() => heard.is_some(),
        };
        // A file on a network disk may take its time, and the runtime has calls to answer.
        let looked = tokio::task::spawn_blocking(move || {
            let look = reloader.look(asked);
            (reloader, look)
        });
        let Ok((back, look)) = looked.await else {
            tracing::error!("the configuration is not read any more: reading it failed");
            return;
        };
        reloader = back;
        match look {
            Look::Same => {}
            Look::Refused(error) => {
                tracing::error!(%error, "the configuration is not changed: the file cannot be used")
            }
            Look::Changed { config, differences, warnings } => {
                if let Err(error) = telemetry::set_level(&config.log.level) {
                    tracing::error!(error, "the level of the log is not changed");
                }
                service.reconfigure(config.settings());
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                for change in &differences {
                    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
                    let (key, from, to) = (&change.key, text(&change.from), text(&change.to));
                    if change.is_live {
                        tracing::info!(key, from, to, "configuration changed");
                    } else {
                        tracing::warn!(key, from, to, "configuration changed; in force after the next start");
                    }
                }
                tracing::info!(differences = differences.len(), "configuration read again");
            }
        }
    }
}
