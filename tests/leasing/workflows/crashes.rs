//! A crash at every arrow of sending workflows and of what follows them, on stores that outlive the replica.

use std::time::Duration;

use lineshaft::error::Error;
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::task::TaskId;

use super::random::Random;
use super::runner::{self, Witness};
use super::tree::{Effects, Grower, effects};
use super::trees::compare;
use crate::world::{Replica, World};

/// Workflows of one run.
const WORKFLOWS: u64 = 12;

async fn all_ended(replica: &Replica, expected: &Effects) {
    for id in expected.keys() {
        // A member that is sent later may not be known yet.
        let mut is_over = false;
        while !is_over {
            let waited = replica.service.wait(TaskId::trusted(id.as_str()), Duration::from_secs(60)).await;
            is_over = waited.is_ok_and(|state| state.is_some_and(|state| state.status.is_final()));
        }
    }
}

/// Sends some workflows to a replica that stops dead at a point; another one takes over, the sender repeats what was not answered.
/// Whether the point was met.
async fn crash_at(world: World, point: Point, visit: u32, seed: u64) -> bool {
    let failpoints = Failpoints::at(point, Action::Hang, u64::from(visit));
    let replica = world.replica_with(failpoints.clone());
    let witness = Witness::default();
    let runner = runner::start(&replica.service, &witness).await;
    let mut expected = Effects::new();
    let mut workflows = Vec::new();
    for seed in seed..seed + WORKFLOWS {
        let mut random = Random::new(seed);
        let workflow = Grower::new(&mut random, format!("s{seed}")).workflow();
        expected.extend(effects(&workflow));
        workflows.push(workflow);
    }
    let mut met = false;
    for workflow in &workflows {
        tokio::select! {
            sent = replica.service.send_workflow(workflow.clone()) => drop(sent.expect("is accepted")),
            () = failpoints.struck() => {
                met = true;
                break;
            }
        }
    }
    if !met {
        met = tokio::select! {
            () = failpoints.struck() => true,
            () = all_ended(&replica, &expected) => false,
        };
    }
    drop(runner);
    replica.crash();
    let replica = world.replica();
    let _runner = runner::start(&replica.service, &witness).await;
    for workflow in &workflows {
        loop {
            match replica.service.send_workflow(workflow.clone()).await {
                Ok(_) => break,
                Err(Error::Unconfirmed(_)) => {}
                Err(error) => panic!("{point:?}: {error}"),
            }
        }
    }
    compare(&replica, &expected, &witness, &format!("{point:?} {visit}")).await;
    met
}

async fn crashes(world: impl Fn() -> World, points: &[Point]) {
    for point in points {
        let mut met = 0;
        for visit in [1, 2, 5] {
            met += u32::from(crash_at(world(), *point, visit, u64::from(visit) * 1000).await);
        }
        assert!(met > 0, "{point:?} was never met");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_arrow_changes_no_effect() {
    let settling = [Point::SettleDecided, Point::SettleStated, Point::SettlePublished, Point::SettleDone];
    let not_met = |point: &Point| *point != Point::JoinTriggered;
    let points: Vec<Point> = Point::WORKFLOW.into_iter().filter(not_met).chain(settling).collect();
    crashes(World::new, &points).await;
}

#[tokio::test(start_paused = true)]
async fn and_on_one_store() {
    let not_met = |point: &Point| *point != Point::JoinTriggered;
    let points: Vec<Point> = Point::WORKFLOW.into_iter().filter(not_met).chain([Point::SettleDecided]).collect();
    crashes(World::fused, &points).await;
}
