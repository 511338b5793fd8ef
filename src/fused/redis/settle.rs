//! Settling: decisions, and all that follows from them but the acknowledgement, in one script.

use std::borrow::Cow;

use redis::Value;

use crate::backend::redis as backend;
use crate::broker::NewTask;
use crate::broker::redis::Broker;
use crate::broker::redis::publish::Placed;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::redis::decisions::{self, Told};
use crate::ledger::redis::joins;
use crate::ledger::{Decision, Verdict};
use crate::link::redis::{Access, Link, Script};

use super::NAME;

static SETTLE: Script = Script::new(concat!(
    "local stride = 2\n",
    backend::order!(),
    joins::join_ends!(),
    decisions::judge!(),
    include_str!("scripts/settle.lua"),
    decisions::record!()
));

/// What a script is routed by.
const RECORDS: &str = "{lineshaft}:records";
/// Most decisions of one script, and most bytes that it reads, unless one decision alone has more: Redis serves nobody else
/// meanwhile.
const DECISIONS_MAX: usize = 256;
const BYTES_MAX: usize = 256 << 10;
/// Most states, messages and members of joins of one script, unless one decision alone has more: Lua cannot pass on many thousand values.
const EFFECTS_MAX: usize = 1_000;

/// How many of the first of `decisions` one script is given.
pub(super) fn piece(decisions: &[Decision], now: WallTime) -> (Vec<Told<'_>>, Vec<(usize, backend::Told)>) {
    let (mut told, mut states) = (Vec::new(), Vec::new());
    let (mut bytes, mut effects) = (0, 0);
    for decision in decisions.iter().take(DECISIONS_MAX) {
        let more = Told::done(decision);
        let own: Vec<_> = decision.effects.states.iter().map(|state| backend::Told::new(state, now)).collect();
        let published: usize = decision.effects.publish.iter().map(|task| task.body.len()).sum();
        let joined: usize = decision.effects.joins.iter().map(|ended| ended.outcome.len()).sum();
        bytes += more.bytes()
            + published
            + joined
            + own.iter().flat_map(|state| state.args()).map(<[u8]>::len).sum::<usize>();
        effects += own.len() + decision.effects.publish.len() + decision.effects.joins.len();
        if !told.is_empty() && (bytes > BYTES_MAX || effects > EFFECTS_MAX) {
            break;
        }
        told.push(more);
        states.extend(own.into_iter().map(|state| (told.len(), state)));
    }
    (told, states)
}

/// Settles what is in one piece. `None`: nothing was written, as a key holds what it should not.
pub(super) async fn settle(
    link: &Link,
    broker: &Broker,
    told: &[Told<'_>],
    states: &[(usize, backend::Told)],
    now: WallTime,
) -> Result<Option<Vec<Verdict>>, StoreError> {
    let tasks: Vec<(usize, &NewTask)> = told
        .iter()
        .enumerate()
        .flat_map(|(at, told)| told.decision.effects.publish.iter().map(move |task| (at + 1, task)))
        .collect();
    let (queues, names) = broker.unnamed(tasks.iter().map(|(_, task)| *task));
    let placed: Vec<Placed<'_>> = tasks.iter().map(|(_, task)| broker.place(task)).collect();

    let keys: Vec<&str> = std::iter::once(RECORDS).chain(states.iter().map(|(_, state)| state.key())).collect();
    let mut args = decisions::args(told);
    args.push(format!("{:020}", now.0).into_bytes().into());
    args.extend(backend::listing(states.iter().map(|(_, state)| state)).map(Cow::Owned));
    let is_each = states.len() == told.len() && states.iter().enumerate().all(|(i, (decision, _))| *decision == i + 1);
    let of: Vec<String> = states.iter().filter(|_| !is_each).map(|(decision, _)| decision.to_string()).collect();
    args.push(Cow::Owned(of.join(",").into_bytes()));
    args.push(number(states.len()));
    args.extend(states.iter().flat_map(|(_, state)| state.args()).map(Cow::Borrowed));
    for name in &names {
        args.extend([number(0), text("SADD"), text(queues), text(""), text(name.as_str())]);
    }
    for ((decision, _), placed) in tasks.iter().zip(&placed) {
        args.extend([number(*decision), text(placed.verb), text(placed.key), text(&placed.score)]);
        args.push(Cow::Borrowed(&placed.member));
    }
    for (at, told) in told.iter().enumerate() {
        for ended in &told.decision.effects.joins {
            args.extend([number(at + 1), text(""), text(ended.group.as_str()), text(ended.task.as_str())]);
            args.push(Cow::Owned(joins::told(ended)));
        }
    }
    let answer = link.script(Access::Write, &SETTLE, &keys, &args).await.map_err(|failure| failure.told_by(NAME))?;
    if answer == Value::Int(-1) {
        return Ok(None);
    }
    let verdicts = decisions::verdicts(answer, told.len())?;
    // Names are written down with the first decision that is recorded.
    let is_recorded = |at: usize| verdicts.get(at - 1) == Some(&Verdict::Recorded);
    let published: Vec<Placed<'_>> = (tasks.iter().zip(placed))
        .filter_map(|((decision, _), placed)| is_recorded(*decision).then_some(placed))
        .collect();
    let is_any = verdicts.contains(&Verdict::Recorded);
    broker.placed(&published, if is_any { &names } else { &[] });
    Ok(Some(verdicts))
}

fn text(text: &str) -> Cow<'_, [u8]> {
    Cow::Borrowed(text.as_bytes())
}

fn number(number: usize) -> Cow<'static, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}
