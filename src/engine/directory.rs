//! The data directory: made if need be, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::OpenError;

/// The file of the store.
pub(super) const FILE: &str = "lineshaft.redb";

/// The file whose lock says that the directory is in use. Its content, the holder's process id, is for people: the lock
/// alone counts, and goes with the process however it ends.
pub(super) const LOCK_FILE: &str = "lock";

/// The right to use a directory, until dropped.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "the lock is held by the open file")] File);

impl Lock {
    /// Makes `directory` if it does not exist, and takes it.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let io = |path: &Path, doing| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, doing, source }
        };
        make(directory).map_err(io(directory, "making the data directory"))?;
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io(&path, "opening"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Without a readable id the message says less, no more.
                let _ = file.read_to_string(&mut text);
                return Err(OpenError::InUse { path: directory.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(io(&path, "locking")(source)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        written.map_err(io(&path, "writing"))?;
        Ok(Self(file))
    }
}

/// Makes `directory` and what is above it, for this user alone: task bodies may be anything.
fn make(directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

/// Makes the names in `directory` durable, after a file was made or renamed in it.
pub(super) fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}
