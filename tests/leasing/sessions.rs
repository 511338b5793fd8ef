//! One truth about who lives: new work needs the newest stream, held leases live on any heartbeat.

use std::collections::BTreeSet;

use lineshaft::error::Error;
use lineshaft::ledger::Verdict;
use lineshaft::service::types::{Hello, Parting, Resume, Settings, Submission};

use crate::gated::Call;
use crate::worker::{Worker, hello, report, success};
use crate::world::{LEASE, World, queue, rest, task};

#[tokio::test(start_paused = true)]
async fn the_newest_stream_of_a_session_wins_wherever_it_is() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    let mut first = Worker::attach(&one.service, "w", &["a"], 1).await;
    let mut second = first.again(&one.service, &["a"], &[]).await.expect("attaches");
    second.inbound.credit(10);
    assert_eq!(first.parting().await, Parting::Replaced, "on the same replica");
    let mut third = second.again(&two.service, &["a"], &[]).await.expect("attaches");
    third.inbound.credit(10);
    assert_eq!(second.parting().await, Parting::Replaced, "on another replica");
    assert_eq!(third.session.session, first.session.session);

    first.inbound.credit(1_000);
    second.inbound.credit(1_000);
    two.send_many("a", 5).await;
    assert_eq!(third.all_offers().await.len(), 5, "new work goes to the newest alone");
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_was_overtaken_by_a_newer_one_takes_nothing_from_it() {
    for replicas in [1, 2] {
        let world = World::new();
        let one = world.replica();
        let two = if replicas == 2 { &world.replica() } else { &one };
        let first = Worker::attach(&one.service, "w", &["a"], 0).await;
        world.gate.shut_for_one(Call::Leases, 0);
        let opening = Hello { resume: Some(first.session.clone()), ..hello("w", &[("q", &["a"], 1)]) };
        let service = one.service.clone();
        let older = tokio::spawn(async move { Worker::say(&service, opening, 10).await.expect("attaches") });
        rest().await;
        let mut newer = first.again(&two.service, &["a"], &[]).await.expect("attaches");
        newer.inbound.credit(10);
        two.send_many("a", 3).await;
        let leases = newer.all_offers().await;
        assert_eq!(leases.len(), 3);
        world.gate.open(Call::Leases);
        assert_eq!(older.await.expect("runs").parting().await, Parting::Replaced);
        for lease in &leases {
            assert_eq!(newer.report(lease, success("done")).await, Verdict::Recorded);
        }
        assert_eq!(world.waiting().await, 0, "nothing went back");
        two.send(task("a", "last")).await;
        assert_eq!(newer.lease().await.signature.uuid, "last", "and the newer stream gets what comes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_is_given_up_leaves_nothing_behind() {
    let world = World::new();
    let replica = world.replica();
    let mut first = Worker::attach(&replica.service, "w", &["b"], 1).await;
    replica.send(task("b", "b")).await;
    // An offer that was not sent goes back when the stream is replaced; that is where the attach is given up.
    rest().await;
    world.gate.shut_for_one(Call::Release, 1);
    let opening = Hello { resume: Some(first.session.clone()), ..hello("w", &[("q", &["b"], 1), ("new", &["a"], 1)]) };
    assert!(tokio::time::timeout(LEASE / 6, replica.service.attach(opening)).await.is_err(), "given up");
    world.gate.open(Call::Release);
    assert_eq!(first.parting().await, Parting::Replaced);
    drop(first);
    rest().await;
    assert_eq!(
        replica.service.workers(None, 10).await.expect("can be listed").iter().filter(|w| w.attached).count(),
        0
    );
    let mut next = Worker::say(&replica.service, hello("x", &[("new", &["a"], 1)]), 1).await.expect("attaches");
    replica.send(Submission { queue: Some(queue("new")), ..task("a", "a") }).await;
    assert_eq!(next.lease().await.signature.uuid, "a");
}

#[tokio::test(start_paused = true)]
async fn held_leases_live_on_any_heartbeat_of_their_session() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut first = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = first.lease().await;
    let second = first.again(&replica.service, &["a"], &[&lease]).await.expect("attaches");
    second.fall_silent();
    tokio::time::sleep(3 * LEASE).await;
    assert_eq!(world.leases().await.len(), 1, "the replaced stream still beats");
    first.fall_silent();
    let mut alive = Vec::new();
    for _ in 0..6 {
        tokio::time::sleep(LEASE / 2).await;
        alive = replica.service.extend(second.session.clone(), std::slice::from_ref(&lease.id)).await.expect("lives");
    }
    assert_eq!(alive, [true], "a unary call beats as well");
    for _ in 0..6 {
        tokio::time::sleep(LEASE / 2).await;
        second.inbound.report(vec![]).await;
    }
    assert_eq!(world.leases().await.len(), 1, "and so does anything said on a stream");
    tokio::time::sleep(2 * LEASE).await;
    assert!(world.leases().await.is_empty(), "silence does not");
}

#[tokio::test(start_paused = true)]
async fn a_detached_session_keeps_its_leases_until_it_expires() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.send(task("a", "a")).await;
    let mut worker = Worker::attach(&one.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    let session = worker.session.clone();
    drop(worker);
    let mut other = Worker::attach(&two.service, "other", &["a"], 1).await;
    assert!(other.offer_within(LEASE / 2).await.is_none());
    let resume = Hello { resume: Some(session), held: vec![lease.id.clone()], ..hello("w", &[("q", &["a"], 1)]) };
    let mut again = Worker::say(&two.service, resume, 0).await.expect("attaches");
    assert_eq!(again.welcome.held, [(lease.id.clone(), true)]);
    tokio::time::sleep(3 * LEASE).await;
    assert_eq!(again.report(&lease, success("done")).await, Verdict::Recorded);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_taken_up_only_with_its_secret() {
    let world = World::new();
    let replica = world.replica();
    replica.send(task("a", "a")).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    let forged = [
        Resume { secret: "guessed".into(), ..worker.session.clone() },
        Resume { secret: String::new(), ..worker.session.clone() },
        Resume { session: lineshaft::task::SessionId::generate(), ..worker.session.clone() },
    ];
    for resume in forged {
        let opening = Hello { resume: Some(resume.clone()), ..hello("w", &[("q", &["a"], 1)]) };
        assert_eq!(replica.service.attach(opening).await.map(|_| ()).unwrap_err(), Error::SessionLost);
        assert_eq!(replica.service.extend(resume, &[]).await, Err(Error::SessionLost));
    }
    assert_eq!(worker.report(&lease, success("done")).await, Verdict::Recorded, "the session is unharmed");
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_cannot_be_taken_up() {
    let world = World::new();
    let replica = world.replica();
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    worker.fall_silent();
    assert_eq!(worker.parting().await, Parting::Expired);
    assert_eq!(worker.again(&replica.service, &["a"], &[]).await.map(|_| ()).unwrap_err(), Error::SessionLost);
}

#[tokio::test(start_paused = true)]
async fn a_lease_granted_while_its_session_attaches_again_is_neither_lost_nor_run_twice() {
    // The grant is held back before the ledger has it, or the attach after the session is recorded and before its leases
    // are looked at: both orders of the two.
    for (held_back, replicas) in [(Call::Begin, 1), (Call::Begin, 2), (Call::Leases, 1), (Call::Leases, 2)] {
        let world = World::new();
        let one = world.replica();
        let two = if replicas == 2 { &world.replica() } else { &one };
        let mut old = Worker::attach(&one.service, "w", &["a"], 10).await;
        rest().await;
        world.gate.shut(held_back);
        let opening = Hello { resume: Some(old.session.clone()), ..hello("w", &[("q", &["a"], 1)]) };
        let service = two.service.clone();
        let attach = async move { Worker::say(&service, opening, 10).await.expect("attaches") };
        let attaching;
        if held_back == Call::Begin {
            one.send_many("a", 3).await;
            rest().await;
            attaching = tokio::spawn(attach);
        } else {
            attaching = tokio::spawn(attach);
            rest().await;
            one.send_many("a", 3).await;
        }
        rest().await;
        world.gate.open(held_back);
        let mut new = attaching.await.expect("runs");
        assert_eq!(old.parting().await, Parting::Replaced);
        let leases = new.all_offers().await;
        let tasks: BTreeSet<&str> = leases.iter().map(|lease| lease.signature.uuid.as_str()).collect();
        assert_eq!((leases.len(), tasks.len()), (3, 3), "{held_back:?} on {replicas} replicas");
        assert!(leases.iter().all(|lease| lease.attempt == 1));
        assert_eq!(world.leases().await.len(), 3);
        for lease in &leases {
            assert_eq!(new.report(lease, success("done")).await, Verdict::Recorded);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_says_goodbye_gives_everything_back_at_no_cost() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 3).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 2).await;
    let (done, _kept) = (worker.lease().await, worker.lease().await);
    worker.inbound.report(vec![report(&done, success("done"))]).await;
    worker.inbound.goodbye().await;
    assert_eq!(worker.parting().await, Parting::Asked);
    assert!(world.leases().await.is_empty());
    assert_eq!(world.waiting().await, 2, "what was reported before counts as reported");
    assert!(worker.again(&replica.service, &["a"], &[]).await.is_err(), "the session is over");
    let mut next = Worker::attach(&replica.service, "x", &["a"], 10).await;
    assert!(next.all_offers().await.iter().all(|lease| lease.attempt == 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_sessions_attach_than_the_limit_says() {
    let mut world = World::new();
    world.settings = Settings { sessions_max: 2, ..world.settings };
    let replica = world.replica();
    let _first = Worker::attach(&replica.service, "1", &["a"], 0).await;
    let second = Worker::attach(&replica.service, "2", &["a"], 0).await;
    let opening = || hello("3", &[("q", &["a"], 1)]);
    let refused = replica.service.attach(opening()).await.map(|_| ());
    assert!(matches!(refused, Err(Error::QueueFull { .. })), "{refused:?}");
    drop(second);
    assert!(replica.service.attach(opening()).await.is_ok());
}
