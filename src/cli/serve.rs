//! `lineshaft serve`: runs a server.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::SystemClock;
use crate::config::{self, Config, Embedded, Sources};
use crate::failpoint::Failpoints;
use crate::server::{Server, in_memory, open};
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
    /// A YAML file; an existing Machinery config.yml will do.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:7340].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of the embedded store [default: ./lineshaft-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// For tests: keep everything in memory, whatever broker and result_backend the configuration names. All tasks, states
    /// and results are lost when this server ends, however it ends.
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Listen beyond loopback although nothing is encrypted and nobody is asked who they are.
    #[arg(long)]
    insecure: bool,
}

impl Command {
    /// Serves until a signal comes. Answers 0 after a drain, 1 if the server cannot run, 2 for a configuration that cannot
    /// be used.
    pub async fn run(self) -> ExitCode {
        let is_ephemeral = self.ephemeral;
        let loaded = match config::load(self.sources()) {
            Ok(loaded) => loaded,
            Err(error) => return told(2, &error),
        };
        if let Err(error) = telemetry::start(&loaded.config.log) {
            return told(2, &error);
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let embedded = match config::combination(&loaded.config) {
            _ if is_ephemeral => None,
            Ok(embedded) => Some(embedded),
            Err(error) => return told(2, &error),
        };
        match serve(&loaded.config, embedded.as_ref()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => told(1, &format!("{error:#}")),
        }
    }

    fn sources(self) -> Sources {
        let flags = [
            ("server.listen", self.listen.map(|addr| addr.to_string())),
            ("server.data_dir", self.data_dir.map(|dir| dir.to_string_lossy().into_owned())),
            ("server.insecure", self.insecure.then(|| "true".to_owned())),
        ];
        Sources {
            file: self.config,
            // A variable that is not UTF-8 is none of ours.
            environment: std::env::vars_os()
                .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
                .collect(),
            flags: flags.into_iter().filter_map(|(key, text)| Some((key, text?))).collect(),
        }
    }
}

fn told(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    // A closed standard error leaves only the exit code to tell it.
    let _ = writeln!(std::io::stderr(), "lineshaft: {error}");
    ExitCode::from(code)
}

/// Serves from the embedded store, or from memory if there is none.
async fn serve(config: &Config, embedded: Option<&Embedded>) -> anyhow::Result<()> {
    let plan = std::env::var(FAILPOINTS).unwrap_or_default();
    let failpoints = Failpoints::parse(&plan).map_err(anyhow::Error::msg)?;
    // Before anything is opened, so that a signal that comes meanwhile is kept.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let clock = Arc::new(SystemClock);
    let stores = match embedded {
        // Reading a large store takes a while, and nothing else has to run meanwhile.
        Some(embedded) => open(embedded, clock.clone())?,
        None => in_memory(clock.clone()),
    };
    let server = Server::bind(config, stores, clock, failpoints).await?;
    // Programs read this line to learn the port.
    let line = writeln!(std::io::stdout(), "listening on http://{}", server.addr());
    line.and_then(|()| std::io::stdout().flush())
        .unwrap_or_else(|error| tracing::warn!(%error, "nobody reads our output"));
    match embedded {
        Some(embedded) => tracing::info!(dir = %embedded.dir.display(), addr = %server.addr(), "serving"),
        None => tracing::warn!(addr = %server.addr(), "serving from memory: everything is lost when this server ends"),
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
