//! `group`: how far tasks that belong together are, once or as they go on.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{Group, GroupKind, TaskState, TaskStatus};
use serde_json::Value;
use tokio::time::Instant;

use super::progress::{self, Progress, Unit};
use super::remote::{self, Connection};
use super::{Exit, Failure, Remote, exit, output, span, state};

pub mod live;
pub mod picture;
pub mod seen;
pub mod tree;

/// Show how far a group, chain or chord is, with its tasks, those that failed first.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Id of the group, chain or chord, as `send` printed it.
    #[arg(value_name = "ID")]
    id: String,
    /// Stay until all have ended, on a terminal with a tree that is drawn over. One that is not known yet is waited for, and so
    /// is a server that restarts meanwhile.
    #[arg(long)]
    watch: bool,
    /// How long to watch at most; unset: until all have ended.
    #[arg(long, value_name = "SPAN", value_parser = span::parse, requires = "watch")]
    timeout: Option<Duration>,
    /// Show this many tasks; 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// Tasks asked for in one call; the most that a server answers.
const PAGE_SIZE: u32 = 1000;

// Between two tries while the server is away, if it did not say itself.
const AWAY_DELAY: Duration = Duration::from_millis(500);

/// A group as it stands, with some of its tasks.
#[derive(Debug, Default)]
struct Look {
    group: Group,
    tasks: Vec<TaskState>,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.show().await, json)
    }

    async fn show(self) -> Result<Exit, Failure> {
        let (connection, json) = (self.remote.connect().await?, self.remote.json);
        if self.watch && !json && live::is_possible() {
            return Ok(end(&live::watch(&connection, &self.id, self.timeout, self.limit).await?));
        }
        if self.watch {
            self.tell(&connection).await?;
        }
        let look = Look::at(&connection, &self.id, self.limit).await?;
        if json {
            output::line(&to_json(&look).to_string())?;
        } else {
            output::line(&headline(&look.group))?;
            output::print_table(&table(&look))?;
        }
        Ok(if self.watch { end(&look.group) } else { Exit::Ok })
    }

    /// Tells how far it is until it has ended: a bar if somebody watches stderr, else a line for each change.
    async fn tell(&self, connection: &Connection) -> Result<Group, Failure> {
        let mut progress = Progress::begin("running", Unit::Tasks, None, self.remote.json);
        let mut last = String::new();
        until_ended(connection, &self.id, self.timeout, |group| {
            let text = counts(group);
            progress.of(group.total.into());
            progress.show(group.ended.into());
            if !self.remote.json && !progress.is_watched() && text != last {
                output::line(&text)?;
                last = text;
            }
            Ok(())
        })
        .await
    }
}

/// A chord is what its callback makes of it, which may be sent behind failures too.
fn end(group: &Group) -> Exit {
    let callback = group.callback.as_ref();
    let is_failed = callback.map_or(group.failed > 0, |state| state.status() == TaskStatus::Failure);
    if is_failed { Exit::TaskFailed } else { Exit::Ok }
}

impl Look {
    /// Reads a group and at most `limit` of its tasks (0: all), those that failed first.
    async fn at(connection: &Connection, id: &str, limit: usize) -> Result<Self, Failure> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut failed, mut others) = (Vec::new(), Vec::new());
        let group = pages(connection, id, |group, state| {
            let into = if state.status() == TaskStatus::Failure { &mut failed } else { &mut others };
            if into.len() < limit {
                into.push(state);
            }
            // Those that failed may be anywhere.
            failed.len() < limit && (others.len() < limit || (failed.len() as u64) < u64::from(group.failed))
        })
        .await?;
        failed.extend(others);
        failed.truncate(limit);
        Ok(Self { group, tasks: failed })
    }

    /// Reads a group and all its tasks, in their order.
    async fn in_order(connection: &Connection, id: &str) -> Result<Self, Failure> {
        let mut tasks = Vec::new();
        let group = pages(connection, id, |_, state| {
            tasks.push(state);
            true
        })
        .await?;
        Ok(Self { group, tasks })
    }
}

