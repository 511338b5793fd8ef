//! Ledgers against the model.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::clock::{Clock, TestClock, WallTime};
use lineshaft::ledger::claim::{Claim, Judged, Until};
use lineshaft::ledger::{
    Begun, CancelMark, Decision, Ending, Grant, Lease, LeaseQuery, LeaseStatus, Ledger, Lifetime, Standing, memory,
};
use lineshaft::task::{FencingToken, LeaseId};

use super::{Random, STEPS, Step, seeds};
use crate::broker::restart::reopen;
use crate::harness::{Outcome, START};
use crate::ledger::claims::{judged, keyed};
use crate::ledger::effects::rich;
use crate::make::*;
use crate::room::{Kind, Room};

pub(crate) async fn answers_as_the_model_does(room: Room) -> Outcome {
    let kind = room.kind();
    drop(room);
    for seed in seeds() {
        run(kind, seed).await?;
    }
    Ok(())
}

/// The model and the room, and what both said of the same things.
struct Pair {
    clock: Arc<TestClock>,
    model: Arc<dyn Ledger>,
    room: Arc<dyn Ledger>,
    /// The ids of the same lease in both.
    granted: Vec<(LeaseId, LeaseId)>,
    /// The model's token for the room's.
    tokens: HashMap<FencingToken, FencingToken>,
    /// Renewal numbers seen at the same time in both.
    watched: HashMap<String, (u64, u64)>,
}

async fn run(kind: Kind, seed: u64) -> Outcome {
    let clock = Arc::new(TestClock::new(START));
    let mut room = kind.open(clock.clone()).await;
    let model: Arc<dyn Ledger> = Arc::new(memory::Ledger::new(clock.clone()));
    let (granted, tokens, watched) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut pair = Pair { clock: clock.clone(), model, room: room.ledger(), granted, tokens, watched };
    let mut random = Random(seed);
    for number in 0..STEPS {
        let step = Step { seed, number };
        match random.below(56) {
            0..4 => pair.attach(step, &mut random).await,
            4..6 => pair.renew(step, &mut random).await,
            6..8 => pair.watch(step).await,
            8..10 => pair.close(step, &mut random).await,
            10..18 => pair.begin(step, &mut random).await,
            18..24 => pair.release(step, &mut random).await,
            24..29 => pair.decide(step, &mut random).await,
            29..31 => pair.done(step, &mut random).await,
            31..35 => pair.look(step, &mut random).await,
            35 => pair.bury(step, &mut random).await,
            36 if random.one_in(2) => pair.lifetimes(step, &mut random).await,
            36 => pair.sweep(step, &mut random).await,
            37 | 38 => room.pass(Duration::from_millis(random.below(90_000) as u64)).await,
            39..44 => pair.claim(step, &mut random).await,
            44..47 => pair.mark(step, &mut random).await,
            47..55 => super::joins::step(step, &mut random, &*pair.model, &*pair.room, clock.wall()).await,
            _ => {
                pair.room = Arc::clone(&pair.model);
                room = reopen(room).await?;
                pair.room = room.ledger();
                // A watcher begins anew after a restart.
                pair.watched.clear();
            }
        }
    }
    Ok(())
}

fn one_session(random: &mut Random) -> String {
    format!("s{}", random.below(5))
}

/// One of few, so that they are met again.
fn lifetime(random: &mut Random) -> Lifetime {
    let (at, task) = (later(START, random.below(5) as u64), task_id(&one_message(random)));
    Lifetime { at, task, generation: random.below(2) as u64 }
}

fn one_message(random: &mut Random) -> String {
    format!("m{}", random.below(12))
}

/// A send under one or two of few names.
fn one_claim(random: &mut Random, at: WallTime) -> Claim {
    let label = format!("c{}", random.below(3));
    let name = format!("n{}", random.below(3));
    let other = key(&format!("c{}", random.below(3)));
    let until = *random.pick(&[Until::Started, Until::Ended, Until::Time]);
    let made = Claim { at, digest: [random.below(2) as u8; 32], ..keyed(&name, until, &label) };
    let made = match random.below(4) {
        0 => judged(made, Judged::Free(other)),
        1 => judged(made, Judged::InForce(other)),
        _ => made,
    };
    let request = Some(format!("n{}", random.below(3)));
    match random.below(3) {
        0 => Claim { request, key: None, ..made },
        1 => Claim { request, ..made },
        _ => made,
    }
}

