//! Granting leases, and looking at them.

use bytes::Bytes;
use futures::future::join_all;
use lineshaft::clock::WallTime;
use lineshaft::ledger::{Begun, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Standing};
use lineshaft::task::{FencingToken, LeaseId};

use crate::broker::restart::reopen;
use crate::harness::Outcome;
use crate::make::*;
use crate::room::Room;

const FREE: Ending = Ending::Free { report: None };

pub(crate) async fn a_lease_is_read_as_it_was_granted(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let full = Grant {
        request_id: Some("request 1".to_owned()),
        attempts_before: 4,
        body: Some(Bytes::from_static(b"\x00body\xff")),
        at: later(room.now(), 5),
        ..grant("a", "s1")
    };
    let Begun::Run(lease) = begin(&ledger, &full).await else { panic!("not granted") };
    let expected = Lease {
        id: LeaseId { message: key("a"), token: lease.id.token },
        task: full.task.clone(),
        name: full.name.clone(),
        queue: full.queue.clone(),
        session: full.session.clone(),
        worker: full.worker.clone(),
        request_id: full.request_id.clone(),
        attempt: 5,
        lost: Vec::new(),
        releases: 0,
        at: full.at,
        body: full.body.clone(),
    };
    assert_eq!(lease, expected);
    assert_eq!(ledger.lookup(std::slice::from_ref(&lease.id)).await, Ok(vec![LeaseStatus::Live(lease.clone())]));
    assert_eq!(ledger.leases(&LeaseQuery { max: 10, ..LeaseQuery::default() }).await, Ok(vec![lease]));
    Ok(())
}

pub(crate) async fn a_message_with_a_live_lease_is_held(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let begun = ledger.begin(&[grant("a", "s1"), grant("a", "s2"), grant("b", "s2")]).await.expect("begin");
    let [Begun::Run(first), Begun::Held(met), Begun::Run(_)] = begun.as_slice() else { panic!("{begun:?}") };
    assert_eq!(first, met);
    assert_eq!(begin(&ledger, &grant("a", "s2")).await, Begun::Held(first.clone()));
    assert_eq!(begin(&ledger, &grant("a", "s1")).await, Begun::Held(first.clone()), "for its own session too");
    Ok(())
}

pub(crate) async fn a_message_with_a_decision_is_decided(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let held = lease(&ledger, "a", "s1").await;
    ledger.decide(&[decision(&held.id, None, 1)]).await.expect("decide");
    assert_eq!(begin(&ledger, &grant("a", "s1")).await, Begun::Decided);
    ledger.done(&[key("a")], room.now()).await.expect("done");
    assert_eq!(begin(&ledger, &grant("a", "s1")).await, Begun::Decided);
    Ok(())
}

pub(crate) async fn without_a_session_nothing_is_granted(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(begin(&ledger, &grant("a", "s1")).await, Begun::NoSession);
    assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Open]));
    attach(&ledger, &["s1"]).await;
    lease(&ledger, "a", "s1").await;
    Ok(())
}

pub(crate) async fn under_an_outdated_attach_nothing_is_granted(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let old = Grant { attach: 1, ..grant("a", "s1") };
    assert_eq!(ledger.attach(&session("s1", 2)).await, Ok(true));
    assert_eq!(begin(&ledger, &old).await, Begun::NoSession);
    assert_eq!(ledger.standing(&[key("a")]).await, Ok(vec![Standing::Open]));
    assert!(matches!(begin(&ledger, &Grant { attach: 2, ..old }).await, Begun::Run(_)));
    // A unary call asks under none.
    assert!(matches!(begin(&ledger, &grant("b", "s1")).await, Begun::Run(_)));
    Ok(())
}

