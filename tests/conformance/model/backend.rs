//! Backends against the model.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::backend::{Backend, GroupMeta, StateWrite, memory};
use lineshaft::clock::{Clock, TestClock, WallTime};
use lineshaft::task::{GroupId, Order, Status, TaskId, Timestamp};

use super::{Random, STEPS, Step, seeds};
use crate::broker::restart::reopen;
use crate::harness::{Outcome, START, needs};
use crate::make::*;
use crate::room::{Kind, Room};

const STATUSES: [Status; 6] =
    [Status::Pending, Status::Received, Status::Started, Status::Retry, Status::Success, Status::Failure];

pub(crate) async fn answers_as_the_model_does(room: Room) -> Outcome {
    let kind = room.kind();
    drop(room);
    needs(!kind.real_time(), "the store has a clock of its own")?;
    for seed in seeds() {
        run(kind, seed).await?;
    }
    Ok(())
}

fn id(random: &mut Random) -> String {
    format!("t{}", random.below(6))
}

fn write(random: &mut Random) -> StateWrite {
    let (generation, attempt) = (random.below(3) as u64, random.below(3) as u32);
    let mut write = state(&id(random), generation, attempt, *random.pick(&STATUSES));
    write.keep = Duration::from_secs(random.below(120) as u64);
    if random.one_in(3) {
        write.state.created_at = Timestamp::ZERO;
    }
    if random.one_in(3) {
        write.state.task_name = String::new();
    }
    if random.one_in(4) {
        write.state.results = Some(every_value());
    }
    write
}

async fn run(kind: Kind, seed: u64) -> Outcome {
    let clock = Arc::new(TestClock::new(START));
    let model = memory::Backend::new();
    let mut room = kind.open(clock.clone()).await;
    let mut backend = room.backend();
    let all: Vec<TaskId> = (0..6).map(|n| task_id(&format!("t{n}"))).collect();
    let mut random = Random(seed);
    for number in 0..STEPS {
        let (step, now) = (Step { seed, number }, clock.wall());
        match random.below(14) {
            0..5 => {
                let writes = random.some(4, write);
                step.agree(&writes, model.write(&writes, now).await, backend.write(&writes, now).await);
            }
            5 => {
                let order =
                    |random: &mut Random| state("any", random.below(3) as u64, 1, Status::Pending).state.order();
                let states: Vec<(TaskId, Order)> = random.some(4, |random| (task_id(&id(random)), order(random)));
                step.agree(&states, model.retract(&states).await, backend.retract(&states).await);
            }
            // How much is forgotten is each room's own affair: what has expired is invisible in any case.
            6 => drop((model.sweep(now).await.expect("sweep"), backend.sweep(now).await.expect("sweep"))),
            7..11 => group(step, &mut random, &model, &*backend, now).await,
            11 | 12 => room.pass(Duration::from_millis(random.below(60_000) as u64)).await,
            _ => {
                drop(backend);
                room = reopen(room).await?;
                backend = room.backend();
            }
        }
        let now = clock.wall();
        step.agree("read", model.read(&all, now).await, backend.read(&all, now).await);
        let groups = ["x", "y", "z"].map(GroupId::trusted);
        step.agree("groups", model.groups(&groups, now).await, backend.groups(&groups, now).await);
    }
    Ok(())
}

/// A step of groups: put, triggered, or kept longer with some states.
async fn group(step: Step, random: &mut Random, model: &memory::Backend, room: &dyn Backend, now: WallTime) {
    let id = GroupId::trusted(*random.pick(&["x", "y", "z"]));
    let keep = Duration::from_secs(random.below(120) as u64);
    let tasks: Vec<TaskId> = random.some(4, |random| task_id(&self::id(random)));
    match random.below(3) {
        0 => {
            let created_at = if random.one_in(2) { Timestamp::ZERO } else { Timestamp::from_wall(now) };
            let group = GroupMeta { id, tasks, is_triggered: random.one_in(3), created_at };
            step.agree(&group, model.put_group(&group, keep, now).await, room.put_group(&group, keep, now).await);
        }
        1 => {
            let message = key(&format!("m{}", random.below(2)));
            let in_model = model.trigger(&id, &message, keep, now).await;
            step.agree(("trigger", &id, &message), in_model, room.trigger(&id, &message, keep, now).await);
        }
        _ => {
            let in_model = model.refresh(&id, &tasks, keep, now).await;
            step.agree(("refresh", &id, &tasks, keep), in_model, room.refresh(&id, &tasks, keep, now).await);
        }
    }
}
