//! Chords that a Machinery program sent, and our worker runs.

use std::time::Duration;

use lineshaft::backend::{Backend, GroupMeta, Triggered};
use lineshaft::clock::Clock;
use lineshaft::task::{ArgValue, FailureReason, GroupId, MessageKey, Status, TaskId, Timestamp};

use super::runner::{self, Witness};
use crate::world::{Replica, World};

const KEEP: Duration = Duration::from_secs(3600);

/// A chord of three as Machinery sends it, with its record or without.
async fn send(world: &World, names: [&str; 3], has_record: bool) {
    if has_record {
        let tasks = (0..3).map(|i| TaskId::trusted(format!("m{i}"))).collect();
        let id = GroupId::trusted("g");
        let meta = GroupMeta { id, tasks, is_triggered: false, created_at: Timestamp::from_wall(world.clock.wall()) };
        world.backend.put_group(&meta, KEEP, world.clock.wall()).await.expect("is kept");
    }
    // Not in the order of the group.
    for i in [2, 0, 1] {
        let body = format!(
            r#"{{"UUID":"m{i}","Name":"{}","RoutingKey":"q","GroupUUID":"g","GroupTaskCount":3,
                "Args":[{{"Name":"","Type":"int64","Value":{}}}],"Headers":{{}},
                "ChordCallback":{{"UUID":"chord_c","Name":"sum","RoutingKey":"q","Args":[{{"Type":"int64","Value":7}}],
                "OnSuccess":[{{"UUID":"behind","Name":"sum","RoutingKey":"q"}}]}}}}"#,
            names[i],
            10 + i
        );
        world.publish_raw(names[i], &body).await;
    }
}

fn integers(values: &[i64]) -> Vec<ArgValue> {
    values.iter().copied().map(ArgValue::Int).collect()
}

async fn started(world: &World) -> (Replica, Witness, runner::Runner) {
    let (replica, witness) = (world.replica(), Witness::default());
    let runner = runner::start(&replica.service, &witness).await;
    (replica, witness, runner)
}

#[tokio::test(start_paused = true)]
async fn its_callback_gets_the_results_in_the_order_of_its_record() {
    for world in [World::new(), World::fused()] {
        send(&world, ["sum", "sum", "sum"], true).await;
        let (replica, witness, _runner) = started(&world).await;
        assert_eq!(replica.end("behind").await.status, Status::Success);
        assert_eq!(witness.all().get("chord_c"), Some(&vec![integers(&[7, 10, 11, 12])]));
        let groups = world.backend.groups(&[GroupId::trusted("g")], world.clock.wall()).await.expect("can be read");
        assert!(groups[0].as_ref().is_some_and(|group| group.is_triggered), "Machinery's workers see that it was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_record_whoever_ends_counts() {
    let world = World::new();
    send(&world, ["sum", "sum", "sum"], false).await;
    let (replica, witness, _runner) = started(&world).await;
    assert_eq!(replica.end("chord_c").await.status, Status::Success);
    let mut given = witness.all().remove("chord_c").expect("ran").remove(0);
    given.sort_by_key(|value| format!("{value:?}"));
    assert_eq!(given, integers(&[10, 11, 12, 7]));
}

#[tokio::test(start_paused = true)]
async fn a_failed_member_ends_its_callback_too() {
    let world = World::fused();
    send(&world, ["sum", "fail", "sum"], true).await;
    let (replica, _witness, _runner) = started(&world).await;
    for id in ["chord_c", "behind"] {
        let state = replica.end(id).await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::NotRun));
        assert_eq!(state.error, "lineshaft: not run: task m1 ended in FAILURE: fail with 11");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_program_set_out_to_send_and_did_not_is_sent_after_its_lock_is_over() {
    let world = World::new();
    send(&world, ["sum", "sum", "sum"], true).await;
    let theirs = MessageKey::trusted("another program");
    let flag = world.backend.trigger(&GroupId::trusted("g"), &theirs, KEEP, world.clock.wall()).await;
    assert_eq!(flag, Ok(Triggered::Ours));
    let began = tokio::time::Instant::now();
    let (replica, witness, _runner) = started(&world).await;
    assert_eq!(replica.end("chord_c").await.status, Status::Success);
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(witness.all().get("chord_c").map(Vec::len), Some(1));
}
