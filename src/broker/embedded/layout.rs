//! How messages are stored: which table, which key, which record.
//!
//! The functions that end in `_in` work inside a transaction of the caller's, so that a step over several rooms is one.
//! What they change in the index waits for the commit.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::broker::record::NewTaskRecord;
use crate::broker::{Found, NewTask, Published};
use crate::clock::WallTime;
use crate::engine::{self, Records, Table, Txn};
use crate::error::StoreError;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

use super::Store;
use super::index::{Arrival, Place, Rank};

/// Message key → [`MessageRecord`].
pub(super) const MESSAGES: Table = Table::new("messages");
/// Message key → body, where it is larger than [`INLINE_BYTES_MAX`].
const BODIES: Table = Table::new("bodies");

/// Larger bodies have a table of their own: the messages are all read at start, and large bodies would make that slow.
/// Small ones stay with their message, as a second write would cost more than reading them then.
const INLINE_BYTES_MAX: usize = 2048;

/// A message as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MessageRecord {
    /// Its place among all messages; grows with each one published.
    #[prost(fixed64, tag = "1")]
    pub(super) order: u64,
    /// The message without its key, and without its body if that has a table of its own.
    #[prost(message, optional, tag = "2")]
    pub(super) task: Option<NewTaskRecord>,
    /// Length of the body, wherever it is.
    #[prost(uint32, tag = "3")]
    pub(super) body_bytes: u32,
}

/// The parts of a [`MessageRecord`] that the index needs: read at start without copying the rest.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(fixed64, tag = "1")]
    order: u64,
    #[prost(message, optional, tag = "2")]
    task: Option<TaskHead>,
    #[prost(uint32, tag = "3")]
    body_bytes: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskHead {
    #[prost(string, tag = "2")]
    task: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    queue: String,
    #[prost(fixed64, optional, tag = "7")]
    available_at: Option<u64>,
    #[prost(uint32, tag = "8")]
    priority: u32,
}

fn priority(stored: u32) -> u8 {
    u8::try_from(stored).unwrap_or(u8::MAX)
}

fn corrupt(key: &[u8], why: impl std::fmt::Display) -> StoreError {
    let key = String::from_utf8_lossy(key);
    StoreError::Corrupt { store: engine::NAME, why: format!("message {key:?}: {why}") }
}

/// Reads one entry of [`MESSAGES`] for the index; answers its order too.
pub(super) fn arrival(key: &[u8], value: &[u8]) -> Result<(u64, Arrival), StoreError> {
    let head = Head::decode(value).map_err(|e| corrupt(key, e))?;
    let task = head.task.ok_or_else(|| corrupt(key, "it has no task"))?;
    let text = std::str::from_utf8(key).map_err(|e| corrupt(key, e))?;
    let arrival = Arrival {
        rank: Rank::new(priority(task.priority), head.order),
        queue: QueueName::trusted(task.queue),
        name: TaskName::trusted(task.name),
        key: MessageKey::trusted(text),
        task: TaskId::trusted(task.task),
        body_bytes: head.body_bytes,
        available_at: task.available_at.map(WallTime),
        // An earlier process may have delivered it.
        redelivered: true,
    };
    Ok((head.order, arrival))
}

fn message(records: &impl Records, key: &MessageKey) -> Result<Option<(MessageRecord, NewTaskRecord)>, StoreError> {
    let key = key.as_str().as_bytes();
    let Some(value) = records.get(MESSAGES, key)? else { return Ok(None) };
    let mut record = MessageRecord::decode(value).map_err(|e| corrupt(key, e))?;
    let task = record.task.take().ok_or_else(|| corrupt(key, "it has no task"))?;
    Ok(Some((record, task)))
}

/// The body of the message with this key; `None`: there is none, or, if `rank` is given, not of this rank.
pub(super) fn body(records: &impl Records, key: &MessageKey, rank: Option<Rank>) -> Result<Option<Bytes>, StoreError> {
    let Some((record, task)) = message(records, key)? else { return Ok(None) };
    if rank.is_some_and(|rank| rank != Rank::new(priority(task.priority), record.order)) {
        return Ok(None);
    }
    if record.body_bytes as usize == task.body.len() {
        return Ok(Some(task.body));
    }
    let body = records.get(BODIES, key.as_str().as_bytes())?;
    body.map(Some).ok_or_else(|| corrupt(key.as_str().as_bytes(), "its body is missing"))
}

