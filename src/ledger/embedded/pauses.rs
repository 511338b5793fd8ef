//! Paused queues.

use std::ops::ControlFlow;

use crate::clock::WallTime;
use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::task::QueueName;

use super::layout::{self, PAUSED};

/// Pauses queues; one that is paused keeps its moment.
pub(super) fn pause_in(txn: &mut Txn<'_>, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
    for queue in queues {
        if txn.get(PAUSED, queue.as_str().as_bytes())?.is_none() {
            txn.put(PAUSED, queue.as_str().as_bytes(), &at.0.to_be_bytes())?;
        }
    }
    Ok(())
}

/// Ends pauses.
pub(super) fn resume_in(txn: &mut Txn<'_>, queues: &[QueueName]) -> Result<(), StoreError> {
    queues.iter().try_for_each(|queue| txn.delete(PAUSED, queue.as_str().as_bytes()).map(drop))
}

/// All paused queues, in order.
pub(super) fn all(records: &impl Records) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
    let mut paused = Vec::new();
    let mut failure = Ok(());
    records.visit(PAUSED, layout::ALL, Direction::Forward, &mut |key, value| match (
        std::str::from_utf8(key),
        value.try_into(),
    ) {
        (Ok(queue), Ok(at)) => {
            paused.push((QueueName::trusted(queue), WallTime(u64::from_be_bytes(at))));
            ControlFlow::Continue(())
        }
        _ => {
            failure = Err(layout::malformed(PAUSED, key));
            ControlFlow::Break(())
        }
    })?;
    failure.map(|()| paused)
}
