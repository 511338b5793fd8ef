//! At most one outcome for each message, told only once it is durable.

use std::time::Duration;

use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Event, Outcome, Report, Submission};
use lineshaft::task::{Arg, Status};

use crate::gated::Call;
use crate::worker::{Worker, failure, report, success};
use crate::world::{LEASE, Replica, World, rest, task};

/// Twice as long as a dead worker is noticed in.
const LATER: Duration = Duration::from_secs(2 * LEASE.as_secs());

fn parent(id: &str) -> Submission {
    Submission {
        on_success: vec![task("child", "child-of-success")],
        on_error: vec![task("child", "child-of-error")],
        ..task("parent", id)
    }
}

async fn assert_ended_once(world: &World, replica: &Replica, result: &str) {
    let state = replica.end("p").await;
    assert_eq!((state.status, state.results), (Status::Success, Some(vec![Arg::string(result)])));
    rest().await;
    assert_eq!(replica.state("child-of-success").await.status, Status::Pending);
    assert_eq!(replica.try_state("child-of-error").await, None);
    assert_eq!(world.waiting().await, 1, "the callback waits, once");
    assert!(world.leases().await.is_empty());
}

async fn a_lower_token_is_superseded(world: World) {
    let replica = world.replica();
    replica.send(parent("p")).await;
    let mut first = Worker::attach(&replica.service, "first", &["parent"], 1).await;
    let old = first.lease().await;
    first.fall_silent();
    let mut second = Worker::attach(&replica.service, "second", &["parent"], 1).await;
    let new = second.lease().await;
    assert!(new.id.token > old.id.token, "tokens grow");
    assert_eq!((new.attempt, &new.id.message), (2, &old.id.message));

    replica.status("p", Status::Received).await;
    let before = replica.state("p").await;
    for outcome in [success("late"), failure("late")] {
        let verdicts = replica.service.report(vec![report(&old, outcome)]).await;
        assert_eq!(verdicts, Ok(vec![Verdict::Superseded]));
    }
    rest().await;
    assert_eq!(replica.state("p").await, before);
    assert_eq!(world.waiting().await, 0, "no retry, no callback");
    assert_eq!(world.leases().await.len(), 1, "the lease that counts lives on");

    assert_eq!(second.report(&new, success("second")).await, Verdict::Recorded);
    let verdicts = replica.service.report(vec![report(&old, success("late"))]).await;
    assert_eq!(verdicts, Ok(vec![Verdict::Superseded]));
    assert_ended_once(&world, &replica, "second").await;
}

#[tokio::test(start_paused = true)]
async fn a_lower_token_is_superseded_and_changes_nothing() {
    a_lower_token_is_superseded(World::new()).await;
    a_lower_token_is_superseded(World::fused()).await;
}

async fn a_late_report_is_recorded(world: World) {
    let replica = world.replica();
    replica.send(parent("p")).await;
    let mut first = Worker::attach(&replica.service, "first", &["parent"], 1).await;
    let lease = first.lease().await;
    first.fall_silent();
    tokio::time::sleep(LATER).await;
    assert!(world.leases().await.is_empty(), "it has ended");
    assert_eq!(world.waiting().await, 1, "and its message waits again");
    let verdicts = replica.service.report(vec![report(&lease, success("late"))]).await;
    assert_eq!(verdicts, Ok(vec![Verdict::Recorded]));
    assert_eq!(replica.end("p").await.status, Status::Success);

    let mut second = Worker::attach(&replica.service, "second", &["parent"], 1).await;
    assert!(second.offer_within(LATER).await.is_none(), "what has ended is not run again");
    assert_ended_once(&world, &replica, "late").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_report_of_a_lease_not_granted_again_is_recorded() {
    a_late_report_is_recorded(World::new()).await;
    a_late_report_is_recorded(World::fused()).await;
}

async fn the_same_report_again(world: World) {
    let (one, two) = (world.replica(), world.replica());
    one.send(parent("p")).await;
    let mut worker = Worker::attach(&one.service, "w", &["parent"], 1).await;
    let lease = worker.lease().await;
    let named = |id: &str, outcome: Outcome| Report { id: Some(id.into()), ..report(&lease, outcome) };
    worker.inbound.report(vec![named("r", success("done")), named("r", success("done"))]).await;
    assert_eq!(worker.verdict(&lease.id).await, Some(Verdict::Recorded));
    assert_eq!(worker.verdict(&lease.id).await, Some(Verdict::Duplicate), "in one batch");
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Duplicate, "the same outcome under no name");
    for replica in [&one, &two] {
        let again = [
            (named("r", success("done")), Verdict::Duplicate),
            (named("r", failure("the name alone says it")), Verdict::Duplicate),
            (named("s", success("done")), Verdict::Duplicate),
            (named("s", failure("no")), Verdict::Conflict),
            (named("t", success("otherwise")), Verdict::Conflict),
        ];
        let (reports, verdicts): (Vec<Report>, Vec<Verdict>) = again.into_iter().unzip();
        assert_eq!(replica.service.report(reports).await, Ok(verdicts));
    }
    let elsewhere = worker.again(&two.service, &["parent"], &[]).await.expect("attaches");
    let mut elsewhere = elsewhere;
    assert_eq!(elsewhere.report(&lease, success("done")).await, Verdict::Duplicate, "on a stream of another replica");
    assert_ended_once(&world, &two, "done").await;
}

