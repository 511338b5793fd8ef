//! How attempts end: released, decided, done, forgotten.

use std::collections::HashMap;
use std::ops::{Bound, ControlFlow};

use crate::clock::WallTime;
use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::{Decision, Ending, OPEN_KEPT, Undone, Verdict};
use crate::task::record::RecordError;
use crate::task::{LeaseId, MessageKey};

use super::attempt::{Attempt, Ended};
use super::dead;
use super::layout::{self, ATTEMPTS, FORGET, UNDONE};
use super::leases;
use super::lifetimes;

/// Records forgotten in one job: a few milliseconds of the committer.
const SWEEP_MAX: usize = 1_000;

/// Entries looked at in one job, most of which may have been overtaken.
const SWEEP_LOOK_MAX: usize = 10_000;

/// Ends leases without a decision.
pub(super) fn release_in(
    txn: &mut Txn<'_>,
    items: &[(LeaseId, Ending)],
    now: WallTime,
) -> Result<Vec<Verdict>, StoreError> {
    // All reading comes before all writing: an error after a write would take the whole group with it.
    let mut attempts = HashMap::with_capacity(items.len());
    for (lease, _) in items {
        attempts.insert(&lease.message, layout::attempt(txn, &lease.message)?);
    }
    let forget_at = now.plus(OPEN_KEPT);
    let mut verdicts = Vec::with_capacity(items.len());
    for (lease, ending) in items {
        let Some(Some(attempt)) = attempts.get_mut(&lease.message) else {
            verdicts.push(Verdict::Superseded);
            continue;
        };
        let verdict = attempt.release(lease.token, ending, forget_at);
        verdicts.push(verdict);
        if verdict == Verdict::Recorded {
            leases::end_in(txn, attempt)?;
            layout::put_attempt(txn, &lease.message, attempt)?;
            txn.put(FORGET, &layout::time_key(forget_at, &lease.message), &[])?;
        }
    }
    Ok(verdicts)
}

/// Records decisions.
pub(super) fn decide_all_in(txn: &mut Txn<'_>, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
    // A record that cannot be read must be met before anything is written.
    for decision in decisions {
        layout::attempt(txn, &decision.lease.message)?;
    }
    decisions.iter().map(|decision| decide_in(txn, decision, false)).collect()
}

/// Records a decision. With `effects_done` the caller does all that follows from it in the same transaction: effects are
/// then not kept, and the decision is forgotten its `keep` after it was made.
pub(crate) fn decide_in(txn: &mut Txn<'_>, decision: &Decision, effects_done: bool) -> Result<Verdict, StoreError> {
    let message = &decision.lease.message;
    let Some(attempt) = layout::attempt(txn, message)? else { return Ok(Verdict::Superseded) };
    let verdict = attempt.judge(decision);
    if verdict != Verdict::Recorded {
        return Ok(verdict);
    }
    if attempt.ended.is_none() {
        leases::end_in(txn, &attempt)?;
    }
    let decided = Attempt::decided(decision, effects_done);
    layout::put_attempt(txn, message, &decided)?;
    match decided.forget_at {
        Some(at) => txn.put(FORGET, &layout::time_key(WallTime(at), message), &[])?,
        None => txn.put(UNDONE, &layout::time_key(decision.at, message), &[])?,
    }
    if let Some(dead) = &decision.dead {
        dead::bury_in(txn, dead)?;
    }
    lifetimes::limit_in(txn, &decision.begins)?;
    lifetimes::forget_in(txn, &decision.ends)?;
    Ok(Verdict::Recorded)
}

/// Decisions from before `before` whose effects are not done.
pub(super) fn undone(records: &impl Records, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
    let end = before.0.to_be_bytes();
    let entries = records.scan(UNDONE, (Bound::Unbounded, Bound::Excluded(&end)), Direction::Forward, max)?;
    let mut found = Vec::with_capacity(entries.len());
    for (key, _) in entries {
        match undone_under(records, &key) {
            Ok(undone) => found.extend(undone),
            // One record that cannot be read must not keep all others from being finished.
            Err(StoreError::Corrupt { why, .. }) => {
                tracing::error!(why, "the effects of a decision cannot be read and are passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn undone_under(records: &impl Records, key: &[u8]) -> Result<Option<Undone>, StoreError> {
    let (_, message) = layout::read_time_key(UNDONE, key)?;
    let attempt = layout::attempt(records, &message)?;
    let Some(Ended::Decided(decided)) = attempt.and_then(|attempt| attempt.ended) else { return Ok(None) };
    let Some(effects) = decided.effects else { return Ok(None) };
    let effects = effects.try_into().map_err(|error: RecordError| layout::corrupt(message.as_str(), error))?;
    Ok(Some(Undone { message, effects }))
}

/// Marks effects done.
pub(super) fn done_in(txn: &mut Txn<'_>, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
    // In order of their keys, each once, and read before anything is written.
    let mut attempts = std::collections::BTreeMap::new();
    for message in messages {
        attempts.insert(message, layout::attempt(txn, message)?);
    }
    for (message, attempt) in attempts {
        let Some(mut attempt) = attempt else { continue };
        let Some(decided_at) = attempt.done(at) else { continue };
        txn.delete(UNDONE, &layout::time_key(decided_at, message))?;
        layout::put_attempt(txn, message, &attempt)?;
        if let Some(at) = attempt.forget_at {
            txn.put(FORGET, &layout::time_key(WallTime(at), message), &[])?;
        }
    }
    Ok(())
}

/// What one job of a sweep did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swept {
    /// Messages forgotten.
    pub(super) forgotten: usize,
    /// It ended before its work did.
    pub(super) is_unfinished: bool,
}

impl Swept {
    /// What two jobs did together.
    pub(super) fn and(self, other: Self) -> Self {
        Self { forgotten: self.forgotten + other.forgotten, is_unfinished: self.is_unfinished || other.is_unfinished }
    }
}

/// Forgets what is past its time.
pub(super) fn sweep_in(txn: &mut Txn<'_>, now: WallTime) -> Result<Swept, StoreError> {
    let mut due = Vec::new();
    let mut failure = Ok(());
    let mut is_unfinished = false;
    txn.visit(FORGET, layout::ALL, Direction::Forward, &mut |key, _| match layout::read_time_key(FORGET, key) {
        Ok((at, _)) if at > now => ControlFlow::Break(()),
        Ok(_) if due.len() == SWEEP_LOOK_MAX => {
            is_unfinished = true;
            ControlFlow::Break(())
        }
        Ok(entry) => {
            due.push(entry);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failure = Err(error);
            ControlFlow::Break(())
        }
    })?;
    failure?;

    let mut plan = Vec::with_capacity(due.len());
    let mut forgotten = 0;
    for (at, message) in due {
        if forgotten == SWEEP_MAX {
            is_unfinished = true;
            break;
        }
        // Granted again, or decided, since the entry was made: there is, or will be, another.
        let is_past = layout::attempt(txn, &message)?.is_some_and(|attempt| attempt.forget_at == Some(at.0));
        forgotten += usize::from(is_past);
        plan.push((at, message, is_past));
    }
    for (at, message, is_past) in plan {
        txn.delete(FORGET, &layout::time_key(at, &message))?;
        if is_past {
            txn.delete(ATTEMPTS, message.as_str().as_bytes())?;
        }
    }
    Ok(Swept { forgotten, is_unfinished })
}
