//! How records of groups are stored: their members apart from what changes, as there may be very many.

use std::ops::Bound;
use std::time::Duration;

use prost::Message;

use crate::backend::{GroupMeta, Triggered};
use crate::clock::WallTime;
use crate::engine::{self, Direction, Records, Table, Txn};
use crate::error::StoreError;
use crate::task::record::TimestampRecord;
use crate::task::{GroupId, MessageKey, TaskId, Timestamp};

/// Group → [`StoredGroup`].
const GROUPS: Table = Table::new("groups");
/// Group → [`StoredFlag`].
const FLAGS: Table = Table::new("group_flags");
/// Time of expiry (unix ns, eight bytes, big endian), group → nothing.
const EXPIRY: Table = Table::new("group_expiry");

/// Groups that one sweep forgets.
const SWEEP_MAX: usize = 1_000;

/// A group as stored, save what changes.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredGroup {
    #[prost(string, repeated, tag = "1")]
    tasks: Vec<String>,
    /// Unset: not known.
    #[prost(message, optional, tag = "2")]
    created_at: Option<TimestampRecord>,
}

/// What changes of a group.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredFlag {
    /// Unix ns; from then on it reads as unknown.
    #[prost(fixed64, tag = "1")]
    expires_at: u64,
    #[prost(bool, tag = "2")]
    is_triggered: bool,
    /// Whose callback it is that is being sent, if the flag was set here.
    #[prost(string, optional, tag = "3")]
    message: Option<String>,
}

fn decode<T: Message + Default>(id: &GroupId, bytes: bytes::Bytes) -> Result<T, StoreError> {
    T::decode(bytes)
        .map_err(|error| StoreError::Corrupt { store: engine::NAME, why: format!("group \"{id}\": {error}") })
}

fn flag(records: &impl Records, id: &GroupId) -> Result<Option<StoredFlag>, StoreError> {
    records.get(FLAGS, id.as_str().as_bytes())?.map(|bytes| decode(id, bytes)).transpose()
}

fn live_flag(records: &impl Records, id: &GroupId, now: WallTime) -> Result<Option<StoredFlag>, StoreError> {
    Ok(flag(records, id)?.filter(|flag| flag.expires_at > now.0))
}

fn expiry_key(at: u64, id: &str) -> Vec<u8> {
    [&at.to_be_bytes(), id.as_bytes()].concat()
}

/// Stores what changes, and moves the entry of the index from where it stood.
fn put_flag(txn: &mut Txn<'_>, id: &GroupId, old: Option<u64>, flag: &StoredFlag) -> Result<(), StoreError> {
    if old != Some(flag.expires_at) {
        if let Some(old) = old {
            txn.delete(EXPIRY, &expiry_key(old, id.as_str()))?;
        }
        txn.put(EXPIRY, &expiry_key(flag.expires_at, id.as_str()), &[])?;
    }
    txn.put(FLAGS, id.as_str().as_bytes(), &flag.encode_to_vec())
}

/// Stores a group, whatever stood there.
pub(super) fn put_in(txn: &mut Txn<'_>, group: &GroupMeta, keep: Duration, now: WallTime) -> Result<(), StoreError> {
    let old = flag(txn, &group.id)?.map(|flag| flag.expires_at);
    let new = StoredFlag { expires_at: now.plus(keep).0, is_triggered: group.is_triggered, message: None };
    let stored = StoredGroup {
        tasks: group.tasks.iter().map(ToString::to_string).collect(),
        created_at: (group.created_at != Timestamp::ZERO).then(|| group.created_at.into()),
    };
    txn.put(GROUPS, group.id.as_str().as_bytes(), &stored.encode_to_vec())?;
    put_flag(txn, &group.id, old, &new)
}

/// A group; `None`: unknown, or expired at `now`.
pub(super) fn read(records: &impl Records, id: &GroupId, now: WallTime) -> Result<Option<GroupMeta>, StoreError> {
    let Some(flag) = live_flag(records, id, now)? else { return Ok(None) };
    let Some(bytes) = records.get(GROUPS, id.as_str().as_bytes())? else { return Ok(None) };
    let stored: StoredGroup = decode(id, bytes)?;
    Ok(Some(GroupMeta {
        id: id.clone(),
        tasks: stored.tasks.into_iter().map(TaskId::trusted).collect(),
        is_triggered: flag.is_triggered,
        created_at: stored.created_at.map_or(Timestamp::ZERO, Into::into),
    }))
}

/// Sets the flag of a group for `message`, unless it is set.
pub(super) fn trigger_in(
    txn: &mut Txn<'_>,
    id: &GroupId,
    message: &MessageKey,
    keep: Duration,
    now: WallTime,
) -> Result<Triggered, StoreError> {
    let Some(flag) = live_flag(txn, id, now)? else { return Ok(Triggered::Unknown) };
    if flag.is_triggered {
        let is_ours = flag.message.as_deref() == Some(message.as_str());
        return Ok(if is_ours { Triggered::Ours } else { Triggered::Theirs });
    }
    let message = Some(message.to_string());
    let new = StoredFlag { expires_at: now.plus(keep).0, is_triggered: true, message };
    put_flag(txn, id, Some(flag.expires_at), &new)?;
    Ok(Triggered::Ours)
}

/// What has not expired at `now`, and has less than half of `keep` left.
pub(super) fn is_short(expires_at: WallTime, keep: Duration, now: WallTime) -> bool {
    expires_at > now && now.until(expires_at) < keep / 2
}

/// Keeps the record of a group longer, if it would soon be forgotten.
pub(super) fn refresh_in(txn: &mut Txn<'_>, id: &GroupId, keep: Duration, now: WallTime) -> Result<(), StoreError> {
    let Some(flag) = flag(txn, id)?.filter(|flag| is_short(WallTime(flag.expires_at), keep, now)) else {
        return Ok(());
    };
    let old = flag.expires_at;
    put_flag(txn, id, Some(old), &StoredFlag { expires_at: now.plus(keep).0, ..flag })
}

/// Forgets groups whose time has passed; answers how many.
pub(super) fn sweep_in(txn: &mut Txn<'_>, now: WallTime) -> Result<usize, StoreError> {
    let end = now.0.saturating_add(1).to_be_bytes();
    let due = txn.scan(EXPIRY, (Bound::Unbounded, Bound::Excluded(&end)), Direction::Forward, SWEEP_MAX)?;
    for (entry, _) in &due {
        let id = entry.get(size_of::<u64>()..).unwrap_or_default();
        txn.delete(GROUPS, id)?;
        txn.delete(FLAGS, id)?;
        txn.delete(EXPIRY, entry)?;
    }
    Ok(due.len())
}
