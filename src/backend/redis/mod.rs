//! The Redis backend: states under Machinery's keys and in its format, each with a key of ours behind its own.
//!
//! A state is one string under the id of its task, as Machinery writes it: `GetState` of a Go program reads ours, we read
//! its. Ours are compared before they are replaced; Machinery's workers overwrite whatever is there.
//! `{lineshaft}:ended` lists the ends that were stored here (`ended.rs`).

mod ended;
mod groups;
mod layout;
mod watch;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Pipeline, Value};

use super::{Ended, GroupMeta, StateWrite, Triggered, Watch, Written};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Failure, Link, Script};
use crate::task::{GroupId, MessageKey, Order, TaskId, TaskState};
use crate::wire::machinery;

use layout::{Item, NAME};
use watch::Watched;

/// What a script that stores states begins with: `body_after` of its text.
macro_rules! order {
    () => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/backend/redis/scripts/order.lua"))
    };
}
pub(crate) use order;

static WRITE: Script = Script::new(concat!(order!(), include_str!("scripts/write.lua")));
static RETRACT: Script = Script::new(include_str!("scripts/retract.lua"));

/// Most states in one script, and most of their bytes: a script stops the server for as long as it runs.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The Redis backend.
#[derive(Debug)]
pub struct Backend {
    link: Link,
    watched: Watched,
    list_bytes_max: u64,
}

impl Backend {
    /// The states in the Redis of `link`.
    pub fn new(link: Link) -> Self {
        Self { watched: Watched::new(link.clone()), link, list_bytes_max: ended::LIST_BYTES_MAX }
    }

    /// With another bound on what the list of ended tasks takes of Redis, bytes. Default: 64 MiB, some 700,000 tasks that ended
    /// one by one, or 1.5 million in batches.
    pub fn with_list_bytes_max(self, bytes: u64) -> Self {
        Self { list_bytes_max: bytes, ..self }
    }

    /// Stores states that begin a sending, where nothing is stored yet: which of them it did.
    async fn begin(&self, items: &[&Item]) -> Result<Vec<bool>, StoreError> {
        let mut pipeline = Pipeline::new();
        for item in items {
            pipeline.add_command(item.set_new());
        }
        let answers = self.link.pipeline(Access::Write, &pipeline).await.map_err(told)?;
        answers.into_iter().map(|answer| Ok(answer.map_err(told)? == Value::Okay)).collect()
    }

    /// Compares and stores.
    async fn compare(&self, items: &[&Item], now: WallTime) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
        let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
        let now = format!("{:020}", now.0);
        let answer = self
            .link
            .script(Access::Write, &WRITE, &keys, &args(items, &now, &ended::entry(items.iter().copied())))
            .await
            .map_err(told)?;
        written(answer, items)
    }

    /// Compares and stores in a cluster: a script for each task, and one round trip to each server.
    async fn compare_each(
        &self,
        items: &[&Item],
        now: WallTime,
    ) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
        let now = format!("{:020}", now.0);
        // The states of one task stay in order, in one script.
        let mut tasks: Vec<(Vec<&Item>, Vec<usize>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (i, item) in items.iter().enumerate() {
            let at = *places.entry(item.key.as_str()).or_insert_with(|| {
                tasks.push((Vec::new(), Vec::new()));
                tasks.len() - 1
            });
            tasks[at].0.push(*item);
            tasks[at].1.push(i);
        }
        // The list is in another slot.
        let elsewhere = [Vec::new(), Vec::new()];
        let mut calls = Vec::with_capacity(tasks.len());
        for (states, _) in &tasks {
            calls.push((states.iter().map(|item| item.key.as_bytes()).collect(), args(states, &now, &elsewhere)));
        }
        let told_each = self.link.scripts(Access::Write, &WRITE, &calls).await.map_err(told)?;
        let mut answers = vec![Err(layout::corrupt("a state was passed over".to_owned())); items.len()];
        for ((states, places), answer) in tasks.iter().zip(told_each) {
            match answer.map_err(told).and_then(|answer| written(answer, states)) {
                Ok(each) => places.iter().zip(each).for_each(|(place, result)| answers[*place] = result),
                Err(error) => places.iter().for_each(|place| answers[*place] = Err(error.clone())),
            }
        }
        let is_stored = |answer: &Result<Written, StoreError>| *answer == Ok(Written::Applied);
        self.list(items.iter().zip(&answers).filter(|(_, answer)| is_stored(answer)).map(|(item, _)| *item)).await;
        Ok(answers)
    }

    /// Runs what is written in pieces that no script takes too long for.
    async fn compare_all(
        &self,
        items: &[&Item],
        now: WallTime,
        answers: &mut [Option<Result<Written, StoreError>>],
        at: &[usize],
    ) {
        let mut from = 0;
        while from < items.len() {
            let mut to = from;
            let mut bytes = 0;
            while to < items.len() && to - from < BATCH_MAX && (to == from || bytes < BATCH_BYTES_MAX) {
                bytes += items[to].text.len();
                to += 1;
            }
            let some = &items[from..to];
            let results =
                if self.link.is_cluster() { self.compare_each(some, now).await } else { self.compare(some, now).await };
            let results = match results {
                Ok(results) => results,
                Err(error) => vec![Err(error); to - from],
            };
            for (place, result) in at[from..to].iter().zip(results) {
                answers[*place] = Some(result);
            }
            from = to;
        }
    }
}