pub(crate) async fn what_is_held_or_decided_is_so_for_anybody(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let (held, ended) = (lease(&ledger, "a", "s1").await, lease(&ledger, "b", "s1").await);
    ledger.decide(&[decision(&ended.id, None, 1)]).await.expect("decide");
    let begun = ledger.begin(&[grant("a", "nobody"), grant("b", "nobody")]).await;
    assert_eq!(begun, Ok(vec![Begun::Held(held), Begun::Decided]));
    Ok(())
}

pub(crate) async fn of_grants_of_one_message_at_the_same_time_one_runs(room: Room) -> Outcome {
    let ledger = room.ledger();
    let ids: Vec<String> = (0..8).map(|n| format!("s{n}")).collect();
    attach(&ledger, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for round in 0..5 {
        let label = format!("m{round}");
        let begun = join_all(ids.iter().map(async |id| begin(&ledger, &grant(&label, id)).await)).await;
        let ran: Vec<&Lease> =
            begun.iter().filter_map(|b| if let Begun::Run(l) = b { Some(l) } else { None }).collect();
        assert_eq!(ran.len(), 1);
        assert!(begun.iter().all(|b| matches!(b, Begun::Run(l) | Begun::Held(l) if l == ran[0])));
    }
    Ok(())
}

pub(crate) async fn tokens_grow_with_every_grant(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let mut last = FencingToken(0);
    for round in 0..5 {
        let batch = [grant("again", "s1"), grant(&format!("x{round}"), "s1"), grant(&format!("y{round}"), "s1")];
        for begun in ledger.begin(&batch).await.expect("begin") {
            let Begun::Run(lease) = begun else { panic!("{begun:?}") };
            assert!(lease.id.token > last, "{} after {last}", lease.id.token);
            last = lease.id.token;
            if lease.id.message == key("again") {
                ledger.release(&[(lease.id, FREE)]).await.expect("release");
            }
        }
    }
    Ok(())
}

pub(crate) async fn tokens_are_no_less_than_the_wall_clock(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let us = room.now().0 / 1_000;
    assert!(lease(&ledger, "a", "s1").await.id.token.0 >= us);
    Ok(())
}

pub(crate) async fn tokens_grow_though_the_wall_clock_is_stepped_back(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let first = lease(&ledger, "a", "s1").await;
    room.clock().step_to(WallTime(room.now().0 - 3_600_000_000_000));
    let second = lease(&ledger, "b", "s1").await;
    assert!(second.id.token > first.id.token);
    Ok(())
}

pub(crate) async fn tokens_grow_over_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let first = lease(&room.ledger(), "a", "s1").await;
    room.ledger().release(&[(first.id.clone(), FREE)]).await.expect("release");
    room.clock().step_to(WallTime(room.now().0 - 3_600_000_000_000));
    let room = reopen(room).await?;
    let second = lease(&room.ledger(), "b", "s1").await;
    let third = lease(&room.ledger(), "a", "s1").await;
    assert!(first.id.token < second.id.token && second.id.token < third.id.token);
    Ok(())
}

pub(crate) async fn attempts_count_earlier_messages_and_lost_workers(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let third = Grant { attempts_before: 2, ..grant("a", "s1") };
    let mut attempts = Vec::new();
    for ending in [FREE, Ending::Lost { at: room.now() }, FREE, Ending::Lost { at: room.now() }, FREE] {
        let Begun::Run(lease) = begin(&ledger, &third).await else { panic!("not granted") };
        attempts.push((lease.attempt, lease.lost.len(), lease.releases));
        ledger.release(&[(lease.id, ending)]).await.expect("release");
    }
    assert_eq!(attempts, [(3, 0, 0), (3, 0, 1), (4, 1, 1), (4, 1, 2), (5, 2, 2)]);
    Ok(())
}

