//! Cases of stores that are broker, ledger and backend at once.

use std::time::Duration;

use lineshaft::broker::{Holding, Settle};
use lineshaft::clock::WallTime;
use lineshaft::error::StoreError;
use lineshaft::ledger::claim::{Claim, Claimed, Judged, Sending, Until};
use lineshaft::ledger::join::Stage;
use lineshaft::ledger::{Begun, Decision, Effects, Ending, Standing, Verdict};
use lineshaft::task::{LeaseId, Status, TaskState};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START, needs};
use crate::ledger::claims::{judged, keyed, request};
use crate::ledger::joins;
use crate::ledger::lifetimes::{all, lifetime};
use crate::make::*;
use crate::room::Room;
use crate::support::until;

/// All cases of fused stores.
macro_rules! cases {
    ($($of:tt)+) => {
        pub(crate) mod fused {
            crate::harness::cases!($($of)+, fused:
                sending_writes_the_state_and_publishes
                sending_again_changes_nothing
                sending_wakes_whoever_is_ready
                sending_remembers_the_lifetime
                settling_forgets_the_lifetime
                a_claimed_send_is_done_once
                a_key_in_force_sends_nothing
                what_was_claimed_and_not_published_is_sent_by_whoever_finds_it
                settling_does_all_that_follows
                settling_acknowledges_wherever_the_message_stands
                settling_adds_members_to_their_joins_once
                the_last_member_that_is_settled_makes_its_join_due
                what_is_not_recorded_adds_no_member
                settling_voids_the_receipt
                what_is_settled_and_not_acknowledged_comes_back_decided
                what_is_not_recorded_changes_nothing
                settling_leaves_nothing_undone
                settling_sets_a_dead_task_aside
                what_is_settled_survives_a_restart
                rooms_and_fused_store_see_the_same
            );
        }
    };
}
pub(crate) use cases;

/// Waits until so many wait, where others have to find out first that a replica is dead.
async fn waiting(room: &Room, count: u64) {
    let broker = room.broker();
    if let (Holding::Replica { .. }, Some(inspect)) = (broker.capabilities().holding, broker.inspect()) {
        until("what a dead replica held waits again", async || {
            let depths = inspect.depths(&[queue("q")]).await.expect("depths");
            (depths[0].waiting == count).then_some(())
        })
        .await;
    }
}

async fn send(room: &Room, labels: &[&str]) {
    let items: Vec<Sending> = labels.iter().map(|label| sent(label, 1, None)).collect();
    assert_eq!(room.fused().send(&items, room.now()).await, vec![Ok(()); labels.len()]);
}

async fn read(room: &Room, label: &str) -> Option<TaskState> {
    room.backend().read(&[task_id(&format!("task_{label}"))], room.now()).await.expect("read").remove(0)
}

async fn status(room: &Room, label: &str) -> Option<Status> {
    read(room, label).await.map(|state| state.status)
}

async fn settled(room: &Room, decision: Decision) -> Verdict {
    room.fused().settle(&[decision]).await.expect("settle").remove(0)
}

fn with_effects(label: &str, lease: &LeaseId) -> Decision {
    let id = format!("task_{label}");
    let mut done = state(&id, 1, 1, Status::Success);
    done.state.results = Some(every_value());
    let effects = Effects {
        states: vec![state(&id, 1, 1, Status::Started), done, state(&format!("{id}-next"), 1, 1, Status::Pending)],
        publish: vec![message(&format!("{label}-next"))],
        joins: Vec::new(),
    };
    Decision { effects, ..decision(lease, Some(label), 1) }
}

pub(crate) async fn sending_writes_the_state_and_publishes(room: Room) -> Outcome {
    send(&room, &["a", "b"]).await;
    assert_eq!(read(&room, "a").await, Some(state("task_a", 1, 1, Status::Pending).state));
    assert_eq!(take_labels(&room.broker()).await, ["a", "b"]);
    assert!(room.fused().send(&[], room.now()).await.is_empty());
    Ok(())
}