#[tokio::test(start_paused = true)]
async fn the_same_report_again_is_a_duplicate_through_any_replica_and_call() {
    the_same_report_again(World::new()).await;
    the_same_report_again(World::fused()).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_is_acknowledged_only_once_the_decision_is_durable() {
    let world = World::new();
    let replica = world.replica();
    replica.send(parent("p")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["parent"], 1).await;
    let lease = worker.lease().await;
    world.gate.shut(Call::Decide);
    worker.inbound.report(vec![report(&lease, success("done"))]).await;
    let ack = tokio::time::timeout(Duration::from_secs(60), worker.event()).await;
    assert!(ack.is_err(), "nothing is told before: {ack:?}");
    assert!(!replica.state("p").await.status.is_final(), "nor seen");
    assert_eq!(world.waiting().await, 0, "nor sent");
    world.gate.open(Call::Decide);
    assert_eq!(worker.verdict(&lease.id).await, Some(Verdict::Recorded));
    assert_ended_once(&world, &replica, "done").await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_decided_is_told_so_and_lands_later() {
    let world = World::new();
    let replica = world.replica();
    replica.send(parent("p")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["parent"], 1).await;
    let lease = worker.lease().await;
    for mode in [crate::faulty::Mode::Unavailable, crate::faulty::Mode::UnknownBefore] {
        world.ledger_switch.set(mode);
        worker.inbound.report(vec![report(&lease, success("done"))]).await;
        assert_eq!(worker.verdict(&lease.id).await, None);
        assert!(!replica.state("p").await.status.is_final());
        world.ledger_switch.set(crate::faulty::Mode::Works);
    }
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
    assert_ended_once(&world, &replica, "done").await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_whose_answer_was_lost_still_happens_once() {
    let world = World::new();
    let replica = world.replica();
    replica.send(parent("p")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["parent"], 1).await;
    let lease = worker.lease().await;
    world.ledger_switch.next(1, crate::faulty::Mode::UnknownAfter);
    worker.inbound.report(vec![report(&lease, success("done"))]).await;
    assert_eq!(worker.verdict(&lease.id).await, None, "it is not known");
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Duplicate);
    assert_ended_once(&world, &replica, "done").await;
}

#[tokio::test(start_paused = true)]
async fn a_report_for_a_lease_that_never_was_changes_nothing() {
    let world = World::new();
    let replica = world.replica();
    replica.send(parent("p")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["parent"], 1).await;
    let mut lease = worker.lease().await;
    let id = lease.id.clone();
    lease.id.token.0 += 1;
    assert_eq!(worker.report(&lease, success("forged")).await, Verdict::Superseded);
    lease.id = "1-never".parse().expect("is a lease id");
    assert_eq!(worker.report(&lease, success("forged")).await, Verdict::Superseded);
    lease.id = id;
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
    assert!(worker.others.iter().all(|e| !matches!(e, Event::Goodbye(_))));
    assert_ended_once(&world, &replica, "done").await;
}