pub(crate) async fn lookup_tells_how_a_lease_stands(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let older = lease(&ledger, "decided", "s1").await;
    ledger.release(&[(older.id.clone(), FREE)]).await.expect("release");
    let decided = lease(&ledger, "decided", "s1").await;
    ledger.decide(&[decision(&decided.id, None, 1)]).await.expect("decide");
    let (live, released) = (lease(&ledger, "live", "s1").await, lease(&ledger, "released", "s1").await);
    ledger.release(&[(released.id.clone(), FREE)]).await.expect("release");
    let future = LeaseId { message: key("live"), token: FencingToken(live.id.token.0 + 1_000) };
    let never = LeaseId { message: key("never"), token: FencingToken(1) };
    let ids = [older.id, decided.id, live.id.clone(), released.id.clone(), future, never];
    let status = ledger.lookup(&ids).await.expect("lookup");
    let released = Lease { releases: 1, ..released };
    let expected = [
        LeaseStatus::Gone,
        LeaseStatus::Decided,
        LeaseStatus::Live(live),
        LeaseStatus::Released(released),
        LeaseStatus::Gone,
        LeaseStatus::Gone,
    ];
    assert_eq!(status, expected);
    Ok(())
}

pub(crate) async fn standing_tells_how_a_message_stands(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let (live, released) = (lease(&ledger, "live", "s1").await, lease(&ledger, "released", "s1").await);
    let decided = lease(&ledger, "decided", "s1").await;
    ledger.release(&[(released.id, FREE)]).await.expect("release");
    ledger.decide(&[decision(&decided.id, None, 1)]).await.expect("decide");
    let standing = ledger.standing(&[key("decided"), key("live"), key("released"), key("never")]).await;
    assert_eq!(standing, Ok(vec![Standing::Decided, Standing::Leased(live.id), Standing::Open, Standing::Open]));
    Ok(())
}

pub(crate) async fn leases_are_listed_oldest_first_and_filtered(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let mut granted = Vec::new();
    for (label, session, to) in
        [("d", "s1", "q"), ("c", "s2", "q"), ("b", "s1", "r"), ("a", "s1", "q"), ("e", "s2", "r"), ("gone", "s1", "q")]
    {
        let Begun::Run(lease) = begin(&ledger, &Grant { queue: queue(to), ..grant(label, session) }).await else {
            panic!("not granted")
        };
        granted.push(lease);
    }
    ledger.release(&[(granted[5].id.clone(), FREE)]).await.expect("release");
    let all = LeaseQuery { max: 100, ..LeaseQuery::default() };
    let of_one = Some(session_id("s1"));
    for (query, expected) in [
        (all.clone(), "dcbae"),
        (LeaseQuery { max: 2, ..all.clone() }, "dc"),
        (LeaseQuery { max: 0, ..all.clone() }, ""),
        (LeaseQuery { after: granted[1].id.token, ..all.clone() }, "bae"),
        (LeaseQuery { session: of_one.clone(), ..all.clone() }, "dba"),
        (LeaseQuery { session: of_one.clone(), after: granted[0].id.token, max: 1, ..all.clone() }, "b"),
        (LeaseQuery { queue: Some(queue("r")), ..all.clone() }, "be"),
        (LeaseQuery { queue: Some(queue("r")), session: of_one, ..all.clone() }, "b"),
        (LeaseQuery { session: Some(session_id("s3")), ..all.clone() }, ""),
    ] {
        let listed = ledger.leases(&query).await.expect("leases");
        let labels: String = listed.iter().map(|lease| lease.id.message.as_str()).collect();
        assert_eq!(labels, expected, "{query:?}");
    }
    Ok(())
}

pub(crate) async fn leases_survive_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1", "s2"]).await;
    let full = Grant { request_id: Some("r".to_owned()), body: Some(Bytes::from_static(b"body")), ..grant("a", "s1") };
    let Begun::Run(held) = begin(&room.ledger(), &full).await else { panic!("not granted") };
    let room = reopen(room).await?;
    let ledger = room.ledger();
    assert_eq!(begin(&ledger, &grant("a", "s2")).await, Begun::Held(held.clone()));
    assert_eq!(ledger.leases(&LeaseQuery { max: 10, ..LeaseQuery::default() }).await, Ok(vec![held]));
    Ok(())
}