pub(crate) async fn sending_again_changes_nothing(room: Room) -> Outcome {
    needs(room.broker().capabilities().recognises, "a message that is carried already is not recognised")?;
    send(&room, &["a"]).await;
    let taken = take(&room.broker(), 1).await;
    room.backend().write(&[state("task_a", 1, 1, Status::Received)], room.now()).await;
    send(&room, &["a", "a"]).await;
    assert_eq!(status(&room, "a").await, Some(Status::Received));
    // Accepted anew, which would begin the task anew if the message were new.
    let later = sent("a", 2, Some(room.now()));
    assert_eq!(room.fused().send(&[later], room.now()).await, [Ok(())]);
    assert_eq!(all(&room.ledger()).await, []);
    assert_eq!(status(&room, "a").await, Some(Status::Received));
    assert!(take_labels(&room.broker()).await.is_empty());
    settle(&room.broker(), &taken[0], Settle::Ack).await;
    Ok(())
}

pub(crate) async fn sending_wakes_whoever_is_ready(room: Room) -> Outcome {
    let broker = room.broker();
    let waiting = tokio::spawn(async move { broker.ready(&queue("q"), &[name("work")]).await });
    crate::harness::settle_down().await;
    send(&room, &["a"]).await;
    assert_eq!(waiting.await.expect("the waiter"), Ok(()));
    Ok(())
}

pub(crate) async fn sending_remembers_the_lifetime(room: Room) -> Outcome {
    let expiring = |label| sent(label, 7, Some(later(START, 5)));
    assert_eq!(room.fused().send(&[expiring("a"), sent("b", 7, None)], room.now()).await, [Ok(()), Ok(())]);
    assert_eq!(all(&room.ledger()).await, [lifetime("a", 7, 5)]);
    let claim = |id, label| Claim { sending: expiring(label), ..request(id, label) };
    assert_eq!(send_claimed(&room, &[claim("r", "c")]).await, [Claimed::New]);
    assert_eq!(all(&room.ledger()).await, [lifetime("a", 7, 5), lifetime("c", 7, 5)]);
    // Claimed by a process that died before it published.
    room.ledger().claims().claim(&[claim("s", "d")]).await.expect("claim");
    assert_eq!(send_claimed(&room, &[claim("s", "d")]).await, [Claimed::Sent(task_id("task_d"))]);
    assert_eq!(all(&room.ledger()).await.len(), 3);
    let room = reopen(room).await?;
    assert_eq!(all(&room.ledger()).await.last(), Some(&lifetime("d", 7, 5)));
    Ok(())
}

pub(crate) async fn settling_forgets_the_lifetime(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    room.fused().send(&[sent("a", 7, Some(later(START, 5)))], room.now()).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    let (begins, ends) = (vec![lifetime("child", 8, 6)], Some(lifetime("a", 7, 5)));
    assert_eq!(settled(&room, Decision { begins, ends, ..decision(&held.id, None, 1) }).await, Verdict::Recorded);
    assert_eq!(all(&room.ledger()).await, [lifetime("child", 8, 6)]);
    Ok(())
}

async fn send_claimed(room: &Room, claims: &[Claim]) -> Vec<Claimed> {
    room.fused().send_claimed(claims, room.now()).await.expect("send")
}

pub(crate) async fn a_claimed_send_is_done_once(room: Room) -> Outcome {
    let sent = Claimed::Sent(task_id("task_a"));
    assert_eq!(send_claimed(&room, &[request("r", "a"), request("r", "b")]).await, [Claimed::New, sent.clone()]);
    assert_eq!((status(&room, "a").await, status(&room, "b").await), (Some(Status::Pending), None));
    assert_eq!(take_labels(&room.broker()).await, ["a"]);
    let other = Claim { digest: [2; 32], ..request("r", "c") };
    assert_eq!(send_claimed(&room, &[other, request("s", "d")]).await, [Claimed::Reused, Claimed::New]);
    assert_eq!(take_labels(&room.broker()).await, ["d"]);
    let room = reopen(room).await?;
    assert_eq!(send_claimed(&room, &[request("r", "e")]).await, [sent]);
    waiting(&room, 2).await;
    assert_eq!(take_labels(&room.broker()).await, ["a", "d"]);
    Ok(())
}

pub(crate) async fn a_key_in_force_sends_nothing(room: Room) -> Outcome {
    assert_eq!(send_claimed(&room, &[keyed("k", Until::Ended, "a")]).await, [Claimed::New]);
    let second = keyed("k", Until::Ended, "b");
    let held = send_claimed(&room, std::slice::from_ref(&second)).await;
    assert!(matches!(&held[..], [Claimed::Held(holder)] if holder.message == key("a") && !holder.is_open), "{held:?}");
    let in_force = judged(second.clone(), Judged::InForce(key("a")));
    assert_eq!(send_claimed(&room, &[in_force]).await, [Claimed::Sent(task_id("task_a"))]);
    assert_eq!(take_labels(&room.broker()).await, ["a"]);
    assert_eq!(send_claimed(&room, &[judged(second, Judged::Free(key("a")))]).await, [Claimed::New]);
    assert_eq!(take_labels(&room.broker()).await, ["b"]);
    Ok(())
}

