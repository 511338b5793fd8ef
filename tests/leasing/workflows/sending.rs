//! Sends of workflows that are repeated.

use std::time::Duration;

use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::join::Kind;
use lineshaft::service::types::Workflow;
use lineshaft::task::{GroupId, Status};

use super::chains::workflow;
use super::runner::{self, Witness};
use crate::world::{Replica, World, task};

/// Less than the minute after which a group that is not sent whole is given up.
const ALMOST: Duration = Duration::from_secs(58);
/// With the above more than that minute.
const LONGER: Duration = Duration::from_secs(30);

/// A replica on which this send stops before the first task.
async fn stopped(world: &World, workflow: &Workflow) -> Replica {
    let failpoints = Failpoints::at(Point::GroupAnnounced, Action::Hang, 1);
    let replica = world.replica_with(failpoints.clone());
    tokio::select! {
        sent = replica.service.send_workflow(workflow.clone()) => panic!("it stops first: {sent:?}"),
        () = failpoints.struck() => replica,
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_repeated_late_has_as_long_as_a_new_one() {
    for world in [World::new(), World::fused()] {
        let workflow = Workflow {
            id: Some(GroupId::trusted("g")),
            request_id: Some("again".to_owned()),
            ..workflow(Kind::Group, vec![task("sum", "a"), task("sum", "b")])
        };
        stopped(&world, &workflow).await.crash();
        tokio::time::sleep(ALMOST).await;
        let second = stopped(&world, &workflow).await;
        tokio::time::sleep(LONGER).await;
        let view = second.service.group(&GroupId::trusted("g")).await.expect("is known");
        assert_eq!(view.ended, 0, "it was given up while it was sent");
        second.crash();
        let third = world.replica();
        let _runner = runner::start(&third.service, &Witness::default()).await;
        third.service.send_workflow(workflow).await.expect("is accepted");
        for id in ["a", "b"] {
            assert_eq!(third.end(id).await.status, Status::Success);
        }
    }
}
