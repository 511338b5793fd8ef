//! Cases of the backend seam: records of groups, and what keeps their members' states.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::{Backend, GroupMeta, StateWrite, Triggered};
use lineshaft::clock::WallTime;
use lineshaft::task::{GroupId, Status, TaskId, Timestamp};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, needs};
use crate::make::*;
use crate::room::Room;

/// All cases of groups.
macro_rules! cases {
    ($($of:tt)+) => {
        pub(crate) mod backend_groups {
            crate::harness::cases!($($of)+, backend_groups:
                a_group_is_read_as_it_was_put
                a_group_put_again_replaces_the_one_before
                a_large_group_is_read_as_it_was_put
                one_message_triggers_a_group
                what_another_program_has_triggered_is_theirs
                an_unknown_group_is_not_triggered
                of_messages_that_trigger_at_the_same_time_one_does
                a_group_is_forgotten_after_its_time
                triggering_keeps_the_group_anew
                refreshing_keeps_what_would_soon_be_forgotten
                refreshing_leaves_what_has_not_ended_and_what_is_not_there
                refreshing_leaves_what_has_time_left
                sweeping_forgets_groups_past_their_time
                groups_survive_a_restart
            );
        }
    };
}
pub(crate) use cases;

fn id(label: &str) -> GroupId {
    GroupId::trusted(format!("group_{label}"))
}

fn tasks(labels: &[&str]) -> Vec<TaskId> {
    labels.iter().map(|label| task_id(label)).collect()
}

fn group(label: &str) -> GroupMeta {
    let created_at = Timestamp { seconds: 1_700_000_000, nanos: 999_999_999, offset_minutes: 0 };
    GroupMeta { id: id(label), tasks: tasks(&["t1", "t0", "t1"]), is_triggered: false, created_at }
}

async fn put(room: &Room, group: &GroupMeta, keep: Duration) {
    assert_eq!(room.backend().put_group(group, keep, room.now()).await, Ok(()));
}

async fn read(backend: &Arc<dyn Backend>, label: &str, now: WallTime) -> Option<GroupMeta> {
    backend.groups(&[id(label)], now).await.expect("groups").remove(0)
}

async fn trigger(room: &Room, label: &str, message: &str) -> Triggered {
    room.backend().trigger(&id(label), &key(message), KEEP, room.now()).await.expect("trigger")
}

async fn refresh(room: &Room, label: &str, labels: &[&str], keep: Duration) {
    assert_eq!(room.backend().refresh(&id(label), &tasks(labels), keep, room.now()).await, Ok(()));
}

async fn write(room: &Room, label: &str, status: Status, keep: Duration) {
    let write = StateWrite { keep, ..state(label, 1, 1, status) };
    room.backend().write(&[write], room.now()).await.remove(0).expect("write");
}

async fn is_there(room: &Room, label: &str, now: WallTime) -> bool {
    room.backend().read(&[task_id(label)], now).await.expect("read")[0].is_some()
}

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn a_group_is_read_as_it_was_put(room: Room) -> Outcome {
    let (backend, now) = (room.backend(), room.now());
    let plain = GroupMeta { tasks: tasks(&["t"]), created_at: Timestamp::ZERO, ..group("b") };
    let triggered = GroupMeta { is_triggered: true, ..group("c") };
    for group in [&group("a"), &plain, &triggered] {
        put(&room, group, KEEP).await;
    }
    let ids = ["c", "nobody", "b", "a"].map(id);
    let expected = vec![Some(triggered), None, Some(plain), Some(group("a"))];
    assert_eq!(backend.groups(&ids, now).await, Ok(expected));
    assert_eq!(backend.groups(&[], now).await, Ok(vec![]));
    Ok(())
}

pub(crate) async fn a_group_put_again_replaces_the_one_before(room: Room) -> Outcome {
    put(&room, &group("a"), KEEP).await;
    assert_eq!(trigger(&room, "a", "m").await, Triggered::Ours);
    let other = GroupMeta { tasks: tasks(&["t9"]), ..group("a") };
    put(&room, &other, KEEP).await;
    assert_eq!(read(&room.backend(), "a", room.now()).await, Some(other));
    // Whose callback it was is forgotten with it.
    assert_eq!(trigger(&room, "a", "n").await, Triggered::Ours);
    put(&room, &group("a"), Duration::ZERO).await;
    assert_eq!(read(&room.backend(), "a", room.now()).await, None, "no time at all is at once");
    Ok(())
}

