//! `restore`: a data directory made of a backup. Needs no server, and none may use the directory.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use crate::clock::SystemClock;
use crate::server;

use super::progress::{Progress, Unit};
use super::{Exit, Failure, output};

/// Read in one go from a backup, bytes.
const READ_BYTES: usize = 1 << 20;

/// Make a data directory from a backup; then start a server on it with `lineshaft serve --data-dir DIR`.
///
/// Stop the server whose place it takes first: what that one does after the backup is not in it, so tasks that ended since
/// run again.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The file that `lineshaft backup` wrote.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The directory, empty or not there yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Print JSON, one object a line, for programs. Errors become an object on stderr.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command: 0 for a directory that is ready, 6 for none; what was in it before is then untouched.
    pub fn run(&self) -> Exit {
        output::finish(self.make(), self.json)
    }

    fn make(&self) -> Result<Exit, Failure> {
        let file = File::open(&self.from)
            .map_err(|error| Failure::new(Exit::Other, format!("{:?} cannot be read: {error}", self.from)))?;
        // Of what is no file, as a pipe, no length is known.
        let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        let progress = Progress::begin("restoring", Unit::Bytes, total, self.json);
        let watched = Watched { file, done: 0, progress };
        let mut from = BufReader::with_capacity(READ_BYTES, watched);
        let records = server::restore(&mut from, &self.data_dir, &SystemClock)
            .map_err(|error| Failure::new(Exit::Other, error.to_string()));
        // The bar goes before the answer comes.
        drop(from);
        let records = records?;
        if self.json {
            let dir = self.data_dir.to_string_lossy().into();
            let told = output::object([("data_dir", dir), ("records", records.into())]);
            output::line(&told.to_string())?;
        } else {
            output::line(&format!("{records} records in {:?}", self.data_dir))?;
        }
        Ok(Exit::Ok)
    }
}

/// A file that tells how far it is read.
#[derive(Debug)]
struct Watched {
    file: File,
    done: u64,
    progress: Progress,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done = self.done.saturating_add(count as u64);
        if count > 0 {
            self.progress.show(self.done);
        }
        Ok(count)
    }
}
