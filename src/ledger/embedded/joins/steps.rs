//! The steps of a join that is open. Each reads before it writes: an error after a write would take its whole group with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message;

use crate::clock::WallTime;
use crate::engine::{Records, Txn};
use crate::error::StoreError;
use crate::ledger::join::record::FiringRecord;
use crate::ledger::join::{Ended, Fired, Firing};
use crate::task::GroupId;
use crate::task::record::RecordError;

use super::super::layout::{corrupt, decode};
use super::layout::{
    self, DUE, FIRINGS, FORGET, HEADS, MEMBERS, OUTCOMES, PLACES, PROGRESS, Progress, WASTE, WASTE_OUTCOMES,
};

/// How far joins are, each read once in a job.
fn all<'a>(
    txn: &Txn<'_>,
    groups: impl Iterator<Item = &'a GroupId>,
) -> Result<BTreeMap<&'a GroupId, Progress>, StoreError> {
    let mut known = BTreeMap::new();
    for group in groups {
        if !known.contains_key(group)
            && let Some(progress) = layout::progress(txn, group)?
        {
            known.insert(group, progress);
        }
    }
    Ok(known)
}

/// Members of all joins are sent.
pub(super) fn sent_in(txn: &mut Txn<'_>, groups: &[GroupId]) -> Result<(), StoreError> {
    for (group, mut progress) in all(txn, groups.iter())? {
        if std::mem::take(&mut progress.is_sending) {
            layout::put_progress(txn, group, &progress)?;
        }
    }
    Ok(())
}

/// Forgets joins: what stands under their serials goes with the sweep.
pub(super) fn forget_in(txn: &mut Txn<'_>, groups: &[GroupId]) -> Result<(), StoreError> {
    for (group, progress) in all(txn, groups.iter())? {
        remove_in(txn, group, &progress)?;
    }
    Ok(())
}

/// Removes all of a join that stands under its id.
pub(super) fn remove_in(txn: &mut Txn<'_>, group: &GroupId, progress: &Progress) -> Result<(), StoreError> {
    let key = group.as_str().as_bytes();
    match progress.is_closed {
        true => txn.delete(FORGET, &layout::time_key(progress.forget_at, group))?,
        false => txn.delete(DUE, &layout::time_key(progress.look_at, group))?,
    };
    if progress.is_fired {
        txn.delete(FIRINGS, key)?;
    }
    txn.delete(PROGRESS, key)?;
    txn.delete(HEADS, key)?;
    txn.put(WASTE, &progress.serial.to_be_bytes(), &[])
}

fn look_at_in(txn: &mut Txn<'_>, group: &GroupId, progress: &mut Progress, at: u64) -> Result<(), StoreError> {
    if progress.look_at != at {
        txn.delete(DUE, &layout::time_key(progress.look_at, group))?;
        txn.put(DUE, &layout::time_key(at, group), &[])?;
        progress.look_at = at;
    }
    Ok(())
}

/// Adds members that ended: one put each, one more for each join of the batch, however large it is.
pub(crate) fn joins_in<'a>(
    txn: &mut Txn<'_>,
    ended: impl IntoIterator<Item = &'a Ended> + Clone,
) -> Result<(), StoreError> {
    let mut joins = all(txn, ended.clone().into_iter().map(|ended| &ended.group))?;
    let mut places = Vec::new();
    for ended in ended {
        let Some(progress) = joins.get(&ended.group).filter(|progress| progress.counts()) else { continue };
        let place = layout::position(txn, progress.serial, &ended.task)?;
        // Of a join with members, one that is none.
        if place.is_some() || !progress.is_known {
            places.push((ended, place));
        }
    }
    let mut changed = BTreeSet::new();
    for (ended, place) in places {
        if let Some(progress) = joins.get_mut(&ended.group)
            && add_in(txn, progress, ended, place)?
        {
            changed.insert(&ended.group);
        }
    }
    for group in changed {
        let Some(progress) = joins.get_mut(group) else { continue };
        if progress.is_full() {
            look_at_in(txn, group, progress, 0)?;
        }
        layout::put_progress(txn, group, progress)?;
    }
    Ok(())
}

