//! What can be seen without a server: configuration, data directory, limits of processes.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::super::config::Given;
use super::super::span;
use super::Check;
use crate::config;

/// Free space below which a server may soon refuse sends, bytes.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// A sync that takes longer bounds the sends a server can answer.
const SYNC_SLOW: Duration = Duration::from_millis(50);

/// Open files below which workers may be refused: each is a connection.
const OPEN_FILES_MIN: u64 = 1_024;

/// The bytes written for a sync: a page, as a small commit writes.
const PROBE: [u8; 4_096] = [0; 4_096];

pub(super) fn look(given: &Given) -> Vec<Check> {
    let mut checks = Vec::new();
    let loaded = config::load(&given.clone().sources());
    match loaded.and_then(|loaded| loaded.stores().map(|stores| (loaded, stores))) {
        Err(error) => checks.push(Check::fail(
            "configuration",
            error.to_string(),
            "no server starts with it; `lineshaft config check` looks at nothing else",
        )),
        Ok((loaded, stores)) => {
            checks.extend(loaded.warnings.iter().map(|warning| Check::warn("configuration", warning, "")));
            if loaded.warnings.is_empty() {
                checks.push(Check::ok("configuration", "good"));
            }
            stores.directories().into_iter().for_each(|dir| checks.extend(directory(dir)));
        }
    }
    checks.push(open_files());
    checks
}

fn directory(dir: &Path) -> Vec<Check> {
    const NAME: &str = "data directory";
    if !dir.exists() {
        return vec![Check::ok(NAME, format!("{dir:?} is not there; a server makes it"))];
    }
    let mut checks = vec![match sync(dir) {
        Err(error) => {
            let advice = "make it a directory that the user of the server can write";
            Check::fail(NAME, format!("{dir:?} cannot be written: {error}"), advice)
        }
        Ok(took) if took > SYNC_SLOW => {
            let advice = "a send is answered after a sync; use a faster disk";
            Check::warn(NAME, format!("a sync in {dir:?} takes {}", span::human(took)), advice)
        }
        Ok(took) => Check::ok(NAME, format!("{dir:?} can be written; a sync takes {}", span::human(took))),
    }];
    if let Ok(space) = rustix::fs::statvfs(dir) {
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let found = format!("{} MiB are free", free >> 20);
        checks.push(if free < FREE_BYTES_MIN {
            Check::warn("disk", found, "without space sends are refused with STORE_FULL; make room")
        } else {
            Check::ok("disk", found)
        });
    }
    checks
}

/// How long a sync takes, of a file that is there only for it.
fn sync(dir: &Path) -> std::io::Result<Duration> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let begun = Instant::now();
    let synced = file.write_all(&PROBE).and_then(|()| file.sync_all());
    let took = begun.elapsed();
    std::fs::remove_file(&path)?;
    synced.map(|()| took)
}

fn open_files() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => {
            let advice = "each connection is one; raise it with `ulimit -n` where the server is started";
            Check::warn("open files", format!("{limit} at most"), advice)
        }
        Some(limit) => Check::ok("open files", format!("{limit} at most")),
        None => Check::ok("open files", "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert!(directory(dir.path()).iter().all(|check| check.level != Level::Fail));
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_directory_fails() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(directory(file.path())[0].level, Level::Fail);
    }
}
