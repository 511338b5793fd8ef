//! Settling: acknowledged messages are deleted by one command, returned ones moved by a script.
//!
//! A settlement that did not reach Redis is owed: it is tried again until it does, so that nothing stays held for ever by a
//! replica that lives.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::frame::Later;
use super::holdings::Held;
use super::layout::{Keys, LATER, WAKE};
use super::queue::Queue;
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, NAME, read, told, unexpected};
use crate::broker::{Receipt, Settle};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Script};
use crate::task::QueueName;

static BACK: Script = Script::new(include_str!("scripts/back.lua"));

/// What a message is taken to have whose size is not known, bytes.
const UNKNOWN_BYTES: usize = 64 << 10;

/// How a delivery ends, in this room's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is gone.
    Gone,
    /// Back, not before `due` if there is one.
    Back {
        /// When.
        due: Option<WallTime>,
        /// An attempt may have begun.
        began: bool,
    },
}

impl End {
    fn of(how: Settle, now: WallTime) -> Self {
        match how {
            Settle::Ack => Self::Gone,
            Settle::Return { after, began } => {
                let due = Some(after).filter(|after| !after.is_zero()).map(|after: Duration| now.plus(after));
                Self::Back { due, began }
            }
        }
    }
}

/// Settlements that Redis did not confirm. As many as this replica holds, at most.
#[derive(Debug, Default)]
pub(super) struct Owed(Mutex<HashMap<Held, End>>);

/// Settlements under way: owed from the moment that nobody waits for them any more.
struct Unpaid<'a> {
    owed: &'a Owed,
    items: Vec<(Held, End)>,
}

impl Drop for Unpaid<'_> {
    fn drop(&mut self) {
        if !self.items.is_empty() {
            self.owed.0.lock().extend(self.items.drain(..));
        }
    }
}

type Answer = Result<(), StoreError>;

/// A delivery that comes back later.
#[derive(Debug)]
pub(super) struct Unqueued<'a> {
    /// Which.
    pub(super) held: &'a Held,
    /// When.
    pub(super) due: WallTime,
    /// An attempt may have begun.
    pub(super) began: bool,
    /// The list that it goes to then.
    pub(super) to: &'a str,
}

/// The list that a delivery comes back to: a body that nobody began goes where everybody takes, all else to our servers.
fn target<'a>(keys: &'a Keys, held: &Held, began: bool) -> &'a str {
    if began || held.is_frame { &keys.again } else { keys.queue.as_str() }
}

impl Inner {
    /// Settles, one answer each, in order.
    pub(super) async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Answer> {
        let (replica, now) = (self.holdings.replica(), self.clock.wall());
        let mut answers = vec![Err(StoreError::Stale); items.len()];
        let (mut places, mut ends) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for (i, (receipt, how)) in items.iter().enumerate() {
            // The second of one receipt is void, as the first has settled it.
            let held = Held::read(receipt, &replica).filter(|held| self.holdings.has(held));
            if let Some(held) = held.filter(|held| seen.insert(held.clone())) {
                places.push(i);
                ends.push((held, End::of(*how, now)));
            }
        }
        for (i, answer) in places.into_iter().zip(self.end(&ends).await) {
            answers[i] = answer;
        }
        answers
    }

