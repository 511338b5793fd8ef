//! The picture of `top`: heads, the two tables, and the line for questions and remarks.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{Queue, WorkerInfo};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::super::{output, queues, span, workers};
use super::columns::{self, Column};
use super::model::{Cursor, Focus, Model};
use super::picture::Picture;
use crate::clock::Instant;

const QUEUES: [Column; 10] = [
    Column::text("QUEUE", 12, 0),
    Column::number("WAITING", 1),
    Column::number("DELAYED", 5),
    Column::number("LEASED", 3),
    Column::number("OLDEST", 4),
    Column::number("WORKERS", 8),
    Column::number("SENT/S", 9),
    Column::number("DONE/S", 7),
    Column::number("FAILED/S", 6),
    Column::text("NOTE", 0, 2),
];

const WORKERS: [Column; 5] = [
    Column::text("WORKER", 12, 0),
    Column::text("LANGUAGE", 8, 4),
    Column::number("HELD/SLOTS", 1),
    Column::number("HEARD", 2),
    Column::text("QUEUES", 12, 3),
];

/// Lines above the tables.
const HEAD_LINES: u16 = 2;
/// Of a table, beside its rows: its title and its headings.
const TABLE_LINES: u16 = 2;
/// The least for both tables; with less room only the one with the arrows is shown.
const BOTH_TABLES_LINES: u16 = 2 * (TABLE_LINES + 1);

const KEYS: &str = "q quit  ↑↓ select  tab other table  p pause or resume  s sort";

/// How things are told apart.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// False: bold, dim and reverse only.
    pub has_colours: bool,
    /// The line at the end, and the selected row: not in a picture for a file.
    pub has_keys: bool,
}

impl Look {
    fn colour(self, style: Style, colour: Color) -> Style {
        if self.has_colours { style.fg(colour) } else { style }
    }

    fn alarm(self) -> Style {
        self.colour(Style::new().add_modifier(Modifier::BOLD), Color::Red)
    }

    fn warning(self) -> Style {
        self.colour(Style::new(), Color::Yellow)
    }
}

/// Lines that show all there is.
pub fn lines(model: &Model) -> u16 {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(TABLE_LINES);
    let picture = model.picture.as_ref();
    let queues = rows(picture.map_or(0, |picture| picture.queues.len()));
    let workers = rows(picture.map_or(0, |picture| picture.workers.len()));
    HEAD_LINES.saturating_add(queues).saturating_add(workers)
}

/// Draws all of it into `area`, whatever its size.
pub fn draw(buffer: &mut Buffer, area: Rect, model: &mut Model, look: Look, now: Instant) {
    let area = area.intersection(*buffer.area());
    let line = |y: u16| Rect { y: area.y.saturating_add(y), height: 1, ..area }.intersection(area);
    if let Some(picture) = &model.picture {
        columns::put(buffer, line(0), &server(picture), false, Style::new().add_modifier(Modifier::BOLD));
        columns::put(buffer, line(1), &totals(picture), false, Style::new());
    }
    let foot = u16::from(look.has_keys && area.height > HEAD_LINES);
    let body =
        Rect { y: area.y.saturating_add(HEAD_LINES), height: area.height.saturating_sub(HEAD_LINES + foot), ..area }
            .intersection(area);
    tables(buffer, body, model, look);
    if model.is_stale() {
        let grey = look.colour(Style::new().add_modifier(Modifier::DIM), Color::DarkGray);
        // What is old is not to be taken for what is: neither bold nor coloured.
        buffer.set_style(area, grey.remove_modifier(Modifier::BOLD));
    }
    if foot > 0 {
        let (text, style) = remark(model, look, now);
        let place = line(area.height - 1);
        columns::put(buffer, place, &text, false, style);
    }
}

