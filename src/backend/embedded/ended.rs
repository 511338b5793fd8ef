//! An index of final states by when they were written, the newest first: one entry for each task that has ended.

use std::ops::Bound;

use prost::Message;

use crate::backend::{EndedPage, EndedQuery};
use crate::clock::WallTime;
use crate::engine::{Direction, Records, Table, Txn};
use crate::error::StoreError;
use crate::task::TaskState;
use crate::task::record::StateRecord;

use super::layout;

/// `u64::MAX` less the unix ns of [`TaskState::updated_at`] (eight bytes, big endian), task id → nothing.
const ENDED: Table = Table::new("ended");

/// Entries looked at for one page: those of states that have expired and are not swept yet are passed over.
const LOOKED_AT_MAX: usize = 5_000;

/// Entries read at a time.
const CHUNK: usize = 256;

/// Where a state stands in the index; `None`: it is not final.
pub(super) fn key(state: &TaskState) -> Option<Vec<u8>> {
    let newest_first = u64::MAX - state.updated_at.to_wall().0;
    state.status.is_final().then(|| [&newest_first.to_be_bytes()[..], state.task_id.as_str().as_bytes()].concat())
}

/// Enters a state that is written in place of one that stood at `old`.
pub(super) fn replace(txn: &mut Txn<'_>, old: Option<Vec<u8>>, new: &TaskState) -> Result<(), StoreError> {
    if let Some(old) = old {
        txn.delete(ENDED, &old)?;
    }
    key(new).map_or(Ok(()), |key| txn.put(ENDED, &key, &[]))
}

/// Removes a state that goes.
pub(super) fn remove(txn: &mut Txn<'_>, state: &TaskState) -> Result<(), StoreError> {
    key(state).map_or(Ok(()), |key| txn.delete(ENDED, &key).map(drop))
}

/// A page of final states.
pub(super) fn page(records: &impl Records, query: &EndedQuery<'_>, now: WallTime) -> Result<EndedPage, StoreError> {
    if query.after.is_some_and(|after| after.len() <= size_of::<u64>()) {
        return Err(StoreError::Position);
    }
    let mut after = query.after.map(<[u8]>::to_vec);
    let mut page = EndedPage::default();
    let (mut looked_at, mut bytes) = (0, 0);
    loop {
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let chunk = records.scan(ENDED, (start, Bound::Unbounded), Direction::Forward, CHUNK)?;
        let is_last = chunk.len() < CHUNK;
        for (entry, _) in &chunk {
            if looked_at == LOOKED_AT_MAX || page.states.len() >= query.max.max(1) || bytes >= query.bytes_max {
                page.next = after;
                return Ok(page);
            }
            looked_at += 1;
            after = Some(entry.to_vec());
            let id = entry.get(size_of::<u64>()..).unwrap_or_default();
            match layout::stored(records, id) {
                // One record that cannot be read must not hide all others.
                Err(StoreError::Corrupt { why, .. }) => tracing::error!(why, "a stored state cannot be read"),
                Err(error) => return Err(error),
                Ok(Some((state, expires_at))) if expires_at > now && key(&state).as_deref() == Some(&entry[..]) => {
                    bytes += StateRecord::from(&state).encoded_len();
                    page.states.push(state);
                }
                Ok(_) => {}
            }
        }
        if is_last {
            return Ok(page);
        }
    }
}
