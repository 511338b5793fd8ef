//! The program: reads the command line and runs one command.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    lineshaft::cli::Cli::parse().run().await
}
