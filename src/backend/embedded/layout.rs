//! How states are stored: the state under its task id, and an index of when each is to be forgotten.
//!
//! The functions that end in `_in` work inside a transaction of the caller's, so that a step over several rooms is one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::backend::{StateWrite, Written};
use crate::clock::WallTime;
use crate::engine::{self, Direction, Records, Table, Txn};
use crate::error::StoreError;
use crate::task::record::StateRecord;
use crate::task::{Order, TaskId, TaskState, Timestamp};

use super::ended;
use super::groups::is_short;
use super::watch::Watched;

/// Task id → [`StoredState`].
const STATES: Table = Table::new("states");
/// [`minute`] of expiry (eight bytes, big endian), task id → nothing.
const EXPIRY: Table = Table::new("expiry");

/// Most states that one sweep forgets: some milliseconds of the committer's time.
const SWEEP_MAX: usize = 1000;
/// Most entries of the index that one sweep looks at.
const SWEEP_SEEN_MAX: usize = 10_000;

/// A state as stored.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredState {
    #[prost(message, optional, tag = "1")]
    state: Option<StateRecord>,
    /// Unix ns; from then on it reads as unknown.
    #[prost(fixed64, tag = "2")]
    expires_at: u64,
}

fn corrupt(id: &[u8], why: impl std::fmt::Display) -> StoreError {
    let id = String::from_utf8_lossy(id);
    StoreError::Corrupt { store: engine::NAME, why: format!("state of task {id:?}: {why}") }
}

/// The state of `id` and when it expires, whether or not that has passed.
pub(super) fn stored(records: &impl Records, id: &[u8]) -> Result<Option<(TaskState, WallTime)>, StoreError> {
    let Some(value) = records.get(STATES, id)? else { return Ok(None) };
    let stored = StoredState::decode(value).map_err(|e| corrupt(id, e))?;
    let state = stored.state.ok_or_else(|| corrupt(id, "it is missing"))?;
    let state = state.try_into().map_err(|e| corrupt(id, e))?;
    Ok(Some((state, WallTime(stored.expires_at))))
}

/// Where an expiry stands in the index: its minute, rounded down. Most states are written several times within a minute
/// with the same `keep`, and need no new entry then.
fn minute(expires_at: WallTime) -> u64 {
    expires_at.0 / 60_000_000_000
}

fn expiry_key(minute: u64, id: &[u8]) -> Vec<u8> {
    [&minute.to_be_bytes()[..], id].concat()
}

/// The state of `id`; `None`: unknown, or expired at `now`.
pub(super) fn read(records: &impl Records, id: &TaskId, now: WallTime) -> Result<Option<TaskState>, StoreError> {
    let stored = stored(records, id.as_str().as_bytes())?;
    Ok(stored.filter(|(_, expires_at)| *expires_at > now).map(|(state, _)| state))
}

/// Stores states whose order is greater than what is there.
pub(crate) fn write_in(
    txn: &mut Txn<'_>,
    watched: &Arc<Watched>,
    writes: &[StateWrite],
    now: WallTime,
) -> Result<Vec<Written>, StoreError> {
    let mut answers = Vec::with_capacity(writes.len());
    let mut changed = Vec::new();
    for write in writes {
        let id = write.state.task_id.as_str().as_bytes();
        let before = stored(txn, id)?;
        let old_minute = before.as_ref().map(|(_, expires_at)| minute(*expires_at));
        let old_end = before.as_ref().and_then(|(state, _)| ended::key(state));
        let live = before.filter(|(_, expires_at)| *expires_at > now).map(|(state, _)| state);
        let mut record = StateRecord::from(&write.state);
        if let Some(live) = live {
            if write.state.order() <= live.order() {
                answers.push(Written::Behind);
                continue;
            }
            let kept = StateRecord::from(&live);
            if write.state.created_at == Timestamp::ZERO {
                record.created_at = kept.created_at;
            }
            if record.task_name.is_empty() {
                record.task_name = kept.task_name;
            }
        }
        let expires_at = now.plus(write.keep);
        let new_minute = minute(expires_at);
        if old_minute != Some(new_minute) {
            if let Some(old) = old_minute {
                txn.delete(EXPIRY, &expiry_key(old, id))?;
            }
            txn.put(EXPIRY, &expiry_key(new_minute, id), &[])?;
        }
        ended::replace(txn, old_end, &write.state)?;
        let stored = StoredState { state: Some(record), expires_at: expires_at.0 };
        txn.put(STATES, id, &stored.encode_to_vec())?;
        changed.push(write.state.task_id.clone());
        answers.push(Written::Applied);
    }
    watched.tell_after(txn, changed);
    Ok(answers)
}

