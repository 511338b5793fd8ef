//! Tasks set aside: finding them, running them again, deleting them.
//!
//! A requeue is three steps: the generation of the new sending is recorded with the dead task; state and message of that
//! generation are written, under a key derived from the dead message; the dead task is forgotten. Every step may be
//! repeated, by whomever: the generation stays the first one's, so the state never goes backwards, and the key stays the
//! same, so the broker or the ledger's decision knows the message. The task runs at most once for each requeue, however
//! often that is asked for.

use super::outcome::message_of;
use super::{Service, envelope};
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::DeadTask;
use crate::ledger::claim::Sending;
use crate::task::{FailureReason, MessageKey, QueueName, Signature, TaskId, TaskName};

/// Bytes of bodies after which a page ends.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// Dead tasks read from the ledger at once: with the largest bodies, 32 MiB.
const READ_MAX: usize = 32;
/// Dead tasks looked at for one page. A filter that fits few must not make one call read them all.
const LOOKED_AT_MAX: usize = 10_000;
/// Bytes of bodies looked at for one page.
const LOOKED_AT_BYTES_MAX: usize = 64 << 20;
/// Position of the requeued message among those derived from the dead one: the retry has 0, callbacks count from 1.
const REQUEUED: u32 = u32::MAX;

/// Which dead tasks: those that fit every part that is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Of this queue.
    pub queue: Option<QueueName>,
    /// Of this name.
    pub name: Option<TaskName>,
    /// Of this id.
    pub task: Option<TaskId>,
    /// Set aside for this reason.
    pub kind: Option<FailureReason>,
    /// Set aside at this moment or later.
    pub since: Option<WallTime>,
    /// Set aside before this moment.
    pub before: Option<WallTime>,
}

impl Filter {
    fn fits(&self, dead: &DeadTask) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, actual: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == actual)
        }
        is(self.queue.as_ref(), &dead.queue)
            && is(self.name.as_ref(), &dead.name)
            && is(self.task.as_ref(), &dead.task)
            && is(self.kind.as_ref(), &dead.kind)
            && self.since.is_none_or(|since| dead.at >= since)
            && self.before.is_none_or(|before| dead.at < before)
    }
}

/// A dead task for people.
#[derive(Debug, Clone)]
pub struct View {
    /// As it was set aside.
    pub dead: DeadTask,
    /// The task, or why its body is none.
    pub task: Result<Signature, String>,
}

/// A page of dead tasks.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In order of their messages.
    pub items: Vec<View>,
    /// For the next page.
    pub next: Option<Vec<u8>>,
}

/// Dead tasks that something is to be done with.
#[derive(Debug, Clone)]
pub enum Target {
    /// These.
    Messages(Vec<MessageKey>),
    /// A page of those that fit.
    Filter {
        /// Which.
        filter: Filter,
        /// Opaque, from the answer before.
        after: Option<Vec<u8>>,
        /// At most this many.
        max: usize,
    },
}

/// What is to be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Sent again, each as a new message of the same task.
    Requeue {
        /// Retries of the new sending; `None`: what is left of the old one's.
        retry_count: Option<u32>,
    },
    /// Forgotten.
    Delete,
}

/// Whether it is done, or only told what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Done.
    Do,
    /// Nothing is changed.
    DryRun,
}

/// What became of a dead task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; in a dry run, it would be.
    Done,
    /// There is no such dead task: never was, or requeued or deleted before.
    Unknown,
    /// Its body is no task, so it cannot be requeued; it stays.
    NoTask,
}

/// What became of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The message.
    pub message: MessageKey,
    /// Its task, if it is known.
    pub task: Option<TaskId>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// One for each, in order.
    pub items: Vec<Changed>,
    /// To go on with the filter; `None`: all that fit were met.
    pub next: Option<Vec<u8>>,
}

impl Service {
    /// Dead tasks that fit, in order of their messages. A page may be short, or empty, and not the last.
    ///
    /// # Errors
    /// [`Error::Store`]; [`StoreError::Position`] if `after` is not from a page before.
    pub async fn dead(&self, filter: &Filter, after: Option<&[u8]>, max: usize) -> Result<Page, Error> {
        let after = after.map(position).transpose()?;
        let (found, next) = self.find_dead(filter, after, max).await?;
        let view = |dead: DeadTask| {
            let task = envelope::open(&dead.body).map(|opened| (*opened.signature).clone());
            View { dead, task }
        };
        let next = next.map(|message| message.as_str().as_bytes().to_vec());
        Ok(Page { items: found.into_iter().map(view).collect(), next })
    }

