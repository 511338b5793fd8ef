//! An offer counts only once the worker has confirmed it; what it never had goes back at no cost.

use std::time::Duration;

use lineshaft::error::Error;
use lineshaft::ledger::{Subscription, Verdict};
use lineshaft::service::types::{LeaseReply, LeaseRequest, Resume};
use lineshaft::task::{Status, TaskName};

use crate::faulty::Mode;
use crate::gated::Call;
use crate::worker::{Worker, report, success};
use crate::world::{LEASE, Replica, World, queue, rest, task};

#[tokio::test(start_paused = true)]
async fn an_offer_goes_back_when_a_heartbeat_proves_it_absent() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 3).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 3).await;
    let (first, second, third) = (worker.offer().await, worker.offer().await, worker.offer().await);

    worker.inbound.heartbeat(1, 0, &[]);
    rest().await;
    assert_eq!(world.leases().await.len(), 3, "a heartbeat that confirms nothing proves nothing");
    worker.inbound.heartbeat(2, 2, std::slice::from_ref(&first.id));
    rest().await;
    let live: Vec<_> = world.leases().await.into_iter().map(|l| l.id).collect();
    assert_eq!(live, [first.id.clone(), third.id.clone()], "the third was not confirmed, so it may be on its way");
    assert_eq!(world.waiting().await, 1);

    worker.inbound.heartbeat(3, 2, &[]);
    rest().await;
    assert_eq!(world.leases().await.len(), 2, "only the first to confirm gives back");
    worker.inbound.credit(4);
    let again = worker.lease().await;
    assert_eq!(again.id.message, second.id.message);
    assert!(again.id.token > second.id.token);
    assert_eq!(again.attempt, 1, "it cost no attempt");
    let lease = world.leases().await.into_iter().find(|l| l.id == again.id).expect("is live");
    assert_eq!((lease.lost.len(), lease.releases), (0, 1));
    let verdict = replica.service.report(vec![report(&second, success("it had it after all"))]).await;
    assert_eq!(verdict, Ok(vec![Verdict::Superseded]));
}

#[tokio::test(start_paused = true)]
async fn a_reported_offer_is_not_given_back_by_a_heartbeat_without_it() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.offer().await;
    world.gate.shut(Call::Decide);
    worker.inbound.report(vec![report(&lease, success("done"))]).await;
    worker.inbound.heartbeat(1, 1, &[]);
    rest().await;
    assert_eq!(world.leases().await.len(), 1);
    assert_eq!(world.waiting().await, 0);
    world.gate.open(Call::Decide);
    assert_eq!(worker.verdict(&lease.id).await, Some(Verdict::Recorded));
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_does_not_bring_back_goes_back_at_no_cost() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.send_many("a", 2).await;
    let mut worker = Worker::attach(&one.service, "w", &["a"], 2).await;
    let (kept, absent) = (worker.offer().await, worker.offer().await);
    for (replica, taken) in [(&one, 3), (&two, 4)] {
        let mut again = worker.again(&replica.service, &["a"], &[&kept]).await.expect("attaches");
        assert_eq!(again.welcome.held, [(kept.id.clone(), true)]);
        assert!(again.welcome.resumed);
        rest().await;
        assert_eq!(world.leases().await.len(), 1);
        assert_eq!(world.waiting().await, 1);
        again.inbound.credit(1);
        let second = again.offer().await;
        assert_eq!((second.attempt, &second.id.message), (1, &absent.id.message), "after {taken} grants");
        worker = again;
    }
    assert_eq!(worker.report(&kept, success("kept")).await, Verdict::Recorded);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_meanwhile_is_told_lost_at_resume() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 2).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
    let (done, kept) = (worker.lease().await, worker.lease().await);
    assert_eq!(worker.report(&done, success("done")).await, Verdict::Recorded);
    let again = worker.again(&replica.service, &["a"], &[&done, &kept]).await.expect("attaches");
    assert_eq!(again.welcome.held, [(done.id, false), (kept.id, true)]);
}

