//! Paused queues, as this replica knows them. The ledger knows which; every replica reads them, at the latest each second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify};

use super::Inner;
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::ledger::Notice;
use crate::task::QueueName;

/// How often they are read, where another replica may have changed them.
const PERIOD: Duration = Duration::from_secs(1);
/// Queues that may be paused at once: every replica reads all of them each second.
const PAUSED_MAX: usize = 10_000;

/// Paused queues, and since when.
pub(super) type Paused = BTreeMap<QueueName, WallTime>;

/// What this replica knows.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// `None`: they were not read yet.
    known: RwLock<Option<Arc<Paused>>>,
    /// Held while they are read, so that an older answer never replaces a newer one.
    reading: Mutex<()>,
    wake: Notify,
}

impl Pauses {
    /// True if nothing is to be taken from the queue. What is not known yet counts as paused: a restart resumes nothing.
    pub(super) fn is_paused(&self, queue: &QueueName) -> bool {
        self.known.read().as_ref().is_none_or(|paused| paused.contains_key(queue))
    }

    /// Some replica has changed them.
    pub(super) fn hear(&self) {
        self.wake.notify_one();
    }
}

impl Inner {
    /// Pauses a queue.
    pub(super) async fn pause(&self, queue: &QueueName) -> Result<(), Error> {
        let paused = self.read_paused().await?;
        if !paused.contains_key(queue) {
            if paused.len() >= PAUSED_MAX {
                let (limit, actual) = (PAUSED_MAX as u64, paused.len() as u64 + 1);
                return Err(Error::LimitExceeded { field: "queue".into(), limit, actual, unit: "paused queues" });
            }
            self.stores.ledger.pause(std::slice::from_ref(queue), self.clock.wall()).await?;
        }
        self.paused_changed().await
    }

    /// Resumes a queue.
    pub(super) async fn resume(&self, queue: &QueueName) -> Result<(), Error> {
        self.stores.ledger.resume(std::slice::from_ref(queue)).await?;
        self.paused_changed().await
    }

    async fn paused_changed(&self) -> Result<(), Error> {
        self.read_paused().await?;
        if self.stores.ledger.replicas() {
            self.stores.ledger.notices().tell(Notice::Paused);
        }
        Ok(())
    }

    /// Reads which queues are paused, and wakes the dispatchers if that is news.
    pub(super) async fn read_paused(&self) -> Result<Arc<Paused>, StoreError> {
        let _reading = self.pauses.reading.lock().await;
        let read: Arc<Paused> = Arc::new(self.stores.ledger.paused().await?.into_iter().collect());
        let before = self.pauses.known.write().replace(read.clone());
        if before.is_none_or(|before| before != read) {
            self.sessions.stir_all();
        }
        Ok(read)
    }
}

/// Reads which queues are paused, for as long as the replica runs.
pub(super) async fn run(inner: Arc<Inner>) {
    let is_shared = inner.stores.ledger.replicas();
    loop {
        let is_read = match inner.read_paused().await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "paused queues cannot be read; what is known of them stays");
                false
            }
        };
        tokio::select! {
            // Alone on the ledger, nobody else changes them.
            () = tokio::time::sleep(PERIOD), if is_shared || !is_read => {}
            () = inner.pauses.wake.notified() => {}
        }
    }
}
