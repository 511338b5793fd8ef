//! What the exit code of a command says. The table is printed by `--help` and kept in `docs/cli.md`.

use std::process::ExitCode;

/// The end of a command, as its caller's shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: the task ended in FAILURE, an expectation of `demo` did not hold, or a check of `doctor` failed.
    TaskFailed,
    /// 2: the command line has no valid meaning, or the server found a field invalid. Do not repeat it unchanged.
    Usage,
    /// 3: no such task or queue.
    NotFound,
    /// 4: no server answers, or it is stopping, full or without its store. Nothing was written; repeat it later.
    Unavailable,
    /// 5: the time allowed has passed. The task goes on.
    TimedOut,
    /// 6: anything else, the outcome of a send that is not known included: look with `state` before sending again.
    Other,
}

/// The table, as it stands at the end of each `--help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  the task ended in FAILURE, or a check of `doctor` failed
  2  wrong usage, a configuration that cannot be used, or the server found a field invalid
  3  no such task or queue
  4  no server answers, or it is stopping, full or without its store: repeat later
  5  the time allowed has passed; the task goes on
  6  any other error";

impl Exit {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::TaskFailed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unavailable => 4,
            Self::TimedOut => 5,
            Self::Other => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_table_of_the_help() {
        let guide = include_str!("../docs/cli.md");
        for row in HELP.lines().skip(1) {
            let (number, meaning) = row.trim().split_once("  ").unwrap();
            assert!(guide.contains(&format!("| {number} | {meaning} |")), "{row}");
        }
    }
}
