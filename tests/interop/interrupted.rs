//! Chords whose callback another program set out to send and did not, and chords that take longer than states are kept.

use std::time::Duration;

use lineshaft_client::{Context, Function, Results};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::both::{Both, SIDES, Sent, Side, open, send_chord, step};
use crate::go;
use crate::ours::{self, Seen};
use crate::support::until;
use crate::support::until::DEADLINE;
use crate::world::*;

/// How long another program that has set the flag of a chord may take to send its callback.
const THEIRS_MAX: Duration = Duration::from_secs(10);
/// The lock that Machinery's workers take while they look at the flag of a chord.
const MUTEX: &str = "TriggerChordMutex";
/// How long another program has it, ms: longer than is waited for it in one look.
const MUTEX_MS: u32 = 3_500;
/// How long states are kept where that is short, seconds.
const SHORT: u64 = 6;
/// For so many times as long a task is held back.
const TIMES: u64 = 3;

/// Machinery's record of a group.
async fn record(connection: &mut MultiplexedConnection, group: &str) -> Value {
    let text: String = redis::cmd("GET").arg(group).query_async(connection).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Sets the flag of a chord as a worker of Machinery does.
async fn flag(connection: &mut MultiplexedConnection, group: &str) {
    let mut record = record(connection, group).await;
    assert_eq!(record["ChordTriggered"], false);
    record["ChordTriggered"] = json!(true);
    run(connection, &["SET", group, &record.to_string(), "EX", "3600"]).await;
}

async fn fired(world: &World, sent: &Sent, expected: &[i64]) {
    let ended = go::result(world, &sent.callback).await;
    assert_eq!(ended.results, [("[]int64".to_owned(), json!(expected))], "{ended:?}");
    let progress = world.client.group(&sent.group).wait(DEADLINE).await.unwrap();
    assert_eq!((progress.total, progress.ended, progress.failed), (2, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_whose_sender_is_killed_before_it_sends_it_is_sent_here_once() {
    needs_machinery!();
    let world = World::new().await;
    let stopped = world.directory.path().join("stopped");
    let mut both = Both::on(world, &[("STOPPED", stopped.to_str().unwrap())]).await;
    let mut connection = both.world.connection().await;
    let gate = both.gate("gate");
    let mut chords = Vec::new();
    for sender in SIDES {
        let tasks = [step("add_ours", &[json!(1)]), step("held_go", &[json!(gate), json!(2)])];
        let sent = send_chord(&both.world, sender, &tasks, &step("list", &[])).await;
        both.world.client.result(&sent.tasks[0]).wait(DEADLINE).await.unwrap();
        chords.push(sent);
    }
    let begun = Instant::now();
    open(&gate);
    for sent in &chords {
        let is_flagged = async |connection: &mut MultiplexedConnection| {
            (record(connection, &sent.group).await["ChordTriggered"] == true).then_some(())
        };
        until("the flag is set", async || is_flagged(&mut connection).await).await;
        let by = record(&mut connection, &sent.group).await;
        assert!(by.get("Lineshaft").is_none(), "it is Machinery's: {by}");
    }
    until("it has stopped", async || stopped.exists().then_some(())).await;
    both.machinery.kill().await;
    for sent in &chords {
        fired(&both.world, sent, &[1, 2]).await;
    }
    assert!(begun.elapsed() >= THEIRS_MAX, "it is given time: {:?}", begun.elapsed());
    let callbacks: Vec<String> = chords.into_iter().map(|sent| sent.callback).collect();
    assert!(callbacks.iter().all(|callback| both.seen.tasks().contains(callback)));
    both.once(&callbacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_that_another_program_set_is_honoured_for_as_long_as_it_may_take() {
    needs_machinery!();
    let both = Both::new().await;
    let mut connection = both.world.connection().await;
    let gate = both.gate("gate");
    let mut chords = Vec::new();
    for sends in [true, false] {
        let tasks = [step("add_ours", &[json!(1)]), step("held_ours", &[json!(gate), json!(2)])];
        let sent = send_chord(&both.world, Side::Ours, &tasks, &step("list", &[])).await;
        flag(&mut connection, &sent.group).await;
        chords.push((sends, sent));
    }
    let begun = Instant::now();
    open(&gate);
    for (_, sent) in chords.iter().filter(|(sends, _)| *sends) {
        for task in &sent.tasks {
            both.world.client.result(task).wait(DEADLINE).await.unwrap();
        }
        let mut callback = go::task("list", &[("int64", json!(7))]);
        callback["UUID"] = json!(sent.callback);
        go::send(&both.world, &[callback]).await;
    }
    for (sends, sent) in &chords {
        fired(&both.world, sent, if *sends { &[7] } else { &[1, 2] }).await;
    }
    assert!(begun.elapsed() >= THEIRS_MAX, "it is given time: {:?}", begun.elapsed());
    let callbacks: Vec<String> = chords.into_iter().map(|(_, sent)| sent.callback).collect();
    both.once(&callbacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_callback_is_sent_while_another_program_looks_at_flags() {
    needs_machinery!();
    let world = World::new().await;
    let mut connection = world.connection().await;
    run(&mut connection, &["SET", MUTEX, "another", "NX", "PX", &MUTEX_MS.to_string()]).await;
    let (tell, told) = std::sync::mpsc::channel();
    let looks = Mutex::new((connection.clone(), tell));
    // What it finds in the place of the lock when it runs.
    let callback = Function::raw(move |_: Context, args| {
        let (mut connection, tell) = looks.lock().clone();
        async move {
            let found: Option<String> = redis::cmd("GET").arg(MUTEX).query_async(&mut connection).await.unwrap();
            tell.send(found).unwrap();
            Ok(Results(args))
        }
    });
    let worker = ours::mixed(ours::worker(&world), &Seen::default()).register_function("late", callback);
    let worker = ours::run(worker);
    let tasks = [step("add_ours", &[json!(1)]), step("add_ours", &[json!(2)])];
    let begun = Instant::now();
    let sent = send_chord(&world, Side::Ours, &tasks, &step("late", &[])).await;
    let state = world.client.result(&sent.callback).wait(DEADLINE).await.unwrap();
    assert!(state.is_success() && begun.elapsed() >= Duration::from_secs(3), "{state:?} {:?}", begun.elapsed());
    worker.stop().await;
    let found: Vec<Option<String>> = told.try_iter().collect();
    assert_eq!(found, [None], "once, after the lock was gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chord_that_takes_longer_than_states_are_kept_fires_whoever_ends_its_last_task() {
    needs_machinery!();
    let short = SHORT.to_string();
    let world = World::with(&[("RESULTS_EXPIRE_IN", &short)]).await;
    let both = Both::on(world, &[("RESULTS_EXPIRE_IN", &short)]).await;
    let mut connection = both.world.connection().await;
    let gate = both.gate("gate");
    let mut chords = Vec::new();
    for last in SIDES {
        let tasks = [
            step("add_ours", &[json!(1)]),
            step("add_go", &[json!(2)]),
            step(last.name("held"), &[json!(gate), json!(3)]),
        ];
        chords.push((last, send_chord(&both.world, Side::Ours, &tasks, &step("list", &[])).await));
    }
    // Redis tells the time: this is gone after so long.
    run(&mut connection, &["SET", "clock", "", "EX", &(TIMES * SHORT).to_string()]).await;
    let is_gone = async |connection: &mut MultiplexedConnection| {
        let is_there: bool = redis::cmd("EXISTS").arg("clock").query_async(connection).await.unwrap();
        (!is_there).then_some(())
    };
    until("states would have been forgotten", async || is_gone(&mut connection).await).await;
    for (last, sent) in &chords {
        let states: Vec<Option<String>> =
            redis::cmd("MGET").arg(&sent.tasks[..2]).query_async(&mut connection).await.unwrap();
        assert!(states.iter().all(Option::is_some), "{last:?}: they are kept: {states:?}");
    }
    open(&gate);
    for (last, sent) in &chords {
        let ended = go::result(&both.world, &sent.callback).await;
        assert_eq!(ended.results, [("[]int64".to_owned(), json!([1, 2, 3]))], "{last:?} {ended:?}");
        let progress = both.world.client.group(&sent.group).wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (3, 3, 0));
    }
    let callbacks: Vec<String> = chords.into_iter().map(|(_, sent)| sent.callback).collect();
    both.once(&callbacks).await;
}
