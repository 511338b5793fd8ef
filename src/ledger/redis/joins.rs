//! Joins: one hash for each, a list of its members in order, a hash of how they ended, and two indexes of moments.
//!
//! A join with very many members is written in pieces under a name of its own and then renamed, so that it is there whole or
//! not at all. What a crash leaves of that is forgotten by Redis.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use redis::Value;

use super::Ledger;
use super::layout::{self, Arg, ITEMS_MAX, JOIN, JOIN_ENDS, JOIN_MEMBERS, JOINS, READ_MAX};
use super::store::{self, NAME, Pieces, Store};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::join::record::{FiringRecord, HeadRecord};
use crate::ledger::join::{Ended, Fired, Firing, Joins, Member, Opened, Opening, Stage, Standing};
use crate::link::redis::Script;
use crate::task::record::RecordError;
use crate::task::{GroupId, TaskId};

/// What a script begins with that adds members to joins.
macro_rules! join_ends {
    () => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/redis/scripts/join_ends.lua"))
    };
}
pub(crate) use join_ends;

static OPEN: Script = Script::new(include_str!("scripts/join_open.lua"));
static MEMBERS: Script = Script::new(include_str!("scripts/join_members.lua"));
static SENT: Script = Script::new(include_str!("scripts/join_sent.lua"));
static FORGET: Script = Script::new(include_str!("scripts/join_forget.lua"));
static ADD: Script = Script::new(concat!(join_ends!(), include_str!("scripts/join_add.lua")));
static MISSING: Script = Script::new(include_str!("scripts/join_missing.lua"));
static FIRE: Script = Script::new(include_str!("scripts/join_fire.lua"));
static CLOSE: Script = Script::new(include_str!("scripts/join_close.lua"));
static LOOK: Script = Script::new(include_str!("scripts/join_look.lua"));
static SWEEP: Script = Script::new(include_str!("scripts/join_sweep.lua"));

/// Most members that one script is given: about a millisecond of Redis.
const MEMBERS_MAX: usize = 1_000;
/// What a member counts for where a script is bounded by bytes, beside its id: about [`MEMBERS_MAX`] of them fill one.
const MEMBER_BYTES: usize = layout::BYTES_MAX / MEMBERS_MAX;
/// Members that one call of `missing` looks at: about two milliseconds of Redis.
const LOOK_MAX: usize = 5_000;
/// Members read in one call, each with how it ended.
const READ_MEMBERS_MAX: usize = 1_000;
/// Closed joins forgotten in one call.
const SWEEP_MAX: usize = 100;
/// How long what was written of a join stays that is not opened: many times what the next piece takes.
const LEFT_KEPT: Duration = Duration::from_secs(600);

/// How a member ended, as scripts and hashes have it: `F` if badly, else `S`, and its outcome. Never empty: that is a member
/// that has not ended.
pub(crate) fn told(ended: &Ended) -> Vec<u8> {
    let kind: &[u8] = if ended.is_failure { b"F" } else { b"S" };
    [kind, &ended.outcome].concat()
}

fn untold(value: Bytes) -> Option<(Bytes, bool)> {
    let is_failure = *value.first()? == b'F';
    Some((value.slice(1..), is_failure))
}

fn stage(bytes: &[u8]) -> Option<Stage> {
    match bytes {
        b"s" => Some(Stage::Sending),
        b"o" => Some(Stage::Open),
        b"f" => Some(Stage::Fired),
        b"c" => Some(Stage::Closed),
        _ => None,
    }
}

/// Reads head, stage, ended and failed; `None`: there is no such join.
fn standing(values: Value) -> Result<Option<Standing>, StoreError> {
    let mut values = store::bytes_list(values)?.into_iter();
    let mut next = || values.next().flatten();
    let Some(head) = next() else { return Ok(None) };
    let unreadable = |error: RecordError| store::corrupt("a join", error);
    let head = store::decode::<HeadRecord>("a join", head)?.try_into().map_err(unreadable)?;
    let missing = || unreadable(RecordError::Missing("how far it is"));
    let stage = next().and_then(|bytes| stage(&bytes)).ok_or_else(missing)?;
    let mut count = || next().and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok()).ok_or_else(missing);
    Ok(Some(Standing { head, stage, ended: count()?, failed: count()? }))
}

fn hash(group: &GroupId) -> String {
    format!("{JOIN}{group}")
}

/// Writes the members of a join that one script cannot be given; answers the name under which they are.
async fn stage_members(store: &Store, members: &[TaskId]) -> Result<String, StoreError> {
    // Drawn: whoever opens the same join at the same time writes for itself.
    let name = uuid::Uuid::new_v4().simple().to_string();
    let mut pieces = Pieces::default();
    for some in members.chunks(MEMBERS_MAX) {
        let mut args = vec![layout::text(&name), layout::number(LEFT_KEPT.as_millis())];
        args.extend(some.iter().map(|id| layout::text(id.as_str())));
        pieces.next(store.run(&MEMBERS, &args).await)?;
    }
    Ok(name)
}