/// The last line: what is asked, else that the server is away, else what was done, else the keys.
fn remark(model: &Model, look: Look, now: Instant) -> (String, Style) {
    if let Some(question) = model.question() {
        return (question, Style::new().add_modifier(Modifier::BOLD));
    }
    if let Some((how_long, why)) = model.away(now) {
        let whole = Duration::from_secs(how_long.as_secs());
        return (format!("no answer for {}, trying again: {}", span::human(whole), output::cell(why)), look.alarm());
    }
    match model.told() {
        Some(told) => (told.to_owned(), look.warning()),
        None => (KEYS.to_owned(), Style::new().add_modifier(Modifier::DIM)),
    }
}

fn server(picture: &Picture) -> String {
    let stores = picture.info.guarantees.clone().unwrap_or_default();
    let mut names = vec![stores.broker, stores.ledger, stores.backend];
    names.dedup();
    let time = picture.taken_at.to_string();
    // Of 2026-11-24T18:00:00.123Z the time of day.
    let time = time.split('T').nth(1).and_then(|time| time.get(..8)).unwrap_or_default();
    let text = format!("lineshaft {}  {}  store {}  {time} UTC", picture.info.version, picture.url, names.join(", "));
    output::cell(&text)
}

fn totals(picture: &Picture) -> String {
    let sum = |of: fn(&Queue) -> u64| picture.queues.iter().map(of).fold(0, u64::saturating_add);
    let rate = |of: fn(&proto::QueueRates) -> f64| -> f64 {
        picture.queues.iter().filter_map(|queue| queue.rates.as_ref()).map(of).fold(0.0, |sum, rate| sum + rate)
    };
    let more = if picture.is_queues_cut { " at least" } else { "" };
    let held: u64 = picture.workers.iter().map(|worker| u64::from(worker.leases)).sum();
    format!(
        "total{more}: {} waiting  {} delayed  {} leased  {:.1} sent/s  {:.1} done/s  {:.1} failed/s  {held} held by {}",
        sum(|queue| queue.waiting),
        sum(|queue| queue.delayed),
        sum(|queue| queue.leased),
        rate(|rates| rates.sent),
        rate(|rates| rates.succeeded),
        rate(|rates| rates.failed),
        match picture.workers.len() {
            1 => "1 worker".into(),
            count => format!("{count} workers"),
        }
    )
}

fn tables(buffer: &mut Buffer, body: Rect, model: &mut Model, look: Look) {
    let Some(picture) = &model.picture else { return };
    let wanted = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(TABLE_LINES);
    let (of_queues, of_workers) = (wanted(picture.queues.len()), wanted(picture.workers.len()));
    let below = match model.focus {
        Focus::Queues if body.height < BOTH_TABLES_LINES => 0,
        Focus::Workers if body.height < BOTH_TABLES_LINES => body.height,
        // Workers have a third, and what the queues leave.
        _ => of_workers.min((body.height / 3).max(TABLE_LINES + 1).max(body.height.saturating_sub(of_queues))),
    };
    // What neither takes stays empty between the tables and the last line.
    let above = of_queues.min(body.height.saturating_sub(below));
    let upper = Rect { height: above, ..body };
    let lower = Rect { y: body.y.saturating_add(above), height: below, ..body }.intersection(body);

    let rows = Rows {
        title: "Queues",
        note: format!(", by {}", model.sort.name()),
        count: picture.queues.len(),
        is_cut: picture.is_queues_cut,
        nothing: "no queue yet",
        has_arrows: look.has_keys && model.focus == Focus::Queues,
    };
    let style = |queue: &Queue| match queue.paused || (queue.waiting > 0 && queue.workers == 0) {
        true => look.warning(),
        false => Style::new(),
    };
    rows.draw(buffer, upper, &QUEUES, &picture.queues, &mut model.queues, queues::row, style);

    let rows = Rows {
        title: "Workers",
        note: String::new(),
        count: picture.workers.len(),
        is_cut: picture.is_workers_cut,
        nothing: "no worker is here",
        has_arrows: look.has_keys && model.focus == Focus::Workers,
    };
    let default_queue = &picture.info.default_queue;
    let row = |worker: &WorkerInfo| row_of_worker(worker, default_queue);
    let style = |worker: &WorkerInfo| if worker.attached { Style::new() } else { look.warning() };
    rows.draw(buffer, lower, &WORKERS, &picture.workers, &mut model.workers, row, style);
}

