//! Waiting: for each queue that somebody waits for, one connection on which Redis itself waits.
//!
//! A wake-up moves the message that causes it into the queue's inbox, which every take of ours empties first. So nothing
//! is held by a wake-up, and one that comes late, or for nobody, is only early.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::SemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};

use super::queue::Queue;
use super::{Inner, told};
use crate::error::StoreError;
use crate::link::redis::{Access, Failure, Heard, Renewal};
use crate::task::QueueName;

/// How long Redis waits before it answers that nothing came, seconds.
const WAKE_SECONDS: u32 = 20;
/// How long we wait for that answer: a server that is gone without a word never gives it.
const ANSWER_MAX: Duration = Duration::from_secs(22);
/// How long a connection is kept for which nobody waits any more.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at a queue for which there is no connection.
const POLL: Duration = Duration::from_secs(1);
/// Pause after a connection failed.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection to wait on, and the right to have it.
type Place<'a> = (SemaphorePermit<'a>, MultiplexedConnection, Renewal);

/// Resolves when a take may find something.
pub(super) async fn ready(inner: &Arc<Inner>, name: &QueueName) -> Result<(), StoreError> {
    let queue = inner.queue(name);
    let _waiting = queue.enter();
    // Before the look, so that what comes between the look and the waiting is noticed.
    let mut told = queue.told.subscribe();
    if queue.has_more.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    if !queue.is_known_empty() {
        let before = *told.borrow_and_update();
        if inner.has_any(&queue).await? {
            return Ok(());
        }
        queue.found_empty(before);
    }
    queue.wanted.notify_one();
    watch(inner, &queue);
    // The sender is in `queue`, which we have.
    let _ = told.changed().await;
    Ok(())
}

/// Lets a task wait for the queue at Redis, if none does.
fn watch(inner: &Arc<Inner>, queue: &Arc<Queue>) {
    if std::mem::replace(&mut *queue.is_watched.lock(), true) {
        return;
    }
    let (inner, queue) = (Arc::clone(inner), Arc::clone(queue));
    tokio::spawn(async move {
        let closing = inner.closing.clone();
        let watching = async {
            let mut place = None;
            loop {
                while timeout(IDLE, queue.wanted.notified()).await.is_ok() {
                    // While tasks come from here, many in a moment, a wake-up for each would only say so once more.
                    loop {
                        let pause = queue.is_fed_for();
                        if pause.is_zero() {
                            break;
                        }
                        sleep(pause).await;
                    }
                    inner.wait_at_redis(&queue, &mut place).await;
                }
                // Nobody waits on it.
                place = None;
                inner.unwake(&queue).await;
                let mut is_watched = queue.is_watched.lock();
                // Whoever entered since finds this task, or is found by it.
                if *queue.waiting.borrow() == 0 {
                    *is_watched = false;
                    return;
                }
                drop(is_watched);
                queue.wanted.notify_one();
            }
        };
        tokio::select! {
            () = watching => {}
            () = closing.cancelled() => {}
        }
    });
}

impl Inner {
    /// Whether anything waits that is due.
    async fn has_any(&self, queue: &Queue) -> Result<bool, StoreError> {
        let keys = &queue.keys;
        let mut command = redis::cmd("EXISTS");
        command.arg(&keys.again).arg(&keys.inbox).arg(keys.queue.as_str());
        let found = self.link.command(Access::Read, &command).await.map_err(told)?;
        Ok(found != Value::Int(0))
    }

