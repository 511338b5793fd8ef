//! `SendTask` and `SendTasks`.

use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock, WallTime};
use lineshaft_client::proto::*;
use tonic::Code;

use crate::rooms::Room;
use crate::stubs::{Stubs, ids, named, span, success, task, text};
use crate::support::{Refusal, refusal};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, send:
            an_id_is_made_where_none_is_given_and_kept_where_one_is
            a_batch_is_answered_in_its_order_each_item_for_itself
            a_batch_is_taken_up_to_the_limit_and_refused_beyond
            a_task_without_a_queue_goes_to_the_default_queue
            a_routing_key_of_its_own_is_refused_where_there_are_none
            a_task_is_not_leased_before_its_delay_is_over
            a_task_is_not_leased_before_its_eta
            an_eta_in_the_past_is_at_once
            higher_priorities_are_leased_first_where_there_are_any
            a_known_id_runs_again
            a_large_task_arrives_whole_and_one_beyond_the_limit_is_refused
            what_is_sent_is_leased_in_its_order
        );
    };
}
pub(crate) use cases;

pub(crate) async fn an_id_is_made_where_none_is_given_and_kept_where_one_is(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let made = stubs.send(named("n")).await;
    let uuid = made.strip_prefix("task_").expect("begins as Machinery's do");
    assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'7'), "{made}");
    assert_ne!(stubs.send(named("n")).await, made);
    for id in ["x", &"é".repeat(100), "a/b?c=%20#{}"] {
        assert_eq!(stubs.send(task(id)).await, id);
        assert_eq!(stubs.state(id).await.task_id, id);
    }
}

pub(crate) async fn a_batch_is_answered_in_its_order_each_item_for_itself(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let wrong = |id: &str, change: fn(&mut Task)| {
        let mut wrong = task(id);
        change(&mut wrong);
        wrong
    };
    let narrow: fn(&mut Task) = |t| {
        t.args = vec![text("x"), crate::stubs::arg("int8", arg::Value::Int64Value(300))];
    };
    let large: fn(&mut Task) = |t| t.args = vec![text(&"x".repeat(1 << 20))];
    let tasks = vec![
        task("a"),
        wrong("no-name", |t| t.name.clear()),
        named("n"),
        wrong("narrow", narrow),
        wrong("large", large),
        task("a b"),
        task("z"),
    ];
    let sent = stubs.tasks().send_tasks(SendTasksRequest { tasks }).await.expect("has an answer for each").into_inner();
    let answers: Vec<Result<String, ItemError>> = sent
        .results
        .into_iter()
        .map(|result| match result.result.expect("is always set") {
            send_result::Result::TaskId(id) => Ok(id),
            send_result::Result::Error(error) => Err(error),
        })
        .collect();
    assert_eq!(answers.len(), 7);
    assert_eq!(answers[0].as_deref(), Ok("a"));
    assert!(answers[2].as_ref().is_ok_and(|id| id.starts_with("task_")), "{:?}", answers[2]);
    assert_eq!(answers[6].as_deref(), Ok("z"));
    let refused = [
        (1, "TASK_INVALID", "name"),
        (3, "TASK_INVALID", "args[1].int64_value"),
        (4, "LIMIT_EXCEEDED", "args"),
        (5, "TASK_INVALID", "id"),
    ];
    for (i, reason, field) in refused {
        let error = answers[i].as_ref().expect_err("is refused");
        assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument as i32, reason), "{error:?}");
        assert_eq!((error.field.as_str(), error.retry_delay), (field, None), "{error:?}");
        assert!(!error.message.is_empty());
    }
    let task_ids = ["a", "no-name", "narrow", "large", "z"].map(Into::into).to_vec();
    let states = stubs.tasks().get_states(GetStatesRequest { task_ids }).await.expect("is answered").into_inner();
    let known: Vec<_> = states.states.iter().map(TaskState::status).collect();
    let (written, not) = (TaskStatus::Pending, TaskStatus::Unspecified);
    assert_eq!(known, [written, not, not, not, written], "of what is refused nothing is written");
}

pub(crate) async fn a_batch_is_taken_up_to_the_limit_and_refused_beyond(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let batch = |count: usize| SendTasksRequest { tasks: (0..count).map(|i| task(&format!("t{i}"))).collect() };
    for wrong in [0, 1001] {
        let status = stubs.tasks().send_tasks(batch(wrong)).await.expect_err("is refused");
        let reason = if wrong == 0 { Refusal::invalid("tasks") } else { Refusal::limit("tasks") };
        assert_eq!(refusal(&status), reason);
    }
    let sent = stubs.tasks().send_tasks(batch(1000)).await.expect("is answered").into_inner().results;
    assert_eq!(sent.len(), 1000);
    for (i, result) in sent.into_iter().enumerate() {
        assert_eq!(result.result, Some(send_result::Result::TaskId(format!("t{i}"))));
    }
    let (leases, _) = stubs.lease_many("n", 1000).await;
    let mut leased = ids(&leases);
    leased.sort_unstable();
    leased.dedup();
    assert_eq!(leased.len(), 1000, "each is there once");
}

