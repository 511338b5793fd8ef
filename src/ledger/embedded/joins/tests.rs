//! What only this room has to show of joins; the rest is in the conformance suite.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::layout::ALL;
use super::layout::{DUE, FORGET, HEADS, MEMBERS, OUTCOMES, PLACES, PROGRESS, UNFINISHED, WASTE, WASTE_OUTCOMES};
use super::open::PIECE_MAX;
use super::*;
use crate::clock::SystemClock;
use crate::engine::{self, Direction, Engine, Records, Table};
use crate::ledger::join::{Head, Kind, Stage};
use crate::task::MessageKey;

fn open(directory: &std::path::Path) -> (Engine, Ledger) {
    let engine = Engine::open(directory, engine::Options::default()).unwrap();
    let ledger = Ledger::open(engine.clone(), Arc::new(SystemClock)).unwrap();
    (engine, ledger)
}

fn group(id: &str) -> GroupId {
    GroupId::trusted(id)
}

fn opening(id: &str, count: usize) -> Opening {
    let head = Head {
        id: group(id),
        kind: Kind::Group,
        generation: 1,
        message: MessageKey::trusted("m"),
        digest: [0; 32],
        count: count as u32,
        callback: None,
        at: WallTime(0),
        is_shared: false,
        keep: Duration::ZERO,
    };
    let members = (0..count).map(|n| TaskId::trusted(format!("t{n}"))).collect();
    Opening { head, members, is_sending: false, look_at: WallTime(9) }
}

fn ended(id: &str, n: usize) -> Ended {
    let outcome = Bytes::from_static(b"outcome");
    Ended { group: group(id), task: TaskId::trusted(format!("t{n}")), is_failure: false, outcome }
}

fn count(engine: &Engine, table: Table) -> usize {
    engine.read(|records| records.scan(table, ALL, Direction::Forward, usize::MAX)).unwrap().len()
}

async fn swept(ledger: &Ledger, now: u64) -> usize {
    crate::ledger::Ledger::sweep(ledger, WallTime(now)).await.unwrap()
}

async fn sweep(ledger: &Ledger) {
    while swept(ledger, 1).await > 0 {}
}

/// Nothing of any join is left.
fn is_empty(engine: &Engine) -> bool {
    let all = [HEADS, PROGRESS, DUE, FORGET, MEMBERS, PLACES, OUTCOMES, UNFINISHED, WASTE, WASTE_OUTCOMES];
    all.iter().all(|table| count(engine, *table) == 0)
}

#[tokio::test]
async fn a_large_join_is_opened_in_pieces_and_appears_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(dir.path());
    let many = 3 * PIECE_MAX + 1;
    let before = engine.stats().jobs;
    let asked = opening("g", many);
    let opening = Joins::open(&ledger, std::slice::from_ref(&asked));
    let looking = async {
        // Whatever is seen of it is all of it.
        loop {
            if ledger.standing(&[group("g")]).await.unwrap()[0].is_some() {
                return count(&engine, MEMBERS);
            }
            tokio::task::yield_now().await;
        }
    };
    let (opened, seen) = tokio::join!(opening, looking);
    assert_eq!(opened.unwrap(), [Opened::New]);
    assert_eq!(seen, many);
    assert_eq!(engine.stats().jobs - before, 2 + 4);
    assert_eq!(count(&engine, UNFINISHED), 0);
    assert_eq!(ledger.missing(&group("g"), many as u32 - 1, 9).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn an_opening_that_nobody_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(dir.path());
    let asked = opening("g", 3 * PIECE_MAX);
    {
        let mut opening = Joins::open(&ledger, std::slice::from_ref(&asked));
        // Up to the second piece; then whoever asked goes away.
        while count(&engine, MEMBERS) == 0 {
            assert!(futures::poll!(&mut opening).is_pending());
            tokio::task::yield_now().await;
        }
        let before = count(&engine, MEMBERS);
        sweep(&ledger).await;
        assert!(count(&engine, MEMBERS) >= before, "it is under way, and nothing of it is swept");
    }
    // Behind the jobs that are still queued.
    sweep(&ledger).await;
    assert!(is_empty(&engine));
    assert_eq!(Joins::open(&ledger, &[asked]).await.unwrap(), [Opened::New]);
}

