//! Cases of the backend seam.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::{Backend, EndedPage, EndedQuery, StateWrite, Watch, Written};
use lineshaft::clock::WallTime;
use lineshaft::error::StoreError;
use lineshaft::task::{FailureReason, Status, TaskId, TaskState, Timestamp};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, needs};
use crate::make::*;
use crate::room::Room;

/// All cases of this seam.
macro_rules! cases {
    ($($of:tt)+) => {
        pub(crate) mod backend {
            crate::harness::cases!($($of)+, backend:
                a_state_is_read_as_it_was_written
                every_kind_of_value_is_read_as_it_was_written
                what_was_never_written_is_unknown
                states_never_move_backwards
                a_known_task_sent_again_begins_anew
                of_two_ends_the_first_stays
                what_is_not_told_stays_as_it_was
                states_of_one_task_in_a_batch_are_applied_in_order
                answers_come_in_the_order_of_the_questions
                a_state_is_forgotten_after_its_time
                a_later_write_prolongs_and_a_refused_one_does_not
                what_has_expired_is_as_if_it_had_never_been
                a_state_is_retracted_if_it_is_still_the_same
                sweeping_forgets_what_is_past_its_time
                states_survive_a_restart
                whoever_watches_is_told_of_changes
                watching_is_counted
                final_states_are_listed_newest_first_page_by_page
                what_ended_in_one_batch_is_listed_each_once
                what_is_no_end_any_more_is_not_listed
            );
        }
    };
}
pub(crate) use cases;

async fn write(backend: &Arc<dyn Backend>, state: StateWrite, now: WallTime) -> Written {
    backend.write(&[state], now).await.remove(0).expect("write")
}

async fn read(backend: &Arc<dyn Backend>, id: &str, now: WallTime) -> Option<TaskState> {
    backend.read(&[task_id(id)], now).await.expect("read").remove(0)
}

async fn status(room: &Room, id: &str) -> Option<(u64, u32, Status)> {
    read(&room.backend(), id, room.now()).await.map(|state| (state.generation, state.attempt, state.status))
}

pub(crate) async fn a_state_is_read_as_it_was_written(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    for (n, status) in
        [Status::Pending, Status::Received, Status::Started, Status::Retry, Status::Success, Status::Failure]
            .into_iter()
            .enumerate()
    {
        let mut full = state(&format!("t{n}"), 7, 3, status);
        full.state.created_at = Timestamp { seconds: 1_700_000_000, nanos: 999_999_999, offset_minutes: 0 };
        match status {
            Status::Success => full.state.results = Some(Vec::new()),
            Status::Failure => {
                full.state.error = "broken \u{1f980}".to_owned();
                full.state.reason = FailureReason::WorkerLost;
            }
            _ => {}
        }
        assert_eq!(write(&backend, full.clone(), now).await, Written::Applied);
        assert_eq!(read(&backend, &format!("t{n}"), now).await, Some(full.state));
    }
    Ok(())
}

pub(crate) async fn every_kind_of_value_is_read_as_it_was_written(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    let mut full = state("t", 1, 1, Status::Success);
    full.state.results = Some(every_value());
    write(&backend, full.clone(), now).await;
    let read = read(&backend, "t", now).await.expect("a state");
    assert_eq!(read, full.state);
    // Equality knows no sign of zero.
    assert_eq!(format!("{read:?}"), format!("{:?}", full.state));
    Ok(())
}

pub(crate) async fn what_was_never_written_is_unknown(room: Room) -> Outcome {
    assert_eq!(status(&room, "t").await, None);
    assert_eq!(room.backend().read(&[], room.now()).await, Ok(Vec::new()));
    assert!(room.backend().write(&[], room.now()).await.is_empty());
    Ok(())
}

pub(crate) async fn states_never_move_backwards(room: Room) -> Outcome {
    use Status::{Failure, Pending, Received, Retry, Started, Success};
    let steps = [
        (1, Pending),
        (1, Received),
        (1, Started),
        (1, Retry),
        (2, Pending),
        (2, Received),
        (2, Started),
        (2, Success),
    ];
    let backend = room.backend();
    for (n, (attempt, status)) in steps.into_iter().enumerate() {
        assert_eq!(write(&backend, state("t", 5, attempt, status), room.now()).await, Written::Applied);
        for (attempt, status) in &steps[..=n] {
            let repeated = write(&backend, state("t", 5, *attempt, *status), room.now()).await;
            assert_eq!(repeated, Written::Behind, "{attempt} {status:?} at step {n}");
        }
        assert_eq!(self::status(&room, "t").await, Some((5, attempt, status)));
    }
    for (attempt, status) in [(1, Failure), (2, Retry)] {
        assert_eq!(write(&backend, state("t", 5, attempt, status), room.now()).await, Written::Behind);
    }
    Ok(())
}

