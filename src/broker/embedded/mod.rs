//! The embedded broker: messages in the engine's file, their order in memory.
//!
//! A message is durable before it is visible, and gone durably before its place is forgotten. Taking and returning change
//! memory only: the process is what holds a delivery, and a new process finds everything waiting again, in its old order.

mod index;
mod key;
mod layout;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::{Clock, WallTime};
use crate::engine::{Direction, Engine, Records};
use crate::error::StoreError;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

use super::{
    Capabilities, Delivery, Depth, Find, Found, Holding, Inspect, NewTask, PendingPage, PendingQuery, Published,
    Recall, Receipt, Settle, StaleAck, Support, Waiting, Want,
};
use index::{Index, Outlook, Position, Rank};

pub(crate) use layout::{acknowledge_in, publish_in};

/// The longest delay: ten years of 365 days.
const DELAY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Whoever waits for a delayed message looks at the wall clock at least this often: a step forward of the clock is
/// noticed this late, and a wait costs this little.
const CLOCK_LOOK: Duration = Duration::from_secs(5);

/// The shortest such wait, so that a clock that lags behind the timer does not make it spin.
const CLOCK_LOOK_MIN: Duration = Duration::from_millis(1);

/// The embedded broker. Clones share it.
#[derive(Debug, Clone)]
pub struct Broker {
    engine: Engine,
    store: Arc<Store>,
    capabilities: Arc<Capabilities>,
}

/// What jobs on the committer need of it; not the engine, which must not be dropped there.
#[derive(Debug)]
pub(crate) struct Store {
    index: Index,
    clock: Arc<dyn Clock>,
    order: AtomicU64,
}

impl Store {
    fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }
}