pub(crate) async fn a_task_without_a_queue_goes_to_the_default_queue(room: Room) {
    let server = room.serve_with(|config| config.default_queue = Some("here".into())).await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    stubs.send(Task { queue: "there".into(), ..task("b") }).await;
    let lease = stubs.lease("n").await;
    assert_eq!((lease.task_id.as_str(), lease.queue.as_str()), ("a", "here"));
    let info = stubs.info().get_server_info(GetServerInfoRequest {}).await.expect("is answered").into_inner();
    assert_eq!(info.default_queue, "here");
}

pub(crate) async fn a_routing_key_of_its_own_is_refused_where_there_are_none(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let keyed = |key: &str| Task { queue: "q".into(), routing_key: key.into(), ..named("n") };
    stubs.send(keyed("q")).await;
    let status = stubs.try_send(keyed("other")).await.expect_err("is refused");
    assert_eq!(refusal(&status), Refusal::invalid("task.routing_key"));
}

pub(crate) async fn a_task_is_not_leased_before_its_delay_is_over(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let delay = Duration::from_millis(150);
    let begun = SystemClock.now();
    stubs.send(Task { delay: Some(span(delay)), ..task("later") }).await;
    stubs.send(Task { delay: Some(span(Duration::ZERO)), ..task("now") }).await;
    assert_eq!(stubs.state("later").await.status(), TaskStatus::Pending);
    let mut leased = Vec::new();
    for _ in 0..2 {
        let task = stubs.lease("n").await.task_id;
        // On a busy machine both may be due before the first of them is leased.
        assert!(task == "now" || begun.elapsed() >= delay, "{task} after {:?}", begun.elapsed());
        leased.push(task);
    }
    leased.sort();
    assert_eq!(leased, ["later", "now"]);
}

fn timestamp(at: WallTime) -> Option<prost_types::Timestamp> {
    let (seconds, nanos) = ((at.0 / 1_000_000_000).cast_signed(), (at.0 % 1_000_000_000) as i32);
    Some(prost_types::Timestamp { seconds, nanos })
}

pub(crate) async fn a_task_is_not_leased_before_its_eta(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let eta = SystemClock.wall().plus(Duration::from_millis(150));
    stubs.send(Task { eta: timestamp(eta), ..task("a") }).await;
    assert_eq!(stubs.lease("n").await.task_id, "a");
    assert!(SystemClock.wall() >= eta);
}

pub(crate) async fn an_eta_in_the_past_is_at_once(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    // The year 1, and a second ago.
    let year_one = Some(prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 });
    let second_ago = timestamp(WallTime(SystemClock.wall().0 - 1_000_000_000));
    for eta in [year_one, second_ago] {
        stubs.send(Task { eta, ..named("n") }).await;
        stubs.lease("n").await;
    }
}

pub(crate) async fn higher_priorities_are_leased_first_where_there_are_any(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let of = |id: &str, priority| Task { priority, ..task(id) };
    if room.priorities {
        for (id, priority) in [("none", 0), ("some", 5), ("most", 255), ("same", 5)] {
            stubs.send(of(id, priority)).await;
        }
        assert_eq!(ids(&stubs.lease_many("n", 4).await.0), ["most", "some", "same", "none"]);
    } else {
        stubs.send(of("a", 0)).await;
        let status = stubs.try_send(of("b", 1)).await.expect_err("is refused");
        assert_eq!(refusal(&status), Refusal::limit("task.priority"));
    }
}

pub(crate) async fn a_known_id_runs_again(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    for result in ["one", "two"] {
        stubs.send(task("a")).await;
        assert_eq!(stubs.state("a").await.status(), TaskStatus::Pending);
        let lease = stubs.lease("n").await;
        assert_eq!(lease.attempt, 1);
        stubs.record(&lease, success([text(result)])).await;
        assert_eq!(stubs.end("a").await.results, [text(result)]);
    }
}

pub(crate) async fn a_large_task_arrives_whole_and_one_beyond_the_limit_is_refused(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let large: String = ('a'..='z').cycle().take((1 << 20) - 1000).collect();
    stubs.send(Task { args: vec![text(&large)], ..task("a") }).await;
    let lease = stubs.lease("n").await;
    assert!(lease.args == [text(&large)], "every byte is there");
    stubs.record(&lease, success([text(&large)])).await;
    assert!(stubs.end("a").await.results == [text(&large)], "every byte is there");
    let status = stubs.try_send(Task { args: vec![text(&"x".repeat(1 << 20))], ..task("b") }).await;
    assert_eq!(refusal(&status.expect_err("is refused")), Refusal::limit("task.args"));
}

pub(crate) async fn what_is_sent_is_leased_in_its_order(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids((0..5).map(|i| format!("t{i}"))).await;
    for i in 5..10 {
        stubs.send(task(&format!("t{i}"))).await;
    }
    let (leases, _) = stubs.lease_many("n", 10).await;
    assert_eq!(ids(&leases), Vec::from_iter((0..10).map(|i| format!("t{i}"))));
}
