//! Messages that are no tasks, callbacks, priorities, and times.

use std::time::Duration;

use lineshaft::clock::{Clock, WallTime};
use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Outcome, Submission};
use lineshaft::task::{Arg, ArgValue, Status, Timestamp};

use crate::worker::{Worker, failure, success};
use crate::world::{World, rest, task};

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_task_is_set_aside_and_others_are_unaffected() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "before")).await;
    for body in ["", "{", "[1]", r#"{"RetryCount":"x"}"#] {
        world.publish_raw("a", body).await;
    }
    replica.send(task("a", "after")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let ids: Vec<String> = worker.all_offers().await.into_iter().map(|lease| lease.signature.uuid.clone()).collect();
    assert_eq!(ids, ["before", "after"]);
    let dead = world.dead().await;
    let mut bodies: Vec<&[u8]> = dead.iter().map(|dead| dead.body.as_ref()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [&b""[..], b"[1]", b"{", br#"{"RetryCount":"x"}"#], "byte for byte");
    assert!(dead.iter().all(|dead| dead.reason.starts_with("the body is no task: ")));
    assert_eq!((world.waiting().await, world.leases().await.len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn arguments_that_no_worker_could_read_end_the_task_as_machinery_does() {
    let world = World::new();
    let replica = world.replica();
    world.publish_raw("a", r#"{"UUID":"bad","Name":"a","RetryCount":3,"Args":[{"Type":"int64","Value":"5"}]}"#).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let state = replica.end("bad").await;
    assert_eq!(state.status, Status::Failure);
    assert_eq!(state.error, "Reflect task args error: 5 is not int64");
    assert!(worker.offer_within(Duration::from_secs(60)).await.is_none(), "nobody runs it, and there is no retry");
    assert_eq!((world.waiting().await, world.leases().await.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_highest_priority_comes_first_and_then_the_oldest() {
    let world = World::new();
    let replica = world.replica();
    for (id, priority) in [("low", 0), ("high", 9), ("middle", 5), ("high-2", 9), ("low-2", 0), ("top", 255)] {
        replica.send(Submission { priority, ..task("a", id) }).await;
    }
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let mut order = Vec::new();
    for n in 0..6 {
        order.push(worker.lease().await.signature.uuid.clone());
        worker.inbound.credit(n + 2);
    }
    assert_eq!(order, ["top", "high", "high-2", "middle", "low", "low-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_not_leased_before_its_time() {
    let minute = Duration::from_secs(60);
    let world = World::new();
    let replica = world.replica();
    let at = Timestamp::from_wall(world.clock.wall().plus(minute));
    replica.send(Submission { eta: Some(at), ..task("a", "eta") }).await;
    replica.send(Submission { delay: Some(minute), ..task("a", "delay") }).await;
    let past = Timestamp::from_wall(WallTime(1));
    replica.send(Submission { eta: Some(past), ..task("a", "past") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    assert_eq!(worker.lease().await.signature.uuid, "past");
    assert_eq!(replica.state("eta").await.status, Status::Pending);
    assert!(worker.offer_within(minute - Duration::from_secs(1)).await.is_none());
    let mut due = [worker.lease().await.signature.uuid.clone(), worker.lease().await.signature.uuid.clone()];
    due.sort_unstable();
    assert_eq!(due, ["delay", "eta"]);
}

#[tokio::test(start_paused = true)]
async fn a_time_is_a_wall_time_even_if_the_clock_is_stepped() {
    let hour = Duration::from_secs(3_600);
    let world = World::new();
    let replica = world.replica();
    replica.send(Submission { delay: Some(hour), ..task("a", "first") }).await;
    replica.send(Submission { delay: Some(2 * hour), ..task("a", "second") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    assert!(worker.offer_within(hour / 2).await.is_none());
    world.clock.step_to(world.clock.wall().plus(hour));
    let first = worker.offer_within(Duration::from_secs(2)).await.expect("is due at once");
    assert_eq!(first.signature.uuid, "first");
    world.clock.step_to(WallTime(world.clock.wall().0 - hour.as_nanos() as u64));
    assert!(worker.offer_within(hour).await.is_none(), "the other is as far away as before the first step");
    assert!(worker.offer_within(hour * 6 / 10).await.is_some());
}

async fn callback(world: &World, parent: Submission, outcome: Outcome) -> Vec<ArgValue> {
    let replica = world.replica();
    replica.send(parent).await;
    let mut worker = Worker::attach(&replica.service, "w", &["parent", "child"], 10).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, outcome).await, Verdict::Recorded);
    let lease = worker.lease().await;
    assert_eq!((lease.signature.name.as_str(), lease.attempt), ("child", 1));
    assert_eq!(worker.report(&lease, success("")).await, Verdict::Recorded);
    assert!(replica.end("child").await.status == Status::Success);
    rest().await;
    assert_eq!((world.waiting().await, world.leases().await.len()), (0, 0), "one callback and no other");
    lease.signature.args.clone().unwrap_or_default().into_iter().map(|arg| arg.value).collect()
}

#[tokio::test(start_paused = true)]
async fn callbacks_are_given_results_or_the_error() {
    let text = |s: &str| ArgValue::String(s.into());
    let child = || Submission { args: vec![Arg::string("own")], ..task("child", "child") };
    let parent = |id| Submission { on_success: vec![child()], on_error: vec![child()], ..task("parent", id) };
    for fused in [false, true] {
        let world = || if fused { World::fused() } else { World::new() };
        let results = Outcome::Success(vec![Arg::string("one"), Arg::string("two")]);
        let args = callback(&world(), parent("p"), results.clone()).await;
        assert_eq!(args, [text("own"), text("one"), text("two")], "results behind its own arguments");
        let immutable = Submission { immutable: true, ..parent("p") };
        assert_eq!(
            callback(&world(), immutable, results.clone()).await,
            [text("own")],
            "an immutable parent keeps them"
        );
        let immutable = Submission { on_success: vec![Submission { immutable: true, ..child() }], ..parent("p") };
        assert_eq!(callback(&world(), immutable, results).await, args, "the callback's own flag says nothing");
        assert_eq!(
            callback(&world(), parent("p"), failure("why")).await,
            [text("why"), text("own")],
            "the error first"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_calls_nobody_back() {
    let world = World::new();
    let replica = world.replica();
    let child = || vec![task("child", "child")];
    let parent = Submission { on_success: child(), on_error: child(), retry_count: 1, ..task("parent", "p") };
    replica.send(parent).await;
    let mut worker = Worker::attach(&replica.service, "w", &["parent"], 10).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, failure("no")).await, Verdict::Recorded);
    rest().await;
    assert_eq!(replica.try_state("child").await, None);
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, failure("no")).await, Verdict::Recorded);
    rest().await;
    assert_eq!(replica.state("child").await.status, Status::Pending);
}
