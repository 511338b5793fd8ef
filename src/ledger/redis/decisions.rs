//! Decisions as scripts are told them: by the ledger alone, or together with what follows from them.

use std::borrow::Cow;

use prost::Message;
use redis::Value;

use crate::error::StoreError;
use crate::ledger::record::DeadRecord;
use crate::ledger::{Decision, Verdict};

use super::attempt;
use super::dead;
use super::layout::{self, Arg};
use super::lifetimes;
use super::store;

/// The beginning of a script that records decisions: its `answers` say which of them stand.
macro_rules! judge {
    () => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/redis/scripts/judge.lua"))
    };
}
/// The end of such a script. Between the two it says what becomes of the effects.
macro_rules! record {
    () => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/redis/scripts/record.lua"))
    };
}
pub(crate) use {judge, record};

/// A decision on its way to a script.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) decision: &'a Decision,
    effects: Option<Vec<u8>>,
    dead: Option<Vec<u8>>,
}

impl<'a> Told<'a> {
    /// Its effects are to be done.
    pub(super) fn undone(decision: &'a Decision) -> Self {
        Self::new(decision, Some(attempt::effects_blob(&decision.effects)))
    }

    /// Its effects are done with it.
    pub(crate) fn done(decision: &'a Decision) -> Self {
        Self::new(decision, None)
    }

    fn new(decision: &'a Decision, effects: Option<Vec<u8>>) -> Self {
        let dead = decision.dead.as_ref().map(|dead| DeadRecord::from(dead).encode_to_vec());
        Self { decision, effects, dead }
    }

    /// What a script has to read of it.
    pub(crate) fn bytes(&self) -> usize {
        self.effects.as_ref().map_or(0, Vec::len) + self.dead.as_ref().map_or(0, Vec::len)
    }
}

/// What `judge.lua` and `record.lua` are told of decisions.
pub(crate) fn args<'a>(told: &'a [Told<'a>]) -> Vec<Cow<'a, [u8]>> {
    let dead = told.iter().filter(|told| told.dead.is_some()).count();
    let lifetimes = |decision: &Decision| decision.begins.len() + usize::from(decision.ends.is_some());
    let lifetimes: usize = told.iter().map(|told| lifetimes(told.decision)).sum();
    let mut args: Vec<Arg<'a>> = vec![layout::number(told.len()), layout::number(dead), layout::number(lifetimes)];
    for Told { decision, effects, .. } in told {
        args.push(layout::text(decision.lease.message.as_str()));
        args.push(attempt::decided(decision).into());
        args.extend(effects.as_ref().map(|effects| Arg::from(effects.as_slice())));
    }
    for (at, Told { decision, dead, .. }) in told.iter().enumerate() {
        if let (Some(dead), Some(record)) = (&decision.dead, dead) {
            args.push(layout::number(at + 1));
            dead::push_args(&mut args, dead, record.as_slice().into());
        }
    }
    for (at, Told { decision, .. }) in told.iter().enumerate() {
        let begins = decision.begins.iter().map(|lifetime| ("1", lifetime));
        for (kind, lifetime) in begins.chain(decision.ends.iter().map(|lifetime| ("0", lifetime))) {
            args.push(layout::number(at + 1));
            args.push(layout::text(kind));
            args.push(lifetimes::entry(lifetime).into_bytes().into());
        }
    }
    args
}

/// What such a script answers, for `count` decisions.
pub(crate) fn verdicts(answer: Value, count: usize) -> Result<Vec<Verdict>, StoreError> {
    match answer {
        Value::Int(1) => Ok(vec![Verdict::Recorded; count]),
        each => store::list(each)?.iter().map(|answer| verdict(store::int(answer)?)).collect(),
    }
}

/// A verdict by its number.
pub(super) fn verdict(number: i64) -> Result<Verdict, StoreError> {
    match number {
        1 => Ok(Verdict::Recorded),
        2 => Ok(Verdict::Duplicate),
        3 => Ok(Verdict::Superseded),
        4 => Ok(Verdict::Conflict),
        other => Err(store::corrupt("an answer", format_args!("{other} is no verdict"))),
    }
}
