//! The Redis backend: states under Machinery's keys and in its format, each with a key of ours behind its own.
//!
//! A state is one string under the id of its task, as Machinery writes it: `GetState` of a Go program reads ours, we read
//! its. Ours are compared before they are replaced; Machinery's workers overwrite whatever is there.

mod layout;
mod watch;

use std::collections::HashMap;

use async_trait::async_trait;
use redis::{Pipeline, Value};

use super::{StateWrite, Watch, Written};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Failure, Link, Script};
use crate::task::{Order, TaskId, TaskState};
use crate::wire::machinery;

use layout::{Item, NAME};
use watch::Watched;

static WRITE: Script = Script::new(include_str!("scripts/write.lua"));
static RETRACT: Script = Script::new(include_str!("scripts/retract.lua"));

/// Most states in one script, and most of their bytes: a script stops the server for as long as it runs.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The Redis backend.
#[derive(Debug)]
pub struct Backend {
    link: Link,
    /// Not in a cluster, where a connection hears of one server's keys only.
    watched: Option<Watched>,
}

impl Backend {
    /// The states in the Redis of `link`.
    pub fn new(link: Link) -> Self {
        let watched = (!link.is_cluster()).then(|| Watched::new(link.clone()));
        Self { link, watched }
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
        let each = items.iter().flat_map(|item| item.args());
        let args: Vec<&[u8]> = std::iter::once(now.as_bytes()).chain(each).collect();
        let answer = self.link.script(Access::Write, &WRITE, &keys, &args).await.map_err(told)?;
        let flags: Vec<i64> = redis::from_redis_value(answer).map_err(|error| layout::corrupt(error.to_string()))?;
        if flags.len() != items.len() {
            return Err(layout::corrupt("a script answered for another number of states".to_owned()));
        }
        let own = |(flag, key): (i64, &str)| match flag {
            1 => Ok(Written::Applied),
            0 => Ok(Written::Behind),
            _ => Err(layout::corrupt(format!("the key of task {key:?} holds what is no state"))),
        };
        Ok(flags.into_iter().zip(keys).map(own).collect())
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
            // In a cluster the keys of one script must be of one server: each goes for itself.
            let most = if self.link.is_cluster() { 1 } else { BATCH_MAX };
            while to < items.len() && to - from < most && (to == from || bytes < BATCH_BYTES_MAX) {
                bytes += items[to].text.len();
                to += 1;
            }
            let results = match self.compare(&items[from..to], now).await {
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
        let most = if self.link.is_cluster() { 1 } else { BATCH_MAX };
        for states in states.chunks(most) {
            let keys: Vec<&str> = states.iter().map(|(id, _)| id.as_str()).collect();
            let orders: Vec<String> = states.iter().map(|(_, order)| machinery::order_text(*order)).collect();
            self.link.script(Access::Write, &RETRACT, &keys, &orders).await.map_err(told)?;
        }
        Ok(())
    }

    async fn sweep(&self, _: WallTime) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.watched.as_ref().map(|watched| watched as &dyn Watch)
    }
}
