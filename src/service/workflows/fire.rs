//! What follows when all members of a join have ended: recorded first, then done, then the join is closed. Any replica goes
//! on where another one stopped, with what was recorded.

use std::sync::Arc;
use std::time::Duration;

use super::behind::{Consequences, announced, not_run};
use crate::backend::Triggered;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::failpoint::Point;
use crate::ledger::Effects;
use crate::ledger::join::{Callback, Fired, Firing, Head, Kind, Standing};
use crate::service::outcome::message_of;
use crate::service::{Inner, envelope, trail};
use crate::task::{Arg, FailureReason, GroupId, Signature, Status, TaskId, TaskState};
use crate::wire;

/// Members read at once.
const PAGE: usize = 1000;
/// When to ask again, while another program is about to look at the flag of some group.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How often that is asked in one look.
const BUSY_ASKS: u32 = 40;
/// How long another program that has set out to send a callback may take: longer than it holds its lock.
const THEIRS_MAX: Duration = Duration::from_secs(10);
/// When to look again whether it has.
const THEIRS_PAUSE: Duration = Duration::from_secs(1);
/// Position of the callback's message among those of its group.
pub(super) const CALLBACK: u32 = 0;

/// Who sends a callback.
enum Whose {
    Ours,
    /// Another program has.
    Done,
    /// Another program is about to: look again.
    Later(Duration),
}

impl Inner {
    /// Fires a join that is full.
    pub(super) async fn fire(self: &Arc<Self>, standing: Standing) -> Result<(), StoreError> {
        self.failpoints.reach(Point::JoinFull).await;
        let now = self.clock.wall();
        let head = &standing.head;
        let callback = head.callback.as_ref().filter(|_| head.kind == Kind::Chord);
        let firing = match callback {
            None => return self.close(&head.id).await,
            Some(callback) => {
                let is_sent = callback.is_always || standing.failed == 0;
                if is_sent && !callback.is_always && head.is_shared {
                    match self.whose(head, now).await? {
                        Whose::Ours => {}
                        Whose::Done => return self.close(&head.id).await,
                        Whose::Later(pause) => {
                            let look = (head.id.clone(), now.plus(pause), standing.ended);
                            return self.stores.ledger.joins().look(&[look]).await;
                        }
                    }
                    self.failpoints.reach(Point::JoinTriggered).await;
                }
                self.firing(&standing, callback, is_sent, now).await?
            }
        };
        let recorded = self.stores.ledger.joins().fire(&[(head.id.clone(), firing.clone())]).await?;
        self.failpoints.reach(Point::JoinFired).await;
        match recorded.into_iter().next() {
            Some(Fired::Recorded) => self.perform(head, firing).await,
            Some(Fired::Known(firing)) => self.perform_again(head, *firing).await,
            Some(Fired::Over) | None => Ok(()),
        }
    }

    /// Goes on with what was recorded.
    pub(super) async fn fire_again(self: &Arc<Self>, standing: &Standing) -> Result<(), StoreError> {
        let fired = self.stores.ledger.joins().fire(&[(standing.head.id.clone(), Firing::default())]).await?;
        match fired.into_iter().next() {
            Some(Fired::Known(firing)) => self.perform_again(&standing.head, *firing).await,
            Some(Fired::Recorded) => Err(StoreError::Corrupt {
                store: self.guarantees.ledger,
                why: format!("what follows group {} is lost", standing.head.id),
            }),
            Some(Fired::Over) | None => Ok(()),
        }
    }

    /// Does what was recorded before, by somebody who may have done it. A callback that another program has taken since is not
    /// sent once more: it would not know the copy.
    async fn perform_again(self: &Arc<Self>, head: &Head, mut firing: Firing) -> Result<(), StoreError> {
        let tasks: Vec<TaskId> = firing.effects.publish.iter().map(|message| message.task.clone()).collect();
        if head.is_shared && !tasks.is_empty() {
            let states = self.stores.backend.read(&tasks, self.clock.wall()).await?;
            if states.into_iter().flatten().any(|state| state.generation == 0) {
                firing.effects.states.clear();
                firing.effects.publish.clear();
            }
        }
        self.perform(head, firing).await
    }

