//! `completions`, `man`: what shells and `man` know of this program, made from its own definition.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, Failure, output};

/// Print a script that completes commands and options in a shell.
///
/// For bash: `source <(lineshaft completions bash)`; for fish: `lineshaft completions fish | source`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page, or write the pages of all commands into a directory.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Write `lineshaft.1` and a page for each command here; the directory must exist.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    /// Runs the command.
    pub fn run(&self) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut visible(), NAME, &mut script);
        output::finish(print(&script), false)
    }
}

impl Man {
    /// Runs the command: 6 if a page cannot be written.
    pub fn run(&self) -> Exit {
        let end = match &self.dir {
            Some(dir) => clap_mangen::generate_to(visible(), dir)
                .map(|()| Exit::Ok)
                .map_err(|error| failed(&format!("pages cannot be written to {dir:?}"), &error)),
            None => {
                let mut page = Vec::new();
                let rendered = clap_mangen::Man::new(visible()).render(&mut page);
                rendered.map_err(|error| failed("the page cannot be made", &error)).and_then(|()| print(&page))
            }
        };
        output::finish(end, false)
    }
}

const NAME: &str = "lineshaft";

/// The program as people see it: commands that it runs by itself are no part of it, and generators do not all skip them.
fn visible() -> clap::Command {
    let whole = Cli::command();
    let commands: Vec<clap::Command> = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let about = whole.get_about().cloned().unwrap_or_default();
    clap::Command::new(NAME)
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommand_required(true)
        .subcommands(commands)
}

fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    output::line(String::from_utf8_lossy(bytes).trim_end()).map(|()| Exit::Ok)
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Other, format!("{what}: {error}"))
}