impl Pair {
    /// The room's lease with the model's token.
    fn as_model(&self, lease: Lease) -> Lease {
        let token = self.tokens.get(&lease.id.token).copied().unwrap_or(lease.id.token);
        Lease { id: LeaseId { token, ..lease.id }, ..lease }
    }

    fn as_models(&self, leases: Vec<Lease>) -> Vec<Lease> {
        leases.into_iter().map(|lease| self.as_model(lease)).collect()
    }

    /// A lease in both: one of the latest, or one that never was.
    fn lease(&self, random: &mut Random) -> (LeaseId, LeaseId) {
        if self.granted.is_empty() || random.one_in(12) {
            let never = LeaseId { message: key(&one_message(random)), token: FencingToken(1) };
            return (never.clone(), never);
        }
        let from = self.granted.len().saturating_sub(15);
        random.pick(&self.granted[from..]).clone()
    }

    async fn attach(&self, step: Step, random: &mut Random) {
        let session = session(&one_session(random), *random.pick(&[1, 1, 1, 0, 2, 3, 4]));
        step.agree(&session, self.model.attach(&session).await, self.room.attach(&session).await);
        let id = &session.id;
        step.agree(id, self.model.session(id).await, self.room.session(id).await);
    }

    async fn renew(&self, step: Step, random: &mut Random) {
        let ids = random.some(3, |random| session_id(&one_session(random)));
        step.agree(&ids, self.model.renew(&ids).await, self.room.renew(&ids).await);
    }

    async fn watch(&mut self, step: Step) {
        let model = self.model.renewals().await.expect("renewals");
        let mut room = self.room.renewals().await.expect("renewals");
        room.sort();
        let ids = |of: &[(lineshaft::task::SessionId, u64)]| of.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        step.agree("renewals", ids(&model), ids(&room));
        for ((id, in_model), (_, in_room)) in model.into_iter().zip(room) {
            // Both moved, or neither.
            if let Some((model, room)) = self.watched.get(id.as_str()) {
                step.agree(&id, *model == in_model, *room == in_room);
            }
            self.watched.insert(id.to_string(), (in_model, in_room));
        }
    }

    async fn close(&mut self, step: Step, random: &mut Random) {
        let text = one_session(random);
        let (model, room) = match self.watched.get(&text) {
            Some((model, room)) if !random.one_in(4) => (Some(*model), Some(*room)),
            _ => (None, None),
        };
        let id = session_id(&text);
        let model = self.model.close(&id, model).await.expect("close");
        let room = self.room.close(&id, room).await.expect("close");
        if model.is_some() {
            self.watched.remove(&text);
        }
        step.agree(&id, model, room.map(|leases| self.as_models(leases)));
    }

    async fn begin(&mut self, step: Step, random: &mut Random) {
        let at = self.clock.wall();
        let grants = random.some(4, |random| Grant {
            request_id: random.one_in(2).then(|| "request".to_owned()),
            attach: *random.pick(&[0, 0, 1, 1, 2, 3]),
            attempts_before: random.below(3) as u32,
            body: random.one_in(2).then(|| Bytes::from_static(b"body")),
            queue: queue(random.pick::<&str>(&["q", "r"])),
            generation: random.below(3) as u64,
            at,
            ..grant(&one_message(random), &one_session(random))
        });
        let model = self.model.begin(&grants).await.expect("begin");
        let mut room = self.room.begin(&grants).await.expect("begin");
        for (model, room) in model.iter().zip(&room) {
            if let (Begun::Run(model) | Begun::Cancelled(model), Begun::Run(room) | Begun::Cancelled(room)) =
                (model, room)
            {
                self.granted.push((model.id.clone(), room.id.clone()));
                self.tokens.insert(room.id.token, model.id.token);
            }
        }
        for begun in &mut room {
            if let Begun::Run(lease) | Begun::Held(lease) | Begun::Cancelled(lease) = begun {
                *lease = self.as_model(lease.clone());
            }
        }
        step.agree(&grants, model, room);
    }

