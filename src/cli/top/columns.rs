//! Rows of text in columns, as many as the width has room for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

/// Between two columns.
const GAP: u16 = 1;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Over it.
    pub heading: &'static str,
    /// True for numbers.
    pub right: bool,
    /// To how few cells it may shrink; 0: it does not.
    pub shrinks_to: u16,
    /// Columns of the highest number go first where there is no room; 0: never.
    pub leaves: u8,
}

impl Column {
    /// A column of text.
    pub const fn text(heading: &'static str, shrinks_to: u16, leaves: u8) -> Self {
        Self { heading, right: false, shrinks_to, leaves }
    }

    /// A column of numbers.
    pub const fn number(heading: &'static str, leaves: u8) -> Self {
        Self { heading, right: true, shrinks_to: 0, leaves }
    }
}

/// Cells that a text takes.
pub fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// Which columns are shown, and how wide: each as its longest text if there is room, else less, else not at all.
pub fn fit<const N: usize>(columns: &[Column; N], rows: &[[String; N]], room: u16) -> Vec<(usize, u16)> {
    let natural: Vec<u16> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let longest = rows.iter().filter_map(|row| row.get(at)).map(|text| width(text)).max();
            longest.unwrap_or(0).max(width(column.heading))
        })
        .collect();
    let least = |at: usize| match columns[at].shrinks_to {
        0 => natural[at],
        least => natural[at].min(least),
    };
    let mut kept: Vec<usize> = (0..N).collect();
    let mut widths: Vec<u16> = (0..N).map(least).collect();
    let taken = |kept: &[usize], widths: &[u16]| -> u16 {
        let gaps = u16::try_from(kept.len().saturating_sub(1)).unwrap_or(u16::MAX).saturating_mul(GAP);
        kept.iter().fold(gaps, |sum, at| sum.saturating_add(widths[*at]))
    };
    while taken(&kept, &widths) > room {
        let Some(place) =
            (0..kept.len()).filter(|i| columns[kept[*i]].leaves > 0).max_by_key(|i| columns[kept[*i]].leaves)
        else {
            break;
        };
        kept.remove(place);
    }
    for at in &kept {
        let spare = room.saturating_sub(taken(&kept, &widths));
        widths[*at] = widths[*at].saturating_add(spare).min(natural[*at]);
    }
    kept.into_iter().map(|at| (at, widths[at].min(room))).collect()
}

/// Writes one row; texts that are too long end in `…`.
pub fn write<'a>(
    buffer: &mut Buffer,
    line: Rect,
    widths: &[(usize, u16)],
    is_right: impl Fn(usize) -> bool,
    text: impl Fn(usize) -> &'a str,
    style: Style,
) {
    buffer.set_style(line, style);
    let mut x = line.x;
    for (at, width) in widths {
        let room = (*width).min(line.right().saturating_sub(x));
        put(buffer, Rect { x, width: room, ..line }, text(*at), is_right(*at), style);
        x = x.saturating_add(*width).saturating_add(GAP);
    }
}

/// Writes a text into a place of one line.
pub fn put(buffer: &mut Buffer, place: Rect, text: &str, is_right: bool, style: Style) {
    let place = place.intersection(*buffer.area());
    if place.is_empty() {
        return;
    }
    let taken = width(text);
    if taken <= place.width {
        let x = if is_right { place.right() - taken } else { place.x };
        buffer.set_stringn(x, place.y, text, usize::from(place.width), style);
        return;
    }
    buffer.set_stringn(place.x, place.y, text, usize::from(place.width - 1), style);
    buffer.set_stringn(place.right() - 1, place.y, "…", 1, style);
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::text("NAME", 6, 0), Column::number("COUNT", 1), Column::text("NOTE", 0, 2)];

    fn rows() -> [[String; 3]; 1] {
        [["a-rather-long-name".into(), "12".into(), "paused".into()]]
    }

    #[test]
    fn a_column_shrinks_before_another_leaves() {
        assert_eq!(fit(&COLUMNS, &rows(), 40), [(0, 18), (1, 5), (2, 6)]);
        assert_eq!(fit(&COLUMNS, &rows(), 25), [(0, 12), (1, 5), (2, 6)]);
        assert_eq!(fit(&COLUMNS, &rows(), 18), [(0, 12), (1, 5)]);
        assert_eq!(fit(&COLUMNS, &rows(), 8), [(0, 8)]);
        assert_eq!(fit(&COLUMNS, &rows(), 0), [(0, 0)]);
    }

    #[test]
    fn numbers_stand_at_the_right_and_long_texts_are_cut() {
        let area = Rect::new(0, 0, 18, 1);
        let mut buffer = Buffer::empty(area);
        let (rows, widths) = (rows(), fit(&COLUMNS, &rows(), 18));
        write(&mut buffer, area, &widths, |at| COLUMNS[at].right, |at| &rows[0][at], Style::default());
        assert_eq!(buffer, Buffer::with_lines(["a-rather-lo…    12"]));
        put(&mut buffer, Rect::new(30, 9, 5, 1), "outside", false, Style::default());
    }
}
