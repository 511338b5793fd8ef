//! Trying again: when, how often, and what may be seen of it.

use std::time::Duration;

use lineshaft::clock::Clock;
use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Outcome, Settings, Submission};
use lineshaft::task::{Arg, ArgValue, FailureReason, Status};

use crate::gated::Call;
use crate::worker::{Worker, failure, release, report, success};
use crate::world::{Replica, World, queue, rest, task};

const SECOND: Duration = Duration::from_secs(1);

async fn delay_of(replica: &Replica, world: &World) -> Duration {
    rest().await;
    let page = replica.service.pending(Some(queue("q")), true, None, 10).await.expect("can be listed");
    let at = page.tasks.first().and_then(|waiting| waiting.available_at).expect("waits for its time");
    world.clock.wall().until(at) + Duration::from_millis(1)
}

async fn retries(world: World, retry_timeout: u64, delays: &[u64]) {
    let replica = world.replica();
    let retry_count = u32::try_from(delays.len()).expect("fits");
    replica.send(Submission { retry_count, retry_timeout, ..task("a", "a") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
    for (n, delay) in delays.iter().enumerate() {
        let lease = worker.lease().await;
        assert_eq!(lease.attempt as usize, n + 1);
        assert_eq!(worker.report(&lease, failure("no")).await, Verdict::Recorded);
        replica.status("a", Status::Retry).await;
        let state = replica.state("a").await;
        assert_eq!((state.error.as_str(), state.attempt as usize), ("no", n + 1), "RETRY is seen, with its reason");
        let failed = tokio::time::Instant::now();
        assert_eq!(delay_of(&replica, &world).await.as_secs(), *delay);
        let early = worker.offer_within(SECOND * *delay as u32 - SECOND / 5).await;
        assert!(early.is_none(), "not before {delay} s");
        let next = worker.offer_within(SECOND * 2).await.expect("comes");
        worker.inbound.accepted(worker.received);
        assert!((*delay..=*delay + 1).contains(&failed.elapsed().as_secs()));
        assert_eq!(next.signature.retry_count as usize, delays.len() - n - 1);
        if n + 1 == delays.len() {
            assert_eq!(worker.report(&next, failure("the last")).await, Verdict::Recorded);
        } else {
            assert_eq!(worker.report(&next, release(Duration::ZERO)).await, Verdict::Recorded);
        }
    }
    let state = replica.end("a").await;
    assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::Failed));
    assert_eq!((state.error.as_str(), state.attempt as usize), ("the last", delays.len() + 1));
}

#[tokio::test(start_paused = true)]
async fn delays_between_attempts_are_fibonacci_numbers() {
    retries(World::new(), 0, &[1, 2, 3, 5]).await;
    retries(World::fused(), 0, &[1, 2, 3, 5]).await;
    retries(World::new(), 4, &[5, 8]).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_the_worker_asks_for_costs_no_retry() {
    let world = World::new();
    let replica = world.replica();
    replica.send(Submission { retry_count: 1, ..task("a", "a") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
    for attempt in 1..=3 {
        let lease = worker.lease().await;
        assert_eq!((lease.attempt, lease.signature.retry_count), (attempt, 1));
        let retry_after = Some(7 * SECOND);
        let outcome = Outcome::Failure { error: "later".into(), is_final: false, retry_after };
        assert_eq!(worker.report(&lease, outcome).await, Verdict::Recorded);
        assert_eq!(delay_of(&replica, &world).await.as_secs(), 7);
        assert_eq!(replica.state("a").await.status, Status::Retry);
    }
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, failure("no")).await, Verdict::Recorded);
    assert_eq!(delay_of(&replica, &world).await.as_secs(), 1, "the first that counts");
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_ends_the_task_whatever_is_left() {
    let world = World::new();
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
    for (id, retry_after) in [("plain", None), ("with a delay", Some(SECOND))] {
        let id = id.replace(' ', "-");
        replica.send(Submission { retry_count: 5, ..task("a", &id) }).await;
        let lease = worker.lease().await;
        let outcome = Outcome::Failure { error: "never".into(), is_final: true, retry_after };
        assert_eq!(worker.report(&lease, outcome).await, Verdict::Recorded);
        assert_eq!(replica.end(&id).await.status, Status::Failure);
    }
    rest().await;
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_released_task_waits_as_long_as_its_worker_said() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, release(20 * SECOND)).await, Verdict::Recorded);
    assert_eq!(worker.report(&lease, success("late")).await, Verdict::Recorded, "not granted since, so it counts");
    replica.send(task("a", "b")).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, release(20 * SECOND)).await, Verdict::Recorded);
    assert!(worker.offer_within(19 * SECOND).await.is_none());
    let again = worker.offer_within(2 * SECOND).await.expect("comes");
    assert_eq!((again.attempt, again.signature.uuid.as_str()), (1, "b"));
    assert_eq!(replica.service.report(vec![report(&lease, release(20 * SECOND))]).await, Ok(vec![Verdict::Superseded]));
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_caller_has_gone_is_carried_out_with_its_delay() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 100).await;
    let lease = worker.lease().await;
    world.gate.shut(Call::Release);
    let call = replica.service.report(vec![report(&lease, release(20 * SECOND))]);
    assert!(tokio::time::timeout(SECOND, call).await.is_err(), "it waits for the ledger, and is given up");
    world.gate.open(Call::Release);
    assert!(worker.offer_within(18 * SECOND).await.is_none());
    let again = worker.offer_within(4 * SECOND).await.expect("comes");
    assert_eq!(again.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_released_ten_times_backs_off() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1_000).await;
    let mut pauses = Vec::new();
    for _ in 0..18 {
        let lease = worker.lease().await;
        assert_eq!(lease.attempt, 1, "none of it costs an attempt");
        let begun = tokio::time::Instant::now();
        assert_eq!(worker.report(&lease, release(Duration::ZERO)).await, Verdict::Recorded);
        let next = worker.offer().await;
        pauses.push(begun.elapsed().as_secs());
        worker.inbound.accepted(worker.received);
        assert_eq!(worker.report(&next, release(Duration::ZERO)).await, Verdict::Recorded);
    }
    assert!(pauses[..5].iter().all(|pause| *pause == 0), "the first ten are free: {pauses:?}");
    assert!(pauses.is_sorted() && pauses[5..].iter().all(|pause| (1..=31).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause >= 30), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_may_have_several_results_and_keeps_every_bit_of_them() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    let results = vec![
        Arg::new("", None, ArgValue::Int(i64::MIN)).expect("fits"),
        Arg::new("", Some("uint64"), ArgValue::Uint(u64::MAX)).expect("fits"),
        Arg::new("", None, ArgValue::Strings(vec!["a".into(), String::new()])).expect("fits"),
    ];
    assert_eq!(worker.report(&lease, Outcome::Success(results.clone())).await, Verdict::Recorded);
    assert_eq!(replica.end("a").await.results, Some(results));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_ends_the_task_and_says_so() {
    let mut world = World::new();
    world.settings = Settings { result_bytes_max: 1_000, ..world.settings };
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
    replica.send(Submission { retry_count: 3, ..task("a", "big") }).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success(&"x".repeat(1_000))).await, Verdict::Recorded);
    let state = replica.end("big").await;
    assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::ResultTooLarge));
    assert!(state.error.contains("1000 bytes"), "{}", state.error);
    replica.send(task("a", "small")).await;
    let lease = worker.lease().await;
    assert_eq!(worker.report(&lease, success(&"x".repeat(900))).await, Verdict::Recorded);
    assert_eq!(replica.end("small").await.status, Status::Success);
}
