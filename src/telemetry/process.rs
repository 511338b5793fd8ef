//! What the system knows of this process, read when it is asked for. Only where there is a `/proc`; elsewhere it is left out.

use super::exposition::Exposition;
use super::table;

/// Writes what is known.
pub(super) fn tell(page: &mut Exposition) {
    if let Some(open) = open_files() {
        page.one(&table::OPEN_FDS, open as f64);
    }
    // No limit has no value.
    if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.one(&table::MAX_FDS, max as f64);
    }
    if let Some(bytes) = resident_bytes() {
        page.one(&table::RESIDENT, bytes as f64);
    }
}

fn open_files() -> Option<usize> {
    // Reading the directory opens one more.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_files_and_memory() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(open_files().unwrap() >= 1);
        assert!(resident_bytes().unwrap() > 1 << 20);
        drop(file);
    }
}