pub(crate) async fn a_large_group_is_read_as_it_was_put(room: Room) -> Outcome {
    let large = GroupMeta { tasks: (0..10_000).map(|n| task_id(&format!("t{n}"))).collect(), ..group("a") };
    put(&room, &large, KEEP).await;
    assert!(read(&room.backend(), "a", room.now()).await == Some(large.clone()));
    assert_eq!(trigger(&room, "a", "m").await, Triggered::Ours);
    let triggered = GroupMeta { is_triggered: true, ..large.clone() };
    assert!(read(&room.backend(), "a", room.now()).await == Some(triggered));
    assert_eq!(room.backend().refresh(&id("a"), &large.tasks, KEEP, room.now()).await, Ok(()));
    Ok(())
}

pub(crate) async fn one_message_triggers_a_group(room: Room) -> Outcome {
    put(&room, &group("a"), KEEP).await;
    put(&room, &group("b"), KEEP).await;
    assert_eq!(trigger(&room, "a", "m").await, Triggered::Ours);
    let triggered = GroupMeta { is_triggered: true, ..group("a") };
    assert_eq!(read(&room.backend(), "a", room.now()).await, Some(triggered));
    assert_eq!(trigger(&room, "a", "n").await, Triggered::Theirs);
    // Asked again, by whoever goes on.
    assert_eq!(trigger(&room, "a", "m").await, Triggered::Ours);
    assert_eq!(read(&room.backend(), "b", room.now()).await, Some(group("b")));
    Ok(())
}

pub(crate) async fn what_another_program_has_triggered_is_theirs(room: Room) -> Outcome {
    put(&room, &GroupMeta { is_triggered: true, ..group("a") }, KEEP).await;
    for _ in 0..2 {
        assert_eq!(trigger(&room, "a", "m").await, Triggered::Theirs);
    }
    Ok(())
}

pub(crate) async fn an_unknown_group_is_not_triggered(room: Room) -> Outcome {
    assert_eq!(trigger(&room, "nobody", "m").await, Triggered::Unknown);
    assert_eq!(read(&room.backend(), "nobody", room.now()).await, None);
    Ok(())
}

pub(crate) async fn of_messages_that_trigger_at_the_same_time_one_does(room: Room) -> Outcome {
    put(&room, &group("a"), KEEP).await;
    let now = room.now();
    let triggering = ["x", "y", "z"].map(|message| {
        let backend = room.backend();
        tokio::spawn(async move {
            // Another program may be looking at the flag.
            loop {
                match backend.trigger(&id("a"), &key(message), KEEP, now).await.expect("trigger") {
                    Triggered::Busy => tokio::task::yield_now().await,
                    other => return other,
                }
            }
        })
    });
    let mut answers = Vec::new();
    for answer in triggering {
        answers.push(answer.await.expect("a task"));
    }
    assert_eq!(answers.iter().filter(|answer| **answer == Triggered::Ours).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == Triggered::Theirs).count(), 2, "{answers:?}");
    Ok(())
}

pub(crate) async fn a_group_is_forgotten_after_its_time(room: Room) -> Outcome {
    needs(!room.real_time(), "the store has a clock of its own")?;
    put(&room, &group("a"), SECOND * 5).await;
    put(&room, &group("b"), Duration::MAX).await;
    let (backend, end) = (room.backend(), room.now().plus(SECOND * 5));
    assert_eq!(read(&backend, "a", WallTime(end.0 - 1)).await, Some(group("a")));
    assert_eq!(read(&backend, "a", end).await, None);
    assert_eq!(read(&backend, "b", later(end, 1_000_000)).await, Some(group("b")));
    assert_eq!(backend.trigger(&id("a"), &key("m"), KEEP, end).await, Ok(Triggered::Unknown));
    assert_eq!(backend.refresh(&id("a"), &[], KEEP, end).await, Ok(()));
    assert_eq!(read(&backend, "a", end).await, None);
    Ok(())
}

pub(crate) async fn triggering_keeps_the_group_anew(room: Room) -> Outcome {
    needs(!room.real_time(), "the store has a clock of its own")?;
    put(&room, &group("a"), SECOND * 5).await;
    room.pass(SECOND * 4).await;
    assert_eq!(trigger(&room, "a", "m").await, Triggered::Ours);
    let end = room.now().plus(KEEP);
    let triggered = GroupMeta { is_triggered: true, ..group("a") };
    assert_eq!(read(&room.backend(), "a", WallTime(end.0 - 1)).await, Some(triggered));
    assert_eq!(read(&room.backend(), "a", end).await, None);
    Ok(())
}

