//! A crash at every arrow of sending, granting, settling, giving back and expiring, on stores that outlive the replica.
//!
//! One scenario, run once for each point and each visit: a replica stops dead at the point, another one takes over on the
//! same stores, the worker attaches to it, and whoever sent a task sends it again, answered or not. In the end every task has
//! ended once, as it should, each callback was made once, and nothing is stuck. Time is paused: a run takes milliseconds and is the same each time.
//!
//! The same arrows are visited with real processes and the embedded store in `fault`.

// Clippy knows tests by their attribute, and helpers of tests have none.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lineshaft::clock::{Clock, TestClock, WallTime};
use lineshaft::failpoint::{Action, Failpoints, Point};
use lineshaft::ledger::{LeaseQuery, Subscription, Verdict};
use lineshaft::service::types::{
    CancelAnswer, Event, Hello, Idempotency, Outcome, Parting, Report, Resume, Settings, Submission, Until,
};
use lineshaft::service::{Service, Stores, Stream};
use lineshaft::task::{FailureReason, LeaseId, QueueName, Status, TaskId, TaskName};
use lineshaft::{backend, broker, fused, ledger};

const NAMES: [&str; 8] = ["ok", "flaky", "bad", "parent", "child", "released", "unwanted", "late"];
/// The times of the tasks that nobody begins are over after it.
const ALL_OVER: Duration = Duration::from_secs(8);
const LEASE: Duration = Duration::from_secs(3);

/// Stores that outlive any replica.
struct World {
    clock: Arc<TestClock>,
    broker: Arc<broker::memory::Broker>,
    ledger: Arc<ledger::memory::Ledger>,
    backend: Arc<backend::memory::Backend>,
    fused: bool,
}

struct Replica {
    service: Service,
    broker: Arc<broker::memory::Broker>,
}

impl World {
    fn new(fused: bool, options: broker::memory::Options) -> Self {
        let clock = Arc::new(TestClock::new(WallTime(1_790_000_000_000_000_000)));
        let shared: Arc<dyn Clock> = clock.clone();
        Self {
            broker: Arc::new(broker::memory::Broker::with(shared.clone(), options)),
            ledger: Arc::new(ledger::memory::Ledger::new(shared)),
            backend: Arc::new(backend::memory::Backend::new()),
            clock,
            fused,
        }
    }

    fn replica(&self, failpoints: Failpoints) -> Replica {
        let broker = Arc::new(self.broker.replica());
        let fused = self.fused.then(|| {
            let all = fused::memory::Fused::new(broker.clone(), self.ledger.clone(), self.backend.clone());
            Arc::new(all) as Arc<dyn fused::Fused>
        });
        let stores =
            Stores { broker: broker.clone(), ledger: self.ledger.clone(), backend: self.backend.clone(), fused };
        let settings = Settings { lease_duration: LEASE, ..Settings::default() };
        Replica { service: Service::start(stores, settings, self.clock.clone(), failpoints), broker }
    }
}

impl Replica {
    fn crash(self) {
        self.service.halt();
        self.broker.crash();
    }
}

/// What a worker saw and did, written by the worker alone.
#[derive(Debug, Default)]
struct Witness {
    /// Attempts begun, by task.
    begun: BTreeMap<String, Vec<u32>>,
    /// Outcomes that were answered RECORDED or DUPLICATE, by task.
    ended: BTreeMap<String, u32>,
}

/// A worker as a client would be: it keeps its session, its leases and its unacknowledged reports over replicas.
#[derive(Default)]
struct Worker {
    session: Option<Resume>,
    /// Leases whose report has no verdict yet: still held as far as the worker knows.
    held: HashMap<LeaseId, (String, Report)>,
    witness: Witness,
}

fn hello(worker: &str, resume: Option<Resume>, held: Vec<LeaseId>) -> Hello {
    let names = NAMES.iter().map(|n| TaskName::trusted(*n)).collect();
    Hello {
        worker: worker.into(),
        language: "test".into(),
        version: "0".into(),
        subscriptions: vec![Subscription { queue: QueueName::trusted("q"), names, weight: 1 }],
        concurrency: 4,
        resume,
        held,
    }
}