#[tokio::test(start_paused = true)]
async fn an_absent_offer_goes_back_even_if_the_ledger_was_away_when_it_was_missed() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    worker.offer().await;
    world.ledger_switch.set(Mode::Unavailable);
    worker.inbound.heartbeat(1, 1, &[]);
    rest().await;
    world.ledger_switch.set(Mode::Works);
    worker.inbound.credit(2);
    let again = worker.offer_within(2 * LEASE).await.expect("comes again, though its session lives");
    assert_eq!(again.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_answer_was_lost_is_granted_again_at_no_cost() {
    for mode in [Mode::UnknownAfter, Mode::UnknownBefore, Mode::Unavailable] {
        let world = World::new();
        let replica = world.replica();
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        rest().await;
        world.ledger_switch.next(1, mode);
        replica.send(task("a", "a")).await;
        let lease = worker.offer_within(LEASE).await.expect("comes while the session lives");
        worker.inbound.accepted(1);
        assert_eq!(lease.attempt, 1, "{mode:?}");
        assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded);
        assert_eq!(replica.end("a").await.status, Status::Success);
        assert_eq!(world.waiting().await, 0);
    }
}

fn ask(session: Option<Resume>, tasks_max: usize, request_id: Option<&str>) -> LeaseRequest {
    LeaseRequest {
        session,
        worker: "caller".into(),
        subscriptions: vec![Subscription { queue: queue("q"), names: vec![TaskName::trusted("a")], weight: 1 }],
        tasks_max,
        wait_max: Duration::from_secs(1),
        request_id: request_id.map(str::to_owned),
    }
}

async fn lease(replica: &Replica, session: &Resume, tasks_max: usize, request_id: Option<&str>) -> LeaseReply {
    replica.service.lease(ask(Some(session.clone()), tasks_max, request_id)).await.expect("is answered")
}

fn ids(reply: &LeaseReply) -> Vec<String> {
    let mut ids: Vec<String> = reply.leases.iter().map(|lease| lease.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_for_leases_answers_the_same_ones_on_any_replica() {
    for recall in [true, false] {
        let world = World::with(lineshaft::broker::memory::Options { recall, ..Default::default() });
        let (one, two) = (world.replica(), world.replica());
        one.send_many("a", 5).await;
        let session = one.service.lease(ask(None, 1, None)).await.expect("is answered").session;
        let first = lease(&one, &session, 2, Some("r")).await;
        assert_eq!(first.leases.len(), 2);
        for replica in [&one, &two] {
            let again = lease(replica, &session, 2, Some("r")).await;
            assert_eq!(ids(&again), ids(&first));
            let uuids = |r: &LeaseReply| {
                let mut uuids: Vec<String> = r.leases.iter().map(|l| l.signature.uuid.clone()).collect();
                uuids.sort_unstable();
                uuids
            };
            assert_eq!(uuids(&again), uuids(&first), "with their tasks");
        }
        let other = lease(&two, &session, 2, Some("s")).await;
        assert_eq!(other.leases.len(), 2);
        assert!(ids(&other).iter().all(|id| !ids(&first).contains(id)), "another request gets others");
        assert!(lease(&two, &session, 2, None).await.leases.is_empty());
        for given in &first.leases {
            assert_eq!(two.service.report(vec![report(given, success("x"))]).await, Ok(vec![Verdict::Recorded]));
        }
        rest().await;
        assert_eq!(world.leases().await.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_for_leases_that_is_given_up_gives_back_what_it_got() {
    let world = World::new();
    let replica = world.replica();
    let session = replica.service.lease(ask(None, 1, None)).await.expect("is answered").session;
    {
        world.gate.shut(Call::Begin);
        let call = replica.service.lease(ask(Some(session.clone()), 3, None));
        replica.send_many("a", 3).await;
        assert!(tokio::time::timeout(Duration::from_millis(500), call).await.is_err(), "given up");
        world.gate.open(Call::Begin);
    }
    rest().await;
    assert!(world.leases().await.is_empty());
    assert_eq!(world.waiting().await, 3);
    let again = lease(&replica, &session, 10, None).await;
    assert_eq!(again.leases.len(), 3, "one answer brings all that was there");
    assert!(again.leases.iter().all(|lease| lease.attempt == 1));
}

#[tokio::test(start_paused = true)]
async fn a_unary_lease_lives_while_its_session_is_extended_and_no_longer() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let reply = replica.service.lease(ask(None, 1, None)).await.expect("is answered");
    let id = reply.leases[0].id.clone();
    for _ in 0..5 {
        tokio::time::sleep(LEASE / 2).await;
        let alive = replica.service.extend(reply.session.clone(), std::slice::from_ref(&id)).await;
        assert_eq!(alive, Ok(vec![true]));
    }
    tokio::time::sleep(2 * LEASE).await;
    let late = replica.service.extend(reply.session.clone(), &[id]).await;
    assert_eq!(late, Err(Error::SessionLost));
    assert!(world.leases().await.is_empty());
    assert_eq!(world.waiting().await, 1);
}
