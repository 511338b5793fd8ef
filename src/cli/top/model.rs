//! What `top` shows and what its keys do, without a terminal.

use std::cmp::Reverse;
use std::time::Duration;

use lineshaft_client::proto;
use proto::{Queue, WorkerInfo};

use super::super::{Failure, output};
use super::keys::Key;
use super::picture::Picture;
use crate::clock::Instant;

/// The table that the arrows move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// The upper one.
    Queues,
    /// The lower one.
    Workers,
}

/// In which order queues are shown. Queues that are alike are in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By name.
    Name,
    /// The most waiting tasks first.
    Waiting,
    /// The oldest waiting task first.
    Oldest,
    /// The most leases first.
    Leased,
    /// The most sends in a second first.
    Sent,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Waiting,
            Self::Waiting => Self::Oldest,
            Self::Oldest => Self::Leased,
            Self::Leased => Self::Sent,
            Self::Sent => Self::Name,
        }
    }

    /// Its name, as the screen says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Waiting => "waiting",
            Self::Oldest => "oldest",
            Self::Leased => "leased",
            Self::Sent => "sent/s",
        }
    }
}

/// What the program is to do after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing but show what changed.
    Nothing,
    /// End.
    Quit,
    /// Pause this queue, or resume it.
    Pause(Switch),
}

/// A queue that is to be paused, or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Its name.
    pub queue: String,
    /// True: pause it.
    pub pause: bool,
}

/// The selected row of a table and the window of rows that is seen.
///
/// The row is known by its key, so it stays selected while rows come, go and change their places.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    key: Option<String>,
    at: usize,
    first: usize,
    height: usize,
}

impl Cursor {
    /// The row that is selected.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The first row seen and how many are, of `rows` in a window of `height`: always with the selected one.
    pub fn window(&mut self, rows: usize, height: usize) -> (usize, usize) {
        self.height = height;
        let last = self.at.saturating_sub(height.saturating_sub(1));
        self.first = self.first.clamp(last, self.at.max(last)).min(rows.saturating_sub(height));
        (self.first, height.min(rows.saturating_sub(self.first)))
    }

    fn select(&mut self, at: usize, rows: usize, key: impl Fn(usize) -> String) {
        self.at = at.min(rows.saturating_sub(1));
        self.key = (rows > 0).then(|| key(self.at));
    }

    /// After the rows have changed.
    fn find(&mut self, rows: usize, key: impl Fn(usize) -> String) {
        let found = self.key.as_ref().and_then(|wanted| (0..rows).find(|at| key(*at) == *wanted));
        self.select(found.unwrap_or(self.at), rows, key);
    }

    fn moved(&self, key: Key, rows: usize) -> Option<usize> {
        let window = self.height.max(1);
        Some(match key {
            Key::Up => self.at.saturating_sub(1),
            Key::Down => self.at.saturating_add(1),
            Key::PageUp => self.at.saturating_sub(window),
            Key::PageDown => self.at.saturating_add(window),
            Key::First => 0,
            Key::Last => rows,
            _ => return None,
        })
    }
}

/// A server that does not answer.
#[derive(Debug, Clone)]
struct Away {
    since: Instant,
    why: String,
}

/// All that the screen shows.
#[derive(Debug)]
pub struct Model {
    /// The last picture that could be taken, its queues sorted.
    pub picture: Option<Picture>,
    /// Where the arrows move.
    pub focus: Focus,
    /// The order of the queues.
    pub sort: Sort,
    /// The table of queues.
    pub queues: Cursor,
    /// The table of workers.
    pub workers: Cursor,
    away: Option<Away>,
    asked: Option<Switch>,
    told: Option<String>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            picture: None,
            focus: Focus::Queues,
            sort: Sort::Name,
            queues: Cursor::default(),
            workers: Cursor::default(),
            away: None,
            asked: None,
            told: None,
        }
    }
}

impl Model {
    /// Takes a new picture in.
    pub fn show(&mut self, picture: Picture) {
        self.away = None;
        self.picture = Some(picture);
        self.arrange();
    }

    /// The server did not answer; what was seen last stays.
    pub fn lose(&mut self, failure: &Failure, now: Instant) {
        let since = self.away.as_ref().map_or(now, |away| away.since);
        self.away = Some(Away { since, why: failure.message.clone() });
    }

    /// For how long the server has not answered, and why; `None`: it does.
    pub fn away(&self, now: Instant) -> Option<(Duration, &str)> {
        self.away.as_ref().map(|away| (now.saturating_duration_since(away.since), away.why.as_str()))
    }

