//! The embedded durable store: named tables of byte keys and byte values, one file, one committer.
//!
//! It knows records, not tasks; the `embedded` rooms give them meaning. Work that writes is a *job*, a closure. Jobs
//! queue up, and one thread, the committer, takes whatever waits, runs it in order inside one transaction, commits with
//! one fsync, and only then answers all of them: **group commit**. So a rate of commits that the disk limits becomes
//! a rate of jobs that it does not.
//!
//! What holds for everybody:
//! - An answer of [`Engine::write`] means that the job's writes are on the disk.
//! - A job sees the writes of every job before it, also of those in its own group. A [`Snapshot`] sees committed ones only.
//! - A job checks before it writes. One that answers an error after it has written something takes its whole group with
//!   it: nothing of that group is written, and the others are told [`StoreError::Unavailable`].
//! - What must happen after the commit, and must happen even if nobody waits any more, is handed to [`Txn::on_commit`]:
//!   such hooks run on the committer in the order of the jobs, before the answers.
//! - A failed fsync is final. The kernel may have dropped the pages, so a second fsync that succeeds would prove nothing:
//!   the engine refuses everything from then on, until the server is started again.
//!
//! One directory belongs to one engine at a time ([`OpenError::InUse`]). A damaged file, or one of a newer format, is
//! refused and left byte for byte as it was: what opening would write is held back until the file has been accepted.

mod backup;
mod committer;
mod directory;
mod disk;
mod error;
mod open;
#[cfg(test)]
mod tests;
mod txn;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;

pub use backup::{Backup, RestoreError, Restored, restore};
pub use committer::Stats;
pub use error::OpenError;
pub use txn::{Direction, Range, Records, Snapshot, Table, Txn, Visitor};

/// The name of this store in errors and answers.
pub const NAME: &str = "embedded";

/// The format of the records in the directory that this program reads and writes.
///
/// If you change a record so that an older program would misread it: 1. raise this number; 2. keep the old reader;
/// 3. add a golden directory to the tests.
pub const FORMAT: u32 = 1;

/// Jobs that may wait for the committer. Beyond it [`Engine::write`] waits and [`Engine::enqueue`] refuses.
pub const JOBS_WAITING_MAX: usize = 16_384;

/// How an engine is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Memory for pages of the file, bytes. Default 64 MiB: beyond the working set of a short queue it buys little, as
    /// the kernel caches the file too.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// An open store. Clones share it; the last one to be dropped waits for the jobs that are queued, closes the file and
/// gives the directory free.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    jobs: Option<mpsc::Sender<committer::Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// What readers and the committer share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: Options,
    /// `None` while the file is closed after an error. Readers hold the lock for as long as their snapshot lives, so
    /// that whoever holds it for writing (compaction, reopening) has the database alone.
    database: RwLock<Option<open::Opened>>,
    counts: committer::Counts,
    /// Held for as long as the engine lives; declared last, so that it is dropped after the database is closed.
    _directory: directory::Lock,
}

impl Engine {
    /// Opens the store in `directory`, which is made if it does not exist.
    ///
    /// Takes time proportional to the size of the file up to 256 MiB (every page of it is checked), or after a crash;
    /// for larger ones closed in order it is constant.
    ///
    /// # Errors
    /// [`OpenError`]; whatever is in the directory is then as it was.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let lock = directory::Lock::take(directory)?;
        let path = directory.join(directory::FILE);
        let opened = open::open(&path, &options)?;
        let shared = Arc::new(Shared {
            path,
            options,
            counts: committer::Counts::new(opened.live_bytes),
            database: RwLock::new(Some(opened)),
            _directory: lock,
        });
        let (jobs, queue) = mpsc::channel(JOBS_WAITING_MAX);
        let committer = committer::Committer::new(Arc::clone(&shared), queue);
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || committer.run()).map_err(
            |source| OpenError::Io { path: shared.path.clone(), doing: "starting the committer of", source },
        )?;
        Ok(Self(Arc::new(Inner { jobs: Some(jobs), thread: Mutex::new(Some(thread)), shared })))
    }

    /// Queues `job` and waits until its group is committed; answers what the job answered.
    ///
    /// A dropped future does not take the job back: it runs and commits all the same.
    ///
    /// # Errors
    /// What the job answers; and [`StoreError::Unavailable`] or [`StoreError::Full`]: nothing was written;
    /// [`StoreError::OutcomeUnknown`]: the commit failed half way.
    pub async fn write<R, F>(&self, job: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = committer::job(job, move |result| {
            // An error says that nobody waits any more.
            let _ = answer.send(result);
        });
        self.queue()?.send(job).await.map_err(|_| closed())?;
        // The sender is dropped unanswered only if the committer dies, and it may die while it commits.
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown { store: NAME, why: "the committer has stopped".to_owned() })
        })
    }

    /// Queues `job` behind those that wait, and does not wait for it. `then` is told on the committer how it ended.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: [`JOBS_WAITING_MAX`] jobs wait, or the engine is closed. `then` is not called.
    pub fn enqueue<R, F, T>(&self, job: F, then: T) -> Result<(), StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<R, StoreError> + Send + 'static,
        T: FnOnce(Result<R, StoreError>) + Send + 'static,
    {
        self.queue()?.try_send(committer::job(job, then)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                StoreError::Unavailable { store: NAME, why: format!("{JOBS_WAITING_MAX} jobs wait") }
            }
            mpsc::error::TrySendError::Closed(_) => closed(),
        })
    }

    /// Reads from the last commit, on the caller's thread: everything seen is durable. Keep it short, a page of records:
    /// reads come from memory or the page cache, but while one lives the file cannot be compacted. Not from within
    /// another read: the committer may wait between the two.
    ///
    /// # Errors
    /// What `read` answers; [`StoreError::Unavailable`] while the file is closed after an error.
    pub fn read<R>(&self, read: impl FnOnce(&Snapshot) -> Result<R, StoreError>) -> Result<R, StoreError> {
        let database = self.0.shared.database.read();
        let Some(opened) = database.as_ref() else {
            // The committer opens it again for a job; one that does nothing will do. If the queue is full, others wait.
            let _ = self.enqueue(|_| Ok(()), |_| ());
            return Err(StoreError::Unavailable { store: NAME, why: "the file is closed after an error".to_owned() });
        };
        read(&Snapshot::begin(&opened.database)?)
    }

    /// Counts since the engine was opened, for metrics and tests.
    pub fn stats(&self) -> Stats {
        let database = self.0.shared.database.read();
        self.0.shared.counts.stats(database.as_ref().map(|opened| &opened.disk))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.shared.path
    }

    fn queue(&self) -> Result<&mpsc::Sender<committer::Job>, StoreError> {
        self.0.jobs.as_ref().ok_or_else(closed)
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable { store: NAME, why: "the engine is closed".to_owned() }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a sender the committer finishes what is queued and ends.
        self.jobs = None;
        let Some(thread) = self.thread.lock().take() else { return };
        // The last clone may live in a job or a hook, on the committer itself, which cannot wait for its own end.
        if thread.thread().id() != std::thread::current().id() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
