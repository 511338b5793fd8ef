//! Sending, and waiting for the end.

use std::time::Duration;

use lineshaft::clock::{Clock, WallTime};
use lineshaft::error::{Error, StoreError};
use lineshaft::ledger::{Ledger, Standing, Verdict};
use lineshaft::service::types::{Settings, Submission};
use lineshaft::task::{Status, TaskId};

use crate::faulty::Mode;
use crate::worker::{Worker, failure, success};
use crate::world::{World, rest, task};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn sends_beyond_the_limit_are_refused_whole_and_write_nothing() {
    let mut world = World::new();
    world.settings = Settings { sends_in_flight_max: 2, ..world.settings };
    let replica = world.replica();
    let batch = |n: u32| (0..n).map(|i| task("a", &format!("{n}-{i}"))).collect::<Vec<_>>();
    let answers = replica.service.send(batch(3)).await;
    assert!(answers.iter().all(|a| matches!(a, Err(Error::QueueFull { .. }))), "{answers:?}");
    assert_eq!((world.waiting().await, replica.try_state("3-0").await), (0, None));
    for _ in 0..3 {
        assert!(replica.service.send(batch(2)).await.iter().all(Result::is_ok), "a permit comes back with its answer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_definitely_not_sent_has_no_state() {
    let world = World::new();
    let replica = world.replica();
    world.broker_switch.set(Mode::Unavailable);
    let answer = replica.try_send(task("a", "a")).await;
    assert!(matches!(answer, Err(Error::Store(StoreError::Unavailable { .. }))), "{answer:?}");
    assert_eq!(replica.try_state("a").await, None);
    world.broker_switch.set(Mode::Works);
    replica.send(task("a", "a")).await;
    assert_eq!(replica.state("a").await.status, Status::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_sent_again_begins_anew() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success("")).await, Verdict::Recorded);
    assert_eq!(replica.end("a").await.status, Status::Success);
    tokio::time::sleep(Duration::from_secs(1)).await;
    replica.send(task("a", "a")).await;
    assert_eq!(replica.state("a").await.status, Status::Pending, "sent again, it begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_sent_again_after_the_clock_was_stepped_back_begins_anew() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        replica.send(task("a", "a")).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
        let lease = worker.lease().await;
        assert_eq!(worker.report(&lease, success("")).await, Verdict::Recorded);
        let before = replica.end("a").await;
        drop(worker);
        replica.crash();
        world.clock.step_to(WallTime(world.clock.wall().0 - HOUR.as_nanos() as u64));
        // Another process, which has not given later generations itself.
        let second = world.replica();
        for answer in second.service.send(vec![task("a", "a"), task("a", "a")]).await {
            assert_eq!(answer, Ok(TaskId::trusted("a")));
        }
        let again = second.state("a").await;
        assert_eq!(again.status, Status::Pending);
        assert_eq!(again.generation, before.generation + 2, "each sending is later than the one before");
        let mut worker = Worker::attach(&second.service, "w", &["a"], 10).await;
        let lease = worker.lease().await;
        worker.report(&lease, success("first")).await;
        let lease = worker.lease().await;
        worker.report(&lease, success("second")).await;
        assert_eq!(second.end("a").await.generation, again.generation);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_definitely_not_sent_again_keeps_its_earlier_state() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success("")).await, Verdict::Recorded);
    let before = replica.end("a").await;
    rest().await;
    world.broker_switch.set(Mode::Unavailable);
    let answer = replica.try_send(task("a", "a")).await;
    assert!(matches!(answer, Err(Error::Store(StoreError::Unavailable { .. }))), "{answer:?}");
    assert_eq!(replica.state("a").await, before);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_may_have_been_sent_keeps_its_state() {
    for mode in [Mode::UnknownBefore, Mode::UnknownAfter] {
        let world = World::new();
        let replica = world.replica();
        world.broker_switch.set(mode);
        let answer = replica.try_send(task("a", "a")).await;
        assert!(matches!(answer, Err(Error::Store(StoreError::OutcomeUnknown { .. }))), "{answer:?}");
        assert_eq!(replica.state("a").await.status, Status::Pending, "{mode:?}");
        assert_eq!(world.waiting().await, usize::from(mode == Mode::UnknownAfter));
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_task_of_a_batch_does_not_keep_the_others_back() {
    let world = World::new();
    let replica = world.replica();
    let bad = Submission { name: String::new(), ..task("a", "bad") };
    let deep =
        Submission { on_success: vec![Submission { name: "\u{7}".into(), ..task("a", "x") }], ..task("a", "deep") };
    let answers = replica.service.send(vec![task("a", "1"), bad, deep, task("a", "2")]).await;
    assert_eq!((&answers[0], &answers[3]), (&Ok(TaskId::trusted("1")), &Ok(TaskId::trusted("2"))));
    assert!(matches!(&answers[1], Err(Error::Invalid { field, .. }) if field == "name"), "{answers:?}");
    assert!(matches!(&answers[2], Err(Error::Invalid { field, .. }) if field == "on_success[0].name"), "{answers:?}");
    assert_eq!(world.waiting().await, 2);
    assert_eq!(replica.try_state("bad").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_a_task_go_forward_to_its_end() {
    let world = World::new();
    let replica = world.replica();
    replica.send(Submission { retry_count: 1, ..task("a", "a") }).await;
    let mut watch = replica.service.watch(TaskId::trusted("a"));
    let story = async {
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
        for outcome in [failure("no"), success("done")] {
            let lease = worker.lease().await;
            replica.status("a", Status::Received).await;
            worker.inbound.started(&lease.id);
            replica.status("a", Status::Started).await;
            assert_eq!(worker.report(&lease, outcome).await, Verdict::Recorded);
        }
    };
    let mut seen = Vec::new();
    let watching = async {
        while let Some(state) = watch.next().await.expect("can be read") {
            seen.push((state.attempt, state.status));
        }
    };
    tokio::join!(story, watching);
    use Status::{Pending, Received, Retry, Started, Success};
    let expected = [(1, Pending), (1, Received), (1, Started), (1, Retry), (2, Received), (2, Started), (2, Success)];
    assert_eq!(seen, expected);
    assert_eq!(watch.next().await, Ok(None), "nothing follows the end");
    let mut late = replica.service.watch(TaskId::trusted("a"));
    assert_eq!(late.next().await.expect("can be read").map(|s| s.status), Some(Success));
    assert_eq!(late.next().await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn waiting_answers_what_is_known_when_its_time_is_up() {
    let world = World::new();
    let replica = world.replica();
    let wait = |id: &str, time| replica.service.wait(TaskId::trusted(id), time);
    assert_eq!(wait("a", Duration::ZERO).await, Ok(None));
    assert_eq!(wait("a", HOUR).await, Ok(None), "still unknown");
    replica.send(task("a", "a")).await;
    for time in [Duration::ZERO, HOUR] {
        let begun = tokio::time::Instant::now();
        assert_eq!(wait("a", time).await.expect("can be read").map(|s| s.status), Some(Status::Pending));
        assert!(begun.elapsed() >= time && begun.elapsed() < time + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_task_that_is_not_sent_yet_sees_its_end_at_once_on_any_replica() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    let service = two.service.clone();
    let waiting = tokio::spawn(async move { service.wait(TaskId::trusted("a"), HOUR).await });
    rest().await;
    let begun = tokio::time::Instant::now();
    one.send(task("a", "a")).await;
    let mut worker = Worker::attach(&one.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
    let state = waiting.await.expect("runs").expect("can be read").expect("is known");
    assert_eq!(state.status, Status::Success);
    assert!(begun.elapsed() < Duration::from_secs(1), "told, not polled");
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_as_long_as_its_task_asks() {
    for (mut world, is_fused) in [(World::new(), false), (World::fused(), true)] {
        world.settings = Settings { request_window: Duration::from_secs(1), ..world.settings };
        let replica = world.replica();
        let kept = |id, seconds| Submission { result_retention: Some(Duration::from_secs(seconds)), ..task("a", id) };
        replica.send(kept("short", 60)).await;
        replica.send(Submission { retry_count: 1, ..kept("long", 86_400) }).await;
        replica.send(task("a", "plain")).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
        let mut message_of_short = None;
        for _ in 0..4 {
            let lease = worker.lease().await;
            if lease.signature.uuid == "short" {
                message_of_short = Some(lease.id.message.clone());
            }
            // The retry carries on what its task asked for.
            let fails = lease.signature.uuid == "long" && lease.attempt == 1;
            let outcome = if fails { failure("once") } else { success("done") };
            assert_eq!(worker.report(&lease, outcome).await, Verdict::Recorded);
        }
        for id in ["short", "plain", "long"] {
            assert_eq!(replica.end(id).await.status, Status::Success);
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(replica.try_state("short").await.is_none(), "a minute is over");
        assert!(replica.try_state("plain").await.is_some());
        if !is_fused {
            // Its message may come once more, and must be recognised however short its result is kept.
            world.ledger.sweep(world.clock.wall()).await.expect("is swept");
            let message = message_of_short.expect("was leased");
            let standing = world.ledger.standing(&[message]).await.expect("is told");
            assert_eq!(standing, [Standing::Decided]);
        }
        tokio::time::advance(HOUR).await;
        assert!(replica.try_state("plain").await.is_none(), "an hour is over");
        assert!(replica.try_state("long").await.is_some(), "a day is not");
    }
}
