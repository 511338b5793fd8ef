//! Ending tasks that wait in Redis: cancelled or purged, with a crash after each step.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::Subscription;
use lineshaft::service::dead::Mode;
use lineshaft::service::purge::{Purge, Purged};
use lineshaft::service::types::{CancelAnswer, LeaseRequest, Settings, Submission};
use lineshaft::service::{Service, Stores};
use lineshaft::task::{FailureReason, Status, TaskId, TaskName};
use lineshaft::{backend, fused, ledger};

use crate::support::redis::Redis;
use crate::support::until;
use crate::world::*;

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3_600);

/// A server with all three on one Redis, that stops at a point.
pub(crate) async fn server(redis: &Redis, failpoints: Failpoints) -> Service {
    let (broker, link) = (replica(redis).await, redis.link().await);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ledger = Arc::new(ledger::redis::Ledger::new(link.clone(), Arc::clone(&clock)));
    let backend = Arc::new(backend::redis::Backend::new(link.clone()));
    let rooms = (Arc::clone(&broker), Arc::clone(&ledger), Arc::clone(&backend));
    let all = fused::redis::Fused::new(link, rooms.0, rooms.1, rooms.2, Arc::clone(&clock));
    let stores = Stores { broker, ledger, backend, fused: Some(Arc::new(all)) };
    let settings = Settings { default_queue: queue("q"), ..Settings::default() };
    Service::start(stores, settings, clock, failpoints)
}

pub(crate) fn task(id: &str) -> Submission {
    Submission { id: Some(TaskId::trusted(id)), name: "work".into(), queue: Some(queue("q")), ..Submission::default() }
}

fn delayed(id: &str) -> Submission {
    Submission { delay: Some(HOUR), ..task(id) }
}

pub(crate) async fn send(service: &Service, tasks: Vec<Submission>) {
    assert!(service.send(tasks).await.iter().all(Result::is_ok));
}

pub(crate) async fn has_ended_as(service: &Service, id: &str, reason: FailureReason) -> bool {
    let state = service.states(&[TaskId::trusted(id)]).await.ok().and_then(|mut states| states.pop()?);
    state.is_some_and(|state| (state.status, state.reason) == (Status::Failure, reason))
}

/// How many tasks a worker is given that asks now.
async fn leased(service: &Service) -> usize {
    let subscription = Subscription { queue: queue("q"), names: vec![TaskName::trusted("work")], weight: 1 };
    let request = LeaseRequest {
        session: None,
        worker: "w".into(),
        subscriptions: vec![subscription],
        tasks_max: 10,
        wait_max: Duration::from_millis(50),
        request_id: None,
    };
    service.lease(request).await.map_or(0, |reply| reply.leases.len())
}

pub(crate) async fn cancel(service: &Service, id: &str) -> CancelAnswer {
    service.cancel(TaskId::trusted(id)).await.unwrap()
}

fn all(delayed: bool) -> Purge {
    Purge { queue: queue("q"), delayed, mode: Mode::Do, after: None, max: NonZeroUsize::new(1_000).unwrap() }
}

/// Purges until nothing is left; how many ended.
async fn purge(service: &Service, purge: Purge) -> u64 {
    let (mut count, mut after) = (0, purge.after.clone());
    loop {
        let Purged { count: more, next } = service.purge(Purge { after, ..purge.clone() }).await.unwrap();
        count += more;
        after = next;
        if after.is_none() {
            return count;
        }
    }
}