/// The message with this key, if it is of this task.
pub(super) fn found(records: &impl Records, key: &MessageKey, task: &TaskId) -> Result<Option<Found>, StoreError> {
    let Some((_, record)) = message(records, key)? else { return Ok(None) };
    if record.task != task.as_str() {
        return Ok(None);
    }
    let found = |body| Found {
        key: key.clone(),
        queue: QueueName::trusted(record.queue),
        name: TaskName::trusted(record.name),
        body,
    };
    Ok(body(records, key, None)?.map(found))
}

/// Stores messages whose keys are not there yet.
pub(crate) fn publish_in(
    txn: &mut Txn<'_>,
    store: &Arc<Store>,
    tasks: &[NewTask],
) -> Result<Vec<Published>, StoreError> {
    let mut answers = Vec::with_capacity(tasks.len());
    let mut arrivals = Vec::with_capacity(tasks.len());
    for task in tasks {
        let key = task.key.as_str().as_bytes();
        if txn.get(MESSAGES, key)?.is_some() {
            answers.push(Published::Already);
            continue;
        }
        let order = store.next_order();
        let body_bytes = u32::try_from(task.body.len()).unwrap_or(u32::MAX);
        let mut record = NewTaskRecord::from(task);
        record.key = String::new();
        if task.body.len() > INLINE_BYTES_MAX {
            record.body = Bytes::new();
            txn.put(BODIES, key, &task.body)?;
        }
        let record = MessageRecord { order, task: Some(record), body_bytes };
        txn.put(MESSAGES, key, &record.encode_to_vec())?;
        arrivals.push(Arrival {
            queue: task.queue.clone(),
            name: task.name.clone(),
            rank: Rank::new(task.priority, order),
            key: task.key.clone(),
            task: task.task.clone(),
            body_bytes,
            available_at: task.available_at,
            redelivered: false,
        });
        answers.push(Published::New);
    }
    if !arrivals.is_empty() {
        let store = Arc::clone(store);
        txn.on_commit(move || store.index.insert(arrivals, store.clock.wall()));
    }
    Ok(answers)
}

/// Removes the message with this key wherever it stands: ready, delayed or held. Answers whether it was there.
pub(crate) fn acknowledge_in(txn: &mut Txn<'_>, store: &Arc<Store>, key: &MessageKey) -> Result<bool, StoreError> {
    remove_in(txn, store, key, None)
}

/// Removes the message with this key; if `rank` is given, only if it is of this rank, as the key may have been published
/// again since.
pub(super) fn remove_in(
    txn: &mut Txn<'_>,
    store: &Arc<Store>,
    key: &MessageKey,
    rank: Option<Rank>,
) -> Result<bool, StoreError> {
    let Some((record, task)) = message(txn, key)? else { return Ok(false) };
    let place = Place {
        rank: Rank::new(priority(task.priority), record.order),
        queue: QueueName::trusted(task.queue),
        name: TaskName::trusted(task.name),
        key: key.clone(),
        task: TaskId::trusted(task.task),
        available_at: task.available_at.map(WallTime),
    };
    if rank.is_some_and(|rank| rank != place.rank) {
        return Ok(false);
    }
    txn.delete(MESSAGES, key.as_str().as_bytes())?;
    if record.body_bytes as usize != task.body.len() {
        txn.delete(BODIES, key.as_str().as_bytes())?;
    }
    let store = Arc::clone(store);
    txn.on_commit(move || store.index.remove(&place));
    Ok(true)
}

/// Stores that the message is not to be taken before `at`. `false`: it is gone.
pub(super) fn put_off_in(txn: &mut Txn<'_>, key: &MessageKey, rank: Rank, at: WallTime) -> Result<bool, StoreError> {
    let Some((mut record, mut task)) = message(txn, key)? else { return Ok(false) };
    if rank != Rank::new(priority(task.priority), record.order) {
        return Ok(false);
    }
    task.available_at = Some(at.0);
    record.task = Some(task);
    txn.put(MESSAGES, key.as_str().as_bytes(), &record.encode_to_vec())?;
    Ok(true)
}