    /// Whether the picture is of an earlier time.
    pub fn is_stale(&self) -> bool {
        self.away.is_some()
    }

    /// The question that is open.
    pub fn question(&self) -> Option<String> {
        let Switch { queue, pause } = self.asked.as_ref()?;
        let verb = if *pause { "pause" } else { "resume" };
        Some(format!("{verb} queue {}? y/n", output::cell(queue)))
    }

    /// What was done last; until the next key.
    pub fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// A queue was paused or resumed, or could not be.
    pub fn done(&mut self, end: Result<Queue, Failure>) {
        let queue = match end {
            Ok(queue) => queue,
            Err(failure) => return self.told = Some(failure.to_string()),
        };
        let how = if queue.paused { "paused" } else { "resumed" };
        let warning = if queue.paused && queue.others_may_take {
            "; other programs may take from it too and do not know of that"
        } else {
            ""
        };
        self.told = Some(format!("{} is {how}{warning}", output::cell(&queue.name)));
        let shown = self.picture.as_mut().and_then(|picture| picture.queues.iter_mut().find(|q| q.name == queue.name));
        if let Some(shown) = shown {
            *shown = queue;
        }
        self.arrange();
    }

    /// A key was pressed.
    pub fn press(&mut self, key: Key) -> Wish {
        self.told = None;
        if key == Key::Interrupt {
            return Wish::Quit;
        }
        if let Some(switch) = self.asked.take() {
            return if key == Key::Yes { Wish::Pause(switch) } else { Wish::Nothing };
        }
        match key {
            Key::Quit => return Wish::Quit,
            Key::Other if self.focus == Focus::Queues => self.focus = Focus::Workers,
            Key::Other => self.focus = Focus::Queues,
            Key::Sort => {
                self.sort = self.sort.next();
                self.arrange();
            }
            Key::Pause => self.ask(),
            key => self.go(key),
        }
        Wish::Nothing
    }

    fn ask(&mut self) {
        if self.focus == Focus::Workers {
            self.told = Some("only queues are paused; tab goes back to them".into());
            return;
        }
        let queue = self.picture.as_ref().and_then(|picture| picture.queues.get(self.queues.at));
        self.asked = queue.map(|queue| Switch { queue: queue.name.clone(), pause: !queue.paused });
    }

    fn go(&mut self, key: Key) {
        let Some(picture) = &self.picture else { return };
        match self.focus {
            Focus::Queues => {
                let rows = picture.queues.len();
                if let Some(at) = self.queues.moved(key, rows) {
                    self.queues.select(at, rows, |at| key_of_queue(&picture.queues, at));
                }
            }
            Focus::Workers => {
                let rows = picture.workers.len();
                if let Some(at) = self.workers.moved(key, rows) {
                    self.workers.select(at, rows, |at| key_of_worker(&picture.workers, at));
                }
            }
        }
    }

    /// Sorts, and finds the selected rows where they are now.
    fn arrange(&mut self) {
        let Some(picture) = &mut self.picture else { return };
        picture.queues.sort_by(|a, b| a.name.cmp(&b.name));
        match self.sort {
            Sort::Name => {}
            Sort::Waiting => picture.queues.sort_by_key(|queue| Reverse(queue.waiting)),
            Sort::Leased => picture.queues.sort_by_key(|queue| Reverse(queue.leased)),
            Sort::Oldest => picture.queues.sort_by_key(|queue| {
                Reverse(queue.oldest_age.as_ref().map_or((-1, 0), |age| (age.seconds, age.nanos)))
            }),
            Sort::Sent => {
                let sent = |queue: &Queue| queue.rates.map_or(-1.0, |rates| rates.sent);
                picture.queues.sort_by(|a, b| sent(b).total_cmp(&sent(a)));
            }
        }
        picture.workers.sort_by(|a, b| (&a.worker, &a.session_id).cmp(&(&b.worker, &b.session_id)));
        self.queues.find(picture.queues.len(), |at| key_of_queue(&picture.queues, at));
        self.workers.find(picture.workers.len(), |at| key_of_worker(&picture.workers, at));
    }
}

fn key_of_queue(queues: &[Queue], at: usize) -> String {
    queues.get(at).map(|queue| queue.name.clone()).unwrap_or_default()
}

fn key_of_worker(workers: &[WorkerInfo], at: usize) -> String {
    workers.get(at).map(|worker| worker.session_id.clone()).unwrap_or_default()
}
