//! Opening the file: made if it does not exist, repaired after a crash, refused if it is damaged or newer.
//!
//! A full disk does not keep the file closed: it is opened for reading, and writable once there is room ([`Opened::accept`]).
//!
//! One limit of the repair after a crash: the last commit may be torn, then it was not answered, and the one before it
//! counts. A last commit that *was* answered, and whose pages the disk damaged afterwards, looks the same. A second fsync
//! in each commit would tell them apart, at half the rate of commits, for that one commit only; older damage is found.
//!
//! The repair reads the whole file (136 MiB in 0.16 s). The database has a mode in which it need not, at the price of that
//! second fsync and of writing the list of free pages with each commit; as the messages are read at start anyway, it
//! would save little.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableError};

use super::disk::{Backend, Disk};
use super::{FORMAT, OpenError, Options, Table, directory, error};

/// What the engine knows about itself.
pub(super) const META: Table = Table::new("meta");
/// In [`META`]: [`FORMAT`], four bytes, big endian.
const FORMAT_KEY: &[u8] = b"format";
/// In [`META`]: the number of the last commit, eight bytes, big endian. It tells after a failed commit whether it
/// happened.
pub(super) const COMMIT_KEY: &[u8] = b"commit";

/// The largest file of which every page is checked each time it is opened, bytes; a larger one only after a crash.
/// Checking 136 MiB took 0.17 s, and a start should not take much longer.
const CHECKED_BYTES_MAX: u64 = 256 << 20;

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) disk: Arc<Disk>,
    file: Arc<File>,
    /// Bytes of keys and values; the length of the file where counting them would take long.
    pub(super) live_bytes: u64,
}

/// Opens the file at `path`.
pub(super) fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    let io = |doing| move |source| OpenError::Io { path: path.to_owned(), doing, source };
    if std::fs::metadata(path).map_or(true, |file| file.len() == 0) {
        create(path)?;
    }
    let file = Arc::new(OpenOptions::new().read(true).write(true).open(path).map_err(io("opening"))?);
    let (backend, disk) = Disk::attach(&file, true).map_err(io("opening"))?;
    // A page that was altered outside may trip an assertion in the database instead of a checksum.
    let examined = catch_unwind(AssertUnwindSafe(|| examine(path, backend, disk.bytes(), options)));
    let (database, live_bytes) = examined.unwrap_or_else(|_| {
        Err(OpenError::Damaged { path: path.to_owned(), why: "its pages contradict each other".to_owned() })
    })?;
    let opened = Opened { database, disk, file, live_bytes };
    match opened.accept() {
        // Everything can be read; what opening has to write waits in memory until there is room for it.
        Err(error) if error::is_full(&error) => Ok(opened),
        accepted => accepted.map(|()| opened).map_err(io("writing")),
    }
}

impl Opened {
    /// Makes it writable, if it is not yet. May be repeated.
    pub(super) fn accept(&self) -> std::io::Result<()> {
        self.disk.accept(&self.file)
    }
}

/// Makes the file, under another name first: whatever stands under its own name is complete.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |doing| move |source| OpenError::Io { path: path.to_owned(), doing, source };
    let damaged = |error: redb::Error| match error {
        redb::Error::Io(source) => io("making")(source),
        other => OpenError::Damaged { path: path.to_owned(), why: other.to_string() },
    };
    let draft = path.with_extension("new");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&draft)
        .map(Arc::new)
        .map_err(io("making"))?;
    let (backend, _) = Disk::attach(&file, false).map_err(io("making"))?;
    let fill = || -> Result<(), redb::Error> {
        let database = Database::builder().create_with_backend(backend)?;
        let txn = database.begin_write()?;
        txn.open_table(definition())?.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        txn.commit()?;
        database.close()?;
        Ok(())
    };
    fill().map_err(damaged)?;
    std::fs::rename(&draft, path).map_err(io("making"))?;
    path.parent().map_or(Ok(()), directory::sync).map_err(io("making"))
}

fn definition() -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new("meta")
}

/// Opens the database, and says whether it is one that this program may use.
fn examine(path: &Path, backend: Backend, bytes: u64, options: &Options) -> Result<(Database, u64), OpenError> {
    let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
    let repaired = Rc::new(Cell::new(false));
    let noted = Rc::clone(&repaired);
    let mut database = Database::builder()
        .set_cache_size(options.cache_bytes)
        .set_repair_callback(move |_| noted.set(true))
        .create_with_backend(backend)
        .map_err(|error| refused(path, error))?;
    let found = format(&database).map_err(|error| damaged(error.to_string()))?;
    match found {
        None => return Err(damaged("it has no format number".to_owned())),
        Some(found) if found > FORMAT => {
            return Err(OpenError::Newer { path: path.to_owned(), found, supported: FORMAT });
        }
        Some(_) => {}
    }
    let checked = bytes <= CHECKED_BYTES_MAX;
    // After a crash the repair has checked every page, and may have found the last, unanswered commit torn. A file that
    // was closed in order must be as it was left: falling back to an older state would lose what was answered for.
    if checked && !repaired.get() && !database.check_integrity().map_err(|error| refused(path, error))? {
        return Err(damaged("a page does not have the checksum that was written with it".to_owned()));
    }
    let live = if checked || repaired.get() {
        stored_bytes(&database).map_err(|error| damaged(error.to_string()))?
    } else {
        bytes
    };
    Ok((database, live))
}

fn refused(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::Storage(StorageError::Io(source)) => match source.kind() {
            std::io::ErrorKind::InvalidData => {
                OpenError::Damaged { path: path.to_owned(), why: format!("it is no database of this kind ({source})") }
            }
            std::io::ErrorKind::UnexpectedEof => {
                OpenError::Damaged { path: path.to_owned(), why: "it is shorter than it was".to_owned() }
            }
            _ => OpenError::Io { path: path.to_owned(), doing: "reading", source },
        },
        other => OpenError::Damaged { path: path.to_owned(), why: other.to_string() },
    }
}

fn format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let txn = database.begin_read()?;
    let table = match txn.open_table(definition()) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let value = redb::ReadableTable::get(&table, FORMAT_KEY)?;
    Ok(value.and_then(|value| value.value().try_into().ok().map(u32::from_be_bytes)))
}

fn stored_bytes(database: &Database) -> Result<u64, redb::Error> {
    let txn = database.begin_write()?;
    let bytes = txn.stats()?.stored_bytes();
    txn.abort()?;
    Ok(bytes)
}

/// The number of the last commit of `database`.
pub(super) fn last_commit(database: &Database) -> Result<u64, redb::Error> {
    let txn = database.begin_read()?;
    let table = txn.open_table(definition())?;
    let value = redb::ReadableTable::get(&table, COMMIT_KEY)?;
    Ok(value.and_then(|value| value.value().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
}
