//! Sessions: attaching, renewing, closing.

use futures::future::{join, join_all};
use lineshaft::ledger::{Begun, Ending, Lease, LeaseStatus, Notice, Session, Verdict};
use lineshaft::task::SessionId;

use crate::broker::restart::reopen;
use crate::harness::Outcome;
use crate::make::*;
use crate::room::Room;

async fn number(room: &Room, id: &str) -> Option<u64> {
    let renewals = room.ledger().renewals().await.expect("renewals");
    renewals.into_iter().find(|(session, _)| session.as_str() == id).map(|(_, number)| number)
}

fn ids(leases: Option<Vec<Lease>>) -> Vec<String> {
    leases.expect("closed").iter().map(|lease| lease.id.message.to_string()).collect()
}

pub(crate) async fn a_session_is_read_as_it_was_recorded(room: Room) -> Outcome {
    let ledger = room.ledger();
    let full = session("s1", 1);
    let bare = Session { worker: String::new(), subscriptions: Vec::new(), concurrency: 0, ..session("s2", 1) };
    for session in [&full, &bare] {
        assert_eq!(ledger.attach(session).await, Ok(true));
        assert_eq!(ledger.session(&session.id).await, Ok(Some(session.clone())));
    }
    assert_eq!(ledger.session(&session_id("s3")).await, Ok(None));
    Ok(())
}

pub(crate) async fn a_session_attaches_again_only_with_a_higher_number(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let again = |attach, version: &str| Session { version: version.to_owned(), ..session("s1", attach) };
    assert_eq!(ledger.attach(&again(1, "repeated")).await, Ok(false));
    assert_eq!(ledger.attach(&again(5, "0.2.0")).await, Ok(true));
    for attach in [0, 1, 4, 5] {
        assert_eq!(ledger.attach(&again(attach, "late")).await, Ok(false), "{attach}");
    }
    assert_eq!(ledger.session(&session_id("s1")).await, Ok(Some(again(5, "0.2.0"))));
    Ok(())
}

pub(crate) async fn an_unknown_session_attaches_only_with_number_one(room: Room) -> Outcome {
    let ledger = room.ledger();
    for attach in [0, 2, u64::MAX] {
        assert_eq!(ledger.attach(&session("s1", attach)).await, Ok(false), "{attach}");
    }
    assert_eq!(ledger.session(&session_id("s1")).await, Ok(None));
    assert_eq!(ledger.attach(&session("s1", 1)).await, Ok(true));
    Ok(())
}

pub(crate) async fn of_attaches_with_the_same_number_one_wins(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    for number in 2..5 {
        let (of, again) = ((0..8).map(|_| session("s1", number)).collect::<Vec<_>>(), &ledger);
        let answers = join_all(of.iter().map(|session| again.attach(session))).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Ok(true)).count(), 1, "{answers:?}");
        assert!(answers.iter().all(Result::is_ok));
    }
    Ok(())
}

pub(crate) async fn sessions_are_listed_page_by_page_in_order(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s3", "s1", "s5", "s2", "s4"]).await;
    let mut seen = Vec::new();
    let mut after: Option<SessionId> = None;
    loop {
        let page = ledger.sessions(after.as_ref(), 2).await.expect("sessions");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page.into_iter().map(|session| session.id.to_string()));
    }
    assert_eq!(seen, ["s1", "s2", "s3", "s4", "s5"]);
    Ok(())
}

pub(crate) async fn renewing_raises_the_number_of_that_session_alone(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1", "s2"]).await;
    let (one, two) = (number(&room, "s1").await, number(&room, "s2").await);
    assert_eq!(room.ledger().renew(&[session_id("s1")]).await, Ok(vec![true]));
    assert!(number(&room, "s1").await > one);
    assert_eq!(number(&room, "s2").await, two);
    Ok(())
}

pub(crate) async fn renewing_an_unknown_session_answers_false(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let answers = ledger.renew(&[session_id("s0"), session_id("s1"), session_id("s2")]).await;
    assert_eq!(answers, Ok(vec![false, true, false]));
    assert_eq!(number(&room, "s0").await, None, "renewing makes no session");
    assert_eq!(ledger.session(&session_id("s0")).await, Ok(None));
    Ok(())
}