pub(crate) async fn a_known_task_sent_again_begins_anew(room: Room) -> Outcome {
    let backend = room.backend();
    write(&backend, state("t", 5, 3, Status::Success), room.now()).await;
    assert_eq!(write(&backend, state("t", 4, 9, Status::Success), room.now()).await, Written::Behind);
    assert_eq!(write(&backend, state("t", 6, 1, Status::Pending), room.now()).await, Written::Applied);
    assert_eq!(status(&room, "t").await, Some((6, 1, Status::Pending)));
    Ok(())
}

pub(crate) async fn of_two_ends_the_first_stays(room: Room) -> Outcome {
    let backend = room.backend();
    for (id, first, second) in [("a", Status::Success, Status::Failure), ("b", Status::Failure, Status::Success)] {
        write(&backend, state(id, 1, 1, first), room.now()).await;
        assert_eq!(write(&backend, state(id, 1, 1, second), room.now()).await, Written::Behind);
        assert_eq!(status(&room, id).await, Some((1, 1, first)));
    }
    Ok(())
}

pub(crate) async fn what_is_not_told_stays_as_it_was(room: Room) -> Outcome {
    let backend = room.backend();
    let first = state("t", 1, 1, Status::Pending);
    write(&backend, first.clone(), room.now()).await;
    let mut second = state("t", 1, 1, Status::Started);
    second.state.created_at = Timestamp::ZERO;
    second.state.task_name = String::new();
    second.state.updated_at = Timestamp::from_wall(later(room.now(), 5));
    write(&backend, second.clone(), room.now()).await;
    let expected = TaskState {
        created_at: first.state.created_at,
        task_name: first.state.task_name,
        updated_at: second.state.updated_at,
        ..second.state.clone()
    };
    assert_eq!(read(&backend, "t", room.now()).await, Some(expected));
    // Nothing is stored that could be told.
    second.state.task_id = task_id("other");
    write(&backend, second.clone(), room.now()).await;
    let other = read(&backend, "other", room.now()).await.expect("a state");
    assert_eq!((other.created_at, other.task_name.as_str()), (Timestamp::ZERO, ""));
    Ok(())
}

pub(crate) async fn states_of_one_task_in_a_batch_are_applied_in_order(room: Room) -> Outcome {
    let batch =
        [Status::Received, Status::Pending, Status::Started, Status::Received, Status::Success, Status::Failure];
    let batch = batch.map(|status| state("t", 1, 1, status));
    let answers = room.backend().write(&batch, room.now()).await;
    use Written::{Applied, Behind};
    assert_eq!(answers, [Applied, Behind, Applied, Behind, Applied, Behind].map(Ok));
    assert_eq!(status(&room, "t").await, Some((1, 1, Status::Success)));
    Ok(())
}

pub(crate) async fn answers_come_in_the_order_of_the_questions(room: Room) -> Outcome {
    let batch = ["c", "a", "b"].map(|id| state(id, 1, 1, Status::Pending));
    room.backend().write(&batch, room.now()).await;
    let ids = ["b", "x", "a", "c", "a"].map(task_id);
    let read = room.backend().read(&ids, room.now()).await.expect("read");
    let read: Vec<Option<TaskId>> = read.into_iter().map(|state| state.map(|state| state.task_id)).collect();
    assert_eq!(read, ids.map(|id| (id.as_str() != "x").then_some(id)));
    Ok(())
}

pub(crate) async fn a_state_is_forgotten_after_its_time(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    write(&backend, state("t", 1, 1, Status::Pending), now).await;
    write(&backend, StateWrite { keep: Duration::from_secs(5), ..state("u", 1, 1, Status::Pending) }, now).await;
    write(&backend, StateWrite { keep: Duration::MAX, ..state("v", 1, 1, Status::Pending) }, now).await;
    room.pass(Duration::from_secs(5)).await;
    assert!(read(&backend, "u", later(now, 5)).await.is_none());
    assert!(read(&backend, "t", later(now, 5)).await.is_some());
    if !room.real_time() {
        assert!(read(&backend, "t", WallTime(now.plus(KEEP).0 - 1)).await.is_some());
        assert!(read(&backend, "t", now.plus(KEEP)).await.is_none());
        assert!(read(&backend, "v", later(now, 1_000_000_000)).await.is_some());
    }
    Ok(())
}

