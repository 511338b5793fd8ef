//! The committer: takes whatever jobs wait, runs them in one transaction, commits, answers.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Instant;
use crate::error::StoreError;

use super::disk::Disk;
use super::open::{self, COMMIT_KEY, META};
use super::txn::{Txn, Written};
use super::{NAME, Shared, error};

/// Most jobs in one group. Larger groups gain nothing per job (the fsync is then a small part) and cost the first one
/// latency.
const GROUP_JOBS_MAX: usize = 4096;

/// A group takes no further job once it has put this much, bytes: about what the slowest supported disk writes in 100 ms.
const GROUP_BYTES_MAX: u64 = 8 << 20;

/// After the file was closed because of an error, it is opened again for the next job, but not more often than this.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The file is compacted when it is at least this large, bytes, …
const COMPACT_BYTES_MIN: u64 = 64 << 20;
/// … less than one part in this many of it is live, …
const COMPACT_LIVE_PARTS: u64 = 4;
/// … no more than this is live, bytes (all of it is rewritten, and every job waits), …
const COMPACT_LIVE_BYTES_MAX: u64 = 64 << 20;
/// … and the last time was this long ago, and the file has doubled since: it must not run against a queue that breathes.
const COMPACT_PAUSE: Duration = Duration::from_secs(60);

/// A job in the queue.
pub(super) type Job = Box<dyn Queued>;

