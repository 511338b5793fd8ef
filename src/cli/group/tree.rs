//! The picture of `group --watch`: how far it is, its tasks, and what runs behind them, in as many lines as there are.

use std::ops::Range;

use lineshaft_client::proto;
use prost_types::Timestamp;
use proto::{Group, GroupKind, TaskState, TaskStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::super::top::columns::{self, Column};
use super::super::{output, progress, state};

const COLUMNS: [Column; 6] = [
    // Ids stay in one piece, to be copied.
    Column::text("TASK", 0, 0),
    Column::text("NAME", 8, 3),
    Column::text("STATUS", 0, 1),
    Column::number("ATTEMPT", 4),
    Column::number("SINCE", 5),
    Column::text("RESULT", 8, 2),
];

/// With fewer lines the headings of the columns make room for a task.
const HEADINGS_LINES_MIN: u16 = 5;

/// What a picture shows of a task; small, since there may be many.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The id.
    pub id: String,
    /// Where it stands.
    pub status: TaskStatus,
    name: String,
    status_name: &'static str,
    attempt: u32,
    since: Option<Timestamp>,
    outcome: String,
}

impl Row {
    /// What is shown of a state.
    pub fn of(state: &TaskState) -> Self {
        Self {
            id: output::cell(&state.task_id),
            status: state.status(),
            name: output::cell(&state.task_name),
            status_name: state::status(state),
            attempt: state.attempt,
            since: state.updated_at,
            outcome: output::cell(&state::outcome(state)),
        }
    }

    /// Those that need somebody come first: failed 0, running 1, waiting 2, ended 3, not kept any more 4.
    pub fn rank(&self) -> u8 {
        match self.status {
            TaskStatus::Failure => 0,
            TaskStatus::Started | TaskStatus::Received => 1,
            TaskStatus::Pending | TaskStatus::Retry => 2,
            TaskStatus::Success => 3,
            TaskStatus::Unspecified => 4,
        }
    }

    fn cells(&self, first: String) -> [String; 6] {
        [
            first,
            self.name.clone(),
            self.status_name.to_owned(),
            if self.attempt == 0 { "–".into() } else { self.attempt.to_string() },
            output::age(self.since.as_ref()),
            self.outcome.clone(),
        ]
    }

    fn style(&self, has_colours: bool) -> Style {
        let coloured = |colour| if has_colours { Style::new().fg(colour) } else { Style::new() };
        match self.status {
            TaskStatus::Failure => coloured(Color::Red).add_modifier(Modifier::BOLD),
            TaskStatus::Retry => coloured(Color::Yellow),
            TaskStatus::Started | TaskStatus::Received => Style::new().add_modifier(Modifier::BOLD),
            TaskStatus::Unspecified => Style::new().add_modifier(Modifier::DIM),
            TaskStatus::Pending | TaskStatus::Success => Style::new(),
        }
    }
}

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// How far it is.
    pub group: &'a Group,
    /// Its tasks, in the order in which they are to be shown; of a chain all links that are known.
    pub rows: &'a [Row],
    /// The most tasks that are shown.
    pub limit: usize,
    /// Why the picture is old, if it is.
    pub away: Option<&'a str>,
}

impl View<'_> {
    fn is_chain(&self) -> bool {
        self.group.kind() == GroupKind::Chain
    }

    /// Which rows are shown in `room` lines, those included that say what is left out.
    fn window(&self, room: usize) -> Range<usize> {
        let (count, total) = (self.rows.len(), self.group.total as usize);
        let fits = count.min(self.limit).min(room);
        if fits == count && total <= count {
            return 0..count;
        }
        let kept = count.min(self.limit).min(room.saturating_sub(1));
        if !self.is_chain() {
            return 0..kept;
        }
        // A chain is where it has come to: the link that ended last, and from there on.
        let is_done = |row: &Row| matches!(row.status, TaskStatus::Success | TaskStatus::Unspecified);
        let at = self.rows.iter().position(|row| !is_done(row)).unwrap_or(count).saturating_sub(1);
        let start = at.min(count.saturating_sub(kept));
        if start == 0 {
            return 0..kept;
        }
        // One more line, for what is left out before; none after the last.
        let is_last = start + kept >= total;
        let kept = if is_last { kept } else { kept.min(room.saturating_sub(2)) };
        start..start + kept
    }
}