pub(crate) async fn attaching_again_counts_as_renewal(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    let before = number(&room, "s1").await;
    assert_eq!(ledger.attach(&session("s1", 1)).await, Ok(false));
    assert_eq!(number(&room, "s1").await, before, "a refused one does not count");
    assert_eq!(ledger.attach(&session("s1", 2)).await, Ok(true));
    assert!(number(&room, "s1").await > before);
    assert_eq!(ledger.close(&session_id("s1"), before).await, Ok(None));
    Ok(())
}

pub(crate) async fn a_session_that_was_renewed_is_not_closed(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    lease(&ledger, "a", "s1").await;
    let seen = number(&room, "s1").await;
    ledger.renew(&[session_id("s1")]).await.expect("renew");
    assert_eq!(ledger.close(&session_id("s1"), seen).await, Ok(None));
    assert_eq!(ledger.session(&session_id("s1")).await, Ok(Some(session("s1", 1))));
    assert_eq!(ledger.renew(&[session_id("s1")]).await, Ok(vec![true]));
    lease(&ledger, "b", "s1").await;
    Ok(())
}

pub(crate) async fn a_session_that_stood_still_is_closed(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    ledger.renew(&[session_id("s1")]).await.expect("renew");
    let seen = number(&room, "s1").await;
    ledger.renew(&[session_id("s2")]).await.expect("renew");
    assert_eq!(ledger.close(&session_id("s1"), seen).await, Ok(Some(Vec::new())));
    assert_eq!(ledger.session(&session_id("s1")).await, Ok(None));
    assert_eq!(ledger.renew(&[session_id("s1"), session_id("s2")]).await, Ok(vec![false, true]));
    assert_eq!(number(&room, "s1").await, None);
    let left = ledger.sessions(None, 10).await.expect("sessions");
    assert_eq!(left, [session("s2", 1)]);
    Ok(())
}

pub(crate) async fn a_session_is_closed_whatever_its_number_if_none_is_given(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    ledger.renew(&[session_id("s1")]).await.expect("renew");
    assert_eq!(ledger.close(&session_id("s1"), None).await, Ok(Some(Vec::new())));
    assert_eq!(ledger.session(&session_id("s1")).await, Ok(None));
    Ok(())
}

pub(crate) async fn closing_answers_the_leases_oldest_first_until_they_are_ended(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let mut held = Vec::new();
    for label in ["c", "a", "d", "b"] {
        held.push(lease(&ledger, label, "s1").await);
        lease(&ledger, &format!("other-{label}"), "s2").await;
    }
    ledger.decide(&[decision(&held[2].id, None, 1)]).await.expect("decide");
    let closed = ledger.close(&session_id("s1"), number(&room, "s1").await).await.expect("close");
    assert_eq!(closed.as_deref(), Some([held[0].clone(), held[1].clone(), held[3].clone()].as_slice()));
    let lost = Ending::Lost { at: room.now() };
    ledger.release(&[(held[1].id.clone(), lost.clone())]).await.expect("release");
    assert_eq!(ids(ledger.close(&session_id("s1"), Some(77)).await.expect("close")), ["c", "b"]);
    ledger.release(&[(held[0].id.clone(), lost.clone()), (held[3].id.clone(), lost)]).await.expect("release");
    assert_eq!(ledger.close(&session_id("s1"), None).await, Ok(Some(Vec::new())));
    Ok(())
}

pub(crate) async fn closing_an_unknown_session_answers_no_leases(room: Room) -> Outcome {
    for renewal in [None, Some(0), Some(3)] {
        assert_eq!(room.ledger().close(&session_id("s1"), renewal).await, Ok(Some(Vec::new())));
    }
    Ok(())
}

pub(crate) async fn a_closed_session_gets_no_lease_and_does_not_come_back(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    ledger.close(&session_id("s1"), None).await.expect("close");
    assert_eq!(begin(&ledger, &grant("a", "s1")).await, Begun::NoSession);
    assert_eq!(ledger.attach(&session("s1", 2)).await, Ok(false));
    Ok(())
}