    async fn perform(self: &Arc<Self>, head: &Head, firing: Firing) -> Result<(), StoreError> {
        if !firing.begins.is_empty() {
            self.stores.ledger.lifetimes().limit(&firing.begins).await?;
        }
        self.carry_out(&[&firing.effects]).await?;
        let settings = self.settings();
        firing.effects.publish.iter().for_each(|task| trail::sent(task, &settings.spans, self.clock.wall()));
        self.failpoints.reach(Point::JoinDone).await;
        self.joined(firing.effects.joins.iter().map(|ended| ended.group.clone()).collect());
        self.close(&head.id).await
    }

    async fn close(&self, group: &GroupId) -> Result<(), StoreError> {
        self.stores.ledger.joins().close(std::slice::from_ref(group), self.clock.wall()).await?;
        self.looks.forget(group);
        self.looks.tell([group]);
        if self.stores.ledger.replicas() {
            self.stores.ledger.notices().tell(crate::ledger::Notice::Joined(vec![group.clone()]));
        }
        Ok(())
    }

    /// Which of all programs sends the callback of a chord whose members have all succeeded.
    async fn whose(&self, head: &Head, now: WallTime) -> Result<Whose, StoreError> {
        let keep = self.settings().results_expire_in;
        for _ in 0..BUSY_ASKS {
            match self.stores.backend.trigger(&head.id, &head.message, keep, now).await? {
                // Without its record no Machinery worker gets as far as the callback.
                Triggered::Ours | Triggered::Unknown => return Ok(Whose::Ours),
                Triggered::Theirs => return self.theirs(head, now).await,
                Triggered::Busy => tokio::time::sleep(BUSY_PAUSE).await,
            }
        }
        Ok(Whose::Later(THEIRS_PAUSE))
    }

    /// Whether another program that set out to send the callback has done it.
    async fn theirs(&self, head: &Head, now: WallTime) -> Result<Whose, StoreError> {
        let Some(signature) = head.callback.as_ref().and_then(open) else { return Ok(Whose::Done) };
        let id = callback_id(head, &signature);
        let state = self.stores.backend.read(&[TaskId::trusted(id)], now).await?.pop().flatten();
        // Announced by us is not sent by them. What they send they write down as theirs.
        let is_sent = state.is_some_and(|state| {
            state.generation == 0 || state.generation > head.generation || state.status != Status::Pending
        });
        if is_sent {
            return Ok(Whose::Done);
        }
        let mut memory = self.looks.memory(&head.id, self.clock.now());
        let since = *memory.theirs_since.get_or_insert(self.clock.now());
        self.looks.remember(&head.id, memory);
        if self.clock.now().duration_since(since) < THEIRS_MAX {
            return Ok(Whose::Later(THEIRS_PAUSE));
        }
        tracing::warn!(group = %head.id, "another program died before it sent the callback of a chord; it is sent from here");
        Ok(Whose::Ours)
    }

