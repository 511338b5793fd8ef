//! A cluster of three nodes: slots that move while messages flow, a node that dies and comes back, a mover that dies, and
//! a server with a worker on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::{Backend as _, StateWrite};
use lineshaft::broker::{Broker as _, NewTask, Settle};
use lineshaft::clock::{Clock as _, SystemClock};
use lineshaft::error::StoreError;
use lineshaft::link::redis::{Address, Link, Options as LinkOptions};
use lineshaft::task::{FailureReason, Status, TaskId, TaskState, Timestamp};
use lineshaft_client::{Client, Context, Failure, Function, Results, Task, Worker};
use parking_lot::Mutex;

use crate::support::redis::Redis;
use crate::support::redis_cluster::{Cluster, Pooled};
use crate::support::until::{DEADLINE, soon};
use crate::support::{Options, Process, until};
use crate::world::*;

/// Messages that flow while slots move.
const FLOWING: usize = 2_000;
/// Tasks of the whole system, over how many queues.
const TASKS: usize = 500;
const QUEUES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_while_messages_flow_loses_and_repeats_none() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let broker = on(cluster.link().await, quick()).await;
    let all = labels("m", FLOWING);
    let (sending, sent) = (Arc::clone(&broker), all.clone());
    let producer = tokio::spawn(async move {
        for some in sent.chunks(20) {
            publish(&sending, some).await;
        }
    });
    let taker = Arc::clone(&broker);
    let consumer = tokio::spawn(async move {
        let mut seen: HashMap<String, usize> = HashMap::new();
        while seen.len() < FLOWING {
            let taken = take(&taker, 16).await;
            // Every eighth comes back once, so that all scripts run while the slot moves.
            let (mut back, mut done) = (Vec::new(), Vec::new());
            for delivery in taken {
                let times = seen.entry(text(&delivery)).or_default();
                *times += 1;
                let returns = *times == 1 && text(&delivery).ends_with('8');
                if returns {
                    back.push((delivery.receipt, BEGUN))
                } else {
                    done.push((delivery.receipt, Settle::Ack))
                };
            }
            for answer in taker.settle(&[back, done].concat()).await {
                assert_eq!(answer, Ok(()));
            }
        }
        // The last ones that came back.
        while seen.iter().any(|(label, times)| label.ends_with('8') && *times < 2) {
            for delivery in take(&taker, 16).await {
                *seen.entry(text(&delivery)).or_default() += 1;
                assert_eq!(taker.settle(&[(delivery.receipt, Settle::Ack)]).await, [Ok(())]);
            }
        }
        seen
    });
    let first = cluster.owner("q").await;
    for step in 1..=6 {
        cluster.move_slot("q", (first + step) % 3).await;
    }
    soon("all are published", producer).await.unwrap();
    let seen = soon("all are taken", consumer).await.unwrap();
    for (label, times) in &seen {
        assert_eq!(*times, if label.ends_with('8') { 2 } else { 1 }, "{label}");
    }
    assert_eq!(take(&broker, 100).await.len(), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_is_unavailable_and_once_it_is_back_nothing_is_lost() {
    needs_redis!();
    let mut cluster = Cluster::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let broker = on(cluster.link().await, quick()).await;
    let all = labels("m", 60);
    publish(&broker, &all[..50]).await;
    let held = take(&broker, 10).await;
    assert_eq!(held.len(), 10);
    let owner = cluster.owner("q").await;
    cluster.nodes[owner].server.kill();
    until("the death is noticed", async || match broker.publish(&[message("x")]).await[0] {
        Err(StoreError::Unavailable { .. }) => Some(()),
        _ => None,
    })
    .await;
    assert!(broker.settle(&[(held[0].receipt.clone(), Settle::Ack)]).await[0].is_err());
    cluster.nodes[owner].server.restart().await;
    cluster.settled().await;
    until("it is found again", async || {
        let answers = broker.publish(&[message("found")]).await;
        answers[0].is_ok().then_some(())
    })
    .await;
    publish(&broker, &all[50..]).await;
    for delivery in &held[1..] {
        until("it is settled", async || {
            let answer = broker.settle(&[(delivery.receipt.clone(), Settle::Ack)]).await;
            matches!(answer[0], Ok(()) | Err(StoreError::Stale)).then_some(())
        })
        .await;
    }
    let ended = drain(&broker, 51).await;
    let labels: Vec<String> = ended.iter().map(text).collect();
    let missing: Vec<_> = all.iter().skip(10).filter(|label| !labels.contains(label)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_while_messages_flow_costs_none() {
    needs_redis!();
    let cluster = Cluster::start_with(&[]).await;
    let owner = cluster.owner("q").await;
    let other = cluster.add_replica_of(owner, &[]).await;
    let broker = on(cluster.link().await, quick()).await;
    let all = labels("m", FLOWING);
    let (sending, sent) = (Arc::clone(&broker), all.clone());
    let producer = tokio::spawn(async move {
        for some in sent.chunks(20) {
            publish(&sending, some).await;
        }
    });
    let taker = Arc::clone(&broker);
    let consumer = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < FLOWING {
            for delivery in take(&taker, 16).await {
                seen.push(text(&delivery));
                assert_eq!(taker.settle(&[(delivery.receipt, Settle::Ack)]).await, [Ok(())]);
            }
        }
        seen
    });
    other.take_over().await;
    soon("all are published", producer).await.unwrap();
    let mut seen = soon("all are taken", consumer).await.unwrap();
    seen.sort();
    assert_eq!(seen, all, "each once");
    assert_eq!(take(&broker, 100).await.len(), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_of_a_dead_node_is_found_once_it_has_taken_over() {
    needs_redis!();
    let quickly = ["--cluster-node-timeout", "1500"];
    let mut cluster = Cluster::start_with(&quickly).await;
    let owner = cluster.owner("q").await;
    let other = cluster.add_replica_of(owner, &quickly).await;
    let broker = on(cluster.link().await, quick()).await;
    publish(&broker, &labels("m", 10)).await;
    until("all are copied", async || {
        let mut connection = other.connection().await;
        run(&mut connection, &["READONLY"]).await;
        (length(&mut connection, "q").await == 10).then_some(())
    })
    .await;
    cluster.nodes[owner].server.kill();
    other.leads().await;
    until("it is found", async || broker.publish(&[message("found")]).await[0].is_ok().then_some(())).await;
    let taken = drain(&broker, 11).await;
    assert_eq!(taken.len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_mover_had_claimed_is_moved_by_another() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let owner = cluster.owner("delayed_tasks").await;
    let mut connection = cluster.nodes[owner].connection().await;
    let body = r#"{"UUID":"a","Name":"work","RoutingKey":"q","ETA":null,"Args":null}"#;
    // A claim of long ago.
    run(&mut connection, &["ZADD", "{delayed_tasks}:moving", "1000", body]).await;
    let broker = on(cluster.link().await, quick()).await;
    let delivery = until("it is moved", async || take(&broker, 1).await.pop()).await;
    assert_eq!(text(&delivery), body);
    until("the claim is given up", async || {
        let left: u64 = redis::cmd("EXISTS").arg("{delayed_tasks}:moving").query_async(&mut connection).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_queues_come_back_later_each_once() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let broker = on(cluster.link().await, quick()).await;
    let names: Vec<String> = (0..12).map(|n| format!("q{n}")).collect();
    let tasks: Vec<NewTask> =
        names.iter().map(|name| NewTask { queue: queue(name), ..message(&format!("of-{name}")) }).collect();
    assert!(broker.publish(&tasks).await.iter().all(Result::is_ok));
    for began in [true, false] {
        let mut held = Vec::new();
        for name in &names {
            let found = until("it is there", async || take_from(&broker, name, 5).await.pop()).await;
            assert_eq!(text(&found), format!("of-{name}"));
            held.push((found.receipt, Settle::Return { after: Duration::from_millis(30), began }));
        }
        assert!(broker.settle(&held).await.iter().all(Result::is_ok));
        // A second time it is void.
        assert!(broker.settle(&held).await.iter().all(|answer| *answer == Err(StoreError::Stale)));
    }
    for name in &names {
        let found = until("it is there", async || take_from(&broker, name, 5).await.pop()).await;
        assert!(found.redelivered, "{name}");
        assert_eq!(broker.settle(&[(found.receipt, Settle::Ack)]).await, [Ok(())]);
        assert_eq!(take_from(&broker, name, 5).await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_queue_is_woken_where_its_slot_moved_to() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let broker = on(cluster.link().await, quick()).await;
    let body = "from others";
    for _ in 0..3 {
        let waiter = Arc::clone(&broker);
        let waiting = tokio::spawn(async move { waiter.ready(&queue("q"), &[]).await });
        let first = cluster.owner("q").await;
        until("it waits at Redis", async || {
            let mut connection = cluster.nodes[first].connection().await;
            let info: String = redis::cmd("INFO").arg("clients").query_async(&mut connection).await.unwrap();
            info.contains("blocked_clients:1").then_some(())
        })
        .await;
        cluster.move_slot("q", (first + 1) % 3).await;
        let owner = cluster.owner("q").await;
        run(&mut cluster.nodes[owner].connection().await, &["RPUSH", "q", body]).await;
        soon("it is woken", waiting).await.unwrap().unwrap();
        let found = until("it is there", async || take(&broker, 5).await.pop()).await;
        assert_eq!(text(&found), body);
        assert_eq!(broker.settle(&[(found.receipt, Settle::Ack)]).await, [Ok(())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_given_the_password() {
    needs_redis!();
    let cluster = Cluster::start_with(&[]).await;
    for node in &cluster.nodes {
        run(&mut node.connection().await, &["CONFIG", "SET", "requirepass", "se:cret"]).await;
    }
    let url = cluster.url();
    let open = async |url: &str| {
        let options = LinkOptions { is_cluster: true, ..LinkOptions::default() };
        Link::open(Address::parse(url).unwrap(), options).await
    };
    assert!(open(&url).await.unwrap_err().to_string().contains("NOAUTH"));
    let broker = on(open(&url.replace("redis://", "redis://:se%3Acret@")).await.unwrap(), quick()).await;
    for name in ["q0", "q1", "q2", "q3", "q4", "q5"] {
        let tasks = [NewTask { queue: queue(name), ..message(name) }];
        assert!(broker.publish(&tasks).await[0].is_ok());
        soon("it may be taken", broker.ready(&queue(name), &[])).await.unwrap();
        assert_eq!(take_from(&broker, name, 1).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_database_and_a_server_that_is_none_are_told() {
    needs_redis!();
    let plain = Redis::start(&[]).await;
    let open = async |url: &str| {
        let options = LinkOptions { is_cluster: true, ..LinkOptions::default() };
        Link::open(Address::parse(url).unwrap(), options).await.unwrap_err().to_string()
    };
    let text = open("redis://127.0.0.1:1/3").await;
    assert!(text.contains("a cluster has database 0 only"), "{text}");
    let text = open(&plain.url()).await;
    assert!(text.contains("cluster support disabled"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_followed_to_the_node_that_its_slot_moves_to() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let backend = lineshaft::backend::redis::Backend::new(cluster.link().await);
    let id = TaskId::new("followed").unwrap();
    let watch = backend.watch().unwrap();
    let mut changes = watch.changes();
    let first = cluster.owner("followed").await;
    let write = async |status, attempt| {
        let now = SystemClock.wall();
        let at = Timestamp::from_wall(now);
        let state = TaskState {
            task_id: id.clone(),
            task_name: "work".to_owned(),
            status,
            results: None,
            error: String::new(),
            reason: FailureReason::Unknown,
            generation: 1,
            attempt,
            releases: 0,
            created_at: at,
            updated_at: at,
        };
        backend.write(&[StateWrite { state, keep: Duration::from_secs(60) }], now).await
    };
    watch.watch(&id);
    soon("it is followed", changes.recv()).await.unwrap();
    for step in 1..=3 {
        assert!(write(Status::Started, step).await[0].is_ok());
        soon("the change is told", changes.recv()).await.unwrap();
        cluster.move_slot("followed", (first + step as usize) % 3).await;
    }
    // Others write now, and nobody here has asked for the key.
    until("what others write is told", async || {
        while changes.try_recv().is_ok() {}
        let owner = cluster.owner("followed").await;
        run(&mut cluster.nodes[owner].connection().await, &["SET", "followed", "x"]).await;
        tokio::time::timeout(Duration::from_secs(2), changes.recv()).await.ok()
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_a_worker_on_a_cluster_run_each_task_once_while_slots_move() {
    needs_redis!();
    let cluster = Pooled::take().await;
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(&directory.path().join("data"), Options::default().env("BROKER", &cluster.url()));
    let client = Client::builder().address(server.url()).connect().await.unwrap();
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let witness = Arc::clone(&seen);
    let work = Function::raw(move |context: Context, args| {
        *witness.lock().entry(context.task_id().to_owned()).or_default() += 1;
        async move { Ok::<_, Failure>(Results(args)) }
    });
    let mut worker = Worker::builder(server.url()).concurrency(16).register_function("work", work);
    for n in 0..QUEUES {
        worker = worker.queue(format!("queue-{n}"));
    }
    let worker = worker.build().unwrap();
    let stopper = worker.stopper();
    let running = tokio::spawn(worker.run_until(std::future::pending()));
    let tasks = (0..TASKS).map(|n| {
        let task = Task::new("work").queue(format!("queue-{}", n % QUEUES)).arg(i64::try_from(n).unwrap());
        if n % 10 == 0 { task.delay(Duration::from_millis(500)) } else { task }
    });
    let working = async {
        for (n, sent) in client.send_all(tasks).await.into_iter().enumerate() {
            let result = sent.unwrap();
            assert_eq!(result.get::<i64>(DEADLINE).await.unwrap(), i64::try_from(n).unwrap());
        }
    };
    // The slot of the ledger, that of a queue and that of the delayed tasks, meanwhile.
    let moving = async {
        for key in ["{lineshaft}:token", "queue-0", "delayed_tasks", "{lineshaft}:token"] {
            let next = (cluster.owner(key).await + 1) % 3;
            cluster.move_slot(key, next).await;
        }
    };
    tokio::join!(working, moving);
    stopper.stop();
    soon("the worker stops", running).await.unwrap().unwrap();
    let seen = seen.lock();
    assert_eq!(seen.len(), TASKS);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
}
