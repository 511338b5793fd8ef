//! Accepting tasks: checked whole, written in the order that loses nothing, answered once durable.
//!
//! State PENDING first, then the message: a reader never finds a task that runs and has no state, and a fast worker's
//! SUCCESS is never overwritten by a late PENDING.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::earlier::Earlier;
use super::outcome::message_of;
use super::traffic::{self, Tally};
use super::types::{Sent, Submission};
use super::{Service, claims, envelope, trail};
use crate::backend::StateWrite;
use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::Lifetime;
use crate::ledger::claim::Sending;
use crate::task::{Body, MessageKey, QueueName, Signature, TaskId, TaskName, Timestamp};

/// When a caller turned away by a full buffer may try again.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// Sends under way: a count and not a semaphore, since its limit may change while they are.
#[derive(Debug, Default)]
pub(super) struct UnderWay(AtomicUsize);

/// Some of them, until it is dropped.
pub(super) struct Counted<'a> {
    all: &'a UnderWay,
    count: usize,
}

impl UnderWay {
    /// `None`: there would be more than `max`.
    fn begin(&self, count: usize, max: usize) -> Option<Counted<'_>> {
        let more = |now: usize| now.checked_add(count).filter(|sum| *sum <= max);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Counted { all: self, count })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.count, Ordering::AcqRel);
    }
}

/// True if nothing was sent.
fn is_definite(answer: &Result<Sent, Error>) -> bool {
    matches!(answer, Err(Error::Store(error)) if !matches!(error, StoreError::OutcomeUnknown { .. }))
}

