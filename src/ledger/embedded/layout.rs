//! Which tables the ledger has, save those of joins, how their keys are made, how their records are read.
//!
//! Per message a grant is two puts, an ending or a decision two puts and a delete; the last token is one put per batch.

use std::ops::Bound;

use bytes::Bytes;
use prost::Message;

use crate::clock::WallTime;
use crate::engine::{self, Records, Table, Txn};
use crate::error::StoreError;
use crate::task::record::RecordError;
use crate::task::{FencingToken, MessageKey, QueueName, SessionId};

use super::attempt::Attempt;

/// Message key → [`Attempt`]: every message that was granted and is not forgotten.
pub(super) const ATTEMPTS: Table = Table::new("attempts");
/// Session, 0, token → message key, 0, queue: the live leases. Ordered by session, because closing one must be quick
/// whatever else is live; listing all by age sorts, which only people ask for.
pub(super) const LEASES: Table = Table::new("leases");
/// Session → [`crate::ledger::record::SessionRecord`].
pub(super) const SESSIONS: Table = Table::new("sessions");
/// Time of the decision, message key → nothing: decisions whose effects are not marked done.
pub(super) const UNDONE: Table = Table::new("undone");
/// Time, message key → nothing: when to look whether a message can be forgotten. An entry counts only while the attempt
/// names the same time, so that nobody has to remove it when the message is granted again.
pub(super) const FORGET: Table = Table::new("forget");
/// Message key → [`crate::ledger::record::DeadRecord`].
pub(super) const DEAD: Table = Table::new("dead");
/// When it was set aside, message key → nothing: dead tasks by age. An entry counts only while the dead task names the same
/// time, so that nobody has to find it when the message is set aside anew.
pub(super) const DEAD_AGES: Table = Table::new("dead ages");
/// Task → generation, 8 bytes big endian: tasks marked as cancelled.
pub(super) const CANCELS: Table = Table::new("cancels");
/// `r` and a request id, or `k` and an idempotency key → [`crate::ledger::record::ClaimRecord`].
pub(super) const CLAIMS: Table = Table::new("claims");
/// Time, first key → keys of [`CLAIMS`], joined by 0: when to look whether they can be forgotten. One entry serves all
/// claims of a batch. A key counts only while its claim has lapsed.
pub(super) const CLAIM_ENDS: Table = Table::new("claim_ends");
/// Moment, task, 0, generation → nothing: until when tasks may be begun.
pub(super) const LIFETIMES: Table = Table::new("lifetimes");
/// Queue → since when, unix ns, 8 bytes big endian: paused queues.
pub(super) const PAUSED: Table = Table::new("paused");
/// Single values.
pub(super) const LEDGER: Table = Table::new("ledger");

const LAST_TOKEN: &[u8] = b"last token";

/// All keys.
pub(super) const ALL: engine::Range<'static> = (Bound::Unbounded, Bound::Unbounded);

/// The keys after `after`.
pub(super) fn behind(after: Option<&str>) -> engine::Range<'_> {
    (after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_bytes())), Bound::Unbounded)
}

/// A record that cannot be read.
pub(super) fn corrupt(what: &str, why: impl Into<RecordError>) -> StoreError {
    StoreError::Corrupt { store: engine::NAME, why: format!("{what}: {}", why.into()) }
}

/// A key that nobody wrote.
pub(super) fn malformed(table: Table, key: &[u8]) -> StoreError {
    StoreError::Corrupt { store: engine::NAME, why: format!("{table:?}: key \"{}\"", key.escape_ascii()) }
}

/// Reads a message of protobuf.
pub(super) fn decode<T: Message + Default>(what: &str, bytes: Bytes) -> Result<T, StoreError> {
    T::decode(bytes).map_err(|error| corrupt(what, error))
}

/// The attempt of a message, if it was granted and is not forgotten.
pub(super) fn attempt(records: &impl Records, message: &MessageKey) -> Result<Option<Attempt>, StoreError> {
    let Some(bytes) = records.get(ATTEMPTS, message.as_str().as_bytes())? else { return Ok(None) };
    decode(message.as_str(), bytes).map(Some)
}