    /// What follows a chord.
    async fn firing(
        &self,
        standing: &Standing,
        callback: &Callback,
        is_sent: bool,
        now: WallTime,
    ) -> Result<Firing, StoreError> {
        let (head, settings) = (&standing.head, self.settings());
        let Some(mut plain) = open(callback) else {
            tracing::warn!(group = %head.id, "the callback of a chord is no task and is not sent");
            return Ok(Firing::default());
        };
        plain.uuid = callback_id(head, &plain);
        let since = head.generation;
        let unrun = |cause: &str, reason: FailureReason| {
            let mut consequences = Consequences::default();
            consequences.never_runs(plain.clone(), cause, since, now, &settings);
            if let Some(own) = consequences.states.first_mut() {
                own.state.reason = reason;
            }
            let effects = Effects { states: consequences.states, publish: Vec::new(), joins: consequences.joins };
            Firing { effects, begins: Vec::new() }
        };
        if !is_sent {
            let failed = self.first_failure(&head.id).await?;
            let cause = not_run(&failed.0, &failed.1);
            return Ok(unrun(&cause, FailureReason::NotRun));
        }
        let results = if plain.immutable { Vec::new() } else { self.results(&head.id, callback.is_always).await? };
        let signature = match wire::machinery::callback_after_chord(&callback.body, results) {
            Ok(signature) => Signature { uuid: plain.uuid.clone(), ..signature },
            Err(error) => return Ok(unrun(&format!("lineshaft: not run: {error}"), FailureReason::Poison)),
        };
        let generation = match announced(&signature) {
            0 => now.0,
            announced => announced.max(since),
        };
        let sending = message_of(signature, head.message.derive(CALLBACK), now, generation, &settings);
        let (bytes, limit) =
            (sending.message.body.len(), settings.task_bytes_max.min(self.guarantees.broker.body_bytes_max));
        if bytes > limit {
            let cause = format!(
                "lineshaft: not run: with the results of all {} tasks it has {bytes} bytes as encoded, the limit is {limit} bytes; \
                 store results elsewhere and return references, or make it immutable",
                head.count
            );
            return Ok(unrun(&cause, FailureReason::ResultTooLarge));
        }
        let begins = sending.lifetime().into_iter().collect();
        let effects = Effects { states: vec![sending.state], publish: vec![sending.message], joins: Vec::new() };
        Ok(Firing { effects, begins })
    }

    /// What the members of a chord have come to, as arguments of its callback.
    async fn results(&self, group: &GroupId, is_always: bool) -> Result<Vec<Arg>, StoreError> {
        let (mut results, mut from) = (Vec::new(), 0);
        loop {
            let page = self.stores.ledger.joins().members(group, from, PAGE).await?;
            let is_last = page.len() < PAGE;
            from += u32::try_from(page.len()).unwrap_or(u32::MAX);
            for (outcome, _) in page.into_iter().filter_map(|member| member.outcome) {
                if is_always {
                    results.push(Arg::string(String::from_utf8_lossy(&outcome)));
                } else {
                    results.extend(self.state_of(&outcome)?.results.into_iter().flatten());
                }
            }
            if is_last {
                return Ok(results);
            }
        }
    }

    /// The first member in order that failed, and its error.
    async fn first_failure(&self, group: &GroupId) -> Result<(String, String), StoreError> {
        let mut from = 0;
        loop {
            let page = self.stores.ledger.joins().members(group, from, PAGE).await?;
            let is_last = page.len() < PAGE;
            from += u32::try_from(page.len()).unwrap_or(u32::MAX);
            for member in page {
                if let Some((outcome, true)) = member.outcome {
                    return Ok((member.task.to_string(), self.state_of(&outcome)?.error));
                }
            }
            if is_last {
                return Ok((group.to_string(), "its failure is not known any more".to_owned()));
            }
        }
    }

    fn state_of(&self, outcome: &[u8]) -> Result<TaskState, StoreError> {
        let corrupt = |error: wire::machinery::WireError| StoreError::Corrupt {
            store: self.guarantees.ledger,
            why: format!("the outcome of a member: {error}"),
        };
        wire::machinery::decode_state(outcome).map_err(corrupt)
    }
}

/// The id of a callback, also of one whose producer gave it none.
pub(super) fn callback_id(head: &Head, callback: &Signature) -> String {
    match callback.uuid.is_empty() {
        true => format!("chord_{}", head.message.derived_uuid(CALLBACK)),
        false => callback.uuid.clone(),
    }
}

/// The callback as it was given.
pub(super) fn open(callback: &Callback) -> Option<Signature> {
    Some((*envelope::open(&callback.body).ok()?.signature).clone())
}
