//! Ledgers on one Redis, as replicas share it: what only several of them, or the end of the server, can show.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lineshaft::clock::{TestClock, WallTime};
use lineshaft::error::StoreError;
use lineshaft::ledger::redis::Ledger as Room;
use lineshaft::ledger::{Begun, Ending, Grant, LeaseQuery, Ledger, NOBODY, Notice, Standing, Verdict};
use lineshaft::task::{FencingToken, LeaseId};
use parking_lot::Mutex;

use crate::harness::START;
use crate::make::*;
use crate::support::redis::Redis as Server;
use crate::support::until::{soon, until};

const FREE: Ending = Ending::Free { report: None };
/// What is acknowledged is on disk.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn replica(server: &Server, clock: &Arc<TestClock>) -> Arc<dyn Ledger> {
    Arc::new(Room::new(server.link().await, clock.clone()))
}

/// Runs a command beside the ledgers.
async fn command(server: &Server, parts: &[&str]) -> redis::Value {
    let mut command = redis::cmd(parts[0]);
    command.arg(&parts[1..]);
    command.query_async(&mut server.connection().await).await.expect("an answer")
}

/// Skips a test where there is no Redis.
macro_rules! server {
    ($arguments:expr) => {
        match Server::missing() {
            Some(why) => return eprintln!("skipped: {why}"),
            None => Server::start($arguments).await,
        }
    };
}

#[tokio::test]
async fn what_one_replica_grants_decides_and_marks_holds_for_the_other() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let (one, two) = (replica(&server, &clock).await, replica(&server, &clock).await);
    attach(&one, &["s1"]).await;
    let held = lease(&one, "a", "s1").await;
    assert_eq!(begin(&two, &grant("a", "s1")).await, Begun::Held(held.clone()));
    assert_eq!(two.decide(&[decision(&held.id, None, 1)]).await, Ok(vec![Verdict::Recorded]));
    assert_eq!(begin(&one, &grant("a", "s1")).await, Begun::Decided);
    assert_eq!(one.decide(&[decision(&held.id, None, 2)]).await, Ok(vec![Verdict::Conflict]));
    assert_eq!(one.close(&session_id("s1"), None).await, Ok(Some(Vec::new())));
    assert_eq!(begin(&two, &grant("b", "s1")).await, Begun::NoSession);
}

#[tokio::test]
async fn a_notice_reaches_the_other_replica_and_its_own_once() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let (one, two) = (replica(&server, &clock).await, replica(&server, &clock).await);
    until("both listen", async || {
        let heard = command(&server, &["PUBSUB", "NUMSUB", "{lineshaft}:notices"]).await;
        matches!(heard, redis::Value::Array(parts) if parts.last() == Some(&redis::Value::Int(2))).then_some(())
    })
    .await;
    let (mut own, mut other) = (one.notices().listen(), two.notices().listen());
    for notice in [Notice::Paused, Notice::Closed(session_id("s1"))] {
        one.notices().tell(notice.clone());
        assert_eq!(soon("the own replica hears", own.recv()).await, Ok(notice.clone()));
        assert_eq!(soon("the other replica hears", other.recv()).await, Ok(notice));
    }
    two.notices().tell(Notice::Paused);
    assert_eq!(soon("the first replica hears", own.recv()).await, Ok(Notice::Paused));
    assert!(own.is_empty(), "nothing was heard twice");
}

