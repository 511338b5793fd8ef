//! Live leases: granting, listing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, ControlFlow};

use crate::clock::WallTime;
use crate::engine::{self, Direction, Records, Txn};
use crate::error::StoreError;
use crate::ledger::record::SessionRecord;
use crate::ledger::{Begun, Grant, Lease, LeaseQuery, NOBODY};
use crate::task::{FencingToken, QueueName, SessionId};

use super::attempt::{Attempt, Ended};
use super::cancels;
use super::layout::{self, ATTEMPTS, Indexed, LEASES, SESSIONS};

/// True if the session lives, and did not attach again since the grant was asked for; nobody's need not.
fn attached(stored: Option<u64>, grant: &Grant) -> bool {
    grant.session.as_str() == NOBODY || stored.is_some_and(|attach| grant.attach == 0 || grant.attach == attach)
}

/// Grants leases.
pub(super) fn begin_in(txn: &mut Txn<'_>, grants: &[Grant], now: WallTime) -> Result<Vec<Begun>, StoreError> {
    // All reading comes before all writing: an error after a write would take the whole group with it.
    let mut attempts = HashMap::with_capacity(grants.len());
    let mut sessions = HashMap::new();
    for grant in grants {
        if !attempts.contains_key(&grant.message) {
            attempts.insert(&grant.message, layout::attempt(txn, &grant.message)?);
        }
        if !sessions.contains_key(&grant.session) {
            let stored = txn.get(SESSIONS, grant.session.as_str().as_bytes())?;
            let record =
                stored.map(|bytes| layout::decode::<SessionRecord>(grant.session.as_str(), bytes)).transpose()?;
            sessions.insert(&grant.session, record.map(|record| record.attach));
        }
    }
    let cancelled = cancels::any_in(txn, grants)?;
    let before = layout::last_token(txn)?;

    let mut last = before;
    let mut begun = Vec::with_capacity(grants.len());
    for (grant, is_cancelled) in grants.iter().zip(cancelled) {
        let earlier = attempts.get(&grant.message).and_then(Option::as_ref);
        begun.push(match earlier {
            Some(Attempt { ended: Some(Ended::Decided(_)), .. }) => Begun::Decided,
            Some(live @ Attempt { ended: None, .. }) => Begun::Held(live.lease(&grant.message)),
            _ if !is_cancelled && !attached(sessions.get(&grant.session).copied().flatten(), grant) => Begun::NoSession,
            earlier => {
                last = (last + 1).max(now.0 / 1_000);
                let attempt = Attempt::granted(earlier, grant, last);
                layout::put_attempt(txn, &grant.message, &attempt)?;
                let key = layout::lease_key(grant.session.as_str(), last);
                txn.put(LEASES, &key, &layout::lease_value(&grant.message, grant.queue.as_str()))?;
                let lease = attempt.lease(&grant.message);
                attempts.insert(&grant.message, Some(attempt));
                if is_cancelled { Begun::Cancelled(lease) } else { Begun::Run(lease) }
            }
        });
    }
    if last != before {
        layout::put_last_token(txn, last)?;
    }
    Ok(begun)
}

/// Removes a live lease from its index.
pub(super) fn end_in(txn: &mut Txn<'_>, attempt: &Attempt) -> Result<(), StoreError> {
    txn.delete(LEASES, &layout::lease_key(&attempt.session, attempt.token)).map(drop)
}

/// The live leases of a session, oldest first.
pub(super) fn of_session(records: &impl Records, session: &SessionId) -> Result<Vec<Lease>, StoreError> {
    let query = LeaseQuery { session: Some(session.clone()), max: usize::MAX, ..LeaseQuery::default() };
    list(records, &query)
}

/// Live leases, oldest first.
pub(super) fn list(records: &impl Records, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError> {
    let (from, to) = match &query.session {
        Some(session) => layout::leases_of(session, query.after),
        None => (Bound::Unbounded, Bound::Unbounded),
    };
    let range: engine::Range<'_> = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
    let mut oldest = Oldest { max: query.max, leases: BTreeSet::new() };
    visit(records, range, |lease| {
        if lease.token > query.after && query.queue.as_ref().is_none_or(|queue| lease.queue == *queue) {
            oldest.add(lease);
        }
    })?;
    oldest.read(records)
}

/// How many leases are live in each queue. Goes through their index, not through the attempts.
pub(super) fn counts(records: &impl Records) -> Result<Vec<(QueueName, u64)>, StoreError> {
    let mut counts: BTreeMap<QueueName, u64> = BTreeMap::new();
    visit(records, layout::ALL, |lease| *counts.entry(lease.queue).or_default() += 1)?;
    Ok(counts.into_iter().collect())
}

/// Live leases whose session does not exist, oldest first. Jumps from session to session, whatever they hold.
pub(super) fn orphans(records: &impl Records, max: usize) -> Result<Vec<Lease>, StoreError> {
    let mut oldest = Oldest { max, leases: BTreeSet::new() };
    let mut from = Bound::Unbounded;
    loop {
        let range: engine::Range<'_> = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let first = records.scan(LEASES, range, Direction::Forward, 1)?;
        let Some((key, value)) = first.first() else { break };
        let session = layout::indexed(key, value)?.session;
        let (first, last) = layout::leases_of(&session, FencingToken(0));
        if records.get(SESSIONS, session.as_str().as_bytes())?.is_none() {
            visit(records, (first.as_ref().map(Vec::as_slice), last.as_ref().map(Vec::as_slice)), |l| oldest.add(l))?;
        }
        from = Bound::Excluded(layout::lease_key(session.as_str(), u64::MAX));
    }
    oldest.read(records)
}

fn visit(records: &impl Records, range: engine::Range<'_>, mut each: impl FnMut(Indexed)) -> Result<(), StoreError> {
    let mut failure = Ok(());
    records.visit(LEASES, range, Direction::Forward, &mut |key, value| match layout::indexed(key, value) {
        Ok(lease) => {
            each(lease);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failure = Err(error);
            ControlFlow::Break(())
        }
    })?;
    failure
}

/// The oldest of the leases that were added, so that a page needs no more memory than itself.
struct Oldest {
    max: usize,
    leases: BTreeSet<Indexed>,
}

impl Oldest {
    fn add(&mut self, lease: Indexed) {
        self.leases.insert(lease);
        if self.leases.len() > self.max {
            self.leases.pop_last();
        }
    }

    fn read(self, records: &impl Records) -> Result<Vec<Lease>, StoreError> {
        let mut read = Vec::with_capacity(self.leases.len());
        for Indexed { message, token, .. } in self.leases {
            match layout::attempt(records, &message)? {
                Some(attempt) if attempt.token == token.0 => read.push(attempt.lease(&message)),
                _ => {
                    let why = format!("{ATTEMPTS:?}: no attempt of {message:?} under token {token}, which is live");
                    return Err(StoreError::Corrupt { store: engine::NAME, why });
                }
            }
        }
        Ok(read)
    }
}
