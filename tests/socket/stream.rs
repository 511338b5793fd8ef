//! `WorkerLease`: opening, credit, heartbeats, confirming, ending.

use std::time::Duration;

use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use tonic::Code;

use crate::rooms::Room;
use crate::stubs::{Stubs, ids, span, success, taking, task};
use crate::support::until::soon;
use crate::support::{Refusal, refusal, until};
use crate::talk::{Talk, hello};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, stream:
            a_hello_is_answered_with_all_that_a_worker_needs
            the_first_message_must_be_a_hello_and_a_second_one_is_refused
            leases_are_numbered_from_one_and_never_go_beyond_the_credit
            a_smaller_credit_than_before_is_ignored
            leases_that_a_heartbeat_does_not_name_go_back
            a_heartbeat_is_answered_with_its_sequence
            a_lease_of_another_session_is_revoked_when_it_is_named
            what_a_newer_client_says_is_ignored
            after_half_closing_the_session_is_detached_and_keeps_its_leases
            verdicts_are_still_told_after_half_closing
            a_goodbye_ends_the_session_and_gives_its_leases_back
            a_worker_gets_only_the_names_and_queues_it_takes
            a_worker_that_joins_gets_its_share
            a_silent_worker_loses_its_task_to_another_and_is_told
        );
    };
}
pub(crate) use cases;

pub(crate) async fn a_hello_is_answered_with_all_that_a_worker_needs(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let (_talk, welcome) = Talk::greet(&stubs, hello(&["n"])).await;
    assert!(!welcome.session_id.is_empty() && welcome.secret.len() >= 32);
    assert!(!welcome.resumed && welcome.held.is_empty());
    let timing = welcome.timing.expect("is always set");
    assert_eq!(timing.heartbeat_interval, Some(span(Duration::from_secs(10))));
    assert_eq!(timing.lease_duration, Some(span(Duration::from_secs(30))));
    assert_eq!(timing.silence_max, Some(span(Duration::from_secs(45))));
    let info = stubs.info().get_server_info(GetServerInfoRequest {}).await.expect("is answered").into_inner();
    assert_eq!(welcome.guarantees, info.guarantees);
    assert_eq!(Some(welcome.session_leases_max), info.limits.map(|limits| limits.session_leases_max));
    let (_other, second) = Talk::greet(&stubs, hello(&["n"])).await;
    assert!(second.session_id != welcome.session_id && second.secret != welcome.secret);
}

pub(crate) async fn the_first_message_must_be_a_hello_and_a_second_one_is_refused(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let broken = Refusal::new(Code::FailedPrecondition, "PROTOCOL_VIOLATED", "");
    let mut talk = Talk::open(&stubs).await;
    talk.credit(1).await;
    assert_eq!(refusal(&talk.refusal().await), broken);
    let (mut talk, _) = Talk::greet(&stubs, hello(&["n"])).await;
    talk.say(Said::Hello(hello(&["n"]))).await;
    assert_eq!(refusal(&talk.refusal().await), broken);
    let mut talk = Talk::open(&stubs).await;
    talk.half_close();
    assert_eq!(refusal(&talk.refusal().await), broken);
}

pub(crate) async fn leases_are_numbered_from_one_and_never_go_beyond_the_credit(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids((0..10).map(|i| format!("t{i}"))).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 0).await;
    talk.heartbeat(0, &[]).await;
    assert_eq!(talk.received, 0, "without credit nothing comes");
    talk.credit(3).await;
    let mut leases = talk.lease_many(3).await;
    assert_eq!(stubs.held().await.len(), 3, "no lease is granted that may not be sent");
    // An outcome alone is no credit.
    assert_eq!(talk.report(&leases[0], success([])).await, ReportVerdict::Recorded);
    talk.heartbeat(0, &[]).await;
    assert_eq!(talk.received, 3);
    for limit in 4..=10 {
        talk.credit(limit).await;
        leases.push(talk.lease().await);
        assert_eq!(talk.received, limit);
    }
    assert_eq!(ids(&leases), Vec::from_iter((0..10).map(|i| format!("t{i}"))));
}