    /// Ends deliveries; what Redis does not confirm is owed.
    pub(super) async fn end(&self, items: &[(Held, End)]) -> Vec<Answer> {
        let mut unpaid = Unpaid { owed: &self.owed, items: items.to_vec() };
        let mut answers = vec![Ok(()); items.len()];
        let mut queues: HashMap<&QueueName, (Vec<usize>, Vec<usize>)> = HashMap::new();
        for (i, (held, end)) in items.iter().enumerate() {
            let (gone, back) = queues.entry(&held.queue).or_default();
            if *end == End::Gone { gone.push(i) } else { back.push(i) }
        }
        let mut calls = Vec::new();
        let mut pipeline = redis::pipe();
        let mut deleted = Vec::new();
        for (name, (gone, mut back)) in queues {
            let queue = self.queue(name);
            for chunk in gone.chunks(BATCH_MAX) {
                let key = queue.keys.held(&items[chunk[0]].0.replica);
                let command = pipeline.cmd("HDEL").arg(key);
                command.arg(chunk.iter().map(|i| items[*i].0.field()).collect::<Vec<_>>());
                deleted.push(chunk.to_vec());
            }
            back.sort_by_key(|i| items[*i].0.serial);
            for chunk in self.pieces(items, &back) {
                let queue = Arc::clone(&queue);
                calls.push(async move {
                    let some: Vec<&(Held, End)> = chunk.iter().map(|i| &items[*i]).collect();
                    let told = self.give_back(&queue, &some).await;
                    chunk.into_iter().zip(told).collect::<Vec<_>>()
                });
            }
        }
        let ((), returned) = futures::join!(
            async {
                for (i, answer) in self.delete(&pipeline, &deleted).await {
                    answers[i] = answer;
                }
            },
            futures::future::join_all(calls)
        );
        for (i, answer) in returned.into_iter().flatten() {
            answers[i] = answer;
        }
        let over = |answer: &Answer| matches!(answer, Ok(()) | Err(StoreError::Stale));
        let ended = items.iter().zip(&answers).filter(|(_, answer)| over(answer)).map(|((held, _), _)| held);
        self.holdings.forget(ended);
        let mut owed = self.owed.0.lock();
        for ((held, _), answer) in items.iter().zip(&answers) {
            if over(answer) {
                owed.remove(held);
            }
        }
        drop(owed);
        let mut still = answers.iter().map(|answer| !over(answer));
        unpaid.items.retain(|_| still.next().unwrap_or_default());
        drop(unpaid);
        answers
    }

    /// Cuts what goes back, as a script reads each body.
    fn pieces(&self, items: &[(Held, End)], back: &[usize]) -> Vec<Vec<usize>> {
        let mut pieces: Vec<Vec<usize>> = Vec::new();
        let mut size = 0;
        for i in back {
            let own = self.holdings.size(&items[*i].0).unwrap_or(UNKNOWN_BYTES);
            match pieces.last_mut() {
                Some(piece) if piece.len() < BATCH_MAX && size + own <= BATCH_BYTES_MAX => piece.push(*i),
                _ => {
                    pieces.push(vec![*i]);
                    size = 0;
                }
            }
            size += own;
        }
        pieces
    }

    /// Ends once more what is owed; `true`: something still is.
    pub(super) async fn pay(&self) -> bool {
        let items: Vec<(Held, End)> = {
            let mut owed = self.owed.0.lock();
            owed.retain(|held, _| self.holdings.has(held));
            owed.iter().map(|(held, end)| (held.clone(), *end)).collect()
        };
        let mut is_left = false;
        for chunk in items.chunks(BATCH_MAX) {
            let answers = self.end(chunk).await;
            is_left |= answers.iter().any(|answer| !matches!(answer, Ok(()) | Err(StoreError::Stale)));
        }
        is_left
    }