pub(crate) async fn leases_of_a_closed_session_live_until_they_are_ended(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2"]).await;
    let held = lease(&ledger, "a", "s1").await;
    ledger.close(&session_id("s1"), None).await.expect("close");
    assert_eq!(ledger.lookup(std::slice::from_ref(&held.id)).await, Ok(vec![LeaseStatus::Live(held.clone())]));
    assert_eq!(begin(&ledger, &grant("a", "s2")).await, Begun::Held(held.clone()));
    assert_eq!(ledger.decide(&[decision(&held.id, Some("r"), 1)]).await, Ok(vec![Verdict::Recorded]));
    Ok(())
}

pub(crate) async fn leases_without_a_session_are_orphans(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1", "s2", "s3"]).await;
    let (b, _) = (lease(&ledger, "b", "s1").await, lease(&ledger, "x", "s2").await);
    let (a, c) = (lease(&ledger, "a", "s3").await, lease(&ledger, "c", "s1").await);
    assert_eq!(ledger.orphans(10).await, Ok(Vec::new()));
    ledger.close(&session_id("s1"), None).await.expect("close");
    ledger.close(&session_id("s3"), None).await.expect("close");
    assert_eq!(ledger.orphans(10).await, Ok(vec![b.clone(), a.clone(), c.clone()]));
    assert_eq!(ledger.orphans(2).await, Ok(vec![b.clone(), a.clone()]));
    let ended = ledger.release(&[(b.id, Ending::Lost { at: room.now() }), (c.id, Ending::Free { report: None })]).await;
    assert_eq!(ended, Ok(vec![Verdict::Recorded; 2]));
    assert_eq!(ledger.orphans(10).await, Ok(vec![a]));
    Ok(())
}

pub(crate) async fn either_the_renewal_or_the_closing_wins(room: Room) -> Outcome {
    let ledger = room.ledger();
    for round in 0..20 {
        let (text, ledger) = (format!("s{round}"), &ledger);
        attach(ledger, &[&text]).await;
        let seen = number(&room, &text).await;
        let id = [session_id(&text)];
        // Which is polled first alternates.
        let (renewed, closed) = if round % 2 == 0 {
            join(ledger.renew(&id), ledger.close(&id[0], seen)).await
        } else {
            let (closed, renewed) = join(ledger.close(&id[0], seen), ledger.renew(&id)).await;
            (renewed, closed)
        };
        let (renewed, closed) = (renewed.expect("renew")[0], closed.expect("close").is_some());
        assert!(renewed != closed, "renewed: {renewed}, closed: {closed}");
        assert_eq!(ledger.renew(&id).await, Ok(vec![renewed]));
    }
    Ok(())
}

pub(crate) async fn sessions_survive_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1", "s2", "s3"]).await;
    room.ledger().attach(&session("s1", 4)).await.expect("attach");
    room.ledger().close(&session_id("s2"), None).await.expect("close");
    let room = reopen(room).await?;
    let ledger = room.ledger();
    assert_eq!(ledger.sessions(None, 10).await, Ok(vec![session("s1", 4), session("s3", 1)]));
    let all = [session_id("s1"), session_id("s2"), session_id("s3")];
    assert_eq!(ledger.renew(&all).await, Ok(vec![true, false, true]));
    assert_eq!(ledger.attach(&session("s1", 4)).await, Ok(false));
    lease(&ledger, "a", "s3").await;
    Ok(())
}

pub(crate) async fn a_session_may_stand_still_anew_after_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    let room = reopen(room).await?;
    let ledger = room.ledger();
    let seen = number(&room, "s1").await;
    assert!(seen.is_some(), "it is watched without having been renewed");
    assert_eq!(ledger.close(&session_id("s1"), seen).await, Ok(Some(vec![held])));
    Ok(())
}

pub(crate) async fn a_notice_reaches_every_listener(room: Room) -> Outcome {
    let ledger = room.ledger();
    ledger.notices().tell(Notice::Closed(session_id("s0")));
    let (mut one, mut two) = (ledger.notices().listen(), ledger.notices().listen());
    let told = [
        Notice::Ended(vec![key("a"), key("b")]),
        Notice::Attached(session_id("s1"), 7),
        Notice::Closed(session_id("s2")),
    ];
    for notice in &told {
        ledger.notices().tell(notice.clone());
    }
    for listener in [&mut one, &mut two] {
        for notice in &told {
            assert_eq!(listener.recv().await.as_ref(), Ok(notice));
        }
    }
    Ok(())
}