#[tokio::test]
async fn tokens_grow_whoever_grants_and_whatever_the_clock_shows() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let behind = Arc::new(TestClock::new(WallTime(START.0 / 2)));
    let (one, two) = (replica(&server, &clock).await, replica(&server, &behind).await);
    attach(&one, &["s1"]).await;
    let mut last = FencingToken(0);
    let mut grow = |id: &LeaseId| {
        assert!(id.token > last, "{} after {last}", id.token);
        last = id.token;
    };
    grow(&lease(&one, "a", "s1").await.id);
    grow(&lease(&two, "b", "s1").await.id);
    clock.step_to(WallTime(START.0 - 3_600_000_000_000));
    grow(&lease(&one, "c", "s1").await.id);
    clock.step_to(later(START, 3_600));
    let held = lease(&one, "d", "s1").await.id;
    grow(&held);
    grow(&lease(&two, "e", "s1").await.id);
    // The last token is lost: the clock is ahead of it.
    command(&server, &["DEL", "{lineshaft}:token"]).await;
    clock.step_to(later(START, 7_200));
    grow(&lease(&one, "f", "s1").await.id);
    // It is lost, and the clock is behind: a message still gets a greater one than its own last.
    command(&server, &["DEL", "{lineshaft}:token"]).await;
    assert_eq!(two.release(&[(held.clone(), FREE)]).await, Ok(vec![Verdict::Recorded]));
    assert!(lease(&two, "d", "s1").await.id.token > held.token);
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_told_again() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let ledger = replica(&server, &clock).await;
    let flush = async || drop(command(&server, &["SCRIPT", "FLUSH"]).await);
    for label in ["a", "b"] {
        flush().await;
        assert_eq!(ledger.attach(&session(&format!("s{label}"), 1)).await, Ok(true));
        flush().await;
        let held = lease(&ledger, label, &format!("s{label}")).await;
        flush().await;
        assert_eq!(ledger.release(&[(held.id.clone(), FREE)]).await, Ok(vec![Verdict::Recorded]));
        flush().await;
        assert_eq!(ledger.decide(&[decision(&held.id, None, 1)]).await, Ok(vec![Verdict::Recorded]));
        flush().await;
        assert_eq!(ledger.done(&[key(label)], START).await, Ok(()));
        flush().await;
        assert_eq!(ledger.sweep(START.plus(KEEP)).await, Ok(1));
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_the_server() {
    let (mut server, clock) = (server!(&DURABLE), Arc::new(TestClock::new(START)));
    let ledger = replica(&server, &clock).await;
    attach(&ledger, &["s1"]).await;
    let (live, decided) = (lease(&ledger, "live", "s1").await, lease(&ledger, "decided", "s1").await);
    ledger.decide(&[decision(&decided.id, None, 1)]).await.expect("decide");
    server.kill();
    let failed = ledger.begin(&[grant("x", "s1")]).await;
    assert!(matches!(failed, Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown { .. })), "{failed:?}");
    server.restart().await;
    let both = [key("live"), key("decided")];
    let standing = until("the ledger is connected again", async || ledger.standing(&both).await.ok()).await;
    assert_eq!(standing, [Standing::Leased(live.id.clone()), Standing::Decided]);
    assert_eq!(ledger.decide(&[decision(&decided.id, None, 1)]).await, Ok(vec![Verdict::Duplicate]));
    assert!(lease(&ledger, "next", "s1").await.id.token > decided.id.token);
    assert_eq!(ledger.undone(later(START, 1), 10).await.expect("undone").len(), 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_changes_nothing() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let ledger = replica(&server, &clock).await;
    attach(&ledger, &["s1"]).await;
    command(&server, &["HSET", "{lineshaft}:records", "bad", "R0000000000000001 nonsense"]).await;
    let refused = ledger.begin(&[grant("good", "s1"), grant("bad", "s1")]).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    assert_eq!(ledger.standing(&[key("good")]).await, Ok(vec![Standing::Open]));
    let refused = ledger.standing(&[key("bad")]).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    lease(&ledger, "good", "s1").await;
}

#[tokio::test]
async fn leases_of_many_sessions_are_listed_in_order() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let ledger = replica(&server, &clock).await;
    attach(&ledger, &["s0", "s1", "s2"]).await;
    let grants: Vec<Grant> = (0..900)
        .map(|n| {
            let session = if n % 10 < 8 { "s0" } else { ["s1", "s2"][n % 2] };
            Grant { queue: queue(if n % 3 == 0 { "r" } else { "q" }), ..grant(&format!("m{n:03}"), session) }
        })
        .collect();
    ledger.begin(&grants).await.expect("begin");
    let listed = async |query: LeaseQuery| {
        let leases = ledger.leases(&query).await.expect("leases");
        leases.into_iter().map(|lease| lease.id.message.to_string()).collect::<Vec<_>>()
    };
    let all: Vec<String> = (0..900).map(|n| format!("m{n:03}")).collect();
    assert_eq!(listed(LeaseQuery { max: usize::MAX, ..Default::default() }).await, all);
    assert_eq!(listed(LeaseQuery { max: 400, ..Default::default() }).await, all[..400]);
    let of_r: Vec<String> = all.iter().step_by(3).cloned().collect();
    let in_r = LeaseQuery { queue: Some(queue("r")), max: 299, ..Default::default() };
    assert_eq!(listed(in_r).await, of_r[..299]);
    assert_eq!(ledger.leased().await, Ok(vec![(queue("q"), 600), (queue("r"), 300)]));
    ledger.close(&session_id("s0"), None).await.expect("close");
    let orphans = ledger.orphans(1_000).await.expect("orphans");
    assert_eq!(orphans.len(), 720);
    assert!(orphans.is_sorted_by_key(|lease| lease.id.token));
}