pub(crate) async fn what_was_claimed_and_not_published_is_sent_by_whoever_finds_it(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    let claims = [request("r", "a"), request("s", "b")];
    assert_eq!(room.ledger().claims().claim(&claims).await, Ok(vec![Claimed::New; 2]));
    // It was published, too, and has ended.
    let held = lease(&room.ledger(), "b", "s1").await;
    settled(&room, decision(&held.id, None, 1)).await;
    let sent = ["task_a", "task_b"].map(|id| Claimed::Sent(task_id(id)));
    assert_eq!(send_claimed(&room, &[request("r", "x"), request("s", "y")]).await, sent);
    assert_eq!(take_labels(&room.broker()).await, ["a"]);
    assert_eq!((status(&room, "a").await, status(&room, "b").await), (Some(Status::Pending), None));
    assert_eq!(room.ledger().claims().claim(&claims).await, Ok(sent.to_vec()), "marked as published");
    Ok(())
}

pub(crate) async fn settling_does_all_that_follows(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a"]).await;
    take(&room.broker(), 1).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    let decision = with_effects("a", &held.id);
    let end = decision.effects.states[1].state.clone();
    assert_eq!(settled(&room, decision).await, Verdict::Recorded);
    assert_eq!(read(&room, "a").await, Some(end));
    assert_eq!(status(&room, "a-next").await, Some(Status::Pending));
    assert_eq!(begin(&room.ledger(), &grant("a", "s1")).await, Begun::Decided);
    assert_eq!(take_labels(&room.broker()).await, ["a-next"], "and \"a\" is gone");
    assert_eq!(room.broker().publish(&[message("a")]).await, [Ok(lineshaft::broker::Published::New)]);
    Ok(())
}

fn needs_acknowledging(room: &Room) -> Outcome {
    needs(room.fused().acknowledges(), "messages are acknowledged by whoever holds them")
}

pub(crate) async fn settling_acknowledges_wherever_the_message_stands(room: Room) -> Outcome {
    needs_acknowledging(&room)?;
    attach(&room.ledger(), &["s1"]).await;
    let labels = ["held", "ready", "delayed", "absent"];
    send(&room, &labels).await;
    let mut leases = Vec::new();
    for label in labels {
        leases.push(lease(&room.ledger(), label, "s1").await);
    }
    let taken = take(&room.broker(), 4).await;
    let after = Duration::from_secs(60);
    settle(&room.broker(), &taken[1], RETURN).await;
    settle(&room.broker(), &taken[2], Settle::Return { after, began: true }).await;
    settle(&room.broker(), &taken[3], Settle::Ack).await;
    let decisions: Vec<Decision> = leases.iter().map(|lease| decision(&lease.id, None, 1)).collect();
    assert_eq!(room.fused().settle(&decisions).await, Ok(vec![Verdict::Recorded; 4]));
    room.pass(after * 2).await;
    assert!(take_labels(&room.broker()).await.is_empty());
    let room = reopen(room).await?;
    assert!(take_labels(&room.broker()).await.is_empty());
    Ok(())
}

pub(crate) async fn settling_voids_the_receipt(room: Room) -> Outcome {
    needs_acknowledging(&room)?;
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a"]).await;
    let taken = take(&room.broker(), 1).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    settled(&room, decision(&held.id, None, 1)).await;
    for how in [RETURN, Settle::Ack] {
        assert_eq!(room.broker().settle(&[(taken[0].receipt.clone(), how)]).await, [Err(StoreError::Stale)]);
    }
    assert!(take_labels(&room.broker()).await.is_empty());
    Ok(())
}

pub(crate) async fn what_is_settled_and_not_acknowledged_comes_back_decided(room: Room) -> Outcome {
    needs(!room.fused().acknowledges(), "settling acknowledges")?;
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a"]).await;
    let taken = take(&room.broker(), 1).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    assert_eq!(settled(&room, decision(&held.id, None, 1)).await, Verdict::Recorded);
    settle(&room.broker(), &taken[0], RETURN).await;
    let again = take(&room.broker(), 1).await;
    assert_eq!(labels(&again), ["a"]);
    assert_eq!(begin(&room.ledger(), &grant("a", "s1")).await, Begun::Decided);
    settle(&room.broker(), &again[0], Settle::Ack).await;
    assert!(take_labels(&room.broker()).await.is_empty());
    Ok(())
}

