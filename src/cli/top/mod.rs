//! `top`: queues, workers and rates, as they change.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crossterm::event::EventStream;
use futures::future::{Fuse, FutureExt};
use futures::stream::StreamExt;
use lineshaft_client::proto;
use proto::Queue;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::remote::{self, Connection};
use super::{Exit, Failure, Remote, exit, output, span};
use crate::clock::{Clock, SystemClock};
use draw::Look;
use model::{Model, Switch, Wish};
use picture::Picture;
use screen::Screen;

pub mod columns;
pub mod draw;
pub mod keys;
pub mod model;
pub mod picture;
pub mod screen;

/// A look in less than this would be a burden on the server, and too fast to read.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Whoever looks less often than each hour does not need a live picture.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Columns of a picture where there is no terminal and `COLUMNS` is not set.
const COLUMNS: u16 = 120;

/// The most columns and lines of a picture that is printed: what a terminal may have, and memory that is no matter.
const COLUMNS_MAX: u16 = 1_000;
const LINES_MAX: u16 = 10_100;

const KEYS: &str = "\
Keys:
  q, Ctrl-C            end
  up, down, k, j       select a row; Page Up, Page Down, Home and End too
  tab, left, right     to the other table
  p                    pause the selected queue, or resume it; asks first
  s                    the next order of the queues: name, waiting, oldest, leased, sent/s";

/// Show queues, workers and rates live, and pause and resume queues.
///
/// A server that goes away is waited for, with the last picture in grey. Where stdout is no terminal one picture is printed,
/// as with --once; with --json one object a look.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{KEYS}\n\n{}", exit::HELP))]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// From one look to the next, 100ms to 1h.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one picture and end.
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let parsed = span::parse(text)?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(format!("{text:?} is out of range: {} to {}", span::human(INTERVAL_MIN), span::human(INTERVAL_MAX)))
    }
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let connection = self.remote.connect().await?;
        let url = self.remote.url();
        if self.remote.json {
            return self.print(&connection, &url).await;
        }
        // A terminal that cannot move its cursor is written to as a file is.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if self.once || is_dumb || !io::stdout().is_terminal() {
            print(picture::look(&connection, &url).await?)?;
            return Ok(Exit::Ok);
        }
        live(&connection, &url, self.interval).await
    }

    /// One object a look, or one in all. A server that goes away is told of once, and waited for.
    async fn print(&self, connection: &Connection, url: &str) -> Result<Exit, Failure> {
        let mut ticks = ticks(self.interval);
        let mut is_away = false;
        loop {
            ticks.tick().await;
            match picture::look(connection, url).await {
                Ok(picture) => {
                    is_away = false;
                    output::line(&picture::to_json(&picture).to_string())?;
                }
                Err(failure) if self.once || !failure.is_passing() => return Err(failure),
                Err(_) if is_away => {}
                Err(failure) => {
                    is_away = true;
                    output::remark(&failure.to_json().to_string());
                }
            }
            if self.once {
                return Ok(Exit::Ok);
            }
        }
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    // A slow server is not asked twice at once for it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Prints a picture as lines of text.
fn print(picture: Picture) -> Result<(), Failure> {
    let mut model = Model::default();
    model.show(picture);
    let columns = output::width().unwrap_or(COLUMNS).min(COLUMNS_MAX);
    let area = Rect::new(0, 0, columns, draw::lines(&model).min(LINES_MAX));
    let mut buffer = Buffer::empty(area);
    let look = Look { has_colours: false, has_keys: false };
    draw::draw(&mut buffer, area, &mut model, look, SystemClock.now());
    for y in 0..area.height {
        output::line(text(&buffer, y).trim_end())?;
    }
    Ok(())
}

/// A line of a buffer.
pub fn text(buffer: &Buffer, y: u16) -> String {
    let mut line = String::new();
    let mut x = 0;
    while let Some(cell) = buffer.cell((x, y)) {
        line.push_str(cell.symbol());
        // The cell behind a wide sign is a blank that is not there.
        x = x.saturating_add(columns::width(cell.symbol()).max(1));
    }
    line
}

/// The live view, until a key or a signal ends it.
async fn live(connection: &Connection, url: &str, interval: Duration) -> Result<Exit, Failure> {
    // Before the terminal is taken: from then on each of them gives it back.
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let look = Look { has_colours: output::colours(&io::stdout()), has_keys: true };
    let mut screen = Screen::take(look).map_err(|error| broken(&error))?;
    let mut events = EventStream::new();
    let mut model = Model::default();
    let mut ticks = ticks(interval);
    // Neither holds up a key: what is under way is polled beside the keys, one look and one change at a time.
    let mut looking = std::pin::pin!(Fuse::terminated());
    let mut switching = std::pin::pin!(Fuse::terminated());
    let mut is_looking = false;
    loop {
        screen.draw(&mut model, SystemClock.now()).map_err(|error| broken(&error))?;
        tokio::select! {
            event = events.next() => {
                let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
                let event = event.map_err(|error| broken(&error))?;
                // A new size is drawn like any change.
                match keys::key(&event).map(|key| model.press(key)) {
                    None | Some(Wish::Nothing) => {}
                    Some(Wish::Quit) => return Ok(Exit::Ok),
                    Some(Wish::Pause(wish)) => switching.set(switch(connection, wish).fuse()),
                }
            }
            _ = ticks.tick() => if !is_looking {
                is_looking = true;
                looking.set(picture::look(connection, url).fuse());
            },
            seen = &mut looking => {
                is_looking = false;
                match seen {
                    Ok(picture) => model.show(picture),
                    Err(failure) if failure.is_passing() => model.lose(&failure, SystemClock.now()),
                    Err(failure) => return Err(failure),
                }
            }
            end = &mut switching => model.done(end),
            _ = terminate.recv() => return Ok(Exit::Ok),
            _ = interrupt.recv() => return Ok(Exit::Ok),
            _ = hangup.recv() => return Ok(Exit::Ok),
        }
    }
}

async fn switch(connection: &Connection, Switch { queue, pause }: Switch) -> Result<Queue, Failure> {
    let mut queues = connection.queues();
    let answered = if pause {
        let request = proto::PauseQueueRequest { queue };
        queues.pause_queue(remote::quick(request)).await?.into_inner().queue
    } else {
        let request = proto::ResumeQueueRequest { queue };
        queues.resume_queue(remote::quick(request)).await?.into_inner().queue
    };
    Ok(answered.unwrap_or_default())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::Other, format!("signals cannot be waited for: {error}")))
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Exit::Other, format!("the terminal cannot be used: {error}"))
}

#[cfg(test)]
mod tests;
