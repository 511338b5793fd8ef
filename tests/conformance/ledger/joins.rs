//! What was sent together, and how much of it has ended.

use std::sync::Arc;

use bytes::Bytes;
use lineshaft::ledger::join::{
    Callback, Ended, Fired, Firing, Head, Joins, Kind, Member, Opened, Opening, Stage, Standing,
};
use lineshaft::ledger::{Ledger, Lifetime};
use lineshaft::task::{GroupId, TaskId};

use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::ledger::effects::rich;
use crate::make::*;
use crate::room::Room;

pub(crate) fn group(label: &str) -> GroupId {
    GroupId::trusted(format!("group_{label}"))
}

/// Members are called `t0`, `t1`, ….
pub(crate) fn member(n: u32) -> TaskId {
    task_id(&format!("t{n}"))
}

/// A group of `count` known members, sent, to be looked at a minute after the start.
pub(crate) fn opening(label: &str, count: u32) -> Opening {
    let head = Head {
        id: group(label),
        kind: Kind::Group,
        generation: 7,
        message: key(&format!("join_{label}")),
        digest: [9; 32],
        count,
        callback: None,
        at: START,
        is_shared: false,
        keep: KEEP,
    };
    Opening { head, members: (0..count).map(member).collect(), is_sending: false, look_at: later(START, 60) }
}

/// The same, of which nobody knows the members.
pub(crate) fn unknown(label: &str, count: u32) -> Opening {
    Opening { members: Vec::new(), ..opening(label, count) }
}

/// Member `n` ends; those of odd numbers badly.
pub(crate) fn ended(label: &str, n: u32) -> Ended {
    let outcome = Bytes::from(format!("\0outcome of {n}"));
    Ended { group: group(label), task: member(n), is_failure: n % 2 == 1, outcome }
}

/// Member `n` as it is read once it has ended.
pub(crate) fn over(n: u32) -> Member {
    let ended = ended("", n);
    Member { task: ended.task, outcome: Some((ended.outcome, ended.is_failure)) }
}

pub(crate) fn going(n: u32) -> Member {
    Member { task: member(n), outcome: None }
}

pub(crate) async fn open(ledger: &Arc<dyn Ledger>, opening: &Opening) {
    assert_eq!(ledger.joins().open(std::slice::from_ref(opening)).await, Ok(vec![Opened::New]));
}

pub(crate) async fn add(ledger: &Arc<dyn Ledger>, label: &str, members: &[u32]) {
    let ended: Vec<Ended> = members.iter().map(|n| ended(label, *n)).collect();
    assert_eq!(ledger.joins().add(&ended).await, Ok(()));
}

pub(crate) async fn standing(ledger: &Arc<dyn Ledger>, label: &str) -> Option<Standing> {
    ledger.joins().standing(&[group(label)]).await.expect("standing").remove(0)
}

/// Stage, ended, failed.
pub(crate) async fn counts(ledger: &Arc<dyn Ledger>, label: &str) -> Option<(Stage, u32, u32)> {
    standing(ledger, label).await.map(|standing| (standing.stage, standing.ended, standing.failed))
}

pub(crate) async fn members(ledger: &Arc<dyn Ledger>, label: &str) -> Vec<Member> {
    ledger.joins().members(&group(label), 0, 100).await.expect("members")
}

/// Labels of what is due, so many seconds after the start.
pub(crate) async fn due(ledger: &Arc<dyn Ledger>, seconds: u64) -> Vec<String> {
    let due = ledger.joins().due(later(START, seconds), 100).await.expect("due");
    due.iter().map(|id| id.as_str().trim_start_matches("group_").to_owned()).collect()
}

pub(crate) async fn look(ledger: &Arc<dyn Ledger>, label: &str, seconds: u64, seen: u32) {
    assert_eq!(ledger.joins().look(&[(group(label), later(START, seconds), seen)]).await, Ok(()));
}

pub(crate) fn firing(label: &str) -> Firing {
    let lifetime = Lifetime { at: later(START, 5), task: task_id(label), generation: 3 };
    Firing { effects: rich(label), begins: vec![lifetime] }
}

pub(crate) async fn fire(ledger: &Arc<dyn Ledger>, label: &str, firing: &Firing) -> Fired {
    ledger.joins().fire(&[(group(label), firing.clone())]).await.expect("fire").remove(0)
}

pub(crate) async fn close(ledger: &Arc<dyn Ledger>, label: &str) {
    assert_eq!(ledger.joins().close(&[group(label)], START).await, Ok(()));
}

