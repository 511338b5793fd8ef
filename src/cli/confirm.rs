//! Asking before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{Exit, Failure};

/// Asks on the terminal whether to do `what` (`delete 3 dead tasks`); `true`: yes. Anything but `y` or `yes` is no.
///
/// # Errors
/// [`Exit::Usage`] where there is no terminal to ask on: the caller must say `--yes`. [`Exit::Other`] if it breaks.
pub fn ask(what: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!("this would {what}; without a terminal to ask on, say --yes")));
    }
    let broken = |error: io::Error| Failure::new(Exit::Other, format!("the terminal cannot be read: {error}"));
    let mut out = io::stderr().lock();
    write!(out, "{what}? [y/N] ").and_then(|()| out.flush()).map_err(broken)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(broken)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for yes in ["y\n", "Y\n", "yes\n", " YES "] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "no\n", "yeah\n", "ja\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
