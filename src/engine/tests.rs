//! Tests of the engine as a whole.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;

const T: Table = Table::new("test");
const ALL: Range<'static> = (Bound::Unbounded, Bound::Unbounded);

fn open(directory: &Path) -> Engine {
    Engine::open(directory, Options::default()).unwrap()
}

fn all(engine: &Engine) -> Vec<(Bytes, Bytes)> {
    engine.read(|records| records.scan(T, ALL, Direction::Forward, usize::MAX)).unwrap()
}

fn put(key: u32, value: &'static [u8]) -> impl FnOnce(&mut Txn<'_>) -> Result<(), StoreError> + Send + 'static {
    move |txn| txn.put(T, &key.to_be_bytes(), value)
}

fn fault(engine: &Engine, set: impl FnOnce(&disk::fault::Fault)) {
    set(&engine.0.shared.database.read().as_ref().unwrap().disk.fault);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for key in 0..10 {
        engine.write(put(key, b"value")).await.unwrap();
    }
    assert!(engine.write(|txn| txn.delete(T, &3u32.to_be_bytes())).await.unwrap());
    assert!(!engine.write(|txn| txn.delete(T, &3u32.to_be_bytes())).await.unwrap());
    let before = all(&engine);
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(all(&engine), before);
    assert_eq!(before.len(), 9);
    let backward = engine.read(|r| r.scan(T, ALL, Direction::Backward, 2)).unwrap();
    assert_eq!(backward.iter().map(|(k, _)| k[3]).collect::<Vec<_>>(), [9, 8]);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for key in 0..10 {
        engine.write(put(key, b"value")).await.unwrap();
    }
    // The file as a crash would leave it: never closed.
    let after = tempfile::tempdir().unwrap();
    std::fs::copy(engine.path(), after.path().join(directory::FILE)).unwrap();
    assert_eq!(all(&open(after.path())), all(&engine));
}

#[tokio::test]
async fn jobs_that_wait_together_are_committed_together_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    // Holds the committer until all jobs wait.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let order = Arc::new(Mutex::new(Vec::new()));
    engine.enqueue(move |_| Ok(released.recv().is_ok()), |_| ()).unwrap();
    let before = engine.stats();
    let mut answers = Vec::new();
    for key in 0..1000u32 {
        let order = Arc::clone(&order);
        let engine = engine.clone();
        let job = move |txn: &mut Txn<'_>| {
            // Each sees what the one before it has written.
            let seen = key == 0 || txn.get(T, &(key - 1).to_be_bytes())?.is_some();
            txn.put(T, &key.to_be_bytes(), b"v")?;
            txn.on_commit(move || order.lock().push(key));
            Ok(seen)
        };
        answers.push(tokio::spawn(async move { engine.write(job).await }));
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    for answer in answers {
        assert!(answer.await.unwrap().unwrap());
    }
    let after = engine.stats();
    let commits = after.commits - before.commits;
    assert!(commits <= 2, "{commits} commits for 1,000 jobs");
    assert!(after.syncs - before.syncs <= 2 * commits, "{} syncs", after.syncs - before.syncs);
    assert_eq!(*order.lock(), (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_job_that_fails_after_it_wrote_undoes_its_group_and_one_that_only_looked_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let hooks = Arc::new(AtomicUsize::new(0));
    let group = |fails_half_way: bool| {
        let (release, released) = std::sync::mpsc::channel::<()>();
        engine.enqueue(move |_| Ok(released.recv().is_ok()), |_| ()).unwrap();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let hooks = Arc::clone(&hooks);
        let tell = Arc::clone(&answers);
        engine
            .enqueue(
                move |txn| {
                    txn.on_commit(move || {
                        hooks.fetch_add(1, Ordering::SeqCst);
                    });
                    txn.put(T, b"good", b"v")
                },
                move |result| tell.lock().push(result),
            )
            .unwrap();
        let tell = Arc::clone(&answers);
        engine
            .enqueue(
                move |txn| {
                    if fails_half_way {
                        txn.put(T, b"bad", b"v")?;
                    }
                    Err::<(), _>(StoreError::Stale)
                },
                move |result| tell.lock().push(result),
            )
            .unwrap();
        release.send(()).unwrap();
        answers
    };
    let answers = group(true);
    engine.write(|_| Ok(())).await.unwrap();
    assert!(all(&engine).is_empty());
    assert!(answers.lock().iter().all(|a| matches!(a, Err(StoreError::Unavailable { .. }))), "{answers:?}");
    assert_eq!(hooks.load(Ordering::SeqCst), 0);
    let answers = group(false);
    engine.write(|_| Ok(())).await.unwrap();
    assert_eq!(*answers.lock(), [Ok(()), Err(StoreError::Stale)]);
    assert_eq!(hooks.load(Ordering::SeqCst), 1);
    assert_eq!(all(&engine).len(), 1);
}

#[tokio::test]
async fn a_panic_in_a_job_undoes_its_group_and_the_engine_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let failed = engine
        .write(|txn| -> Result<(), _> {
            txn.put(T, b"k", b"v")?;
            panic!("on purpose")
        })
        .await;
    assert!(failed.is_err());
    engine.write(put(1, b"v")).await.unwrap();
    assert_eq!(all(&engine).len(), 1);
}