pub(crate) async fn a_smaller_credit_than_before_is_ignored(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 2).await;
    talk.credit(1).await;
    talk.heartbeat(0, &[]).await;
    stubs.send_ids(["a", "b", "c"]).await;
    assert_eq!(ids(&talk.lease_many(2).await), ["a", "b"]);
    talk.heartbeat(0, &[]).await;
    assert_eq!(talk.received, 2);
}

pub(crate) async fn leases_that_a_heartbeat_does_not_name_go_back(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b"]).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 2).await;
    let (a, b) = (talk.offer().await, talk.offer().await);
    talk.heartbeat(2, &[&a]).await;
    talk.credit(3).await;
    let back = talk.lease().await;
    assert_eq!((back.task_id.as_str(), talk.received), ("b", 3));
    assert!(back.fencing_token > b.fencing_token);
    assert_eq!(back.attempt, 1, "at no cost of an attempt");
    assert_eq!(talk.report(&a, success([])).await, ReportVerdict::Recorded);
    // What an earlier heartbeat has confirmed is not given back by a later one.
    talk.heartbeat(3, &[]).await;
    assert_eq!(talk.report(&back, success([])).await, ReportVerdict::Recorded);
}

pub(crate) async fn a_heartbeat_is_answered_with_its_sequence(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let (mut talk, _) = Talk::greet(&stubs, hello(&["n"])).await;
    for sequence in [1, u64::MAX, 7] {
        talk.say(Said::Heartbeat(Heartbeat { sequence, ..Default::default() })).await;
        let told = talk.next().await.expect("is answered");
        assert_eq!(told, Some(Told::HeartbeatAck(HeartbeatAck { sequence })));
    }
}

pub(crate) async fn a_lease_of_another_session_is_revoked_when_it_is_named(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let lease = stubs.lease("n").await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 1).await;
    talk.say(Said::Heartbeat(Heartbeat { held: vec![lease.lease_id.clone()], ..Default::default() })).await;
    let revoked = talk.told(|told| if let Told::Revoke(revoke) = told { Some(revoke.clone()) } else { None }).await;
    assert_eq!((revoked.lease_id.as_str(), revoked.reason()), (lease.lease_id.as_str(), RevokeReason::Unknown));
    stubs.record(&lease, success([])).await;
}

pub(crate) async fn what_a_newer_client_says_is_ignored(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut talk, _) = Talk::greet(&stubs, hello(&["n"])).await;
    // A variant that this server does not know is read as no variant.
    talk.say_raw(WorkerLeaseRequest { message: None }).await;
    talk.credit(1).await;
    talk.say_raw(WorkerLeaseRequest { message: None }).await;
    let lease = talk.lease().await;
    assert_eq!(talk.report(&lease, success([])).await, ReportVerdict::Recorded);
}

pub(crate) async fn after_half_closing_the_session_is_detached_and_keeps_its_leases(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut talk, welcome) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = talk.lease().await;
    talk.half_close();
    assert_eq!(talk.next().await.expect("ends with OK"), None);
    let session =
        until("it is detached", async || stubs.listed().await.into_iter().find(|worker| !worker.attached)).await;
    assert_eq!((session.session_id, session.leases), (welcome.session_id, 1));
    stubs.record(&lease, success([])).await;
    assert_eq!(stubs.end("a").await.attempt, 1);
}

pub(crate) async fn verdicts_are_still_told_after_half_closing(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 3).await;
    for lease in talk.lease_many(3).await {
        talk.say(Said::Report(crate::stubs::report(&lease, success([])))).await;
    }
    talk.half_close();
    for _ in 0..3 {
        assert_eq!(talk.ack().await.verdict(), ReportVerdict::Recorded);
    }
    assert_eq!(talk.next().await.expect("ends with OK"), None);
}