    async fn mark(&self, step: Step, random: &mut Random) {
        let marks = |random: &mut Random| {
            let task = |random: &mut Random| task_id(&format!("task_{}", one_message(random)));
            random.some(3, |random| CancelMark { task: task(random), generation: random.below(3) as u64 })
        };
        let set = marks(random);
        step.agree(&set, self.model.mark(&set).await, self.room.mark(&set).await);
        let gone = marks(random);
        step.agree(&gone, self.model.unmark(&gone).await, self.room.unmark(&gone).await);
        let asked = marks(random);
        step.agree(&asked, self.model.marked(&asked).await, self.room.marked(&asked).await);
        let after = random.one_in(2).then(|| task_id(&format!("task_{}", one_message(random))));
        let max = random.below(5);
        let model = self.model.marks(after.as_ref(), max).await;
        step.agree(("marks", max), model, self.room.marks(after.as_ref(), max).await);
    }

    async fn claim(&self, step: Step, random: &mut Random) {
        let (model, room) = (self.model.claims(), self.room.claims());
        let at = self.clock.wall();
        let claims = random.some(4, |random| one_claim(random, at));
        step.agree(&claims, model.claim(&claims).await, room.claim(&claims).await);
        let sends = |random: &mut Random| {
            random.some(3, |random| {
                let claim = one_claim(random, at);
                (claim.names(), claim.sending.message.key)
            })
        };
        let published = sends(random);
        step.agree(&published, model.published(&published).await, room.published(&published).await);
        let back = sends(random);
        step.agree(&back, model.unclaim(&back).await, room.unclaim(&back).await);
    }

    async fn release(&self, step: Step, random: &mut Random) {
        let items = random.some(3, |random| {
            let (model, room) = self.lease(random);
            let ending = match random.below(4) {
                0 => Ending::Free { report: None },
                1 => Ending::Free { report: Some(format!("r{}", random.below(2))) },
                _ => Ending::Lost { at: START },
            };
            ((model, ending.clone()), (room, ending))
        });
        let (model, room): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        step.agree(&model, self.model.release(&model).await, self.room.release(&room).await);
    }

    async fn decide(&self, step: Step, random: &mut Random) {
        let at = self.clock.wall();
        let decisions = random.some(3, |random| {
            let (model, room) = self.lease(random);
            let report = random.one_in(2).then(|| format!("r{}", random.below(2)));
            let label = model.message.to_string();
            let made = Decision {
                at,
                effects: if random.one_in(2) { rich(&label) } else { Default::default() },
                dead: random.one_in(4).then(|| dead(&label, "spent")),
                keep: Duration::from_secs(random.below(200) as u64),
                begins: random.some(1, lifetime),
                ends: random.one_in(2).then(|| lifetime(random)),
                ..decision(&model, report.as_deref(), random.below(2) as u8)
            };
            (made.clone(), Decision { lease: room, ..made })
        });
        let (model, room): (Vec<_>, Vec<_>) = decisions.into_iter().unzip();
        step.agree(&model, self.model.decide(&model).await, self.room.decide(&room).await);
    }

    async fn done(&self, step: Step, random: &mut Random) {
        let (before, max) = (self.clock.wall(), 1 + random.below(5));
        let model = self.model.undone(before, max).await.expect("undone");
        let room = self.room.undone(before, max).await.expect("undone");
        step.agree(("undone", before, max), &model, &room);
        let mut done: Vec<_> = model.into_iter().map(|undone| undone.message).filter(|_| !random.one_in(3)).collect();
        done.push(key(&one_message(random)));
        step.agree(&done, self.model.done(&done, before).await, self.room.done(&done, before).await);
    }

