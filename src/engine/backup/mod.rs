//! A copy of everything as of one commit, taken while others write, and a directory made from one.
//!
//! A backup is read from one snapshot, a piece at a time, so it takes the memory of a piece and stops nobody. While it is
//! taken, pages that were replaced since its moment are not given free: the file grows by what is written meanwhile, and
//! is not compacted.

mod archive;
mod restore;
#[cfg(test)]
mod tests;

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::WallTime;
use crate::error::StoreError;

use super::disk::Disk;
use super::txn::Snapshot;
use super::{Engine, FORMAT, NAME, Shared};

pub use restore::{RestoreError, Restored, restore};

/// A piece has about this many bytes; more only if one record has.
const PIECE_BYTES: usize = 256 << 10;

/// A backup that is being taken. Drop it to give it up.
#[derive(Debug)]
pub struct Backup {
    shared: Arc<Shared>,
    /// Of the database that the snapshot belongs to.
    disk: Arc<Disk>,
    snapshot: Snapshot,
    /// Tables that are left, the next one last.
    tables: Vec<String>,
    /// The last key that was written of the table that is being copied.
    after: Option<Bound<Vec<u8>>>,
    /// `None`: the end was written.
    writer: Option<archive::Writer>,
}

impl Engine {
    /// Begins a backup of what is committed now. `taken_at` is written into it, for people.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while the file is closed after an error; [`StoreError::Corrupt`].
    pub fn backup(&self, taken_at: WallTime) -> Result<Backup, StoreError> {
        let shared = Arc::clone(&self.0.shared);
        let database = shared.database.read();
        let Some(opened) = database.as_ref() else { return Err(reopened()) };
        let snapshot = Snapshot::begin(&opened.database)?;
        let mut tables = snapshot.tables()?;
        // The order of their names, whatever the database's.
        tables.sort_unstable_by(|a, b| b.cmp(a));
        let disk = Arc::clone(&opened.disk);
        drop(database);
        let writer = archive::Writer::begin(FORMAT, taken_at.0 / 1_000_000);
        Ok(Backup { shared, disk, snapshot, tables, after: None, writer: Some(writer) })
    }
}

impl Backup {
    /// The next piece, on the caller's thread; `None` after the last. A backup is complete once `None` was answered.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the file was closed after an error since; begin anew. [`StoreError::Corrupt`].
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(mut writer) = self.writer.take() else { return Ok(None) };
        // Held for one piece only: whoever wants to reopen or compact the file waits no longer than that.
        let database = self.shared.database.read();
        if !database.as_ref().is_some_and(|opened| Arc::ptr_eq(&opened.disk, &self.disk)) {
            return Err(reopened());
        }
        while writer.len() < PIECE_BYTES {
            let Some(table) = self.tables.last() else { return Ok(Some(writer.end().into())) };
            if self.after.is_none() {
                writer.table(table);
            }
            let from = self.after.take().unwrap_or(Bound::Unbounded);
            let range = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
            let mut last = None;
            self.snapshot.visit_named(table, range, &mut |key, value| {
                writer.record(key, value);
                if writer.len() < PIECE_BYTES {
                    return ControlFlow::Continue(());
                }
                last = Some(Bound::Excluded(key.to_vec()));
                ControlFlow::Break(())
            })?;
            self.after = last;
            if self.after.is_none() {
                self.tables.pop();
            }
        }
        let piece = writer.take();
        self.writer = Some(writer);
        Ok(Some(piece.into()))
    }
}

fn reopened() -> StoreError {
    StoreError::Unavailable { store: NAME, why: "the file was closed after an error; begin the backup anew".to_owned() }
}
