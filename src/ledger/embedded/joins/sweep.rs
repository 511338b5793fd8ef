//! Forgetting joins: what stands under an id at once, what stands under a serial piece by piece.

use std::ops::Bound;

use crate::clock::WallTime;
use crate::engine::{Direction, Records, Table, Txn};
use crate::error::StoreError;

use super::super::ends::Swept;
use super::super::layout::ALL;
use super::layout::{self, FORGET, MEMBERS, OUTCOMES, PLACES, UNFINISHED, WASTE, WASTE_OUTCOMES};
use super::{Openings, steps};

/// Joins forgotten in one job.
const SWEEP_MAX: usize = 1_000;

/// Records of members removed in one job: some milliseconds of the committer.
const WASTE_MAX: usize = 3_000;

/// Forgets joins whose time has passed, and removes what is left of those forgotten.
pub(in super::super) fn sweep_in(txn: &mut Txn<'_>, openings: &Openings, now: WallTime) -> Result<Swept, StoreError> {
    let end = layout::after(now);
    let due = (Bound::Unbounded, end.as_ref().map(|end| end.as_slice()));
    let entries = txn.scan(FORGET, due, Direction::Forward, SWEEP_MAX)?;
    let mut past = Vec::with_capacity(entries.len());
    for (key, _) in entries {
        let (_, group) = layout::read_time_key(FORGET, &key)?;
        past.push((layout::progress(txn, &group)?, group, key));
    }
    let forgotten = past.len();
    for (progress, group, key) in past {
        match progress {
            Some(progress) => steps::remove_in(txn, &group, &progress)?,
            // Nobody makes such an entry, but it would be found for ever.
            None => txn.delete(FORGET, &key).map(drop)?,
        }
    }
    left_behind_in(txn, openings)?;
    let mut budget = WASTE_MAX;
    drain_in(txn, WASTE_OUTCOMES, &[OUTCOMES], &mut budget)?;
    drain_in(txn, WASTE, &[OUTCOMES, MEMBERS, PLACES], &mut budget)?;
    Ok(Swept { forgotten, is_unfinished: forgotten == SWEEP_MAX || budget == 0 })
}

/// Members whose head was never written are waste, once nobody writes at them any more.
fn left_behind_in(txn: &mut Txn<'_>, openings: &Openings) -> Result<(), StoreError> {
    for (key, _) in txn.scan(UNFINISHED, ALL, Direction::Forward, SWEEP_MAX)? {
        if !openings.has(layout::read_serial(UNFINISHED, &key)?) {
            txn.delete(UNFINISHED, &key)?;
            txn.put(WASTE, &key, &[])?;
        }
    }
    Ok(())
}

/// Removes what stands in `tables` under the serials that `list` names, at most `budget` records.
fn drain_in(txn: &mut Txn<'_>, list: Table, tables: &[Table], budget: &mut usize) -> Result<(), StoreError> {
    for (key, _) in txn.scan(list, ALL, Direction::Forward, *budget)? {
        let (start, end) = layout::of_serial(layout::read_serial(list, &key)?);
        let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        for table in tables {
            let records = txn.scan(*table, range, Direction::Forward, *budget)?;
            *budget -= records.len();
            for (record, _) in records {
                txn.delete(*table, &record)?;
            }
            if *budget == 0 {
                return Ok(());
            }
        }
        txn.delete(list, &key)?;
        *budget -= 1;
        if *budget == 0 {
            return Ok(());
        }
    }
    Ok(())
}