#[tokio::test]
async fn a_dropped_writer_does_not_take_its_job_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let committed = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&committed);
    {
        let write = engine.write(move |txn| {
            txn.on_commit(move || hook.store(true, Ordering::SeqCst));
            txn.put(T, b"k", b"v")
        });
        tokio::pin!(write);
        let _ = futures::poll!(&mut write);
    }
    engine.write(|_| Ok(())).await.unwrap();
    assert!(committed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let refused = Engine::open(dir.path(), Options::default()).unwrap_err();
    let OpenError::InUse { path, pid } = &refused else { panic!("{refused:?}") };
    assert_eq!((path.as_path(), *pid), (dir.path(), Some(std::process::id())));
    assert!(refused.to_string().contains(&std::process::id().to_string()));
    drop(engine);
    open(dir.path());
}

#[tokio::test]
async fn a_newer_format_is_refused_by_number_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.write(|txn| txn.put(open::META, b"format", &9u32.to_be_bytes())).await.unwrap();
    let path = engine.path().to_owned();
    // Closed in order, and as a crash leaves it.
    let crashed = std::fs::read(&path).unwrap();
    drop(engine);
    let closed = std::fs::read(&path).unwrap();
    for content in [closed, crashed] {
        std::fs::write(&path, &content).unwrap();
        let refused = Engine::open(dir.path(), Options::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Newer { found: 9, supported: FORMAT, .. }), "{refused:?}");
        assert!(refused.to_string().contains("format 9") && refused.to_string().contains("up to 1"), "{refused}");
        assert!(std::fs::read(&path).unwrap() == content, "the file was changed");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for key in 0..2000 {
        engine.enqueue(put(key, &[7; 200]), |_| ()).unwrap();
    }
    engine.write(|_| Ok(())).await.unwrap();
    engine.write(put(5000, b"later")).await.unwrap();
    let path = engine.path().to_owned();
    let crashed = std::fs::read(&path).unwrap();
    drop(engine);
    let closed = std::fs::read(&path).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("text".to_owned(), b"this is no database at all".to_vec()),
        ("zeros".to_owned(), vec![0; 100_000]),
        ("half".to_owned(), closed[..closed.len() / 2].to_vec()),
    ];
    for (name, whole) in [("closed", closed), ("crashed", crashed)] {
        // A stretch of the values is overwritten.
        let at = whole.windows(400).position(|w| w.iter().filter(|b| **b == 7).count() > 350).unwrap();
        let mut broken = whole;
        broken[at..at + 64].fill(0xA5);
        cases.push((name.to_owned(), broken));
    }
    for (name, content) in cases {
        std::fs::write(&path, &content).unwrap();
        let refused = Engine::open(dir.path(), Options::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{name}: {refused:?}");
        let text = refused.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("backup"), "{text}");
        assert!(std::fs::read(&path).unwrap() == content, "{name}: the file was changed");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_once_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.write(put(1, b"before")).await.unwrap();
    fault(&engine, |fault| fault.writes_left.store(2, Ordering::SeqCst));
    let refused = engine.write(put(2, &[1; 100_000])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
    // The fault went with the file that was closed: there is space again.
    engine.write(put(3, b"after")).await.unwrap();
    assert_eq!(all(&engine).iter().map(|(k, _)| k[3]).collect::<Vec<_>>(), [1, 3]);
    drop(engine);
    assert_eq!(all(&open(dir.path())).len(), 2);
}

#[tokio::test]
async fn wherever_the_disk_fills_up_a_job_is_written_whole_and_answered_or_refused_and_not_there() {
    // The first cache is large enough for the job, the second is not, so that writes fail before the commit as well.
    for cache_bytes in [64 << 20, 64 << 10] {
        let (mut refused, mut written) = (0, 0);
        for writes in (0..60).step_by(3) {
            let dir = tempfile::tempdir().unwrap();
            let engine = Engine::open(dir.path(), Options { cache_bytes }).unwrap();
            engine.write(put(1, b"before")).await.unwrap();
            fault(&engine, |fault| fault.writes_left.store(writes, Ordering::SeqCst));
            let job = |txn: &mut Txn<'_>| {
                for key in 2..12u32 {
                    txn.put(T, &key.to_be_bytes(), &[1; 20_000])?;
                }
                Ok(())
            };
            let answer = engine.write(job).await;
            let expected = match answer {
                Ok(()) => 11,
                Err(StoreError::Full { .. }) => 1,
                Err(other) => panic!("after {writes} writes: {other:?}"),
            };
            *if answer.is_ok() { &mut written } else { &mut refused } += 1;
            assert_eq!(all(&engine).len(), expected, "after {writes} writes");
            fault(&engine, |fault| fault.writes_left.store(-1, Ordering::SeqCst));
            engine.write(put(99, b"after")).await.unwrap();
            drop(engine);
            assert_eq!(all(&open(dir.path())).len(), expected + 1, "after {writes} writes");
        }
        assert!(refused > 5 && written > 5, "{refused} refused, {written} written");
    }
}