/// Goes through the tasks of a group in their order while `wants` it; how far the group is.
async fn pages(
    connection: &Connection,
    id: &str,
    mut wants: impl FnMut(&Group, TaskState) -> bool,
) -> Result<Group, Failure> {
    let mut page_token = String::new();
    loop {
        let request = proto::GetGroupRequest { group_id: id.to_owned(), page_size: PAGE_SIZE, page_token };
        let page = connection.tasks().get_group(remote::quick(request)).await?.into_inner();
        let group = page.group.unwrap_or_default();
        page_token = page.next_page_token;
        if !page.tasks.into_iter().all(|state| wants(&group, state)) || page_token.is_empty() {
            return Ok(group);
        }
    }
}

/// The states of all tasks of a group, in their order.
///
/// # Errors
/// As the server refused.
pub async fn states(connection: &Connection, id: &str) -> Result<Vec<TaskState>, Failure> {
    Ok(Look::in_order(connection, id).await?.tasks)
}

/// Waits until all tasks of a group have ended, and of a chord the callback; tells `each` how far it is. A server that is away
/// for a while is waited for.
///
/// # Errors
/// [`Exit::TimedOut`]: not within `timeout`. Else as the server refused, or `each`.
pub async fn until_ended(
    connection: &Connection,
    id: &str,
    timeout: Option<Duration>,
    mut each: impl FnMut(&Group) -> Result<(), Failure>,
) -> Result<Group, Failure> {
    let mut last: Option<Group> = None;
    let follow = async {
        loop {
            let broken = match follow(connection, id, &mut last, &mut each).await {
                Ok(Some(end)) => return Ok(end),
                // Ended by the server without a word, as at its stop.
                Ok(None) => AWAY_DELAY,
                Err(failure) if failure.is_passing() => failure.retry_after.unwrap_or(AWAY_DELAY),
                Err(failure) => return Err(failure),
            };
            tokio::time::sleep(broken).await;
        }
    };
    let Some(timeout) = timeout else { return follow.await };
    match tokio::time::timeout_at(Instant::now() + timeout, follow).await {
        Ok(end) => end,
        Err(_) => {
            let so_far = last.map_or_else(|| "it is not known here".to_owned(), |group| counts(&group));
            let text = format!("group {id:?} has not ended within {}; {so_far}", span::human(timeout));
            Err(Failure::new(Exit::TimedOut, text))
        }
    }
}

async fn follow(
    connection: &Connection,
    id: &str,
    last: &mut Option<Group>,
    each: &mut impl FnMut(&Group) -> Result<(), Failure>,
) -> Result<Option<Group>, Failure> {
    let request = proto::WatchStateRequest { group_id: id.to_owned(), ..Default::default() };
    let mut told = connection.tasks().watch_state(request).await?.into_inner();
    while let Some(message) = told.message().await? {
        let Some(group) = message.group else { continue };
        each(&group)?;
        *last = Some(group.clone());
        if group.completed {
            return Ok(Some(group));
        }
    }
    Ok(None)
}

/// Which is the failure of those that belong together: of the first that failed by itself, not because it did not run.
pub fn first_failure(states: &[TaskState]) -> Option<&TaskState> {
    let failed = states.iter().filter(|state| state.status() == TaskStatus::Failure);
    failed.min_by_key(|state| state.failure_reason() == proto::FailureReason::NotRun)
}

fn kind(group: &Group) -> &'static str {
    match group.kind() {
        GroupKind::Chain => "chain",
        GroupKind::Chord => "chord",
        GroupKind::Group | GroupKind::Unspecified => "group",
    }
}

fn counts(group: &Group) -> String {
    format!("{}{}", ended(group), failures(group))
}

fn ended(group: &Group) -> String {
    format!("{} of {} have ended", thousands(group.ended), thousands(group.total))
}

