//! Cancelling what belongs together.

use lineshaft::error::Error;
use lineshaft::ledger::join::Kind;
use lineshaft::service::types::{Event, Submission, Workflow};
use lineshaft::task::{FailureReason, GroupId, Status};

use super::chains::workflow;
use super::runner::{self, Witness};
use crate::worker::{Worker, failure};
use crate::world::{World, task};

fn tasks(count: usize) -> Vec<Submission> {
    (0..count).map(|i| task("sum", &format!("t{i}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_cancelled_group_runs_and_its_callback_says_so() {
    for world in [World::new(), World::fused()] {
        let replica = world.replica();
        let chord = Workflow { callback: Some(task("sum", "c")), ..workflow(Kind::Chord, tasks(20)) };
        let sent = replica.service.send_workflow(chord).await.expect("is accepted");
        let cancelled = replica.service.cancel_group(&sent.group).await.expect("is cancelled");
        assert_eq!((cancelled.removed, cancelled.ended), (20, 0), "{cancelled:?}");
        assert_eq!(replica.end("t7").await.reason, FailureReason::Cancelled);
        let state = replica.end("c").await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::NotRun));
        let witness = Witness::default();
        let _runner = runner::start(&replica.service, &witness).await;
        let again = replica.service.cancel_group(&sent.group).await.expect("is cancelled");
        assert_eq!((again.ended, again.removed), (20, 0));
        replica.send(task("sum", "last")).await;
        replica.end("last").await;
        assert_eq!(witness.all().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_cancelled_from_the_link_that_runs() {
    let replica = World::new().replica();
    let mut worker = Worker::attach(&replica.service, "w", &["sum"], 1).await;
    let sent = replica.service.send_workflow(workflow(Kind::Chain, tasks(5))).await.expect("is accepted");
    let lease = worker.lease().await;
    let cancelled = replica.service.cancel_group(&sent.group).await.expect("is cancelled");
    assert_eq!((cancelled.signalled, cancelled.marked), (1, 4), "{cancelled:?}");
    loop {
        if let Some(Event::Revoke { lease: told, .. }) = worker.event().await {
            assert_eq!(told, lease.id);
            break;
        }
    }
    worker.report(&lease, failure("stopped")).await;
    assert_eq!(replica.end("t0").await.reason, FailureReason::Cancelled);
    for i in 1..5 {
        assert_eq!(replica.end(&format!("t{i}")).await.reason, FailureReason::NotRun);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_comes_first_counts_and_the_next_link_does_not_run() {
    let replica = World::fused().replica();
    let mut worker = Worker::attach(&replica.service, "w", &["sum"], 1).await;
    let sent = replica.service.send_workflow(workflow(Kind::Chain, tasks(3))).await.expect("is accepted");
    let lease = worker.lease().await;
    replica.service.cancel_group(&sent.group).await.expect("is cancelled");
    worker.report(&lease, crate::worker::success("done")).await;
    assert_eq!(replica.end("t0").await.status, Status::Success);
    worker.inbound.credit(10);
    assert_eq!(replica.end("t1").await.reason, FailureReason::Cancelled);
    assert_eq!(replica.end("t2").await.reason, FailureReason::NotRun);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_group_is_told_so() {
    let replica = World::new().replica();
    let unknown = replica.service.cancel_group(&GroupId::trusted("nobody")).await.expect_err("is unknown");
    assert!(matches!(unknown, Error::GroupUnknown(_)), "{unknown}");
}
