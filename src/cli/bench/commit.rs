//! The ceiling of the store: the engine alone, given the writes that a task costs at least.
//!
//! A task is put with its place in the queue (2 writes), leased (2, and its body read), ended (4: lease and body go, result
//! and its expiry come) and later forgotten (2). Ten thousand tasks wait and fifty thousand results are kept all along,
//! so that the trees are as deep as in a queue in use. A job holds a whole batch and is a commit of its own.

use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::cpu;
use super::echo::PAYLOAD_BYTES;
use super::part::Sample;
use super::reference::Ceiling;
use crate::cli::{Exit, Failure};
use crate::engine::{Direction, Engine, Options, Records, Table, Txn};
use crate::error::StoreError;

const BODIES: Table = Table::new("bodies");
const READY: Table = Table::new("ready");
const LEASED: Table = Table::new("leased");
const RESULTS: Table = Table::new("results");
const EXPIRY: Table = Table::new("expiry");

/// Tasks that wait all along.
const WAITING: u64 = 10_000;
/// Results that are kept all along.
const KEPT: u64 = 50_000;
/// Tasks in one commit while the store is filled: as many as its largest group.
const FILL_BATCH: u64 = 4_096;
/// Bytes of a result's record.
const RESULT_BYTES: usize = 64;

/// What is measured, in this order: each shape with as many tasks at once as the figures held against it can have.
pub const PLAN: [Ceiling; 9] = [
    Ceiling::Cycle(1),
    Ceiling::Cycle(16),
    Ceiling::Cycle(256),
    Ceiling::Cycle(1024),
    Ceiling::Enqueue(1),
    Ceiling::Enqueue(16),
    Ceiling::Enqueue(64),
    Ceiling::Enqueue(1024),
    Ceiling::Drain(64),
];

/// Measures all of [`PLAN`], each for `span`, in a store of its own in `dir`; tells each when it is done.
///
/// # Errors
/// [`Exit::Other`] if the store fails.
pub async fn run(
    dir: &Path,
    span: Duration,
    mut tell: impl FnMut(Sample) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let engine = Engine::open(dir, Options::default())
        .map_err(|error| Failure::new(Exit::Other, format!("the store cannot be opened: {error}")))?;
    let mut queue = Queue::default();
    while queue.tail < KEPT {
        queue = commit(&engine, queue, |queue, txn| queue.enqueue(txn, FILL_BATCH)).await?;
        queue = commit(&engine, queue, |queue, txn| queue.drain(txn, FILL_BATCH)).await?;
    }
    while queue.waiting() < WAITING {
        queue = commit(&engine, queue, |queue, txn| queue.enqueue(txn, FILL_BATCH)).await?;
    }
    for ceiling in PLAN {
        if let Ceiling::Drain(_) = ceiling {
            // Enough that it does not run dry: the sends before it have left more than this already, as a rule.
            while queue.waiting() < WAITING * 10 {
                queue = commit(&engine, queue, |queue, txn| queue.enqueue(txn, FILL_BATCH)).await?;
            }
        }
        let (begun, used) = (Instant::now(), cpu::own());
        let mut count = 0;
        while begun.elapsed() < span && !(matches!(ceiling, Ceiling::Drain(_)) && queue.waiting() < WAITING) {
            queue = commit(&engine, queue, move |queue, txn| queue.step(txn, ceiling)).await?;
            count += u64::from(batch(ceiling));
        }
        tell(Sample {
            count,
            seconds: begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu::own().saturating_sub(used).as_secs_f64(),
            server_cpu_seconds: None,
        })?;
    }
    Ok(())
}

fn batch(ceiling: Ceiling) -> u32 {
    match ceiling {
        Ceiling::Cycle(batch) | Ceiling::Enqueue(batch) | Ceiling::Drain(batch) => batch,
        Ceiling::Unary(_) | Ceiling::Stream(_) => 0,
    }
}

