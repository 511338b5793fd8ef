//! What is particular to this room; what it shares with the others is in the conformance suite.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::backend::Backend as _;
use crate::engine::{Options, Records, Table};
use crate::task::{FailureReason, Status, Timestamp};

const NOW: WallTime = WallTime(1_790_000_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn open(dir: &Path) -> Backend {
    Backend::new(Engine::open(dir, Options::default()).unwrap())
}

fn state(id: &str, attempt: u32, status: Status) -> TaskState {
    TaskState {
        task_id: TaskId::trusted(id),
        task_name: "add".into(),
        status,
        results: None,
        error: String::new(),
        reason: FailureReason::Unknown,
        generation: 1,
        attempt,
        releases: 0,
        created_at: Timestamp::from_wall(NOW),
        updated_at: Timestamp::from_wall(NOW),
    }
}

fn kept(state: TaskState, keep: Duration) -> StateWrite {
    StateWrite { state, keep }
}

async fn read(backend: &Backend, id: &str, now: WallTime) -> Option<TaskState> {
    backend.read(&[TaskId::trusted(id)], now).await.unwrap().remove(0)
}

fn rows(backend: &Backend, table: &'static str) -> usize {
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    backend.engine.read(|r| r.scan(Table::new(table), all, engine::Direction::Forward, usize::MAX)).unwrap().len()
}

#[tokio::test]
async fn states_outlive_the_process_until_their_time_and_then_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    let long = Duration::from_secs(7 * 24 * 3600);
    let first = kept(state("t", 1, Status::Pending), long);
    assert_eq!(backend.write(&[first], NOW).await, [Ok(Written::Applied)]);
    let mut last = state("t", 1, Status::Success);
    last.task_name = String::new();
    last.created_at = Timestamp::ZERO;
    last.results = Some(vec![]);
    assert_eq!(backend.write(&[kept(last, 10 * SECOND)], NOW).await, [Ok(Written::Applied)]);
    drop(backend);
    let backend = open(dir.path());
    let found = read(&backend, "t", NOW).await.unwrap();
    assert_eq!((found.status, found.task_name.as_str()), (Status::Success, "add"));
    assert_eq!((found.created_at, found.results), (Timestamp::from_wall(NOW), Some(vec![])));
    assert!(read(&backend, "t", NOW.plus(9 * SECOND)).await.is_some());
    assert!(read(&backend, "t", NOW.plus(10 * SECOND)).await.is_none());
    assert_eq!(backend.sweep(NOW.plus(9 * SECOND)).await, Ok(0));
    assert_eq!(backend.sweep(NOW.plus(10 * SECOND)).await, Ok(1));
    assert_eq!(backend.sweep(NOW.plus(10 * SECOND)).await, Ok(0));
    assert_eq!((rows(&backend, "states"), rows(&backend, "expiry")), (0, 0));
}

#[tokio::test]
async fn a_sweep_forgets_a_bounded_amount_and_says_how_much() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    for batch in 0..3 {
        let writes: Vec<_> =
            (0..1000).map(|n| kept(state(&format!("t{}", batch * 1000 + n), 1, Status::Success), SECOND)).collect();
        assert!(backend.write(&writes, NOW).await.iter().all(Result::is_ok));
    }
    // In the same minute, but not due.
    assert_eq!(backend.write(&[kept(state("a", 1, Status::Success), 2 * SECOND)], NOW).await, [Ok(Written::Applied)]);
    let mut swept = Vec::new();
    while let Ok(n @ 1..) = backend.sweep(NOW.plus(SECOND)).await {
        swept.push(n);
    }
    assert_eq!(swept.iter().sum::<usize>(), 3000);
    assert!(swept.iter().all(|n| *n <= 1000));
    assert_eq!((rows(&backend, "states"), rows(&backend, "expiry")), (1, 1));
}

#[tokio::test]
async fn an_expired_state_does_not_hold_back_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    let ended = kept(state("t", 9, Status::Success), SECOND);
    assert_eq!(backend.write(&[ended], NOW).await, [Ok(Written::Applied)]);
    let again = kept(state("t", 1, Status::Pending), SECOND);
    assert_eq!(backend.write(std::slice::from_ref(&again), NOW).await, [Ok(Written::Behind)]);
    assert_eq!(backend.write(&[again], NOW.plus(SECOND)).await, [Ok(Written::Applied)]);
}

#[tokio::test]
async fn only_watched_tasks_are_told_and_only_applied_writes() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    let mut changes = backend.watched.changes();
    let id = TaskId::trusted("t");
    backend.watched.watch(&id);
    backend.watched.watch(&id);
    backend.watched.unwatch(&id);
    let writes = [
        kept(state("other", 1, Status::Pending), SECOND),
        kept(state("t", 1, Status::Started), SECOND),
        kept(state("t", 1, Status::Received), SECOND),
    ];
    let answers = backend.write(&writes, NOW).await;
    assert_eq!(answers, [Ok(Written::Applied), Ok(Written::Applied), Ok(Written::Behind)]);
    assert_eq!(changes.try_recv().ok().as_ref(), Some(&id));
    assert!(changes.try_recv().is_err());
    backend.retract(&[(id.clone(), writes[1].state.order())]).await.unwrap();
    assert_eq!(changes.try_recv().ok().as_ref(), Some(&id));
    assert!(read(&backend, "t", NOW).await.is_none());
    backend.watched.unwatch(&id);
    assert_eq!(backend.write(&writes[1..2], NOW).await, [Ok(Written::Applied)]);
    assert!(changes.try_recv().is_err());
}
