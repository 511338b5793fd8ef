//! Fused stores against the model: the same random lives of tasks.

use std::sync::Arc;
use std::time::Duration;

use lineshaft::broker::{Delivery, NewTask, Settle};
use lineshaft::clock::{Clock, TestClock, WallTime};
use lineshaft::ledger::claim::{Claim, Judged, KeyClaim, Sending, Until};
use lineshaft::ledger::join::{Opened, Opening};
use lineshaft::ledger::{Begun, Decision, Effects, Ending, Lifetime};
use lineshaft::task::{LeaseId, Status, TaskId};

use super::{Random, STEPS, Step, seeds};
use crate::broker::restart::reopen;
use crate::harness::{Outcome, START, needs};
use crate::ledger::joins;
use crate::make::*;
use crate::room::{Kind, Room};
use crate::rooms::Memory;

pub(crate) async fn answers_as_the_model_does(room: Room) -> Outcome {
    let kind = room.kind();
    drop(room);
    needs(!kind.real_time(), "the store has a clock of its own")?;
    for seed in seeds() {
        run(kind, seed).await?;
    }
    Ok(())
}

/// What both hold of the same messages.
#[derive(Default)]
struct Held {
    deliveries: Vec<(Delivery, Delivery)>,
    leases: Vec<(LeaseId, LeaseId)>,
}

async fn run(kind: Kind, seed: u64) -> Outcome {
    let clock = Arc::new(TestClock::new(START));
    let (mut model, mut room) = (Room::open::<Memory>(clock.clone()).await, kind.open(clock.clone()).await);
    attach(&model.ledger(), &["s1"]).await;
    attach(&room.ledger(), &["s1"]).await;
    // Of the last one nobody knows the members; of a third one nobody knows anything.
    let opened = [joins::opening("x", 3), Opening { members: Vec::new(), ..joins::opening("y", 3) }];
    for ledger in [model.ledger(), room.ledger()] {
        assert_eq!(ledger.joins().open(&opened).await, Ok(vec![Opened::New; 2]));
    }
    let mut held = Held::default();
    let mut random = Random(seed);
    for number in 0..STEPS {
        let step = Step { seed, number };
        match random.below(20) {
            0..5 => send(step, &mut random, &model, &room).await,
            5..10 => take_and_lease(step, &mut random, &model, &room, &mut held).await,
            10..15 => settle(step, &mut random, &model, &room, &mut held).await,
            15..17 => give_back(step, &mut random, &model, &room, &mut held).await,
            17 | 18 => room.pass(Duration::from_secs(random.below(20) as u64)).await,
            _ => {
                model = reopen(model).await?;
                room = reopen(room).await?;
                held.deliveries.clear();
            }
        }
        let ids: Vec<TaskId> = (0..20).map(|n| task_id(&format!("task_m{n}"))).collect();
        let (now, end) = (clock.wall(), later(clock.wall(), 1));
        let (in_model, in_room) = (model.backend().read(&ids, now).await, room.backend().read(&ids, now).await);
        step.agree("states", in_model, in_room);
        let (in_model, in_room) = (model.ledger().undone(end, 50).await, room.ledger().undone(end, 50).await);
        step.agree("undone", in_model, in_room);
        let (in_model, in_room) = (model.ledger(), room.ledger());
        let over = (in_model.lifetimes().over(now, None, 50).await, in_room.lifetimes().over(now, None, 50).await);
        step.agree("lifetimes", over.0, over.1);
        for join in [joins::group("x"), joins::group("y")] {
            let (in_model, in_room) = (in_model.joins(), in_room.joins());
            let members = (in_model.members(&join, 0, 50).await, in_room.members(&join, 0, 50).await);
            step.agree(&join, members.0, members.1);
            let one = std::slice::from_ref(&join);
            step.agree("joins", in_model.standing(one).await, in_room.standing(one).await);
        }
        let due = (in_model.joins().due(now, 50).await, in_room.joins().due(now, 50).await);
        step.agree("due", due.0, due.1);
    }
    Ok(())
}

fn sending(random: &mut Random, now: WallTime) -> Sending {
    let label = format!("m{}", random.below(20));
    let available_at = random.one_in(3).then(|| later(now, random.below(20) as u64));
    let task = NewTask { available_at, priority: *random.pick(&[0, 0, 7]), ..message(&label) };
    let expires_at = random.one_in(3).then(|| later(now, random.below(20) as u64));
    Sending { message: task, ..sent(&label, now.0, expires_at) }
}

async fn send(step: Step, random: &mut Random, model: &Room, room: &Room) {
    let now = room.now();
    let items = random.some(4, |random| sending(random, now));
    if random.one_in(2) {
        step.agree(&items, model.fused().send(&items, now).await, room.fused().send(&items, now).await);
        return;
    }
    let claims: Vec<Claim> = items.into_iter().map(|item| claimed(random, item, now)).collect();
    // Now and then step by step, and then nobody comes to the second step.
    if random.one_in(4) {
        let (in_model, in_room) = (model.ledger(), room.ledger());
        step.agree(&claims, in_model.claims().claim(&claims).await, in_room.claims().claim(&claims).await);
    } else {
        let sent = (model.fused().send_claimed(&claims, now).await, room.fused().send_claimed(&claims, now).await);
        step.agree(&claims, sent.0, sent.1);
    }
}

