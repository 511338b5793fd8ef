//! Names of sends.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::clock::WallTime;
use lineshaft::ledger::Ledger;
use lineshaft::ledger::claim::{Claim, ClaimName, Claimed, Holder, Judged, KeyClaim, Sending, Until};
use lineshaft::task::MessageKey;

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::make::*;
use crate::room::Room;

/// As in [`request`].
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

fn sending(label: &str) -> Sending {
    crate::make::sent(label, 7, None)
}

/// A send of message `label` named `id`, made at the start.
pub(crate) fn request(id: &str, label: &str) -> Claim {
    let (request, sending) = (Some(id.to_owned()), sending(label));
    Claim { request, digest: [1; 32], key: None, sending, at: START, window: WINDOW }
}

/// A send of message `label` with the key `name`, which lapses after ten windows.
pub(crate) fn keyed(name: &str, until: Until, label: &str) -> Claim {
    let key = KeyClaim { key: name.to_owned(), until, lapses_at: START.plus(WINDOW * 10), judged: None };
    Claim { request: None, key: Some(key), ..request("", label) }
}

/// The same claim by one who has looked at the holder.
pub(crate) fn judged(mut claim: Claim, judged: Judged) -> Claim {
    claim.key.as_mut().expect("has a key").judged = Some(judged);
    claim
}

fn both(id: &str, name: &str, label: &str) -> Claim {
    Claim { request: Some(id.to_owned()), ..keyed(name, Until::Ended, label) }
}

async fn claim(ledger: &Arc<dyn Ledger>, claim: &Claim) -> Claimed {
    ledger.claims().claim(std::slice::from_ref(claim)).await.expect("claim").remove(0)
}

async fn published(ledger: &Arc<dyn Ledger>, claim: &Claim, label: &str) {
    assert_eq!(ledger.claims().published(&[(claim.names(), key(label))]).await, Ok(()));
}

async fn unclaim(ledger: &Arc<dyn Ledger>, names: Vec<ClaimName>, label: &str) -> bool {
    ledger.claims().unclaim(&[(names, key(label))]).await.expect("unclaim").remove(0)
}

fn again(label: &str) -> Claimed {
    Claimed::Again(Box::new(sending(label)))
}

fn sent(label: &str) -> Claimed {
    Claimed::Sent(task_id(&format!("task_{label}")))
}

fn holder(label: &str, until: Until, is_open: bool) -> Claimed {
    let (task, message): (_, MessageKey) = (task_id(&format!("task_{label}")), key(label));
    Claimed::Held(Holder { task, generation: 7, message, until, is_open })
}

fn at(claim: &Claim, at: WallTime) -> Claim {
    Claim { at, ..claim.clone() }
}

pub(crate) async fn a_send_is_claimed_then_published(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(claim(&ledger, &request("r", "a")).await, Claimed::New);
    // Whoever repeats it is given what the first was to send, byte for byte.
    let repeat = request("r", "b");
    assert_eq!(claim(&ledger, &repeat).await, again("a"));
    published(&ledger, &repeat, "b").await;
    assert_eq!(claim(&ledger, &repeat).await, again("a"), "another message was published");
    published(&ledger, &repeat, "a").await;
    assert_eq!(claim(&ledger, &repeat).await, sent("a"));
    assert_eq!(claim(&ledger, &request("s", "c")).await, Claimed::New, "another request");
    Ok(())
}

pub(crate) async fn a_request_id_names_one_content(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(claim(&ledger, &request("r", "a")).await, Claimed::New);
    let other = Claim { digest: [2; 32], ..request("r", "b") };
    assert_eq!(claim(&ledger, &other).await, Claimed::Reused);
    published(&ledger, &other, "a").await;
    assert_eq!(claim(&ledger, &other).await, Claimed::Reused);
    Ok(())
}