fn failures(group: &Group) -> String {
    if group.failed > 0 { format!(", {} failed", thousands(group.failed)) } else { String::new() }
}

fn sent(group: &Group) -> String {
    group.created_at.as_ref().map(|at| format!(", sent {} ago", output::age(Some(at)))).unwrap_or_default()
}

/// As `chord group_1  [######                  ]  25 of 100 have ended, 1 failed`.
fn headline(group: &Group) -> String {
    let bar = progress::bar(group.ended.into(), group.total.into());
    format!("{} {}  {bar}  {}{}", kind(group), output::cell(&group.group_id), counts(group), sent(group))
}

fn table(look: &Look) -> comfy_table::Table {
    let mut rows: Vec<(String, Option<&TaskState>)> =
        look.tasks.iter().map(|state| (output::cell(&state.task_id), Some(state))).collect();
    let more = look.group.total.saturating_sub(u32::try_from(look.tasks.len()).unwrap_or(u32::MAX));
    if more > 0 {
        rows.push((format!("… and {} more", thousands(more)), None));
    }
    if let Some(callback) = &look.group.callback {
        rows.push((format!("then {}", output::cell(&callback.task_id)), Some(callback)));
    }
    let mut table = output::table(["TASK", "NAME", "STATUS", "ATTEMPT", "SINCE", "RESULT"]);
    let last = rows.len().saturating_sub(1);
    for (place, (text, state)) in rows.into_iter().enumerate() {
        let branch = format!("{} {text}", if place == last { "└─" } else { "├─" });
        match state {
            Some(state) => table.add_row(std::iter::once(branch).chain(state::cells(state))),
            None => table.add_row([branch]),
        };
    }
    table
}

/// `9900` as `9,900`.
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn to_json(look: &Look) -> Value {
    let group = &look.group;
    output::object([
        ("group_id", group.group_id.clone().into()),
        ("kind", kind(group).to_ascii_uppercase().into()),
        ("total", group.total.into()),
        ("ended", group.ended.into()),
        ("failed", group.failed.into()),
        ("completed", group.completed.into()),
        ("created_at", output::moment(group.created_at.as_ref())),
        ("callback", group.callback.as_ref().map_or(Value::Null, state::to_json)),
        ("tasks", look.tasks.iter().map(state::to_json).collect::<Vec<_>>().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, status: TaskStatus) -> TaskState {
        TaskState { task_id: id.into(), task_name: "add".into(), status: status.into(), ..TaskState::default() }
    }

    #[test]
    fn a_group_is_a_tree_that_says_what_it_leaves_out() {
        let mut group = Group { group_id: "g".into(), total: 10_000, ended: 2500, failed: 1, ..Group::default() };
        group.set_kind(GroupKind::Chord);
        group.callback = Some(task("c", TaskStatus::Pending));
        assert_eq!(headline(&group), "chord g  [######                  ]  2,500 of 10,000 have ended, 1 failed");
        let look = Look { group, tasks: vec![task("a", TaskStatus::Failure), task("b", TaskStatus::Started)] };
        let rows: Vec<String> = table(&look).lines().map(|row| row.trim_end().to_owned()).collect();
        let starts = ["TASK", "├─ a", "├─ b", "├─ … and 9,998 more", "└─ then c"];
        assert_eq!(rows.len(), starts.len(), "{rows:?}");
        assert!(rows.iter().zip(starts).all(|(row, start)| row.starts_with(start)), "{rows:?}");
        assert!(rows[1].contains("FAILURE") && rows[4].contains("PENDING"), "{rows:?}");
    }

    #[test]
    fn numbers_are_read_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn the_failure_of_a_chain_is_that_of_the_task_that_ran() {
        let mut behind = task("b", TaskStatus::Failure);
        behind.set_failure_reason(proto::FailureReason::NotRun);
        let states = [task("x", TaskStatus::Success), behind, task("a", TaskStatus::Failure)];
        assert_eq!(first_failure(&states).map(|state| state.task_id.as_str()), Some("a"));
    }
}
