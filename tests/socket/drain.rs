//! A server that stops tells everybody, finishes what is under way, and its port is closed last.

use std::time::Duration;

use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::rooms::Room;
use crate::stubs::{Stubs, lease_request, span, success, task};
use crate::support::until::soon;
use crate::support::{Refusal, refusal};
use crate::talk::{Talk, hello, resume};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, drain:
            a_stopping_server_sends_its_workers_away_and_takes_their_reports
            a_stopping_server_ends_those_who_wait
            a_worker_goes_on_at_the_next_server
        );
    };
}
pub(crate) use cases;

fn draining() -> Refusal {
    Refusal::new(Code::Unavailable, "DRAINING", "")
}

pub(crate) async fn a_stopping_server_sends_its_workers_away_and_takes_their_reports(room: Room) {
    let mut server = room.serve_with(|config| config.server.drain_deadline = "700ms".parse().expect("a span")).await;
    let stubs = Stubs::to(&server).await;
    let mut health = HealthClient::new(stubs.channel.clone());
    stubs.send_ids(["a", "b"]).await;
    let (mut talk, _) = Talk::worker(&stubs, &["n"], 1).await;
    let lease = talk.lease().await;
    server.drain();
    let deadline = talk.told(|told| if let Told::Drain(drain) = told { drain.deadline } else { None }).await;
    // A server alone on its stores has nobody its workers could go to.
    let kept_open = if room.single_replica { 500 } else { 700 };
    assert_eq!(deadline, span(Duration::from_millis(kept_open)));

    let sent = stubs.try_send(task("late")).await.expect_err("is refused");
    assert_eq!(refusal(&sent), draining());
    let batch = stubs.tasks().send_tasks(SendTasksRequest { tasks: vec![task("late")] }).await;
    assert_eq!(refusal(&batch.expect_err("is refused as a whole")), draining());
    let leased = stubs.workers().lease_tasks(lease_request(&["n"], 1)).await.expect_err("is refused");
    assert_eq!(refusal(&leased), draining());
    let mut other = Talk::open(&stubs).await;
    other.say(Said::Hello(hello(&["n"]))).await;
    assert_eq!(refusal(&other.refusal().await), draining());
    let asked = health.check(HealthCheckRequest::default()).await.expect("is answered").into_inner();
    assert_eq!(asked.status, 2, "NOT_SERVING");

    // Nothing new is leased, and what is reported is recorded.
    talk.credit(2).await;
    assert_eq!(talk.report(&lease, success([])).await, ReportVerdict::Recorded);
    stubs.until("a", TaskStatus::Success).await;
    assert_eq!(talk.goodbye().await, GoodbyeReason::Drained);
    assert_eq!(talk.received, 1);
    server.stopped().await;
}

pub(crate) async fn a_stopping_server_ends_those_who_wait(room: Room) {
    let mut server = room.serve_with(|config| config.server.drain_deadline = "100ms".parse().expect("a span")).await;
    let stubs = Stubs::to(&server).await;
    stubs.send(task("a")).await;
    let request = WatchStateRequest { task_id: "a".into(), ..Default::default() };
    let mut watch = stubs.tasks().watch_state(request).await.expect("is watched").into_inner();
    soon("the state", watch.message()).await.expect("is told");
    let timeout = Some(span(Duration::from_secs(3600)));
    let mut tasks = stubs.tasks();
    let mut waiting = Box::pin(tasks.wait_for_result(WaitForResultRequest { task_id: "a".into(), timeout }));
    // A connection keeps the order of its calls: once a later one is answered, the wait has arrived.
    for _ in 0..2 {
        tokio::select! {
            early = &mut waiting => panic!("nothing has ended: {early:?}"),
            _ = stubs.state("a") => {}
        }
    }
    server.drain();
    assert_eq!(refusal(&soon("the watch ends", watch.message()).await.expect_err("is told why")), draining());
    let waited = soon("the wait ends", waiting).await;
    assert_eq!(refusal(&waited.expect_err("is told why")), draining());
    server.stopped().await;
}

pub(crate) async fn a_worker_goes_on_at_the_next_server(room: Room) {
    let server = room.serve_with(|config| config.server.drain_deadline = "100ms".parse().expect("a span")).await;
    let stubs = Stubs::to(&server).await;
    stubs.send_ids(["a", "b", "c"]).await;
    let (mut talk, welcome) = Talk::worker(&stubs, &["n"], 2).await;
    let leases = talk.lease_many(2).await;
    server.stopped().await;
    assert_eq!(talk.goodbye().await, GoodbyeReason::Drained);

    let next = room.serve().await;
    let stubs = Stubs::to(&next).await;
    let held = [leases[1].lease_id.as_str(), leases[0].lease_id.as_str()];
    let (mut talk, again) = Talk::greet(&stubs, resume(&welcome, &["n"], &held)).await;
    assert!(again.resumed && again.held.iter().all(|held| held.kept), "{again:?}");
    for lease in &leases {
        assert_eq!(talk.report(lease, success([])).await, ReportVerdict::Recorded);
        assert_eq!(stubs.end(&lease.task_id).await.attempt, 1);
    }
    talk.credit(1).await;
    assert_eq!(talk.lease().await.task_id, "c");
}