pub(crate) async fn within_a_batch_the_first_claim_counts(room: Room) -> Outcome {
    let claims = [request("r", "a"), request("r", "b"), keyed("k", Until::Ended, "c"), keyed("k", Until::Ended, "d")];
    let expected = vec![Claimed::New, again("a"), Claimed::New, holder("c", Until::Ended, true)];
    assert_eq!(room.ledger().claims().claim(&claims).await, Ok(expected));
    Ok(())
}

pub(crate) async fn of_claims_at_the_same_time_one_is_new(room: Room) -> Outcome {
    let ledger = room.ledger();
    let claims: Vec<Claim> = (0..20).map(|i| request("r", &format!("m{i}"))).collect();
    let answers = futures::future::join_all(claims.iter().map(|one| claim(&ledger, one))).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Claimed::New).count(), 1);
    Ok(())
}

pub(crate) async fn a_key_is_held_until_it_is_judged_free(room: Room) -> Outcome {
    let ledger = room.ledger();
    let first = keyed("k", Until::Started, "a");
    assert_eq!(claim(&ledger, &first).await, Claimed::New);
    let second = keyed("k", Until::Ended, "b");
    assert_eq!(claim(&ledger, &second).await, holder("a", Until::Started, true));
    assert_eq!(claim(&ledger, &judged(second.clone(), Judged::InForce(key("a")))).await, again("a"));
    published(&ledger, &first, "a").await;
    assert_eq!(claim(&ledger, &second).await, holder("a", Until::Started, false));
    assert_eq!(claim(&ledger, &judged(second.clone(), Judged::InForce(key("a")))).await, sent("a"));
    // What was found out about another task says nothing.
    let blind = judged(second.clone(), Judged::Free(key("x")));
    assert_eq!(claim(&ledger, &blind).await, holder("a", Until::Started, false));
    let free = judged(second, Judged::Free(key("a")));
    assert_eq!(claim(&ledger, &free).await, Claimed::New);
    assert_eq!(claim(&ledger, &free).await, holder("b", Until::Ended, true), "of two that found it free one is sent");
    Ok(())
}

pub(crate) async fn a_key_for_a_time_is_in_force_without_a_look(room: Room) -> Outcome {
    let ledger = room.ledger();
    let first = keyed("k", Until::Time, "a");
    assert_eq!(claim(&ledger, &first).await, Claimed::New);
    published(&ledger, &first, "a").await;
    let second = keyed("k", Until::Ended, "b");
    let last = WallTime(START.plus(WINDOW * 10).0 - 1);
    assert_eq!(claim(&ledger, &at(&second, last)).await, sent("a"));
    assert_eq!(claim(&ledger, &at(&second, START.plus(WINDOW * 10))).await, Claimed::New);
    Ok(())
}

pub(crate) async fn a_request_that_met_a_key_in_force_stays_with_its_task(room: Room) -> Outcome {
    let ledger = room.ledger();
    let first = both("r1", "k", "a");
    assert_eq!(claim(&ledger, &first).await, Claimed::New);
    published(&ledger, &first, "a").await;
    let second = judged(both("r2", "k", "b"), Judged::InForce(key("a")));
    assert_eq!(claim(&ledger, &second).await, sent("a"));
    // The key is free by now, and the request is the same send all the same.
    let free = judged(both("r2", "k", "c"), Judged::Free(key("a")));
    assert_eq!(claim(&ledger, &free).await, sent("a"));
    assert_eq!(claim(&ledger, &judged(both("r3", "k", "d"), Judged::Free(key("a")))).await, Claimed::New);
    Ok(())
}