fn row_of_worker(worker: &WorkerInfo, default_queue: &str) -> [String; 5] {
    let mut names: Vec<&str> = worker
        .subscriptions
        .iter()
        .map(|subscription| if subscription.queue.is_empty() { default_queue } else { subscription.queue.as_str() })
        .collect();
    names.sort_unstable();
    names.dedup();
    let slots = if worker.concurrency == 0 { "no limit".into() } else { worker.concurrency.to_string() };
    let heard = workers::heard(worker).map_or("–".into(), |age| format!("{} ago", span::human(age)));
    [
        output::cell(&worker.worker),
        output::cell(&worker.language),
        format!("{}/{slots}", worker.leases),
        if worker.attached { heard } else { format!("away, {heard}") },
        output::cell(&names.join(", ")),
    ]
}

/// A table on its way to the screen.
struct Rows {
    title: &'static str,
    note: String,
    count: usize,
    is_cut: bool,
    nothing: &'static str,
    has_arrows: bool,
}

impl Rows {
    #[allow(clippy::too_many_arguments)] // Two tables of different rows, drawn in one way.
    fn draw<T, const N: usize>(
        &self,
        buffer: &mut Buffer,
        place: Rect,
        columns: &[Column; N],
        items: &[T],
        cursor: &mut Cursor,
        row: impl Fn(&T) -> [String; N],
        style: impl Fn(&T) -> Style,
    ) {
        let (first, count) = cursor.window(items.len(), usize::from(place.height.saturating_sub(TABLE_LINES)));
        let line = |y: u16| Rect { y: place.y.saturating_add(y), height: 1, ..place }.intersection(place);
        let emphasis = if self.has_arrows { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::UNDERLINED };
        buffer.set_style(line(0), Style::new().add_modifier(emphasis));
        columns::put(buffer, line(0), &self.head(first, count), false, Style::new());
        if items.is_empty() {
            columns::put(buffer, line(1), self.nothing, false, Style::new().add_modifier(Modifier::DIM));
            return;
        }
        let shown = items.iter().skip(first).take(count);
        let rows: Vec<[String; N]> = shown.clone().map(&row).collect();
        let widths = columns::fit(columns, &rows, place.width);
        let is_right = |at: usize| columns.get(at).is_some_and(|column| column.right);
        let headings = |at: usize| columns.get(at).map_or("", |column| column.heading);
        columns::write(buffer, line(1), &widths, is_right, headings, Style::new().add_modifier(Modifier::BOLD));
        for (number, (cells, item)) in rows.iter().zip(shown).enumerate() {
            let mut style = style(item);
            if self.has_arrows && first + number == cursor.at() {
                style = style.add_modifier(Modifier::REVERSED);
            }
            let y = u16::try_from(number).unwrap_or(u16::MAX).saturating_add(TABLE_LINES);
            let cell = |at: usize| cells.get(at).map_or("", String::as_str);
            columns::write(buffer, line(y), &widths, is_right, cell, style);
        }
    }

    /// As `Queues 11–20 of 35, by name`.
    fn head(&self, first: usize, count: usize) -> String {
        let more = if self.is_cut { " and more, which are left out" } else { "" };
        let seen = match count {
            0 => format!("{}", self.count),
            seen if seen == self.count => format!("{seen}"),
            seen => format!("{}–{} of {}", first + 1, first + seen, self.count),
        };
        format!("{} {seen}{more}{}", self.title, self.note)
    }
}