/// Runs a step as a job of its own and waits for its commit.
async fn commit(
    engine: &Engine,
    mut queue: Queue,
    step: impl FnOnce(&mut Queue, &mut Txn<'_>) -> Result<(), StoreError> + Send + 'static,
) -> Result<Queue, Failure> {
    let job = move |txn: &mut Txn<'_>| step(&mut queue, txn).map(|()| queue);
    engine.write(job).await.map_err(|error| Failure::new(Exit::Other, format!("the store failed: {error}")))
}

/// Numbers of tasks, each given out in order: `forgotten <= head <= tail`.
#[derive(Debug, Clone, Copy, Default)]
struct Queue {
    /// The next to be put.
    tail: u64,
    /// The next to be leased.
    head: u64,
    /// The next whose result is forgotten.
    forgotten: u64,
}

impl Queue {
    fn waiting(&self) -> u64 {
        self.tail - self.head
    }

    fn step(&mut self, txn: &mut Txn<'_>, ceiling: Ceiling) -> Result<(), StoreError> {
        let count = u64::from(batch(ceiling));
        match ceiling {
            Ceiling::Enqueue(_) => self.enqueue(txn, count),
            Ceiling::Drain(_) => self.drain(txn, count),
            _ => {
                self.enqueue(txn, count)?;
                self.drain(txn, count)?;
                self.forget(txn, count)
            }
        }
    }

    fn enqueue(&mut self, txn: &mut Txn<'_>, count: u64) -> Result<(), StoreError> {
        let body = [b'x'; PAYLOAD_BYTES];
        for _ in 0..count {
            let key = self.tail.to_be_bytes();
            txn.put(BODIES, &key, &body)?;
            txn.put(READY, &key, &[])?;
            self.tail += 1;
        }
        Ok(())
    }

    fn drain(&mut self, txn: &mut Txn<'_>, count: u64) -> Result<(), StoreError> {
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        // From the head on: a scan from the beginning of the table would walk over what was deleted.
        let from = self.head.to_be_bytes();
        let taken = txn.scan(READY, (Bound::Included(&from), Bound::Unbounded), Direction::Forward, limit)?;
        for (key, _) in &taken {
            txn.delete(READY, key)?;
            txn.put(LEASED, key, &[0; 8])?;
            txn.get(BODIES, key)?;
        }
        for (key, _) in &taken {
            txn.delete(LEASED, key)?;
            txn.delete(BODIES, key)?;
            let id = id(self.head);
            txn.put(RESULTS, &id, &[b'r'; RESULT_BYTES])?;
            txn.put(EXPIRY, key, &id)?;
            self.head += 1;
        }
        Ok(())
    }

    fn forget(&mut self, txn: &mut Txn<'_>, count: u64) -> Result<(), StoreError> {
        for _ in 0..count {
            txn.delete(EXPIRY, &self.forgotten.to_be_bytes())?;
            txn.delete(RESULTS, &id(self.forgotten))?;
            self.forgotten += 1;
        }
        Ok(())
    }
}

/// The id of a task by its number: scattered over all ids, as random ones are (the finalizer of splitmix64, twice).
fn id(number: u64) -> [u8; 16] {
    let mix = |seed: u64| {
        let x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    (u128::from(mix(number.wrapping_add(1))) << 64 | u128::from(mix(!number))).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cycle_leaves_as_much_as_it_found() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), Options::default()).unwrap();
        let mut queue = commit(&engine, Queue::default(), |queue, txn| {
            queue.enqueue(txn, 30)?;
            queue.drain(txn, 20)
        })
        .await
        .unwrap();
        queue = commit(&engine, queue, |queue, txn| queue.step(txn, Ceiling::Cycle(8))).await.unwrap();
        assert_eq!((queue.waiting(), queue.head, queue.forgotten), (10, 28, 8));
        let counts = engine.read(|records| {
            let count = |table| {
                let all = (Bound::Unbounded, Bound::Unbounded);
                records.scan(table, all, Direction::Forward, 1000).map(|found| found.len())
            };
            Ok([count(BODIES)?, count(READY)?, count(LEASED)?, count(RESULTS)?, count(EXPIRY)?])
        });
        assert_eq!(counts.unwrap(), [10, 10, 0, 20, 20]);
    }

    #[test]
    fn ids_are_scattered_and_differ() {
        let mut ids: Vec<_> = (0..10_000).map(id).collect();
        assert!(ids.iter().filter(|id| id[0] < 128).count().abs_diff(5_000) < 500);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 10_000);
    }
}