pub(crate) async fn a_later_write_prolongs_and_a_refused_one_does_not(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    let brief = |id, status| StateWrite { keep: Duration::from_secs(2), ..state(id, 1, 1, status) };
    for id in ["a", "b"] {
        write(&backend, brief(id, Status::Received), now).await;
    }
    room.pass(Duration::from_secs(1)).await;
    assert_eq!(write(&backend, brief("a", Status::Started), later(now, 1)).await, Written::Applied);
    assert_eq!(write(&backend, brief("b", Status::Pending), later(now, 1)).await, Written::Behind);
    room.pass(Duration::from_secs(1)).await;
    assert!(read(&backend, "a", later(now, 2)).await.is_some());
    assert!(read(&backend, "b", later(now, 2)).await.is_none());
    Ok(())
}

pub(crate) async fn what_has_expired_is_as_if_it_had_never_been(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    let brief = StateWrite { keep: Duration::from_secs(2), ..state("t", 9, 9, Status::Success) };
    write(&backend, brief, now).await;
    room.pass(Duration::from_secs(2)).await;
    let mut anew = state("t", 1, 1, Status::Pending);
    anew.state.created_at = Timestamp::ZERO;
    assert_eq!(write(&backend, anew.clone(), later(now, 2)).await, Written::Applied);
    assert_eq!(read(&backend, "t", later(now, 2)).await, Some(anew.state));
    // The time of the first must not end the second.
    backend.sweep(later(now, 3)).await.expect("sweep");
    assert!(read(&backend, "t", later(now, 3)).await.is_some());
    Ok(())
}

pub(crate) async fn a_state_is_retracted_if_it_is_still_the_same(room: Room) -> Outcome {
    let backend = room.backend();
    let pending = ["a", "b", "c"].map(|id| state(id, 5, 1, Status::Pending));
    backend.write(&pending, room.now()).await;
    write(&backend, state("b", 5, 1, Status::Received), room.now()).await;
    write(&backend, state("c", 6, 1, Status::Pending), room.now()).await;
    let order = pending[0].state.order();
    for _ in 0..2 {
        backend.retract(&["a", "b", "c", "x"].map(|id| (task_id(id), order))).await.expect("retract");
        assert_eq!(status(&room, "a").await, None);
        assert_eq!(status(&room, "b").await, Some((5, 1, Status::Received)));
        assert_eq!(status(&room, "c").await, Some((6, 1, Status::Pending)));
    }
    assert_eq!(write(&backend, state("a", 1, 1, Status::Pending), room.now()).await, Written::Applied);
    Ok(())
}

pub(crate) async fn sweeping_forgets_what_is_past_its_time(room: Room) -> Outcome {
    needs(!room.real_time(), "the store expires by itself")?;
    let (backend, now) = (room.backend(), room.now());
    let states: Vec<StateWrite> = (0..2_500).map(|n| state(&format!("t{n}"), 1, 1, Status::Pending)).collect();
    for batch in states.chunks(1_000) {
        backend.write(batch, now).await;
    }
    write(&backend, StateWrite { keep: KEEP * 2, ..state("stays", 1, 1, Status::Pending) }, now).await;
    write(&backend, StateWrite { keep: KEEP * 2, ..state("t0", 1, 1, Status::Started) }, now).await;
    assert_eq!(backend.sweep(WallTime(now.plus(KEEP).0 - 1)).await, Ok(0));
    let mut swept = Vec::new();
    while swept.last() != Some(&0) {
        swept.push(backend.sweep(now.plus(KEEP)).await.expect("sweep"));
    }
    assert_eq!(swept.iter().sum::<usize>(), 2_499);
    assert!(swept[0] < 2_499, "a bounded amount at once");
    assert!(read(&backend, "stays", now).await.is_some() && read(&backend, "t0", now).await.is_some());
    assert!(read(&backend, "t1", now).await.is_none());
    Ok(())
}

