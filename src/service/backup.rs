//! A copy of the whole store, for whoever restores it one day: read a piece at a time, as fast as its reader takes it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Inner, Service};
use crate::error::Error;
use crate::fused::Pieces;

/// Backups under way at once: each pins what is replaced meanwhile, and reads the whole store.
pub(super) const BACKUPS_MAX: usize = 1;
/// Pieces that are read ahead of the reader.
const AHEAD_MAX: usize = 2;
/// A reader that takes nothing for this long has left: until it ends, a backup keeps the file from being compacted.
const STALL_MAX: Duration = Duration::from_secs(60);
/// When to try again while another backup is under way.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// A backup on its way. Dropped, it is given up.
#[derive(Debug)]
pub struct Backup(mpsc::Receiver<Result<Bytes, Error>>);

impl Backup {
    /// The next bytes; `None` once the backup is complete. An error ends it: what was read so far is worth nothing.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::SlowConsumer`]; [`Error::Draining`].
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        self.0.recv().await
    }
}

impl Service {
    /// Begins a backup of everything that is durable now. Others go on meanwhile.
    ///
    /// # Errors
    /// [`Error::CapabilityMissing`]: the stores are not one, or not ours to copy; [`Error::QueueFull`]: another backup is
    /// under way; [`Error::Draining`]; [`Error::Store`].
    pub fn backup(&self) -> Result<Backup, Error> {
        let inner = &self.inner;
        if inner.is_draining() {
            return Err(Error::Draining);
        }
        let Some(backup) = inner.stores.fused.as_deref().and_then(|fused| fused.backup()) else {
            let combination = format!("the {} broker", inner.guarantees.broker.name);
            return Err(Error::CapabilityMissing { combination, capability: "a backup" });
        };
        let busy = |_| Error::QueueFull { what: "the list of backups under way", retry_after: BUSY_RETRY };
        let permit = Arc::clone(&inner.backups).try_acquire_owned().map_err(busy)?;
        let pieces = backup.begin()?;
        let (to, from) = mpsc::channel(AHEAD_MAX);
        inner.forever(copy(Arc::clone(inner), pieces, permit, to));
        Ok(Backup(from))
    }
}

async fn copy(
    inner: Arc<Inner>,
    pieces: Box<dyn Pieces>,
    permit: OwnedSemaphorePermit,
    to: mpsc::Sender<Result<Bytes, Error>>,
) {
    let end = tokio::select! {
        end = pass_on(pieces, &to) => end,
        () = inner.draining.cancelled() => Err(Error::Draining),
    };
    // The snapshot is gone by now; only the word about it still waits for its reader.
    drop(permit);
    if let Err(error) = end {
        // An error says that nobody reads any more.
        let _ = to.send(Err(error)).await;
    }
}

async fn pass_on(mut pieces: Box<dyn Pieces>, to: &mpsc::Sender<Result<Bytes, Error>>) -> Result<(), Error> {
    loop {
        // Pages come from the disk where they are not in memory.
        let read = tokio::task::spawn_blocking(move || {
            let piece = pieces.next();
            (pieces, piece)
        });
        let (back, piece) = read.await.map_err(|_| Error::Invariant("reading a backup failed".to_owned()))?;
        pieces = back;
        let Some(piece) = piece? else { return Ok(()) };
        match to.send_timeout(Ok(piece), STALL_MAX).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(Error::SlowConsumer),
            // Given up.
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Ok(()),
        }
    }
}