impl Broker {
    /// Reads what waits in `engine`: time and memory are proportional to the number of messages, not to their bodies.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Corrupt`] if a message cannot be read.
    pub fn open(engine: Engine, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let now = clock.wall();
        let index = Index::new();
        let mut last = 0;
        let mut failure = None;
        engine.read(|records| {
            let all = (Bound::Unbounded, Bound::Unbounded);
            records.visit(
                layout::MESSAGES,
                all,
                Direction::Forward,
                &mut |key, value| match layout::arrival(key, value) {
                    Ok((order, arrival)) => {
                        last = last.max(order);
                        index.insert([arrival], now);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                },
            )
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let store = Arc::new(Store { index, clock, order: AtomicU64::new(last + 1) });
        Ok(Self { engine, store, capabilities: Arc::new(capabilities()) })
    }

    /// For steps over several rooms.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Reads the bodies of `items` from one snapshot; `None`: the message has gone since.
    fn bodies(&self, items: &[(MessageKey, Rank)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.engine.read(|records| {
            let read = |(key, rank): &(MessageKey, Rank)| match layout::body(records, key, Some(*rank)) {
                // One record that cannot be read must not stop its queue. It stays where it is, for someone to look at.
                Err(StoreError::Corrupt { why, .. }) => {
                    tracing::error!(%key, why, "a stored message cannot be read and is passed over");
                    Ok(None)
                }
                other => other,
            };
            items.iter().map(read).collect()
        })
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        name: "embedded",
        durability: "on the disk of this machine: synced before it is acknowledged",
        holding: Holding::Process,
        stale_ack: StaleAck::Rejected,
        delay: Support::Native(DELAY_MAX),
        priorities: Support::Native(256),
        by_name: true,
        exact_redelivery: false,
        carries_keys: true,
        recognises: true,
        keeps_place: true,
        routing_keys: false,
        shared: false,
        replicas: false,
        batch_max: NonZeroUsize::MIN.saturating_add(999),
        body_bytes_max: 16 << 20,
    }
}

#[async_trait]
impl super::Broker for Broker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        let store = Arc::clone(&self.store);
        let batch = tasks.to_vec();
        match self.engine.write(move |txn| layout::publish_in(txn, &store, &batch)).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); tasks.len()],
        }
    }

    async fn ready(&self, queue: &QueueName, names: &[TaskName]) -> Result<(), StoreError> {
        let waiter = self.store.index.waiter(queue, names);
        loop {
            let now = self.store.clock.wall();
            match waiter.outlook(now) {
                Outlook::Ready => return Ok(()),
                Outlook::Nothing => waiter.notify.notified().await,
                Outlook::Due(at) => {
                    let wait = now.until(at).clamp(CLOCK_LOOK_MIN, CLOCK_LOOK);
                    // Either way the outlook is asked again.
                    let _ = tokio::time::timeout(wait, waiter.notify.notified()).await;
                }
            }
        }
    }

    async fn take(&self, want: &Want<'_>) -> Result<Vec<Delivery>, StoreError> {
        let index = &self.store.index;
        let now = self.store.clock.wall();
        let taken = index.take(want.queue, want.names, want.max.get(), want.body_bytes_max, now);
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let items: Vec<_> = taken.iter().map(|taken| (taken.key.clone(), taken.rank)).collect();
        let bodies = match self.bodies(&items) {
            Ok(bodies) => bodies,
            Err(error) => {
                for taken in &taken {
                    index.put_back(&taken.receipt, false);
                }
                return Err(error);
            }
        };
        let delivery = |(taken, body): (index::Taken, Option<Bytes>)| {
            Some(Delivery { receipt: taken.receipt, key: Some(taken.key), body: body?, redelivered: taken.redelivered })
        };
        // A message that was removed between the index and the snapshot stays held until the removal's hook, which may
        // be under way, has seen it.
        Ok(taken.into_iter().zip(bodies).filter_map(delivery).collect())
    }

    async fn settle(&self, items: &[(Receipt, Settle)]) -> Vec<Result<(), StoreError>> {
        let now = self.store.clock.wall();
        let mut answers = vec![Ok(()); items.len()];
        let mut durable = Vec::new();
        let mut settled = HashSet::new();
        for (at, (receipt, settle)) in items.iter().enumerate() {
            let held = self.store.index.held(receipt);
            // A receipt is void after its first settling, also within one batch.
            let held = held.filter(|(_, rank)| !settled.contains(rank));
            let Some((key, rank)) = held else {
                answers[at] = Err(StoreError::Stale);
                continue;
            };
            settled.insert(rank);
            match settle {
                Settle::Return { after, .. } if after.is_zero() => {
                    if !self.store.index.put_back(receipt, true) {
                        answers[at] = Err(StoreError::Stale);
                    }
                }
                Settle::Return { after, .. } => {
                    durable.push((at, key, rank, Some((receipt.clone(), now.plus((*after).min(DELAY_MAX))))));
                }
                Settle::Ack => durable.push((at, key, rank, None)),
            }
        }
        if durable.is_empty() {
            return answers;
        }
        let positions: Vec<usize> = durable.iter().map(|(at, ..)| *at).collect();
        let store = Arc::clone(&self.store);
        let job = move |txn: &mut crate::engine::Txn<'_>| {
            let mut done = Vec::with_capacity(durable.len());
            for (_, key, rank, put_off) in durable {
                done.push(match put_off {
                    None => layout::remove_in(txn, &store, &key, Some(rank))?,
                    Some((receipt, until)) => {
                        let is_there = layout::put_off_in(txn, &key, rank, until)?;
                        if is_there {
                            let store = Arc::clone(&store);
                            txn.on_commit(move || {
                                store.index.put_off(&receipt, until);
                            });
                        }
                        is_there
                    }
                });
            }
            Ok(done)
        };
        let done = self.engine.write(job).await;
        for (n, at) in positions.into_iter().enumerate() {
            answers[at] = match &done {
                Ok(done) if done.get(n) == Some(&true) => Ok(()),
                Ok(_) => Err(StoreError::Stale),
                Err(error) => Err(error.clone()),
            };
        }
        answers
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn find(&self) -> Option<&dyn Find> {
        Some(self)
    }

    fn recall(&self) -> Option<&dyn Recall> {
        Some(self)
    }
}

