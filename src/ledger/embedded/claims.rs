//! Names of sends: the claim under each, and an index of when it lapses.
//!
//! A send costs one put for each of its names, and a batch one or two more for the index.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use prost::Message;

use crate::clock::WallTime;
use crate::engine::{Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::claim::{Claim, ClaimName, Claimed, Held, Step};
use crate::ledger::record::ClaimRecord;
use crate::task::MessageKey;
use crate::task::record::RecordError;

use super::attempt::Ended;
use super::ends::Swept;
use super::layout::{self, CLAIM_ENDS, CLAIMS};

/// Claims looked at in one job of a sweep, the rest of the last entry excepted: a few milliseconds of the committer.
const SWEEP_MAX: usize = 1_000;

/// Between the keys of one entry of [`CLAIM_ENDS`]: names have no control characters.
const BETWEEN: u8 = 0;

fn key(name: &ClaimName) -> Vec<u8> {
    match name {
        ClaimName::Request(id) => [b"r", id.as_bytes()].concat(),
        ClaimName::Key(key) => [b"k", key.as_bytes()].concat(),
    }
}

fn read(records: &impl Records, key: &[u8]) -> Result<Option<Held>, StoreError> {
    let Some(bytes) = records.get(CLAIMS, key)? else { return Ok(None) };
    let what = || format!("claim \"{}\"", key.escape_ascii());
    let record: ClaimRecord = layout::decode(&what(), bytes)?;
    record.try_into().map(Some).map_err(|error: RecordError| layout::corrupt(&what(), error))
}

fn under(txn: &Txn<'_>, name: Option<&ClaimName>) -> Result<Option<Held>, StoreError> {
    name.map_or(Ok(None), |name| read(txn, &key(name)))
}

/// When each of the claims lapses that were stored in a job: what the index is to be told.
#[derive(Debug, Default)]
struct Ends(BTreeMap<WallTime, Vec<Vec<u8>>>);

impl Ends {
    fn put_in(&mut self, txn: &mut Txn<'_>, name: &ClaimName, held: &Held) -> Result<(), StoreError> {
        let key = key(name);
        // Joined again and again, it lapses when it did, and has its entry.
        let is_joined = held.open.as_ref().is_some_and(|open| open.is_joined);
        let is_known = is_joined && read(txn, &key)?.is_some_and(|earlier| earlier.lapses_at == held.lapses_at);
        txn.put(CLAIMS, &key, &ClaimRecord::from(held).encode_to_vec())?;
        if !is_known {
            self.0.entry(held.lapses_at).or_default().push(key);
        }
        Ok(())
    }

    fn write_in(self, txn: &mut Txn<'_>) -> Result<(), StoreError> {
        for (at, keys) in self.0 {
            let Some(first) = keys.first() else { continue };
            let entry = [&at.0.to_be_bytes(), first.as_slice()].concat();
            let mut value = keys.join(&BETWEEN);
            // The same first key at the same time: taken back, and claimed again.
            if let Some(earlier) = txn.get(CLAIM_ENDS, &entry)? {
                value = [&earlier, &[BETWEEN][..], &value].concat();
            }
            txn.put(CLAIM_ENDS, &entry, &value)?;
        }
        Ok(())
    }
}

/// Claims names.
pub(crate) fn claim_in(txn: &mut Txn<'_>, claims: &[Claim], step: Step) -> Result<Vec<Claimed>, StoreError> {
    // All reading comes before all writing: an error after a write would take the whole group with it.
    for name in claims.iter().flat_map(Claim::names) {
        under(txn, Some(&name))?;
    }
    let mut ends = Ends::default();
    let mut answers = Vec::with_capacity(claims.len());
    for claim in claims {
        let by_request = under(txn, claim.request_name().as_ref())?;
        let by_key = under(txn, claim.key_name().as_ref())?;
        let (answer, writes) = claim.judge(by_request, by_key, step);
        for (name, held) in writes {
            ends.put_in(txn, &name, &held)?;
        }
        answers.push(answer);
    }
    ends.write_in(txn)?;
    Ok(answers)
}

/// Says that messages are published.
pub(crate) fn published_in(txn: &mut Txn<'_>, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
    let mut found = Vec::new();
    for (names, message) in items {
        for name in names {
            found.extend(under(txn, Some(name))?.and_then(|held| held.published(message)).map(|held| (name, held)));
        }
    }
    let mut ends = Ends::default();
    for (name, held) in found {
        ends.put_in(txn, name, &held)?;
    }
    ends.write_in(txn)
}

/// Takes claims back.
pub(super) fn unclaim_in(txn: &mut Txn<'_>, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
    for name in items.iter().flat_map(|(names, _)| names) {
        under(txn, Some(name))?;
    }
    let mut answers = Vec::with_capacity(items.len());
    for (names, message) in items {
        let mut all = true;
        for name in names {
            all &= under(txn, Some(name))?.is_some_and(|held| held.is_own(message));
        }
        for name in names.iter().filter(|_| all) {
            txn.delete(CLAIMS, &key(name))?;
        }
        answers.push(all);
    }
    Ok(answers)
}

/// True if the message has a decision.
pub(crate) fn is_decided_in(txn: &Txn<'_>, message: &MessageKey) -> Result<bool, StoreError> {
    let attempt = layout::attempt(txn, message)?;
    Ok(attempt.is_some_and(|attempt| matches!(attempt.ended, Some(Ended::Decided(_)))))
}

/// Forgets claims that have lapsed.
pub(super) fn sweep_in(txn: &mut Txn<'_>, now: WallTime) -> Result<Swept, StoreError> {
    let mut due: Vec<(Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
    let mut seen = 0;
    let mut failure = Ok(());
    let mut is_unfinished = false;
    txn.visit(CLAIM_ENDS, layout::ALL, Direction::Forward, &mut |entry, value| {
        let Some((at, _)) = entry.split_first_chunk::<8>() else {
            failure = Err(layout::malformed(CLAIM_ENDS, entry));
            return ControlFlow::Break(());
        };
        if WallTime(u64::from_be_bytes(*at)) > now {
            return ControlFlow::Break(());
        }
        if seen >= SWEEP_MAX {
            is_unfinished = true;
            return ControlFlow::Break(());
        }
        let keys: Vec<Vec<u8>> = value.split(|byte| *byte == BETWEEN).map(<[u8]>::to_vec).collect();
        seen += keys.len();
        due.push((entry.to_vec(), keys));
        ControlFlow::Continue(())
    })?;
    failure?;
    let mut lapsed = Vec::new();
    for key in due.iter().flat_map(|(_, keys)| keys) {
        // Published, or claimed anew, since the entry was made: there is another entry then.
        lapsed.extend(read(txn, key)?.filter(|held| held.lapses_at <= now).map(|_| key));
    }
    let mut forgotten = 0;
    for key in lapsed {
        // The same claim may stand in two entries.
        forgotten += usize::from(txn.delete(CLAIMS, key)?);
    }
    for (entry, _) in &due {
        txn.delete(CLAIM_ENDS, entry)?;
    }
    Ok(Swept { forgotten, is_unfinished })
}