/// Removes the state of `id` if it is exactly of this order.
pub(super) fn retract_in(
    txn: &mut Txn<'_>,
    watched: &Arc<Watched>,
    states: &[(TaskId, Order)],
) -> Result<(), StoreError> {
    let mut changed = Vec::new();
    for (id, order) in states {
        let key = id.as_str().as_bytes();
        let Some((state, expires_at)) = stored(txn, key)? else { continue };
        if state.order() != *order {
            continue;
        }
        txn.delete(EXPIRY, &expiry_key(minute(expires_at), key))?;
        ended::remove(txn, &state)?;
        txn.delete(STATES, key)?;
        changed.push(id.clone());
    }
    watched.tell_after(txn, changed);
    Ok(())
}

/// Keeps final states longer that would soon be forgotten.
pub(super) fn refresh_in(txn: &mut Txn<'_>, tasks: &[TaskId], keep: Duration, now: WallTime) -> Result<(), StoreError> {
    // All reading comes before all writing. The same task may be named twice.
    let mut short = BTreeMap::new();
    for task in tasks {
        let id = task.as_str().as_bytes();
        let found = stored(txn, id)?.filter(|(state, at)| state.status.is_final() && is_short(*at, keep, now));
        short.extend(found.map(|found| (id, found)));
    }
    let expires_at = now.plus(keep);
    for (id, (state, before)) in short {
        if minute(before) != minute(expires_at) {
            txn.delete(EXPIRY, &expiry_key(minute(before), id))?;
            txn.put(EXPIRY, &expiry_key(minute(expires_at), id), &[])?;
        }
        let stored = StoredState { state: Some((&state).into()), expires_at: expires_at.0 };
        txn.put(STATES, id, &stored.encode_to_vec())?;
    }
    Ok(())
}

/// Forgets states whose time has passed; answers how many.
pub(super) fn sweep_in(txn: &mut Txn<'_>, now: WallTime) -> Result<usize, StoreError> {
    // Everything up to the end of this minute; within it some are not due yet, and stay.
    let end = expiry_key(minute(now).saturating_add(1), b"");
    let mut from: Option<Bytes> = None;
    let (mut forgotten, mut seen) = (0, 0);
    while forgotten < SWEEP_MAX && seen < SWEEP_SEEN_MAX {
        let start = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = txn.scan(EXPIRY, (start, Bound::Excluded(&end)), Direction::Forward, SWEEP_MAX - forgotten)?;
        let Some((last, _)) = page.last() else { break };
        from = Some(last.clone());
        seen += page.len();
        for (entry, _) in &page {
            let Some((in_minute, id)) = entry.split_first_chunk::<8>() else {
                return Err(corrupt(entry, "an entry of the expiry index is too short"));
            };
            // What cannot be read is forgotten when its time comes, like anything else.
            let (state, expires_at) = match stored(txn, id) {
                Ok(stored) => stored.unzip(),
                Err(StoreError::Corrupt { why, .. }) => {
                    tracing::error!(why, "a stored state cannot be read and is removed");
                    (None, Some(WallTime(0)))
                }
                Err(error) => return Err(error),
            };
            let is_due = expires_at.is_none_or(|at| at <= now);
            // An entry that does not belong to its state any more cannot be, but would stay for ever.
            let is_stray = expires_at.is_some_and(|at| at.0 > 0 && minute(at) != u64::from_be_bytes(*in_minute));
            if is_due && !is_stray {
                if let Some(state) = &state {
                    ended::remove(txn, state)?;
                }
                txn.delete(STATES, id)?;
                forgotten += 1;
            }
            if is_due || is_stray {
                txn.delete(EXPIRY, entry)?;
            }
        }
    }
    Ok(forgotten)
}