/// Goes on with `step` until nothing waits, nothing is delayed or held, and no mark is left.
async fn until_quiet(redis: &Redis, what: &str, mut step: impl AsyncFnMut()) {
    let mut connection = redis.connection().await;
    until(&format!("{what}: nothing is left"), async || {
        step().await;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let is_left = |key: &String| {
            ["q", "delayed_tasks", "{q}:again", "{q}:inbox", "{lineshaft}:later", "{lineshaft}:marks"]
                .contains(&key.as_str())
                || key.contains(":held:")
        };
        (!keys.iter().any(is_left)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_or_delayed_task_is_removed_from_redis_at_once() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let service = server(&redis, Failpoints::default()).await;
    send(&service, vec![task("due"), delayed("delayed")]).await;
    for id in ["due", "delayed"] {
        assert_eq!(cancel(&service, id).await, CancelAnswer::Removed, "{id}");
        assert!(has_ended_as(&service, id, FailureReason::Cancelled).await, "{id}");
        assert_eq!(cancel(&service, id).await, CancelAnswer::Ended, "{id}");
    }
    until_quiet(&redis, "at once", async || {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_steps_of_a_cancellation_runs_nothing_and_loses_nothing() {
    needs_redis!();
    for point in [Point::CancelMarked, Point::Picked, Point::CancelBegun, Point::SettleDecided] {
        let redis = Redis::start(&[]).await;
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = server(&redis, failpoints.clone()).await;
        send(&first, vec![task("a")]).await;
        tokio::select! {
            () = failpoints.struck() => {}
            _ = async { tokio::join!(first.cancel(TaskId::trusted("a")), std::future::pending::<()>()) } => {}
        }
        first.halt();
        drop(first);
        let second = server(&redis, Failpoints::default()).await;
        until(&format!("{point:?}: it has ended"), async || {
            assert_eq!(leased(&second).await, 0, "{point:?}");
            has_ended_as(&second, "a", FailureReason::Cancelled).await.then_some(())
        })
        .await;
        // Whoever takes its message finds that it is decided.
        let step = async || assert_eq!(leased(&second).await, 0, "{point:?}");
        until_quiet(&redis, &format!("{point:?}"), step).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_steps_of_a_purge_runs_nothing_early_and_it_may_be_repeated() {
    needs_redis!();
    for point in [Point::Picked, Point::PurgeBegun, Point::SettleDecided] {
        let redis = Redis::start(&[]).await;
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = server(&redis, failpoints.clone()).await;
        send(&first, (0..5).map(|n| delayed(&format!("a{n}"))).collect()).await;
        let purging = first.clone();
        tokio::spawn(async move { purging.purge(all(true)).await });
        failpoints.struck().await;
        first.halt();
        drop(first);
        let second = server(&redis, Failpoints::default()).await;
        // What the dead one held waits again, and is not due.
        until(&format!("{point:?}: all have ended"), async || {
            assert_eq!(leased(&second).await, 0, "{point:?}");
            purge(&second, all(true)).await;
            let mut ended = 0;
            for n in 0..5 {
                ended += usize::from(has_ended_as(&second, &format!("a{n}"), FailureReason::Purged).await);
            }
            (ended == 5).then_some(())
        })
        .await;
        let step = async || {
            purge(&second, all(true)).await;
            assert_eq!(leased(&second).await, 0, "{point:?}");
        };
        until_quiet(&redis, &format!("{point:?}"), step).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_many_pages_leaves_what_is_sent_meanwhile() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let service = server(&redis, Failpoints::default()).await;
    for chunk in (0..1_500).collect::<Vec<_>>().chunks(500) {
        send(&service, chunk.iter().map(|n| task(&format!("a{n}"))).collect()).await;
    }
    send(&service, vec![delayed("delayed")]).await;
    let page = Purge { max: NonZeroUsize::new(400).unwrap(), ..all(false) };
    let dry = service.purge(Purge { mode: Mode::DryRun, ..page.clone() }).await.unwrap();
    assert_eq!(dry.count, 400);
    let first = service.purge(page.clone()).await.unwrap();
    send(&service, vec![task("later")]).await;
    let rest = purge(&service, Purge { after: first.next, ..page }).await;
    assert_eq!((first.count, rest), (400, 1_100));
    let pending = service.pending(Some(queue("q")), true, None, 10).await.unwrap();
    let left: Vec<String> = pending.tasks.into_iter().map(|pending| pending.task.unwrap().uuid).collect();
    assert_eq!(left, ["later", "delayed"]);
    assert!(has_ended_as(&service, "a1499", FailureReason::Purged).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_whose_time_is_over_are_taken_out_of_redis_without_any_worker() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let service = server(&redis, Failpoints::default()).await;
    let short = |task: Submission| Submission { expires_in: Some(Duration::from_millis(200)), ..task };
    let elsewhere = Submission { queue: Some(queue("other")), ..task("elsewhere") };
    send(&service, vec![short(task("due")), short(delayed("delayed")), short(elsewhere), task("stays")]).await;
    for id in ["due", "delayed", "elsewhere"] {
        until(&format!("{id} expires"), async || {
            has_ended_as(&service, id, FailureReason::Expired).await.then_some(())
        })
        .await;
    }
    let pending = service.pending(Some(queue("q")), true, None, 10).await.unwrap();
    let left: Vec<String> = pending.tasks.into_iter().map(|pending| pending.task.unwrap().uuid).collect();
    assert_eq!(left, ["stays"]);
    assert_eq!(length(&mut redis.connection().await, "other").await, 0);
    assert_eq!(cancel(&service, "stays").await, CancelAnswer::Removed);
    until_quiet(&redis, "in the end", async || {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_the_steps_of_an_expiry_runs_nothing_and_loses_nothing() {
    needs_redis!();
    for point in [Point::Picked, Point::LapseBegun, Point::SettleDecided] {
        let redis = Redis::start(&[]).await;
        let failpoints = Failpoints::at(point, Action::Hang, 1);
        let first = server(&redis, failpoints.clone()).await;
        send(&first, vec![Submission { expires_in: Some(Duration::from_millis(200)), ..task("a") }]).await;
        failpoints.struck().await;
        first.halt();
        drop(first);
        let second = server(&redis, Failpoints::default()).await;
        let step = async || assert_eq!(leased(&second).await, 0, "{point:?}");
        until(&format!("{point:?}: it has ended"), async || {
            step().await;
            has_ended_as(&second, "a", FailureReason::Expired).await.then_some(())
        })
        .await;
        until_quiet(&redis, &format!("{point:?}"), step).await;
    }
}
