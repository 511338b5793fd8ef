//! Sends that their sender has named: by a request id, by an idempotency key.

use std::time::Duration;

use lineshaft::clock::Clock;
use lineshaft::error::{Error, StoreError};
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Idempotency, KEY_KEPT_MAX, Sent, Settings, Submission, Until};
use lineshaft::task::{Status, TaskId};

use crate::faulty::Mode;
use crate::worker::{Worker, failure, release, success};
use crate::world::{Replica, World, rest, task};

/// A send under a request id; the server makes the task's.
fn request(id: &str) -> Submission {
    Submission { id: None, request_id: Some(id.into()), ..task("a", "x") }
}

fn keyed(key: &str, until: Until, id: &str) -> Submission {
    Submission { idempotency: Some(Idempotency { key: key.into(), until }), ..task("a", id) }
}

async fn submit(replica: &Replica, task: Submission) -> Result<Sent, Error> {
    replica.service.submit(vec![task]).await.remove(0)
}

fn sent(id: &str, already: bool) -> Result<Sent, Error> {
    Ok(Sent { task: TaskId::trusted(id), already })
}

fn worlds() -> [World; 2] {
    [World::new(), World::fused()]
}

/// Lets a worker run what waits, so often.
async fn run(replica: &Replica, tasks: usize) {
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    for _ in 0..tasks {
        let lease = worker.lease().await;
        assert_eq!(worker.report(&lease, success("")).await, Verdict::Recorded);
    }
    assert!(worker.all_offers().await.is_empty(), "nothing else waits");
}

#[tokio::test(start_paused = true)]
async fn the_same_send_again_is_answered_with_its_task_and_run_once() {
    for world in worlds() {
        let (one, two) = (world.replica(), world.replica());
        let first = submit(&one, request("r")).await.expect("is accepted");
        assert!(!first.already);
        let again = Ok(Sent { already: true, ..first.clone() });
        assert_eq!(submit(&two, request("r")).await, again);
        run(&one, 1).await;
        assert_eq!(submit(&two, request("r")).await, again, "also once it has ended");
        assert_eq!(replica_status(&two, &first.task).await, Status::Success);
        assert_ne!(submit(&one, request("s")).await.expect("is accepted").task, first.task);
        let batch = two.service.submit(vec![request("t"), request("t"), request("r")]).await;
        assert_eq!(batch[2], again);
        let tasks: Vec<_> = batch.into_iter().map(|item| item.expect("is accepted").task).collect();
        assert_eq!(tasks[0], tasks[1]);
        run(&one, 2).await;
    }
}

async fn replica_status(replica: &Replica, id: &TaskId) -> Status {
    replica.end(id.as_str()).await.status
}

