//! Everything at once: replicas that come and die, cut connections, forgotten scripts, returns of all kinds. Whatever
//! happens, each message is acknowledged in the end, and comes no more once its acknowledgement was confirmed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lineshaft::broker::redis::Broker;
use lineshaft::broker::{Broker as _, NewTask, Settle};
use lineshaft::clock::{Clock, SystemClock};
use lineshaft::error::StoreError;
use parking_lot::Mutex;

use crate::support::redis::Redis;
use crate::support::until;
use crate::world::*;

/// Rounds of a storm.
const ROUNDS: usize = 150;
/// Replicas in it.
const REPLICAS: usize = 3;

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    /// Messages that are there, for certain.
    sent: HashSet<String>,
    /// Messages of which an acknowledgement was asked for, whatever was heard of it.
    asked: HashSet<String>,
    /// How often each acknowledgement was confirmed.
    ended: HashMap<String, usize>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

async fn some_work(broker: &Broker, seed: u64, told: &Mutex<Told>) {
    let mut random = Random(seed);
    let now = SystemClock.wall();
    let tasks: Vec<NewTask> = (0..random.below(6))
        .map(|n| {
            let delay = Duration::from_millis(random.below(40));
            let available_at = (random.below(3) == 0).then(|| now.plus(delay));
            NewTask { available_at, ..message(&format!("m{seed}-{n}")) }
        })
        .collect();
    for (task, answer) in tasks.iter().zip(broker.publish(&tasks).await) {
        if answer.is_ok() {
            told.lock().sent.insert(task.key.as_str().to_owned());
        }
    }
    let taken = take(broker, 1 + random.below(12) as usize).await;
    for delivery in &taken {
        assert!(!told.lock().ended.contains_key(&text(delivery)), "{} came again after its end", text(delivery));
    }
    // Some are held until their replica dies.
    let taken: Vec<_> = taken.into_iter().filter(|_| random.below(5) > 0).collect();
    let items: Vec<_> = taken
        .iter()
        .map(|delivery| {
            let after = Duration::from_millis([0, 0, 30][random.below(3) as usize]);
            let how = match random.below(3) {
                0 => Settle::Return { after, began: random.below(2) == 0 },
                _ => Settle::Ack,
            };
            (delivery.receipt.clone(), how)
        })
        .collect();
    let acked = taken.iter().zip(&items).filter(|(_, (_, how))| *how == Settle::Ack);
    told.lock().asked.extend(acked.map(|(delivery, _)| text(delivery)));
    for (delivery, ((_, how), answer)) in taken.iter().zip(items.iter().zip(broker.settle(&items).await)) {
        assert!(!matches!(answer, Err(StoreError::Corrupt { .. })), "{answer:?}");
        if answer.is_ok() && *how == Settle::Ack {
            *told.lock().ended.entry(text(delivery)).or_default() += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_each_message_ends_once() {
    needs_redis!();
    let redis = Redis::start(&[]).await;
    let mut connection = redis.connection().await;
    let told = Arc::new(Mutex::new(Told::default()));
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(replica(&redis).await);
    }
    let mut random = Random(7);
    for round in 0..ROUNDS {
        let mut work = Vec::new();
        for (n, broker) in replicas.iter().enumerate() {
            let (broker, told) = (Arc::clone(broker), Arc::clone(&told));
            let seed = (round * REPLICAS + n) as u64;
            work.push(tokio::spawn(async move { some_work(&broker, seed, &told).await }));
        }
        // Somewhere in their work, by what Redis has got done meanwhile.
        for _ in 0..random.below(16) {
            run(&mut connection, &["PING"]).await;
        }
        match random.below(12) {
            0 => run(&mut connection, &["SCRIPT", "FLUSH"]).await,
            1 => run(&mut connection, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await,
            2 => {
                // In the middle of what it does.
                let victim = random.below(REPLICAS as u64) as usize;
                work[victim].abort();
                replicas[victim] = replica(&redis).await;
            }
            3 => {
                let leaving = random.below(REPLICAS as u64) as usize;
                drop(replicas[leaving].close().await);
                replicas[leaving] = replica(&redis).await;
            }
            _ => {}
        }
        for work in work {
            if let Err(error) = work.await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
    }
    drop(replicas);
    let lasting = &replica(&redis).await;
    until("all that was sent has ended", async || {
        for delivery in take(lasting, 256).await {
            let answer = lasting.settle(&[(delivery.receipt.clone(), Settle::Ack)]).await;
            assert!(!told.lock().ended.contains_key(&text(&delivery)), "{} came again", text(&delivery));
            assert_eq!(answer, [Ok(())]);
            told.lock().ended.insert(text(&delivery), 1);
        }
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let is_busy = |key: &String| key == "q" || key == "{lineshaft}:later" || key.starts_with("{q}:held:");
        let is_busy = keys.iter().any(|key| is_busy(key) || key == "{q}:again" || key == "{q}:inbox");
        (!is_busy).then_some(())
    })
    .await;
    let told = told.lock();
    // An acknowledgement whose answer was lost may have been carried out, and nobody was told.
    let ended = |label: &&String| told.ended.contains_key(*label) || told.asked.contains(*label);
    let lost: Vec<_> = told.sent.iter().filter(|label| !ended(label)).collect();
    assert!(told.sent.len() > 500, "{} were sent", told.sent.len());
    assert!(lost.is_empty(), "{lost:?}");
    assert!(told.ended.values().all(|times| *times == 1));
}
