//! Names of sends.
//!
//! What stands under a name is a head, which scripts read, and while it is not published an [`OpenRecord`] beside it. A head
//! is `O` (not published) or `P`; `j` (somebody else was told to send it too) or `-`; when it lapses, and when it lapses once
//! published, unix ns in 20 digits each; the message and `\1`; the [`ClaimRecord`] without what is open.
//!
//! A send whose names are free, as nearly all are, is claimed by one script for the whole batch. Where something stands, the
//! rule that all rooms share judges it here, and what it wants stored is compared and set.

use bytes::Bytes;
use prost::Message;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::claim::{Claim, ClaimName, Claimed, Held, Step};
use crate::ledger::record::{ClaimRecord, OpenRecord};
use crate::link::redis::Script;
use crate::task::MessageKey;
use crate::task::record::RecordError;

use super::layout::{self, Arg, CLAIMS, CLAIMS_OPEN};
use super::store::{self, NAME, Pieces, Store};

static CLAIM: Script = Script::new(include_str!("scripts/claim.lua"));
static SET: Script = Script::new(include_str!("scripts/claim_set.lua"));
static PUBLISHED: Script = Script::new(include_str!("scripts/published.lua"));
static UNCLAIM: Script = Script::new(include_str!("scripts/unclaim.lua"));
static SWEEP: Script = Script::new(concat!(include_str!("scripts/due.lua"), include_str!("scripts/sweep_claims.lua")));

/// Claims forgotten in one call: about a millisecond of Redis.
const SWEEP_MAX: usize = 1_000;
/// How often a claim is judged anew because others changed what stands under its names.
const JUDGED_MAX: usize = 16;
/// After the message in a head.
const MESSAGE_END: u8 = 1;
/// Where the message begins in a head.
const MESSAGE_AT: usize = 42;

fn key(name: &ClaimName) -> String {
    match name {
        ClaimName::Request(id) => format!("r{id}"),
        ClaimName::Key(key) => format!("k{key}"),
    }
}

/// The message as scripts compare it: with its end, so that it is not the beginning of another.
fn whole(message: &MessageKey) -> Arg<'static> {
    [message.as_str().as_bytes(), &[MESSAGE_END]].concat().into()
}

/// What scripts are told of a claim: name, head, what is open, when it lapses.
fn push_args(args: &mut Vec<Arg<'_>>, name: &ClaimName, held: &Held) {
    let mut record = ClaimRecord::from(held);
    let open = record.open.take();
    let flags = match &held.open {
        Some(open) if open.is_joined => "Oj",
        Some(_) => "O-",
        None => "P-",
    };
    let lapses_at = held.lapses_at.0;
    let once_published = open.as_ref().map_or(lapses_at, |open| open.lapses_at);
    let mut head = format!("{flags}{lapses_at:020}{once_published:020}{}", held.message).into_bytes();
    head.push(MESSAGE_END);
    head.extend(record.encode_to_vec());
    args.push(key(name).into_bytes().into());
    args.push(head.into());
    args.push(open.map(|open| open.encode_to_vec()).unwrap_or_default().into());
    args.push(layout::number(layout::micros_up(held.lapses_at)));
}

fn read(name: &str, head: &Bytes, open: Option<Bytes>) -> Result<Held, StoreError> {
    let unreadable = |error| store::corrupt(name, error);
    let missing = || unreadable(RecordError::Missing("a part of the claim"));
    let flags = head.get(..2).ok_or_else(missing)?;
    let lapses_at = head.get(2..22).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let lapses_at = lapses_at.ok_or_else(missing)?;
    let message = head.get(MESSAGE_AT..).and_then(|rest| rest.iter().position(|byte| *byte == MESSAGE_END));
    let record = head.slice(message.ok_or_else(missing)? + MESSAGE_AT + 1..);
    let record: ClaimRecord = store::decode(name, record)?;
    let is_joined = flags.ends_with(b"j");
    let open = match (flags.starts_with(b"O"), open) {
        (false, _) => None,
        (true, None) => return Err(missing()),
        (true, Some(open)) => Some(OpenRecord { is_joined, ..store::decode(name, open)? }),
    };
    ClaimRecord { lapses_at, open, ..record }.try_into().map_err(unreadable)
}

/// What a script is told of a claim whose message is published in the same step: for each name the name and the head.
pub(crate) fn published_at_once(claim: &Claim) -> Vec<[Vec<u8>; 2]> {
    let (_, writes) = claim.judge(None, None, Step::Publish);
    let told = |(name, held): &(ClaimName, Held)| {
        let mut args = Vec::with_capacity(4);
        push_args(&mut args, name, held);
        let mut args = args.into_iter().map(Arg::into_owned);
        let mut next = || args.next().unwrap_or_default();
        [next(), next()]
    };
    writes.iter().map(told).collect()
}

