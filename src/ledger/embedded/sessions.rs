//! Sessions: durable themselves, their renewal numbers in memory.
//!
//! A renewal is one number raised in memory, so a heartbeat costs no commit. After a restart all numbers begin anew, as do
//! those who watch them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;

use crate::engine::{Direction, Engine, Records, Txn};
use crate::error::StoreError;
use crate::ledger::record::SessionRecord;
use crate::ledger::{Lease, Session};
use crate::task::SessionId;
use crate::task::record::RecordError;

use super::layout::{self, SESSIONS};
use super::leases;

/// The renewal numbers of all sessions that are committed.
#[derive(Debug, Default)]
pub(super) struct Renewals(Mutex<BTreeMap<SessionId, Renewal>>);

#[derive(Debug, Default)]
struct Renewal {
    number: u64,
    /// Its end is being committed: it can be renewed no more, and is still there if the commit fails.
    is_closing: bool,
}

impl Renewals {
    /// All sessions in the file, with number 0.
    pub(super) fn load(engine: &Engine) -> Result<Self, StoreError> {
        let mut all = BTreeMap::new();
        engine.read(|records| {
            let mut failure = Ok(());
            records.visit(SESSIONS, layout::ALL, Direction::Forward, &mut |key, _| match std::str::from_utf8(key) {
                Ok(id) => {
                    all.insert(SessionId::trusted(id), Renewal::default());
                    ControlFlow::Continue(())
                }
                Err(_) => {
                    failure = Err(layout::malformed(SESSIONS, key));
                    ControlFlow::Break(())
                }
            })?;
            failure
        })?;
        Ok(Self(Mutex::new(all)))
    }

    /// Raises the numbers; `false`: no such session, or its end is under way.
    pub(super) fn raise(&self, sessions: &[SessionId]) -> Vec<bool> {
        let mut all = self.0.lock();
        let mut raise = |id| match all.get_mut(id) {
            Some(renewal) if !renewal.is_closing => {
                renewal.number += 1;
                true
            }
            _ => false,
        };
        sessions.iter().map(&mut raise).collect()
    }

    /// All numbers.
    pub(super) fn all(&self) -> Vec<(SessionId, u64)> {
        self.0.lock().iter().map(|(id, renewal)| (id.clone(), renewal.number)).collect()
    }

    /// From here to the end of its commit the session cannot be renewed. Refused if `number` is given and is not its own;
    /// a session without one was attached a moment ago, in this very group, and is nobody's to close by number.
    fn begin_close(&self, id: &SessionId, number: Option<u64>) -> bool {
        let mut all = self.0.lock();
        match (all.get_mut(id), number) {
            (Some(renewal), Some(number)) if renewal.number != number => false,
            (Some(renewal), _) => {
                renewal.is_closing = true;
                true
            }
            (None, number) => number.is_none(),
        }
    }

    /// The end of a session was not committed: it lives on.
    pub(super) fn undo_close(&self, id: &SessionId) {
        if let Some(renewal) = self.0.lock().get_mut(id) {
            renewal.is_closing = false;
        }
    }
}

/// The session as recorded.
pub(super) fn read(records: &impl Records, id: &SessionId) -> Result<Option<Session>, StoreError> {
    records.get(SESSIONS, id.as_str().as_bytes())?.map(|bytes| session(id.as_str(), bytes)).transpose()
}

/// The sessions after `after`.
pub(super) fn page(records: &impl Records, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError> {
    let range = layout::behind(after.map(SessionId::as_str));
    let page = records.scan(SESSIONS, range, Direction::Forward, max)?;
    page.into_iter().map(|(key, bytes)| session(&key.escape_ascii().to_string(), bytes)).collect()
}

fn session(id: &str, bytes: bytes::Bytes) -> Result<Session, StoreError> {
    let record: SessionRecord = layout::decode(id, bytes)?;
    record.try_into().map_err(|error: RecordError| layout::corrupt(id, error))
}

/// Records a session, if its number is higher than the stored one, or 1 for a new one.
pub(super) fn attach_in(txn: &mut Txn<'_>, renewals: &Arc<Renewals>, session: &Session) -> Result<bool, StoreError> {
    let stored = read(txn, &session.id)?;
    match &stored {
        Some(stored) if stored.attach >= session.attach => return Ok(false),
        None if session.attach != 1 => return Ok(false),
        // Raised before the commit: whoever is about to close it in this group must see that it came back.
        Some(_) => {
            renewals.raise(std::slice::from_ref(&session.id));
        }
        None => {
            let (renewals, id) = (Arc::clone(renewals), session.id.clone());
            txn.on_commit(move || {
                renewals.0.lock().insert(id, Renewal::default());
            });
        }
    }
    txn.put(SESSIONS, session.id.as_str().as_bytes(), &SessionRecord::from(session).encode_to_vec())?;
    Ok(true)
}

/// Ends a session, unless it was renewed; answers its live leases.
pub(super) fn close_in(
    txn: &mut Txn<'_>,
    renewals: &Arc<Renewals>,
    id: &SessionId,
    number: Option<u64>,
) -> Result<Option<Vec<Lease>>, StoreError> {
    // Read first: an error after a write would take the whole group with it.
    let held = leases::of_session(txn, id)?;
    if txn.get(SESSIONS, id.as_str().as_bytes())?.is_some() {
        if !renewals.begin_close(id, number) {
            return Ok(None);
        }
        txn.delete(SESSIONS, id.as_str().as_bytes())?;
        let (renewals, id) = (Arc::clone(renewals), id.clone());
        txn.on_commit(move || {
            renewals.0.lock().remove(&id);
        });
    }
    Ok(Some(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_whose_end_is_not_committed_can_be_renewed_again() {
        let (renewals, id) = (Renewals::default(), [SessionId::trusted("s1")]);
        renewals.0.lock().insert(id[0].clone(), Renewal::default());
        assert_eq!(renewals.raise(&id), [true]);
        assert!(!renewals.begin_close(&id[0], Some(0)));
        assert!(renewals.begin_close(&id[0], Some(1)));
        assert_eq!(renewals.raise(&id), [false], "its end is under way");
        renewals.undo_close(&id[0]);
        assert_eq!(renewals.raise(&id), [true]);
        assert_eq!(renewals.all(), [(id[0].clone(), 2)]);
    }

    #[test]
    fn a_session_attached_in_the_same_group_is_not_closed_by_number() {
        let renewals = Renewals::default();
        assert!(!renewals.begin_close(&SessionId::trusted("s1"), Some(0)));
        assert!(renewals.begin_close(&SessionId::trusted("s1"), None));
    }
}