pub(crate) async fn what_is_not_recorded_changes_nothing(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a", "b"]).await;
    let taken = take(&room.broker(), 2).await;
    let older = lease(&room.ledger(), "a", "s1").await;
    room.ledger().release(&[(older.id.clone(), Ending::Free { report: None })]).await.expect("release");
    let live = lease(&room.ledger(), "a", "s1").await;
    assert_eq!(settled(&room, with_effects("a", &older.id)).await, Verdict::Superseded);
    assert_eq!(status(&room, "a").await, Some(Status::Pending));
    assert_eq!(room.ledger().standing(&[key("a")]).await, Ok(vec![Standing::Leased(live.id)]));
    settle(&room.broker(), &taken[0], RETURN).await;

    // Decided without the fused store first: what follows stays with whoever finishes undone effects.
    let held = lease(&room.ledger(), "b", "s1").await;
    room.ledger().decide(&[decision(&held.id, Some("b"), 1)]).await.expect("decide");
    assert_eq!(settled(&room, with_effects("b", &held.id)).await, Verdict::Duplicate);
    let other = Decision { report: None, digest: [2; 32], ..with_effects("b", &held.id) };
    assert_eq!(settled(&room, other).await, Verdict::Conflict);
    assert_eq!(status(&room, "b").await, Some(Status::Pending));
    settle(&room.broker(), &taken[1], RETURN).await;
    assert_eq!(take_labels(&room.broker()).await, ["a", "b"], "nothing was published");
    Ok(())
}

/// A decision of `label`, with which these members of these joins end.
fn joining(label: &str, lease: &LeaseId, members: &[(&str, u32)]) -> Decision {
    let joins = members.iter().map(|(join, n)| joins::ended(join, *n)).collect();
    Decision { effects: Effects { joins, ..Effects::default() }, ..decision(lease, Some(label), 1) }
}

pub(crate) async fn settling_adds_members_to_their_joins_once(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    send(&room, &["a", "b"]).await;
    take(&room.broker(), 2).await;
    joins::open(&ledger, &joins::opening("x", 4)).await;
    joins::open(&ledger, &joins::opening("y", 4)).await;
    let held = [lease(&ledger, "a", "s1").await, lease(&ledger, "b", "s1").await];
    // Two of one batch in one join, one of them in a second join; and one of a join that nobody knows.
    let both = [
        joining("a", &held[0].id, &[("x", 1), ("y", 3), ("nobody", 0)]),
        joining("b", &held[1].id, &[("x", 2), ("x", 9)]),
    ];
    assert_eq!(room.fused().settle(&both).await, Ok(vec![Verdict::Recorded; 2]));
    assert_eq!(joins::counts(&ledger, "x").await, Some((Stage::Open, 2, 1)));
    assert_eq!(joins::counts(&ledger, "y").await, Some((Stage::Open, 1, 1)));
    assert_eq!(joins::members(&ledger, "x").await, [joins::going(0), joins::over(1), joins::over(2), joins::going(3)]);
    assert_eq!(room.fused().settle(&both).await, Ok(vec![Verdict::Duplicate; 2]));
    assert_eq!(joins::counts(&ledger, "x").await, Some((Stage::Open, 2, 1)));
    assert!(joins::due(&ledger, 0).await.is_empty());
    Ok(())
}

pub(crate) async fn the_last_member_that_is_settled_makes_its_join_due(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    send(&room, &["a"]).await;
    take(&room.broker(), 1).await;
    joins::open(&ledger, &joins::opening("x", 2)).await;
    // One ended otherwise: through another replica, or because it was found in the backend.
    joins::add(&ledger, "x", &[0]).await;
    let held = lease(&ledger, "a", "s1").await;
    assert!(joins::due(&ledger, 0).await.is_empty());
    assert_eq!(settled(&room, joining("a", &held.id, &[("x", 1)])).await, Verdict::Recorded);
    assert_eq!(joins::due(&ledger, 0).await, ["x"]);
    drop(ledger);
    let room = reopen(room).await?;
    assert_eq!(joins::due(&room.ledger(), 0).await, ["x"]);
    assert_eq!(joins::counts(&room.ledger(), "x").await, Some((Stage::Open, 2, 1)));
    Ok(())
}

