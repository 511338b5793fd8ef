//! Both kinds of workers on one queue, and what each side's listings show of the other.

use std::collections::BTreeSet;

use lineshaft::clock::{Clock, SystemClock};
use lineshaft_client::proto::{GetPendingTasksRequest, ListQueuesRequest};
use lineshaft_client::{Context, Failure, Task};
use serde_json::{Value, json};

use crate::go;
use crate::ours::{self, Seen};
use crate::support::until;
use crate::support::until::soon;
use crate::world::*;

/// Tasks of each kind in the mixed queue.
const EACH: usize = 500;
/// Commands for each task of a mixed queue: far from what one needs, and far below a loop.
const COMMANDS_EACH_MAX: u64 = 60;
/// Beats of our server that an idle queue is watched for.
const BEATS: u64 = 3;
/// Tasks in it that are not for our worker.
const STRANGERS: u64 = 20;
/// Commands between two beats (2 s) of an idle server, for each message that is not for it: it looks twice each second.
const COMMANDS_PER_STRANGER_MAX: u64 = 40;

/// Strangers that stand before what our worker knows, and how many of those stand behind.
const CROWD: usize = 10_000;
const KNOWN: usize = 20;
/// Commands, those in scripts included, until what stands behind the crowd has run: a few for each of the crowd.
const COMMANDS_PER_CROWD_MAX: u64 = 8 * CROWD as u64;
/// Commands each second afterwards: 20 looks, each of which takes and returns, and what comes back.
const COMMANDS_PER_SECOND_MAX: f64 = 2_000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_mixed_tasks_each_runs_once_and_where_it_is_known() {
    needs_machinery!();
    let world = World::new().await;
    let tasks: Vec<Value> = (0..EACH)
        .flat_map(|n| ["go_work", "our_work"].map(|name| (n, name)))
        .map(|(n, name)| {
            let mut task = go::task(name, &[("int64", json!(n))]);
            task["UUID"] = json!(format!("{name}-{n}"));
            task
        })
        .collect();
    go::send(&world, &tasks).await;
    let mut connection = world.connection().await;
    run(&mut connection, &["CONFIG", "RESETSTAT"]).await;
    let machinery = go::Worker::start(&world, "go", 4, &["go_work"]).await;
    let seen = Seen::default();
    let worker = ours::run(ours::worker(&world).register_function("our_work", seen.echo()));
    let ids = |name: &str| (0..EACH).map(|n| format!("{name}-{n}")).collect::<BTreeSet<_>>();
    until("all of ours ran", async || (seen.tasks().len() >= EACH).then_some(())).await;
    machinery.saw("end", EACH).await;
    let (total, pushes) = (commands(&mut connection).await, calls(&mut connection, "rpush").await);
    println!("{total} commands, {pushes} RPUSH for {} tasks", 2 * EACH);
    worker.stop().await;
    for (run, name) in [(machinery.tasks("start"), "go_work"), (seen.tasks(), "our_work")] {
        assert_eq!(run.len(), EACH, "{name}: none twice");
        assert_eq!(run.into_iter().collect::<BTreeSet<_>>(), ids(name));
    }
    assert!(total <= COMMANDS_EACH_MAX * 2 * EACH as u64, "{total} commands");
    assert_eq!(machinery.log(), "");
    let all: Vec<String> = ids("go_work").into_iter().chain(ids("our_work")).collect();
    for ended in go::results(&world, &all).await {
        assert_eq!(ended.state, "SUCCESS", "{ended:?}");
    }
    until("the queue is empty", async || (length(&mut connection, QUEUE).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_do_not_spin_on_tasks_that_only_machinery_knows() {
    needs_machinery!();
    let world = World::new().await;
    let tasks: Vec<Value> = (0..STRANGERS).map(|n| go::task("go_work", &[("int64", json!(n))])).collect();
    let ids = go::send(&world, &tasks).await;
    let worker = ours::run(ours::worker(&world).register("our_work", || async { Ok::<(), Failure>(()) }));
    // Its turn comes although strangers stand before it.
    let own = world.client.send(Task::new("our_work")).await.unwrap();
    own.get::<()>(crate::support::until::DEADLINE).await.unwrap();
    let mut connection = world.connection().await;
    let mut beats = world.connection().await;
    let mut beat = async || -> u64 {
        let all: Vec<u64> = redis::cmd("HVALS").arg("{lineshaft}:replicas").query_async(&mut beats).await.unwrap();
        all[0]
    };
    let (first, before, looks) = (beat().await, commands(&mut connection).await, std::cell::Cell::new(0u64));
    until("beats of an idle server", async || {
        looks.set(looks.get() + 1);
        (beat().await >= first + BEATS).then_some(())
    })
    .await;
    let spent = commands(&mut connection).await - before - looks.get();
    println!("{spent} commands in {BEATS} beats");
    assert!(spent <= COMMANDS_PER_STRANGER_MAX * STRANGERS * BEATS, "{spent} commands in {BEATS} beats");
    // All are there for whoever knows them.
    let _machinery = go::Worker::start(&world, "go", 2, &["go_work"]).await;
    for ended in go::results(&world, &ids).await {
        assert_eq!(ended.state, "SUCCESS");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_task_reaches_the_only_worker_that_knows_it_although_both_kinds_wait() {
    needs_machinery!();
    let world = World::new().await;
    let machinery = go::Worker::start(&world, "go", 2, &["go_work"]).await;
    let seen = Seen::default();
    let worker = ours::run(ours::worker(&world).register_function("our_work", seen.echo()));
    // Each wait is served alone, on a queue that is empty before.
    for n in 0..5i64 {
        let own = world.client.send(Task::new("our_work").arg(n)).await.unwrap();
        assert_eq!(own.get::<i64>(crate::support::until::DEADLINE).await.unwrap(), n);
        let theirs = world.client.send(Task::new("go_work").arg(n)).await.unwrap();
        assert_eq!(theirs.get::<i64>(crate::support::until::DEADLINE).await.unwrap(), n);
    }
    assert_eq!((machinery.tasks("end").len(), seen.tasks().len()), (5, 5));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_machinery_sends_is_listed_here_and_what_we_send_is_listed_there() {
    needs_machinery!();
    let world = World::new().await;
    let mut late = go::task("add", &[("int64", json!(3))]);
    late["ETA"] = json!("2100-01-02T03:04:05.678901234Z");
    let theirs = go::send(&world, &[go::task("add", &[("int64", json!(1))]), go::task("sum", &[]), late]).await;
    let own = world.client.send(Task::new("add").arg(2i64)).await.unwrap();
    let request = GetPendingTasksRequest { queue: QUEUE.into(), include_delayed: true, ..Default::default() };
    let listed = world.queues().get_pending_tasks(request).await.unwrap().into_inner().tasks;
    let listed: Vec<(String, String, usize)> = listed
        .into_iter()
        .map(|pending| pending.task.unwrap())
        .map(|task| (task.id, task.name, task.args.len()))
        .collect();
    let expected =
        [(&theirs[0], "add", 1), (&theirs[1], "sum", 0), (&own.id().to_owned(), "add", 1), (&theirs[2], "add", 1)];
    assert_eq!(listed, expected.map(|(id, name, args)| (id.clone(), name.to_owned(), args)));
    assert_eq!(go::pending(&world).await, [&theirs[0], &theirs[1], own.id()]);
    assert_eq!(go::delayed(&world).await, [theirs[2].as_str()]);
    let queues = world.queues().list_queues(ListQueuesRequest::default()).await.unwrap().into_inner().queues;
    let found = queues.iter().find(|queue| queue.name == QUEUE).unwrap();
    assert_eq!((found.waiting, found.delayed, found.others_may_take), (3, 1, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machinery_looks_at_its_keys_undisturbed_while_ours_work() {
    needs_machinery!();
    let world = World::new().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (open, gate) = tokio::sync::watch::channel(false);
    let worker = ours::worker(&world).concurrency(1).register("held", move |context: Context| {
        let (tell, mut gate) = (tell.clone(), gate.clone());
        async move {
            let _ = tell.send(context.task_id().to_owned());
            let _ = gate.wait_for(|open| *open).await;
            if context.retries_left() > 0 { Err(Failure::new("once more")) } else { Ok(()) }
        }
    });
    let worker = ours::run(worker);
    let mut sent = Vec::new();
    for n in 0..10u64 {
        let task = Task::new("held").retry(u32::from(n == 0));
        sent.push(world.client.send(task).await.unwrap());
        if n == 0 {
            soon("an attempt", told.recv()).await.unwrap();
        }
    }
    // What ours took is not there, and what is there is in its order.
    let pending = go::pending(&world).await;
    assert!(sent.iter().map(|sent| sent.id().to_owned()).collect::<Vec<_>>().ends_with(&pending), "{pending:?}");
    let mut connection = world.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let is_known = |key: &String| key == QUEUE || sent.iter().any(|sent| sent.id() == key);
    let others: Vec<_> = keys.iter().filter(|key| !key.starts_with('{') && !is_known(key)).collect();
    assert!(others.is_empty(), "keys of ours are in braces: {others:?}");
    open.send(true).unwrap();
    until("the retry waits, or is over", async || {
        let delayed = go::delayed(&world).await;
        let over = sent[0].is_success().await.unwrap();
        (over || delayed == [sent[0].id()]).then_some(())
    })
    .await;
    for ended in go::results(&world, &sent.iter().map(|sent| sent.id().to_owned()).collect::<Vec<_>>()).await {
        assert_eq!(ended.state, "SUCCESS");
    }
    worker.stop().await;
}

/// Writes tasks into the queue as another program would.
async fn push(world: &World, name: &str, count: usize) {
    let mut connection = world.connection().await;
    for from in (0..count).step_by(1_000) {
        let mut command = redis::cmd("RPUSH");
        command.arg(QUEUE);
        for n in from..count.min(from + 1_000) {
            command.arg(format!(
                r#"{{"UUID":"{name}-{n}","Name":"{name}","RoutingKey":"{QUEUE}","ETA":null,"Args":null}}"#
            ));
        }
        command.exec_async(&mut connection).await.unwrap();
    }
}

async fn parked(world: &World) -> u64 {
    let queues = world.queues().list_queues(ListQueuesRequest::default()).await.unwrap().into_inner().queues;
    queues.iter().find(|queue| queue.name == QUEUE).map_or(0, |queue| queue.parked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_comes_from_behind_ten_thousand_strangers_at_a_bounded_cost() {
    needs_machinery!();
    let world = World::new().await;
    push(&world, "go_work", CROWD).await;
    push(&world, "our_work", KNOWN).await;
    let mut connection = world.connection().await;
    run(&mut connection, &["CONFIG", "RESETSTAT"]).await;
    let start = SystemClock.now();
    let seen = Seen::default();
    // One slot: the least that it can look with.
    let worker = ours::run(ours::worker(&world).concurrency(1).register_function("our_work", seen.echo()));
    until("all known ones ran", async || (seen.tasks().len() >= KNOWN).then_some(())).await;
    let (took, spent) = (start.elapsed().as_secs_f64(), commands(&mut connection).await);
    println!("{KNOWN} known tasks behind {CROWD} took {took:.1} s and {spent} commands");
    assert!(spent < COMMANDS_PER_CROWD_MAX, "{spent} commands");
    assert!(parked(&world).await > 0);
    // The crowd goes on at the pace of looks, and all of it is there.
    run(&mut connection, &["CONFIG", "RESETSTAT"]).await;
    let start = SystemClock.now();
    until("a few seconds of looks", async || (start.elapsed().as_secs() >= 5).then_some(())).await;
    let pace = commands(&mut connection).await as f64 / start.elapsed().as_secs_f64();
    println!("{pace:.0} commands/s while {} are parked", parked(&world).await);
    assert!(pace < COMMANDS_PER_SECOND_MAX, "{pace} commands/s");
    worker.stop().await;
    let mut later = world.connection().await;
    until("all wait again", async || {
        let parked: u64 = redis::cmd("ZCARD").arg("{lineshaft}:later").query_async(&mut later).await.unwrap();
        (length(&mut connection, QUEUE).await + parked == CROWD as u64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_parked_comes_at_once_when_a_worker_comes_that_takes_it() {
    needs_machinery!();
    let world = World::new().await;
    let seen = Seen::default();
    let other = ours::run(ours::worker(&world).register_function("our_work", seen.echo()));
    push(&world, "late_work", 5).await;
    let mut connection = world.connection().await;
    until("they are parked for more than four seconds", async || {
        let first: Vec<f64> = redis::cmd("ZRANGE")
            .arg("{lineshaft}:later")
            .arg("-inf")
            .arg("+inf")
            .arg("BYSCORE")
            .arg("LIMIT")
            .arg(0)
            .arg(1)
            .arg("WITHSCORES")
            .query_async::<Vec<(Vec<u8>, f64)>>(&mut connection)
            .await
            .unwrap()
            .into_iter()
            .map(|(_, score)| score)
            .collect();
        let now = SystemClock.wall().0 as f64;
        (first.first().is_some_and(|at| at - now > 5e9)).then_some(())
    })
    .await;
    assert_eq!(parked(&world).await, 5);
    let start = SystemClock.now();
    let late = ours::run(ours::worker(&world).register_function("late_work", seen.echo()));
    until("all ran", async || (seen.tasks().len() == 5).then_some(())).await;
    let took = start.elapsed();
    println!("called after {took:?}");
    assert!(took.as_secs() < 4, "{took:?}");
    until("none is parked", async || (parked(&world).await == 0).then_some(())).await;
    late.stop().await;
    other.stop().await;
}