/// Adds one, unless it was added before.
fn add_in(txn: &mut Txn<'_>, progress: &mut Progress, ended: &Ended, place: Option<u32>) -> Result<bool, StoreError> {
    // Of a join whose members nobody knows it has a place if it was added before, maybe in this batch.
    let place = match place {
        None => layout::position(txn, progress.serial, &ended.task)?,
        place => place,
    };
    let position = place.unwrap_or(progress.ended);
    let key = layout::place_key(progress.serial, position);
    if place.is_some() && txn.get(OUTCOMES, &key)?.is_some() {
        return Ok(false);
    }
    if place.is_none() {
        txn.put(MEMBERS, &key, ended.task.as_str().as_bytes())?;
        txn.put(PLACES, &layout::task_key(progress.serial, &ended.task), &position.to_be_bytes())?;
    }
    txn.put(OUTCOMES, &key, &layout::outcome_value(ended.is_failure, &ended.outcome))?;
    progress.ended += 1;
    progress.failed += u32::from(ended.is_failure);
    Ok(true)
}

fn firing(txn: &Txn<'_>, group: &GroupId) -> Result<Option<Firing>, StoreError> {
    let Some(bytes) = txn.get(FIRINGS, group.as_str().as_bytes())? else { return Ok(None) };
    let what = format!("what follows join \"{group}\"");
    let record: FiringRecord = decode(&what, bytes)?;
    record.try_into().map(Some).map_err(|error: RecordError| corrupt(&what, error))
}

/// Records what follows.
pub(super) fn fire_in(txn: &mut Txn<'_>, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
    let mut joins = all(txn, firings.iter().map(|(group, _)| group))?;
    for (group, _) in firings {
        firing(txn, group)?;
    }
    let mut answers = Vec::with_capacity(firings.len());
    for (group, asked) in firings {
        let Some(progress) = joins.get_mut(group).filter(|progress| !progress.is_closed) else {
            answers.push(Fired::Over);
            continue;
        };
        if let Some(known) = firing(txn, group)? {
            answers.push(Fired::Known(Box::new(known)));
            continue;
        }
        txn.put(FIRINGS, group.as_str().as_bytes(), &FiringRecord::from(asked).encode_to_vec())?;
        progress.is_fired = true;
        layout::put_progress(txn, group, progress)?;
        answers.push(Fired::Recorded);
    }
    Ok(answers)
}

/// What follows is done. Outcomes go with the sweep: there may be very many.
pub(super) fn close_in(txn: &mut Txn<'_>, groups: &[GroupId], at: WallTime) -> Result<(), StoreError> {
    for (group, mut progress) in all(txn, groups.iter())? {
        if progress.is_closed {
            continue;
        }
        txn.delete(DUE, &layout::time_key(progress.look_at, group))?;
        if progress.is_fired {
            txn.delete(FIRINGS, group.as_str().as_bytes())?;
        }
        if progress.ended > 0 {
            txn.put(WASTE_OUTCOMES, &progress.serial.to_be_bytes(), &[])?;
        }
        progress.is_closed = true;
        progress.forget_at = at.plus(Duration::from_nanos(progress.keep_ns)).0;
        txn.put(FORGET, &layout::time_key(progress.forget_at, group), &[])?;
        layout::put_progress(txn, group, &progress)?;
    }
    Ok(())
}

/// When to look at joins next.
pub(super) fn look_in(txn: &mut Txn<'_>, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError> {
    let mut joins = all(txn, looks.iter().map(|(group, _, _)| group))?;
    for (group, at, seen) in looks {
        let Some(progress) = joins.get_mut(group).filter(|progress| !progress.is_closed) else { continue };
        if progress.look_at != at.0 && (!progress.is_full() || *seen >= progress.ended) {
            look_at_in(txn, group, progress, at.0)?;
            layout::put_progress(txn, group, progress)?;
        }
    }
    Ok(())
}
