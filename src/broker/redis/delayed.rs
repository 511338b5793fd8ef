//! Moving what is due to its queue.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::layout::{LATER, WAKE};
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, told, unexpected};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Script};

static MOVE: Script = Script::new(include_str!("scripts/move.lua"));

/// Between two looks while anything is delayed: how late a wall clock that was stepped is noticed.
const PERIOD: Duration = Duration::from_millis(200);
/// Between two looks while nothing is: how late a message is noticed that others delay for less.
const EMPTY: Duration = Duration::from_secs(1);
/// Most messages of one look, of each set: what a script may move without keeping others waiting.
const MOVED_MAX: usize = BATCH_MAX;

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
    /// Moves what is due; how long until it is worth to look again.
    async fn move_due(&self) -> Result<Duration, StoreError> {
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
                Value::BulkString(score) => {
                    // A score is a double; one beyond the end of time is never due.
                    let at = std::str::from_utf8(&score).ok().and_then(|score| score.parse::<f64>().ok());
                    let at = at.map(|at| WallTime(at as u64));
                    next = next.into_iter().chain(at).min();
                }
                _ => return Err(unexpected("what was moved")),
            }
        }
        Ok(match next {
            _ if has_more => Duration::ZERO,
            None => EMPTY,
            Some(at) => now.until(at).clamp(Duration::from_millis(1), PERIOD),
        })
    }
}