    /// Returns once something came, or nobody has waited for a while.
    async fn wait_at_redis<'a>(&'a self, queue: &Queue, place: &mut Option<Place<'a>>) {
        let vacant = async {
            let mut waiting = queue.waiting.subscribe();
            loop {
                // The sender is in `queue`.
                let _ = waiting.wait_for(|count| *count == 0).await;
                if timeout(IDLE, waiting.wait_for(|count| *count > 0)).await.is_err() {
                    return;
                }
            }
        };
        let coming = async {
            loop {
                match self.blocked(queue, place).await {
                    Ok(()) => {
                        // Asked before it is told: whoever hears it waits no more.
                        let is_for_nobody = *queue.waiting.borrow() == 0;
                        queue.tell();
                        if is_for_nobody {
                            self.unwake(queue).await;
                        }
                        return;
                    }
                    Err(failure) => {
                        tracing::debug!(queue = %queue.keys.queue, why = failure.why, "waiting for a queue was cut off");
                        sleep(PAUSE).await;
                        // Whoever waits looks for itself: something may have been missed.
                        if matches!(self.has_any(queue).await, Ok(true)) {
                            queue.tell();
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = vacant => {}
            () = coming => {}
        }
    }

    /// Puts back what a wake-up moved while nobody here waited any more, so that others may take it: a wake-up moves one message.
    async fn unwake(&self, queue: &Queue) {
        if *queue.waiting.borrow() > 0 {
            return;
        }
        if let Err(error) = self.empty_inbox(queue, 1).await {
            // The next sweep does it.
            tracing::debug!(queue = %queue.keys.queue, %error, "what a wake-up moved stays in the inbox for now");
        }
    }

    /// Waits on a connection, or looks again and again if there are too many.
    async fn blocked<'a>(&'a self, queue: &Queue, place: &mut Option<Place<'a>>) -> Result<(), Failure> {
        let keys = &queue.keys;
        // Taken out, so that a connection on which a command is under way is not used again.
        let mut own = match place.take() {
            Some(own) => own,
            None => match self.blocking.try_acquire() {
                Ok(permit) => {
                    let (connection, renewal) = self.link.own(keys.queue.as_str().as_bytes()).await?;
                    (permit, connection, renewal)
                }
                Err(_) => return self.polled(queue).await,
            },
        };
        let mut command = redis::cmd("BLMOVE");
        command.arg(keys.queue.as_str()).arg(&keys.inbox).arg("LEFT").arg("RIGHT").arg(WAKE_SECONDS);
        loop {
            let answer = tokio::select! {
                answer = timeout(ANSWER_MAX, own.1.send_packed_command(&command)) => answer,
                // Another server may be the master: this one would let us wait for long.
                () = own.2.happened() => return Err(Failure::silent(Access::Write, "the connections were made anew")),
            };
            match answer {
                Ok(Ok(answer)) => match answer.extract_error() {
                    Ok(Value::Nil) => {}
                    Ok(_) => {
                        *place = Some(own);
                        return Ok(());
                    }
                    Err(error) => return Err(Failure::of(&error, Access::Write)),
                },
                Ok(Err(error)) => return Err(Failure::of(&error, Access::Write)),
                Err(_) => return Err(Failure::silent(Access::Write, "no answer to a wait")),
            }
        }
    }

    async fn polled(&self, queue: &Queue) -> Result<(), Failure> {
        loop {
            sleep(POLL).await;
            if matches!(self.has_any(queue).await, Ok(true)) {
                return Ok(());
            }
        }
    }
}

/// Hears which `again` lists have something.
pub(super) fn start_hearing(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    let mut heard = inner.listener.hear();
    tokio::spawn(async move {
        loop {
            let heard = tokio::select! {
                heard = heard.recv() => heard,
                () = inner.closing.cancelled() => return,
            };
            let queues: Vec<Arc<Queue>> = inner.queues.lock().values().map(Arc::clone).collect();
            match heard {
                Ok(Heard::Told(_, again)) => {
                    queues.iter().filter(|queue| queue.keys.again.as_bytes() == again).for_each(|queue| queue.tell());
                }
                // Something may have been missed by whoever waits.
                Ok(Heard::Anew) | Err(RecvError::Lagged(_)) => {
                    for queue in queues.iter().filter(|queue| *queue.waiting.borrow() > 0) {
                        if !matches!(inner.has_any(queue).await, Ok(false)) {
                            queue.tell();
                        }
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
}
