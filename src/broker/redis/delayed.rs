//! Moving what is due to its queue.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::layout::{LATER, WAKE};
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, read, told, unexpected};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Script};
use crate::task::QueueName;

static HASTEN: Script = Script::new(include_str!("scripts/hasten.lua"));
static MOVE: Script = Script::new(concat!(include_str!("scripts/targets.lua"), include_str!("scripts/move.lua")));

/// Between two looks while anything is delayed: how late a wall clock that was stepped is noticed.
const PERIOD: Duration = Duration::from_millis(200);
/// Between two looks while nothing is: how late a message is noticed that others delay for less.
const EMPTY: Duration = Duration::from_secs(1);
/// Longest that a message is parked for: what is due later was delayed for something else.
const PARKED_MAX: Duration = Duration::from_secs(60);
/// Most members that are looked at for parked ones.
const HASTENED_MAX: usize = 16 * MOVED_MAX;
/// Most messages of one look, of each set: what a script may move without keeping others waiting.
pub(super) const MOVED_MAX: usize = BATCH_MAX;

/// Moves, for as long as the handle lives.
pub(super) fn start(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        loop {
            let pause = match inner.move_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::debug!(%error, "delayed messages could not be moved");
                    EMPTY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = inner.delayed.notified() => {}
                () = inner.closing.cancelled() => return,
            }
        }
    });
}

impl Inner {
    /// Makes what is parked of a queue due, as far as it is among the first that are due soon.
    pub(super) async fn hasten(&self, queue: &QueueName) -> Result<(), StoreError> {
        let now = self.clock.wall();
        let (at, until, most) = (now.0.to_string(), now.plus(PARKED_MAX).0.to_string(), MOVED_MAX.to_string());
        let (mut passed, mut looked) = (0, 0);
        while looked < HASTENED_MAX {
            let skip = passed.to_string();
            let args = [at.as_str(), &until, queue.as_str(), &skip, &most];
            let value = self.link.script(Access::Write, &HASTEN, &[LATER], &args).await.map_err(told)?;
            let (seen, hastened): (usize, usize) = read(value, "what was made due")?;
            if hastened > 0 {
                self.delayed.notify_one();
            }
            looked += seen;
            passed += seen.saturating_sub(hastened);
            if seen < MOVED_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Moves what is due; how long until it is worth to look again.
    async fn move_due(&self) -> Result<Duration, StoreError> {
        if self.link.is_cluster() {
            return self.move_between().await;
        }
        let default = self.queue(&self.options.default_queue);
        let now = self.clock.wall();
        let keys = [self.options.delayed_tasks_key.as_str(), LATER];
        let (at, most) = (now.0.to_string(), MOVED_MAX.to_string());
        let limit = BATCH_BYTES_MAX.to_string();
        let args = [at.as_str(), &most, default.keys.queue.as_str(), &default.keys.again, WAKE, &limit];
        let value = self.link.script(Access::Write, &MOVE, &keys, &args).await.map_err(told)?;
        let Value::Array(answer) = value else { return Err(unexpected("what was moved")) };
        let (mut has_more, mut next) = (false, None::<WallTime>);
        for value in answer {
            match value {
                Value::Int(more) => has_more |= more != 0,
                Value::BulkString(score) => next = next.into_iter().chain(time(&score)).min(),
                _ => return Err(unexpected("what was moved")),
            }
        }
        Ok(pause(now, has_more, next))
    }
}

/// How long until it is worth to look again.
pub(super) fn pause(now: WallTime, has_more: bool, next: Option<WallTime>) -> Duration {
    match next {
        _ if has_more => Duration::ZERO,
        None => EMPTY,
        Some(at) => now.until(at).clamp(Duration::from_millis(1), PERIOD),
    }
}

/// The time of a score, which is a double; one beyond the end of time is never due.
pub(super) fn time(score: &[u8]) -> Option<WallTime> {
    let at = std::str::from_utf8(score).ok()?.parse::<f64>().ok()?;
    Some(WallTime(at as u64))
}
