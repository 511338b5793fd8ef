//! Backups of an engine in use, and what is made of them.

use std::path::Path;

use super::*;
use crate::engine::{Direction, Options, Records, Table};

const ONE: Table = Table::new("one");
const TWO: Table = Table::new("two");

fn open(directory: &Path) -> Engine {
    Engine::open(directory, Options::default()).unwrap()
}

fn drained(mut backup: Backup) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next_piece().unwrap() {
        assert!(piece.len() < 2 * PIECE_BYTES, "{}", piece.len());
        bytes.extend_from_slice(&piece);
    }
    bytes
}

fn restored(bytes: &[u8], directory: &Path) -> Result<Restored, RestoreError> {
    restore(&mut &bytes[..], directory, |txn| txn.put(TWO, b"restored", b"yes"))
}

async fn fill(engine: &Engine, from: u32, to: u32) {
    let write = move |txn: &mut crate::engine::Txn<'_>| {
        (from..to).try_for_each(|key| txn.put(ONE, &key.to_be_bytes(), &[1; 1000]))
    };
    engine.write(write).await.unwrap();
}

fn keys(engine: &Engine, table: Table) -> usize {
    let all = (Bound::Unbounded, Bound::Unbounded);
    engine.read(|records| records.scan(table, all, Direction::Forward, usize::MAX)).unwrap().len()
}

#[tokio::test]
async fn a_backup_is_of_one_moment_whatever_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    fill(&engine, 0, 2000).await;
    engine.write(|txn| txn.put(TWO, b"k", b"v")).await.unwrap();
    let mut backup = engine.backup(WallTime(5_000_000)).unwrap();
    let first = backup.next_piece().unwrap().unwrap();
    // Behind what was read already, and before it.
    fill(&engine, 2000, 3000).await;
    engine.write(|txn| (0..2000u32).try_for_each(|key| txn.delete(ONE, &key.to_be_bytes()).map(drop))).await.unwrap();
    let bytes = [first.to_vec(), drained(backup)].concat();
    let into = tempfile::tempdir().unwrap();
    let told = restored(&bytes, &into.path().join("new")).unwrap();
    // With the two records that the engine keeps of itself.
    assert_eq!(told, Restored { taken_at: 5, records: 2003 });
    let copy = open(&into.path().join("new"));
    assert_eq!((keys(&copy, ONE), keys(&copy, TWO)), (2000, 2));
    assert_eq!((keys(&engine, ONE), keys(&engine, TWO)), (1000, 1));
    // It is a store like any other.
    fill(&copy, 5000, 5001).await;
    drop(copy);
    assert_eq!(keys(&open(&into.path().join("new")), ONE), 2001);
}

#[tokio::test]
async fn a_directory_in_use_is_not_restored_into() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    fill(&engine, 0, 10).await;
    let bytes = drained(engine.backup(WallTime(0)).unwrap());
    let before = std::fs::read(engine.path()).unwrap();
    for _ in 0..2 {
        assert!(matches!(restored(&bytes, dir.path()), Err(RestoreError::NotEmpty { .. })));
    }
    assert!(before == std::fs::read(engine.path()).unwrap());
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("letter.txt"), b"dear").unwrap();
    let text = restored(&bytes, other.path()).unwrap_err().to_string();
    assert!(text.contains("letter.txt"), "{text}");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_backup_that_is_not_whole_leaves_no_store_behind() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    fill(&engine, 0, 1000).await;
    let bytes = drained(engine.backup(WallTime(0)).unwrap());
    let into = tempfile::tempdir().unwrap();
    let mut changed = bytes.clone();
    changed[500_000] ^= 1;
    for bad in [&bytes[..bytes.len() - 1], &bytes[..500_000], &changed, b"", b"something else entirely"] {
        assert!(matches!(restored(bad, into.path()), Err(RestoreError::Damaged { .. })));
        assert!(!into.path().join("lineshaft.redb").exists());
    }
    let mut newer = bytes.clone();
    newer[19] = 9;
    assert!(matches!(restored(&newer, into.path()), Err(RestoreError::Newer { what: "version", found: 9, .. })));
    // What failed is in nobody's way.
    restored(&bytes, into.path()).unwrap();
    assert_eq!(keys(&open(into.path()), ONE), 1000);
}

#[tokio::test]
async fn a_backup_does_not_go_on_over_a_file_that_was_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    fill(&engine, 0, 2000).await;
    let mut backup = engine.backup(WallTime(0)).unwrap();
    backup.next_piece().unwrap().unwrap();
    let database = &engine.0.shared.database;
    database.read().as_ref().unwrap().disk.fault.writes_left.store(0, std::sync::atomic::Ordering::SeqCst);
    engine.write(|txn| txn.put(ONE, b"k", b"v")).await.unwrap_err();
    assert!(matches!(backup.next_piece(), Err(StoreError::Unavailable { .. })));
    drop(backup);
    assert_eq!(keys(&engine, ONE), 2000);
    fill(&engine, 2000, 2001).await;
    assert_eq!(keys(&engine, ONE), 2001);
}
