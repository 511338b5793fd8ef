//! A picture on the terminal that is drawn over in place. The modes of the terminal are left alone, and the cursor rests below the
//! picture, so that nothing is to be given back, whatever ends the program.

use std::fmt::{self, Write};
use std::io;

use crossterm::Command;
use crossterm::cursor::MoveUp;
use crossterm::style::{Attribute, SetAttribute, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::super::top::columns;
use super::super::{Failure, output};

/// Columns and lines, if the terminal does not tell how many it has.
const SIZE: (u16, u16) = (80, 24);

/// The picture that stands on the terminal.
#[derive(Debug, Default)]
pub struct Picture {
    /// Columns that are taken of each line.
    widths: Vec<u16>,
}

impl Picture {
    /// Columns and lines that a picture may have on the terminal of stdout as it is now: one less than there are of each, for
    /// the cursor, and so that no line is wrapped.
    pub fn room() -> (u16, u16) {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let told = size.map(|size| (size.ws_col, size.ws_row)).filter(|(columns, lines)| *columns > 0 && *lines > 0);
        let (columns, lines) = told.unwrap_or(SIZE);
        (columns.saturating_sub(1).max(1), lines.saturating_sub(1).max(1))
    }

    /// Draws over what was drawn before.
    ///
    /// # Errors
    /// As [`output::text`].
    pub fn show(&mut self, buffer: &Buffer, room: (u16, u16)) -> Result<(), Failure> {
        let mut out = String::new();
        // A string takes all that is written to it.
        let _ = self.over(&mut out, buffer, room);
        output::text(&out)
    }

    fn over(&mut self, out: &mut String, buffer: &Buffer, (columns, lines): (u16, u16)) -> fmt::Result {
        // At once, for terminals that can.
        BeginSynchronizedUpdate.write_ansi(out)?;
        // A terminal that became narrower has wrapped what stood there. What is above its first line is out of reach.
        let columns = columns.saturating_add(1);
        let up = self.widths.iter().map(|width| width.div_ceil(columns).max(1)).fold(0, u16::saturating_add).min(lines);
        if up > 0 {
            MoveUp(up).write_ansi(out)?;
        }
        self.widths.clear();
        for y in buffer.area().top()..buffer.area().bottom() {
            out.push('\r');
            self.widths.push(line(out, buffer, y)?);
            Clear(ClearType::UntilNewLine).write_ansi(out)?;
            out.push('\n');
        }
        Clear(ClearType::FromCursorDown).write_ansi(out)?;
        EndSynchronizedUpdate.write_ansi(out)
    }
}

/// Writes a line without the blanks at its end; the columns that it takes.
fn line(out: &mut String, buffer: &Buffer, y: u16) -> Result<u16, fmt::Error> {
    let (mut last, mut blanks, mut x, mut end) = (None, 0, 0, 0);
    while let Some(cell) = buffer.cell((x, y)) {
        let width = columns::width(cell.symbol()).max(1);
        x = x.saturating_add(width);
        if cell.symbol() == " " {
            blanks += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut blanks) {
            out.push(' ');
        }
        let style = (cell.fg, cell.modifier);
        if last != Some(style) {
            put_style(out, style)?;
            last = Some(style);
        }
        out.write_str(cell.symbol())?;
        end = x;
    }
    put_style(out, (Color::Reset, Modifier::empty()))?;
    Ok(end)
}

fn put_style(out: &mut String, (colour, modifier): (Color, Modifier)) -> fmt::Result {
    SetAttribute(Attribute::Reset).write_ansi(out)?;
    for (of, attribute) in [(Modifier::BOLD, Attribute::Bold), (Modifier::DIM, Attribute::Dim)] {
        if modifier.contains(of) {
            SetAttribute(attribute).write_ansi(out)?;
        }
    }
    match colour {
        Color::Red => SetForegroundColor(crossterm::style::Color::DarkRed).write_ansi(out),
        Color::Yellow => SetForegroundColor(crossterm::style::Color::DarkYellow).write_ansi(out),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    fn drawn(picture: &mut Picture, lines: &[&str], room: (u16, u16)) -> String {
        let mut out = String::new();
        picture.over(&mut out, &Buffer::with_lines(lines.iter().copied()), room).unwrap();
        out
    }

    #[test]
    fn a_picture_is_drawn_over_the_one_before_and_leaves_the_cursor_below_it() {
        let mut parser = vt100::Parser::new(8, 20, 0);
        let mut picture = Picture::default();
        // As the terminal does with what a program writes.
        let mut show = |parser: &mut vt100::Parser, lines: &[&str]| {
            parser.process(drawn(&mut picture, lines, (19, 7)).replace('\n', "\r\n").as_bytes());
        };
        parser.process(b"$ group g\r\n");
        show(&mut parser, &["one  two", "", "three"]);
        assert_eq!(parser.screen().contents(), "$ group g\none  two\n\nthree");
        assert_eq!(parser.screen().cursor_position(), (4, 0));
        show(&mut parser, &["one", "two"]);
        assert_eq!(parser.screen().contents(), "$ group g\none\ntwo");
        assert_eq!(parser.screen().cursor_position(), (3, 0));
        // Longer than what is left below, it moves up what was there before.
        show(&mut parser, &["1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(parser.screen().contents(), "1\n2\n3\n4\n5\n6\n7");
        show(&mut parser, &["a", "b", "c", "d", "e", "f", "g"]);
        assert_eq!(parser.screen().contents(), "a\nb\nc\nd\ne\nf\ng");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_drawn_over_too() {
        let mut picture = Picture::default();
        let first = drawn(&mut picture, &["0123456789", "short"], (19, 7));
        assert!(!first.contains("\x1b[1A") && !first.contains("\x1b[2A"), "{first:?}");
        assert!(drawn(&mut picture, &["x", "y"], (4, 7)).contains("\x1b[3A"), "ten columns in five are two lines");
        assert!(drawn(&mut picture, &["x"], (4, 1)).contains("\x1b[1A"), "what has left the terminal is out of reach");
    }

    #[test]
    fn styles_end_with_their_line() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 1));
        buffer.set_string(0, 0, "bad", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let mut out = String::new();
        assert_eq!(line(&mut out, &buffer, 0).unwrap(), 3);
        let (start, end) = out.split_once("bad").unwrap();
        assert!(start.contains("\x1b[1m") && end.ends_with("\x1b[0m"), "{out:?}");
    }
}
