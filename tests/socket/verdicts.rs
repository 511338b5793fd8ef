//! What became of a report, on every way it may come.

use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::*;

use crate::rooms::Room;
use crate::stubs::{Stubs, again, failure, release, report, report_as, success, task, text};
use crate::talk::Talk;

use ReportVerdict::{Conflict, Duplicate, Recorded, Superseded};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, verdicts:
            each_report_of_a_call_has_its_verdict_in_order
            each_report_of_a_stream_has_its_verdict
            the_same_report_again_is_a_duplicate_and_another_outcome_a_conflict
            a_report_that_is_repeated_after_a_retry_was_sent_is_a_duplicate
            a_release_that_is_repeated_is_a_duplicate
            a_report_of_a_lease_that_was_replaced_changes_nothing
            a_report_counts_whichever_way_it_comes
        );
    };
}
pub(crate) use cases;

pub(crate) async fn each_report_of_a_call_has_its_verdict_in_order(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (leases, _) = stubs.lease_many("n", 3).await;
    let never = Lease { lease_id: "5f3a-never".into(), ..Default::default() };
    let reports = vec![
        report_as("r0", &leases[0], success([])),
        report_as("r1", &never, success([])),
        report_as("r2", &leases[1], failure("broken")),
        report_as("r3", &leases[0], failure("other")),
        report_as("r4", &leases[2], release()),
        report_as("r5", &Lease { lease_id: "no lease".into(), ..Default::default() }, success([])),
        report_as("r0", &leases[0], success([])),
    ];
    let request = ReportTasksRequest { reports: reports.clone() };
    let acks = stubs.workers().report_tasks(request).await.expect("is answered").into_inner().acks;
    let verdicts: Vec<_> = acks.iter().map(ReportAck::verdict).collect();
    assert_eq!(verdicts, [Recorded, Superseded, Recorded, Conflict, Recorded, Superseded, Duplicate]);
    for (ack, report) in acks.iter().zip(&reports) {
        assert_eq!((&ack.report_id, &ack.lease_id), (&report.report_id, &report.lease_id));
    }
    assert_eq!(stubs.end("a").await.status(), TaskStatus::Success);
    assert_eq!(stubs.end("b").await.error, "broken");
    assert_eq!(stubs.lease("n").await.task_id, "c");
}

pub(crate) async fn each_report_of_a_stream_has_its_verdict(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b"]).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 2).await;
    let leases = talk.lease_many(2).await;
    let never = Lease { lease_id: "no lease".into(), ..Default::default() };
    let reports = vec![
        report_as("r0", &leases[0], success([])),
        report_as("r1", &leases[1], success([])),
        report_as("r2", &leases[1], failure("other")),
        report_as("r3", &never, success([])),
    ];
    talk.say(Said::Reports(ReportBatch { reports })).await;
    let mut verdicts = Vec::new();
    for _ in 0..4 {
        let ack = talk.ack().await;
        verdicts.push((ack.report_id.clone(), ack.verdict()));
    }
    verdicts.sort();
    let expected = [("r0", Recorded), ("r1", Recorded), ("r2", Conflict), ("r3", Superseded)];
    assert_eq!(verdicts, expected.map(|(id, verdict)| (id.to_owned(), verdict)));
}

pub(crate) async fn the_same_report_again_is_a_duplicate_and_another_outcome_a_conflict(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let lease = stubs.lease("n").await;
    let first = success([text("x")]);
    let verdict = async |report| stubs.report(vec![report]).await.remove(0);
    assert_eq!(verdict(report_as("r", &lease, first.clone())).await, Recorded);
    stubs.end("a").await;
    assert_eq!(verdict(report_as("r", &lease, first.clone())).await, Duplicate);
    assert_eq!(verdict(report_as("r", &lease, failure("the same id"))).await, Duplicate);
    assert_eq!(verdict(report_as("s", &lease, first.clone())).await, Duplicate, "the same lease and outcome");
    assert_eq!(verdict(report(&lease, first)).await, Duplicate);
    assert_eq!(verdict(report(&lease, success([text("y")]))).await, Conflict);
    assert_eq!(verdict(report_as("s", &lease, failure("other"))).await, Conflict);
    assert_eq!(verdict(report(&lease, release())).await, Conflict);
    let state = stubs.state("a").await;
    assert_eq!((state.status(), state.results), (TaskStatus::Success, vec![text("x")]), "nothing was changed");
}

pub(crate) async fn a_report_that_is_repeated_after_a_retry_was_sent_is_a_duplicate(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let first = stubs.lease("n").await;
    stubs.record(&first, again("not yet")).await;
    assert_eq!(stubs.report(vec![report(&first, again("not yet"))]).await, [Duplicate]);
    let second = stubs.lease("n").await;
    assert_eq!(stubs.report(vec![report(&first, again("not yet"))]).await, [Duplicate]);
    assert_eq!(stubs.report(vec![report(&first, success([]))]).await, [Conflict]);
    stubs.record(&second, success([])).await;
    // There was one retry, not two.
    assert_eq!(stubs.end("a").await.attempt, 2);
    assert!(stubs.held().await.is_empty());
}

pub(crate) async fn a_release_that_is_repeated_is_a_duplicate(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let lease = stubs.lease("n").await;
    assert_eq!(stubs.report(vec![report_as("r", &lease, release())]).await, [Recorded]);
    assert_eq!(stubs.report(vec![report_as("r", &lease, release())]).await, [Duplicate]);
    let second = stubs.lease("n").await;
    assert_eq!(stubs.report(vec![report_as("r", &lease, release())]).await, [Superseded]);
    stubs.record(&second, success([])).await;
}

pub(crate) async fn a_report_of_a_lease_that_was_replaced_changes_nothing(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let old = stubs.lease("n").await;
    stubs.record(&old, release()).await;
    let new = stubs.lease("n").await;
    for outcome in [success([text("late")]), failure("late"), again("late"), release()] {
        assert_eq!(stubs.report(vec![report(&old, outcome)]).await, [Superseded]);
    }
    assert_eq!(stubs.held().await.len(), 1);
    stubs.record(&new, success([text("in time")])).await;
    assert_eq!(stubs.end("a").await.results, [text("in time")]);
    for outcome in [success([text("late")]), release()] {
        assert_eq!(stubs.report(vec![report(&old, outcome)]).await, [Superseded], "also after the end");
    }
}

pub(crate) async fn a_report_counts_whichever_way_it_comes(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 2).await;
    let streamed = talk.lease_many(2).await;
    let called = stubs.lease("n").await;
    // Over another connection, by the unary call.
    let elsewhere = Stubs::to(&server).await;
    assert_eq!(elsewhere.report(vec![report_as("r", &streamed[0], success([]))]).await, [Recorded]);
    assert_eq!(talk.report(&streamed[0], success([])).await, Duplicate);
    // By the stream of another session.
    let (mut other, _) = Talk::greet(&elsewhere, crate::talk::hello(&["other"])).await;
    assert_eq!(other.report(&streamed[1], success([])).await, Recorded);
    assert_eq!(talk.report(&streamed[1], success([])).await, Duplicate);
    assert_eq!(other.report(&called, success([])).await, Recorded);
    assert_eq!(stubs.report(vec![report(&called, failure("other"))]).await, [Conflict]);
    for id in ["a", "b", "c"] {
        assert_eq!(stubs.end(id).await.status(), TaskStatus::Success);
    }
}
