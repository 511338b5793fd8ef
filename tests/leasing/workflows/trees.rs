//! Random workflows with random failures, against the specification: the same set of effects.

use std::time::Duration;

use lineshaft::task::{ArgValue, FailureReason, Status, TaskId};

use super::random::Random;
use super::runner::{self, Witness};
use super::tree::{Effects, Grower, effects};
use crate::world::{Replica, World};

/// Waits for all ends, and compares.
pub(crate) async fn compare(replica: &Replica, expected: &Effects, witness: &Witness, what: &str) {
    for (id, effect) in expected {
        let hour = Duration::from_secs(3_600);
        let state = replica.service.wait(TaskId::trusted(id.as_str()), hour).await.expect("can be read");
        let state = state.unwrap_or_else(|| panic!("{what}: {id} is not known"));
        assert_eq!(state.status, effect.status, "{what}: {id}: {state:?}");
        let is_unrun = state.reason == FailureReason::NotRun;
        assert_eq!(is_unrun, effect.args.is_none(), "{what}: {id}: {state:?}");
        if is_unrun {
            assert!(state.error.starts_with("lineshaft: not run: task "), "{what}: {id}: {}", state.error);
        }
    }
    let given = witness.all();
    for (id, effect) in expected {
        let last = given.get(id).and_then(|attempts| attempts.last());
        match &effect.args {
            None => assert_eq!(last, None, "{what}: {id} ran"),
            // The specification does not know them.
            Some(args) if *args == [ArgValue::Bool(true)] => assert!(last.is_some(), "{what}: {id} did not run"),
            Some(args) => assert_eq!(last, Some(args), "{what}: {id}"),
        }
    }
    let strangers: Vec<&String> = given.keys().filter(|id| !expected.contains_key(*id)).collect();
    assert!(strangers.is_empty(), "{what}: {strangers:?} ran");
}

async fn random_trees(world: World, seeds: std::ops::Range<u64>) {
    let replica = world.replica();
    let witness = Witness::default();
    let _runner = runner::start(&replica.service, &witness).await;
    let (mut expected, mut ids) = (Effects::new(), Vec::new());
    for seed in seeds {
        let mut random = Random::new(seed);
        let workflow = Grower::new(&mut random, format!("s{seed}")).workflow();
        expected.extend(effects(&workflow));
        let sent = replica.service.send_workflow(workflow).await.expect("is accepted");
        ids.push(sent.group);
    }
    compare(&replica, &expected, &witness, "all").await;
    assert!(expected.values().any(|effect| effect.status == Status::Success && effect.args.is_some()));
    assert!(expected.values().any(|effect| effect.args.is_none()), "some never ran");
    for id in ids {
        let mut watch = replica.service.watch_group(id.clone());
        let mut last = None;
        while let Some(view) = watch.next().await.expect("can be read") {
            last = Some(view);
        }
        let last = last.expect("is known");
        assert!(last.is_completed && last.ended == last.total, "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn random_workflows_have_the_effects_of_the_specification() {
    random_trees(World::new(), 0..300).await;
}

#[tokio::test(start_paused = true)]
async fn and_on_one_store() {
    random_trees(World::fused(), 300..600).await;
}