impl Worker {
    async fn attach(&mut self, service: &Service) -> Stream {
        let resume = hello("w", self.session.clone(), self.held.keys().cloned().collect());
        let (welcome, stream) = match service.attach(resume).await {
            Ok(welcomed) => welcomed,
            // Expired meanwhile; its unacknowledged reports may still count.
            Err(_) => service.attach(hello("w", None, Vec::new())).await.expect("attaches anew"),
        };
        self.session = Some(welcome.session);
        let inbound = stream.inbound();
        inbound.credit(1000);
        inbound.report(self.held.values().map(|(_, report)| report.clone()).collect()).await;
        stream
    }

    /// Works until `enough` and nothing is held any more: `None`; or until the stream ends.
    async fn work(&mut self, mut stream: Stream, enough: &AtomicBool) -> Option<Parting> {
        let inbound = stream.inbound();
        let mut beat = tokio::time::interval(LEASE / 6);
        while !(enough.load(Ordering::Relaxed) && self.held.is_empty()) {
            let event = tokio::select! {
                event = stream.next() => event,
                _ = beat.tick() => {
                    inbound.heartbeat(0, 0, &[]);
                    continue;
                }
            };
            match event {
                None => return Some(Parting::Asked),
                Some(Event::Goodbye(parting)) => return Some(parting),
                Some(Event::Leases { first_number, leases }) => {
                    inbound.accepted(first_number + leases.len() as u64 - 1);
                    for lease in leases {
                        let task = lease.signature.uuid.clone();
                        let begun = self.witness.begun.entry(task.clone()).or_default();
                        begun.push(lease.attempt);
                        inbound.started(&lease.id);
                        let outcome = outcome(&lease.signature.name, lease.attempt, begun.len());
                        let report = Report { id: None, lease: lease.id.clone(), outcome };
                        self.held.insert(lease.id, (task, report.clone()));
                        inbound.report(vec![report]).await;
                    }
                }
                Some(Event::ReportAck { lease, verdict: Some(verdict), .. }) => {
                    let Some((task, report)) = self.held.remove(&lease) else { continue };
                    let ends = !matches!(report.outcome, Outcome::Release { .. });
                    if ends && matches!(verdict, Verdict::Recorded | Verdict::Duplicate) {
                        *self.witness.ended.entry(task).or_default() += 1;
                    }
                }
                Some(_) => {}
            }
        }
        None
    }
}

fn outcome(name: &str, attempt: u32, begun: usize) -> Outcome {
    let failure = |is_final| Outcome::Failure { error: "no".into(), is_final, retry_after: None };
    match name {
        "flaky" if attempt == 1 => failure(false),
        "bad" => failure(true),
        "released" if begun == 1 => Outcome::Release { delay: Duration::ZERO },
        _ => Outcome::Success(Vec::new()),
    }
}

fn task(name: &str, i: u32) -> Submission {
    let queue = Some(QueueName::trusted("q"));
    let child = |n: u32| Submission {
        id: Some(TaskId::trusted(format!("child-{n}-of-{name}-{i}"))),
        name: "child".into(),
        queue: queue.clone(),
        ..Submission::default()
    };
    Submission {
        id: Some(TaskId::trusted(format!("{name}-{i}"))),
        name: name.into(),
        queue: queue.clone(),
        retry_count: u32::from(name == "flaky"),
        on_success: if name == "parent" { vec![child(0), child(1)] } else { Vec::new() },
        on_error: match name {
            "bad" => vec![child(2)],
            "late" => vec![child(3)],
            _ => Vec::new(),
        },
        // One after another, each in a round of its own.
        expires_in: (name == "late").then(|| Duration::from_secs(2 + 2 * u64::from(i))),
        request_id: Some(format!("send-{name}-{i}")),
        // The key of a task that ends early: it is free by then, and the request is the same send all the same.
        idempotency: (name == "parent").then(|| Idempotency { key: format!("key-{i}"), until: Until::Ended }),
        ..Submission::default()
    }
}

fn children(parent: &TaskId) -> Vec<TaskId> {
    let numbers: &[u32] = match parent.as_str().split('-').next() {
        Some("parent") => &[0, 1],
        Some("bad") => &[2],
        Some("late") => &[3],
        _ => &[],
    };
    numbers.iter().map(|n| TaskId::trusted(format!("child-{n}-of-{parent}"))).collect()
}