pub(crate) async fn refreshing_keeps_what_would_soon_be_forgotten(room: Room) -> Outcome {
    put(&room, &group("a"), SECOND * 3).await;
    write(&room, "t0", Status::Success, SECOND * 3).await;
    write(&room, "t1", Status::Failure, SECOND * 3).await;
    let first = room.now();
    refresh(&room, "a", &["t0", "t1", "t1"], KEEP).await;
    room.pass(SECOND * 3).await;
    let now = room.now();
    room.backend().sweep(now).await.expect("sweep");
    for label in ["t0", "t1"] {
        assert!(is_there(&room, label, now).await, "{label} is there when its first time has passed");
    }
    if !room.real_time() {
        let end = first.plus(KEEP);
        for time in [now, WallTime(end.0 - 1)] {
            assert_eq!(read(&room.backend(), "a", time).await, Some(group("a")));
            assert!(is_there(&room, "t0", time).await && is_there(&room, "t1", time).await);
        }
        assert_eq!(read(&room.backend(), "a", end).await, None);
        assert!(!is_there(&room, "t0", end).await && !is_there(&room, "t1", end).await);
    }
    Ok(())
}

pub(crate) async fn refreshing_leaves_what_has_not_ended_and_what_is_not_there(room: Room) -> Outcome {
    write(&room, "running", Status::Started, SECOND * 2).await;
    write(&room, "ended", Status::Success, SECOND * 2).await;
    write(&room, "another", Status::Success, SECOND * 2).await;
    // Not even the group is there.
    refresh(&room, "nobody", &["running", "never", "ended"], KEEP).await;
    room.pass(SECOND * 2).await;
    let now = room.now();
    assert!(is_there(&room, "ended", now).await);
    for label in ["running", "never", "another"] {
        assert!(!is_there(&room, label, now).await, "{label}");
    }
    assert_eq!(read(&room.backend(), "nobody", now).await, None);
    // What has expired does not come back.
    refresh(&room, "nobody", &["another"], KEEP).await;
    assert!(!is_there(&room, "another", now).await);
    Ok(())
}

pub(crate) async fn refreshing_leaves_what_has_time_left(room: Room) -> Outcome {
    needs(!room.real_time(), "the store has a clock of its own")?;
    put(&room, &group("half"), KEEP / 2).await;
    put(&room, &group("less"), KEEP / 2 - SECOND).await;
    write(&room, "half", Status::Success, KEEP / 2).await;
    write(&room, "less", Status::Success, KEEP / 2 - SECOND).await;
    write(&room, "longer", Status::Success, KEEP * 2).await;
    let now = room.now();
    refresh(&room, "half", &["half", "less", "longer"], KEEP).await;
    refresh(&room, "less", &[], KEEP).await;
    let backend = room.backend();
    assert_eq!(read(&backend, "half", now.plus(KEEP / 2)).await, None);
    assert!(read(&backend, "less", now.plus(KEEP / 2)).await.is_some());
    assert!(!is_there(&room, "half", now.plus(KEEP / 2)).await);
    assert!(is_there(&room, "less", now.plus(KEEP / 2)).await);
    // It never shortens.
    assert!(is_there(&room, "longer", now.plus(KEEP)).await);
    Ok(())
}

pub(crate) async fn sweeping_forgets_groups_past_their_time(room: Room) -> Outcome {
    needs(!room.real_time(), "the store expires by itself")?;
    let (backend, now) = (room.backend(), room.now());
    for n in 0..30 {
        put(&room, &group(&format!("{n}")), SECOND * 5).await;
    }
    put(&room, &group("stays"), KEEP).await;
    put(&room, &group("0"), KEEP).await;
    assert_eq!(trigger(&room, "1", "m").await, Triggered::Ours);
    assert_eq!(backend.sweep(WallTime(now.plus(SECOND * 5).0 - 1)).await, Ok(0));
    let mut swept = 0;
    loop {
        match backend.sweep(now.plus(SECOND * 5)).await.expect("sweep") {
            0 => break,
            some => swept += some,
        }
    }
    assert_eq!(swept, 28);
    for label in ["stays", "0", "1"] {
        assert!(read(&backend, label, now).await.is_some(), "{label}");
    }
    assert_eq!(read(&backend, "2", now).await, None);
    Ok(())
}

pub(crate) async fn groups_survive_a_restart(room: Room) -> Outcome {
    put(&room, &group("a"), KEEP).await;
    put(&room, &group("b"), KEEP).await;
    assert_eq!(trigger(&room, "b", "m").await, Triggered::Ours);
    let room = reopen(room).await?;
    assert_eq!(read(&room.backend(), "a", room.now()).await, Some(group("a")));
    assert_eq!(trigger(&room, "b", "n").await, Triggered::Theirs);
    assert_eq!(trigger(&room, "b", "m").await, Triggered::Ours);
    Ok(())
}