#[tokio::test]
async fn a_failed_sync_is_final_and_its_outcome_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.write(put(1, b"before")).await.unwrap();
    fault(&engine, |fault| fault.sync_fails.store(true, Ordering::SeqCst));
    let unknown = engine.write(put(2, b"v")).await.unwrap_err();
    assert!(matches!(unknown, StoreError::OutcomeUnknown { .. }), "{unknown:?}");
    let refused = engine.write(put(3, b"v")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    assert!(engine.read(|r| r.get(T, b"k")).is_err());
    drop(engine);
    let keys: Vec<u8> = all(&open(dir.path())).iter().map(|(k, _)| k[3]).collect();
    assert!(keys == [1] || keys == [1, 2], "{keys:?}");
}

#[tokio::test]
async fn space_is_given_back_when_the_store_has_become_mostly_empty() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for group in 0..8u32 {
        let fill = move |txn: &mut Txn<'_>| {
            for key in 0..100 {
                txn.put(T, &(group * 100 + key).to_be_bytes(), &[1; 100_000])?;
            }
            Ok(())
        };
        engine.write(fill).await.unwrap();
    }
    let full = engine.stats();
    assert!(full.file_bytes > 80_000_000 && full.live_bytes >= 80_000_000, "{full:?}");
    engine
        .write(|txn| {
            for key in 0..799u32 {
                txn.delete(T, &key.to_be_bytes())?;
            }
            Ok(())
        })
        .await
        .unwrap();
    // It is done before the next job is taken.
    engine.write(put(1000, b"v")).await.unwrap();
    engine.write(put(1001, b"v")).await.unwrap();
    let empty = engine.stats();
    println!("full: {full:?}\nempty: {empty:?}");
    assert!(empty.file_bytes < 8 << 20, "{empty:?}");
    assert_eq!(all(&engine).len(), 3);
}