/// Sends a task; `begun` knows it before the answer comes.
async fn send(service: &Service, name: &'static str, i: u32, begun: &mut Vec<(&'static str, u32)>) {
    begun.push((name, i));
    let sent = service.send(vec![task(name, i)]).await;
    assert_eq!(sent, [Ok(TaskId::trusted(format!("{name}-{i}")))]);
}

/// A worker that takes one lease and is never heard of again.
async fn mute(service: &Service) {
    let Ok((_, mut stream)) = service.attach(hello("mute", None, Vec::new())).await else { return };
    stream.inbound().credit(1);
    while let Some(event) = stream.next().await {
        if let Event::Leases { first_number, .. } = event {
            stream.inbound().accepted(first_number);
            return;
        }
    }
}

/// Cancels a task until the answer comes, as a client does.
async fn cancel(service: &Service, id: &TaskId) {
    let answer = service.cancel(id.clone()).await.expect("is cancelled");
    assert!(matches!(answer, CancelAnswer::Removed | CancelAnswer::Ended | CancelAnswer::Marked), "{answer:?}");
}

fn ids(begun: &[(&'static str, u32)]) -> Vec<TaskId> {
    begun.iter().map(|(name, i)| TaskId::trusted(format!("{name}-{i}"))).collect()
}

fn is_late(id: &TaskId) -> bool {
    id.as_str().starts_with("late-")
}

fn is_unwanted(id: &TaskId) -> bool {
    id.as_str().starts_with("unwanted-")
}

async fn all_final(service: &Service, ids: &[TaskId]) {
    for id in ids {
        let hour = Duration::from_secs(3600);
        while service.wait(id.clone(), hour).await.ok().flatten().is_none_or(|s| !s.status.is_final()) {}
    }
}

/// Nothing waits, nothing is leased.
async fn all_quiet(service: &Service) {
    loop {
        let pending = service.pending(Some(QueueName::trusted("q")), true, None, 100).await.expect("can be listed");
        let leases = service.leases(&LeaseQuery { max: 100, ..LeaseQuery::default() }).await.expect("can be listed");
        if pending.tasks.is_empty() && leases.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs the scenario with a crash of the first replica at the `visit`th time it comes to `point`. Answers whether it did.
async fn scenario(world: &World, point: Point, visit: u64) -> bool {
    let failpoints = Failpoints::at(point, Action::Hang, visit);
    let first = world.replica(failpoints.clone());
    let mut worker = Worker::default();
    let mut begun = Vec::new();
    let struck = {
        let story = async {
            // Leases of workers that die, before anybody else is there.
            for i in 100..103 {
                send(&first.service, "ok", i, &mut begun).await;
                mute(&first.service).await;
            }
            for i in 0..3 {
                for name in ["ok", "flaky", "bad", "parent", "released"] {
                    send(&first.service, name, i, &mut begun).await;
                }
            }
            // Before anybody is there: only its cancellation ends it.
            for i in 0..3 {
                send(&first.service, "unwanted", i, &mut begun).await;
                cancel(&first.service, &TaskId::trusted(format!("unwanted-{i}"))).await;
            }
            // Nobody is there in their time: it ends them, or they are met after it.
            for i in 0..3 {
                send(&first.service, "late", i, &mut begun).await;
            }
            tokio::time::sleep(ALL_OVER).await;
            let stream = worker.attach(&first.service).await;
            let enough = AtomicBool::new(false);
            let everything = async {
                all_final(&first.service, &ids(&begun)).await;
                all_quiet(&first.service).await;
                enough.store(true, Ordering::Relaxed);
            };
            let (parting, ()) = tokio::join!(worker.work(stream, &enough), everything);
            assert_eq!(parting, None, "the stream ended");
        };
        tokio::select! {
            () = failpoints.struck() => true,
            () = story => false,
        }
    };
    first.crash();
    let second = world.replica(Failpoints::default());
    // Whoever does not know what became of a send sends it again, and so does one who knows.
    for (name, i) in begun.clone() {
        send(&second.service, name, i, &mut Vec::new()).await;
    }
    let accepted = ids(&begun);
    if struck {
        // Whoever got no answer asks again.
        for id in accepted.iter().filter(|id| is_unwanted(id)).collect::<Vec<_>>() {
            cancel(&second.service, id).await;
        }
    }
    if worker.session.is_none() {
        tokio::time::sleep(ALL_OVER).await;
    }
    let stream = worker.attach(&second.service).await;
    let enough = AtomicBool::new(false);
    let everything = async {
        all_final(&second.service, &accepted).await;
        let children: Vec<TaskId> = accepted.iter().flat_map(children).collect();
        all_final(&second.service, &children).await;
        all_quiet(&second.service).await;
        enough.store(true, Ordering::Relaxed);
    };
    let done = async { tokio::join!(worker.work(stream, &enough), everything).0 };
    match tokio::time::timeout(Duration::from_secs(1200), done).await {
        Ok(parting) => assert_eq!(parting, None, "{point:?}@{visit}: the stream ended"),
        Err(_) => panic!("{point:?}@{visit}: stuck: {:#?}", second.service.states(&accepted).await),
    }
    check(&second.service, &worker.witness, &accepted, point, visit).await;
    second.service.halt();
    struck
}

async fn check(service: &Service, witness: &Witness, accepted: &[TaskId], point: Point, visit: u64) {
    for id in accepted.iter().cloned().chain(accepted.iter().flat_map(children)) {
        let name = id.as_str().split('-').next().unwrap_or_default();
        let state = service.states(std::slice::from_ref(&id)).await.expect("can be read").remove(0);
        if is_unwanted(&id) || is_late(&id) {
            let end = state.map(|s| (s.status, s.reason));
            let reason = if is_late(&id) { FailureReason::Expired } else { FailureReason::Cancelled };
            assert_eq!(end, Some((Status::Failure, reason)), "{point:?}@{visit}: {id}");
            assert!(!witness.begun.contains_key(id.as_str()), "{point:?}@{visit}: {id} was begun");
            continue;
        }
        let expected = if name == "bad" { Status::Failure } else { Status::Success };
        assert_eq!(state.map(|s| s.status), Some(expected), "{point:?}@{visit}: {id}");
        let ended = witness.ended.get(id.as_str()).copied().unwrap_or_default();
        let expected = if name == "flaky" { 2 } else { 1 };
        assert_eq!(ended, expected, "{point:?}@{visit}: how often {id} ended");
        // Begun again only where the worker had given it back or had failed, never because a server died.
        let begun = witness.begun.get(id.as_str()).map_or(0, Vec::len);
        let expected = if matches!(name, "flaky" | "released") { 2 } else { 1 };
        assert_eq!(
            begun,
            expected,
            "{point:?}@{visit}: how often {id} was begun: {:?}",
            witness.begun.get(id.as_str())
        );
    }
}

fn run(fused: bool, options: broker::memory::Options) {
    // Where sending and settling are one step, these arrows do not exist.
    let absent = [
        Point::SendClaimed,
        Point::SendLimited,
        Point::SendStated,
        Point::SendUnmarked,
        Point::SettleStated,
        Point::SettlePublished,
        Point::SettleDone,
        Point::SettleAcked,
    ];
    for point in Point::ALL {
        for visit in 1..=3 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
            let struck = runtime.expect("starts").block_on(async {
                let world = World::new(fused, options);
                scenario(&world, point, visit).await
            });
            // What the broker cannot find is ended when it is met.
            let unfound = matches!(point, Point::CancelBegun | Point::LapseBegun) && !options.recall;
            // Acknowledgements travel together: how often one goes is not told by how many tasks end.
            if point == Point::SettleAcked && visit > 1 {
                continue;
            }
            assert_eq!(
                struck,
                !(unfound || fused && absent.contains(&point)),
                "{point:?}@{visit} was reached, fused: {fused}"
            );
        }
    }
}

#[test]
fn separate_stores_survive_a_crash_at_every_arrow() {
    run(false, broker::memory::Options::default());
}

#[test]
fn stores_without_recall_survive_a_crash_at_every_arrow() {
    run(false, broker::memory::Options { recall: false, ..broker::memory::Options::default() });
}

#[test]
fn fused_stores_survive_a_crash_at_every_arrow() {
    run(true, broker::memory::Options::default());
}
