//! Paused queues.

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::QueueName;

use super::layout::PAUSED;
use super::store::{self, Store};

/// Pauses queues; one that is paused keeps its moment.
pub(super) async fn pause(store: &Store, queues: &[QueueName], at: WallTime) -> Result<(), StoreError> {
    if queues.is_empty() {
        return Ok(());
    }
    let mut commands = redis::pipe();
    for queue in queues {
        commands.cmd("HSETNX").arg(PAUSED).arg(queue.as_str()).arg(at.0);
    }
    store.write_at_once(commands).await.map(drop)
}

/// Ends pauses.
pub(super) async fn resume(store: &Store, queues: &[QueueName]) -> Result<(), StoreError> {
    if queues.is_empty() {
        return Ok(());
    }
    let mut command = redis::cmd("HDEL");
    command.arg(PAUSED);
    for queue in queues {
        command.arg(queue.as_str());
    }
    store.write(&command).await.map(drop)
}

/// All paused queues, in order.
pub(super) async fn all(store: &Store) -> Result<Vec<(QueueName, WallTime)>, StoreError> {
    let all = store::text_pairs(store.read(redis::cmd("HGETALL").arg(PAUSED)).await?)?;
    let one =
        |(queue, at): (String, String)| Ok((QueueName::trusted(queue), WallTime(store::parsed("a moment", &at)?)));
    let mut paused: Vec<(QueueName, WallTime)> = all.into_iter().map(one).collect::<Result<_, StoreError>>()?;
    paused.sort();
    Ok(paused)
}
