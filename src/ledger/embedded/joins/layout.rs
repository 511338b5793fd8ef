//! Which tables joins have, how their keys are made, how their records are read.
//!
//! Members and outcomes stand under the *serial* of their join, a number that is not used twice, and not under its id: so
//! those of a join that is forgotten can go piece by piece, while another one is open under the same id.

use std::ops::Bound;

use bytes::Bytes;
use prost::Message;

use crate::clock::WallTime;
use crate::engine::{Records, Table, Txn};
use crate::error::StoreError;
use crate::ledger::join::record::HeadRecord;
use crate::ledger::join::{Head, Stage};
use crate::task::{GroupId, TaskId};

use super::super::layout::{LEDGER, corrupt, decode, malformed};

/// Group → [`HeadRecord`]. Written once: the body of a callback may be large.
pub(super) const HEADS: Table = Table::new("joins");
/// Group → [`Progress`]: what changes with each member that ends.
pub(super) const PROGRESS: Table = Table::new("join_progress");
/// Group → [`crate::ledger::join::record::FiringRecord`]: what follows, until it is done.
pub(super) const FIRINGS: Table = Table::new("join_firings");
/// Serial, position → task: members in order.
pub(super) const MEMBERS: Table = Table::new("join_members");
/// Serial, task → position.
pub(super) const PLACES: Table = Table::new("join_places");
/// Serial, position → 1 if it ended badly, else 0, and the outcome.
pub(super) const OUTCOMES: Table = Table::new("join_outcomes");
/// Time, group → nothing: when to look at joins that are not closed. Exact: it moves with [`Progress::look_at`].
pub(super) const DUE: Table = Table::new("join_due");
/// Time, group → nothing: when to forget joins that are closed.
pub(super) const FORGET: Table = Table::new("join_forget");
/// Serial → nothing: members written before their head, because they are too many for one job.
pub(super) const UNFINISHED: Table = Table::new("join_unfinished");
/// Serial → nothing: all that stands under this serial is to be removed.
pub(super) const WASTE: Table = Table::new("join_waste");
/// Serial → nothing: its outcomes are to be removed.
pub(super) const WASTE_OUTCOMES: Table = Table::new("join_waste_outcomes");

const LAST_SERIAL: &[u8] = b"last join";

/// How far a join is, and what the steps must know of it without reading its head.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Progress {
    /// Under which its members stand.
    #[prost(fixed64, tag = "1")]
    pub(super) serial: u64,
    /// See [`Head::count`].
    #[prost(uint32, tag = "2")]
    pub(super) count: u32,
    /// Its members were told when it was opened.
    #[prost(bool, tag = "3")]
    pub(super) is_known: bool,
    /// Its members are not said to be sent.
    #[prost(bool, tag = "4")]
    pub(super) is_sending: bool,
    /// How many ended.
    #[prost(uint32, tag = "5")]
    pub(super) ended: u32,
    /// How many failed.
    #[prost(uint32, tag = "6")]
    pub(super) failed: u32,
    /// When to look at it, unix ns; while it is not closed, there is an entry of [`DUE`].
    #[prost(fixed64, tag = "7")]
    pub(super) look_at: u64,
    /// What follows is recorded.
    #[prost(bool, tag = "8")]
    pub(super) is_fired: bool,
    /// What follows is done.
    #[prost(bool, tag = "9")]
    pub(super) is_closed: bool,
    /// When it is forgotten, if it is closed, unix ns; there is an entry of [`FORGET`] then.
    #[prost(fixed64, tag = "10")]
    pub(super) forget_at: u64,
    /// See [`Head::keep`], ns.
    #[prost(uint64, tag = "11")]
    pub(super) keep_ns: u64,
}

impl Progress {
    pub(super) fn stage(&self) -> Stage {
        match () {
            () if self.is_closed => Stage::Closed,
            () if self.is_fired => Stage::Fired,
            () if self.is_sending => Stage::Sending,
            () => Stage::Open,
        }
    }

    /// Members that end are counted.
    pub(super) fn counts(&self) -> bool {
        !self.is_closed && !self.is_fired
    }

    pub(super) fn is_full(&self) -> bool {
        self.ended >= self.count
    }
}

fn key(group: &GroupId) -> &[u8] {
    group.as_str().as_bytes()
}

fn what(group: &GroupId) -> String {
    format!("join \"{group}\"")
}

