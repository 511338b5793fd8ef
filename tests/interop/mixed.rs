//! Chords whose tasks are worked by both sides: who ends the last one, in both orders, well and badly, sent by either side.

use lineshaft_client::proto::FailureReason;
use lineshaft_client::{Context, Failure};
use serde_json::json;

use crate::both::{Both, FUNCTIONS, SIDES, Sent, Side, Step, open, send_chord, step};
use crate::go;
use crate::ours::{self, Seen};
use crate::support::until::{DEADLINE, soon};
use crate::world::*;

/// The callback: what it was given, behind a number of its own.
fn list() -> Step {
    step("list", &[json!(100)])
}

/// What both sides read of a callback that ran.
async fn listed(world: &World, id: &str) -> Vec<i64> {
    let ended = go::result(world, id).await;
    assert_eq!(ended.state, "SUCCESS", "{ended:?}");
    let read: Vec<i64> = world.client.result(id).get(DEADLINE).await.unwrap();
    assert_eq!(ended.results, [("[]int64".to_owned(), json!(read))]);
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chord_fires_once_whoever_ends_its_last_task_and_whoever_sent_it() {
    needs_machinery!();
    let both = Both::new().await;
    let mut cases = Vec::new();
    for (sender, last) in SIDES.into_iter().flat_map(|sender| SIDES.map(|last| (sender, last))) {
        let gates = SIDES.map(|side| both.gate(&format!("{sender:?}-{last:?}-{side:?}")));
        let [ours, go] = &gates;
        let tasks = [
            step("held_ours", &[json!(ours), json!(1)]),
            step("held_go", &[json!(go), json!(2)]),
            step("add_ours", &[json!(3)]),
            step("add_go", &[json!(4)]),
        ];
        let sent = send_chord(&both.world, sender, &tasks, &list()).await;
        cases.push((last, gates, sent));
    }
    for (last, [ours, go], sent) in &cases {
        let (first, second) = if *last == Side::Go { (0, 1) } else { (1, 0) };
        let gates = [ours, go];
        open(gates[first]);
        for task in [first, 2, 3] {
            both.world.client.result(&sent.tasks[task]).wait(DEADLINE).await.unwrap();
        }
        let callback = both.world.client.result(&sent.callback).state().await;
        assert!(!callback.is_ok_and(|state| state.is_success()), "one is held back");
        open(gates[second]);
    }
    let mut ids = Vec::new();
    for (last, _, sent) in cases {
        assert_eq!(listed(&both.world, &sent.callback).await, [100, 1, 2, 3, 4], "{last:?}");
        let progress = both.world.client.group(&sent.group).wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (4, 4, 0));
        ids.extend(sent.tasks[2..].iter().cloned());
        ids.push(sent.callback);
    }
    both.once(&ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_ends_the_callback_wherever_it_failed_and_whoever_ends_last() {
    needs_machinery!();
    let both = Both::new().await;
    let mut cases: Vec<(Sent, usize)> = Vec::new();
    for sender in SIDES {
        for (fails, last) in SIDES.into_iter().flat_map(|fails| SIDES.map(|last| (fails, last))) {
            let gate = both.gate(&format!("{sender:?}-{fails:?}-{last:?}"));
            let now = both.gate("now");
            let failing = |gate: &str| step(fails.name("fails"), &[json!(gate), json!("boom")]);
            // Of either side one ends well before; then that which fails or, behind it, one that does not.
            let tasks = if fails == last {
                [step("add_ours", &[json!(1)]), step("add_go", &[json!(2)]), failing(&gate)]
            } else {
                [failing(&now), step(fails.name("add"), &[json!(1)]), step(last.name("held"), &[json!(gate), json!(2)])]
            };
            let failing = if fails == last { 2 } else { 0 };
            let sent = send_chord(&both.world, sender, &tasks, &list()).await;
            cases.push((sent, failing));
            open(&now);
            let sent = &cases.last().unwrap().0;
            for task in &sent.tasks[..2] {
                both.world.client.result(task).wait(DEADLINE).await.unwrap();
            }
            open(&gate);
        }
    }
    for (sent, failing) in &cases {
        let ended = go::result(&both.world, &sent.callback).await;
        assert_eq!(ended.state, "FAILURE");
        assert!(ended.error.contains(&sent.tasks[*failing]) && ended.error.contains("boom"), "{ended:?}");
        let state = both.world.client.result(&sent.callback).wait(DEADLINE).await.unwrap();
        assert_eq!(state.failure_reason, FailureReason::NotRun);
        let progress = both.world.client.group(&sent.group).wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (3, 3, 1));
    }
    let begun = both.begun();
    assert!(cases.iter().all(|(sent, _)| !begun.contains_key(&sent.callback)), "no callback ran");
    both.once([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_failed_in_machinery_and_is_retried_here_counts_once() {
    needs_machinery!();
    for sender in SIDES {
        let world = World::new().await;
        let names = [&FUNCTIONS[..], &["fail_here"]].concat();
        let mut machinery = go::Worker::start(&world, "first", 2, &names).await;
        let fails = step("fail_here", &[]).retries(2);
        let sent = send_chord(&world, sender, &[step("add_go", &[json!(1)]), fails], &list()).await;
        machinery.saw("end", 2).await;
        machinery.kill().await;
        let seen = Seen::default();
        let worker =
            ours::mixed(ours::worker(&world), &seen).register("fail_here", || async { Ok::<_, Failure>(2i64) });
        let worker = ours::run(worker);
        assert_eq!(listed(&world, &sent.callback).await, [100, 1, 2], "{sender:?}");
        let progress = world.client.group(&sent.group).wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (2, 2, 0));
        worker.stop().await;
        assert_eq!(seen.tasks(), [sent.callback]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_failed_here_and_is_retried_in_machinery_counts_once() {
    needs_machinery!();
    for sender in SIDES {
        let world = World::new().await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let seen = Seen::default();
        let worker = ours::mixed(ours::worker(&world), &seen).register("succeed_here", move |context: Context| {
            let _ = tell.send(context.task_id().to_owned());
            async { Err::<String, _>(Failure::new("failed here")) }
        });
        let worker = ours::run(worker);
        let tasks = [step("add_ours", &[json!(1)]), step("succeed_here", &[]).retries(1)];
        // What it says is text, which only an immutable callback of numbers does without.
        let sent = send_chord(&world, sender, &tasks, &list().immutable()).await;
        soon("an attempt", told.recv()).await.unwrap();
        world.client.result(&sent.tasks[0]).wait(DEADLINE).await.unwrap();
        worker.stop().await;
        let machinery = go::Worker::start(&world, "go", 2, &["succeed_here", "list"]).await;
        assert_eq!(listed(&world, &sent.callback).await, [100], "{sender:?}");
        let progress = world.client.group(&sent.group).wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (2, 2, 0));
        machinery.saw("end", 2).await;
        assert_eq!(machinery.tasks("start"), [sent.tasks[1].clone(), sent.callback], "each once");
        assert!(told.try_recv().is_err());
    }
}