/// Claims names.
pub(super) async fn claim(store: &Store, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
    let mut answers = Vec::with_capacity(claims.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(claims, |claim| claim.sending.message.body.len() * claim.names().len()) {
        let mut args = Vec::new();
        for claim in piece {
            let (_, writes) = claim.judge(None, None, Step::Claim);
            args.push(layout::number(writes.len()));
            writes.iter().for_each(|(name, held)| push_args(&mut args, name, held));
        }
        let claimed = store::list(pieces.next(store.run(&CLAIM, &args).await)?)?;
        if claimed.len() != piece.len() {
            return Err(store::corrupt("an answer", "too short"));
        }
        for (claim, claimed) in piece.iter().zip(claimed) {
            answers.push(match store::int(&claimed)? {
                1 => Claimed::New,
                _ => pieces.next(judge(store, claim).await)?,
            });
        }
    }
    Ok(answers)
}

/// Judges a claim by what stands under its names, until what was judged still stands when the outcome is stored.
async fn judge(store: &Store, claim: &Claim) -> Result<Claimed, StoreError> {
    let names = claim.names();
    for _ in 0..JUDGED_MAX {
        let keys: Vec<String> = names.iter().map(key).collect();
        let mut commands = redis::pipe();
        for hash in [CLAIMS, CLAIMS_OPEN] {
            commands.add_command(store::hmget(hash, keys.iter().map(String::as_str)));
        }
        let mut found = store.read_at_once(commands).await?.into_iter().map(store::bytes_list);
        let heads = found.next().unwrap_or_else(|| Ok(Vec::new()))?;
        let open = found.next().unwrap_or_else(|| Ok(Vec::new()))?;
        let (mut by_request, mut by_key) = (None, None);
        for ((name, key), (head, open)) in names.iter().zip(&keys).zip(heads.iter().zip(open)) {
            let held = head.as_ref().map(|head| read(key, head, open)).transpose()?;
            match name {
                ClaimName::Request(_) => by_request = held,
                ClaimName::Key(_) => by_key = held,
            }
        }
        let (answer, writes) = claim.judge(by_request, by_key, Step::Claim);
        if writes.is_empty() {
            return Ok(answer);
        }
        let mut args = vec![layout::number(keys.len())];
        for (key, head) in keys.iter().zip(&heads) {
            args.push(layout::text(key));
            args.push(head.as_deref().unwrap_or_default().into());
        }
        writes.iter().for_each(|(name, held)| push_args(&mut args, name, held));
        if store::int(&store.run(&SET, &args).await?)? == 1 {
            return Ok(answer);
        }
    }
    let why = format!("what stands under a name changed {JUDGED_MAX} times while it was claimed");
    Err(StoreError::Unavailable { store: NAME, why })
}

/// Says that messages are published.
pub(super) async fn published(store: &Store, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError> {
    let names: Vec<(&ClaimName, &MessageKey)> =
        items.iter().flat_map(|(names, message)| names.iter().map(move |name| (name, message))).collect();
    let mut pieces = Pieces::default();
    for piece in layout::pieces(&names, |_| 0) {
        let two = |(name, message): &(&ClaimName, &MessageKey)| -> [Arg<'static>; 2] {
            [key(name).into_bytes().into(), whole(message)]
        };
        let args: Vec<_> = piece.iter().flat_map(two).collect();
        pieces.next(store.run(&PUBLISHED, &args).await)?;
    }
    Ok(())
}

/// Takes claims back.
pub(super) async fn unclaim(store: &Store, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError> {
    let mut answers = Vec::with_capacity(items.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(items, |_| 0) {
        let mut args = Vec::new();
        for (names, message) in piece {
            args.push(layout::number(names.len()));
            args.push(whole(message));
            args.extend(names.iter().map(|name| Arg::from(key(name).into_bytes())));
        }
        for answer in store::list(pieces.next(store.run(&UNCLAIM, &args).await)?)? {
            answers.push(store::int(&answer)? == 1);
        }
    }
    Ok(answers)
}

/// Forgets claims that have lapsed.
pub(super) async fn sweep(store: &Store, now: WallTime) -> Result<usize, StoreError> {
    store.sweep(&SWEEP, layout::micros(now), SWEEP_MAX).await
}