    async fn delete(&self, pipeline: &redis::Pipeline, chunks: &[Vec<usize>]) -> Vec<(usize, Answer)> {
        if chunks.is_empty() {
            return Vec::new();
        }
        let answers = self.link.pipeline(Access::Write, pipeline).await;
        let mut told_of = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let answer = match &answers {
                Err(failure) => Err(told(failure.clone())),
                Ok(answers) => match answers.get(at) {
                    // Where some were gone it is not known which. All are told so: each is either done, or waits again
                    // with all that this replica held, and that a receipt is void harms nobody.
                    Some(Ok(redis::Value::Int(count))) if *count < chunk.len() as i64 => Err(StoreError::Stale),
                    Some(Err(failure)) => Err(told(failure.clone())),
                    _ => Ok(()),
                },
            };
            told_of.extend(chunk.iter().map(|i| (*i, answer.clone())));
        }
        told_of
    }

    /// Returns deliveries of one queue, given in the order of their serials.
    async fn give_back(&self, queue: &Queue, items: &[&(Held, End)]) -> Vec<Answer> {
        if !self.link.is_cluster() {
            return self.give_back_at_once(queue, items).await;
        }
        // No script reaches the set of what comes later as well.
        let is_later = |item: &&(Held, End)| matches!(item.1, End::Back { due: Some(_), .. });
        let (later, now): (Vec<_>, Vec<_>) = items.iter().copied().partition(is_later);
        let (postponed, returned) =
            futures::join!(self.postpone_all(queue, &later), self.give_back_at_once(queue, &now));
        let (mut postponed, mut returned) = (postponed.into_iter(), returned.into_iter());
        let missing = || Err(unexpected("what was returned"));
        let mut next = |item: &&(Held, End)| if is_later(item) { postponed.next() } else { returned.next() };
        items.iter().map(|item| next(item).unwrap_or_else(missing)).collect()
    }

    async fn postpone_all(&self, queue: &Queue, items: &[&(Held, End)]) -> Vec<Answer> {
        let Some((first, _)) = items.first() else { return Vec::new() };
        let unqueued = |item: &&'_ (Held, End)| match item {
            (held, End::Back { due: Some(due), began }) => Some((held.clone(), *due, *began)),
            _ => None,
        };
        let each: Vec<_> = items.iter().filter_map(unqueued).collect();
        let each: Vec<Unqueued<'_>> = each
            .iter()
            .map(|(held, due, began)| Unqueued {
                held,
                due: *due,
                began: *began,
                to: target(&queue.keys, held, *began),
            })
            .collect();
        let flags = self.postpone(&queue.keys.held(&first.replica), &each).await;
        self.delayed.notify_one();
        match flags {
            Ok(flags) => {
                flags.into_iter().map(|flag| if flag == 1 { Ok(()) } else { Err(StoreError::Stale) }).collect()
            }
            Err(error) => vec![Err(error); items.len()],
        }
    }

    /// The same where one script reaches all keys, or nothing comes later.
    async fn give_back_at_once(&self, queue: &Queue, items: &[&(Held, End)]) -> Vec<Answer> {
        let Some((first, _)) = items.first() else { return Vec::new() };
        let keys = &queue.keys;
        let held = keys.held(&first.replica);
        // A key that is not used is of the same slot too.
        let later = if self.link.is_cluster() { &keys.again } else { LATER };
        let names = [&held, keys.queue.as_str(), &keys.again, later];
        let mut args = vec![first.replica.to_string(), WAKE.to_owned()];
        let now = self.clock.wall();
        let (mut is_later, mut is_now) = (false, false);
        for (held, end) in items {
            let (how, due) = match end {
                End::Back { due: None, began: true } => ("a", None),
                End::Back { due: None, began: false } | End::Gone => ("h", None),
                End::Back { due: Some(due), began: true } => ("l", Some(*due)),
                End::Back { due: Some(due), began: false } => ("n", Some(*due)),
            };
            is_later |= due.is_some();
            is_now |= due.is_none();
            args.extend([held.field(), how.to_owned()]);
            match due {
                None => args.extend([String::new(), String::new()]),
                Some(due) => {
                    let to = target(keys, held, how == "l");
                    args.extend([due.0.to_string(), Later::prefix(due, self.sequence(now), to)]);
                }
            }
        }
        let flags = match self.link.script(Access::Write, &BACK, &names, &args).await.map_err(told) {
            Ok(value) => read::<Vec<u8>>(value, "what was returned"),
            Err(error) => Err(error),
        };
        if is_now {
            queue.tell();
        }
        if is_later {
            self.delayed.notify_one();
        }
        let answer = |flag: u8| match flag {
            1 => Ok(()),
            0 => Err(StoreError::Stale),
            _ => {
                let why = format!("a list of queue {:?} is a key of another kind", keys.queue.as_str());
                Err(StoreError::Corrupt { store: NAME, why })
            }
        };
        match flags {
            Ok(flags) => flags.into_iter().map(answer).collect(),
            Err(error) => vec![Err(error); items.len()],
        }
    }
}
