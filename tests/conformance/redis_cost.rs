//! What the ledger costs Redis, by the processor time of its server. Takes ten seconds and a quiet machine, so only by hand:
//! `LINESHAFT_MEASURE=1 cargo test --test conformance redis_ledger::cost -- --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::backend::StateWrite;
use lineshaft::clock::TestClock;
use lineshaft::ledger::claim::{Claim, KeyClaim, Sending, Until};
use lineshaft::ledger::{Begun, Decision, Effects, Grant, Ledger};
use lineshaft::task::{LeaseId, Status};

use super::{FREE, replica};
use crate::harness::START;
use crate::make::*;
use crate::support::redis::Redis as Server;

/// Tasks of each measurement.
const TASKS: usize = 20_000;
/// Tasks begun before the first of them ends.
const FLIGHT: usize = 1_024;
/// Bytes of a body: Machinery's, with one argument of 256 bytes.
const BODY: usize = 691;

/// The processor time that the server has used: by the scheduler, in nanoseconds.
fn used(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the scheduler's account");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds")
}

/// What is measured, in the order in which it is told.
const KINDS: [&str; 6] = ["begin", "decide", "done", "release", "claim", "published"];

/// What the server spent on each kind of call: nanoseconds, tasks.
struct Meter {
    pid: u32,
    spent: [(u64, usize); KINDS.len()],
}

impl Meter {
    /// Adds what a call spends.
    async fn of<T>(&mut self, kind: &str, tasks: usize, call: impl Future<Output = T>) -> T {
        let before = used(self.pid);
        let answer = call.await;
        let at = KINDS.iter().position(|of| *of == kind).expect("a kind");
        self.spent[at].0 += used(self.pid) - before;
        self.spent[at].1 += tasks;
        answer
    }

    fn told(&self) -> String {
        let one = |(nanos, tasks): &(u64, usize)| format!("{:9.2}", *nanos as f64 / 1_000.0 / *tasks as f64);
        self.spent.iter().map(one).collect()
    }
}

fn effects(id: &LeaseId) -> Effects {
    let write: StateWrite = state(&format!("task_{}", id.message), 1, 1, Status::Success);
    Effects { states: vec![write], ..Effects::default() }
}

fn claim(label: &str) -> Claim {
    let mut sent = message(label);
    sent.body = Bytes::from(vec![b'x'; BODY]);
    let sending =
        Sending { state: state(&format!("task_{label}"), 1, 1, Status::Pending), message: sent, expires_at: None };
    let window = Duration::from_secs(600);
    let key =
        KeyClaim { key: format!("key {label}"), until: Until::Ended, lapses_at: START.plus(window), judged: None };
    Claim { request: None, digest: [1; 32], key: Some(key), sending, at: START, window }
}

/// Runs calls one after another.
async fn each<I, T>(items: &[I], batch: usize, mut call: impl AsyncFnMut(&[I]) -> T) -> Vec<T> {
    let mut answers = Vec::new();
    for piece in items.chunks(batch) {
        answers.push(call(piece).await);
    }
    answers
}

#[tokio::test]
async fn of_redis_per_task_is_told() {
    if std::env::var_os("LINESHAFT_MEASURE").is_none() {
        return eprintln!("skipped: LINESHAFT_MEASURE is not set");
    }
    println!("µs of Redis per task, by batch: {}", KINDS.join(", "));
    for batch in [1, 16, 64, 256] {
        let server = server!(&[]);
        let ledger: Arc<dyn Ledger> = replica(&server, &Arc::new(TestClock::new(START))).await;
        attach(&ledger, &["s0", "s1", "s2", "s3"]).await;
        let label = |n: usize| format!("0b5ad2a4-7d1f-4a88-9f9c-{n:012}");
        let body = Bytes::from(vec![b'x'; BODY]);
        let mut meter = Meter { pid: server.pid().await, spent: Default::default() };
        let numbers: Vec<usize> = (0..if batch == 1 { TASKS / 4 } else { TASKS }).collect();
        // In flights, so that as many leases are live as would be.
        for (n, flight) in numbers.chunks(FLIGHT).enumerate() {
            let one = |n: &usize| Grant { body: Some(body.clone()), ..grant(&label(*n), &format!("s{}", n % 4)) };
            let grants: Vec<Grant> = flight.iter().map(one).collect();
            let begun = meter.of("begin", flight.len(), each(&grants, batch, async |p| ledger.begin(p).await)).await;
            let ids = begun.into_iter().flat_map(|begun| begun.expect("begin")).map(|begun| match begun {
                Begun::Run(lease) => lease.id,
                other => panic!("{other:?}"),
            });
            let ids: Vec<_> = ids.collect();
            if n % 2 == 1 {
                let items: Vec<_> = ids.into_iter().map(|id| (id, FREE)).collect();
                meter.of("release", flight.len(), each(&items, batch, async |p| ledger.release(p).await)).await;
                continue;
            }
            let made = |id| Decision { effects: effects(id), ..decision(id, Some("report"), 1) };
            let decisions: Vec<Decision> = ids.iter().map(made).collect();
            meter.of("decide", flight.len(), each(&decisions, batch, async |p| ledger.decide(p).await)).await;
            let messages: Vec<_> = ids.into_iter().map(|id| id.message).collect();
            meter.of("done", flight.len(), each(&messages, batch, async |p| ledger.done(p, START).await)).await;
        }
        let claims: Vec<Claim> = numbers.iter().map(|n| claim(&label(*n))).collect();
        let names = ledger.claims();
        meter.of("claim", claims.len(), each(&claims, batch, async |p| names.claim(p).await)).await;
        let sent: Vec<_> = claims.iter().map(|c| (c.names(), c.sending.message.key.clone())).collect();
        meter.of("published", sent.len(), each(&sent, batch, async |p| names.published(p).await)).await;
        println!("{batch:3}: {}", meter.told());
    }
}