    async fn bury(&self, step: Step, random: &mut Random) {
        let all = random.some(2, |random| dead(&one_message(random), "no task"));
        step.agree(&all, self.model.bury(&all).await, self.room.bury(&all).await);
        let requeue = random.some(3, |random| (key(&one_message(random)), random.below(1_000) as u64));
        let (model, room) = (self.model.begin_requeue(&requeue).await, self.room.begin_requeue(&requeue).await);
        step.agree(&requeue, model, room);
        let forget = random.some(2, |random| key(&one_message(random)));
        step.agree(&forget, self.model.forget_dead(&forget).await, self.room.forget_dead(&forget).await);
        let all: Vec<_> = (0..12).map(|n| key(&format!("m{n}"))).collect();
        step.agree("dead of", self.model.dead_of(&all).await, self.room.dead_of(&all).await);
    }

    async fn sweep(&self, step: Step, random: &mut Random) {
        let now = later(self.clock.wall(), *random.pick(&[0, 0, 100, 8 * 24 * 3_600]));
        step.agree(("sweep", now), self.model.sweep(now).await, self.room.sweep(now).await);
        let before = *random.pick(&[START, later(START, 1)]);
        step.agree(("dead", before), self.model.sweep_dead(before).await, self.room.sweep_dead(before).await);
    }

    async fn lifetimes(&self, step: Step, random: &mut Random) {
        let (model, room) = (self.model.lifetimes(), self.room.lifetimes());
        let limit = random.some(3, lifetime);
        step.agree(&limit, model.limit(&limit).await, room.limit(&limit).await);
        let forget = random.some(2, lifetime);
        step.agree(&forget, model.forget(&forget).await, room.forget(&forget).await);
        let (now, max) = (later(START, random.below(6) as u64), random.below(8));
        let after = random.one_in(2).then(|| lifetime(random));
        let over = (model.over(now, after.as_ref(), max).await, room.over(now, after.as_ref(), max).await);
        step.agree(("over", now, &after, max), over.0, over.1);
    }

    /// Everything that only reads.
    async fn look(&self, step: Step, random: &mut Random) {
        let (model, room): (Vec<_>, Vec<_>) = random.some(5, |random| self.lease(random)).into_iter().unzip();
        let mut status = self.room.lookup(&room).await.expect("lookup");
        for status in &mut status {
            if let LeaseStatus::Live(lease) | LeaseStatus::Released(lease) = status {
                *lease = self.as_model(lease.clone());
            }
        }
        step.agree(&model, self.model.lookup(&model).await.expect("lookup"), status);

        let messages: Vec<_> = (0..12).map(|n| key(&format!("m{n}"))).collect();
        let mut standing = self.room.standing(&messages).await.expect("standing");
        for standing in &mut standing {
            if let Standing::Leased(id) = standing {
                id.token = self.tokens.get(&id.token).copied().unwrap_or(id.token);
            }
        }
        step.agree("standing", self.model.standing(&messages).await.expect("standing"), standing);

        let (model, room) = self.lease(random);
        let query = LeaseQuery {
            session: random.one_in(2).then(|| session_id(&one_session(random))),
            queue: random.one_in(3).then(|| queue("q")),
            after: if random.one_in(2) { model.token } else { FencingToken(0) },
            max: random.below(6),
        };
        let after = if query.after == FencingToken(0) { query.after } else { room.token };
        let in_room = self.room.leases(&LeaseQuery { after, ..query.clone() }).await.expect("leases");
        step.agree(&query, self.model.leases(&query).await.expect("leases"), self.as_models(in_room));

        let max = random.below(5);
        let orphans = self.as_models(self.room.orphans(max).await.expect("orphans"));
        step.agree(("orphans", max), self.model.orphans(max).await.expect("orphans"), orphans);
        let after = random.one_in(2).then(|| session_id(&one_session(random)));
        let model = self.model.sessions(after.as_ref(), max).await;
        step.agree(("sessions", max), model, self.room.sessions(after.as_ref(), max).await);
        let after = random.one_in(2).then(|| key(&one_message(random)));
        let model = self.model.dead(after.as_ref(), max).await;
        step.agree(("dead", max), model, self.room.dead(after.as_ref(), max).await);
    }
}