    /// Requeues or deletes dead tasks, or tells what that would do. Safe to repeat: what was done before is
    /// [`Outcome::Unknown`] then, and what an interrupted call left half done is finished.
    ///
    /// By filter, what was set aside after the first page is passed over, so that tasks which fail again at once do not
    /// come round for ever.
    ///
    /// # Errors
    /// [`Error::Draining`] (requeue); [`Error::Store`]: some may be done; [`StoreError::Position`].
    pub async fn change_dead(&self, target: Target, change: Change, mode: Mode) -> Result<Changes, Error> {
        if matches!(change, Change::Requeue { .. }) && self.inner.is_draining() {
            return Err(Error::Draining);
        }
        let (found, next) = match target {
            Target::Messages(messages) => {
                let found = self.inner.stores.ledger.dead_of(&messages).await?;
                (messages.into_iter().zip(found).collect::<Vec<_>>(), None)
            }
            Target::Filter { filter, after, max } => {
                let (began, after) = match &after {
                    None => (self.inner.clock.wall(), None),
                    Some(bytes) => {
                        let (began, message) = bytes.split_first_chunk::<8>().ok_or(StoreError::Position)?;
                        (WallTime(u64::from_be_bytes(*began)), Some(position(message)?))
                    }
                };
                // The moment itself belongs to the run: a clock may stand still.
                let end = WallTime(began.0.saturating_add(1));
                let filter = Filter { before: Some(filter.before.map_or(end, |before| before.min(end))), ..filter };
                let (found, next) = self.find_dead(&filter, after, max).await?;
                let next = next.map(|message| [&began.0.to_be_bytes(), message.as_str().as_bytes()].concat());
                (found.into_iter().map(|dead| (dead.message.clone(), Some(dead))).collect(), next)
            }
        };
        let items = match change {
            Change::Requeue { retry_count } => self.requeue(found, retry_count, mode).await?,
            Change::Delete => self.delete(found, mode).await?,
        };
        Ok(Changes { items, next })
    }

    async fn delete(&self, found: Vec<(MessageKey, Option<DeadTask>)>, mode: Mode) -> Result<Vec<Changed>, Error> {
        let was_there = match mode {
            Mode::DryRun => found.iter().map(|(_, dead)| dead.is_some()).collect(),
            Mode::Do => {
                let messages: Vec<MessageKey> = found.iter().map(|(message, _)| message.clone()).collect();
                self.inner.stores.ledger.forget_dead(&messages).await?
            }
        };
        let changed = |((message, dead), was_there): ((MessageKey, Option<DeadTask>), bool)| Changed {
            message,
            task: dead.map(|dead| dead.task),
            outcome: if was_there { Outcome::Done } else { Outcome::Unknown },
        };
        Ok(found.into_iter().zip(was_there).map(changed).collect())
    }