pub(crate) async fn states_survive_a_restart(room: Room) -> Outcome {
    let mut full = state("t", 7, 3, Status::Success);
    full.state.results = Some(every_value());
    write(&room.backend(), full.clone(), room.now()).await;
    write(&room.backend(), state("r", 1, 1, Status::Pending), room.now()).await;
    room.backend().retract(&[(task_id("r"), state("r", 1, 1, Status::Pending).state.order())]).await.expect("retract");
    let room = reopen(room).await?;
    assert_eq!(read(&room.backend(), "t", room.now()).await, Some(full.state));
    assert_eq!(status(&room, "r").await, None);
    assert_eq!(write(&room.backend(), state("t", 7, 2, Status::Success), room.now()).await, Written::Behind);
    Ok(())
}

fn watch(backend: &Arc<dyn Backend>) -> Result<&dyn Watch, crate::harness::Skip> {
    backend.watch().ok_or_else(|| crate::harness::Skip::because("watch is declined"))
}

pub(crate) async fn whoever_watches_is_told_of_changes(room: Room) -> Outcome {
    let backend = room.backend();
    let watch = watch(&backend)?;
    let mut changes = watch.changes();
    watch.watch(&task_id("a"));
    write(&backend, state("b", 1, 1, Status::Pending), room.now()).await;
    write(&backend, state("a", 1, 1, Status::Pending), room.now()).await;
    assert_eq!(changes.recv().await, Ok(task_id("a")));
    assert!(read(&backend, "a", room.now()).await.is_some(), "what was told can be read");
    backend.write(&[state("b", 1, 1, Status::Started), state("a", 1, 1, Status::Started)], room.now()).await;
    assert_eq!(changes.recv().await, Ok(task_id("a")));
    let started = state("a", 1, 1, Status::Started).state.order();
    backend.retract(&[(task_id("a"), started)]).await.expect("retract");
    assert_eq!(changes.recv().await, Ok(task_id("a")));
    Ok(())
}

pub(crate) async fn watching_is_counted(room: Room) -> Outcome {
    let backend = room.backend();
    let watch = watch(&backend)?;
    let mut changes = watch.changes();
    let id = task_id("a");
    watch.watch(&id);
    watch.watch(&id);
    watch.unwatch(&id);
    write(&backend, state("a", 1, 1, Status::Pending), room.now()).await;
    assert_eq!(changes.recv().await, Ok(id.clone()));
    watch.unwatch(&id);
    // What is told is told in order: behind this, nothing of before is under way.
    watch.watch(&task_id("b"));
    write(&backend, state("b", 1, 1, Status::Pending), room.now()).await;
    while changes.recv().await != Ok(task_id("b")) {}
    write(&backend, state("a", 1, 1, Status::Started), room.now()).await;
    watch.watch(&task_id("c"));
    write(&backend, state("c", 1, 1, Status::Pending), room.now()).await;
    loop {
        let told = changes.recv().await;
        assert_ne!(told, Ok(id.clone()), "nobody watches it");
        if told == Ok(task_id("c")) {
            break;
        }
    }
    // One unwatch too many is no debt.
    watch.unwatch(&id);
    watch.watch(&id);
    write(&backend, state("a", 1, 1, Status::Success), room.now()).await;
    while changes.recv().await != Ok(id.clone()) {}
    Ok(())
}

fn needs_ended(backend: &Arc<dyn Backend>) -> Outcome {
    needs(backend.ended().is_some(), "final states are not listed")
}

async fn ended(backend: &Arc<dyn Backend>, after: Option<&[u8]>, max: usize, now: WallTime) -> EndedPage {
    let query = EndedQuery { after, max, bytes_max: usize::MAX };
    backend.ended().expect("the view").ended(&query, now).await.expect("a page")
}

/// The ids of all pages of at most `max`, with something done after each.
async fn all_ended(
    backend: &Arc<dyn Backend>,
    max: usize,
    now: WallTime,
    mut between: impl AsyncFnMut(),
) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = ended(backend, after.as_deref(), max, now).await;
        assert!(page.states.len() <= max);
        ids.extend(page.states.into_iter().map(|state| state.task_id.to_string()));
        match page.next {
            None => return ids,
            next => after = next,
        }
        between().await;
    }
}

fn written_at(mut write: StateWrite, at: WallTime) -> StateWrite {
    write.state.updated_at = Timestamp::from_wall(at);
    write
}

