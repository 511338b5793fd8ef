//! Sending: lifetimes, states and messages in one transaction.

use std::collections::{HashMap, HashSet};

use redis::Value;

use crate::backend::Backend as _;
use crate::backend::redis::Told;
use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::Lifetimes as _;
use crate::ledger::claim::Sending;

use super::{Fused, NAME};

/// Sends, one answer each. A state in whose place something stands already is compared by a second call, behind the message:
/// it is as good then, since states have an order.
pub(super) async fn send(fused: &Fused, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
    let attempt = attempt(fused, items, now).await;
    attempt.take_back(fused, items, |_| true).await;
    attempt.sent
}

/// What became of a send.
pub(super) struct Attempt {
    /// One answer each.
    pub(super) sent: Vec<Result<(), StoreError>>,
    /// Those whose states it wrote first.
    stored: HashSet<usize>,
    /// The transaction was carried out, whatever the server said to each of its commands.
    is_carried_out: bool,
}

/// Sends, and leaves what was written of messages that the server refused.
pub(super) async fn attempt(fused: &Fused, items: &[Sending], now: WallTime) -> Attempt {
    if items.is_empty() {
        return Attempt { sent: Vec::new(), stored: HashSet::new(), is_carried_out: false };
    }
    let lifetimes: Vec<_> = items.iter().filter_map(Sending::lifetime).collect();
    let states: Vec<Told> = items.iter().map(|sending| Told::new(&sending.state, now)).collect();
    let tasks: Vec<NewTask> = items.iter().map(|sending| sending.message.clone()).collect();
    let mut times: HashMap<&str, usize> = HashMap::new();
    states.iter().for_each(|state| *times.entry(state.key()).or_default() += 1);
    let fresh: Vec<usize> =
        (0..items.len()).filter(|i| states[*i].begins() && times.get(states[*i].key()) == Some(&1)).collect();

    let batch = fused.broker.batch(&tasks);
    let mut commands = redis::pipe();
    if !lifetimes.is_empty() {
        commands.add_command(fused.ledger.limiting(&lifetimes));
    }
    fresh.iter().for_each(|i| {
        commands.add_command(states[*i].set_new());
    });
    batch.commands().for_each(|command| {
        commands.add_command(command);
    });
    let mut answers = match fused.link.together(&mut commands).await {
        Ok(answers) => answers,
        Err(failure) => {
            let sent = vec![Err(failure.told_by(NAME)); items.len()];
            return Attempt { sent, stored: HashSet::new(), is_carried_out: false };
        }
    };
    let of_messages = answers.split_off((answers.len()).min(usize::from(!lifetimes.is_empty()) + fresh.len()));
    let of_states = answers.split_off(usize::from(!lifetimes.is_empty()));
    let mut sent: Vec<Result<(), StoreError>> = fused
        .broker
        .concluded(&batch, &Ok(of_messages), items.len())
        .into_iter()
        .map(|answer| answer.map(|_| ()))
        .collect();

    let stored: HashSet<usize> =
        fresh.into_iter().zip(of_states).filter(|(_, answer)| *answer == Ok(Value::Okay)).map(|(i, _)| i).collect();
    // Messages of which it is not known that their lifetimes are kept.
    if let Some(Err(failure)) = answers.pop() {
        let unknown = StoreError::OutcomeUnknown { store: NAME, why: failure.why };
        let limited = items.iter().zip(&mut sent).filter(|(item, _)| item.lifetime().is_some());
        limited.for_each(|(_, answer)| *answer = answer.clone().and(Err(unknown.clone())));
    }
    let behind: Vec<usize> = (0..items.len()).filter(|i| sent[*i].is_ok() && !stored.contains(i)).collect();
    if !behind.is_empty() {
        let writes: Vec<_> = behind.iter().map(|i| items[*i].state.clone()).collect();
        for (i, answer) in behind.into_iter().zip(fused.backend.write(&writes, now).await) {
            if let Err(error) = answer {
                // The message is under way: that nothing was sent cannot be said any more.
                sent[i] = Err(StoreError::OutcomeUnknown { store: NAME, why: error.to_string() });
            }
        }
    }
    Attempt { sent, stored, is_carried_out: true }
}

impl Attempt {
    /// Takes back what was written of messages that the server refused, of those that `may` be.
    pub(super) async fn take_back(&self, fused: &Fused, items: &[Sending], may: impl Fn(&Sending) -> bool) {
        if !self.is_carried_out {
            return;
        }
        let is_refused = |i: usize, item: &Sending| {
            self.sent[i].as_ref().is_err_and(|error| !matches!(error, StoreError::OutcomeUnknown { .. })) && may(item)
        };
        let refused = || items.iter().enumerate().filter(|(i, item)| is_refused(*i, item));
        let states: Vec<_> = refused()
            .filter(|(i, _)| self.stored.contains(i))
            .map(|(_, item)| (item.state.state.task_id.clone(), item.state.state.order()))
            .collect();
        if !states.is_empty()
            && let Err(error) = fused.backend.retract(&states).await
        {
            tracing::warn!(%error, tasks = states.len(), "states of tasks that were not sent stay PENDING");
        }
        let lifetimes: Vec<_> = refused().filter_map(|(_, item)| item.lifetime()).collect();
        if !lifetimes.is_empty()
            && let Err(error) = fused.ledger.forget(&lifetimes).await
        {
            tracing::warn!(%error, tasks = lifetimes.len(), "lifetimes of tasks that were not sent are dropped later");
        }
    }
}
