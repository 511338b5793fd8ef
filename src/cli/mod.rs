//! The command line: one file per subcommand, on the Rust client.
//!
#![doc = include_str!("../docs/cli.md")]

use std::process::ExitCode;

pub mod backup;
#[cfg(feature = "embedded")]
pub mod bench;
pub mod cancel;
pub mod config;
pub mod confirm;
pub mod dead;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod failure;
pub mod filter;
pub mod group;
pub mod leases;
pub mod listing;
pub mod manual;
pub mod output;
pub mod pause;
pub mod pending;
pub mod progress;
pub mod purge;
pub mod queues;
pub mod remote;
pub mod restore;
pub mod send;
pub mod serve;
pub mod span;
pub mod state;
pub mod tasks;
pub mod together;
pub mod top;
pub mod value;
pub mod wait;
pub mod watch;
pub mod work;
pub mod workers;
pub mod workflow;

pub use exit::Exit;
pub use failure::Failure;
pub use remote::Remote;

/// One gRPC service in front of the task queue you already run.
#[derive(Debug, clap::Parser)]
#[command(name = "lineshaft", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Command),
    Demo(demo::Command),
    #[cfg(feature = "embedded")]
    Bench(bench::Command),
    Send(Box<send::Command>),
    State(state::Command),
    Wait(wait::Command),
    Watch(watch::Command),
    Group(group::Command),
    Cancel(cancel::Command),
    Queues(queues::Command),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Purge(purge::Command),
    Pending(pending::Command),
    Tasks(tasks::Command),
    Top(top::Command),
    Leases(leases::Command),
    Workers(workers::Command),
    Config(config::Command),
    Doctor(doctor::Command),
    Completions(manual::Completions),
    Man(manual::Man),
    Dead(dead::Command),
    Work(work::Command),
    Backup(backup::Command),
    Restore(restore::Command),
    #[command(hide = true)]
    DemoWorker(demo::worker::Command),
    #[cfg(feature = "embedded")]
    #[command(hide = true)]
    BenchPart(bench::part::Command),
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(command) => command.run().await,
            Command::Demo(command) => command.run().await.into(),
            #[cfg(feature = "embedded")]
            Command::Bench(command) => command.run().await.into(),
            Command::Send(command) => command.run().await.into(),
            Command::State(command) => command.run().await.into(),
            Command::Wait(command) => command.run().await.into(),
            Command::Watch(command) => command.run().await.into(),
            Command::Group(command) => command.run().await.into(),
            Command::Cancel(command) => command.run().await.into(),
            Command::Queues(command) => command.run().await.into(),
            Command::Pause(command) => command.run().await.into(),
            Command::Resume(command) => command.run().await.into(),
            Command::Purge(command) => command.run().await.into(),
            Command::Tasks(command) => command.run().await.into(),
            Command::Top(command) => command.run().await.into(),
            Command::Pending(command) => command.run().await.into(),
            Command::Leases(command) => command.run().await.into(),
            Command::Workers(command) => command.run().await.into(),
            Command::Config(command) => command.run().await.into(),
            Command::Doctor(command) => command.run().await.into(),
            Command::Completions(command) => command.run().into(),
            Command::Man(command) => command.run().into(),
            Command::Dead(command) => command.run().await.into(),
            Command::Work(command) => command.run().await.into(),
            Command::Backup(command) => command.run().await.into(),
            Command::Restore(command) => command.run().into(),
            Command::DemoWorker(command) => command.run().await.into(),
            #[cfg(feature = "embedded")]
            Command::BenchPart(command) => command.run().await.into(),
        }
    }
}