pub(crate) async fn final_states_are_listed_newest_first_page_by_page(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    needs_ended(&backend)?;
    let statuses = [Status::Success, Status::Failure, Status::Started, Status::Success, Status::Retry, Status::Success];
    for (n, status) in statuses.into_iter().enumerate() {
        if n == 3 {
            write(&backend, written_at(state("twin", 1, 1, Status::Success), later(now, 3)), now).await;
        }
        write(&backend, written_at(state(&format!("t{n}"), 1, 1, status), later(now, n as u64)), now).await;
    }
    for max in [1, 2, 5, 100] {
        assert_eq!(all_ended(&backend, max, now, async || {}).await, ["t5", "t3", "twin", "t1", "t0"]);
    }
    let page = ended(&backend, None, 1, now).await;
    assert_eq!(page.states, [read(&backend, "t5", now).await.expect("a state")]);
    // A page ends with the state that brings it to its bytes.
    let query = EndedQuery { after: None, max: 100, bytes_max: 1 };
    let page = backend.ended().expect("the view").ended(&query, now).await.expect("a page");
    assert_eq!((page.states.len(), page.next.is_some()), (1, true));
    // What ends meanwhile is before the position, and moves nothing.
    let mut more = 100;
    let newer = async || {
        more += 1;
        write(&backend, written_at(state(&format!("new{more}"), 1, 1, Status::Success), later(now, more)), now).await;
    };
    assert_eq!(all_ended(&backend, 2, now, newer).await, ["t5", "t3", "twin", "t1", "t0"]);
    let query = EndedQuery { after: Some(b"no"), max: 1, bytes_max: 1 };
    assert_eq!(backend.ended().expect("the view").ended(&query, now).await, Err(StoreError::Position));
    Ok(())
}

pub(crate) async fn what_ended_in_one_batch_is_listed_each_once(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    needs_ended(&backend)?;
    // Several batches, of which only the first has many; what is told again, or is behind, is in no list twice.
    let end = |n| written_at(state(&format!("t{n:03}"), 1, 1, Status::Success), later(now, n));
    let mut batch: Vec<StateWrite> = (0..90).map(end).collect();
    batch.insert(40, state("runs", 1, 1, Status::Started));
    let written: usize =
        backend.write(&batch, now).await.iter().filter(|answer| **answer == Ok(Written::Applied)).count();
    assert_eq!(written, batch.len());
    backend.write(&batch, now).await;
    for n in 90..120 {
        write(&backend, end(n), now).await;
    }
    let expected: Vec<String> = (0..120).rev().map(|n| format!("t{n:03}")).collect();
    for max in [1, 7, 64, 1_000] {
        assert_eq!(all_ended(&backend, max, now, async || {}).await, expected);
    }
    // Ended anew, twice in one batch: each where its last end is.
    let anew = |generation, at| written_at(state("t050", generation, 1, Status::Failure), later(now, at));
    backend.write(&[anew(2, 200), anew(3, 201)], later(now, 1)).await;
    let moved: Vec<String> =
        std::iter::once("t050".to_owned()).chain(expected.into_iter().filter(|id| id != "t050")).collect();
    for max in [1, 1_000] {
        assert_eq!(all_ended(&backend, max, now, async || {}).await, moved);
    }
    Ok(())
}

pub(crate) async fn what_is_no_end_any_more_is_not_listed(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    needs_ended(&backend)?;
    for id in ["again", "gone", "stays"] {
        write(&backend, state(id, 1, 1, Status::Success), now).await;
    }
    write(&backend, state("again", 2, 1, Status::Pending), now).await;
    let order = state("gone", 1, 1, Status::Success).state.order();
    backend.retract(&[(task_id("gone"), order)]).await.expect("retract");
    assert_eq!(all_ended(&backend, 10, now, async || {}).await, ["stays"]);
    let later = later(now, 1);
    write(&backend, written_at(state("again", 2, 1, Status::Failure), later), later).await;
    assert_eq!(all_ended(&backend, 10, now, async || {}).await, ["again", "stays"]);
    let expired = later.plus(KEEP);
    assert!(all_ended(&backend, 10, expired, async || {}).await.is_empty());
    while backend.sweep(expired).await.expect("sweep") > 0 {}
    assert!(all_ended(&backend, 10, now, async || {}).await.is_empty());
    Ok(())
}
