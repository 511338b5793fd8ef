//! Machinery's own integration scenarios of workflows, sent and worked by either side, and what each side reads of their ends.

use lineshaft_client::Group;
use lineshaft_client::proto::GroupKind;
use serde_json::{Value, json};

use crate::both::{Side, Step, send_chain, send_chord, step};
use crate::go;
use crate::ours::{self, Running, Seen};
use crate::support::until::DEADLINE;
use crate::world::*;

/// Who sends and who works. Where both is Machinery, nothing is of ours.
const PAIRS: [(Side, Side); 3] = [(Side::Ours, Side::Ours), (Side::Ours, Side::Go), (Side::Go, Side::Ours)];
const FUNCTIONS: [&str; 5] = ["add", "multiply", "list", "text", "return_just_error"];

/// The only worker of a world.
enum Worker {
    Ours(Running),
    Go { _worker: Box<go::Worker> },
}

impl Worker {
    async fn start(world: &World, side: Side) -> Self {
        match side {
            Side::Ours => Self::Ours(ours::run(ours::mixed(ours::scenarios(ours::worker(world)), &Seen::default()))),
            Side::Go => Self::Go { _worker: Box::new(go::Worker::start(world, "go", 4, &FUNCTIONS).await) },
        }
    }

    async fn stop(self) {
        if let Self::Ours(worker) = self {
            worker.stop().await;
        }
    }
}

fn add(numbers: &[i64]) -> Step {
    step("add", &numbers.iter().map(|n| json!(n)).collect::<Vec<_>>())
}

fn group() -> [Step; 3] {
    [add(&[1, 1]), add(&[2, 2]), add(&[5, 6])]
}

