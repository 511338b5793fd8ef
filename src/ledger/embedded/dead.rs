//! Tasks set aside.

use prost::Message;

use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::DeadTask;
use crate::ledger::record::DeadRecord;
use crate::task::MessageKey;

use super::layout::{self, DEAD};

/// Sets a task aside.
pub(super) fn bury_in(txn: &mut Txn<'_>, dead: &DeadTask) -> Result<(), StoreError> {
    txn.put(DEAD, dead.message.as_str().as_bytes(), &DeadRecord::from(dead).encode_to_vec())
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
    messages.iter().map(|message| txn.delete(DEAD, message.as_str().as_bytes())).collect()
}
