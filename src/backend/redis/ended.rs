//! The list of tasks that ended: a stream with one entry for each batch of final states, the newest last.
//!
//! - *An entry* has one field, the moment at which the last of its states expires (20 digits of unix ns). Its value: for each
//!   moment of expiry the moment and the ids, with the byte 0xff, which no id has, between them, and twice between moments.
//! - *A state is listed* where its expiry is the one that is stored with it: so a task that ended twice is listed once, and one
//!   that is gone, runs again or was not stored after all is not. Two ends of one task are never written within a nanosecond.
//! - *Entered* by the script that stores the states. In a cluster the list is elsewhere, and is entered behind the states: a
//!   crash or a lost connection between the two leaves a task out of the list; its state is there.
//! - *Order*: as the entries were written, by the clock of Redis; within one, as the states were told.
//! - *Not listed*: what a Machinery program stored, or overwrote.
//! - *Bounded* by the sweep, not by each write, which would pay for it: entries go when all their states have expired, the
//!   oldest also when the list is larger than [`LIST_BYTES_MAX`]. What ends between two sweeps (5 s) comes on top.
//! - *Cost*: 42 bytes for a UUID in a batch, 100 alone. Entries are made here, so that Lua looks at no task: 0.3 µs of Redis for
//!   each in batches of 64, 5 µs alone, and as much as half of that when it is swept (`tests/redis/ended.rs` measures it).

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use redis::{Pipeline, Value};

use super::layout::{self, Item};
use super::{Backend, told};
use crate::backend::{Ended, EndedPage, EndedQuery};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Failure, Script};

static SWEEP: Script = Script::new(include_str!("scripts/sweep.lua"));

/// The list, as the scripts name it.
const LIST: &str = "{lineshaft}:ended";
/// Most bytes that the list may take of Redis after a sweep.
pub(super) const LIST_BYTES_MAX: u64 = 64 << 20;
/// Entries that one call of a sweep takes away at most; 3 KB each if there is much to do, and all pass through Lua.
const SWEPT_MAX: usize = 100;

/// Between the parts of an entry: in no UTF-8, and so in no id.
const BETWEEN: u8 = 0xff;
/// Tasks looked at for one page: those whose states have expired or run again are passed over.
const LOOKED_AT_MAX: usize = 5_000;
/// Entries read at a time: few at first, since each may have hundreds of tasks.
const ENTRIES_MIN: usize = 4;
const ENTRIES_MAX: usize = 64;
/// Tasks in what was read, from which on no more entries are read at a time.
const TASKS_READ: usize = 256;
/// Most states read at a time: a page ends early when they are large.
const STATES_READ: usize = 32;

/// Field and value of an entry for what of `items` is an end; both empty if none is.
pub(super) fn entry<'a>(items: impl Iterator<Item = &'a Item>) -> [Vec<u8>; 2] {
    let (mut value, mut last, mut longest) = (Vec::new(), None, WallTime(0));
    for (item, expires) in items.filter_map(|item| item.end_expires.map(|expires| (item, expires))) {
        if last != Some(expires) {
            if last.is_some() {
                value.extend([BETWEEN, BETWEEN]);
            }
            value.extend(moment(expires).as_bytes());
            (last, longest) = (Some(expires), longest.max(expires));
        }
        value.push(BETWEEN);
        value.extend(item.key.as_bytes());
    }
    [last.map_or_else(Vec::new, |_| moment(longest).into_bytes()), value]
}

fn moment(at: WallTime) -> String {
    format!("{:020}", at.0)
}

/// An entry's name in Redis: ms of its clock, and a number within one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct EntryId {
    ms: u64,
    seq: u64,
}

/// A place in the list: the tasks of this entry before a number, and all entries before it, are still to be looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    entry: EntryId,
    before: u32,
}

impl Place {
    fn write(&self) -> Vec<u8> {
        let Self { entry, before } = self;
        [&entry.ms.to_be_bytes()[..], &entry.seq.to_be_bytes(), &before.to_be_bytes()].concat()
    }