/// What a join is.
pub(super) fn head(records: &impl Records, group: &GroupId) -> Result<Option<Head>, StoreError> {
    let Some(bytes) = records.get(HEADS, key(group))? else { return Ok(None) };
    let record: HeadRecord = decode(&what(group), bytes)?;
    record.try_into().map(Some).map_err(|error: crate::task::record::RecordError| corrupt(&what(group), error))
}

/// How far a join is.
pub(super) fn progress(records: &impl Records, group: &GroupId) -> Result<Option<Progress>, StoreError> {
    let Some(bytes) = records.get(PROGRESS, key(group))? else { return Ok(None) };
    decode(&what(group), bytes).map(Some)
}

/// Stores how far a join is.
pub(super) fn put_progress(txn: &mut Txn<'_>, group: &GroupId, progress: &Progress) -> Result<(), StoreError> {
    txn.put(PROGRESS, key(group), &progress.encode_to_vec())
}

/// A serial that was not used before.
pub(super) fn new_serial(txn: &mut Txn<'_>) -> Result<u64, StoreError> {
    let last = match txn.get(LEDGER, LAST_SERIAL)? {
        Some(bytes) => u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| malformed(LEDGER, LAST_SERIAL))?),
        None => 0,
    };
    txn.put(LEDGER, LAST_SERIAL, &(last + 1).to_be_bytes())?;
    Ok(last + 1)
}

/// The key of a member or an outcome by position.
pub(super) fn place_key(serial: u64, position: u32) -> Vec<u8> {
    [&serial.to_be_bytes()[..], &position.to_be_bytes()].concat()
}

/// Reads the position of such a key.
pub(super) fn read_position(table: Table, key: &[u8]) -> Result<u32, StoreError> {
    let position = key.last_chunk::<4>().filter(|_| key.len() == 12);
    position.map(|position| u32::from_be_bytes(*position)).ok_or_else(|| malformed(table, key))
}

/// The key of a member by its id.
pub(super) fn task_key(serial: u64, task: &TaskId) -> Vec<u8> {
    [&serial.to_be_bytes(), task.as_str().as_bytes()].concat()
}

/// The position of a member.
pub(super) fn position(records: &impl Records, serial: u64, task: &TaskId) -> Result<Option<u32>, StoreError> {
    let key = task_key(serial, task);
    let Some(bytes) = records.get(PLACES, &key)? else { return Ok(None) };
    bytes.as_ref().try_into().map(|bytes| Some(u32::from_be_bytes(bytes))).map_err(|_| malformed(PLACES, &key))
}

/// All keys of a serial.
pub(super) fn of_serial(serial: u64) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = serial.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded(next.to_be_bytes().to_vec()));
    (Bound::Included(serial.to_be_bytes().to_vec()), end)
}

/// What stands under the position of a member that ended.
pub(super) fn outcome_value(is_failure: bool, outcome: &[u8]) -> Vec<u8> {
    [&[u8::from(is_failure)], outcome].concat()
}

/// Reads such a value.
pub(super) fn read_outcome(key: &[u8], value: &Bytes) -> Result<(Bytes, bool), StoreError> {
    let is_failure = *value.first().ok_or_else(|| malformed(OUTCOMES, key))? != 0;
    Ok((value.slice(1..), is_failure))
}

/// The key of a join in [`DUE`] and [`FORGET`].
pub(super) fn time_key(at: u64, group: &GroupId) -> Vec<u8> {
    [&at.to_be_bytes(), key(group)].concat()
}

/// Reads such a key.
pub(super) fn read_time_key(table: Table, key: &[u8]) -> Result<(WallTime, GroupId), StoreError> {
    let read = || {
        let (at, group) = key.split_first_chunk::<8>()?;
        Some((WallTime(u64::from_be_bytes(*at)), GroupId::trusted(std::str::from_utf8(group).ok()?)))
    };
    read().ok_or_else(|| malformed(table, key))
}

/// Reads the key of [`UNFINISHED`] and the tables of waste.
pub(super) fn read_serial(table: Table, key: &[u8]) -> Result<u64, StoreError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| malformed(table, key))
}

/// The end of what is due at `now`, in [`DUE`] and [`FORGET`].
pub(super) fn after(now: WallTime) -> Bound<[u8; 8]> {
    now.0.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded(next.to_be_bytes()))
}
