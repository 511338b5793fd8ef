//! The file under the database: what redb reads, writes and syncs goes through here.
//!
//! Two reasons for a layer of our own. Opening may have to repair, that is to write, before it is known whether the file
//! is acceptable; those writes are *staged* in memory until [`Disk::accept`]. And redb reports the first failure of the
//! file once and "previous error" ever after, while the committer must know whether a *sync* failed, which is final.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

/// Unit of staging, bytes: redb's page.
const BLOCK: usize = 4096;

/// What happened to a file, shared with whoever has to judge a failure.
#[derive(Debug, Default)]
pub(super) struct Disk {
    syncs: AtomicU64,
    bytes: AtomicU64,
    sync_failed: AtomicBool,
    full: AtomicBool,
    staged: RwLock<Option<Staged>>,
    #[cfg(test)]
    pub(super) fault: fault::Fault,
}

/// Writes that have not reached the file.
#[derive(Debug, Default)]
struct Staged {
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
    len: u64,
    /// How much of the file still counts: the shortest it has been. Behind it there are zeros.
    kept: u64,
}

/// The file as redb sees it.
#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<File>,
    disk: Arc<Disk>,
}

impl Disk {
    /// `file`, and its record. `staged`: nothing reaches the file before [`Disk::accept`].
    pub(super) fn attach(file: &Arc<File>, staged: bool) -> io::Result<(Backend, Arc<Self>)> {
        let len = file.metadata()?.len();
        let disk = Arc::new(Self {
            bytes: AtomicU64::new(len),
            staged: RwLock::new(staged.then(|| Staged { blocks: BTreeMap::new(), len, kept: len })),
            ..Self::default()
        });
        Ok((Backend { file: Arc::clone(file), disk: Arc::clone(&disk) }, disk))
    }

    /// Writes what is staged to `file`; from now on writes go there directly.
    ///
    /// Safe at any moment of a crash: the first block holds the header, which alone says which pages count. Until it is
    /// replaced the file is what it was before (pages that the old header needs are not among those written, as redb
    /// never overwrites a page in use), and it needs the same repair again.
    pub(super) fn accept(&self, file: &File) -> io::Result<()> {
        let mut guard = self.staged.write();
        let Some(staged) = guard.as_ref() else { return Ok(()) };
        if staged.kept != file.metadata()?.len() {
            file.set_len(staged.kept)?;
        }
        if staged.len != staged.kept {
            file.set_len(staged.len)?;
        }
        let write = |index: u64, block: &[u8; BLOCK]| {
            let offset = index * BLOCK as u64;
            let end = usize::try_from(staged.len.saturating_sub(offset)).unwrap_or(BLOCK).min(BLOCK);
            file.write_all_at(&block[..end], offset)
        };
        for (index, block) in staged.blocks.range(1..) {
            write(*index, block)?;
        }
        file.sync_data()?;
        if let Some(header) = staged.blocks.get(&0) {
            write(0, header)?;
            file.sync_data()?;
        }
        *guard = None;
        Ok(())
    }

    /// True if a sync has failed: what the file holds is not known any more.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::SeqCst)
    }

    /// True if a write failed for lack of space.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Syncs so far.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Length of the file, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && super::error::is_full(error)
        {
            self.full.store(true, Ordering::SeqCst);
        }
        result
    }
}

impl Staged {
    fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let in_file = usize::try_from(self.kept.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        file.read_exact_at(&mut out[..in_file], offset)?;
        out[in_file..].fill(0);
        let end = offset + out.len() as u64;
        for (index, block) in self.blocks.range(offset / BLOCK as u64..end.div_ceil(BLOCK as u64)) {
            let start = index * BLOCK as u64;
            let from = start.max(offset);
            let to = (start + BLOCK as u64).min(end);
            // All four differences are below the lengths of `out` and of a block.
            let (out_from, out_to) = ((from - offset) as usize, (to - offset) as usize);
            out[out_from..out_to].copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        self.len = self.len.max(end);
        for index in offset / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            let start = index * BLOCK as u64;
            if !self.blocks.contains_key(&index) {
                let mut block = Box::new([0; BLOCK]);
                let known = usize::try_from(self.len.saturating_sub(start)).unwrap_or(BLOCK).min(BLOCK);
                self.read(file, start, &mut block[..known])?;
                self.blocks.insert(index, block);
            }
            let Some(block) = self.blocks.get_mut(&index) else { continue };
            let from = start.max(offset);
            let to = (start + BLOCK as u64).min(end);
            block[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.blocks.retain(|index, _| index * (BLOCK as u64) < len);
            if let Some(block) = self.blocks.get_mut(&(len / BLOCK as u64)) {
                block[(len % BLOCK as u64) as usize..].fill(0);
            }
        }
        self.len = len;
        self.kept = self.kept.min(len);
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match &*self.disk.staged.read() {
            Some(staged) => Ok(staged.len),
            None => Ok(self.file.metadata()?.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.disk.staged.read() {
            Some(staged) => staged.read(&self.file, offset, out),
            None => self.file.read_exact_at(out, offset),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(staged) = &mut *self.disk.staged.write() {
            staged.set_len(len);
        } else {
            self.disk.noted(self.file.set_len(len))?;
        }
        self.disk.bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.disk.staged.read().is_some() {
            return Ok(());
        }
        self.disk.syncs.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        let result = self.disk.fault.on_sync().and_then(|()| self.file.sync_data());
        #[cfg(not(test))]
        let result = self.file.sync_data();
        if result.is_err() {
            self.disk.sync_failed.store(true, Ordering::SeqCst);
        }
        self.disk.noted(result)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(staged) = &mut *self.disk.staged.write() {
            return staged.write(&self.file, offset, data);
        }
        #[cfg(test)]
        self.disk.noted(self.disk.fault.on_write())?;
        self.disk.noted(self.file.write_all_at(data, offset))
    }
}

/// Failures on demand, for the tests of the engine.
#[cfg(test)]
pub(super) mod fault {
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    #[derive(Debug)]
    pub(crate) struct Fault {
        /// Writes that still succeed before the disk is full; negative: no limit.
        pub(crate) writes_left: AtomicI64,
        /// Every sync fails.
        pub(crate) sync_fails: AtomicBool,
    }

    impl Default for Fault {
        fn default() -> Self {
            Self { writes_left: AtomicI64::new(-1), sync_fails: AtomicBool::new(false) }
        }
    }

    impl Fault {
        pub(super) fn on_write(&self) -> io::Result<()> {
            match self.writes_left.load(Ordering::SeqCst) {
                left if left < 0 => Ok(()),
                0 => Err(io::ErrorKind::StorageFull.into()),
                left => {
                    self.writes_left.store(left - 1, Ordering::SeqCst);
                    Ok(())
                }
            }
        }

        pub(super) fn on_sync(&self) -> io::Result<()> {
            if self.sync_fails.load(Ordering::SeqCst) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        }
    }
}
