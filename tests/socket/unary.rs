//! `LeaseTasks` and `ExtendLeases`: a worker without a stream.

use std::time::Duration;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::*;
use tonic::{Code, Status};

use crate::rooms::Room;
use crate::stubs::{Stubs, ids, lease_request, release, span, success, taking, task};
use crate::support::until::soon;
use crate::support::{Refusal, refusal, until};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, unary:
            a_call_answers_one_task_unless_told_and_never_more_than_told
            a_call_without_a_session_makes_one_and_later_calls_go_on_with_it
            a_call_waits_for_the_first_task
            a_call_that_finds_nothing_is_answered_in_time
            a_call_may_wait_longer_than_a_silent_session_lives
            an_answered_lease_counts_as_accepted
            the_same_request_id_answers_the_same_leases_while_they_live
            a_request_id_needs_a_session
            a_call_that_is_given_up_keeps_no_tasks
            a_session_of_another_is_refused
            extending_tells_which_leases_live
            extending_keeps_leases_alive
        );
    };
}
pub(crate) use cases;

async fn call(stubs: &Stubs, request: LeaseTasksRequest) -> Result<LeaseTasksResponse, Status> {
    Ok(stubs.workers().lease_tasks(request).await?.into_inner())
}

async fn answer(stubs: &Stubs, request: LeaseTasksRequest) -> LeaseTasksResponse {
    call(stubs, request).await.expect("is answered")
}

fn gone() -> Refusal {
    Refusal::new(Code::FailedPrecondition, "LEASE_LOST", "")
}

pub(crate) async fn a_call_answers_one_task_unless_told_and_never_more_than_told(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids((0..10).map(|i| format!("t{i}"))).await;
    let one = answer(&stubs, lease_request(&["n"], 0)).await;
    assert_eq!(ids(&one.leases), ["t0"]);
    let some = answer(&stubs, lease_request(&["n"], 3)).await;
    assert!((1..=3).contains(&some.leases.len()), "{}", some.leases.len());
    assert_eq!(stubs.held().await.len(), 1 + some.leases.len(), "nothing is leased that is not answered");
    let status = call(&stubs, lease_request(&["n"], 1001)).await.expect_err("is refused");
    assert_eq!(refusal(&status), Refusal::limit("tasks_max"));
}

pub(crate) async fn a_call_without_a_session_makes_one_and_later_calls_go_on_with_it(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b"]).await;
    let request = LeaseTasksRequest { worker: "caller".into(), ..lease_request(&["n"], 1) };
    let first = answer(&stubs, request.clone()).await;
    let session = first.session.clone().expect("is always set");
    assert!(!session.session_id.is_empty() && session.secret.len() >= 32);
    let timing = first.timing.expect("is always set");
    assert_eq!(timing.lease_duration, Some(span(Duration::from_secs(30))));
    let second = answer(&stubs, LeaseTasksRequest { session: first.session.clone(), ..request }).await;
    assert_eq!(second.session, first.session);
    assert_eq!((ids(&first.leases), ids(&second.leases)), (vec!["a"], vec!["b"]));
    let held: Vec<_> = stubs.held().await.into_iter().map(|lease| (lease.session_id, lease.worker)).collect();
    assert_eq!(held, vec![(session.session_id, "caller".to_owned()); 2]);
}