pub(crate) async fn a_join_is_read_as_it_was_opened(room: Room) -> Outcome {
    let ledger = room.ledger();
    let mut chord = opening("a", 2);
    chord.head.kind = Kind::Chord;
    chord.head.callback = Some(Callback { body: Bytes::from_static(b"\0body\xff"), is_always: true });
    chord.head.is_shared = true;
    let mut chain = unknown("b", 3);
    chain.head.kind = Kind::Chain;
    chain.head.callback = Some(Callback { body: Bytes::new(), is_always: false });
    let plain = opening("c", 1);
    let all = [chord, chain, plain];
    assert_eq!(ledger.joins().open(&all).await, Ok(vec![Opened::New; 3]));
    for (opening, label) in all.iter().zip(["a", "b", "c"]) {
        let expected = Standing { head: opening.head.clone(), stage: Stage::Open, ended: 0, failed: 0 };
        assert!(!expected.is_full());
        assert_eq!(standing(&ledger, label).await, Some(expected));
    }
    assert_eq!(members(&ledger, "a").await, [going(0), going(1)]);
    assert_eq!(members(&ledger, "b").await, []);
    assert_eq!(standing(&ledger, "d").await, None);
    assert_eq!(members(&ledger, "d").await, []);
    assert_eq!(ledger.joins().open(&[]).await, Ok(vec![]));
    Ok(())
}

pub(crate) async fn a_join_opened_again_is_known_and_stays_as_it_is(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 3)).await;
    add(&ledger, "a", &[1]).await;
    let before = standing(&ledger, "a").await.expect("a join");
    assert_eq!((before.ended, before.failed), (1, 1));
    let mut other = opening("a", 5);
    other.head.digest = [1; 32];
    other.look_at = START;
    assert_eq!(ledger.joins().open(&[other]).await, Ok(vec![Opened::Known(before.clone())]));
    assert_eq!(standing(&ledger, "a").await, Some(before));
    assert_eq!(members(&ledger, "a").await, [going(0), over(1), going(2)]);
    assert!(due(&ledger, 59).await.is_empty());
    // Within a batch the first one counts.
    let opened = ledger.joins().open(&[opening("b", 1), opening("b", 2)]).await.expect("open");
    let known = Standing { head: opening("b", 1).head, stage: Stage::Open, ended: 0, failed: 0 };
    assert_eq!(opened, [Opened::New, Opened::Known(known)]);
    Ok(())
}

pub(crate) async fn a_join_is_sending_until_it_is_said_to_be_sent(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &Opening { is_sending: true, ..opening("a", 2) }).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Sending, 0, 0)));
    // A member may have ended before all of them are sent.
    add(&ledger, "a", &[0]).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Sending, 1, 0)));
    for _ in 0..2 {
        assert_eq!(ledger.joins().sent(&[group("a"), group("nobody")]).await, Ok(()));
        assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 1, 0)));
    }
    fire(&ledger, "a", &firing("f")).await;
    ledger.joins().sent(&[group("a")]).await.expect("sent");
    assert_eq!(counts(&ledger, "a").await.map(|counts| counts.0), Some(Stage::Fired));
    assert_eq!(standing(&ledger, "nobody").await, None);
    Ok(())
}

pub(crate) async fn a_member_is_added_once_and_its_first_outcome_stays(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 4)).await;
    add(&ledger, "a", &[2, 2, 1]).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 2, 1)));
    let other = Ended { is_failure: true, outcome: Bytes::from_static(b"other"), ..ended("a", 2) };
    assert_eq!(ledger.joins().add(&[other]).await, Ok(()));
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 2, 1)));
    assert_eq!(members(&ledger, "a").await, [going(0), over(1), over(2), going(3)]);
    let empty = Ended { outcome: Bytes::new(), ..ended("a", 0) };
    assert_eq!(ledger.joins().add(&[empty]).await, Ok(()));
    assert_eq!(members(&ledger, "a").await[0].outcome, Some((Bytes::new(), false)));
    Ok(())
}

pub(crate) async fn what_is_no_member_is_passed_over(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 2)).await;
    open(&ledger, &opening("b", 3)).await;
    let all = [ended("a", 2), ended("nobody", 0), ended("b", 2), ended("a", 0)];
    assert_eq!(ledger.joins().add(&all).await, Ok(()));
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 1, 0)));
    assert_eq!(counts(&ledger, "b").await, Some((Stage::Open, 1, 0)));
    assert_eq!(members(&ledger, "a").await, [over(0), going(1)]);
    assert_eq!(standing(&ledger, "nobody").await, None);
    Ok(())
}

pub(crate) async fn without_known_members_each_counts_in_the_order_of_their_ends(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &unknown("a", 3)).await;
    add(&ledger, "a", &[5, 3, 5]).await;
    add(&ledger, "a", &[3, 8]).await;
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 3, 2)));
    assert_eq!(members(&ledger, "a").await, [over(5), over(3), over(8)]);
    assert_eq!(ledger.joins().members(&group("a"), 1, 1).await, Ok(vec![over(3)]));
    assert_eq!(ledger.joins().missing(&group("a"), 0, 10).await, Ok((vec![], None)));
    assert_eq!(due(&ledger, 0).await, ["a"]);
    Ok(())
}

