//! A session that goes on over another stream.

use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::*;
use tonic::Code;

use crate::rooms::Room;
use crate::stubs::{Stubs, report, success, task};
use crate::support::{Refusal, refusal, until};
use crate::talk::{Talk, hello, resume};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, resume:
            a_resumed_session_keeps_what_it_names_and_gives_back_the_rest
            a_lease_that_has_ended_is_not_kept
            leases_are_numbered_anew_on_each_stream
            the_older_stream_is_told_that_it_was_replaced
            a_session_is_resumed_only_with_its_secret
            leases_may_be_held_only_by_a_session
            a_broken_stream_detaches_and_its_lease_lives_on
        );
    };
}
pub(crate) use cases;

pub(crate) async fn a_resumed_session_keeps_what_it_names_and_gives_back_the_rest(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (mut old, welcome) = Talk::worker(&stubs, &["n"], 3).await;
    let leases = old.lease_many(3).await;
    drop(old);
    let held = [leases[2].lease_id.as_str(), "no lease", leases[0].lease_id.as_str()];
    let (mut new, again) = Talk::greet(&stubs, resume(&welcome, &["n"], &held)).await;
    assert!(again.resumed);
    assert_eq!((&again.session_id, &again.secret), (&welcome.session_id, &welcome.secret));
    let verdicts: Vec<_> = again.held.iter().map(|held| (held.lease_id.as_str(), held.kept)).collect();
    assert_eq!(verdicts, [(held[0], true), (held[1], false), (held[2], true)]);
    new.credit(1).await;
    let back = new.lease().await;
    assert_eq!((back.task_id.as_str(), back.attempt), ("b", 1));
    assert!(back.fencing_token > leases[1].fencing_token);
    for kept in [&leases[0], &leases[2], &back] {
        assert_eq!(new.report(kept, success([])).await, ReportVerdict::Recorded);
    }
    assert_eq!(new.report(&leases[1], success([])).await, ReportVerdict::Superseded);
}

pub(crate) async fn a_lease_that_has_ended_is_not_kept(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b"]).await;
    let (mut old, welcome) = Talk::worker(&stubs, &["n"], 2).await;
    let leases = old.lease_many(2).await;
    assert_eq!(old.report(&leases[0], success([])).await, ReportVerdict::Recorded);
    let held = [leases[0].lease_id.as_str(), leases[1].lease_id.as_str()];
    let (mut new, again) = Talk::greet(&stubs, resume(&welcome, &["n"], &held)).await;
    assert_eq!(again.held.iter().map(|held| held.kept).collect::<Vec<_>>(), [false, true]);
    // Reported again because its verdict may have been lost: it was recorded.
    assert_eq!(new.report(&leases[0], success([])).await, ReportVerdict::Duplicate);
}

pub(crate) async fn leases_are_numbered_anew_on_each_stream(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (mut old, welcome) = Talk::worker(&stubs, &["n"], 2).await;
    let leases = old.lease_many(2).await;
    let held = [leases[0].lease_id.as_str(), leases[1].lease_id.as_str()];
    let (mut new, _) = Talk::greet(&stubs, resume(&welcome, &["n"], &held)).await;
    new.heartbeat(0, &[&leases[0], &leases[1]]).await;
    assert_eq!(new.received, 0, "the credit of the older stream does not count here");
    new.credit(1).await;
    // `Talk` wants the first number to be 1.
    assert_eq!(new.lease().await.task_id, "c");
}

pub(crate) async fn the_older_stream_is_told_that_it_was_replaced(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut old, welcome) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = old.lease().await;
    // Over another connection, as when the first one hangs.
    let elsewhere = Stubs::to(&server).await;
    let (mut new, _) = Talk::greet(&elsewhere, resume(&welcome, &["n"], &[&lease.lease_id])).await;
    assert_eq!(old.goodbye().await, GoodbyeReason::Replaced);
    assert_eq!(new.report(&lease, success([])).await, ReportVerdict::Recorded);
    let (mut third, _) = Talk::greet(&stubs, resume(&welcome, &["n"], &[])).await;
    assert_eq!(new.goodbye().await, GoodbyeReason::Replaced);
    third.heartbeat(0, &[]).await;
}

pub(crate) async fn a_session_is_resumed_only_with_its_secret(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut talk, welcome) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = talk.lease().await;
    let wrong = Welcome { secret: "x".repeat(64), ..welcome.clone() };
    let unknown = Welcome { session_id: "never".into(), ..welcome.clone() };
    for stranger in [wrong, unknown] {
        let mut other = Talk::open(&stubs).await;
        other.say(Said::Hello(resume(&stranger, &["n"], &[]))).await;
        assert_eq!(refusal(&other.refusal().await), Refusal::new(Code::FailedPrecondition, "LEASE_LOST", ""));
    }
    // The owner is not disturbed.
    assert_eq!(talk.report(&lease, success([])).await, ReportVerdict::Recorded);
}

pub(crate) async fn leases_may_be_held_only_by_a_session(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let mut talk = Talk::open(&stubs).await;
    talk.say(Said::Hello(Hello { held: vec!["1-a".into()], ..hello(&["n"]) })).await;
    assert_eq!(refusal(&talk.refusal().await), Refusal::invalid("hello.held"));
}

pub(crate) async fn a_broken_stream_detaches_and_its_lease_lives_on(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let (mut talk, welcome) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = talk.lease().await;
    drop(talk);
    until("it is detached", async || {
        stubs.listed().await.into_iter().find(|worker| worker.session_id == welcome.session_id && !worker.attached)
    })
    .await;
    let held = stubs.held().await;
    assert_eq!((held.len(), held[0].lease_id.as_str()), (1, lease.lease_id.as_str()));
    assert_eq!(stubs.report(vec![report(&lease, success([]))]).await, [ReportVerdict::Recorded]);
}
