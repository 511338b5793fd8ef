//! The command line: one file per subcommand.

use std::process::ExitCode;

pub mod serve;

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
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(command) => command.run().await,
        }
    }
}
