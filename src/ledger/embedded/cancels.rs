//! Marks of cancelled tasks.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::{CancelMark, Grant};
use crate::task::TaskId;

use super::layout::{self, CANCELS};

fn read(key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| layout::malformed(CANCELS, key))
}

/// The latest sending of the task that is cancelled; `None`: none is.
fn generation(records: &impl Records, task: &TaskId) -> Result<Option<u64>, StoreError> {
    let key = task.as_str().as_bytes();
    let value: Option<Bytes> = records.get(CANCELS, key)?;
    value.map(|value| read(key, &value)).transpose()
}

/// For each sending, whether it is cancelled.
pub(super) fn marked(records: &impl Records, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError> {
    let one = |sending: &CancelMark| {
        Ok(generation(records, &sending.task)?.is_some_and(|marked| marked >= sending.generation))
    };
    sendings.iter().map(one).collect()
}

/// For each grant, whether its task is cancelled.
pub(super) fn any_in(txn: &Txn<'_>, grants: &[Grant]) -> Result<Vec<bool>, StoreError> {
    // Almost always there is no mark at all, and one look answers for the whole batch.
    if txn.scan(CANCELS, layout::ALL, Direction::Forward, 1)?.is_empty() {
        return Ok(vec![false; grants.len()]);
    }
    let one = |grant: &Grant| Ok(generation(txn, &grant.task)?.is_some_and(|marked| marked >= grant.generation));
    grants.iter().map(one).collect()
}

/// Adds marks.
pub(super) fn mark_in(txn: &mut Txn<'_>, marks: &[CancelMark]) -> Result<(), StoreError> {
    // All reading comes before all writing: an error after a write would take the whole group with it.
    for mark in marks {
        generation(txn, &mark.task)?;
    }
    for mark in marks {
        if generation(txn, &mark.task)?.is_none_or(|marked| marked < mark.generation) {
            txn.put(CANCELS, mark.task.as_str().as_bytes(), &mark.generation.to_be_bytes())?;
        }
    }
    Ok(())
}

/// Removes marks, unless a later sending was marked since.
pub(super) fn unmark_in(txn: &mut Txn<'_>, marks: &[CancelMark]) -> Result<(), StoreError> {
    for mark in marks {
        generation(txn, &mark.task)?;
    }
    for mark in marks {
        if generation(txn, &mark.task)?.is_some_and(|marked| marked <= mark.generation) {
            txn.delete(CANCELS, mark.task.as_str().as_bytes())?;
        }
    }
    Ok(())
}

/// Marks after `after` in order of their tasks.
pub(super) fn page(records: &impl Records, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError> {
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str().as_bytes()));
    let mut marks = Vec::new();
    let mut failure = Ok(());
    records.visit(CANCELS, (from, Bound::Unbounded), Direction::Forward, &mut |key, value| {
        if marks.len() >= max {
            return ControlFlow::Break(());
        }
        let task = std::str::from_utf8(key).map_err(|_| layout::malformed(CANCELS, key));
        match task.and_then(|task| Ok((task, read(key, value)?))) {
            Ok((task, generation)) => {
                marks.push(CancelMark { task: TaskId::trusted(task), generation });
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map(|()| marks)
}
