//! Sending under names that are free, as nearly all are: claims, states and messages in one script.

use std::borrow::Cow;
use std::collections::HashSet;

use redis::{Cmd, Value};

use crate::backend::redis::Told;
use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::claim::Claim;
use crate::ledger::redis::claims;
use crate::link::redis::{Access, Script};

use super::{Fused, NAME};

static CLAIMED: Script = Script::new(include_str!("scripts/claimed.lua"));

/// What a script is routed by.
const RECORDS: &str = "{lineshaft}:records";
/// Most sends of one script, and most bytes that it reads: Redis serves nobody else meanwhile.
const SENDS_MAX: usize = 256;
const BYTES_MAX: usize = 256 << 10;

/// Sends all of `items`, if nothing stands under any of their names and in the place of any of their states. `false`:
/// nothing was written, and each is to be judged for itself.
pub(super) async fn send(fused: &Fused, items: &[Claim], now: WallTime) -> Result<bool, StoreError> {
    if items.is_empty() || items.len() > SENDS_MAX {
        return Ok(false);
    }
    let states: Vec<Told> = items.iter().map(|claim| Told::new(&claim.sending.state, now)).collect();
    let heads: Vec<[Vec<u8>; 2]> = items.iter().flat_map(claims::published_at_once).collect();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let keys: HashSet<&str> = states.iter().map(Told::key).collect();
    let is_plain = heads.iter().all(|[name, ..]| seen.insert(name)) && keys.len() == items.len();
    if !is_plain || heads.is_empty() || !states.iter().all(Told::begins) {
        return Ok(false);
    }
    let lifetimes: Vec<_> = items.iter().filter_map(|claim| claim.sending.lifetime()).collect();
    let tasks: Vec<NewTask> = items.iter().map(|claim| claim.sending.message.clone()).collect();
    let batch = fused.broker.batch(&tasks);
    let publishing: Vec<Cmd> = batch.commands().collect();

    let mut args: Vec<Cow<'_, [u8]>> = vec![number(heads.len())];
    args.extend(heads.iter().flatten().map(|part| Cow::Borrowed(&part[..])));
    let limiting = (!lifetimes.is_empty()).then(|| fused.ledger.limiting(&lifetimes));
    let typed: Vec<[Cow<'_, [u8]>; 2]> = limiting.iter().chain(&publishing).filter_map(typed).collect();
    args.push(number(typed.len()));
    args.extend(typed.into_iter().flatten());
    args.extend(states.iter().flat_map(Told::new_value).map(Cow::Borrowed));
    for command in limiting.iter().chain(&publishing) {
        let parts: Vec<&[u8]> = parts(command).collect();
        args.push(number(parts.len()));
        args.extend(parts.into_iter().map(Cow::Borrowed));
    }
    if args.iter().map(|arg| arg.len()).sum::<usize>() > BYTES_MAX {
        return Ok(false);
    }
    let keys: Vec<&str> = std::iter::once(RECORDS).chain(states.iter().map(Told::key)).collect();
    let answer = fused.link.script(Access::Write, &CLAIMED, &keys, &args).await;
    if answer.map_err(|failure| failure.told_by(NAME))? != Value::Int(1) {
        return Ok(false);
    }
    // Each command was carried out.
    let done = Ok(vec![Ok(Value::Okay); publishing.len()]);
    fused.broker.concluded(&batch, &done, tasks.len()).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(true)
}

/// The key of a command that writes, and the type that it has to have.
fn typed(command: &Cmd) -> Option<[Cow<'_, [u8]>; 2]> {
    let mut parts = parts(command);
    let kind: &[u8] = match parts.next()? {
        b"RPUSH" => b"list",
        b"ZADD" => b"zset",
        _ => b"set",
    };
    Some([parts.next()?.into(), kind.into()])
}

fn parts(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().filter_map(|part| match part {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    })
}

fn number(number: usize) -> Cow<'static, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}