    async fn requeue(
        &self,
        found: Vec<(MessageKey, Option<DeadTask>)>,
        retry_count: Option<u32>,
        mode: Mode,
    ) -> Result<Vec<Changed>, Error> {
        let now = self.inner.clock.wall();
        let ids: Vec<TaskId> = found.iter().filter_map(|(_, dead)| dead.as_ref().map(|d| d.task.clone())).collect();
        let mut earlier = self.earlier(&ids, now).await?;
        let mut changed = Vec::with_capacity(found.len());
        let mut begin = Vec::new();
        let mut positions = Vec::new();
        for (message, dead) in found {
            let outcome = match dead.as_ref().map(|dead| envelope::open(&dead.body)) {
                None => Outcome::Unknown,
                Some(Err(_)) => Outcome::NoTask,
                Some(Ok(opened)) => {
                    positions.push(changed.len());
                    // Greater than the old sending's, even if the clock was stepped back since.
                    let least = envelope::generation(&opened.signature).saturating_add(1);
                    let next = self.next_generation(now).max(least);
                    let task = dead.as_ref().map(|dead| &dead.task);
                    begin.push((message.clone(), task.map_or(next, |task| earlier.following(task, next))));
                    Outcome::Done
                }
            };
            changed.push(Changed { message, task: dead.map(|dead| dead.task), outcome });
        }
        if mode == Mode::DryRun || begin.is_empty() {
            return Ok(changed);
        }
        let mut sends: Vec<Sending> = Vec::with_capacity(begin.len());
        let mut forget = Vec::with_capacity(begin.len());
        for (at, dead) in positions.into_iter().zip(self.inner.stores.ledger.begin_requeue(&begin).await?) {
            let signature = dead.as_ref().and_then(|dead| envelope::open(&dead.body).ok());
            match (dead, signature) {
                (Some(dead), Some(opened)) => {
                    sends.push(self.sent_again(&dead, &opened.signature, retry_count, now));
                    forget.push(dead.message);
                }
                // Requeued or deleted by somebody else since it was found.
                _ => changed[at].outcome = Outcome::Unknown,
            }
        }
        self.inner.failpoints.reach(Point::RequeueBegun).await;
        let mut done = Vec::with_capacity(forget.len());
        let (mut failure, mut failed) = (None, Vec::new());
        let batch_max = self.inner.guarantees.broker.batch_max.get();
        for (items, messages) in sends.chunks(batch_max).zip(forget.chunks(batch_max)) {
            let answers = self.write_new(items, &earlier, now).await;
            for ((answer, message), sending) in answers.into_iter().zip(messages).zip(items) {
                match answer {
                    Ok(()) => done.push(message.clone()),
                    Err(error) => {
                        if !matches!(error, StoreError::OutcomeUnknown { .. }) {
                            failed.push(sending.message.task.clone());
                        }
                        failure = Some(error);
                    }
                }
            }
        }
        self.put_back(earlier, &failed, now).await;
        self.inner.failpoints.reach(Point::RequeuePublished).await;
        if !done.is_empty() {
            self.inner.stores.ledger.forget_dead(&done).await?;
            tracing::info!(tasks = done.len(), "dead tasks were requeued");
        }
        // What failed stays dead, and is begun again under its generation.
        failure.map_or(Ok(changed), |error| Err(error.into()))
    }

    /// State and message of a dead task's next sending.
    fn sent_again(&self, dead: &DeadTask, signature: &Signature, retry_count: Option<u32>, now: WallTime) -> Sending {
        let mut next = signature.clone();
        next.eta = None;
        // Its time is over, or soon will be; whoever wants it again wants it to run.
        next.headers.as_mut().map(envelope::end_lifetime);
        if let Some(count) = retry_count {
            next.retry_count = i64::from(count);
            // The delays between attempts begin anew, too.
            next.retry_timeout = 0;
        }
        let generation = dead.requeue.unwrap_or(now.0);
        let key = dead.message.derive(REQUEUED);
        let mut sending = message_of(next, key, now, generation, &self.inner.settings());
        sending.message.queue = dead.queue.clone();
        sending
    }

    /// A page of dead tasks that fit, and behind which message to go on; `None`: there are no more.
    async fn find_dead(
        &self,
        filter: &Filter,
        mut after: Option<MessageKey>,
        max: usize,
    ) -> Result<(Vec<DeadTask>, Option<MessageKey>), Error> {
        let (mut found, mut found_bytes) = (Vec::new(), 0);
        let (mut looked_at, mut looked_at_bytes) = (0, 0);
        loop {
            let chunk = self.inner.stores.ledger.dead(after.as_ref(), READ_MAX).await?;
            let is_last = chunk.len() < READ_MAX;
            for dead in chunk {
                after = Some(dead.message.clone());
                looked_at += 1;
                looked_at_bytes += dead.body.len();
                if filter.fits(&dead) {
                    found_bytes += dead.body.len();
                    found.push(dead);
                    if found.len() >= max || found_bytes >= PAGE_BYTES_MAX {
                        return Ok((found, after));
                    }
                }
            }
            if is_last {
                return Ok((found, None));
            }
            if looked_at >= LOOKED_AT_MAX || looked_at_bytes >= LOOKED_AT_BYTES_MAX {
                return Ok((found, after));
            }
        }
    }
}

fn position(bytes: &[u8]) -> Result<MessageKey, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| StoreError::Position)?;
    MessageKey::new(text).map_err(|_| StoreError::Position)
}