#[async_trait]
impl Inspect for Broker {
    async fn pending(&self, query: &PendingQuery<'_>) -> Result<PendingPage, StoreError> {
        let after = query.after.map(|bytes| position(bytes).ok_or(StoreError::Position)).transpose()?;
        let now = self.store.clock.wall();
        let (max, body_bytes_max) = (query.max.get(), query.body_bytes_max);
        let (seen, more) = self.store.index.list(query.queue, after, query.delayed, max, body_bytes_max, now);
        let next = seen.last().filter(|_| more).map(|last| position_bytes(last.position));
        let items: Vec<_> = seen.iter().map(|seen| (seen.key.clone(), seen.rank)).collect();
        let bodies = self.bodies(&items)?;
        let waiting = |(seen, body): (index::Seen, Option<Bytes>)| {
            let available_at = match seen.position {
                Position::Ready(_) => None,
                Position::Delayed(at, _) => Some(at),
            };
            Some(Waiting { key: Some(seen.key), body: body?, available_at, place: None })
        };
        Ok(PendingPage { items: seen.into_iter().zip(bodies).filter_map(waiting).collect(), next })
    }

    async fn queues(&self, after: Option<&QueueName>, prefix: &str, max: usize) -> Result<Vec<QueueName>, StoreError> {
        Ok(self.store.index.queues(after, prefix, max))
    }

    async fn depths(&self, queues: &[QueueName]) -> Result<Vec<Depth>, StoreError> {
        let now = self.store.clock.wall();
        let counted: Vec<_> = queues.iter().map(|queue| self.store.index.depth(queue, now)).collect();
        let oldest: Vec<_> = counted.iter().filter_map(|counted| counted.oldest.clone()).collect();
        let mut bodies = self.bodies(&oldest)?.into_iter();
        let depth = |counted: index::Counted| Depth {
            waiting: counted.ready as u64,
            delayed: counted.delayed as u64,
            oldest: counted.oldest.and_then(|_| bodies.next().flatten()),
        };
        Ok(counted.into_iter().map(depth).collect())
    }
}

/// A position as callers see it: what kind, then its numbers, big endian.
fn position_bytes(position: Position) -> Vec<u8> {
    match position {
        Position::Ready(rank) => [&[0][..], &rank.0.to_be_bytes()].concat(),
        Position::Delayed(at, rank) => [&[1][..], &at.0.to_be_bytes(), &rank.0.to_be_bytes()].concat(),
    }
}

fn position(bytes: &[u8]) -> Option<Position> {
    let (kind, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let first = u64::from_be_bytes(*first);
    match (kind, <[u8; 8]>::try_from(rest)) {
        (0, Err(_)) if rest.is_empty() => Some(Position::Ready(Rank(first))),
        (1, Ok(second)) => Some(Position::Delayed(WallTime(first), Rank(u64::from_be_bytes(second)))),
        _ => None,
    }
}

#[async_trait]
impl Find for Broker {
    async fn find(&self, tasks: &[TaskId]) -> Result<Vec<Vec<Found>>, StoreError> {
        let keys: Vec<Vec<MessageKey>> = tasks.iter().map(|task| self.store.index.of_task(task)).collect();
        self.engine.read(|records| {
            let of = |(task, keys): (&TaskId, &Vec<MessageKey>)| {
                keys.iter().filter_map(|key| layout::found(records, key, task).transpose()).collect()
            };
            tasks.iter().zip(&keys).map(of).collect()
        })
    }
}

#[async_trait]
impl Recall for Broker {
    async fn recall(&self, keys: &[MessageKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.engine.read(|records| keys.iter().map(|key| layout::body(records, key, None)).collect())
    }

    async fn discard(&self, keys: &[MessageKey]) -> Result<(), StoreError> {
        let (keys, store) = (keys.to_vec(), Arc::clone(&self.store));
        let job = move |txn: &mut crate::engine::Txn<'_>| {
            keys.iter().try_for_each(|key| layout::acknowledge_in(txn, &store, key).map(drop))
        };
        self.engine.write(job).await
    }
}
