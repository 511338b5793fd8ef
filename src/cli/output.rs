//! What commands print: tables for people, lines of JSON for programs, one sentence on stderr for errors.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::{Map, Number, Value};

use super::{Exit, Failure, span};
use crate::clock::{Clock, SystemClock, WallTime};

/// The longest text of arguments, results or an error in a table, characters; `--json` is never cut.
const CELL_CHARS_MAX: usize = 200;

/// Columns of short words, which are not broken to make room for others.
const WHOLE: [&str; 2] = ["STATUS", "SENT"];

/// Writes one line to stdout.
///
/// # Errors
/// [`Exit::Ok`] with an empty message if the reader went away (`| head`), which is no failure; else [`Exit::Other`].
pub fn line(text: &str) -> Result<(), Failure> {
    self::text(&format!("{text}\n"))
}

/// Writes to stdout, all at once.
///
/// # Errors
/// As [`line()`].
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Ok, ""),
        _ => Failure::new(Exit::Other, format!("stdout cannot be written: {error}")),
    })
}

/// Writes a remark for people to stderr, where a program that reads stdout does not meet it.
pub fn remark(text: &str) {
    // Nothing is left to be told to, if stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ends a command: prints its failure, if any, and gives its exit code.
pub fn finish(end: Result<Exit, Failure>, json: bool) -> Exit {
    match end {
        Ok(exit) => exit,
        Err(failure) => {
            if failure.exit == Exit::Ok {
                return Exit::Ok;
            }
            if json {
                remark(&failure.to_json().to_string());
            } else {
                let word = if colours(&io::stderr()) { "\x1b[1;31merror\x1b[0m" } else { "error" };
                remark(&format!("{word}: {failure}"));
            }
            failure.exit
        }
    }
}

/// True if `stream` is a terminal that shows colours and nobody asked for none (`NO_COLOR`, `TERM=dumb`).
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A table with these headings. On a terminal it is as wide as that, and cells are wrapped, except those of the first
/// column, whose ids stay in one piece to be copied, and statuses. Elsewhere every row is one line, for `grep` and its like.
pub fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    if let Some(width) = width() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        // Columns are set apart by two spaces, and begin at the left edge.
        column.set_padding((0, 2));
        let heading = headings.get(number).map_or(0, |heading| heading.len());
        column.set_constraint(match number {
            0 => ColumnConstraint::ContentWidth,
            _ if headings.get(number).is_some_and(|heading| WHOLE.contains(heading)) => ColumnConstraint::ContentWidth,
            _ => ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(heading + 2).unwrap_or(0))),
        });
    }
    table
}

/// Prints a table, without the spaces that fill its last column.
///
/// # Errors
/// As [`line()`].
pub fn print_table(table: &Table) -> Result<(), Failure> {
    for row in table.lines() {
        line(row.trim_end())?;
    }
    Ok(())
}

/// Columns: as `COLUMNS` says, else as the terminal is wide; none if it is no terminal.
pub fn width() -> Option<u16> {
    let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    asked.or_else(|| Some(rustix::termios::tcgetwinsize(io::stdout()).ok()?.ws_col)).filter(|columns| *columns > 0)
}

/// Text for a cell: on one line, control characters escaped, cut at 200 characters.
pub fn cell(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == CELL_CHARS_MAX {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// How long ago a moment was, for people; `in …` if it is to come, `–` if it is not known.
pub fn age(moment: Option<&prost_types::Timestamp>) -> String {
    let Some(moment) = moment.and_then(wall) else { return "–".into() };
    let now = SystemClock.wall();
    if moment > now { format!("in {}", span::human(now.until(moment))) } else { span::human(moment.until(now)) }
}

/// A moment of the protocol as our own; `None` outside 1970 to 2554.
pub fn wall(moment: &prost_types::Timestamp) -> Option<WallTime> {
    let seconds = u64::try_from(moment.seconds).ok()?.checked_mul(1_000_000_000)?;
    Some(WallTime(seconds.checked_add(u64::try_from(moment.nanos).ok()?)?))
}

/// A moment as protobuf's JSON has it (`2026-11-24T06:40:24.5Z`), or null.
pub fn moment(moment: Option<&prost_types::Timestamp>) -> Value {
    moment.map_or(Value::Null, |moment| moment.to_string().into())
}

/// A span in seconds, as a number.
pub fn seconds(span: Duration) -> Value {
    Number::from_f64(span.as_secs_f64()).map_or(Value::Null, Value::Number)
}

/// An object with these members, in this order as far as serde_json keeps one.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(Map::from_iter(members.map(|(key, value)| (key.to_owned(), value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_on_one_line_and_harmless() {
        assert_eq!(cell("a\nb\x1b[31m"), "a b\\u{1b}[31m");
        assert_eq!(cell(&"x".repeat(300)).chars().count(), CELL_CHARS_MAX + 1);
    }

    #[test]
    fn tables_have_no_trailing_blanks_and_begin_at_the_edge() {
        let mut table = table(["TASK", "STATUS"]);
        table.add_row(["task_1", "SUCCESS"]);
        let rows: Vec<String> = table.lines().map(|row| row.trim_end().to_owned()).collect();
        assert_eq!(rows, ["TASK    STATUS", "task_1  SUCCESS"]);
    }
}