#[tokio::test]
async fn of_two_that_open_a_large_join_one_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(dir.path());
    let asked = [opening("g", 2 * PIECE_MAX)];
    let (one, other) = tokio::join!(Joins::open(&ledger, &asked), Joins::open(&ledger, &asked));
    let is_new = [one.unwrap().remove(0), other.unwrap().remove(0)].map(|opened| opened == Opened::New);
    assert_ne!(is_new[0], is_new[1]);
    sweep(&ledger).await;
    assert_eq!((count(&engine, MEMBERS), count(&engine, PLACES)), (2 * PIECE_MAX, 2 * PIECE_MAX));
    ledger.forget(&[group("g")]).await.unwrap();
    sweep(&ledger).await;
    assert!(is_empty(&engine));
}

#[tokio::test]
async fn what_a_process_left_unfinished_is_removed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(dir.path());
    let left = |txn: &mut engine::Txn<'_>| {
        let serial = layout::new_serial(txn)?;
        txn.put(UNFINISHED, &serial.to_be_bytes(), &[])?;
        txn.put(MEMBERS, &layout::place_key(serial, 0), b"t0")?;
        txn.put(PLACES, &layout::task_key(serial, &TaskId::trusted("t0")), &0_u32.to_be_bytes())
    };
    engine.write(left).await.unwrap();
    drop((engine, ledger));
    let (engine, ledger) = open(dir.path());
    assert_eq!(Joins::open(&ledger, &[opening("g", 1)]).await.unwrap(), [Opened::New]);
    sweep(&ledger).await;
    assert_eq!((count(&engine, MEMBERS), count(&engine, PLACES), count(&engine, UNFINISHED)), (1, 1, 0));
}

#[tokio::test]
async fn a_member_that_ends_costs_the_same_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(dir.path());
    let asked = [opening("small", 10), opening("large", 10 * PIECE_MAX)];
    assert_eq!(Joins::open(&ledger, &asked).await.unwrap(), [Opened::New, Opened::New]);
    let mut grown = Vec::new();
    for id in ["small", "large"] {
        ledger.add(&[ended(id, 1)]).await.unwrap();
        let before = engine.stats();
        ledger.add(&[ended(id, 2), ended(id, 3)]).await.unwrap();
        let after = engine.stats();
        assert_eq!(after.jobs - before.jobs, 1);
        grown.push(after.live_bytes - before.live_bytes);
    }
    assert_eq!(grown[0], grown[1], "bytes");
    // Two outcomes; how far it is stands where it stood.
    assert_eq!(grown[0], 2 * (12 + 1 + 7));
}

#[tokio::test]
async fn a_closed_join_loses_its_outcomes_then_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(dir.path());
    let mut asked = opening("g", 5_000);
    asked.head.keep = Duration::from_nanos(1);
    Joins::open(&ledger, &[asked]).await.unwrap();
    let all: Vec<Ended> = (0..5_000).map(|n| ended("g", n)).collect();
    ledger.add(&all).await.unwrap();
    ledger.close(&[group("g")], WallTime(0)).await.unwrap();
    assert_eq!(swept(&ledger, 0).await, 0);
    assert_eq!((count(&engine, OUTCOMES), count(&engine, MEMBERS)), (0, 5_000));
    let standing = ledger.standing(&[group("g")]).await.unwrap().remove(0).unwrap();
    assert_eq!((standing.stage, standing.ended), (Stage::Closed, 5_000));
    assert_eq!(swept(&ledger, 1).await, 1);
    assert_eq!(swept(&ledger, 1).await, 0);
    assert!(is_empty(&engine));
}
