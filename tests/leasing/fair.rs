//! Whoever is new, small or rare gets its turn.

use std::collections::BTreeMap;
use std::time::Duration;

use lineshaft::service::types::Submission;

use crate::worker::{Worker, hello, report, success};
use crate::world::{LEASE, Replica, World, queue, rest, task};

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_a_backlog_gets_its_first_task_in_one_round() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("a", 10_000).await;
    let mut old = Vec::new();
    for i in 0..10 {
        old.push(Worker::attach(&replica.service, &format!("old-{i}"), &["a"], 500).await);
    }
    let mut new = Worker::attach(&replica.service, "new", &["a"], 1).await;
    // Time is paused: what comes within a millisecond came without anybody reporting, reading or waiting.
    assert!(new.offer_within(Duration::from_millis(1)).await.is_some());
    let leased = world.leases().await.len();
    drop(new);
    rest().await;
    let mut late = Worker::attach(&replica.service, "late", &["a"], 1).await;
    assert!(late.offer_within(Duration::from_millis(1)).await.is_some(), "{leased} are leased already");
}

#[tokio::test(start_paused = true)]
async fn in_one_round_everybody_gets_a_share() {
    let world = World::new();
    let replica = world.replica();
    let mut workers = Vec::new();
    for i in 0..8 {
        workers.push(Worker::attach(&replica.service, &format!("{i}"), &["a"], 100).await);
    }
    replica.send_many("a", 80).await;
    for worker in &mut workers {
        let share = worker.all_offers().await.len();
        assert!((8..=12).contains(&share), "{share} of 80 for one of 8");
    }
}

async fn send_to(replica: &Replica, to: &str, count: u32) {
    for i in 0..count {
        replica.send(Submission { queue: Some(queue(to)), ..task("a", &format!("{to}-{i}")) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn queues_share_a_worker_by_weight_while_both_have_tasks() {
    let world = World::new();
    let replica = world.replica();
    send_to(&replica, "heavy", 400).await;
    send_to(&replica, "light", 400).await;
    let takes: &[(&str, &[&str], u32)] = &[("heavy", &["a"], 3), ("light", &["a"], 1)];
    let mut worker = Worker::say(&replica.service, hello("w", takes), 1).await.expect("attaches");
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..400 {
        let lease = worker.lease().await;
        *counts.entry(lease.queue.to_string()).or_default() += 1;
        worker.inbound.report(vec![report(&lease, success(""))]).await;
        worker.inbound.credit(n + 2);
    }
    assert!((295..=305).contains(&counts["heavy"]), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_ran_empty_leaves_the_worker_to_the_others() {
    for count in [1, 2, 5] {
        let world = World::new();
        let replica = world.replica();
        send_to(&replica, "short", count).await;
        send_to(&replica, "long", 20).await;
        let takes: &[(&str, &[&str], u32)] = &[("short", &["a"], 1), ("long", &["a"], 1)];
        let mut worker = Worker::say(&replica.service, hello("w", takes), 1).await.expect("attaches");
        for n in 0..u64::from(count) + 20 {
            let lease = worker.offer_within(LEASE).await.unwrap_or_else(|| panic!("stuck after {n}, {count} in short"));
            worker.inbound.accepted(worker.received);
            worker.inbound.report(vec![report(&lease, success(""))]).await;
            worker.inbound.credit(n + 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_name_does_not_block_another_name_of_its_queue() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("slow", 1_000).await;
    replica.send_many("quick", 3).await;
    let mut busy = Worker::attach(&replica.service, "busy", &["slow"], 1).await;
    busy.lease().await;
    let mut other = Worker::attach(&replica.service, "other", &["quick"], 1).await;
    for n in 0..3 {
        let lease = other.offer_within(Duration::from_millis(10)).await.expect("comes at once");
        assert_eq!(lease.signature.name, "quick");
        other.inbound.credit(n + 2);
    }
    replica.send_many("third", 1).await;
    let mut both = Worker::attach(&replica.service, "both", &["slow", "third"], 1).await;
    assert!(both.offer_within(Duration::from_millis(10)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_takes_waits_visibly_and_blocks_nobody() {
    let world = World::new();
    let replica = world.replica();
    replica.send_many("unknown", 300).await;
    replica.send_many("known", 2).await;
    let mut worker = Worker::attach(&replica.service, "w", &["known"], 10).await;
    assert_eq!(worker.all_offers().await.len(), 2);
    let page = replica.service.pending(Some(queue("q")), false, None, 1_000).await.expect("can be listed");
    assert_eq!(page.tasks.len(), 300);
    assert!(page.tasks.iter().all(|waiting| waiting.unclaimed), "nobody takes them");
    replica.send_many("known", 20).await;
    rest().await;
    let page = replica.service.pending(Some(queue("q")), false, None, 1_000).await.expect("can be listed");
    let claimed = page.tasks.iter().filter(|waiting| !waiting.unclaimed).count();
    assert_eq!((page.tasks.len(), claimed), (312, 12), "those only wait for a slot");
    let mut found = Worker::attach(&replica.service, "x", &["unknown"], 1).await;
    assert!(found.offer_within(Duration::from_millis(1)).await.is_some(), "as soon as its worker comes");
    let page = replica.service.pending(Some(queue("q")), false, None, 1_000).await.expect("can be listed");
    assert!(page.tasks.iter().all(|waiting| !waiting.unclaimed));
}