/// The one value of a task's end, as a Machinery producer reads it.
async fn value(world: &World, id: &str) -> Value {
    let ended = go::result(world, id).await;
    assert_eq!(ended.state, "SUCCESS", "{id}: {ended:?}");
    ended.results.into_iter().next().unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_has_the_results_of_machinerys_scenario() {
    needs_machinery!();
    for (sender, runner) in PAIRS {
        let world = World::new().await;
        let worker = Worker::start(&world, runner).await;
        let (id, ids) = match sender {
            Side::Ours => {
                let group = Group::new(group().iter().map(Step::to_ours));
                let sent = world.client.send_group(group).await.unwrap();
                assert_eq!(sent.get::<i64>(DEADLINE).await.unwrap(), [2, 4, 11]);
                (sent.id().to_owned(), sent.results().map(|task| task.id().to_owned()).collect::<Vec<_>>())
            }
            Side::Go => {
                let group = (group().iter().map(Step::to_go).collect(), None);
                let sent = go::send_together(&world, "group", &[group]).await.remove(0);
                (sent.group, sent.tasks)
            }
        };
        let ended = go::results(&world, &ids).await;
        let values: Vec<_> = ended.iter().map(|ended| ended.results[0].1.clone()).collect();
        assert_eq!(values, [json!(2), json!(4), json!(11)], "{sender:?} {runner:?}");
        let seen = world.client.group(id);
        let progress = seen.wait(DEADLINE).await.unwrap();
        assert_eq!((progress.kind, progress.total, progress.ended, progress.failed), (GroupKind::Group, 3, 3, 0));
        let states = seen.states().await.unwrap();
        assert_eq!(states.iter().map(|state| state.task_id.clone()).collect::<Vec<_>>(), ids);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chord_has_the_result_of_machinerys_scenario_and_the_order_of_its_tasks() {
    needs_machinery!();
    for (sender, runner) in PAIRS {
        let world = World::new().await;
        let worker = Worker::start(&world, runner).await;
        let product = send_chord(&world, sender, &group(), &step("multiply", &[])).await;
        let list = send_chord(&world, sender, &group(), &step("list", &[json!(7)])).await;
        let many: Vec<Step> = (0..40).map(|n| add(&[n])).collect();
        let ordered = send_chord(&world, sender, &many, &step("list", &[])).await;
        assert_eq!(value(&world, &product.callback).await, json!(88), "{sender:?} {runner:?}");
        let ids = [product.tasks.clone(), vec![product.callback.clone()]].concat();
        assert_eq!(go::together(&world, "chord", &ids).await.results, [("int64".to_owned(), json!(88))]);
        assert_eq!(value(&world, &list.callback).await, json!([7, 2, 4, 11]));
        assert_eq!(value(&world, &ordered.callback).await, json!((0..40).collect::<Vec<_>>()));
        assert_eq!(world.client.result(&product.callback).get::<i64>(DEADLINE).await.unwrap(), 88);
        // It is completed when the callback has ended. Of a chord that Machinery sent that is known once a task of it ended here.
        let progress = world.client.group(&product.group).wait(DEADLINE).await.unwrap();
        let expected = (GroupKind::Chord, 3, 3, 0, Some(product.callback));
        let callback = progress.callback.map(|state| state.task_id);
        assert_eq!((progress.kind, progress.total, progress.ended, progress.failed, callback), expected);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_has_the_result_of_machinerys_scenario() {
    needs_machinery!();
    for (sender, runner) in PAIRS {
        let world = World::new().await;
        let worker = Worker::start(&world, runner).await;
        let links = [add(&[2, 2]), add(&[5, 6]), step("multiply", &[json!(4)])];
        let ids = send_chain(&world, sender, &links).await;
        for (id, expected) in ids.iter().zip([4, 15, 60]) {
            assert_eq!(value(&world, id).await, json!(expected), "{sender:?} {runner:?}");
            assert_eq!(world.client.result(id).get::<i64>(DEADLINE).await.unwrap(), expected);
        }
        assert_eq!(go::together(&world, "chain", &ids).await.results, [("int64".to_owned(), json!(60))]);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immutable_link_keeps_its_results_and_an_immutable_callback_takes_none() {
    needs_machinery!();
    for (sender, runner) in PAIRS {
        let world = World::new().await;
        let worker = Worker::start(&world, runner).await;
        let keeps = [add(&[1]), add(&[2]).immutable(), add(&[4])];
        let gets = [add(&[1]), add(&[2]), add(&[4]).immutable()];
        let keeps = send_chain(&world, sender, &keeps).await;
        let gets = send_chain(&world, sender, &gets).await;
        let none = send_chord(&world, sender, &group(), &step("list", &[json!(9)]).immutable()).await;
        // That a task is immutable says nothing of what a chord is given of it.
        let all = send_chord(&world, sender, &group().map(Step::immutable), &step("list", &[json!(9)])).await;
        assert_eq!(value(&world, &keeps[1]).await, json!(3), "{sender:?} {runner:?}");
        assert_eq!(value(&world, &keeps[2]).await, json!(4));
        assert_eq!(value(&world, &gets[2]).await, json!(7));
        assert_eq!(value(&world, &none.callback).await, json!([9]));
        assert_eq!(value(&world, &all.callback).await, json!([9, 2, 4, 11]));
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_told_before_the_arguments_and_what_never_runs_says_why() {
    needs_machinery!();
    for (sender, runner) in PAIRS {
        let world = World::new().await;
        let worker = Worker::start(&world, runner).await;
        let told = |id: &str| step("text", &[json!(5)]).immutable().id(id);
        let fails = |told: Step| step("return_just_error", &[json!("Test error"), json!(true)]).on_error(told);
        let links = [add(&[1]).immutable(), fails(told("of-a-link")), add(&[2]), add(&[3])];
        let chain = send_chain(&world, sender, &links).await;
        let chord = send_chord(&world, sender, &[add(&[1]), fails(told("of-a-member"))], &step("list", &[])).await;
        for id in [&chain[1], &chord.tasks[1]] {
            let ended = go::result(&world, id).await;
            assert_eq!(
                (ended.state.as_str(), ended.error.as_str()),
                ("FAILURE", "Test error"),
                "{sender:?} {runner:?}"
            );
        }
        assert_eq!(value(&world, "of-a-link").await, json!("Test error/5"));
        assert_eq!(value(&world, "of-a-member").await, json!("Test error/5"));
        let unrun = [(&chain[2], &chain[1]), (&chain[3], &chain[1]), (&chord.callback, &chord.tasks[1])];
        for (id, cause) in unrun {
            let ended = go::result(&world, id).await;
            assert_eq!(ended.state, "FAILURE", "{ended:?}");
            assert!(ended.error.contains(cause.as_str()) && ended.error.contains("Test error"), "{ended:?}");
            let state = world.client.result(id).wait(DEADLINE).await.unwrap();
            assert!(state.is_failure(), "{state:?}");
        }
        let progress = world.client.group(&chord.group).wait(DEADLINE).await.unwrap();
        assert_eq!((progress.total, progress.ended, progress.failed), (2, 2, 1));
        // Machinery's producers wait for the callback, and for the last link, and are told.
        for (kind, ids) in [("chord", vec![chord.tasks[0].clone(), chord.callback]), ("chain", chain[2..].to_vec())] {
            let ended = go::together(&world, kind, &ids).await;
            assert!(ended.error.contains("not run") && ended.error.contains("Test error"), "{ended:?}");
        }
        worker.stop().await;
    }
}
