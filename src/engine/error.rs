//! What can go wrong: when opening, and after it.

use std::path::PathBuf;

use crate::error::StoreError;

use super::NAME;

/// Why a directory was not opened. It is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {path:?} is in use by {}; stop that server, or give this one a directory of its own",
        .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who, as written in the lock file.
        pid: Option<u32>,
    },
    /// It was written by a newer program.
    #[error(
        "{path:?} has format {found}, this program reads formats up to {supported}; start the newer program again, \
         nothing was changed"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        supported: u32,
    },
    /// It is not as this program left it.
    #[error(
        "{path:?} is damaged: {why}; it was left as it is: copy it away, then restore a backup or start with an empty \
         directory"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("{doing} {path:?}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, in the words before the path.
        doing: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// True if there is no room: on the disk, in this user's quota, or under the limit of a file's length.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// A failed read or write inside a transaction, before any commit.
pub(super) fn storage(error: &redb::StorageError) -> StoreError {
    match error {
        redb::StorageError::Corrupted(why) => StoreError::Corrupt { store: NAME, why: why.clone() },
        redb::StorageError::Io(io) if is_full(io) => StoreError::Full { store: NAME, why: io.to_string() },
        other => StoreError::Unavailable { store: NAME, why: other.to_string() },
    }
}

/// A table that could not be opened.
pub(super) fn table(error: redb::TableError) -> StoreError {
    match error {
        redb::TableError::Storage(error) => storage(&error),
        other => StoreError::Corrupt { store: NAME, why: other.to_string() },
    }
}

/// A transaction that could not be begun.
pub(super) fn transaction(error: redb::TransactionError) -> StoreError {
    match error {
        redb::TransactionError::Storage(error) => storage(&error),
        other => StoreError::Unavailable { store: NAME, why: other.to_string() },
    }
}
