//! A directory made from a backup.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, TableDefinition};

use crate::error::StoreError;

use super::super::disk::Disk;
use super::super::txn::Txn;
use super::super::{FORMAT, OpenError, directory, error};
use super::archive::{self, Item, Reader, Unread};

/// A transaction takes records until it has this many bytes: few fsyncs, and little memory.
const TRANSACTION_BYTES: usize = 16 << 20;

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was taken, unix ms.
    pub taken_at: u64,
    /// Records in it.
    pub records: u64,
}

/// Why a backup was not restored. The directory then has no store in it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory has something in it, which is left alone.
    #[error("{path:?} is not empty: {found:?} is in it; give a directory that does not exist yet, or an empty one")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// It is not a backup, or not all of one.
    #[error("the backup cannot be used: {why}; nothing was restored")]
    Damaged {
        /// What is wrong with it.
        why: &'static str,
    },
    /// It was taken by a newer program.
    #[error("the backup has {what} {found}, this program reads up to {supported}; restore it with the newer program")]
    Newer {
        /// `version` of the layout, or `format` of the records.
        what: &'static str,
        /// The backup's.
        found: u32,
        /// The newest that this program knows.
        supported: u32,
    },
    /// The backup could not be read.
    #[error("the backup cannot be read: {0}")]
    Read(std::io::Error),
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The records could not be written.
    #[error(transparent)]
    Write(#[from] StoreError),
}

impl From<Unread> for RestoreError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Damaged(why) => Self::Damaged { why },
            Unread::Io(error) => Self::Read(error),
        }
    }
}

/// Makes a store in `directory` from a backup. `finish` changes records in the last transaction, once all are there.
///
/// The store appears under its name only when it is complete: what was interrupted is a draft that the next try replaces.
///
/// # Errors
/// [`RestoreError`]; there is no store in `directory` then.
pub fn restore(
    from: &mut dyn Read,
    directory: &Path,
    finish: impl FnOnce(&mut Txn<'_>) -> Result<(), StoreError>,
) -> Result<Restored, RestoreError> {
    let path = directory.join(directory::FILE);
    let draft = path.with_extension("new");
    // Before anything is written there, the lock included.
    must_be_empty(directory, &draft)?;
    let (reader, header) = Reader::begin(from)?;
    for (what, found, supported) in [("version", header.version, archive::VERSION), ("format", header.format, FORMAT)] {
        if found > supported {
            return Err(RestoreError::Newer { what, found, supported });
        }
    }
    let _lock = directory::Lock::take(directory)?;
    // Another restore may have been quicker.
    must_be_empty(directory, &draft)?;
    let written = write(reader, &draft, finish).and_then(|records| {
        let io = |source| OpenError::Io { path: path.clone(), doing: "making", source };
        std::fs::rename(&draft, &path).map_err(io)?;
        directory::sync(directory).map_err(io)?;
        Ok(Restored { taken_at: header.taken_at, records })
    });
    if written.is_err() {
        // What is left of a draft is in nobody's way.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// Refuses a directory with anything in it but what an interrupted restore leaves.
fn must_be_empty(directory: &Path, draft: &Path) -> Result<(), RestoreError> {
    let io = |source| OpenError::Io { path: directory.to_owned(), doing: "reading", source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error).into()),
    };
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        if name != directory::LOCK_FILE && Some(name.as_os_str()) != draft.file_name() {
            let found = name.to_string_lossy().into_owned();
            return Err(RestoreError::NotEmpty { path: directory.to_owned(), found });
        }
    }
    Ok(())
}

/// Writes all records to a new file; answers how many.
fn write(
    mut reader: Reader<'_>,
    draft: &Path,
    finish: impl FnOnce(&mut Txn<'_>) -> Result<(), StoreError>,
) -> Result<u64, RestoreError> {
    let io = |source| OpenError::Io { path: draft.to_owned(), doing: "making", source };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(draft).map_err(io)?;
    let (backend, _) = Disk::attach(&Arc::new(file), false).map_err(io)?;
    let database = Database::builder().create_with_backend(backend).map_err(|error| failed(&error.into()))?;
    let mut table = None;
    let mut next = reader.next()?;
    let records = loop {
        match next {
            Item::End { records, .. } => break records,
            Item::Table(name) => {
                table = Some(name);
                next = reader.next()?;
            }
            first @ Item::Record { .. } => {
                let name = table.as_deref().ok_or(Unread::Damaged("a record belongs to no table"))?;
                next = copy(&mut reader, &database, name, first)?;
            }
        }
    };
    let inner = database.begin_write().map_err(|error| failed(&error.into()))?;
    let mut txn = Txn::new(&inner);
    finish(&mut txn)?;
    drop(txn);
    inner.commit().map_err(|error| failed(&error.into()))?;
    database.close().map_err(|error| failed(&error.into()))?;
    Ok(records)
}

/// Writes `item` and the records behind it in one transaction; answers the first that is not of it.
fn copy(reader: &mut Reader<'_>, database: &Database, table: &str, mut item: Item) -> Result<Item, RestoreError> {
    let inner = database.begin_write().map_err(|error| failed(&error.into()))?;
    {
        let definition: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
        let mut open = inner.open_table(definition).map_err(error::table)?;
        let mut bytes = 0;
        while let Item::Record { key, value } = &item {
            if bytes >= TRANSACTION_BYTES {
                break;
            }
            open.insert(key.as_slice(), value.as_slice()).map_err(|e| error::storage(&e))?;
            bytes += key.len() + value.len();
            item = reader.next()?;
        }
    }
    inner.commit().map_err(|error| failed(&error.into()))?;
    Ok(item)
}

fn failed(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(io) if error::is_full(io) => {
            StoreError::Full { store: super::NAME, why: format!("there is no room for the restored store: {io}") }
        }
        other => StoreError::Unavailable { store: super::NAME, why: other.to_string() },
    }
}
