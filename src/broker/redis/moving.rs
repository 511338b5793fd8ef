//! Moving what is due, and returning what is not, in a cluster: the sets and the lists are on different servers, so one
//! step becomes three, and what a crash leaves between them is there twice rather than not at all.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::delayed::{MOVED_MAX, pause, time};
use super::frame::{Frame, Later};
use super::layout::{self, LATER, WAKE};
use super::settle::Unqueued;
use super::{BATCH_BYTES_MAX, Inner, read, told, unexpected};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Script};

static CLAIM: Script = Script::new(concat!(include_str!("scripts/targets.lua"), include_str!("scripts/claim.lua")));

/// How long a claim holds before another mover takes it over: longer than a call to the lists takes.
const CLAIM_MS: u32 = 10_000;
/// How much later what its list refuses is tried again, so that it does not keep others from moving.
const REFUSED: Duration = Duration::from_secs(60);

/// One message that was claimed.
#[derive(Debug)]
struct Claimed {
    member: Bytes,
    list: Bytes,
    /// What of the member goes to the list.
    value: Bytes,
    wakes: bool,
}

impl Inner {
    /// Moves what is due; how long until it is worth to look again.
    pub(super) async fn move_between(&self) -> Result<Duration, StoreError> {
        let now = self.clock.wall();
        let (mut has_more, mut next) = (false, None::<WallTime>);
        for (source, kind) in [(self.options.delayed_tasks_key.as_str(), "delayed"), (LATER, "later")] {
            let moving = layout::moving(source);
            let (more, first, claimed) = self.claim(source, &moving, kind, now).await?;
            has_more |= more;
            next = next.into_iter().chain(first).min();
            if !claimed.is_empty() {
                self.deliver(source, &moving, claimed, now).await?;
            }
        }
        Ok(pause(now, has_more, next))
    }

    async fn claim(
        &self,
        source: &str,
        moving: &str,
        kind: &str,
        now: WallTime,
    ) -> Result<(bool, Option<WallTime>, Vec<Claimed>), StoreError> {
        let default = self.queue(&self.options.default_queue);
        let (at, most, limit, holds) =
            (now.0.to_string(), MOVED_MAX.to_string(), BATCH_BYTES_MAX.to_string(), CLAIM_MS.to_string());
        let args = [at.as_str(), &most, default.keys.queue.as_str(), &default.keys.again, kind, &limit, &holds];
        let value = self.link.script(Access::Write, &CLAIM, &[source, moving], &args).await.map_err(told)?;
        let Value::Array(answer) = value else { return Err(unexpected("what was claimed")) };
        let mut answer = answer.into_iter();
        let (Some(Value::Int(more)), Some(Value::BulkString(first))) = (answer.next(), answer.next()) else {
            return Err(unexpected("what was claimed"));
        };
        let mut claimed = Vec::new();
        while let Some(member) = answer.next() {
            let member = super::bytes(member)?;
            let (list, from, wakes) = (answer.next(), answer.next(), answer.next());
            let (Some(Value::BulkString(list)), Some(Value::Int(from)), Some(Value::Int(wakes))) = (list, from, wakes)
            else {
                return Err(unexpected("what was claimed"));
            };
            // Lua counts from 1.
            let from = usize::try_from(from - 1).ok().filter(|from| *from <= member.len());
            let value = member.slice(from.ok_or_else(|| unexpected("what was claimed"))?..);
            claimed.push(Claimed { member, list: list.into(), value, wakes: wakes != 0 });
        }
        Ok((more != 0, time(&first), claimed))
    }

