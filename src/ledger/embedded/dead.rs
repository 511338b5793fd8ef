//! Tasks set aside.

use std::ops::Bound;

use prost::Message;

use crate::clock::WallTime;
use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::DeadTask;
use crate::ledger::record::DeadRecord;
use crate::task::MessageKey;

use super::ends::Swept;
use super::layout::{self, DEAD, DEAD_AGES};

/// Dead tasks looked at in one job of a sweep: each may have a body of a MiB, which is read with it.
const SWEEP_MAX: usize = 100;

/// Sets a task aside.
pub(super) fn bury_in(txn: &mut Txn<'_>, dead: &DeadTask) -> Result<(), StoreError> {
    txn.put(DEAD, dead.message.as_str().as_bytes(), &DeadRecord::from(dead).encode_to_vec())?;
    txn.put(DEAD_AGES, &layout::time_key(dead.at, &dead.message), &[])
}

/// Dead tasks after `after`.
pub(super) fn page(
    records: &impl Records,
    after: Option<&MessageKey>,
    max: usize,
) -> Result<Vec<DeadTask>, StoreError> {
    let range = layout::behind(after.map(MessageKey::as_str));
    let page = records.scan(DEAD, range, Direction::Forward, max)?;
    let read = |(key, value): (bytes::Bytes, _)| {
        layout::decode::<DeadRecord>(&key.escape_ascii().to_string(), value).map(Into::into)
    };
    page.into_iter().map(read).collect()
}

/// The dead task of a message.
pub(super) fn read(records: &impl Records, message: &MessageKey) -> Result<Option<DeadTask>, StoreError> {
    let Some(bytes) = records.get(DEAD, message.as_str().as_bytes())? else { return Ok(None) };
    layout::decode::<DeadRecord>(message.as_str(), bytes).map(|record| Some(record.into()))
}

/// Records generations with dead tasks that have none.
pub(super) fn begin_requeue_in(
    txn: &mut Txn<'_>,
    items: &[(MessageKey, u64)],
) -> Result<Vec<Option<DeadTask>>, StoreError> {
    // Each message once, by its first generation, and all read before anything is written: an error after a write would
    // take the whole group with it.
    let mut found = std::collections::BTreeMap::new();
    for (message, generation) in items {
        if !found.contains_key(message) {
            found.insert(message, (read(txn, message)?, *generation));
        }
    }
    for (dead, generation) in found.values_mut() {
        if let Some(dead) = dead
            && dead.requeue.is_none()
        {
            dead.requeue = Some(*generation);
            bury_in(txn, dead)?;
        }
    }
    Ok(items.iter().map(|(message, _)| found.get(message).and_then(|(dead, _)| dead.clone())).collect())
}

/// Forgets dead tasks.
pub(super) fn forget_in(txn: &mut Txn<'_>, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError> {
    // One that cannot be read can still be deleted; its entry by age is then met by a sweep.
    let aged = |message: &MessageKey| Some(layout::time_key(read(txn, message).ok()??.at, message));
    let ages: Vec<Option<Vec<u8>>> = messages.iter().map(aged).collect();
    let mut was_there = Vec::with_capacity(messages.len());
    for (message, age) in messages.iter().zip(ages) {
        was_there.push(txn.delete(DEAD, message.as_str().as_bytes())?);
        if let Some(age) = age {
            txn.delete(DEAD_AGES, &age)?;
        }
    }
    Ok(was_there)
}

/// Forgets dead tasks that were set aside before `before`, oldest first.
pub(super) fn sweep_in(txn: &mut Txn<'_>, before: WallTime) -> Result<Swept, StoreError> {
    let end = before.0.to_be_bytes();
    let range = (Bound::Unbounded, Bound::Excluded(end.as_slice()));
    let entries = txn.scan(DEAD_AGES, range, Direction::Forward, SWEEP_MAX)?;
    let is_unfinished = entries.len() == SWEEP_MAX;
    let mut plan = Vec::with_capacity(entries.len());
    for (key, _) in entries {
        let (at, message) = layout::read_time_key(DEAD_AGES, &key)?;
        // One that cannot be read is left to whoever asks for it.
        let is_past = read(txn, &message).is_ok_and(|dead| dead.is_some_and(|dead| dead.at == at));
        plan.push((key, is_past.then_some(message)));
    }
    let mut forgotten = 0;
    for (key, message) in plan {
        txn.delete(DEAD_AGES, &key)?;
        if let Some(message) = message {
            forgotten += usize::from(txn.delete(DEAD, message.as_str().as_bytes())?);
        }
    }
    Ok(Swept { forgotten, is_unfinished })
}
