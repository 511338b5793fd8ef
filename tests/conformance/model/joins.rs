//! Joins of a ledger against those of the model.

use lineshaft::clock::WallTime;
use lineshaft::ledger::Ledger;
use lineshaft::ledger::join::{Ended, Firing, Opening};
use lineshaft::task::GroupId;

use super::{Random, Step};
use crate::harness::START;
use crate::ledger::effects::rich;
use crate::ledger::joins::{ended, group, opening};
use crate::make::*;

/// One of few, so that they are met again.
fn label(random: &mut Random) -> String {
    format!("g{}", random.below(5))
}

fn groups(random: &mut Random) -> Vec<GroupId> {
    random.some(2, |random| group(&label(random)))
}

fn one_opening(random: &mut Random) -> Opening {
    let mut made = opening(&label(random), 1 + random.below(4) as u32);
    if random.one_in(3) {
        made.members.clear();
    }
    made.is_sending = random.one_in(3);
    made.look_at = later(START, random.below(200) as u64);
    made.head.keep = std::time::Duration::from_secs(random.below(200) as u64);
    made
}

fn one_ended(random: &mut Random) -> Ended {
    let outcome = bytes::Bytes::from(format!("outcome {}", random.below(3)));
    Ended { is_failure: random.one_in(3), outcome, ..ended(&label(random), random.below(5) as u32) }
}

/// One step, and a look at what it left.
pub(super) async fn step(step: Step, random: &mut Random, model: &dyn Ledger, room: &dyn Ledger, now: WallTime) {
    let (model, room) = (model.joins(), room.joins());
    match random.below(16) {
        0..3 => {
            let openings = random.some(2, one_opening);
            step.agree(&openings, model.open(&openings).await, room.open(&openings).await);
        }
        3..9 => {
            let ended = random.some(5, one_ended);
            step.agree(&ended, model.add(&ended).await, room.add(&ended).await);
        }
        9 => {
            let groups = groups(random);
            step.agree(("sent", &groups), model.sent(&groups).await, room.sent(&groups).await);
        }
        10 => {
            let groups = groups(random);
            step.agree(("forget", &groups), model.forget(&groups).await, room.forget(&groups).await);
        }
        11 | 12 => {
            let firings = random.some(2, |random| {
                let effects = if random.one_in(2) { rich(&label(random)) } else { Default::default() };
                (group(&label(random)), Firing { effects, begins: Vec::new() })
            });
            step.agree(&firings, model.fire(&firings).await, room.fire(&firings).await);
        }
        13 => {
            let groups = groups(random);
            step.agree(("close", &groups), model.close(&groups, now).await, room.close(&groups, now).await);
        }
        _ => {
            let looks = random.some(3, |random| {
                (group(&label(random)), later(START, random.below(300) as u64), random.below(5) as u32)
            });
            step.agree(&looks, model.look(&looks).await, room.look(&looks).await);
        }
    }
    let all: Vec<GroupId> = (0..5).map(|n| group(&format!("g{n}"))).collect();
    step.agree("joins", model.standing(&all).await, room.standing(&all).await);
    let (one, from, max) = (random.pick(&all), random.below(4) as u32, random.below(5));
    step.agree(("members", one, from, max), model.members(one, from, max).await, room.members(one, from, max).await);
    // How many are looked at, and so where to go on, is each room's own affair.
    let (in_model, in_room) = (model.missing(one, from, max).await, room.missing(one, from, max).await);
    step.agree(("missing", one, from, max), in_model.map(|page| page.0), in_room.map(|page| page.0));
    let now = later(START, random.below(300) as u64);
    step.agree(("due", now, max), model.due(now, max).await, room.due(now, max).await);
}
