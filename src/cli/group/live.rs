//! `group --watch` on a terminal: the tree is drawn over in place as it goes on.

use std::io::{self, IsTerminal};
use std::time::Duration;

use futures::future::{Fuse, FutureExt};
use lineshaft_client::proto;
use proto::{GetGroupResponse, Group, GroupKind};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::remote::{self, Connection};
use super::super::{Failure, output};
use super::picture::Picture;
use super::seen::Seen;
use super::tree::{self, Row, View};
use super::{Look, PAGE_SIZE};

/// From one picture to the next, at least.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// From one page of tasks to the next, at least.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The same while nothing is heard of the group: tasks may have begun all the same.
const ASK_IDLE_EVERY: Duration = Duration::from_secs(2);

/// Lines of the last picture at most: more than a person reads, and memory that is no matter.
const END_LINES_MAX: u16 = 10_000;

/// True if a tree can be drawn over: stdout is a terminal that can move its cursor.
pub fn is_possible() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a group until it has ended, with at most `limit` tasks (0: as many as there is room for, and at the end as many
/// as fit into 10,000 lines); how it ended.
///
/// # Errors
/// As [`super::until_ended`], or if the terminal is gone.
pub async fn watch(
    connection: &Connection,
    id: &str,
    timeout: Option<Duration>,
    limit: usize,
) -> Result<Group, Failure> {
    let limit = if limit == 0 { usize::from(END_LINES_MAX) } else { limit };
    let mut screen = Screen { limit, has_colours: output::colours(&io::stdout()), ..Screen::default() };
    let (tell, mut told) = watch::channel(Group::default());
    let each = |group: &Group| {
        tell.send_replace(group.clone());
        Ok(())
    };
    let mut following = std::pin::pin!(super::until_ended(connection, id, timeout, each));
    let mut asking = std::pin::pin!(Fuse::terminated());
    let mut turn = Turn::default();
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            end = &mut following => {
                let Ok(end) = end else {
                    // What is known last, above what went wrong.
                    screen.draw()?;
                    return end;
                };
                screen.finish(connection, id).await?;
                return Ok(end);
            }
            Ok(()) = told.changed() => {
                screen.hear(told.borrow_and_update().clone());
                turn.has_news = true;
            }
            page = &mut asking => {
                turn.is_asking = false;
                screen.take(page)?;
            }
            _ = ticks.tick() => {
                screen.draw()?;
                if screen.group.is_some() && turn.is_due(Instant::now(), screen.seen.is_at_start()) {
                    asking.set(ask(connection, id, screen.seen.page_token().to_owned()).fuse());
                }
            }
        }
    }
}

async fn ask(connection: &Connection, id: &str, page_token: String) -> Result<GetGroupResponse, Failure> {
    let request = proto::GetGroupRequest { group_id: id.to_owned(), page_size: PAGE_SIZE, page_token };
    Ok(connection.tasks().get_group(remote::quick(request)).await?.into_inner())
}

/// When the next page is asked for.
#[derive(Debug, Default)]
struct Turn {
    is_asking: bool,
    has_news: bool,
    last: Option<Instant>,
}

impl Turn {
    /// True if it is to be asked for now, which is remembered.
    fn is_due(&mut self, now: Instant, is_read_to_its_end: bool) -> bool {
        let between = if self.has_news || !is_read_to_its_end { ASK_EVERY } else { ASK_IDLE_EVERY };
        let is_due = !self.is_asking && self.last.is_none_or(|last| now.saturating_duration_since(last) >= between);
        if is_due {
            *self = Self { is_asking: true, has_news: false, last: Some(now) };
        }
        is_due
    }
}

/// What is shown, and what stands on the terminal.
#[derive(Debug, Default)]
struct Screen {
    limit: usize,
    has_colours: bool,
    group: Option<Group>,
    seen: Seen,
    away: Option<String>,
    picture: Picture,
    /// The room that the picture was drawn for.
    room: (u16, u16),
    is_old: bool,
}

impl Screen {
    fn hear(&mut self, group: Group) {
        self.group = Some(group);
        (self.away, self.is_old) = (None, true);
    }

    fn take(&mut self, page: Result<GetGroupResponse, Failure>) -> Result<(), Failure> {
        let page = match page {
            Ok(page) => page,
            Err(failure) if failure.is_passing() => {
                (self.away, self.is_old) = (Some(failure.to_string()), true);
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        self.hear(page.group.unwrap_or_default());
        // No more of a page is ever drawn.
        let most = self.limit.min(usize::from(Picture::room().1));
        self.seen.keep(&page.tasks, page.next_page_token, self.is_chain(), most);
        Ok(())
    }

    fn is_chain(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.kind() == GroupKind::Chain)
    }

    /// Draws what is new, or all of it if the terminal has another size.
    fn draw(&mut self) -> Result<(), Failure> {
        let room = Picture::room();
        let Some(group) = self.group.as_ref().filter(|_| self.is_old || room != self.room) else { return Ok(()) };
        let rows = self.seen.rows(self.is_chain());
        let view = View { group, rows: &rows, limit: self.limit, away: self.away.as_deref() };
        self.picture.show(&tree::draw(&view, room.0, room.1, self.has_colours), room)?;
        (self.room, self.is_old) = (room, false);
        Ok(())
    }

    /// The last picture: it is not drawn over any more, so that it may be longer than the terminal is high.
    async fn finish(&mut self, connection: &Connection, id: &str) -> Result<(), Failure> {
        let look = if self.is_chain() {
            Look::in_order(connection, id).await?
        } else {
            Look::at(connection, id, self.limit).await?
        };
        let rows: Vec<Row> = look.tasks.iter().map(Row::of).collect();
        let view = View { group: &look.group, rows: &rows, limit: self.limit, away: None };
        let room = Picture::room();
        self.picture.show(&tree::draw(&view, room.0, END_LINES_MAX, self.has_colours), room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_for_twice_a_second_and_less_while_nothing_is_heard() {
        let mut turn = Turn::default();
        let begun = Instant::now();
        assert!(turn.is_due(begun, false), "the first at once");
        assert!(!turn.is_due(begun + ASK_IDLE_EVERY, true), "one is under way");
        turn.is_asking = false;
        assert!(!turn.is_due(begun + ASK_EVERY, true) && turn.is_due(begun + ASK_IDLE_EVERY, true));
        turn.is_asking = false;
        let next = begun + ASK_IDLE_EVERY;
        assert!(!turn.is_due(next, false) && turn.is_due(next + ASK_EVERY, false), "there are more pages");
        (turn.is_asking, turn.has_news) = (false, true);
        let next = next + ASK_EVERY;
        assert!(!turn.is_due(next, true) && turn.is_due(next + ASK_EVERY, true), "there is news");
    }
}
