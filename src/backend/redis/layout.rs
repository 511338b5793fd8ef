//! A state as Redis keeps it.

use std::time::Duration;

use redis::Cmd;

use super::StateWrite;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{Order, Status, TaskState, Timestamp};
use crate::wire::machinery::{self, Kept};

/// The room's name.
pub(super) const NAME: &str = "redis";

/// Longest that Redis is told to keep a key: beyond it an instant of the server would overflow.
pub(super) const KEEP_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A state on its way to the store.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) text: bytes::Bytes,
    /// It is the first of its sending, and told whole.
    pub(super) begins: bool,
    /// When it is forgotten, if it is final.
    pub(super) end_expires: Option<WallTime>,
    since: String,
    keep: String,
    how: String,
}

impl Item {
    pub(super) fn new(write: &StateWrite, now: WallTime) -> Self {
        let (state, expires) = (&write.state, now.plus(write.keep));
        let Kept { text, name_at, created_at } = machinery::encode_kept(state, expires);
        let (tells_name, tells_created) = (!state.task_name.is_empty(), state.created_at != Timestamp::ZERO);
        // Lua counts from 1.
        let place = |is_told: bool, at: usize| if is_told { 0 } else { at + 1 };
        let (name_at, created_at) = (place(tells_name, name_at), place(tells_created, created_at));
        let keep = keep(write.keep);
        let order = state.order();
        let first = Order { generation: order.generation, attempt: 1, releases: 0, rank: 0 };
        Self {
            key: state.task_id.as_str().to_owned(),
            begins: state.status == Status::Pending && order == first && tells_name && tells_created,
            end_expires: state.status.is_final().then_some(expires),
            since: since(state.generation),
            how: format!("{keep},{name_at},{created_at}"),
            keep,
            text,
        }
    }

    /// What the script is told of it.
    pub(super) fn args(&self) -> [&[u8]; 3] {
        [self.how.as_bytes(), self.since.as_bytes(), &self.text]
    }

    /// How long it is kept, ms, and what is stored.
    pub(super) fn value(&self) -> [&[u8]; 2] {
        [self.keep.as_bytes(), &self.text]
    }

    /// The command that stores it where nothing is.
    pub(super) fn set_new(&self) -> Cmd {
        let mut command = redis::cmd("SET");
        command.arg(&self.key).arg(&self.text[..]).arg("NX").arg("PX").arg(&self.keep);
        command
    }
}

/// How long, in whole milliseconds, at least one.
fn keep(keep: Duration) -> String {
    keep.min(KEEP_MAX).as_nanos().div_ceil(1_000_000).max(1).to_string()
}

/// When a sending began, as texts of times compare: all nine digits. Empty for a foreign one.
fn since(generation: u64) -> String {
    if generation == 0 {
        return String::new();
    }
    let whole = Timestamp::from_wall(WallTime(generation / 1_000_000_000 * 1_000_000_000)).to_string();
    format!("{}.{:09}", whole.trim_end_matches('Z'), generation % 1_000_000_000)
}

/// Reads what is stored; `None`: it has expired, though Redis still has it.
pub(super) fn read(text: &[u8], now: WallTime) -> Result<Option<TaskState>, String> {
    Ok(read_kept(text, now)?.map(|(state, _)| state))
}

/// As [`read`], and when it is forgotten: only of a state of ours.
pub(super) fn read_kept(text: &[u8], now: WallTime) -> Result<Option<(TaskState, Option<WallTime>)>, String> {
    let (state, expires) = machinery::decode_kept(text).map_err(|error| error.to_string())?;
    Ok(expires.is_none_or(|at| at > now).then_some((state, expires)))
}

pub(super) fn corrupt(why: String) -> StoreError {
    StoreError::Corrupt { store: NAME, why }
}