/// How much of a script an opening is.
fn weight(opening: &Opening) -> usize {
    let body = opening.head.callback.as_ref().map_or(0, |callback| callback.body.len());
    let members: usize = opening.members.iter().map(|id| id.as_str().len() + MEMBER_BYTES).sum();
    if opening.members.len() > MEMBERS_MAX { body } else { body + members }
}

fn opening_args<'a>(args: &mut Vec<Arg<'a>>, opening: &'a Opening, written: Option<&'a str>) {
    let Opening { head, members, is_sending, look_at } = opening;
    let members = if written.is_some() { &[] } else { members.as_slice() };
    args.push(layout::text(head.id.as_str()));
    args.push(HeadRecord::from(head).encode_to_vec().into());
    args.push(layout::number(head.count));
    args.push(layout::text(if *is_sending { "s" } else { "o" }));
    args.push(layout::text(if opening.members.is_empty() { "0" } else { "1" }));
    args.push(layout::number(layout::micros_up(WallTime(0).plus(head.keep))));
    args.push(layout::number(layout::micros_up(*look_at)));
    args.push(layout::text(written.unwrap_or_default()));
    args.push(layout::number(members.len()));
    args.extend(members.iter().map(|id| layout::text(id.as_str())));
}

async fn open(store: &Store, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
    let mut answers = Vec::with_capacity(openings.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(openings, weight) {
        let mut written = Vec::with_capacity(piece.len());
        for opening in piece {
            // One that is there already is not written again.
            let is_large = opening.members.len() > MEMBERS_MAX
                && pieces.next(standings(store, std::slice::from_ref(&opening.head.id)).await)?.contains(&None);
            written.push(match is_large {
                true => Some(pieces.next(stage_members(store, &opening.members).await)?),
                false => None,
            });
        }
        let mut args = Vec::new();
        for (opening, written) in piece.iter().zip(&written) {
            // Of one that is there already no member is told: nor are there any under a name that nobody wrote.
            let is_there = opening.members.len() > MEMBERS_MAX && written.is_none();
            opening_args(&mut args, opening, written.as_deref().or(is_there.then_some("-")));
        }
        let opened = store::list(pieces.next(store.run(&OPEN, &args).await)?)?;
        if opened.len() != piece.len() {
            return Err(store::corrupt("an answer", "too short"));
        }
        for opened in opened {
            answers.push(match opened {
                Value::Int(0) => Opened::New,
                Value::Int(_) => {
                    let why = "the members of a join were forgotten before it was opened: it took too long".to_owned();
                    return pieces.next(Err(StoreError::Unavailable { store: NAME, why }));
                }
                known => Opened::Known(standing(known)?.ok_or_else(|| store::corrupt("a join", "no head"))?),
            });
        }
    }
    Ok(answers)
}

/// Runs a script that is told ids of joins, behind `first`.
async fn each(store: &Store, script: &Script, first: Option<u64>, groups: &[GroupId]) -> Result<(), StoreError> {
    let mut pieces = Pieces::default();
    for piece in groups.chunks(ITEMS_MAX) {
        let ids = piece.iter().map(|group| layout::text(group.as_str()));
        let args: Vec<_> = first.map(layout::number).into_iter().chain(ids).collect();
        pieces.next(store.run(script, &args).await)?;
    }
    Ok(())
}

async fn standings(store: &Store, groups: &[GroupId]) -> Result<Vec<Option<Standing>>, StoreError> {
    let mut found = Vec::with_capacity(groups.len());
    for piece in groups.chunks(READ_MAX) {
        let mut commands = redis::pipe();
        for group in piece {
            commands.add_command(store::hmget(&hash(group), ["head", "stage", "ended", "failed"].into_iter()));
        }
        for values in store.read_all(&commands).await? {
            found.push(standing(values)?);
        }
    }
    Ok(found)
}

async fn members(store: &Store, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError> {
    let ends = format!("{JOIN_ENDS}{group}");
    let mut found = Vec::new();
    while found.len() < max {
        let (at, some) = (from as usize + found.len(), READ_MEMBERS_MAX.min(max - found.len()));
        let mut command = redis::cmd("LRANGE");
        command.arg(format!("{JOIN_MEMBERS}{group}")).arg(at).arg(at + some - 1);
        let ids = store::texts(store.read(&command).await?)?;
        if ids.is_empty() {
            break;
        }
        let is_last = ids.len() < some;
        let ended = store::bytes_list(store.read(&store::hmget(&ends, ids.iter().map(String::as_str))).await?)?;
        let outcomes = ended.into_iter().map(|value| value.and_then(untold));
        found.extend(ids.into_iter().zip(outcomes).map(|(id, outcome)| Member { task: TaskId::trusted(id), outcome }));
        if is_last {
            break;
        }
    }
    Ok(found)
}

async fn missing(
    store: &Store,
    group: &GroupId,
    from: u32,
    max: usize,
) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
    let args = [layout::text(group.as_str()), layout::number(from), layout::number(max), layout::number(LOOK_MAX)];
    let mut answer = store::list(store.run(&MISSING, &args).await?)?.into_iter();
    let mut next = || answer.next().unwrap_or(Value::Nil);
    // Below 0: there are no more.
    let to = u32::try_from(store::int(&next())?).ok();
    let missing = store::texts(next())?;
    Ok((missing.into_iter().map(TaskId::trusted).collect(), to))
}

async fn fire(store: &Store, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
    let records: Vec<(&GroupId, Vec<u8>)> =
        firings.iter().map(|(group, firing)| (group, FiringRecord::from(firing).encode_to_vec())).collect();
    let mut answers = Vec::with_capacity(firings.len());
    let mut pieces = Pieces::default();
    for piece in layout::pieces(&records, |(_, record)| record.len()) {
        let mut args: Vec<Arg<'_>> = Vec::with_capacity(piece.len() * 2);
        for (group, record) in piece {
            args.extend([layout::text(group.as_str()), record.as_slice().into()]);
        }
        for answer in store::list(pieces.next(store.run(&FIRE, &args).await)?)? {
            answers.push(match answer {
                Value::Int(0) => Fired::Recorded,
                Value::Int(_) => Fired::Over,
                known => {
                    let record: FiringRecord = store::decode("a join", store::bytes(known)?.unwrap_or_default())?;
                    let firing = record.try_into().map_err(|error: RecordError| store::corrupt("a join", error))?;
                    Fired::Known(Box::new(firing))
                }
            });
        }
    }
    Ok(answers)
}

async fn due(store: &Store, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
    let mut command = redis::cmd("ZRANGEBYSCORE");
    command.arg(JOINS).arg("-inf").arg(layout::micros(now)).arg("LIMIT").arg(0).arg(store::limit(max));
    Ok(store::texts(store.read(&command).await?)?.into_iter().map(GroupId::trusted).collect())
}

/// Forgets closed joins that are past their time.
pub(super) async fn sweep(store: &Store, now: WallTime) -> Result<usize, StoreError> {
    store.sweep(&SWEEP, layout::micros(now), SWEEP_MAX).await
}

#[async_trait]
impl Joins for Ledger {
    async fn open(&self, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
        open(&self.store, openings).await
    }

    async fn sent(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        each(&self.store, &SENT, None, groups).await
    }

    async fn forget(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        each(&self.store, &FORGET, None, groups).await
    }

    async fn add(&self, ended: &[Ended]) -> Result<(), StoreError> {
        let mut pieces = Pieces::default();
        for piece in layout::pieces(ended, |ended| ended.outcome.len()) {
            let three = |ended: &'_ Ended| -> [Arg<'static>; 3] {
                let text = |text: &str| text.as_bytes().to_vec().into();
                [text(ended.group.as_str()), text(ended.task.as_str()), told(ended).into()]
            };
            let args: Vec<_> = piece.iter().flat_map(three).collect();
            pieces.next(self.store.run(&ADD, &args).await)?;
        }
        Ok(())
    }

    async fn standing(&self, groups: &[GroupId]) -> Result<Vec<Option<Standing>>, StoreError> {
        standings(&self.store, groups).await
    }

    async fn members(&self, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError> {
        members(&self.store, group, from, max).await
    }

    async fn missing(&self, group: &GroupId, from: u32, max: usize) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
        missing(&self.store, group, from, max).await
    }

    async fn fire(&self, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
        fire(&self.store, firings).await
    }

    async fn close(&self, groups: &[GroupId], at: WallTime) -> Result<(), StoreError> {
        each(&self.store, &CLOSE, Some(layout::micros_up(at)), groups).await
    }

    async fn due(&self, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
        due(&self.store, now, max).await
    }

    async fn look(&self, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError> {
        let mut pieces = Pieces::default();
        for piece in looks.chunks(ITEMS_MAX) {
            let three = |(group, at, seen): &'_ (GroupId, WallTime, u32)| -> [Arg<'static>; 3] {
                let group = group.as_str().as_bytes().to_vec();
                [group.into(), layout::number(layout::micros_up(*at)), layout::number(seen)]
            };
            let args: Vec<_> = piece.iter().flat_map(three).collect();
            pieces.next(self.store.run(&LOOK, &args).await)?;
        }
        Ok(())
    }
}
