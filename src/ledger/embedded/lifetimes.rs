//! Until when tasks may be begun.

use std::ops::{Bound, ControlFlow};

use crate::clock::WallTime;
use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::Lifetime;
use crate::task::TaskId;

use super::layout::{self, LIFETIMES};

/// Ids have no control characters, so 0 ends one.
fn key(lifetime: &Lifetime) -> Vec<u8> {
    let (at, generation) = (lifetime.at.0.to_be_bytes(), lifetime.generation.to_be_bytes());
    [&at, lifetime.task.as_str().as_bytes(), &[0], &generation].concat()
}

fn read(key: &[u8]) -> Result<Lifetime, StoreError> {
    let parts = || {
        let (at, rest) = key.split_first_chunk::<8>()?;
        let (task, generation) = rest.split_last_chunk::<8>()?;
        let task = std::str::from_utf8(task.strip_suffix(&[0])?).ok()?;
        Some(Lifetime {
            at: WallTime(u64::from_be_bytes(*at)),
            task: TaskId::trusted(task),
            generation: u64::from_be_bytes(*generation),
        })
    };
    parts().ok_or_else(|| layout::malformed(LIFETIMES, key))
}

/// Remembers lifetimes: one put each, and nothing is read.
pub(crate) fn limit_in<'a>(
    txn: &mut Txn<'_>,
    lifetimes: impl IntoIterator<Item = &'a Lifetime>,
) -> Result<(), StoreError> {
    lifetimes.into_iter().try_for_each(|lifetime| txn.put(LIFETIMES, &key(lifetime), &[]))
}

/// Forgets lifetimes.
pub(super) fn forget_in<'a>(
    txn: &mut Txn<'_>,
    lifetimes: impl IntoIterator<Item = &'a Lifetime>,
) -> Result<(), StoreError> {
    lifetimes.into_iter().try_for_each(|lifetime| txn.delete(LIFETIMES, &key(lifetime)).map(drop))
}

/// Lifetimes that are over at `now`, after `after`.
pub(super) fn over(
    records: &impl Records,
    now: WallTime,
    after: Option<&Lifetime>,
    max: usize,
) -> Result<Vec<Lifetime>, StoreError> {
    let after = after.map(key);
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let (mut found, mut failure) = (Vec::new(), Ok(()));
    records.visit(LIFETIMES, (from, Bound::Unbounded), Direction::Forward, &mut |key, _| match read(key) {
        Ok(lifetime) if lifetime.at > now || found.len() >= max => ControlFlow::Break(()),
        Ok(lifetime) => {
            found.push(lifetime);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failure = Err(error);
            ControlFlow::Break(())
        }
    })?;
    failure.map(|()| found)
}
