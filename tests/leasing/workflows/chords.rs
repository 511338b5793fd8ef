//! Groups and chords.

use std::time::Duration;

use lineshaft::error::Error;
use lineshaft::ledger::join::Kind;
use lineshaft::service::types::{Settings, Submission, Workflow};
use lineshaft::task::{ArgValue, FailureReason, Status};

use super::chains::{integer, results, workflow};
use super::runner::{self, Witness};
use crate::faulty::Mode;
use crate::world::{World, task};

fn chord(tasks: Vec<Submission>, callback: Submission) -> Workflow {
    Workflow { callback: Some(callback), ..workflow(Kind::Chord, tasks) }
}

fn numbers(count: usize) -> Vec<Submission> {
    (0..count).map(|i| Submission { args: vec![integer(i as i64)], ..task("sum", &format!("t{i}")) }).collect()
}

#[tokio::test(start_paused = true)]
async fn the_callback_gets_all_results_in_the_order_of_the_tasks_once() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        let witness = Witness::default();
        let callback = Submission { args: vec![integer(7)], ..task("sum", "c") };
        let sent = replica.service.send_workflow(chord(numbers(5), callback)).await.expect("is accepted");
        assert_eq!(sent.callback.as_ref().map(|id| id.as_str()), Some("c"));
        assert_eq!(replica.state("c").await.status, Status::Pending, "it can be waited for");
        let _runner = runner::start(&replica.service, &witness).await;
        assert_eq!(results(&replica, "c").await, [ArgValue::Int(17)]);
        let given: Vec<ArgValue> = [7, 0, 1, 2, 3, 4].map(ArgValue::Int).into();
        assert_eq!(witness.all().get("c"), Some(&vec![given]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_member_ends_the_callback_when_all_have_ended() {
    let replica = World::new().replica();
    let _runner = runner::start(&replica.service, &Witness::default()).await;
    let tasks = vec![task("sum", "a"), task("fail", "b"), task("sum", "c")];
    let callback = Submission { on_success: vec![task("sum", "behind")], ..task("sum", "d") };
    let sent = replica.service.send_workflow(chord(tasks, callback)).await.expect("is accepted");
    for id in ["d", "behind"] {
        let state = replica.end(id).await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::NotRun));
        assert_eq!(state.error, "lineshaft: not run: task b ended in FAILURE: fail with 0");
    }
    let view = replica.service.group(&sent.group).await.expect("is known");
    assert_eq!((view.ended, view.failed, view.is_completed), (3, 1, true));
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_always_fires_gets_outcomes() {
    let replica = World::new().replica();
    let witness = Witness::default();
    let _runner = runner::start(&replica.service, &witness).await;
    let tasks = vec![Submission { args: vec![integer(3)], ..task("two", "a") }, task("fail", "b")];
    let workflow = Workflow { is_always: true, ..chord(tasks, task("sum", "c")) };
    replica.service.send_workflow(workflow).await.expect("is accepted");
    assert_eq!(replica.end("c").await.status, Status::Success);
    let given = witness.all().remove("c").expect("ran").remove(0);
    let texts: Vec<String> = given
        .into_iter()
        .map(|value| match value {
            ArgValue::String(text) => text,
            other => panic!("{other:?} is no text"),
        })
        .collect();
    assert!(
        texts[0]
            .starts_with(r#"{"TaskUUID":"a","TaskName":"two","State":"SUCCESS","Results":[{"Type":"int64","Value":3}"#)
    );
    assert!(
        texts[1].contains(r#""TaskUUID":"b","TaskName":"fail","State":"FAILURE","Results":null,"Error":"fail with 0""#)
    );
}

#[tokio::test(start_paused = true)]
async fn results_too_large_for_one_task_end_the_callback_and_say_so() {
    let mut world = World::new();
    world.settings = Settings { task_bytes_max: 4096, ..world.settings };
    let replica = world.replica();
    let _runner = runner::start(&replica.service, &Witness::default()).await;
    replica.service.send_workflow(chord(numbers(100), task("sum", "c"))).await.expect("is accepted");
    let state = replica.end("c").await;
    assert_eq!(state.reason, FailureReason::ResultTooLarge);
    assert!(state.error.contains("the limit is 4096 bytes"), "{}", state.error);
    let silent = Submission { immutable: true, ..task("sum", "d") };
    let tasks = (0..100).map(|i| task("sum", &format!("u{i}"))).collect();
    replica.service.send_workflow(chord(tasks, silent)).await.expect("is accepted");
    assert_eq!(replica.end("d").await.status, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_no_store_took_is_not_there_and_one_sent_in_part_ends() {
    let world = World::new();
    let replica = world.replica();
    world.broker_switch.set(Mode::Unavailable);
    let group = || Workflow { id: Some(lineshaft::task::GroupId::trusted("g")), ..workflow(Kind::Group, numbers(3)) };
    let refused = replica.service.send_workflow(group()).await.expect_err("cannot be sent");
    assert!(matches!(refused, Error::Store(_)), "{refused}");
    let unknown = replica.service.group(&lineshaft::task::GroupId::trusted("g")).await.expect_err("is not there");
    assert!(matches!(unknown, Error::GroupUnknown(_)), "{unknown}");
    assert!(replica.try_state("t0").await.is_none());
    world.broker_switch.set(Mode::Works);
    replica.service.send_workflow(group()).await.expect("is accepted");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_goes_on_sending_is_cancelled_after_a_minute() {
    use lineshaft::failpoint::{Action, Failpoints, Point};
    for world in [World::new(), World::fused()] {
        let failpoints = Failpoints::at(Point::GroupPartly, Action::Hang, 1);
        let replica = world.replica_with(failpoints.clone());
        let tasks = numbers(3000);
        tokio::select! {
            sent = replica.service.send_workflow(chord(tasks, task("sum", "c"))) => panic!("{sent:?}"),
            () = failpoints.struck() => {}
        }
        replica.crash();
        let replica = world.replica();
        let began = tokio::time::Instant::now();
        let state = replica.end("c").await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::NotRun));
        assert!(began.elapsed() < Duration::from_secs(130), "{:?}", began.elapsed());
        for id in ["t0", "t2999"] {
            assert_eq!(replica.end(id).await.reason, FailureReason::Cancelled, "{id}");
        }
        while world.waiting().await > 0 {
            crate::world::rest().await;
        }
    }
}
