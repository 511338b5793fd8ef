//! How far long work has come: one line on stderr that is written over, and gone before the answer is printed.
//!
//! Our own, since `indicatif` brings threads, templates and a second library for terminals, and one line that is told how
//! far it is needs none of them.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::clock::{Clock, Instant, SystemClock};

/// From one line to the next, at least.
const BETWEEN: Duration = Duration::from_millis(100);

/// Cells of the bar.
const BAR_CELLS: u64 = 24;

/// Columns, if the terminal does not tell how many it has.
const COLUMNS: u16 = 80;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Tasks.
    Tasks,
    /// Bytes.
    Bytes,
}

/// Work on its way. The line is taken away when this is dropped.
#[derive(Debug)]
pub struct Progress {
    doing: &'static str,
    unit: Unit,
    total: Option<u64>,
    last: Option<Instant>,
    /// False: nobody watches, or a program reads.
    is_watched: bool,
}

impl Progress {
    /// Begins. `doing` is what is done, as `purging`; `total` how much there is to do, if that is known.
    ///
    /// Nothing is ever shown if `json` was asked for, or stderr is no terminal that can move its cursor.
    pub fn begin(doing: &'static str, unit: Unit, total: Option<u64>, json: bool) -> Self {
        let can_move = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let is_watched = !json && can_move && io::stderr().is_terminal();
        Self { doing, unit, total, last: None, is_watched }
    }

    /// How much there is to do has become known.
    pub fn of(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// False: nothing is ever shown.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Shows that `done` is done, unless the last line is younger than 100 ms. To be called where more is to come, so that
    /// work of one step shows nothing.
    pub fn show(&mut self, done: u64) {
        if !self.is_watched || !self.is_due(SystemClock.now()) {
            return;
        }
        // Longer than the terminal is wide, it would be wrapped, and could not be taken away.
        let room = usize::from(width().saturating_sub(1));
        let text: String = line(self.doing, self.unit, done, self.total).chars().take(room).collect();
        write(&text);
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Takes the line away, before something else is printed; it may come again.
    pub fn clear(&mut self) {
        if self.is_watched && self.last.is_some() {
            write("");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn width() -> u16 {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

fn write(text: &str) {
    // Nothing is lost if it cannot be written.
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}

/// As `purging  [######                  ]  250 of 1000 tasks`.
fn line(doing: &str, unit: Unit, done: u64, total: Option<u64>) -> String {
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{doing}  {} so far", amount(unit, done));
    };
    let bar = bar(done, total);
    match unit {
        Unit::Tasks => format!("{doing}  {bar}  {done} of {}", amount(unit, total)),
        Unit::Bytes => format!("{doing}  {bar}  {} of {}", amount(unit, done), amount(unit, total)),
    }
}

/// As `[######                  ]`.
pub fn bar(done: u64, total: u64) -> String {
    // More may have come meanwhile.
    let part = u128::from(done.min(total)) * u128::from(BAR_CELLS) / u128::from(total.max(1));
    let full = usize::try_from(part).unwrap_or(0);
    let empty = usize::try_from(BAR_CELLS).unwrap_or(0).saturating_sub(full);
    format!("[{}{}]", "#".repeat(full), " ".repeat(empty))
}

fn amount(unit: Unit, count: u64) -> String {
    match unit {
        Unit::Tasks if count == 1 => "1 task".into(),
        Unit::Tasks => format!("{count} tasks"),
        Unit::Bytes => bytes(count),
    }
}

// One decimal: more would only flicker.
#[allow(clippy::cast_precision_loss)] // Beyond 2^53 bytes it is no matter.
fn bytes(count: u64) -> String {
    let (unit, size) = match count {
        0..=0x3ff => return format!("{count} B"),
        0x400..=0xf_ffff => ("KiB", 1u64 << 10),
        0x10_0000..=0x3fff_ffff => ("MiB", 1 << 20),
        _ => ("GiB", 1 << 30),
    };
    format!("{:.1} {unit}", count as f64 / size as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_bar_where_the_end_is_known() {
        assert_eq!(line("purging", Unit::Tasks, 1, None), "purging  1 task so far");
        assert_eq!(line("purging", Unit::Tasks, 0, Some(0)), "purging  0 tasks so far");
        assert_eq!(
            line("purging", Unit::Tasks, 250, Some(1_000)),
            "purging  [######                  ]  250 of 1000 tasks"
        );
        assert!(line("purging", Unit::Tasks, 12, Some(10)).contains("[########################]  12 of 10"));
        assert_eq!(
            line("restoring", Unit::Bytes, u64::MAX, Some(u64::MAX)).matches('#').count(),
            usize::try_from(BAR_CELLS).unwrap()
        );
        assert_eq!(line("copying", Unit::Bytes, 3 << 20, None), "copying  3.0 MiB so far");
    }

    #[test]
    fn lines_keep_their_distance_and_programs_see_none() {
        let mut progress = Progress::begin("purging", Unit::Tasks, None, true);
        let begun = SystemClock.now();
        assert!(progress.is_due(begun));
        assert!(!progress.is_due(begun + Duration::from_millis(99)));
        assert!(progress.is_due(begun + BETWEEN));
        assert!(!progress.is_watched, "a program reads");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (count, text) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