pub(crate) async fn what_is_not_recorded_adds_no_member(room: Room) -> Outcome {
    let ledger = room.ledger();
    attach(&ledger, &["s1"]).await;
    send(&room, &["a", "b"]).await;
    take(&room.broker(), 2).await;
    joins::open(&ledger, &joins::opening("x", 4)).await;
    let older = lease(&ledger, "a", "s1").await;
    ledger.release(&[(older.id.clone(), Ending::Free { report: None })]).await.expect("release");
    lease(&ledger, "a", "s1").await;
    assert_eq!(settled(&room, joining("a", &older.id, &[("x", 0)])).await, Verdict::Superseded);
    // Decided without the fused store first: its members are added by whoever finishes undone effects.
    let held = lease(&ledger, "b", "s1").await;
    ledger.decide(&[joining("b", &held.id, &[("x", 1)])]).await.expect("decide");
    assert_eq!(joins::counts(&ledger, "x").await, Some((Stage::Open, 0, 0)));
    assert_eq!(settled(&room, joining("b", &held.id, &[("x", 1)])).await, Verdict::Duplicate);
    let other = Decision { report: None, digest: [2; 32], ..joining("b", &held.id, &[("x", 2)]) };
    assert_eq!(settled(&room, other).await, Verdict::Conflict);
    assert_eq!(joins::counts(&ledger, "x").await, Some((Stage::Open, 0, 0)));
    Ok(())
}

pub(crate) async fn settling_leaves_nothing_undone(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a"]).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    let decision = with_effects("a", &held.id);
    settled(&room, decision.clone()).await;
    assert_eq!(room.ledger().undone(WallTime(u64::MAX), 10).await, Ok(Vec::new()));
    // Done when it was decided: kept from then.
    let end = decision.at.plus(KEEP);
    assert_eq!(room.ledger().sweep(WallTime(end.0 - 1)).await, Ok(0));
    assert_eq!(settled(&room, decision.clone()).await, Verdict::Duplicate);
    assert_eq!(room.ledger().sweep(end).await, Ok(1));
    assert_eq!(settled(&room, decision).await, Verdict::Superseded);
    Ok(())
}

pub(crate) async fn settling_sets_a_dead_task_aside(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a"]).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    settled(&room, Decision { dead: Some(dead("a", "worker lost")), ..decision(&held.id, None, 1) }).await;
    assert_eq!(room.ledger().dead(None, 10).await, Ok(vec![dead("a", "worker lost")]));
    Ok(())
}

pub(crate) async fn what_is_settled_survives_a_restart(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    send(&room, &["a", "b"]).await;
    take(&room.broker(), 2).await;
    let held = lease(&room.ledger(), "a", "s1").await;
    let decision = with_effects("a", &held.id);
    settled(&room, decision.clone()).await;
    let room = reopen(room).await?;
    assert_eq!(status(&room, "a").await, Some(Status::Success));
    assert_eq!(status(&room, "b").await, Some(Status::Pending));
    waiting(&room, 3).await;
    let mut found = take_labels(&room.broker()).await;
    found.sort();
    let all = ["a", "a-next", "b"];
    let left = if room.fused().acknowledges() { &all[1..] } else { &all[..] };
    assert_eq!(found, left);
    assert_eq!(settled(&room, decision).await, Verdict::Duplicate);
    Ok(())
}

pub(crate) async fn rooms_and_fused_store_see_the_same(room: Room) -> Outcome {
    attach(&room.ledger(), &["s1"]).await;
    publish_labels(&room.broker(), &["a"]).await;
    send(&room, &["b"]).await;
    let taken = take(&room.broker(), 2).await;
    assert_eq!(labels(&taken), ["a", "b"]);
    let (a, b) = (lease(&room.ledger(), "a", "s1").await, lease(&room.ledger(), "b", "s1").await);
    room.ledger().decide(&[decision(&b.id, Some("b"), 1)]).await.expect("decide");
    let verdicts = room.fused().settle(&[decision(&a.id, None, 1), decision(&b.id, Some("b"), 1)]).await;
    assert_eq!(verdicts, Ok(vec![Verdict::Recorded, Verdict::Duplicate]));
    let undone = room.ledger().undone(WallTime(u64::MAX), 10).await.expect("undone");
    assert_eq!(undone.len(), 1);
    settle(&room.broker(), &taken[1], Settle::Ack).await;
    Ok(())
}