    fn read(position: &[u8]) -> Result<Self, StoreError> {
        let (ms, rest) = position.split_first_chunk().ok_or(StoreError::Position)?;
        let (seq, rest) = rest.split_first_chunk().ok_or(StoreError::Position)?;
        let before = rest.try_into().map_err(|_| StoreError::Position)?;
        let entry = EntryId { ms: u64::from_be_bytes(*ms), seq: u64::from_be_bytes(*seq) };
        Ok(Self { entry, before: u32::from_be_bytes(before) })
    }
}

/// A task in the list; the place is behind it.
#[derive(Debug, PartialEq)]
struct Listed {
    place: Place,
    expires: WallTime,
    id: Vec<u8>,
}

/// What an entry lists before `before`, the last first; each once, however often it was told.
fn listed(entry: EntryId, value: &[u8], before: Option<u32>) -> Vec<Listed> {
    let (mut tasks, mut expires, mut number) = (Vec::new(), None, 0);
    for part in value.split(|byte| *byte == BETWEEN) {
        match expires {
            _ if part.is_empty() => expires = None,
            None => expires = std::str::from_utf8(part).ok().and_then(|text| text.parse().ok()).map(WallTime),
            Some(expires) => {
                tasks.push(Listed { place: Place { entry, before: number }, expires, id: part.into() });
                number += 1;
            }
        }
    }
    tasks.reverse();
    let mut seen = HashSet::new();
    tasks.retain(|task: &Listed| seen.insert((task.expires, task.id.clone())));
    tasks.retain(|task| before.is_none_or(|before| task.place.before < before));
    tasks
}

fn unreadable(why: impl fmt::Display) -> StoreError {
    layout::corrupt(format!("the list of ended tasks: {why}"))
}

/// The entries of an answer, each with the value of its only field.
fn entries(answer: Value) -> Result<Vec<(EntryId, Vec<u8>)>, StoreError> {
    let entries: Vec<(String, Vec<Vec<u8>>)> = redis::from_redis_value(answer).map_err(unreadable)?;
    let one = |(id, mut fields): (String, Vec<Vec<u8>>)| {
        let (ms, seq) = id.split_once('-')?;
        Some((EntryId { ms: ms.parse().ok()?, seq: seq.parse().ok()? }, fields.pop()?))
    };
    entries.into_iter().map(|entry| one(entry).ok_or_else(|| unreadable("an entry is none"))).collect()
}

impl Backend {
    /// Enters ends that were stored without the list. That they are stored is what counts: an error is only told.
    pub(super) async fn list(&self, stored: impl Iterator<Item = &Item>) {
        let [field, value] = entry(stored);
        if field.is_empty() {
            return;
        }
        let mut command = redis::cmd("XADD");
        command.arg(LIST).arg("*").arg(field).arg(value);
        if let Err(failure) = self.link.command(Access::Write, &command).await {
            let error = told(failure);
            tracing::warn!(%error, "tasks that ended may be missing from the list of ended tasks");
        }
    }

    /// Takes from the list what has expired, and what is too much; how many entries.
    pub(super) async fn sweep_list(&self, now: WallTime) -> Result<usize, StoreError> {
        let args = [moment(now), self.list_bytes_max.to_string(), SWEPT_MAX.to_string()];
        let answer = self.link.script(Access::Write, &SWEEP, &[LIST], &args).await.map_err(told)?;
        redis::from_redis_value(answer).map_err(unreadable)
    }

    /// Entries from the one of `place`, or the newest, to older ones.
    async fn entries(&self, place: Option<&Place>, count: usize) -> Result<Vec<(EntryId, Vec<u8>)>, StoreError> {
        let from = place.map_or_else(|| "+".to_owned(), |Place { entry, .. }| format!("{}-{}", entry.ms, entry.seq));
        let mut command = redis::cmd("XREVRANGE");
        command.arg(LIST).arg(from).arg("-").arg("COUNT").arg(count);
        entries(self.link.command(Access::Read, &command).await.map_err(told)?)
    }

    /// What stands under the ids of some tasks, in order.
    async fn texts(&self, tasks: &[Listed]) -> Result<Vec<Value>, StoreError> {
        let mut pipeline = Pipeline::new();
        for task in tasks {
            pipeline.cmd("GET").arg(&task.id);
        }
        let answers = self.link.pipeline(Access::Read, &pipeline).await.map_err(told)?;
        let one = |answer| match answer {
            // A list or a set under the name of a task is none of its states.
            Err(Failure { why, .. }) if why.starts_with("WRONGTYPE") => Ok(Value::Nil),
            answer => answer.map_err(told),
        };
        answers.into_iter().map(one).collect()
    }
}