fn claimed(random: &mut Random, sending: Sending, now: WallTime) -> Claim {
    let (request, key) = (format!("r{}", random.below(10)), format!("k{}", random.below(3)));
    let until = *random.pick(&[Until::Started, Until::Ended, Until::Time]);
    let other = message_key(random.below(20));
    let judged = match random.below(3) {
        0 => None,
        1 => Some(Judged::Free(other)),
        _ => Some(Judged::InForce(other)),
    };
    let key = KeyClaim { key, until, lapses_at: later(now, random.below(40) as u64), judged };
    Claim {
        request: random.one_in(2).then_some(request),
        digest: [random.below(2) as u8; 32],
        key: random.one_in(2).then_some(key),
        sending,
        at: now,
        window: Duration::from_secs(20),
    }
}

fn message_key(number: usize) -> lineshaft::task::MessageKey {
    key(&format!("m{number}"))
}

async fn take_and_lease(step: Step, random: &mut Random, model: &Room, room: &Room, held: &mut Held) {
    let max = 1 + random.below(4);
    let model_broker = model.broker();
    let (in_model, in_room) = (take(&model_broker, max).await, take(&room.broker(), max).await);
    step.agree(("take", max), labels(&in_model), labels(&in_room));
    for (in_model, in_room) in in_model.into_iter().zip(in_room) {
        let label = labels(std::slice::from_ref(&in_model)).remove(0);
        held.deliveries.push((in_model, in_room));
        let grant = grant(&label, "s1");
        let begun = (begin(&model.ledger(), &grant).await, begin(&room.ledger(), &grant).await);
        match begun {
            (Begun::Run(in_model), Begun::Run(in_room)) => held.leases.push((in_model.id, in_room.id)),
            (Begun::Held(_), Begun::Held(_)) | (Begun::Decided, Begun::Decided) => {}
            other => step.agree(("begin", &label, &other), true, false),
        }
    }
}

fn effects(random: &mut Random, label: &str, now: WallTime) -> Effects {
    let id = format!("task_{label}");
    let mut effects = Effects::default();
    if random.one_in(2) {
        effects.joins =
            random.some(2, |random| joins::ended(random.pick::<&str>(&["x", "y", "z"]), random.below(4) as u32));
    }
    if random.one_in(3) {
        let Sending { state: mut pending, message: task, .. } = sending(random, now);
        pending.state.attempt = 2;
        effects.states.push(pending);
        effects.publish.push(NewTask { key: key(&format!("{}-retry{}", task.key, random.below(3))), ..task });
    } else {
        effects.states.push(state(&id, now.0, 1, *random.pick(&[Status::Success, Status::Failure])));
    }
    effects
}

/// Of few tasks and generations, so that some are met again.
fn lifetime(random: &mut Random, now: WallTime) -> Lifetime {
    let at = now.0.saturating_sub(now.0 % 4_000_000_000);
    Lifetime {
        at: WallTime(at),
        task: task_id(&format!("task_m{}", random.below(3))),
        generation: random.below(2) as u64,
    }
}

async fn settle(step: Step, random: &mut Random, model: &Room, room: &Room, held: &mut Held) {
    if held.leases.is_empty() {
        return;
    }
    let now = room.now();
    let from = held.leases.len().saturating_sub(10);
    let decisions = random.some(3, |random| {
        let (in_model, in_room) = random.pick(&held.leases[from..]).clone();
        let made = Decision {
            at: now,
            effects: effects(random, in_model.message.as_str(), now),
            begins: random.some(1, |random| lifetime(random, now)),
            ends: random.one_in(2).then(|| lifetime(random, now)),
            ..decision(&in_model, None, random.below(2) as u8)
        };
        (made.clone(), Decision { lease: in_room, ..made })
    });
    let (in_model, in_room): (Vec<_>, Vec<_>) = decisions.into_iter().unzip();
    // Now and then the ledger alone decides, and somebody else does what follows.
    if random.one_in(6) {
        let verdicts = (model.ledger().decide(&in_model).await, room.ledger().decide(&in_room).await);
        step.agree(&in_model, verdicts.0, verdicts.1);
    } else {
        step.agree(&in_model, model.fused().settle(&in_model).await, room.fused().settle(&in_room).await);
    }
}

async fn give_back(step: Step, random: &mut Random, model: &Room, room: &Room, held: &mut Held) {
    if let Some((in_model, in_room)) = held.leases.last().cloned() {
        let ending = Ending::Free { report: None };
        let in_model = model.ledger().release(&[(in_model, ending.clone())]).await;
        step.agree("release", in_model, room.ledger().release(&[(in_room, ending)]).await);
    }
    if held.deliveries.is_empty() {
        return;
    }
    let (in_model, in_room) = held.deliveries.swap_remove(random.below(held.deliveries.len()));
    let how = match random.below(4) {
        0 => Settle::Ack,
        1 => Settle::Return { after: Duration::from_secs(random.below(10) as u64), began: true },
        _ => RETURN,
    };
    let model_broker = model.broker();
    let in_model = model_broker.settle(&[(in_model.receipt, how)]).await;
    step.agree(("settle", how), in_model, room.broker().settle(&[(in_room.receipt, how)]).await);
}