/// What the outcome of the commit is told to.
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(super) trait Queued: Send {
    fn run(self: Box<Self>, txn: &mut Txn<'_>) -> Ran;
    fn refuse(self: Box<Self>, error: StoreError);
}

/// A job that has run.
pub(super) struct Ran {
    /// It answered an error.
    failed: bool,
    finish: Finish,
}

struct Closure<F, T> {
    job: F,
    then: T,
}

/// Packs a closure and what is told its answer.
pub(super) fn job<R, F, T>(job: F, then: T) -> Job
where
    R: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<R, StoreError> + Send + 'static,
    T: FnOnce(Result<R, StoreError>) + Send + 'static,
{
    Box::new(Closure { job, then })
}

impl<R, F, T> Queued for Closure<F, T>
where
    R: Send + 'static,
    F: FnOnce(&mut Txn<'_>) -> Result<R, StoreError> + Send + 'static,
    T: FnOnce(Result<R, StoreError>) + Send + 'static,
{
    fn run(self: Box<Self>, txn: &mut Txn<'_>) -> Ran {
        let Self { job, then } = *self;
        let result = job(txn);
        // Its own error is what a job is told, unless the commit went wrong as well.
        Ran { failed: result.is_err(), finish: Box::new(move |commit| then(commit.and(result))) }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        (self.then)(Err(error));
    }
}

/// Counts of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Jobs that ran.
    pub jobs: u64,
    /// Groups that were committed.
    pub commits: u64,
    /// Fsyncs of the file since it was last opened.
    pub syncs: u64,
    /// Times that the file was compacted.
    pub compactions: u64,
    /// Length of the file, bytes; 0 while it is closed after an error.
    pub file_bytes: u64,
    /// Keys and values in it, bytes.
    pub live_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Counts {
    jobs: AtomicU64,
    commits: AtomicU64,
    compactions: AtomicU64,
    live_bytes: AtomicI64,
}

impl Counts {
    pub(super) fn new(live_bytes: u64) -> Self {
        Self {
            jobs: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
            live_bytes: AtomicI64::new(i64::try_from(live_bytes).unwrap_or(i64::MAX)),
        }
    }

    fn live(&self) -> u64 {
        u64::try_from(self.live_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn stats(&self, disk: Option<&Arc<Disk>>) -> Stats {
        Stats {
            jobs: self.jobs.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            syncs: disk.map_or(0, |disk| disk.syncs()),
            compactions: self.compactions.load(Ordering::Relaxed),
            file_bytes: disk.map_or(0, |disk| disk.bytes()),
            live_bytes: self.live(),
        }
    }
}

/// Whether there is anything to commit to.
#[derive(Debug)]
enum Condition {
    Open,
    /// Closed after an error, to be opened again from this moment on.
    Closed {
        retry: Instant,
        error: StoreError,
    },
    /// A sync failed.
    Dead(String),
}

/// What is to be done once it is known that a commit happened: rooms must not miss what is in the file.
struct Unsettled {
    number: u64,
    written: Written,
    hooks: Vec<Box<dyn FnOnce() + Send>>,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    condition: Condition,
    /// Number of the last commit.
    number: u64,
    /// A commit of which it is not known whether it happened.
    unsettled: Option<Unsettled>,
    /// When the file was compacted last, and how long it was then.
    compacted: Option<(Instant, u64)>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Job>) -> Self {
        Self { shared, queue, condition: Condition::Open, number: 0, unsettled: None, compacted: None }
    }

    /// Until every sender is gone and the queue is empty; closes the file then.
    pub(super) fn run(mut self) {
        self.number = self.stored_number().unwrap_or(0);
        if let Err(error) = self.accept() {
            tracing::warn!(path = ?self.shared.path, %error, "the store can be read and not be written for now");
            self.condition = Condition::Closed { retry: Instant::now(), error };
        }
        self.maintain();
        while let Some(job) = self.queue.blocking_recv() {
            match self.ensure_open() {
                Ok(()) => self.group(job),
                Err(error) => job.refuse(error),
            }
            self.maintain();
        }
        // Readers that are left find no file; the database writes down where its free pages are, so that the next
        // start need not look for them.
        *self.shared.database.write() = None;
    }

    fn group(&mut self, first: Job) {
        let shared = Arc::clone(&self.shared);
        let database = shared.database.read();
        let Some(opened) = database.as_ref() else { return first.refuse(super::closed()) };
        let inner = match opened.database.begin_write() {
            Ok(inner) => inner,
            Err(error) => {
                first.refuse(error::transaction(error));
                drop(database);
                return self.fail(None, Vec::new());
            }
        };
        let mut finishes = Vec::new();
        let mut txn = Txn::new(&inner);
        let ran = self.run_jobs(first, &mut txn, &mut finishes);
        shared.counts.jobs.fetch_add(finishes.len() as u64, Ordering::Relaxed);
        let written = txn.written();
        if let ControlFlow::Break(error) = ran {
            drop(txn);
            // Rolled back in memory: nothing has reached the file. If even that fails, reopening repairs it.
            let _ = inner.abort();
            let broken = opened.disk.is_full() || opened.database.begin_write().and_then(|t| Ok(t.abort()?)).is_err();
            drop(database);
            if broken {
                self.fail(Some(error), finishes)
            } else {
                finish_all(finishes, &Err(error))
            }
            return;
        }
        if written.operations == 0 {
            let hooks = txn.into_hooks();
            let _ = inner.abort();
            drop(database);
            return answer(hooks, finishes);
        }
        let number = self.number.wrapping_add(1);
        if let Err(error) = txn.put(META, COMMIT_KEY, &number.to_be_bytes()) {
            drop(txn);
            let _ = inner.abort();
            drop(database);
            return self.fail(Some(error), finishes);
        }
        let hooks = txn.into_hooks();
        match inner.commit() {
            Ok(()) => {
                drop(database);
                self.committed(number, written);
                answer(hooks, finishes);
            }
            Err(error) => {
                let error = error.to_string();
                drop(database);
                self.failed_commit(number, written, &error, hooks, finishes);
            }
        }
    }

    /// Runs `first` and what waits behind it. `Break`: something went wrong, nothing of the group may be committed.
    fn run_jobs(&mut self, first: Job, txn: &mut Txn<'_>, finishes: &mut Vec<Finish>) -> ControlFlow<StoreError> {
        let mut next = Some(first);
        while let Some(job) = next {
            let before = txn.written().operations;
            let Ok(ran) = catch_unwind(AssertUnwindSafe(|| job.run(txn))) else {
                // Its answer went with it; the panic was reported when it happened.
                return ControlFlow::Break(unavailable("a job of the same group failed an internal check"));
            };
            finishes.push(ran.finish);
            if let Some(error) = txn.failure() {
                return ControlFlow::Break(error);
            }
            if ran.failed && txn.written().operations != before {
                return ControlFlow::Break(unavailable("a job of the same group failed half way"));
            }
            if finishes.len() >= GROUP_JOBS_MAX || txn.written().bytes >= GROUP_BYTES_MAX {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        ControlFlow::Continue(())
    }

    fn committed(&mut self, number: u64, written: Written) {
        self.number = number;
        self.shared.counts.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.counts.live_bytes.fetch_add(written.growth, Ordering::Relaxed);
    }

    /// A commit answered an error: it happened whole or not at all. The file knows which, unless a sync failed.
    fn failed_commit(
        &mut self,
        number: u64,
        written: Written,
        why: &str,
        hooks: Vec<Box<dyn FnOnce() + Send>>,
        finishes: Vec<Finish>,
    ) {
        let full = self.close();
        if let Condition::Dead(why) = &self.condition {
            let error = StoreError::OutcomeUnknown { store: NAME, why: why.clone() };
            return finish_all(finishes, &Err(error));
        }
        let nothing = if full { full_error(why) } else { unavailable(why) };
        self.condition = Condition::Closed { retry: Instant::now(), error: nothing.clone() };
        let writable = self.ensure_open().is_ok();
        match self.stored_number() {
            Some(stored) if stored == number && writable => {
                self.committed(number, written);
                answer(hooks, finishes);
            }
            // Also while the file can only be read: it will be what is read now.
            Some(stored) if stored != number => finish_all(finishes, &Err(nothing)),
            _ => {
                self.unsettled = Some(Unsettled { number, written, hooks });
                let error = StoreError::OutcomeUnknown { store: NAME, why: why.to_owned() };
                finish_all(finishes, &Err(error));
            }
        }
    }

    /// Nothing of this group was written, and the database must be opened again before the next.
    fn fail(&mut self, error: Option<StoreError>, finishes: Vec<Finish>) {
        let full = self.close();
        let error = match error {
            Some(StoreError::Corrupt { store, why }) => StoreError::Corrupt { store, why },
            Some(error) if full => full_error(&error.to_string()),
            Some(error) => error,
            None => unavailable("the file is closed after an error"),
        };
        if !matches!(self.condition, Condition::Dead(_)) {
            self.condition = Condition::Closed { retry: Instant::now(), error: error.clone() };
            // At once, for the readers. If it cannot be, the next job tries again.
            let _ = self.ensure_open();
        }
        finish_all(finishes, &Err(error));
    }

    /// Closes the file; answers whether the disk was full.
    fn close(&mut self) -> bool {
        let opened = self.shared.database.write().take();
        let Some(opened) = opened else { return false };
        let full = opened.disk.is_full();
        if opened.disk.sync_failed() {
            self.condition = Condition::Dead(format!(
                "a sync of {:?} failed, so what is on the disk is not known; look after the disk and start again",
                self.shared.path
            ));
        }
        full
    }

    fn ensure_open(&mut self) -> Result<(), StoreError> {
        let (retry, error) = match &self.condition {
            Condition::Open => return Ok(()),
            Condition::Dead(why) => return Err(unavailable(why)),
            Condition::Closed { retry, error } => (*retry, error.clone()),
        };
        let now = Instant::now();
        if now < retry {
            return Err(error);
        }
        let opened = self.reopen(&error).and_then(|()| self.accept());
        match &opened {
            Ok(()) => {
                self.condition = Condition::Open;
                self.settle();
            }
            Err(error) => self.condition = Condition::Closed { retry: now + REOPEN_PAUSE, error: error.clone() },
        }
        opened
    }

    /// Opens the file, at least for reading.
    fn reopen(&self, closed_by: &StoreError) -> Result<(), StoreError> {
        let mut database = self.shared.database.write();
        if database.is_some() {
            return Ok(());
        }
        let opened = open::open(&self.shared.path, &self.shared.options).map_err(|refused| match closed_by {
            StoreError::Full { .. } => full_error(&refused.to_string()),
            _ => unavailable(&refused.to_string()),
        })?;
        let live_bytes = i64::try_from(opened.live_bytes).unwrap_or(i64::MAX);
        self.shared.counts.live_bytes.store(live_bytes, Ordering::Relaxed);
        *database = Some(opened);
        Ok(())
    }

    /// Makes the open file writable, if it is not yet.
    fn accept(&self) -> Result<(), StoreError> {
        let database = self.shared.database.read();
        let opened = database.as_ref().ok_or_else(super::closed)?;
        opened.accept().map_err(|error| {
            if error::is_full(&error) { full_error(&error.to_string()) } else { unavailable(&error.to_string()) }
        })
    }

    /// Learns from the open file whether the last commit happened, if that was not known.
    fn settle(&mut self) {
        let Some(Unsettled { number, written, hooks }) = self.unsettled.take() else { return };
        if self.stored_number() == Some(number) {
            self.committed(number, written);
            answer(hooks, Vec::new());
        }
    }

    fn stored_number(&self) -> Option<u64> {
        let database = self.shared.database.read();
        database.as_ref().and_then(|opened| open::last_commit(&opened.database).ok())
    }

    /// Gives space back to the file system, when there is much of it and little to rewrite.
    fn maintain(&mut self) {
        if !matches!(self.condition, Condition::Open) {
            return;
        }
        let live = self.shared.counts.live();
        let is_due = self.compacted.is_none_or(|(at, _)| at.elapsed() >= COMPACT_PAUSE);
        if !is_due || live > COMPACT_LIVE_BYTES_MAX {
            return;
        }
        let mut database = self.shared.database.write();
        let Some(opened) = database.as_mut() else { return };
        let bytes = opened.disk.bytes();
        let before = self.compacted.map_or(0, |(_, left)| left);
        let has_doubled = bytes / 2 >= before;
        if bytes < COMPACT_BYTES_MIN || live > bytes / COMPACT_LIVE_PARTS || !has_doubled {
            return;
        }
        let compacted = opened.database.compact();
        self.compacted = Some((Instant::now(), opened.disk.bytes()));
        drop(database);
        match compacted {
            Ok(_) => {
                self.shared.counts.compactions.fetch_add(1, Ordering::Relaxed);
            }
            // A backup is being taken, which needs the pages as they are.
            Err(redb::CompactionError::TransactionInProgress) => self.compacted = Some((Instant::now(), before)),
            // It works in commits of its own, so what was committed stands; the next job opens the file again.
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(path = ?self.shared.path, error, "the store could not be compacted");
                self.fail(Some(unavailable(&error)), Vec::new());
            }
        }
    }
}

fn answer(hooks: Vec<Box<dyn FnOnce() + Send>>, finishes: Vec<Finish>) {
    for hook in hooks {
        hook();
    }
    finish_all(finishes, &Ok(()));
}

fn finish_all(finishes: Vec<Finish>, outcome: &Result<(), StoreError>) {
    for finish in finishes {
        finish(outcome.clone());
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable { store: NAME, why: why.to_owned() }
}

fn full_error(why: &str) -> StoreError {
    StoreError::Full { store: NAME, why: why.to_owned() }
}