#[tokio::test(start_paused = true)]
async fn a_request_id_with_other_content_is_refused() {
    for world in worlds() {
        let replica = world.replica();
        submit(&replica, request("r")).await.expect("is accepted");
        let others = [
            Submission { id: Some(TaskId::trusted("mine")), ..request("r") },
            Submission { priority: 1, ..request("r") },
            Submission { on_success: vec![task("a", "next")], ..request("r") },
            Submission { delay: Some(Duration::from_secs(1)), ..request("r") },
            Submission { idempotency: keyed("k", Until::Ended, "x").idempotency, ..request("r") },
        ];
        for other in others {
            let answer = submit(&replica, other).await;
            assert!(matches!(&answer, Err(Error::RequestIdReused { field }) if field == "request_id"), "{answer:?}");
        }
        assert_eq!(world.waiting().await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_id_is_remembered_for_its_window() {
    for mut world in worlds() {
        world.settings = Settings { request_window: Duration::from_secs(60), ..world.settings };
        let replica = world.replica();
        let first = submit(&replica, request("r")).await.expect("is accepted");
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(submit(&replica, request("r")).await, Ok(Sent { already: true, ..first }));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!submit(&replica, request("r")).await.expect("is accepted").already);
    }
}

#[tokio::test(start_paused = true)]
async fn of_the_same_send_at_the_same_time_there_is_one_message() {
    for world in worlds() {
        let replicas: Vec<Replica> = (0..4).map(|_| world.replica()).collect();
        let sends = (0..40).map(|i| submit(&replicas[i % 4], request("r")));
        let answers = futures::future::join_all(sends).await;
        let first = answers[0].clone().expect("is accepted").task;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|sent| sent.task == first)), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer.as_ref().is_ok_and(|sent| !sent.already)).count(), 1);
        run(&replicas[0], 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_finishes_what_a_server_that_died_has_begun() {
    for point in [Point::SendClaimed, Point::SendStated, Point::SendUnmarked, Point::SendPublished] {
        let world = World::new();
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = world.replica_with(failpoints.clone());
        tokio::select! {
            answer = submit(&first, request("r")) => panic!("{point:?}: {answer:?}"),
            () = failpoints.struck() => {}
        }
        first.crash();
        let second = world.replica();
        let id = submit(&second, request("r")).await.expect("is accepted").task;
        run(&second, 1).await;
        assert_eq!(submit(&second, request("r")).await, Ok(Sent { task: id.clone(), already: true }), "{point:?}");
        assert_eq!(replica_status(&second, &id).await, Status::Success);
        run(&second, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_has_ended_and_is_forgotten_does_not_bring_it_back() {
    let mut world = World::new();
    world.settings = Settings { results_expire_in: Duration::from_secs(10), ..world.settings };
    let failpoints = Failpoints::at(Point::SendUnmarked, Action::Hang, 1);
    let first = world.replica_with(failpoints.clone());
    tokio::select! {
        answer = submit(&first, request("r")) => panic!("{answer:?}"),
        () = failpoints.struck() => {}
    }
    run(&first, 1).await;
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    let id = submit(&first, request("r")).await.expect("is accepted").task;
    assert_eq!(first.try_state(id.as_str()).await, None);
    run(&first, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_named_send_that_definitely_failed_leaves_nothing() {
    let world = World::new();
    let replica = world.replica();
    let named = || Submission { request_id: Some("r".into()), ..keyed("k", Until::Ended, "one") };
    world.broker_switch.set(Mode::Unavailable);
    let answer = submit(&replica, named()).await;
    assert!(matches!(answer, Err(Error::Store(StoreError::Unavailable { .. }))), "{answer:?}");
    assert_eq!(replica.try_state("one").await, None);
    world.broker_switch.set(Mode::Works);
    assert_eq!(submit(&replica, keyed("k", Until::Ended, "two")).await, sent("two", false), "the key is free");
    let other = Submission { request_id: Some("r".into()), ..task("a", "three") };
    assert_eq!(submit(&replica, other).await, sent("three", false), "and so is the request id");
}

#[tokio::test(start_paused = true)]
async fn a_named_send_of_unknown_outcome_is_done_once_by_its_repeat() {
    for mode in [Mode::UnknownBefore, Mode::UnknownAfter] {
        for of_ledger in [false, true] {
            let world = World::new();
            let replica = world.replica();
            let switch = if of_ledger { &world.ledger_switch } else { &world.broker_switch };
            switch.next(1, mode);
            let answer = submit(&replica, request("r")).await;
            assert!(matches!(answer, Err(Error::Unconfirmed(_))), "{mode:?}: {answer:?}");
            let id = submit(&replica, request("r")).await.expect("is accepted").task;
            assert_eq!(world.waiting().await, 1, "{mode:?}");
            run(&replica, 1).await;
            assert_eq!(replica_status(&replica, &id).await, Status::Success);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_force_until_its_task_has_ended() {
    for world in worlds() {
        let (one, two) = (world.replica(), world.replica());
        let first = Submission { retry_count: 1, ..keyed("k", Until::Ended, "one") };
        assert_eq!(submit(&one, first).await, sent("one", false));
        let again = || Submission { priority: 7, ..keyed("k", Until::Started, "two") };
        assert_eq!(submit(&two, again()).await, sent("one", true), "whatever its content");
        let mut worker = Worker::attach(&one.service, "w", &["a"], 10).await;
        let lease = worker.lease().await;
        assert_eq!(submit(&two, again()).await, sent("one", true), "it runs");
        worker.report(&lease, failure("no")).await;
        rest().await;
        assert_eq!(submit(&two, again()).await, sent("one", true), "it is retried");
        let lease = worker.lease().await;
        worker.report(&lease, success("")).await;
        one.end("one").await;
        assert_eq!(submit(&two, again()).await, sent("two", false));
        assert_eq!(submit(&one, keyed("k", Until::Ended, "three")).await, sent("two", true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_free_once_its_task_has_started() {
    for world in worlds() {
        let replica = world.replica();
        assert_eq!(submit(&replica, keyed("k", Until::Started, "one")).await, sent("one", false));
        assert_eq!(submit(&replica, keyed("k", Until::Started, "two")).await, sent("one", true));
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        assert_eq!(submit(&replica, keyed("k", Until::Started, "two")).await, sent("two", false));
        worker.report(&lease, release(Duration::ZERO)).await;
        assert_eq!(submit(&replica, keyed("k", Until::Started, "three")).await, sent("two", true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_in_force_for_a_time() {
    for world in worlds() {
        let replica = world.replica();
        let minute = Until::Passed(Duration::from_secs(60));
        assert_eq!(submit(&replica, keyed("k", minute, "one")).await, sent("one", false));
        run(&replica, 1).await;
        assert_eq!(submit(&replica, keyed("k", minute, "two")).await, sent("one", true), "though it has ended");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(submit(&replica, keyed("k", minute, "two")).await, sent("two", false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_lapses_with_the_memory_of_a_task_that_waits() {
    for world in worlds() {
        let replica = world.replica();
        let day = Duration::from_secs(86_400);
        let delayed = Submission { delay: Some(day), ..keyed("k", Until::Ended, "one") };
        assert_eq!(submit(&replica, delayed).await, sent("one", false));
        world.clock.step_to(world.clock.wall().plus(KEY_KEPT_MAX));
        assert_eq!(submit(&replica, keyed("k", Until::Ended, "two")).await, sent("one", true));
        world.clock.step_to(world.clock.wall().plus(day));
        assert_eq!(submit(&replica, keyed("k", Until::Ended, "two")).await, sent("two", false));
    }
}

#[tokio::test(start_paused = true)]
async fn of_repeats_that_find_a_key_free_at_the_same_time_one_is_sent() {
    for world in worlds() {
        let replicas: Vec<Replica> = (0..4).map(|_| world.replica()).collect();
        submit(&replicas[0], keyed("k", Until::Ended, "first")).await.expect("is accepted");
        run(&replicas[0], 1).await;
        let sends = (0..20).map(|i| submit(&replicas[i % 4], keyed("k", Until::Ended, &format!("t{i}"))));
        let answers = futures::future::join_all(sends).await;
        let ids: Vec<_> = answers.into_iter().map(|answer| answer.expect("is accepted")).collect();
        assert!(ids.iter().all(|sent| sent.task == ids[0].task), "{ids:?}");
        assert_eq!(ids.iter().filter(|sent| !sent.already).count(), 1);
        run(&replicas[0], 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_met_a_key_is_the_same_send_when_the_key_is_free() {
    for world in worlds() {
        let replica = world.replica();
        submit(&replica, keyed("k", Until::Ended, "one")).await.expect("is accepted");
        let second = || Submission { request_id: Some("r".into()), ..keyed("k", Until::Ended, "two") };
        assert_eq!(submit(&replica, second()).await, sent("one", true));
        run(&replica, 1).await;
        assert_eq!(submit(&replica, second()).await, sent("one", true));
        run(&replica, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sends_with_and_without_names_keep_their_places_in_a_batch() {
    for world in worlds() {
        let replica = world.replica();
        let bad = Submission { name: String::new(), ..request("bad") };
        let named = Submission { request_id: Some("r".into()), ..task("a", "two") };
        let batch = vec![task("a", "one"), named, bad, task("a", "three"), keyed("k", Until::Ended, "four")];
        let answers = replica.service.submit(batch).await;
        assert!(matches!(&answers[2], Err(Error::Invalid { field, .. }) if field == "name"), "{answers:?}");
        for (i, id) in [(0, "one"), (1, "two"), (3, "three"), (4, "four")] {
            assert_eq!(answers[i], sent(id, false));
        }
        assert_eq!(world.waiting().await, 4);
    }
}