pub(crate) async fn a_call_waits_for_the_first_task(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let begun = SystemClock.now();
    let wait_max = Some(span(Duration::from_secs(60)));
    let waiting = tokio::spawn({
        let stubs = stubs.clone();
        async move { answer(&stubs, LeaseTasksRequest { wait_max, ..lease_request(&["n"], 10) }).await }
    });
    until("it waits", async || stubs.listed().await.iter().any(|worker| worker.attached).then_some(())).await;
    stubs.send(task("a")).await;
    let answered = soon("the call is answered", waiting).await.expect("runs");
    assert_eq!(ids(&answered.leases), ["a"], "the first is enough");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

pub(crate) async fn a_call_that_finds_nothing_is_answered_in_time(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    for wait in [None, Some(Duration::ZERO), Some(Duration::from_millis(150))] {
        let begun = SystemClock.now();
        let nothing =
            answer(&stubs, LeaseTasksRequest { wait_max: wait.map(span), ..lease_request(&["other"], 1) }).await;
        assert!(nothing.leases.is_empty());
        let took = begun.elapsed();
        assert!(wait.is_none_or(|wait| took >= wait) && took < Duration::from_secs(10), "{took:?}");
    }
    let wait_max = Some(span(Duration::from_secs(61)));
    let status = call(&stubs, LeaseTasksRequest { wait_max, ..lease_request(&["n"], 1) }).await;
    assert_eq!(refusal(&status.expect_err("is refused")), Refusal::limit("wait_max"));
}

pub(crate) async fn a_call_may_wait_longer_than_a_silent_session_lives(room: Room) {
    let server = room
        .serve_with(|config| {
            config.leases.heartbeat_interval = "100ms".parse().expect("a span");
            config.leases.lease_duration = "300ms".parse().expect("a span");
        })
        .await;
    let stubs = Stubs::to(&server).await;
    let wait_max = Some(span(Duration::from_secs(60)));
    let waiting = tokio::spawn({
        let stubs = stubs.clone();
        async move { answer(&stubs, LeaseTasksRequest { wait_max, ..lease_request(&["n"], 1) }).await }
    });
    until("it waits", async || stubs.listed().await.iter().any(|worker| worker.attached).then_some(())).await;
    // Sessions that came later and are not heard of again: while one of them lived and died, the call has waited.
    for _ in 0..2 {
        let silent = answer(&stubs, LeaseTasksRequest { wait_max: None, ..lease_request(&["other"], 1) }).await;
        let silent = silent.session.expect("is always set").session_id;
        until("the silent one is gone", async || {
            stubs.listed().await.iter().all(|worker| worker.session_id != silent).then_some(())
        })
        .await;
    }
    stubs.send(task("a")).await;
    let answered = soon("the call is answered", waiting).await.expect("runs");
    assert_eq!(ids(&answered.leases), ["a"]);
    // The lease lives from the answer on.
    stubs.record(&answered.leases[0], success([])).await;
    assert_eq!(stubs.end("a").await.attempt, 1);
}

pub(crate) async fn an_answered_lease_counts_as_accepted(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    stubs.lease("n").await;
    let held = stubs.held().await;
    assert_eq!((held.len(), held[0].accepted, held[0].started), (1, true, false));
    stubs.until("a", TaskStatus::Received).await;
}

pub(crate) async fn the_same_request_id_answers_the_same_leases_while_they_live(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c", "d"]).await;
    let session = answer(&stubs, lease_request(&["n"], 1)).await.session;
    let request =
        |id: &str| LeaseTasksRequest { session: session.clone(), request_id: id.into(), ..lease_request(&["n"], 1) };
    let first = answer(&stubs, request("r")).await.leases;
    assert_eq!(ids(&first), ["b"]);
    assert_eq!(answer(&stubs, request("r")).await.leases, first, "each time the same, with the task");
    // Over another connection too, since the first may be what failed.
    let elsewhere = Stubs::to(&server).await;
    assert_eq!(answer(&elsewhere, request("r")).await.leases, first);
    assert_eq!(ids(&answer(&stubs, request("s")).await.leases), ["c"], "another id is another request");
    stubs.record(&first[0], success([])).await;
    assert_eq!(ids(&answer(&stubs, request("r")).await.leases), ["d"], "they live no more");
}

pub(crate) async fn a_request_id_needs_a_session(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let request = LeaseTasksRequest { request_id: "r".into(), ..lease_request(&["n"], 1) };
    let status = call(&stubs, request).await.expect_err("is refused");
    assert_eq!(refusal(&status), Refusal::invalid("request_id"));
}

pub(crate) async fn a_call_that_is_given_up_keeps_no_tasks(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let wait_max = Some(span(Duration::from_secs(60)));
    let waiting = tokio::spawn({
        let stubs = stubs.clone();
        async move { call(&stubs, LeaseTasksRequest { wait_max, ..lease_request(&["n"], 10) }).await }
    });
    until("it waits", async || stubs.listed().await.iter().any(|worker| worker.attached).then_some(())).await;
    waiting.abort();
    until("it is gone", async || stubs.listed().await.iter().all(|worker| !worker.attached).then_some(())).await;
    stubs.send(task("a")).await;
    assert_eq!(stubs.lease("n").await.task_id, "a");
}

pub(crate) async fn a_session_of_another_is_refused(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let session = answer(&stubs, lease_request(&["n"], 1)).await.session.expect("is always set");
    let wrong = Resume { secret: "x".repeat(64), ..session.clone() };
    let unknown = Resume { session_id: "never".into(), ..session };
    for session in [wrong, unknown] {
        let request = LeaseTasksRequest { session: Some(session.clone()), ..lease_request(&["n"], 1) };
        assert_eq!(refusal(&call(&stubs, request).await.expect_err("is refused")), gone());
        let request = ExtendLeasesRequest { session: Some(session), lease_ids: Vec::new() };
        assert_eq!(refusal(&stubs.workers().extend_leases(request).await.expect_err("is refused")), gone());
    }
    let nobody = LeaseTasksRequest { subscriptions: Vec::new(), ..Default::default() };
    assert_eq!(refusal(&call(&stubs, nobody).await.expect_err("is refused")), Refusal::invalid("subscriptions"));
    let none = stubs.workers().extend_leases(ExtendLeasesRequest::default()).await.expect_err("is refused");
    assert_eq!(refusal(&none), Refusal::invalid("session"));
}

pub(crate) async fn extending_tells_which_leases_live(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c", "d"]).await;
    let (leases, session) = stubs.lease_many("n", 3).await;
    let foreign = stubs.lease("n").await;
    stubs.record(&leases[0], success([])).await;
    stubs.record(&leases[1], release()).await;
    let asked = [&leases[2], &leases[0], &foreign, &leases[1]].map(|lease| lease.lease_id.clone());
    let lease_ids: Vec<String> = asked.into_iter().chain(["no lease".to_owned()]).collect();
    let request = ExtendLeasesRequest { session: Some(session), lease_ids: lease_ids.clone() };
    let told = stubs.workers().extend_leases(request).await.expect("is answered").into_inner();
    let verdicts: Vec<_> = told.leases.iter().map(|lease| lease.kept).collect();
    assert_eq!(verdicts, [true, false, false, false, false]);
    assert!(told.leases.iter().map(|lease| &lease.lease_id).eq(&lease_ids), "in order");
    assert_eq!(told.timing.and_then(|timing| timing.heartbeat_interval), Some(span(Duration::from_secs(10))));
}

pub(crate) async fn extending_keeps_leases_alive(room: Room) {
    let server = room
        .serve_with(|config| {
            config.leases.heartbeat_interval = "100ms".parse().expect("a span");
            config.leases.lease_duration = "500ms".parse().expect("a span");
        })
        .await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["kept", "lost"]).await;
    let (kept, session) = stubs.lease_many("n", 1).await;
    let (_lost, silent) = stubs.lease_many("n", 1).await;
    // Until the other one, which was leased later and is not renewed, is gone.
    until("the silent worker is gone", async || {
        let lease_ids = vec![kept[0].lease_id.clone()];
        let request = ExtendLeasesRequest { session: Some(session.clone()), lease_ids };
        let told = stubs.workers().extend_leases(request).await.expect("the session lives").into_inner();
        assert!(told.leases[0].kept);
        stubs.listed().await.iter().all(|worker| worker.session_id != silent.session_id).then_some(())
    })
    .await;
    let request = ExtendLeasesRequest { session: Some(silent), lease_ids: Vec::new() };
    assert_eq!(refusal(&stubs.workers().extend_leases(request).await.expect_err("is gone")), gone());
    stubs.record(&kept[0], success([])).await;
    let request = LeaseTasksRequest { session: Some(session), subscriptions: taking(&["n"]), ..lease_request(&[], 1) };
    until("the lost task comes again", async || {
        let leases = answer(&stubs, request.clone()).await.leases;
        leases.first().map(|lease| assert_eq!((lease.task_id.as_str(), lease.attempt), ("lost", 2)))
    })
    .await;
}
