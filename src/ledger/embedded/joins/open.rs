//! Opening joins: a few in one job, or one with many members in several, its head last.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;

use crate::engine::{Engine, Txn};
use crate::error::StoreError;
use crate::ledger::join::record::HeadRecord;
use crate::ledger::join::{Opened, Opening, Standing};
use crate::task::TaskId;

use super::layout::{self, DUE, HEADS, MEMBERS, PLACES, Progress, UNFINISHED, WASTE};
use super::read;

/// Members that one job writes: some milliseconds of the committer, for which everybody waits.
pub(super) const PIECE_MAX: usize = 2_000;

/// Serials of joins that are being opened by this process, in several jobs. What is unfinished and not among them was left
/// by a process that died, or by a caller that went away.
#[derive(Debug, Default)]
pub(in super::super) struct Openings(Mutex<HashSet<u64>>);

impl Openings {
    pub(super) fn has(&self, serial: u64) -> bool {
        self.0.lock().contains(&serial)
    }
}

/// Says that a join is being opened, for as long as it lives. Each job has a clone: none is queued after the last one is gone.
#[derive(Debug)]
struct Underway {
    all: Arc<Openings>,
    serial: u64,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.serial);
    }
}

/// Opens joins, in order.
pub(super) async fn open(
    engine: &Engine,
    all: &Arc<Openings>,
    openings: &[Opening],
) -> Result<Vec<Opened>, StoreError> {
    let mut answers = Vec::with_capacity(openings.len());
    let mut rest = openings;
    while let Some(first) = rest.first() {
        if first.members.len() > PIECE_MAX {
            answers.push(large(engine, all, first).await?);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let mut members = 0;
        let fits = rest.iter().take_while(|opening| {
            // A join without known members costs something too.
            members += opening.members.len().max(1);
            members <= PIECE_MAX
        });
        let (group, behind) = rest.split_at(fits.count());
        let group = group.to_vec();
        answers.extend(engine.write(move |txn| small_in(txn, &group)).await?);
        rest = behind;
    }
    Ok(answers)
}

fn known(txn: &Txn<'_>, opening: &Opening) -> Result<Option<Standing>, StoreError> {
    read::standing(txn, &opening.head.id)
}

fn small_in(txn: &mut Txn<'_>, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
    // All reading comes before all writing: an error after a write would take the whole group with it.
    for opening in openings {
        known(txn, opening)?;
    }
    let mut answers = Vec::with_capacity(openings.len());
    for opening in openings {
        if let Some(standing) = known(txn, opening)? {
            answers.push(Opened::Known(standing));
            continue;
        }
        let serial = layout::new_serial(txn)?;
        members_in(txn, serial, 0, &opening.members)?;
        head_in(txn, serial, opening, !opening.members.is_empty())?;
        answers.push(Opened::New);
    }
    Ok(answers)
}

async fn large(engine: &Engine, all: &Arc<Openings>, opening: &Opening) -> Result<Opened, StoreError> {
    let (asked, openings) = (without_members(opening), Arc::clone(all));
    let begun = engine.write(move |txn| {
        if let Some(standing) = known(txn, &asked)? {
            return Ok(Err(standing));
        }
        let serial = layout::new_serial(txn)?;
        openings.0.lock().insert(serial);
        txn.put(UNFINISHED, &serial.to_be_bytes(), &[])?;
        Ok(Ok(Arc::new(Underway { all: openings, serial })))
    });
    let underway = match begun.await? {
        Ok(underway) => underway,
        Err(standing) => return Ok(Opened::Known(standing)),
    };
    let mut position = 0;
    for piece in opening.members.chunks(PIECE_MAX) {
        let (from, underway, piece) = (position, Arc::clone(&underway), piece.to_vec());
        position += piece.len() as u32;
        engine.write(move |txn| members_in(txn, underway.serial, from, &piece)).await?;
    }
    let asked = without_members(opening);
    let ended = engine.write(move |txn| {
        // Somebody else may have opened it meanwhile.
        let standing = known(txn, &asked)?;
        let serial = underway.serial.to_be_bytes();
        txn.delete(UNFINISHED, &serial)?;
        match standing {
            Some(standing) => txn.put(WASTE, &serial, &[]).map(|()| Opened::Known(standing)),
            None => head_in(txn, underway.serial, &asked, true).map(|()| Opened::New),
        }
    });
    ended.await
}

// They are written piece by piece; a job need not carry all of them.
fn without_members(opening: &Opening) -> Opening {
    Opening { head: opening.head.clone(), members: Vec::new(), ..*opening }
}

fn members_in(txn: &mut Txn<'_>, serial: u64, from: u32, members: &[TaskId]) -> Result<(), StoreError> {
    for (position, task) in (from..).zip(members) {
        txn.put(MEMBERS, &layout::place_key(serial, position), task.as_str().as_bytes())?;
        txn.put(PLACES, &layout::task_key(serial, task), &position.to_be_bytes())?;
    }
    Ok(())
}

fn head_in(txn: &mut Txn<'_>, serial: u64, opening: &Opening, is_known: bool) -> Result<(), StoreError> {
    let head = &opening.head;
    let progress = Progress {
        serial,
        count: head.count,
        is_known,
        is_sending: opening.is_sending,
        look_at: opening.look_at.0,
        keep_ns: u64::try_from(head.keep.as_nanos()).unwrap_or(u64::MAX),
        ..Progress::default()
    };
    txn.put(HEADS, head.id.as_str().as_bytes(), &HeadRecord::from(head).encode_to_vec())?;
    layout::put_progress(txn, &head.id, &progress)?;
    txn.put(DUE, &layout::time_key(progress.look_at, &head.id), &[])
}