#[async_trait]
impl Ended for Backend {
    async fn ended(&self, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError> {
        let mut place = query.after.map(Place::read).transpose()?;
        let mut page = EndedPage::default();
        let (mut looked_at, mut bytes, mut count) = (0, 0, ENTRIES_MIN);
        loop {
            let entries = self.entries(place.as_ref(), count).await?;
            let is_last = entries.len() < count;
            let oldest = entries.last().map(|(entry, _)| Place { entry: *entry, before: 0 });
            let before = |entry: EntryId| place.filter(|place| place.entry == entry).map(|place| place.before);
            let tasks: Vec<Listed> =
                entries.iter().flat_map(|(entry, value)| listed(*entry, value, before(*entry))).collect();
            if tasks.len() < TASKS_READ {
                count = (count * 2).min(ENTRIES_MAX);
            }
            for some in tasks.chunks(query.max.clamp(1, STATES_READ)) {
                for (task, text) in some.iter().zip(self.texts(some).await?) {
                    if looked_at == LOOKED_AT_MAX || page.states.len() >= query.max.max(1) || bytes >= query.bytes_max {
                        page.next = place.map(|place| place.write());
                        return Ok(page);
                    }
                    looked_at += 1;
                    place = Some(task.place);
                    let Value::BulkString(text) = text else { continue };
                    match layout::read_kept(&text, now) {
                        // One state that cannot be read must not hide all others.
                        Err(why) => tracing::error!(%why, "a stored state cannot be read"),
                        Ok(Some((state, expires))) if state.status.is_final() && expires == Some(task.expires) => {
                            bytes += text.len();
                            page.states.push(state);
                        }
                        Ok(_) => {}
                    }
                }
            }
            if is_last {
                return Ok(page);
            }
            place = oldest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::StateWrite;
    use crate::task::{FailureReason, Status, TaskId, TaskState, Timestamp};

    #[test]
    fn places_read_back_and_nothing_else_does() {
        let place = Place { entry: EntryId { ms: 1 << 40, seq: 3 }, before: 7 };
        assert_eq!(Place::read(&place.write()), Ok(place));
        for wrong in [&b""[..], b"no", &place.write()[..19], &[&place.write()[..], b"x"].concat()] {
            assert_eq!(Place::read(wrong), Err(StoreError::Position));
        }
    }

    #[test]
    fn an_entry_lists_its_tasks_from_its_end_each_once() {
        let name = EntryId { ms: 1, seq: 0 };
        let item = |id: &str, status, kept| {
            let state = TaskState {
                task_id: TaskId::trusted(id),
                task_name: String::new(),
                status,
                results: None,
                error: String::new(),
                reason: FailureReason::Unknown,
                generation: 1,
                attempt: 1,
                releases: 0,
                created_at: Timestamp::ZERO,
                updated_at: Timestamp::ZERO,
            };
            Item::new(&StateWrite { state, keep: Duration::from_secs(kept) }, WallTime(0))
        };
        let (good, bad) = (Status::Success, Status::Failure);
        let items = [
            item("a", good, 9),
            item("b\n", bad, 9),
            item("a", good, 9),
            item("r", Status::Retry, 5),
            item("c", good, 7),
        ];
        let [field, value] = entry(items.iter());
        assert_eq!(field, b"00000000009000000000");
        let task = |before: u32, expires: u64, id: &str| Listed {
            place: Place { entry: name, before },
            expires: WallTime(expires * 1_000_000_000),
            id: id.into(),
        };
        assert_eq!(listed(name, &value, None), [task(3, 7, "c"), task(2, 9, "a"), task(1, 9, "b\n")]);
        assert_eq!(listed(name, &value, Some(2)), [task(1, 9, "b\n")]);
        assert_eq!(listed(name, &value, Some(1)), []);
        assert_eq!(listed(name, b"", None), []);
        assert_eq!(entry(items[3..4].iter()), [b"", b""]);
    }
}
