//! How attempts end: released, decided, done, forgotten.

use prost::Message;
use redis::Value;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::record::{DeadRecord, EffectsRecord};
use crate::ledger::{Decision, Ending, OPEN_KEPT, Undone, Verdict};
use crate::link::redis::Script;
use crate::task::record::RecordError;
use crate::task::{LeaseId, MessageKey};

use super::attempt::{self, Head};
use super::dead;
use super::layout::{self, ENDS, UNDONE_AT};
use super::leases;
use super::lifetimes;
use super::store::{self, Pieces, Store};

static RELEASE: Script = Script::new(include_str!("scripts/release.lua"));
static DECIDE: Script = Script::new(include_str!("scripts/decide.lua"));
static DONE: Script = Script::new(include_str!("scripts/done.lua"));
static FORGET: Script = Script::new(include_str!("scripts/forget.lua"));

/// Records forgotten in one call: about a millisecond of Redis.
const SWEEP_MAX: usize = 1_000;

fn verdict(number: i64) -> Result<Verdict, StoreError> {
    match number {
        1 => Ok(Verdict::Recorded),
        2 => Ok(Verdict::Duplicate),
        3 => Ok(Verdict::Superseded),
        4 => Ok(Verdict::Conflict),
        other => Err(store::corrupt("an answer", format_args!("{other} is no verdict"))),
    }
}

/// Ends leases without a decision.
pub(super) async fn release(
    store: &Store,
    items: &[(LeaseId, Ending)],
    now: WallTime,
) -> Result<Vec<Verdict>, StoreError> {
    let mut verdicts = Vec::with_capacity(items.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(items, |_| 0) {
        let mut args = vec![layout::number(layout::micros_up(now.plus(OPEN_KEPT)))];
        for (lease, ending) in piece {
            args.push(layout::text(lease.message.as_str()));
            args.push(attempt::token(lease.token).into_bytes().into());
            args.push(attempt::ending(ending).into_bytes().into());
            args.push(match ending {
                Ending::Lost { at } => layout::padded(at.0),
                Ending::Free { .. } => layout::text(""),
            });
        }
        for answer in store::list(pieces.next(store.run(&RELEASE, &args).await)?)? {
            verdicts.push(verdict(store::int(&answer)?)?);
        }
    }
    Ok(verdicts)
}

/// Records decisions.
pub(super) async fn decide(store: &Store, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
    let encoded: Vec<(Vec<u8>, Option<Vec<u8>>)> = decisions
        .iter()
        .map(|decision| {
            let dead = decision.dead.as_ref().map(|dead| DeadRecord::from(dead).encode_to_vec());
            (attempt::effects_blob(&decision.effects), dead)
        })
        .collect();
    let items: Vec<_> = decisions.iter().zip(encoded).collect();
    let bytes =
        |(_, (effects, dead)): &(_, (Vec<u8>, Option<Vec<u8>>))| effects.len() + dead.as_ref().map_or(0, Vec::len);
    let mut verdicts = Vec::with_capacity(decisions.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(&items, bytes) {
        let dead = piece.iter().filter(|(decision, _)| decision.dead.is_some()).count();
        let mut args = vec![layout::number(piece.len()), layout::number(dead)];
        for (decision, (effects, _)) in piece {
            args.push(layout::text(decision.lease.message.as_str()));
            args.push(attempt::decided(decision).into());
            args.push(effects.as_slice().into());
        }
        for (at, (decision, (_, record))) in piece.iter().enumerate() {
            if let (Some(dead), Some(record)) = (&decision.dead, record) {
                args.push(layout::number(at + 1));
                dead::push_args(&mut args, dead, record.as_slice().into());
            }
        }
        for (at, (decision, _)) in piece.iter().enumerate() {
            let begins = decision.begins.iter().map(|lifetime| ("1", lifetime));
            for (kind, lifetime) in begins.chain(decision.ends.iter().map(|lifetime| ("0", lifetime))) {
                args.push(layout::number(at + 1));
                args.push(layout::text(kind));
                args.push(lifetimes::entry(lifetime).into_bytes().into());
            }
        }
        match pieces.next(store.run(&DECIDE, &args).await)? {
            Value::Int(1) => verdicts.extend(piece.iter().map(|_| Verdict::Recorded)),
            each => {
                for answer in store::list(each)? {
                    verdicts.push(verdict(store::int(&answer)?)?);
                }
            }
        }
    }
    Ok(verdicts)
}

/// Decisions from before `before` whose effects are not done.
pub(super) async fn undone(store: &Store, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError> {
    let mut command = redis::cmd("ZRANGEBYSCORE");
    command.arg(ENDS).arg(UNDONE_AT).arg(UNDONE_AT + layout::micros(before));
    command.arg("LIMIT").arg(0).arg(store::limit(max));
    let messages = store::texts(store.read(&command).await?)?;
    let messages: Vec<MessageKey> = messages.into_iter().map(MessageKey::trusted).collect();
    let mut found = Vec::with_capacity(messages.len());
    for (message, head, blob) in leases::records(store, &messages).await? {
        match undone_in(message, head.as_deref(), blob) {
            // The index knows microseconds, the record all of it.
            Ok(Some((at, undone))) if at < before => found.push((at, undone)),
            Ok(_) => {}
            // One record that cannot be read must not keep all others from being finished.
            Err(StoreError::Corrupt { why, .. }) => {
                tracing::error!(why, "the effects of a decision cannot be read and are passed over");
            }
            Err(error) => return Err(error),
        }
    }
    // Stable: of the same time, in order of their keys.
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, undone)| undone).collect())
}

/// The decision that a record is, if it is one, and its effects are still there.
fn undone_in(
    message: &MessageKey,
    head: Option<&[u8]>,
    blob: Option<bytes::Bytes>,
) -> Result<Option<(WallTime, Undone)>, StoreError> {
    let unreadable = |error| store::corrupt(message.as_str(), error);
    let Some(Head::Decided { at, .. }) = head.map(Head::read).transpose().map_err(unreadable)? else { return Ok(None) };
    let Some(blob) = blob else { return Ok(None) };
    let record: EffectsRecord = store::decode(message.as_str(), blob)?;
    let effects = record.try_into().map_err(|error: RecordError| unreadable(error))?;
    Ok(Some((at, Undone { message: message.clone(), effects })))
}

/// Marks effects done.
pub(super) async fn done(store: &Store, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError> {
    let mut pieces = Pieces::default();
    for piece in layout::pieces(messages, |_| 0) {
        let mut args = vec![layout::number(layout::micros_up(at))];
        args.extend(piece.iter().map(|message| layout::text(message.as_str())));
        pieces.next(store.run(&DONE, &args).await)?;
    }
    Ok(())
}

/// Forgets records that are past their time.
pub(super) async fn sweep(store: &Store, now: WallTime) -> Result<usize, StoreError> {
    store.sweep(&FORGET, layout::micros(now), SWEEP_MAX).await
}