pub(crate) async fn only_an_own_claim_that_nobody_found_is_taken_back(room: Room) -> Outcome {
    let ledger = room.ledger();
    let names = both("r", "k", "a").names();
    assert_eq!(claim(&ledger, &both("r", "k", "a")).await, Claimed::New);
    assert!(!unclaim(&ledger, names.clone(), "b").await, "another message");
    assert!(unclaim(&ledger, names.clone(), "a").await);
    assert!(!unclaim(&ledger, names.clone(), "a").await, "not there any more");
    assert_eq!(claim(&ledger, &both("r", "k", "b")).await, Claimed::New, "as if it had never been");
    // Somebody was told to send it too, and may have.
    let other = judged(both("s", "k", "c"), Judged::InForce(key("b")));
    assert_eq!(claim(&ledger, &other).await, again("b"));
    assert!(!unclaim(&ledger, names, "b").await);
    assert_eq!(claim(&ledger, &both("r", "k", "d")).await, again("b"));
    let third = request("t", "e");
    claim(&ledger, &third).await;
    published(&ledger, &third, "e").await;
    assert!(!unclaim(&ledger, third.names(), "e").await, "it is published");
    Ok(())
}

pub(crate) async fn a_claim_lapses_and_is_forgotten(room: Room) -> Outcome {
    let ledger = room.ledger();
    let (open, done) = (both("open", "k1", "a"), both("done", "k2", "b"));
    for one in [&open, &done] {
        assert_eq!(claim(&ledger, one).await, Claimed::New);
    }
    published(&ledger, &done, "b").await;
    let end = START.plus(WINDOW);
    let early = WallTime(end.0 - 1);
    assert_eq!(claim(&ledger, &at(&open, early)).await, again("a"));
    assert_eq!(ledger.sweep(early).await, Ok(0));
    // Both requests, and the key that was never published; the other key lasts as long as it was asked to.
    assert_eq!(ledger.sweep(end).await, Ok(3));
    assert_eq!(ledger.sweep(end).await, Ok(0));
    assert_eq!(claim(&ledger, &at(&done, end)).await, holder("b", Until::Ended, false));
    assert_eq!(claim(&ledger, &at(&open, end)).await, Claimed::New);
    assert_eq!(ledger.sweep(START.plus(WINDOW * 10)).await, Ok(3));
    assert_eq!(ledger.sweep(START.plus(WINDOW * 100)).await, Ok(0));
    Ok(())
}

pub(crate) async fn a_claim_that_lapsed_is_none_though_nobody_swept(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(claim(&ledger, &request("r", "a")).await, Claimed::New);
    let later = Claim { digest: [2; 32], ..at(&request("r", "b"), START.plus(WINDOW)) };
    assert_eq!(claim(&ledger, &later).await, Claimed::New);
    // The first one's time is over, and the name is the second one's.
    assert_eq!(ledger.sweep(START.plus(WINDOW)).await, Ok(0));
    assert_eq!(claim(&ledger, &later).await, again("b"));
    Ok(())
}

pub(crate) async fn many_claims_are_forgotten_in_bounded_steps(room: Room) -> Outcome {
    let ledger = room.ledger();
    for batch in 0..5 {
        let claims: Vec<Claim> = (0..500).map(|i| request(&format!("r{batch}-{i}"), "a")).collect();
        assert_eq!(ledger.claims().claim(&claims).await.expect("claim").len(), 500);
    }
    let (mut forgotten, mut steps) = (0, 0);
    loop {
        match ledger.sweep(START.plus(WINDOW)).await.expect("sweep") {
            0 => break,
            some => (forgotten, steps) = (forgotten + some, steps + 1),
        }
    }
    assert!(forgotten == 2_500 && steps > 1, "{forgotten} in {steps}");
    Ok(())
}

pub(crate) async fn claims_survive_a_restart(room: Room) -> Outcome {
    let ledger = room.ledger();
    assert_eq!(claim(&ledger, &both("r", "k", "a")).await, Claimed::New);
    assert_eq!(claim(&ledger, &request("s", "b")).await, Claimed::New);
    published(&ledger, &request("s", "b"), "b").await;
    drop(ledger);
    let room = reopen(room).await?;
    let ledger = room.ledger();
    assert_eq!(claim(&ledger, &both("r", "k", "x")).await, again("a"));
    assert_eq!(claim(&ledger, &request("s", "x")).await, sent("b"));
    assert_eq!(claim(&ledger, &keyed("k", Until::Ended, "x")).await, holder("a", Until::Ended, true));
    Ok(())
}
