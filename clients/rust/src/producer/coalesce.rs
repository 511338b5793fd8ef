//! Concurrent sends travel as one call while an earlier one is under way.
//!
//! Nobody lingers: a send that finds none under way goes at once, alone, as `SendTask`; those that come meanwhile go
//! together in the next `SendTasks`. So a single caller pays one round trip, and a thousand share one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use super::client::tasks_of;
use super::task::from_proto;
use crate::connection::Channels;
use crate::error::Error;
use crate::jitter::Backoff;
use crate::proto::{self, ErrorReason, send_result};

/// Items in one call until a server has told its limit: the default `Limits.batch_max` of a server.
const BATCH_MAX: usize = 1000;
/// How long a server remembers a request id until it has told: the default `Limits.request_window` of a server, 1 h.
const REQUEST_WINDOW_MS: u64 = 3_600_000;
/// Bytes in one call, a task larger than this alone excepted: a quarter of the default `Limits.message_bytes_max`, which
/// a batch reaches only by tasks of many kilobytes, where larger batches gain nothing.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The unit in which waiting tasks are bounded.
const ROOM_UNIT_BYTES: usize = 1 << 10;
/// 256 GiB: more than any memory, and less than a semaphore's permits on every machine.
const ROOM_UNITS_MAX: u32 = 1 << 28;

type Answer = Result<String, Error>;

#[derive(Debug)]
pub(super) struct Coalescer {
    shared: Arc<Shared>,
}

/// As in `ClientBuilder`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) waiting_bytes_max: usize,
    pub(super) call_timeout: Duration,
    pub(super) retry_for: Duration,
}

#[derive(Debug)]
struct Shared {
    channels: Arc<Channels>,
    bounds: Bounds,
    batch_max: AtomicUsize,
    request_window_ms: AtomicU64,
    room: Arc<Semaphore>,
    room_units: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    is_under_way: bool,
}

#[derive(Debug)]
struct Item {
    task: proto::Task,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
    // Given back when the item is answered or dropped.
    _room: OwnedSemaphorePermit,
}

impl Coalescer {
    pub(super) fn new(channels: Arc<Channels>, bounds: Bounds) -> Self {
        let room_units = bounds.waiting_bytes_max / ROOM_UNIT_BYTES;
        let room_units = u32::try_from(room_units).unwrap_or(ROOM_UNITS_MAX).clamp(1, ROOM_UNITS_MAX);
        Self {
            shared: Arc::new(Shared {
                channels,
                bounds,
                batch_max: AtomicUsize::new(BATCH_MAX),
                request_window_ms: AtomicU64::new(REQUEST_WINDOW_MS),
                room: Arc::new(Semaphore::new(room_units as usize)),
                room_units,
                waiting: Mutex::new(Waiting::default()),
            }),
        }
    }

    /// Keeps to what a server has told of its limits.
    pub(super) fn learn(&self, limits: &proto::Limits) {
        if let Some(window) = from_proto(limits.request_window) {
            let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
            self.shared.request_window_ms.store(window, Ordering::Relaxed);
        }
        if limits.batch_max > 0 {
            self.shared.batch_max.store(limits.batch_max as usize, Ordering::Relaxed);
        }
    }

    /// Sends one task; the id it has.
    pub(super) async fn send(&self, task: proto::Task) -> Answer {
        self.enqueue(task).await?.await.unwrap_or(Err(Error::Closed))
    }

