//! Two thousand tasks cancelled at random moments of their lives, by way of two replicas, one of which crashes again and
//! again at some point: each ends once, as cancelled or as its own outcome, and the answer given was true.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::Ledger as _;
use lineshaft::service::Service;
use lineshaft::service::types::{CancelAnswer, Event, Outcome, Submission};
use lineshaft::task::{FailureReason, LeaseId, Status, TaskId, TaskState};
use tokio::task::JoinHandle;

use crate::worker::{Worker, failure, release, report, success};
use crate::world::{World, task};

const TASKS: u32 = 2_000;
const MILLI: Duration = Duration::from_millis(1);

/// SplitMix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(bound)) as u32
    }
}

/// Written by workers and callers alone.
#[derive(Debug, Default)]
struct Witness {
    /// When attempts of each task began, and what was reported of it in the end.
    begun: BTreeMap<String, Vec<tokio::time::Instant>>,
    /// The first answer to each cancellation, when it came, and the state right after.
    answers: BTreeMap<String, (CancelAnswer, tokio::time::Instant, Option<TaskState>)>,
}

/// Works on `service` until the stream ends; attempts take up to a second, and only some stop when they are told.
async fn work(mut worker: Worker, seed: u64, witness: Rc<RefCell<Witness>>) {
    let mut random = Random(seed);
    let mut running: BTreeMap<LeaseId, JoinHandle<()>> = BTreeMap::new();
    let mut stubborn: BTreeSet<LeaseId> = BTreeSet::new();
    while let Some(event) = worker.stream.next().await {
        match event {
            Event::Goodbye(_) => break,
            Event::Leases { first_number, leases } => {
                worker.inbound.accepted(first_number + leases.len() as u64 - 1);
                for lease in leases {
                    let now = tokio::time::Instant::now();
                    witness.borrow_mut().begun.entry(lease.signature.uuid.clone()).or_default().push(now);
                    worker.inbound.started(&lease.id);
                    let outcome = match random.below(10) {
                        0 => release(Duration::ZERO),
                        1..4 => failure("no"),
                        4 => Outcome::Failure { error: "no".into(), is_final: true, retry_after: None },
                        _ => success("done"),
                    };
                    let (inbound, spent) = (worker.inbound.clone(), MILLI * random.below(1_000));
                    if random.below(10) < 3 {
                        stubborn.insert(lease.id.clone());
                    }
                    let id = lease.id.clone();
                    running.insert(
                        id,
                        tokio::spawn(async move {
                            tokio::time::sleep(spent).await;
                            inbound.report(vec![report(&lease, outcome)]).await;
                        }),
                    );
                }
            }
            Event::Revoke { lease, .. } if !stubborn.contains(&lease) => {
                if let Some(attempt) = running.remove(&lease) {
                    attempt.abort();
                    let outcome = failure("told to stop");
                    worker.inbound.report(vec![lineshaft::service::types::Report { id: None, lease, outcome }]).await;
                }
            }
            _ => {}
        }
    }
    running.into_values().for_each(|attempt| attempt.abort());
}

async fn state_of(service: &Service, id: &str) -> Option<TaskState> {
    service.states(&[TaskId::trusted(id)]).await.expect("can be read").remove(0)
}

