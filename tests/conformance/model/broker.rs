//! Brokers against the model.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::broker::{
    Broker, Capabilities, Holding, NewTask, PendingQuery, Receipt, Settle, StaleAck, Want, memory,
};
use lineshaft::clock::{Clock, TestClock, WallTime};

use super::{Random, STEPS, Step, seeds};
use crate::broker::restart::reopen;
use crate::harness::{Outcome, START, needs};
use crate::make::*;
use crate::room::{Kind, Room};

const QUEUES: [&str; 2] = ["q", "r"];
const NAMES: [&str; 3] = ["work", "other", "send mail"];

pub(crate) async fn answers_as_the_model_does(room: Room) -> Outcome {
    let of = room.broker().capabilities().clone();
    needs(!room.real_time(), "the store has a clock of its own")?;
    needs(of.holding == Holding::Process, format!("holding = {:?}", of.holding))?;
    for seed in seeds() {
        run(room.kind(), seed, &of).await?;
    }
    Ok(())
}

/// The model and the room, and the receipts that both gave for the same deliveries.
struct Pair {
    clock: Arc<TestClock>,
    model: memory::Broker,
    room: Arc<dyn Broker>,
    given: Vec<(Receipt, Receipt)>,
}

async fn run(kind: Kind, seed: u64, of: &Capabilities) -> Outcome {
    let clock = Arc::new(TestClock::new(START));
    let options = memory::Options {
        by_name: of.by_name,
        priorities: of.priorities.limit().is_some(),
        stale_ack: of.stale_ack,
        ..memory::Options::default()
    };
    let mut room = kind.open(clock.clone()).await;
    let model = memory::Broker::with(clock.clone(), options);
    let mut pair = Pair { clock, model, room: room.broker(), given: Vec::new() };
    let mut random = Random(seed);
    for number in 0..STEPS {
        let step = Step { seed, number };
        match random.below(20) {
            0..5 => pair.publish(step, &mut random).await,
            5..10 => pair.take(step, &mut random).await,
            10..15 => pair.settle(step, &mut random).await,
            15..17 => pair.pending(step, &mut random).await,
            17 => pair.recall(step).await,
            18 => room.pass(Duration::from_secs(random.below(10) as u64)).await,
            _ => {
                drop(std::mem::replace(&mut pair.room, Arc::new(memory::Broker::new(pair.clock.clone()))));
                room = reopen(room).await?;
                pair.room = room.broker();
                let replica = pair.model.replica();
                pair.model = replica;
            }
        }
    }
    Ok(())
}

fn task(random: &mut Random, now: WallTime) -> NewTask {
    let label = format!("m{}", random.below(30));
    let body = format!("{label} {}", "x".repeat(random.below(60)));
    NewTask {
        name: name(random.pick::<&str>(&NAMES)),
        queue: queue(random.pick::<&str>(&QUEUES)),
        body: Bytes::from(body),
        available_at: random.one_in(3).then(|| later(now, random.below(20) as u64)),
        priority: *random.pick(&[0, 0, 1, 255]),
        ..message(&label)
    }
}

impl Pair {
    async fn publish(&self, step: Step, random: &mut Random) {
        let now = self.clock.wall();
        let tasks = random.some(4, |random| task(random, now));
        step.agree(&tasks, self.model.publish(&tasks).await, self.room.publish(&tasks).await);
    }

    async fn take(&mut self, step: Step, random: &mut Random) {
        let queue = queue(random.pick::<&str>(&QUEUES));
        let names: Vec<_> = NAMES.iter().filter(|_| !random.one_in(3)).map(|one| name(one)).collect();
        let max = NonZeroUsize::MIN.saturating_add(random.below(5));
        let body_bytes_max = if random.one_in(2) { 100 } else { usize::MAX };
        let want = Want { queue: &queue, names: &names, max, body_bytes_max };
        let model = self.model.take(&want).await.expect("take");
        let room = self.room.take(&want).await.expect("take");
        let seen = |deliveries: &[lineshaft::broker::Delivery]| {
            deliveries.iter().map(|d| (d.key.clone(), d.body.clone())).collect::<Vec<_>>()
        };
        step.agree(want, seen(&model), seen(&room));
        let exact = self.room.capabilities().exact_redelivery;
        for (model, room) in model.into_iter().zip(room) {
            // A room may suspect a redelivery where there was none, never overlook one.
            step.agree((want, &model.key), model.redelivered, room.redelivered && (model.redelivered || exact));
            self.given.push((model.receipt, room.receipt));
        }
    }

    async fn settle(&self, step: Step, random: &mut Random) {
        if self.given.is_empty() || self.room.capabilities().stale_ack == StaleAck::Undetected {
            return;
        }
        // The latest few, most of which are still held.
        let from = self.given.len().saturating_sub(12);
        let items = random.some(4, |random| {
            let (model, room) = random.pick(&self.given[from..]).clone();
            let how = match random.below(4) {
                0 => RETURN,
                1 => Settle::Return { after: Duration::from_secs(random.below(10) as u64), began: true },
                _ => Settle::Ack,
            };
            ((model, how), (room, how))
        });
        let (model, room): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        step.agree(&model, self.model.settle(&model).await, self.room.settle(&room).await);
    }

    async fn pending(&self, step: Step, random: &mut Random) {
        if self.room.inspect().is_none() {
            return;
        }
        let queue = queue(random.pick::<&str>(&QUEUES));
        let (delayed, max) = (random.one_in(2), NonZeroUsize::MIN.saturating_add(random.below(4)));
        let model = pages(&self.model, &queue, delayed, max).await;
        step.agree((&queue, delayed, max), model, pages(&*self.room, &queue, delayed, max).await);
    }

    async fn recall(&self, step: Step) {
        let Some(room) = self.room.recall() else { return };
        let keys: Vec<_> = (0..30).map(|n| key(&format!("m{n}"))).collect();
        let model = self.model.recall().expect("the model recalls");
        step.agree("recall", model.recall(&keys).await, room.recall(&keys).await);
    }
}

/// All pages: bodies and times, and where pages end.
async fn pages(
    broker: &dyn Broker,
    queue: &lineshaft::task::QueueName,
    delayed: bool,
    max: NonZeroUsize,
) -> Vec<Vec<(Bytes, Option<WallTime>)>> {
    let inspect = broker.inspect().expect("inspection");
    let mut pages = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let query = PendingQuery { queue, delayed, after: after.as_deref(), max, body_bytes_max: 100 };
        let page = inspect.pending(&query).await.expect("a page");
        pages.push(page.items.into_iter().map(|item| (item.body, item.available_at)).collect());
        after = page.next;
        if after.is_none() {
            return pages;
        }
    }
}