/// What the racing workers know of the messages, checked at each step.
#[derive(Default)]
struct History {
    /// Message → its live lease.
    live: HashMap<String, FencingToken>,
    /// Message → its greatest token.
    last: HashMap<String, FencingToken>,
    /// Message → under which token it was decided.
    decided: HashMap<String, FencingToken>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_race_one_has_the_lease_and_one_decides() {
    const MESSAGES: usize = 50;
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let replicas = [replica(&server, &clock).await, replica(&server, &clock).await];
    attach(&replicas[0], &["s0", "s1"]).await;
    let (history, decided) = (Arc::new(Mutex::new(History::default())), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..8_usize)
        .flat_map(|n| [(n, 0), (n, 1)])
        .map(|(n, of)| {
            let (ledger, history) = (Arc::clone(&replicas[of]), Arc::clone(&history));
            let decided = Arc::clone(&decided);
            tokio::spawn(async move {
                let mut step = n * 7 + of;
                while decided.load(Ordering::SeqCst) < MESSAGES {
                    step += 13;
                    let labels: Vec<String> = (0..4).map(|k| format!("m{}", (step + k * 3) % MESSAGES)).collect();
                    let session = format!("s{}", step % 2);
                    let grants: Vec<_> = labels.iter().map(|label| grant(label, &session)).collect();
                    for begun in ledger.begin(&grants).await.expect("begin") {
                        let Begun::Run(lease) = begun else { continue };
                        race_one(&ledger, &history, &decided, &lease.id, step).await;
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        soon("the race ends", worker).await.expect("a worker");
    }
    let counts = |history: &History| (history.live.len(), history.decided.len());
    assert_eq!(counts(&history.lock()), (0, MESSAGES));
    let ledger = &replicas[1];
    assert_eq!(ledger.leased().await, Ok(Vec::new()));
    assert_eq!(ledger.leases(&LeaseQuery { max: 10, ..Default::default() }).await, Ok(Vec::new()));
    let undone = ledger.undone(later(START, 1), 1_000).await.expect("undone");
    assert_eq!(undone.len(), MESSAGES);
    let messages: Vec<_> = undone.into_iter().map(|undone| undone.message).collect();
    ledger.done(&messages, START).await.expect("done");
    assert_eq!(ledger.sweep(START.plus(KEEP)).await, Ok(MESSAGES));
    assert_eq!(ledger.orphans(10).await, Ok(Vec::new()));
    for id in ["s0", "s1"] {
        ledger.close(&session_id(id), None).await.expect("close");
    }
    let left = command(&server, &["KEYS", "*"]).await;
    assert_eq!(left, redis::Value::Array(vec![redis::Value::BulkString(b"{lineshaft}:token".to_vec())]));
}

/// A worker's part: it ends the lease that it was granted, in one way or another.
async fn race_one(
    ledger: &Arc<dyn Ledger>,
    history: &Mutex<History>,
    decided: &AtomicUsize,
    id: &LeaseId,
    step: usize,
) {
    let message = id.message.to_string();
    {
        let mut history = history.lock();
        assert_eq!(history.live.insert(message.clone(), id.token), None, "{message} has two leases");
        let last = history.last.insert(message.clone(), id.token);
        assert!(last.is_none_or(|last| last < id.token), "{message}: {} after {last:?}", id.token);
        assert!(!history.decided.contains_key(&message), "{message} was granted though it is decided");
    }
    tokio::task::yield_now().await;
    // From here on another may be granted it, as the ledger may be done before it is answered.
    history.lock().live.remove(&message);
    match step % 3 {
        0 => {
            assert_eq!(ledger.release(&[(id.clone(), FREE)]).await, Ok(vec![Verdict::Recorded]));
        }
        1 => {
            let lost = Ending::Lost { at: START };
            assert_eq!(ledger.release(&[(id.clone(), lost)]).await, Ok(vec![Verdict::Recorded]));
            // Late, and perhaps overtaken by another grant.
            if ledger.decide(&[decision(id, None, 1)]).await == Ok(vec![Verdict::Recorded]) {
                record(history, decided, id);
            }
        }
        _ => {
            let both = [decision(id, Some("r"), 1), decision(id, Some("s"), 2)];
            let verdicts = ledger.decide(&both).await;
            assert_eq!(verdicts, Ok(vec![Verdict::Recorded, Verdict::Conflict]));
            record(history, decided, id);
        }
    }
}

fn record(history: &Mutex<History>, decided: &AtomicUsize, id: &LeaseId) {
    let earlier = history.lock().decided.insert(id.message.to_string(), id.token);
    assert_eq!(earlier, None, "{} was decided twice", id.message);
    decided.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test]
async fn nobodys_leases_are_orphans_for_every_replica() {
    let (server, clock) = (server!(&[]), Arc::new(TestClock::new(START)));
    let (one, two) = (replica(&server, &clock).await, replica(&server, &clock).await);
    let held = lease(&one, "a", NOBODY).await;
    assert_eq!(two.orphans(10).await, Ok(vec![held.clone()]));
    assert_eq!(two.release(&[(held.id, FREE)]).await, Ok(vec![Verdict::Recorded]));
    assert_eq!(one.orphans(10).await, Ok(Vec::new()));
}

#[path = "redis_cost.rs"]
mod cost;
