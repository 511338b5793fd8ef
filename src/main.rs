//! The program: reads the command line and runs one command.

use std::process::ExitCode;

use clap::Parser;

/// Less than half of the processor time of the system's, where each task is many small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    lineshaft::cli::Cli::parse().run().await
}
