//! How attempts end: released, decided, done, forgotten.

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::record::EffectsRecord;
use crate::ledger::{Decision, Ending, OPEN_KEPT, Undone, Verdict};
use crate::link::redis::Script;
use crate::task::record::RecordError;
use crate::task::{LeaseId, MessageKey};

use super::attempt::{self, Head};
use super::decisions::{self, Told};
use super::layout::{self, ENDS, UNDONE_AT};
use super::leases;
use super::store::{self, Pieces, Store};

static RELEASE: Script = Script::new(include_str!("scripts/release.lua"));
static DECIDE: Script = Script::new(concat!(
    "local stride = 3\n",
    decisions::judge!(),
    include_str!("scripts/decide.lua"),
    decisions::record!()
));
static DONE: Script = Script::new(include_str!("scripts/done.lua"));
static FORGET: Script = Script::new(concat!(include_str!("scripts/due.lua"), include_str!("scripts/forget.lua")));

/// Records forgotten in one call: about a millisecond of Redis.
const SWEEP_MAX: usize = 1_000;

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
            verdicts.push(decisions::verdict(store::int(&answer)?)?);
        }
    }
    Ok(verdicts)
}

/// Records decisions.
pub(super) async fn decide(store: &Store, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
    let told: Vec<Told<'_>> = decisions.iter().map(Told::undone).collect();
    let mut verdicts = Vec::with_capacity(decisions.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(&told, Told::bytes) {
        let answer = pieces.next(store.run(&DECIDE, &decisions::args(piece)).await)?;
        verdicts.extend(decisions::verdicts(answer, piece.len())?);
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