pub(crate) async fn members_are_read_page_by_page(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 12)).await;
    add(&ledger, "a", &[11, 2, 3]).await;
    let (joins, id) = (ledger.joins(), group("a"));
    assert_eq!(joins.members(&id, 1, 3).await, Ok(vec![going(1), over(2), over(3)]));
    assert_eq!(joins.members(&id, 10, 3).await, Ok(vec![going(10), over(11)]));
    assert_eq!(joins.members(&id, 12, 3).await, Ok(vec![]));
    assert_eq!(joins.members(&id, 0, 0).await, Ok(vec![]));
    Ok(())
}

/// All members that have not ended, so many at a time.
async fn missing(joins: &dyn Joins, id: &GroupId, max: usize) -> Vec<TaskId> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let (page, next) = joins.missing(id, at, max).await.expect("missing");
        assert!(page.len() <= max && next.is_none_or(|next| next > at), "{next:?} after {at}");
        all.extend(page);
        from = next;
    }
    all
}

pub(crate) async fn members_that_have_not_ended_are_found_page_by_page(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 12)).await;
    add(&ledger, "a", &[0, 1, 5, 11]).await;
    let expected: Vec<TaskId> = [2, 3, 4, 6, 7, 8, 9, 10].map(member).into();
    let (joins, id) = (ledger.joins(), group("a"));
    for max in [1, 3, 8, 100] {
        assert_eq!(missing(joins, &id, max).await, expected, "{max} at a time");
    }
    assert_eq!(joins.missing(&id, 10, 100).await, Ok((vec![member(10)], None)));
    assert_eq!(joins.missing(&id, 12, 100).await, Ok((vec![], None)));
    assert_eq!(joins.missing(&group("nobody"), 0, 100).await, Ok((vec![], None)));
    close(&ledger, "a").await;
    assert_eq!(joins.missing(&id, 0, 100).await, Ok((vec![], None)));
    Ok(())
}

pub(crate) async fn adding_at_the_same_time_counts_each_member_once(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", 20)).await;
    let adding = (0..8).map(|n| {
        let ledger = Arc::clone(&ledger);
        // Each member is added by two of them.
        tokio::spawn(async move {
            let members: Vec<u32> = (0..20).filter(|member| member % 4 == n % 4).collect();
            add(&ledger, "a", &members).await;
        })
    });
    for adding in adding.collect::<Vec<_>>() {
        adding.await.expect("a task");
    }
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, 20, 10)));
    assert_eq!(members(&ledger, "a").await, (0..20).map(over).collect::<Vec<_>>());
    assert_eq!(due(&ledger, 0).await, ["a"]);
    Ok(())
}

/// Many enough that no room handles them in one piece.
pub(crate) const MANY: u32 = 10_000;

pub(crate) async fn a_join_of_ten_thousand_members_is_one_as_any(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &opening("a", MANY)).await;
    let known = Standing { head: opening("a", MANY).head, stage: Stage::Open, ended: 0, failed: 0 };
    assert_eq!(ledger.joins().open(&[opening("a", MANY)]).await, Ok(vec![Opened::Known(known)]));
    let all: Vec<u32> = (0..MANY).rev().filter(|n| *n != 17).collect();
    for some in all.chunks(1_000) {
        add(&ledger, "a", some).await;
    }
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Open, MANY - 1, MANY / 2 - 1)));
    assert_eq!(missing(ledger.joins(), &group("a"), 10).await, [member(17)]);
    assert!(due(&ledger, 0).await.is_empty());
    add(&ledger, "a", &[17]).await;
    assert_eq!(due(&ledger, 0).await, ["a"]);
    let mut read = Vec::new();
    while let Ok(page) = ledger.joins().members(&group("a"), read.len() as u32, 3_000).await {
        let is_last = page.len() < 3_000;
        read.extend(page);
        if is_last {
            break;
        }
    }
    assert!(read == (0..MANY).map(over).collect::<Vec<_>>(), "{} members", read.len());
    Ok(())
}

pub(crate) async fn joins_survive_a_restart(room: Room) -> Outcome {
    let ledger = room.ledger();
    open(&ledger, &Opening { is_sending: true, ..opening("a", 3) }).await;
    open(&ledger, &unknown("b", 3)).await;
    add(&ledger, "a", &[1]).await;
    add(&ledger, "b", &[4, 3]).await;
    look(&ledger, "b", 30, 2).await;
    let before = (standing(&ledger, "a").await, standing(&ledger, "b").await);
    drop(ledger);
    let room = reopen(room).await?;
    let ledger = room.ledger();
    assert_eq!((standing(&ledger, "a").await, standing(&ledger, "b").await), before);
    assert_eq!(members(&ledger, "a").await, [going(0), over(1), going(2)]);
    assert_eq!(due(&ledger, 60).await, ["b", "a"]);
    // What is opened now does not meet what was there.
    open(&ledger, &opening("c", 2)).await;
    add(&ledger, "b", &[4, 9]).await;
    assert_eq!(members(&ledger, "b").await, [over(4), over(3), over(9)]);
    assert_eq!(members(&ledger, "c").await, [going(0), going(1)]);
    assert_eq!(counts(&ledger, "a").await, Some((Stage::Sending, 1, 1)));
    Ok(())
}
