//! Looking at joins.

use std::collections::HashMap;
use std::ops::Bound;

use crate::clock::WallTime;
use crate::engine::{Direction, Records};
use crate::error::StoreError;
use crate::ledger::join::{Member, Standing};
use crate::task::{GroupId, TaskId};

use super::layout::{self, DUE, MEMBERS, OUTCOMES};

/// Members that one call of `missing` looks at.
const LOOK_MAX: usize = 10_000;

/// Members read at a time.
const CHUNK: usize = 1_000;

/// How a join stands.
pub(super) fn standing(records: &impl Records, group: &GroupId) -> Result<Option<Standing>, StoreError> {
    let (Some(head), Some(progress)) = (layout::head(records, group)?, layout::progress(records, group)?) else {
        return Ok(None);
    };
    Ok(Some(Standing { head, stage: progress.stage(), ended: progress.ended, failed: progress.failed }))
}

/// Tasks of a serial with their positions, from position `from` on.
fn tasks(records: &impl Records, serial: u64, from: u32, max: usize) -> Result<Vec<(u32, TaskId)>, StoreError> {
    let (_, end) = layout::of_serial(serial);
    let start = layout::place_key(serial, from);
    let range = (Bound::Included(start.as_slice()), end.as_ref().map(Vec::as_slice));
    let task = |(key, value): (bytes::Bytes, bytes::Bytes)| {
        let task = std::str::from_utf8(&value).map_err(|_| super::super::layout::malformed(MEMBERS, &key))?;
        Ok((layout::read_position(MEMBERS, &key)?, TaskId::trusted(task)))
    };
    records.scan(MEMBERS, range, Direction::Forward, max)?.into_iter().map(task).collect()
}

type Outcomes = HashMap<u32, (bytes::Bytes, bool)>;

/// The outcomes of members, from the first position to the last one.
fn outcomes(records: &impl Records, serial: u64, first: u32, last: u32) -> Result<Outcomes, StoreError> {
    let (start, end) = (layout::place_key(serial, first), layout::place_key(serial, last));
    let range = (Bound::Included(start.as_slice()), Bound::Included(end.as_slice()));
    let outcome = |(key, value): (bytes::Bytes, bytes::Bytes)| {
        Ok((layout::read_position(OUTCOMES, &key)?, layout::read_outcome(&key, &value)?))
    };
    records.scan(OUTCOMES, range, Direction::Forward, usize::MAX)?.into_iter().map(outcome).collect()
}

/// Members in order.
pub(super) fn members(
    records: &impl Records,
    group: &GroupId,
    from: u32,
    max: usize,
) -> Result<Vec<Member>, StoreError> {
    let Some(progress) = layout::progress(records, group)? else { return Ok(Vec::new()) };
    let tasks = tasks(records, progress.serial, from, max)?;
    let mut outcomes = match (tasks.first(), tasks.last()) {
        // Some may be left, until the sweep has removed them.
        (Some((first, _)), Some((last, _))) if !progress.is_closed => {
            outcomes(records, progress.serial, *first, *last)?
        }
        _ => Outcomes::new(),
    };
    Ok(tasks.into_iter().map(|(at, task)| Member { task, outcome: outcomes.remove(&at) }).collect())
}

/// Members that have not ended, and where to go on.
pub(super) fn missing(
    records: &impl Records,
    group: &GroupId,
    from: u32,
    max: usize,
) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
    let open = layout::progress(records, group)?.filter(|progress| progress.is_known && !progress.is_closed);
    let Some(progress) = open else { return Ok((Vec::new(), None)) };
    let (mut missing, mut at, mut looked_at) = (Vec::new(), from, 0);
    while missing.len() < max && looked_at < LOOK_MAX {
        let page = tasks(records, progress.serial, at, CHUNK)?;
        let Some((last, _)) = page.last() else { break };
        let ended = outcomes(records, progress.serial, at, *last)?;
        for (position, task) in page {
            if missing.len() == max {
                break;
            }
            (at, looked_at) = (position + 1, looked_at + 1);
            if !ended.contains_key(&position) {
                missing.push(task);
            }
        }
    }
    Ok((missing, (at < progress.count).then_some(at)))
}

/// Joins that are due.
pub(super) fn due(records: &impl Records, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
    let end = layout::after(now);
    let range = (Bound::Unbounded, end.as_ref().map(|end| end.as_slice()));
    let entries = records.scan(DUE, range, Direction::Forward, max)?;
    entries.into_iter().map(|(key, _)| layout::read_time_key(DUE, &key).map(|(_, group)| group)).collect()
}