/// What the script is told of some states, and what it lists of them.
fn args<'a>(items: &[&'a Item], now: &'a str, lists: &'a [Vec<u8>; 2]) -> Vec<&'a [u8]> {
    let before = std::iter::once(now.as_bytes()).chain(lists.iter().map(Vec::as_slice));
    before.chain(items.iter().flat_map(|item| item.args())).collect()
}

/// What the script answered for some states.
fn written(answer: Value, items: &[&Item]) -> Result<Vec<Result<Written, StoreError>>, StoreError> {
    let flags: Vec<i64> = redis::from_redis_value(answer).map_err(|error| layout::corrupt(error.to_string()))?;
    if flags.len() != items.len() {
        return Err(layout::corrupt("a script answered for another number of states".to_owned()));
    }
    let own = |(flag, item): (i64, &&Item)| match flag {
        1 => Ok(Written::Applied),
        0 => Ok(Written::Behind),
        _ => Err(layout::corrupt(format!("the key of task {:?} holds what is no state", item.key))),
    };
    Ok(flags.into_iter().zip(items).map(own).collect())
}

/// A state as a script stores it together with other things.
#[derive(Debug)]
pub(crate) struct Told(Item);

impl Told {
    /// As it is told at `now`.
    pub(crate) fn new(write: &StateWrite, now: WallTime) -> Self {
        Self(Item::new(write, now))
    }

    /// Its key.
    pub(crate) fn key(&self) -> &str {
        &self.0.key
    }

    /// It is the first of its sending: stored by a command of its own where nothing is.
    pub(crate) fn begins(&self) -> bool {
        self.0.begins
    }

    /// That command; [`Value::Okay`] if it stored.
    pub(crate) fn set_new(&self) -> redis::Cmd {
        self.0.set_new()
    }

    /// How long it is kept, ms, and what is stored.
    pub(crate) fn new_value(&self) -> [&[u8]; 2] {
        self.0.value()
    }

    /// What `body_after` reads.
    pub(crate) fn args(&self) -> [&[u8]; 3] {
        self.0.args()
    }
}

/// The two that list what of these states is an end, as `order.lua` is told.
pub(crate) fn listing<'a>(states: impl Iterator<Item = &'a Told>) -> [Vec<u8>; 2] {
    ended::entry(states.map(|told| &told.0))
}

fn told(failure: Failure) -> StoreError {
    failure.told_by(NAME)
}