    /// Adds what was claimed to its lists, in order, and gives up the claims of what is there.
    async fn deliver(
        &self,
        source: &str,
        moving: &str,
        claimed: Vec<Claimed>,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let mut lists: Vec<Vec<Claimed>> = Vec::new();
        let mut places: HashMap<Bytes, usize> = HashMap::new();
        for item in claimed {
            let at = *places.entry(item.list.clone()).or_insert_with(|| {
                lists.push(Vec::new());
                lists.len() - 1
            });
            lists[at].push(item);
        }
        let mut adding = redis::pipe();
        for items in &lists {
            adding.cmd("RPUSH").arg(&items[0].list[..]);
            for item in items {
                adding.arg(&item.value[..]);
            }
        }
        let answers = self.link.pipeline(Access::Write, &adding).await.map_err(told)?;
        let (mut gone, mut back, mut wakes) = (redis::cmd("ZREM"), redis::cmd("ZADD"), redis::pipe());
        gone.arg(moving);
        back.arg(source);
        let (mut is_any_gone, mut is_any_back) = (false, false);
        let again = now.plus(REFUSED);
        for (items, answer) in lists.iter().zip(answers) {
            match answer {
                Ok(_) => {
                    if items.iter().any(|item| item.wakes) {
                        wakes.cmd("PUBLISH").arg(WAKE).arg(&items[0].list[..]);
                    }
                }
                Err(failure) if failure.why.starts_with("WRONGTYPE") => {
                    for item in items {
                        back.arg(again.0).arg(&item.member[..]);
                    }
                    is_any_back = true;
                }
                // The claim stays, and is taken over in time.
                Err(failure) => {
                    tracing::debug!(why = failure.why, "delayed messages did not reach their queue");
                    continue;
                }
            }
            for item in items {
                gone.arg(&item.member[..]);
            }
            is_any_gone = true;
        }
        let mut given_up = redis::pipe();
        if is_any_back {
            given_up.add_command(back);
        }
        if is_any_gone {
            given_up.add_command(gone);
        }
        if !given_up.is_empty() {
            self.link.transaction(&mut given_up).await.map_err(told)?;
        }
        if !wakes.is_empty() {
            // Whoever does not hear it looks before it waits.
            self.link.pipeline(Access::Write, &wakes).await.map_err(told)?;
        }
        Ok(())
    }

    /// Lets deliveries of one queue, held under `key`, come back later: first into the set, then out of the hash.
    ///
    /// Whoever repeats it writes the same members, so that they are in the set once.
    pub(super) async fn postpone(&self, key: &str, items: &[Unqueued<'_>]) -> Result<Vec<u8>, StoreError> {
        let fields: Vec<String> = items.iter().map(|item| item.held.field()).collect();
        let mut asked = redis::cmd("HMGET");
        asked.arg(key).arg(&fields);
        let values = self.link.command(Access::Read, &asked).await.map_err(told)?;
        let values: Vec<Option<Vec<u8>>> = read(values, "what is held")?;
        if values.len() != items.len() {
            return Err(unexpected("what is held"));
        }
        let mut adding = redis::cmd("ZADD");
        adding.arg(LATER);
        let mut gone = redis::cmd("HDEL");
        gone.arg(key);
        let mut flags = Vec::with_capacity(items.len());
        for ((item, field), value) in items.iter().zip(&fields).zip(values) {
            flags.push(u8::from(value.is_some()));
            if let Some(value) = value {
                adding.arg(item.due.0).arg(&member(item, value.into())[..]);
                gone.arg(field);
            }
        }
        if flags.contains(&1) {
            self.link.command(Access::Write, &adding).await.map_err(told)?;
            self.link.command(Access::Write, &gone).await.map_err(told)?;
        }
        Ok(flags)
    }
}

/// A member of `later` for a delivery; the same each time.
fn member(item: &Unqueued<'_>, value: Bytes) -> Bytes {
    // Ids are 16 hexadecimal digits: together with the serial a number that no other delivery has.
    let sequence = u64::from_str_radix(&item.held.replica, 16).unwrap_or_default().wrapping_add(item.held.serial);
    let frame = if item.held.is_frame { Frame::read(&value) } else { None };
    let frame = match (frame, item.began) {
        (Some(frame), began) => Frame { times: frame.times.saturating_add(u32::from(began)), ..frame },
        // What only looks like a frame is passed on as it is.
        (None, _) if item.held.is_frame => return Later::raw(item.due, sequence, item.to, &value),
        (None, true) => Frame { key: Some(super::take::own_key(item.held)), times: 1, body: value },
        // Parked: one delivery and no key tell it apart from what its sender delayed.
        (None, false) => Frame { key: None, times: 1, body: value },
    };
    Later::member(item.due, sequence, item.to, &frame)
}
