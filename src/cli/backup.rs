//! `backup`: a copy of a running server's store, in a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lineshaft_client::proto;

use super::progress::{Progress, Unit};
use super::{Exit, Failure, Remote, exit, output};

/// Copy the store of a running server into a file, as it is at this moment; the server goes on meanwhile.
///
/// The file holds tasks and results as they are: only its owner can read it. `lineshaft restore` makes a data directory
/// of it.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// The file to write, which must not exist yet. It appears under this name once it is complete.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.copy().await, json)
    }

    async fn copy(self) -> Result<Exit, Failure> {
        if self.to.symlink_metadata().is_ok() {
            return Err(Failure::usage(format!("{:?} exists; a backup replaces nothing", self.to)));
        }
        let draft = draft(&self.to)?;
        let connection = self.remote.connect().await?;
        let mut answer = connection.server().backup(proto::BackupRequest {}).await?.into_inner();
        let mut file = Draft::make(draft)?;
        let mut bytes = 0u64;
        let mut progress = Progress::begin("copying", Unit::Bytes, None, self.remote.json);
        while let Some(message) = answer.message().await? {
            file.write(&message.data)?;
            bytes += message.data.len() as u64;
            progress.show(bytes);
        }
        drop(progress);
        file.finish(&self.to)?;
        if self.remote.json {
            let told = output::object([("file", self.to.to_string_lossy().into()), ("bytes", bytes.into())]);
            output::line(&told.to_string())?;
        } else {
            output::line(&format!("{bytes} bytes in {:?}", self.to))?;
        }
        Ok(Exit::Ok)
    }
}

/// Where the bytes go until all are there: beside the file, so that it can be renamed.
fn draft(to: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = to.file_name() else {
        return Err(Failure::usage(format!("{to:?} is not the name of a file")));
    };
    let mut name = name.to_owned();
    name.push(".part");
    Ok(to.with_file_name(name))
}

/// The name of the draft, gone when this is dropped: finished, the bytes have another one.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn make(path: PathBuf) -> Result<Self, Failure> {
        // Of a backup that was interrupted nothing is worth keeping.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed(&path, &error))?;
        Ok(Self { path, file })
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.file.write_all(data).map_err(|error| failed(&self.path, &error))
    }

    /// Gives it its name once its bytes are on the disk. A file that has come to be there meanwhile stays.
    fn finish(self, to: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| failed(&self.path, &error))?;
        std::fs::hard_link(&self.path, to).map_err(|error| failed(to, &error))?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))?;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed is named as a part, and replaced by the next try.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Other, format!("{path:?} cannot be written: {error}"))
}