async fn races(world: World, seed: u64) {
    let mut random = Random(seed);
    let steady = world.replica();
    let witness = Rc::new(RefCell::new(Witness::default()));
    let done = Cell::new(false);
    let (tell, sent): (Vec<_>, Vec<_>) = (0..TASKS).map(|_| tokio::sync::oneshot::channel()).unzip();
    let ids: Vec<String> = (0..TASKS).map(|i| format!("t-{i}")).collect();

    // A replica that crashes at one point after another, with a worker of its own.
    let shaky = async {
        for round in 0u64.. {
            if done.get() {
                return;
            }
            let point = Point::ALL[round as usize % Point::ALL.len()];
            let failpoints = Failpoints::at(point, Action::Hang, 1 + round % 5);
            let replica = world.replica_with(failpoints.clone());
            let worker = Worker::attach(&replica.service, &format!("shaky-{round}"), &["a"], 1_000).await;
            let cancels = async {
                // Also by way of this replica, whose answers may never come: then there is none to be kept.
                for n in 0.. {
                    let id = TaskId::trusted(format!("t-{}", (round * 97 + n * 7) % u64::from(TASKS)));
                    let _ = replica.service.cancel(id).await;
                    tokio::time::sleep(MILLI * 40).await;
                }
            };
            let life = async {
                tokio::select! {
                    () = failpoints.struck() => {}
                    () = tokio::time::sleep(MILLI * 1_500) => {}
                    () = work(worker, seed + round, witness.clone()) => {}
                    () = cancels => {}
                }
            };
            life.await;
            replica.crash();
        }
    };
    let story = async {
        let worker = Worker::attach(&steady.service, "steady", &["a"], 100_000).await;
        let working = work(worker, seed, witness.clone());
        let sending = async {
            for (id, tell) in ids.iter().zip(tell) {
                let delay = (random.below(10) < 3).then(|| MILLI * random.below(5_000));
                steady.send(Submission { delay, retry_count: 2, ..task("a", id) }).await;
                tell.send(()).expect("is waited for");
                tokio::time::sleep(MILLI * random.below(10)).await;
            }
        };
        let mut moments = Random(seed ^ 1);
        let moments: Vec<Duration> = ids.iter().map(|_| MILLI * moments.below(4_000)).collect();
        let cancelling = futures::future::join_all(ids.iter().zip(moments).zip(sent).map(|((id, moment), sent)| {
            let (steady, witness) = (&steady, &witness);
            async move {
                // From when it is known, at a random moment of its life.
                sent.await.expect("is sent");
                tokio::time::sleep(moment).await;
                let answer = steady.service.cancel(TaskId::trusted(id.as_str())).await.expect("is answered");
                let at = tokio::time::Instant::now();
                let state = state_of(&steady.service, id).await;
                witness.borrow_mut().answers.insert(id.clone(), (answer, at, state));
            }
        }));
        let ending = async {
            tokio::join!(sending, cancelling);
            for id in &ids {
                steady.end(id).await;
            }
            done.set(true);
        };
        tokio::select! {
            () = working => panic!("the steady worker's stream ended"),
            () = ending => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), async { tokio::join!(shaky, story) }).await.expect("all end");

    let witness = std::mem::take(&mut *witness.borrow_mut());
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for id in &ids {
        let end = state_of(&steady.service, id).await.expect("is known");
        let is_cancelled = (end.status, end.reason) == (Status::Failure, FailureReason::Cancelled);
        let (answer, at, then) = &witness.answers[id];
        *counts.entry(format!("{answer:?}, cancelled: {is_cancelled}")).or_default() += 1;
        match answer {
            CancelAnswer::Removed => {
                assert!(is_cancelled, "{id} was removed and is {end:?}");
                let late = witness.begun.get(id).into_iter().flatten().any(|begun| begun > at);
                assert!(!late, "{id} was removed and began afterwards");
            }
            CancelAnswer::Ended => assert_eq!(then.as_ref(), Some(&end), "{id} had ended and changed"),
            CancelAnswer::Marked | CancelAnswer::Signalled => {}
        }
    }
    for answer in ["Removed", "Signalled", "Ended"] {
        assert!(counts.keys().any(|key| key.starts_with(answer)), "{answer} was never answered: {counts:?}");
    }
    for _ in 0..1_000 {
        if world.ledger.marks(None, 1).await.expect("can be listed").is_empty() && world.leases().await.is_empty() {
            break;
        }
        tokio::time::sleep(MILLI * 100).await;
    }
    assert_eq!(world.ledger.marks(None, 10).await, Ok(vec![]), "marks go when their tasks have ended");
    assert_eq!(world.leases().await, [], "nothing is leased");
    assert_eq!(world.waiting().await, 0, "nothing waits");
}

#[tokio::test(start_paused = true)]
async fn separate_stores_keep_what_they_answer() {
    races(World::new(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn fused_stores_keep_what_they_answer() {
    races(World::fused(), 2).await;
}