/// Stores the attempt of a message.
pub(super) fn put_attempt(txn: &mut Txn<'_>, message: &MessageKey, attempt: &Attempt) -> Result<(), StoreError> {
    txn.put(ATTEMPTS, message.as_str().as_bytes(), &attempt.encode_to_vec())
}

/// The last token that was granted.
pub(super) fn last_token(records: &impl Records) -> Result<u64, StoreError> {
    let Some(bytes) = records.get(LEDGER, LAST_TOKEN)? else { return Ok(0) };
    bytes.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| malformed(LEDGER, LAST_TOKEN))
}

/// Remembers the last token that was granted.
pub(super) fn put_last_token(txn: &mut Txn<'_>, token: u64) -> Result<(), StoreError> {
    txn.put(LEDGER, LAST_TOKEN, &token.to_be_bytes())
}

/// Makes the tokens of a restored ledger greater than all that were granted after its backup was taken, whose number
/// nobody knows: workers may still hold leases under them. Microseconds since 1970 serve, as no server grants a million
/// leases a second for long, and a second restore of the same backup is later than the first. They fit into 53 bits.
pub(crate) fn restored_in(txn: &mut Txn<'_>, now: WallTime) -> Result<(), StoreError> {
    let last = last_token(txn)?;
    put_last_token(txn, last.saturating_add(1).max(now.0 / 1000))
}

/// The key of a live lease. Ids have no control characters, so 0 ends one.
pub(super) fn lease_key(session: &str, token: u64) -> Vec<u8> {
    [session.as_bytes(), &[0], &token.to_be_bytes()].concat()
}

/// What stands under the key of a live lease.
pub(super) fn lease_value(message: &MessageKey, queue: &str) -> Vec<u8> {
    [message.as_str().as_bytes(), &[0], queue.as_bytes()].concat()
}

/// The keys of all live leases of a session with a token above `after`.
pub(super) fn leases_of(session: &SessionId, after: FencingToken) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let session = session.as_str();
    (Bound::Excluded(lease_key(session, after.0)), Bound::Included(lease_key(session, u64::MAX)))
}

/// A live lease as its index tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Indexed {
    /// First, so that the oldest sorts first.
    pub(super) token: FencingToken,
    /// The message.
    pub(super) message: MessageKey,
    /// Its queue.
    pub(super) queue: QueueName,
    /// Who holds it.
    pub(super) session: SessionId,
}

/// Reads an entry of [`LEASES`].
pub(super) fn indexed(key: &[u8], value: &[u8]) -> Result<Indexed, StoreError> {
    let read = || {
        let (session, token) = key.split_last_chunk::<8>()?;
        let session = std::str::from_utf8(session.strip_suffix(&[0])?).ok()?;
        let (message, queue) = std::str::from_utf8(value).ok()?.split_once('\0')?;
        Some(Indexed {
            token: FencingToken(u64::from_be_bytes(*token)),
            message: MessageKey::trusted(message),
            queue: QueueName::trusted(queue),
            session: SessionId::trusted(session),
        })
    };
    read().ok_or_else(|| malformed(LEASES, key))
}

/// The key of a message at a time, in [`UNDONE`], [`FORGET`] and [`DEAD_AGES`].
pub(super) fn time_key(at: WallTime, message: &MessageKey) -> Vec<u8> {
    [&at.0.to_be_bytes(), message.as_str().as_bytes()].concat()
}

/// Reads such a key.
pub(super) fn read_time_key(table: Table, key: &[u8]) -> Result<(WallTime, MessageKey), StoreError> {
    let read = || {
        let (at, message) = key.split_first_chunk::<8>()?;
        Some((WallTime(u64::from_be_bytes(*at)), MessageKey::trusted(std::str::from_utf8(message).ok()?)))
    };
    read().ok_or_else(|| malformed(table, key))
}