impl Service {
    /// Accepts tasks as [`Service::submit`]; of each its id alone.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub async fn send(&self, tasks: Vec<Submission>) -> Vec<Result<TaskId, Error>> {
        self.submit(tasks).await.into_iter().map(|answer| answer.map(|sent| sent.task)).collect()
    }

    /// Accepts tasks, one answer each, in order. `Ok` only once the task is durable, or was before.
    ///
    /// # Errors
    /// Per item: [`Error::Invalid`], [`Error::LimitExceeded`], [`Error::RequestIdReused`] (paths begin at the task's own
    /// fields); [`Error::QueueFull`], [`Error::Draining`], [`Error::Unconfirmed`], [`Error::Store`].
    pub async fn submit(&self, tasks: Vec<Submission>) -> Vec<Result<Sent, Error>> {
        if self.inner.is_draining() {
            return tasks.iter().map(|_| Err(Error::Draining)).collect();
        }
        let max = self.inner.settings().sends_in_flight_max;
        let _sending = match self.begin_sends(tasks.len(), max) {
            Ok(sending) => sending,
            Err(error) => return tasks.iter().map(|_| Err(error.clone())).collect(),
        };
        let now = self.inner.clock.wall();
        let ids: Vec<TaskId> = tasks.iter().filter_map(|task| task.id.clone()).collect();
        let mut earlier = match self.earlier(&ids, now).await {
            Ok(earlier) => earlier,
            Err(error) => return tasks.iter().map(|_| Err(error.clone().into())).collect(),
        };
        // Those with a name and those without go each their way: a client names all of its sends, or none.
        let (mut plain, mut named, mut ids_of_named) = (Vec::new(), Vec::new(), Vec::new());
        let prepared: Vec<Result<bool, Error>> = tasks
            .into_iter()
            .map(|task| {
                let name = claims::name_of(&task);
                let sending = self.prepare(task, now, &mut earlier)?;
                let is_named = name.is_some();
                match name {
                    Some(name) => {
                        ids_of_named.push(sending.message.task.clone());
                        named.push(self.claim_of(name, sending, now));
                    }
                    None => plain.push(sending),
                }
                Ok(is_named)
            })
            .collect();
        self.inner.failpoints.reach(Point::SendChecked).await;
        let batch_max = self.inner.guarantees.broker.batch_max.get();
        let mut of_plain = Vec::with_capacity(plain.len());
        for chunk in plain.chunks(batch_max) {
            let written = self.write_new(chunk, &earlier, now).await.into_iter().zip(chunk);
            let sent = |message: &NewTask| Sent { task: message.task.clone(), already: false };
            of_plain.extend(written.map(|(answer, s)| answer.map(|()| sent(&s.message)).map_err(Error::from)));
        }
        let mut of_named = Vec::with_capacity(named.len());
        while !named.is_empty() {
            let rest = named.split_off(named.len().min(batch_max));
            of_named.extend(self.send_named(std::mem::replace(&mut named, rest), now).await);
        }
        self.inner.failpoints.reach(Point::SendPublished).await;
        let ids = plain.iter().map(|sending| &sending.message.task).chain(&ids_of_named);
        let failed = ids.zip(of_plain.iter().chain(&of_named)).filter(|(_, answer)| is_definite(answer));
        let failed: Vec<TaskId> = failed.map(|(id, _)| id.clone()).collect();
        self.put_back(earlier, &failed, now).await;
        let (mut of_plain, mut of_named) = (of_plain.into_iter(), of_named.into_iter());
        let missing = || Err(Error::Invariant("a store answered for fewer items than it was given".into()));
        prepared
            .into_iter()
            .map(|item| if item? { of_named.next() } else { of_plain.next() }.unwrap_or_else(missing))
            .collect()
    }

    /// Writes PENDING and publishes, one answer each, in order. Safe to repeat with the same items.
    pub(super) async fn write_new(
        &self,
        items: &[Sending],
        earlier: &Earlier,
        now: WallTime,
    ) -> Vec<Result<(), StoreError>> {
        // On a shared broker a state that is to be compared comes behind its message, which another program may have run by
        // then: the end that it wrote would be taken for one of an earlier sending. So these states come first.
        let is_shared = self.inner.guarantees.broker.shared;
        let is_apart = is_shared && items.iter().any(|sending| earlier.has(&sending.message.task));
        let answers = match &self.inner.stores.fused {
            Some(fused) if !is_apart => fused.send(items, now).await,
            _ => {
                let (answers, unsent) = self.write_steps(items, now).await;
                self.retract(unsent.into_iter().map(|i| &items[i])).await;
                answers
            }
        };
        let written = items.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        self.note_sent(written.map(|(sending, _)| &sending.message));
        answers
    }

    /// Counts and tells what was sent.
    pub(super) fn note_sent<'a>(&self, tasks: impl Iterator<Item = &'a NewTask>) {
        let mut tally = Tally::default();
        let settings = self.inner.settings();
        for task in tasks {
            tally.add(&task.queue, traffic::Event::Sent);
            trail::sent(task, &settings.spans, self.inner.clock.wall());
        }
        self.inner.traffic.add(tally, self.inner.clock.now());
    }

    /// Counts one event in each of these queues.
    pub(super) fn count_each<'a>(&self, queues: impl Iterator<Item = &'a QueueName>, event: traffic::Event) {
        let mut tally = Tally::default();
        queues.for_each(|queue| tally.add(queue, event));
        self.inner.traffic.add(tally, self.inner.clock.now());
    }

    /// Writes lifetimes and PENDING, and publishes, step by step; answers too whose state was written while the message was
    /// definitely not.
    pub(super) async fn write_steps(
        &self,
        items: &[Sending],
        now: WallTime,
    ) -> (Vec<Result<(), StoreError>>, Vec<usize>) {
        let stores = &self.inner.stores;
        let lifetimes: Vec<Lifetime> = items.iter().filter_map(Sending::lifetime).collect();
        // First of all: what is published without one would never be ended by its time.
        if !lifetimes.is_empty() {
            if let Err(error) = stores.ledger.lifetimes().limit(&lifetimes).await {
                return (items.iter().map(|_| Err(error.clone())).collect(), Vec::new());
            }
            self.inner.failpoints.reach(Point::SendLimited).await;
        }
        let states: Vec<StateWrite> = items.iter().map(|sending| sending.state.clone()).collect();
        let mut answers: Vec<Result<(), StoreError>> =
            stores.backend.write(&states, now).await.into_iter().map(|r| r.map(|_| ())).collect();
        self.inner.failpoints.reach(Point::SendStated).await;
        let stated: Vec<usize> = (0..items.len()).filter(|i| answers[*i].is_ok()).collect();
        let tasks: Vec<NewTask> = stated.iter().map(|i| items[*i].message.clone()).collect();
        let mut unsent = Vec::new();
        for (i, published) in stated.iter().zip(stores.broker.publish(&tasks).await) {
            if let Err(error) = published {
                // Only a definite failure takes PENDING back; what may have been sent keeps its state.
                if !matches!(error, StoreError::OutcomeUnknown { .. }) {
                    unsent.push(*i);
                }
                answers[*i] = Err(error);
            }
        }
        (answers, unsent)
    }

    /// Takes PENDING and the lifetimes of tasks back that were definitely not sent.
    pub(super) async fn retract(&self, unsent: impl Iterator<Item = &Sending>) {
        let of = |sending: &Sending| {
            let state = &sending.state.state;
            ((state.task_id.clone(), state.order()), sending.lifetime())
        };
        let (retract, lifetimes): (Vec<_>, Vec<_>) = unsent.map(of).unzip();
        if !retract.is_empty()
            && let Err(error) = self.inner.stores.backend.retract(&retract).await
        {
            tracing::warn!(%error, tasks = retract.len(), "states of tasks that were not sent stay PENDING");
        }
        let lifetimes: Vec<Lifetime> = lifetimes.into_iter().flatten().collect();
        if !lifetimes.is_empty()
            && let Err(error) = self.inner.stores.ledger.lifetimes().forget(&lifetimes).await
        {
            tracing::warn!(%error, tasks = lifetimes.len(), "lifetimes of tasks that were not sent are dropped later");
        }
    }

    /// Counts sends that begin, until what is answered is dropped.
    pub(super) fn begin_sends(&self, count: usize, max: usize) -> Result<Counted<'_>, Error> {
        let full = Error::QueueFull { what: "the list of sends under way", retry_after: FULL_RETRY };
        self.inner.sends.begin(count, max).ok_or(full)
    }

    fn prepare(&self, task: Submission, now: WallTime, earlier: &mut Earlier) -> Result<Sending, Error> {
        let signature = self.checked(task, now)?;
        let generation = earlier.following(&TaskId::trusted(signature.uuid.as_str()), self.next_generation(now));
        let sending = message_of(signature, MessageKey::generate(), now, generation, &self.inner.settings());
        self.sized(&sending, "args")?;
        Ok(sending)
    }

    /// The task, with everything checked that is known before it is encoded.
    pub(super) fn checked(&self, task: Submission, now: WallTime) -> Result<Signature, Error> {
        let broker = &self.inner.guarantees.broker;
        let settings = &self.inner.settings();
        let priority = task.priority;
        if u16::from(priority) >= broker.priorities.limit().unwrap_or(1) && priority > 0 {
            return Err(Error::LimitExceeded {
                field: "priority".into(),
                limit: u64::from(broker.priorities.limit().unwrap_or(1) - 1),
                actual: u64::from(priority),
                unit: "",
            });
        }
        let signature = self.signature(task, now, 0)?;
        if let Some(eta) = signature.eta {
            let max = broker.delay.limit().unwrap_or_default().min(settings.delay_max);
            let delay = now.until(eta.to_wall());
            if delay > max {
                let (limit, actual) = (max.as_secs(), delay.as_secs());
                return Err(Error::LimitExceeded { field: "eta".into(), limit, actual, unit: "seconds" });
            }
        }
        Ok(signature)
    }

    /// Refuses what is too large as it is encoded.
    pub(super) fn sized(&self, sending: &Sending, field: &str) -> Result<(), Error> {
        let limit = self.inner.settings().task_bytes_max.min(self.inner.guarantees.broker.body_bytes_max);
        if sending.message.body.len() > limit {
            let (limit, actual) = (limit as u64, sending.message.body.len() as u64);
            return Err(Error::LimitExceeded { field: field.into(), limit, actual, unit: "bytes as encoded" });
        }
        Ok(())
    }

    /// Unix ns, and greater than any given before by this replica: two sends of one id are told apart by it.
    pub(super) fn next_generation(&self, now: WallTime) -> u64 {
        let last = self.inner.generation.fetch_max(now.0, Ordering::Relaxed);
        if last < now.0 { now.0 } else { self.inner.generation.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    fn signature(&self, task: Submission, now: WallTime, depth: u32) -> Result<Signature, Error> {
        let settings = &self.inner.settings();
        if depth > settings.callback_depth_max {
            return Err(Error::LimitExceeded {
                field: "on_success".into(),
                limit: u64::from(settings.callback_depth_max),
                actual: u64::from(depth),
                unit: "levels",
            });
        }
        TaskName::new(&task.name).map_err(|e| Error::invalid("name", e))?;
        if let Some(header) = task.headers.keys().find(|k| k.starts_with(envelope::OURS)) {
            return Err(Error::invalid(format!("headers[{header:?}]"), "keys with this prefix are the server's own"));
        }
        let queue = task.queue.unwrap_or_else(|| settings.default_queue.clone());
        if !task.routing_key.is_empty()
            && task.routing_key != queue.as_str()
            && !self.inner.guarantees.broker.routing_keys
        {
            let why = format!("the {} broker has no routing keys; leave it unset", self.inner.guarantees.broker.name);
            return Err(Error::invalid("routing_key", why));
        }
        let callbacks = |tasks: Vec<Submission>, field: &str| -> Result<Option<Vec<Body>>, Error> {
            if tasks.is_empty() {
                return Ok(None);
            }
            let bodies = tasks.into_iter().enumerate().map(|(i, callback)| {
                let signature =
                    self.signature(callback, now, depth + 1).map_err(|e| e.within(&format!("{field}[{i}]")))?;
                Ok(Body(envelope::seal(&signature)))
            });
            bodies.collect::<Result<Vec<Body>, Error>>().map(Some)
        };
        let on_success = callbacks(task.on_success, "on_success")?;
        let on_error = callbacks(task.on_error, "on_error")?;
        let eta = match (task.eta, task.delay) {
            (Some(eta), _) => Some(eta),
            (None, Some(delay)) if !delay.is_zero() => Some(Timestamp::from_wall(now.plus(delay))),
            _ => None,
        };
        let mut headers = task.headers;
        if let Some(timeout) = task.attempt_timeout {
            envelope::limit_attempts(&mut headers, timeout);
        }
        if let Some(span) = task.expires_in {
            envelope::expire_in(&mut headers, span);
        }
        if let Some(retention) = task.result_retention {
            envelope::retain_result(&mut headers, retention);
        }
        Ok(Signature {
            uuid: task.id.unwrap_or_else(TaskId::generate).as_str().to_owned(),
            name: task.name,
            routing_key: queue.as_str().to_owned(),
            eta,
            args: Some(task.args),
            headers: Some(headers),
            priority: task.priority,
            immutable: task.immutable,
            retry_count: i64::from(task.retry_count),
            retry_timeout: i64::try_from(task.retry_timeout).unwrap_or(i64::MAX),
            on_success,
            on_error,
            ..Signature::default()
        })
    }
}