/// Draws a view as `width` columns and at most `height` lines; the lines of the buffer are as many as it takes. Without
/// colours failures are told apart by bold text only.
pub fn draw(view: &View<'_>, width: u16, height: u16, has_colours: bool) -> Buffer {
    let callback = view.group.callback.as_ref().map(Row::of);
    let has_headings = height >= HEADINGS_LINES_MIN;
    let taken = 1 + u16::from(has_headings) + u16::from(callback.is_some()) + u16::from(view.away.is_some());
    let shown = view.window(usize::from(height.saturating_sub(taken)));
    // A word in place of a row, or a row.
    let mut branches: Vec<(String, Option<&Row>)> = Vec::with_capacity(shown.len() + 3);
    if shown.start > 0 {
        branches.push((format!("… {} before", super::thousands(count(shown.start))), None));
    }
    let tasks = view.rows.get(shown.clone()).unwrap_or_default();
    branches.extend(tasks.iter().map(|row| (row.id.clone(), Some(row))));
    let more = view.group.total.saturating_sub(count(shown.end));
    if more > 0 {
        branches.push((format!("… and {} more", super::thousands(more)), None));
    }
    branches.extend(callback.as_ref().map(|row| (format!("then {}", row.id), Some(row))));

    let last = branches.len().saturating_sub(1);
    let branch = |(place, (text, row)): (usize, &(String, Option<&Row>))| {
        let first = format!("{} {text}", if place == last { "└─" } else { "├─" });
        match row {
            Some(row) => row.cells(first),
            None => std::array::from_fn(|at| if at == 0 { first.clone() } else { String::new() }),
        }
    };
    let cells: Vec<[String; 6]> = branches.iter().enumerate().map(branch).collect();
    let lines = 1 + usize::from(has_headings) + cells.len() + usize::from(view.away.is_some());
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, u16::try_from(lines).unwrap_or(u16::MAX).min(height)));
    let area = *buffer.area();
    let mut line = (0..area.height).map(|y| Rect { y, height: 1, ..area });

    if let Some(place) = line.next() {
        head(&mut buffer, place, view.group, has_colours);
    }
    let widths = columns::fit(&COLUMNS, &cells, width);
    let is_right = |at: usize| COLUMNS.get(at).is_some_and(|column| column.right);
    if has_headings && let Some(place) = line.next() {
        let heading = |at: usize| COLUMNS.get(at).map_or("", |column| column.heading);
        columns::write(&mut buffer, place, &widths, is_right, heading, Style::new().add_modifier(Modifier::BOLD));
    }
    for ((cells, (_, row)), place) in cells.iter().zip(&branches).zip(&mut line) {
        let dim = Style::new().add_modifier(Modifier::DIM);
        let style = row.map_or(dim, |row| row.style(has_colours));
        let cell = |at: usize| cells.get(at).map_or("", String::as_str);
        columns::write(&mut buffer, place, &widths, is_right, cell, style);
    }
    if let (Some(why), Some(place)) = (view.away, line.next()) {
        let text = format!("no answer, trying again: {}", output::cell(why));
        columns::put(&mut buffer, place, &text, false, failed(has_colours));
    }
    buffer
}

/// As `chord group_1  [######                  ]  25 of 100 have ended, 1 failed, sent 3 s ago`, what failed in red.
fn head(buffer: &mut Buffer, line: Rect, group: &Group, has_colours: bool) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let bar = progress::bar(group.ended.into(), group.total.into());
    let full = bar.matches('#').count();
    let bad = bad_cells(group, full);
    let good = full - bad;
    let (ended, of_failed) = (super::ended(group), super::failures(group));
    let pieces = [
        (format!("{} {}  ", super::kind(group), output::cell(&group.group_id)), bold),
        (bar.chars().take(1 + good).collect(), Style::new()),
        (bar.chars().skip(1 + good).take(bad).collect(), failed(has_colours)),
        (bar.chars().skip(1 + full).collect(), Style::new()),
        (format!("  {ended}"), Style::new()),
        (of_failed, failed(has_colours)),
        (super::sent(group), Style::new()),
    ];
    let mut rest = line;
    for (text, style) in pieces {
        columns::put(buffer, rest, &text, false, style);
        let taken = columns::width(&text).min(rest.width);
        rest = Rect { x: rest.x.saturating_add(taken), width: rest.width - taken, ..rest };
    }
}

/// How many of the `full` cells of the bar are for tasks that failed: one at least if any has, so that it is seen.
fn bad_cells(group: &Group, full: usize) -> usize {
    if group.failed == 0 || full == 0 {
        return 0;
    }
    let part = full.saturating_mul(group.failed as usize) / (group.ended as usize).max(1);
    part.clamp(1, full)
}

fn failed(has_colours: bool) -> Style {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if has_colours { bold.fg(Color::Red) } else { bold }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