    /// Sends several; the answers are in their order.
    pub(super) async fn send_all(&self, tasks: Vec<proto::Task>) -> Vec<Answer> {
        let mut receivers = Vec::with_capacity(tasks.len());
        for task in tasks {
            receivers.push(self.enqueue(task).await);
        }
        let mut answers = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            answers.push(match receiver {
                Ok(receiver) => receiver.await.unwrap_or(Err(Error::Closed)),
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// A send that is a call of its own, under its own request id, repeated as those of tasks are.
    pub(super) async fn repeat<T, Call, Told>(&self, once: Call) -> Result<T, Error>
    where
        Call: Fn(Channel) -> Told,
        Told: Future<Output = Result<T, tonic::Status>>,
    {
        self.shared.repeat(once).await
    }

    async fn enqueue(&self, task: proto::Task) -> Result<oneshot::Receiver<Answer>, Error> {
        let bytes = task.encoded_len();
        // A task larger than all the room waits until it is alone.
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.shared.room_units);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(units).await.map_err(|_closed| Error::Closed)?;
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.shared.waiting.lock();
        waiting.items.push_back(Item { task, bytes, answer, _room: room });
        if !waiting.is_under_way {
            waiting.is_under_way = true;
            tokio::spawn(UnderWay { shared: Arc::clone(&self.shared), is_done: false }.run());
        }
        Ok(receiver)
    }
}

impl Shared {
    /// One call, repeated: at once on each other address while it is certain that nothing was written, then for as long as
    /// the client is told to, also where that is not known, since every send has its request id.
    async fn repeat<T, Call, Told>(&self, once: Call) -> Result<T, Error>
    where
        Call: Fn(Channel) -> Told,
        Told: Future<Output = Result<T, tonic::Status>>,
    {
        let channels = &self.channels;
        let since = Instant::now();
        let mut backoff = Backoff::random();
        let mut untried = channels.len();
        // The first of them: it stays unknown whether that was done, however the others end.
        let mut unconfirmed = None;
        loop {
            let (index, channel) = channels.current();
            let error = match once(channel).await {
                Ok(answer) => return Ok(answer),
                Err(status) => Error::from(status),
            };
            if error.is_of_this_server() {
                channels.pass_over(index);
            }
            untried = untried.saturating_sub(1);
            if !error.is_retryable() && !error.is_unconfirmed() {
                return Err(error);
            }
            if untried > 0 && error.is_of_this_server() && error.is_retryable() {
                continue;
            }
            let pause = error.retry_delay().unwrap_or_default().max(backoff.next());
            if error.is_unconfirmed() {
                unconfirmed.get_or_insert_with(|| error.clone());
            }
            let mut latest = self.bounds.retry_for;
            if unconfirmed.is_some() {
                // The server forgets a request id after its window, and a call may be under way for as long as it may take.
                let window = Duration::from_millis(self.request_window_ms.load(Ordering::Relaxed));
                latest = latest.min(window.saturating_sub(self.bounds.call_timeout));
            }
            if since.elapsed() + pause > latest {
                return Err(unconfirmed.unwrap_or(error));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// The one task that sends. Dropped early (its runtime ends), it lets the next send start another.
struct UnderWay {
    shared: Arc<Shared>,
    // From then on another may be under way, whose items are none of ours.
    is_done: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut waiting = self.shared.waiting.lock();
        waiting.is_under_way = false;
        // Nobody would send what still waits: dropping it answers `Closed`.
        waiting.items.clear();
    }
}

impl UnderWay {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.send_batch(batch).await;
            // Whoever was answered runs before the next call is made up, and may send again: the next sends of a few busy
            // callers travel together, instead of in two halves that take turns.
            tokio::task::yield_now().await;
        }
    }

    /// The next items, within the bounds of a call; none: it is all sent, and the next send starts anew.
    fn next_batch(&mut self) -> Option<Vec<Item>> {
        let mut waiting = self.shared.waiting.lock();
        let batch_max = self.shared.batch_max.load(Ordering::Relaxed);
        let mut bytes = 0;
        let mut batch = Vec::new();
        while batch.len() < batch_max {
            match waiting.items.front() {
                Some(item) if batch.is_empty() || bytes + item.bytes <= BATCH_BYTES_MAX => bytes += item.bytes,
                _ => break,
            }
            batch.extend(waiting.items.pop_front());
        }
        if batch.is_empty() {
            waiting.is_under_way = false;
            self.is_done = true;
            return None;
        }
        Some(batch)
    }

    async fn send_batch(&self, mut batch: Vec<Item>) {
        let tasks: Vec<_> = batch.iter_mut().map(|item| std::mem::take(&mut item.task)).collect();
        let count = tasks.len();
        match self.shared.repeat(|channel| self.call_once(channel, &tasks)).await {
            Ok(results) => {
                let mut results = results.into_iter();
                for item in batch {
                    let answer = results.next().unwrap_or_else(|| Err(missing()));
                    // The caller may have gone; the task is sent all the same.
                    let _ = item.answer.send(answer);
                }
            }
            Err(error) if count > 1 && is_too_much(&error) => {
                // Nothing was written. The limit is lower than believed: half as many each.
                self.shared.batch_max.store((count / 2).max(1), Ordering::Relaxed);
                let mut waiting = self.shared.waiting.lock();
                for (mut item, task) in batch.into_iter().zip(tasks).rev() {
                    item.task = task;
                    waiting.items.push_front(item);
                }
            }
            Err(error) => {
                for item in batch {
                    let _ = item.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn call_once(&self, channel: Channel, tasks: &[proto::Task]) -> Result<Vec<Answer>, tonic::Status> {
        let mut client = tasks_of(channel);
        match tasks {
            // Alone: the status says more than an item of a batch, and costs the same.
            [task] => {
                let request = self.timed(proto::SendTaskRequest { task: Some(task.clone()) });
                Ok(vec![Ok(client.send_task(request).await?.into_inner().task_id)])
            }
            _ => {
                let request = self.timed(proto::SendTasksRequest { tasks: tasks.to_vec() });
                let results = client.send_tasks(request).await?.into_inner().results;
                Ok(results.into_iter().map(answer_of).collect())
            }
        }
    }

    fn timed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.shared.bounds.call_timeout);
        request
    }
}

fn answer_of(result: proto::SendResult) -> Answer {
    match result.result {
        Some(send_result::Result::TaskId(id)) => Ok(id),
        Some(send_result::Result::Error(error)) => Err(error.into()),
        None => Err(missing()),
    }
}

/// The whole call was refused for its size, before anything was written.
fn is_too_much(error: &Error) -> bool {
    error.reason() == Some(ErrorReason::LimitExceeded) || error.code() == Some(Code::OutOfRange)
}

/// The server broke its promise of one answer per item.
fn missing() -> Error {
    Error::Broken { message: "the answer lacks this item".into() }
}
