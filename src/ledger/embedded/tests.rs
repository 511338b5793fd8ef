//! What only this room has to show; the rest is in the conformance suite.

use std::sync::Arc;
use std::time::Duration;

use super::layout::{ATTEMPTS, SESSIONS, UNDONE};
use super::*;
use crate::clock::SystemClock;
use crate::ledger::{Effects, Ledger as _};
use crate::task::{QueueName, TaskId, TaskName};

fn open(directory: &std::path::Path) -> (Engine, Ledger) {
    let engine = Engine::open(directory, engine::Options::default()).unwrap();
    let ledger = Ledger::open(engine.clone(), Arc::new(SystemClock)).unwrap();
    (engine, ledger)
}

fn session(id: &str) -> Session {
    Session {
        id: SessionId::trusted(id),
        secret_hash: [1; 32],
        worker: "w".into(),
        language: String::new(),
        version: String::new(),
        subscriptions: Vec::new(),
        concurrency: 1,
        attach: 1,
    }
}

fn grant(message: &str) -> Grant {
    Grant {
        message: MessageKey::trusted(message),
        task: TaskId::trusted("t"),
        name: TaskName::trusted("n"),
        queue: QueueName::trusted("q"),
        session: SessionId::trusted("s"),
        attach: 0,
        worker: "w".into(),
        request_id: None,
        attempts_before: 0,
        generation: 0,
        at: WallTime(0),
        body: None,
    }
}

fn decision(lease: &Lease) -> Decision {
    Decision {
        lease: lease.id.clone(),
        report: None,
        digest: [0; 32],
        at: WallTime(5),
        effects: Effects::default(),
        dead: None,
        keep: Duration::ZERO,
        begins: Vec::new(),
        ends: None,
        opens: Vec::new(),
    }
}

async fn lease(ledger: &Ledger, message: &str) -> Lease {
    match ledger.begin(&[grant(message)]).await.unwrap().remove(0) {
        Begun::Run(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_keeps_nobody_else_from_writing() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(directory.path());
    ledger.attach(&session("s")).await.unwrap();
    engine.write(|txn| txn.put(ATTEMPTS, b"bad", b"\xff\xff")).await.unwrap();

    // In one batch with the bad one nothing is granted, and nothing is half granted.
    let both = ledger.begin(&[grant("good"), grant("bad")]).await;
    assert!(matches!(both, Err(StoreError::Corrupt { .. })), "{both:?}");
    assert_eq!(ledger.standing(&[MessageKey::trusted("good")]).await, Ok(vec![Standing::Open]));

    // In one group with the bad one everybody else's work is done.
    let (bad, good) = ([grant("bad")], [grant("good")]);
    let (bad, good) = tokio::join!(ledger.begin(&bad), ledger.begin(&good));
    assert!(matches!(bad, Err(StoreError::Corrupt { .. })), "{bad:?}");
    assert!(matches!(good.unwrap().as_slice(), [Begun::Run(_)]));
}

#[tokio::test]
async fn effects_that_cannot_be_read_do_not_hide_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(directory.path());
    ledger.attach(&session("s")).await.unwrap();
    let held = lease(&ledger, "good").await;
    ledger.decide(&[decision(&held)]).await.unwrap();
    let key = layout::time_key(WallTime(1), &MessageKey::trusted("bad"));
    engine
        .write(move |txn| {
            txn.put(UNDONE, &key, &[])?;
            txn.put(ATTEMPTS, b"bad", b"\xff\xff")
        })
        .await
        .unwrap();
    let undone = ledger.undone(WallTime(100), 10).await.unwrap();
    assert_eq!(undone.len(), 1);
    assert_eq!(undone[0].message, held.id.message);
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(directory.path());
    engine.write(|txn| txn.put(SESSIONS, b"s9", b"\xff")).await.unwrap();
    match ledger.session(&SessionId::trusted("s9")).await {
        Err(StoreError::Corrupt { why, .. }) => assert!(why.contains("s9"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_close_still_ends_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let (_engine, ledger) = open(directory.path());
    ledger.attach(&session("s")).await.unwrap();
    let id = SessionId::trusted("s");
    {
        let mut close = ledger.close(&id, None);
        assert!(futures::poll!(&mut close).is_pending(), "queued");
    }
    // Whatever is queued later comes after it.
    assert_eq!(ledger.begin(&[grant("a")]).await, Ok(vec![Begun::NoSession]));
    assert_eq!(ledger.renew(&[id]).await, Ok(vec![false]));
}

#[tokio::test]
async fn sweeping_a_crowd_of_overtaken_entries_answers_only_when_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, ledger) = open(directory.path());
    ledger.attach(&session("s")).await.unwrap();
    let held = lease(&ledger, "due").await;
    ledger.decide(&[decision(&held)]).await.unwrap();
    ledger.done(std::slice::from_ref(&held.id.message), WallTime(1_000_000)).await.unwrap();
    // More than one job looks at, all older than the one that counts.
    engine
        .write(|txn| {
            (0..10_500_u64).try_for_each(|n| {
                let key = layout::time_key(WallTime(n), &MessageKey::trusted("overtaken"));
                txn.put(layout::FORGET, &key, &[])
            })
        })
        .await
        .unwrap();
    assert_eq!(ledger.sweep(WallTime(2_000_000)).await, Ok(1));
    assert_eq!(ledger.sweep(WallTime(2_000_000)).await, Ok(0));
}