#[async_trait]
impl super::Backend for Backend {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn write(&self, states: &[StateWrite], now: WallTime) -> Vec<Result<Written, StoreError>> {
        let items: Vec<Item> = states.iter().map(|write| Item::new(write, now)).collect();
        let mut answers: Vec<Option<Result<Written, StoreError>>> = vec![None; items.len()];
        let mut times: HashMap<&str, usize> = HashMap::new();
        items.iter().for_each(|item| *times.entry(item.key.as_str()).or_default() += 1);
        // What begins a sending has mostly nothing before it, and then costs no script.
        let fresh: Vec<usize> =
            (0..items.len()).filter(|i| items[*i].begins && times[items[*i].key.as_str()] == 1).collect();
        for places in fresh.chunks(BATCH_MAX) {
            let chosen: Vec<&Item> = places.iter().map(|i| &items[*i]).collect();
            match self.begin(&chosen).await {
                Ok(done) => {
                    for (place, _) in places.iter().zip(done).filter(|(_, done)| *done) {
                        answers[*place] = Some(Ok(Written::Applied));
                    }
                }
                Err(error) => places.iter().for_each(|place| answers[*place] = Some(Err(error.clone()))),
            }
        }
        let rest: Vec<usize> = (0..items.len()).filter(|i| answers[*i].is_none()).collect();
        let chosen: Vec<&Item> = rest.iter().map(|i| &items[*i]).collect();
        self.compare_all(&chosen, now, &mut answers, &rest).await;
        let missing = || Err(layout::corrupt("a state was passed over".to_owned()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    async fn read(&self, ids: &[TaskId], now: WallTime) -> Result<Vec<Option<TaskState>>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH_MAX) {
            let mut pipeline = Pipeline::new();
            for id in ids {
                pipeline.cmd("GET").arg(id.as_str());
            }
            for (id, answer) in ids.iter().zip(self.link.pipeline(Access::Read, &pipeline).await.map_err(told)?) {
                let state = match answer {
                    Ok(Value::BulkString(text)) => layout::read(&text, now)
                        .map_err(|why| layout::corrupt(format!("the state of task {:?}: {why}", id.as_str())))?,
                    Ok(_) => None,
                    // A list or a set under the name of a task is none of its states.
                    Err(failure) if failure.why.starts_with("WRONGTYPE") => None,
                    Err(failure) => return Err(told(failure)),
                };
                found.push(state);
            }
        }
        Ok(found)
    }

    async fn retract(&self, states: &[(TaskId, Order)]) -> Result<(), StoreError> {
        for states in states.chunks(BATCH_MAX) {
            let keys: Vec<&str> = states.iter().map(|(id, _)| id.as_str()).collect();
            let orders: Vec<String> = states.iter().map(|(_, order)| machinery::order_text(*order)).collect();
            if self.link.is_cluster() {
                let each = keys.iter().zip(&orders);
                let calls: Vec<_> = each.map(|(key, order)| (vec![key.as_bytes()], vec![order.as_bytes()])).collect();
                let answers = self.link.scripts(Access::Write, &RETRACT, &calls).await.map_err(told)?;
                answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(told))?;
                continue;
            }
            self.link.script(Access::Write, &RETRACT, &keys, &orders).await.map_err(told)?;
        }
        Ok(())
    }

    async fn put_group(&self, group: &GroupMeta, keep: Duration, _: WallTime) -> Result<(), StoreError> {
        self.put_record(group, keep).await
    }

    async fn groups(&self, ids: &[GroupId], _: WallTime) -> Result<Vec<Option<GroupMeta>>, StoreError> {
        self.records(ids).await
    }

    async fn trigger(
        &self,
        group: &GroupId,
        message: &MessageKey,
        keep: Duration,
        _: WallTime,
    ) -> Result<Triggered, StoreError> {
        self.set_flag(group, message, keep).await
    }

    async fn refresh(
        &self,
        group: &GroupId,
        tasks: &[TaskId],
        keep: Duration,
        now: WallTime,
    ) -> Result<(), StoreError> {
        self.keep_longer(group, tasks, keep, now).await
    }

    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        // States expire by themselves.
        self.sweep_list(now).await
    }

    fn ended(&self) -> Option<&dyn Ended> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(&self.watched)
    }
}
