//! Sending under names where something stands already, or where a key is in the way: claimed first, then sent, then marked.

use std::collections::{HashMap, HashSet};

use super::{Fused, NAME, send};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::claim::{Claim, ClaimName, Claimed, Claims as _, Sending};
use crate::ledger::{Ledger as _, Standing};
use crate::task::MessageKey;

/// Names of a send, and its message.
type Mark = (Vec<ClaimName>, MessageKey);

/// What is to be sent.
struct Open {
    mark: Mark,
    sending: Sending,
    /// Claimed by this call, and not by one before that was cut short.
    is_new: bool,
}

/// Carries out what was answered `New` or `Again` and turns each answer into what became of it.
pub(super) async fn send(fused: &Fused, claims: &[Claim], answers: &mut [Claimed], now: WallTime) {
    let (mut seen, mut open) = (HashSet::new(), Vec::new());
    let mut messages: Vec<Option<MessageKey>> = Vec::with_capacity(claims.len());
    for (claim, answer) in claims.iter().zip(&mut *answers) {
        let (sending, is_new) = match answer {
            Claimed::New => (claim.sending.clone(), true),
            Claimed::Again(sending) => {
                let sending = (**sending).clone();
                *answer = Claimed::Sent(sending.message.task.clone());
                (sending, false)
            }
            Claimed::Sent(_) | Claimed::Held(_) | Claimed::Reused | Claimed::Failed(_) => {
                messages.push(None);
                continue;
            }
        };
        let message = sending.message.key.clone();
        messages.push(Some(message.clone()));
        if seen.insert(message.clone()) {
            open.push(Open { mark: (claim.names(), message), sending, is_new });
        }
    }
    if open.is_empty() {
        return;
    }
    let failed = carry_out(fused, open, now).await;
    for (answer, message) in answers.iter_mut().zip(&messages) {
        if let Some(error) = message.as_ref().and_then(|message| failed.get(message)) {
            *answer = Claimed::Failed(error.clone());
        }
    }
}

/// Sends, marks what is sent and takes back what is not; answers what failed.
async fn carry_out(fused: &Fused, mut open: Vec<Open>, now: WallTime) -> HashMap<MessageKey, StoreError> {
    let mut failed = HashMap::new();
    let mut marks: Vec<Mark> = Vec::new();
    let found: Vec<MessageKey> = open.iter().filter(|item| !item.is_new).map(|item| item.mark.1.clone()).collect();
    if !found.is_empty() {
        // What was found may be decided, and its state forgotten: writing it would bring the task back.
        match fused.ledger.standing(&found).await {
            Ok(standing) => {
                let is_decided = |(_, standing): &(MessageKey, Standing)| *standing == Standing::Decided;
                let decided: HashSet<MessageKey> =
                    found.into_iter().zip(standing).filter(is_decided).map(|(message, _)| message).collect();
                let (over, left) = open.into_iter().partition(|item| decided.contains(&item.mark.1));
                open = left;
                marks.extend(Vec::into_iter(over).map(|item: Open| item.mark));
            }
            Err(error) => {
                // What became of them before is not known, and cannot be found out.
                failed.extend(found.into_iter().map(|message| (message, unknown(&error))));
                open.retain(|item| item.is_new);
            }
        }
    }
    let sendings: Vec<Sending> = open.iter().map(|item| item.sending.clone()).collect();
    let attempt = send::attempt(fused, &sendings, now).await;
    let mut back: Vec<(Mark, StoreError)> = Vec::new();
    for (item, sent) in open.into_iter().zip(&attempt.sent) {
        match sent {
            Ok(()) => marks.push(item.mark),
            // What was found belongs to whoever claimed it.
            Err(error) if item.is_new && !matches!(error, StoreError::OutcomeUnknown { .. }) => {
                back.push((item.mark, error.clone()));
            }
            Err(error) => drop(failed.insert(item.mark.1, unknown(error))),
        }
    }
    let released = release(fused, back, &mut failed).await;
    // Somebody who found a claim that stays may have published it, and then its state stays.
    attempt.take_back(fused, &sendings, |sending| released.contains(&sending.message.key)).await;
    if !marks.is_empty()
        && let Err(error) = fused.ledger.published(&marks).await
    {
        // They are sent. Whoever sends one again finds its claim, and finishes it.
        tracing::warn!(%error, sends = marks.len(), "sends are not marked as published");
    }
    failed
}

/// Gives up claims of what was not sent; answers the messages of those that nobody found meanwhile.
async fn release(
    fused: &Fused,
    back: Vec<(Mark, StoreError)>,
    failed: &mut HashMap<MessageKey, StoreError>,
) -> HashSet<MessageKey> {
    if back.is_empty() {
        return HashSet::new();
    }
    let (marks, errors): (Vec<Mark>, Vec<StoreError>) = back.into_iter().unzip();
    let taken = fused.ledger.unclaim(&marks).await.unwrap_or_else(|error| {
        tracing::warn!(%error, sends = marks.len(), "claims of sends that failed stay as they are");
        vec![false; marks.len()]
    });
    let mut released = HashSet::new();
    for (((_, message), error), taken) in marks.into_iter().zip(errors).zip(taken) {
        if taken {
            released.insert(message.clone());
        }
        // Whoever finds a claim that stays sends it.
        failed.insert(message, if taken { error } else { unknown(&error) });
    }
    released
}

fn unknown(error: &StoreError) -> StoreError {
    StoreError::OutcomeUnknown { store: NAME, why: error.to_string() }
}