pub(crate) async fn a_goodbye_ends_the_session_and_gives_its_leases_back(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (mut talk, welcome) = Talk::worker(&stubs, &["n"], 3).await;
    let leases = talk.lease_many(3).await;
    talk.say(Said::Started(Started { lease_id: leases[1].lease_id.clone() })).await;
    talk.say(Said::Report(crate::stubs::report(&leases[0], success([])))).await;
    talk.say(Said::Goodbye(WorkerGoodbye {})).await;
    assert_eq!(talk.goodbye().await, GoodbyeReason::Asked);
    // What was reported before counts.
    assert_eq!(stubs.end("a").await.status(), TaskStatus::Success);
    let (again, _) = stubs.lease_many("n", 2).await;
    assert!(again.iter().all(|lease| lease.attempt == 1), "at no cost of an attempt: {again:?}");
    let mut back = ids(&again);
    back.sort_unstable();
    assert_eq!(back, ["b", "c"]);
    assert!(stubs.listed().await.iter().all(|worker| worker.session_id != welcome.session_id));
    let mut gone = Talk::open(&stubs).await;
    gone.say(Said::Hello(crate::talk::resume(&welcome, &["n"], &[]))).await;
    assert_eq!(refusal(&gone.refusal().await), Refusal::new(Code::FailedPrecondition, "LEASE_LOST", ""));
}

pub(crate) async fn a_worker_gets_only_the_names_and_queues_it_takes(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let of = |name: &str, queue: &str| Task {
        id: format!("{name}-{queue}"),
        name: name.into(),
        queue: queue.into(),
        ..Default::default()
    };
    for (name, queue) in [("a", "q"), ("b", "q"), ("a", "r"), ("b", "r"), ("a", ""), ("c", "")] {
        stubs.send(of(name, queue)).await;
    }
    let takes = |queue: &str, name: &str| Subscription { queue: queue.into(), ..taking(&[name]).remove(0) };
    let subscriptions = vec![takes("q", "a"), takes("r", "b"), takes("", "c")];
    let (mut talk, _) = Talk::greet(&stubs, Hello { subscriptions, ..hello(&[]) }).await;
    talk.credit(100).await;
    let mut leases = talk.lease_many(3).await;
    leases.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    assert_eq!(ids(&leases), ["a-q", "b-r", "c-"]);
    assert_eq!(leases[0].queue, "q");
    talk.heartbeat(0, &[]).await;
    assert_eq!(talk.received, 3, "the others wait for whoever takes them");
}

pub(crate) async fn a_worker_that_joins_gets_its_share(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids((0..300).map(|i| format!("t{i}"))).await;
    let (mut busy, _) = Talk::worker(&stubs, &["n"], 10).await;
    busy.lease_many(10).await;
    let (mut joins, _) = Talk::worker(&stubs, &["n"], 10).await;
    soon("the newcomer gets its leases", joins.lease_many(10)).await;
    assert_eq!(stubs.held().await.len(), 20);
}

pub(crate) async fn a_silent_worker_loses_its_task_to_another_and_is_told(room: Room) {
    let server = room
        .serve_with(|config| {
            config.leases.heartbeat_interval = "100ms".parse().expect("a span");
            config.leases.lease_duration = "400ms".parse().expect("a span");
        })
        .await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut silent, welcome) = Talk::worker(&stubs, &["n"], 1).await;
    let lost = silent.lease().await;
    silent.say(Said::Started(Started { lease_id: lost.lease_id.clone() })).await;
    // Its stream stays open, but it says nothing more.
    let (lease, _) = stubs.lease_many("n", 1).await;
    assert_eq!((lease[0].task_id.as_str(), lease[0].attempt), ("a", 2));
    assert!(lease[0].fencing_token > lost.fencing_token);
    let goodbye = silent.goodbye().await;
    assert_eq!(goodbye, GoodbyeReason::Expired);
    assert_eq!(stubs.report(vec![crate::stubs::report(&lost, success([]))]).await, [ReportVerdict::Superseded]);
    assert!(stubs.listed().await.iter().all(|worker| worker.session_id != welcome.session_id));
    stubs.record(&lease[0], success([])).await;
    assert_eq!(stubs.end("a").await.attempt, 2);
}
