//! Sending tasks that belong together: recorded as one first, so that whatever is killed, the rest of them is known.
//!
//! Record → Machinery's record of the group → what is sent later announced as PENDING → tasks, in batches → record says sent. A repeat under the
//! same request id goes on with the same ids and keys; what nobody goes on with is cancelled a minute later (`look`).

use std::collections::HashSet;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::fire::CALLBACK;
use super::look::SENDING_MAX;
use crate::backend::{GroupMeta, StateWrite};
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::failpoint::Point;
use crate::ledger::claim::Sending;
use crate::ledger::join::{Callback, Head, Kind, Opened, Opening, Stage, Standing};
use crate::service::earlier::Earlier;
use crate::service::outcome::{WAITING_KEPT, bare_state, message_of};
use crate::service::types::{Submission, Workflow, WorkflowSent};
use crate::service::{Service, claims, envelope};
use crate::task::{Body, GroupId, MessageKey, Signature, Status, TaskId, Timestamp};

/// The first look at a join that is sent.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// States announced at once.
const ANNOUNCED_MAX: usize = 256;

/// A workflow that is ready to be sent.
struct Prepared {
    head: Head,
    tasks: Vec<TaskId>,
    callback: Option<TaskId>,
    /// States of what is sent later.
    announced: Vec<StateWrite>,
    /// What is sent now.
    sendings: Vec<Sending>,
    earlier: Earlier,
}

impl Prepared {
    fn meta(&self) -> GroupMeta {
        GroupMeta {
            id: self.head.id.clone(),
            tasks: self.tasks.clone(),
            is_triggered: false,
            created_at: Timestamp::from_wall(self.head.at),
        }
    }
}

impl Service {
    pub(super) async fn send_together(&self, workflow: Workflow) -> Result<WorkflowSent, Error> {
        if self.inner.is_draining() {
            return Err(Error::Draining);
        }
        let settings = self.inner.settings();
        let weight = workflow.tasks.len().clamp(1, settings.batch_max);
        let _sending = self.begin_sends(weight, settings.sends_in_flight_max)?;
        let is_named = workflow.request_id.is_some();
        let digest = digest(&workflow);
        let message = match &workflow.request_id {
            Some(request) => MessageKey::trusted(format!("group/{request}")).derive(0),
            None => MessageKey::generate(),
        };
        let id = workflow.id.clone().unwrap_or_else(|| {
            let word = if workflow.kind == Kind::Chain { "chain" } else { "group" };
            GroupId::trusted(format!("{word}_{}", message.derived_uuid(u32::MAX)))
        });
        let is_own_id = workflow.id.is_some();
        let known = self.inner.stores.ledger.joins().standing(std::slice::from_ref(&id)).await?.pop().flatten();
        let known = known.map(|known| self.same(known, &digest, is_named, is_own_id)).transpose()?;
        let prepared = self.prepare_together(workflow, id, message, digest, known.as_ref()).await?;
        let sent = |prepared: &Prepared, already| WorkflowSent {
            group: prepared.head.id.clone(),
            tasks: prepared.tasks.clone(),
            callback: prepared.callback.clone(),
            already,
        };
        if known.as_ref().is_some_and(|known| known.stage != Stage::Sending) {
            return Ok(sent(&prepared, true));
        }
        let now = self.inner.clock.wall();
        let opening = Opening {
            head: prepared.head.clone(),
            members: prepared.tasks.clone(),
            is_sending: true,
            look_at: now.plus(SENDING_MAX),
        };
        let opened = self.inner.stores.ledger.joins().open(&[opening]).await.map_err(|error| match error {
            StoreError::OutcomeUnknown { .. } if is_named => Error::Unconfirmed(error),
            error => error.into(),
        })?;
        if let Some(Opened::Known(standing)) = opened.into_iter().next()
            && known.is_none()
        {
            // Somebody else was faster, with the same or with something else.
            let standing = self.same(standing, &digest, is_named, is_own_id)?;
            if standing.head.message != prepared.head.message || standing.head.generation != prepared.head.generation {
                return Err(Error::Unconfirmed(StoreError::OutcomeUnknown {
                    store: self.inner.guarantees.ledger,
                    why: "the same send is under way elsewhere".into(),
                }));
            }
        }
        if known.is_some() {
            // It is worked on again: whoever looks gives it as long as a new one.
            let again = (prepared.head.id.clone(), now.plus(SENDING_MAX), 0);
            self.inner.stores.ledger.joins().look(&[again]).await.map_err(Error::Unconfirmed)?;
        }
        self.inner.failpoints.reach(Point::GroupOpened).await;
        let mut is_any_sent = known.is_some();
        let Err(error) = self.write_together(&prepared, now, &mut is_any_sent).await else {
            return Ok(sent(&prepared, false));
        };
        if !is_any_sent && !matches!(error, StoreError::OutcomeUnknown { .. }) && self.undo(&prepared).await {
            return Err(error.into());
        }
        // Some may be sent: the same send goes on with the rest, or a look at what was left unsent ends it.
        let unknown = StoreError::OutcomeUnknown { store: self.inner.guarantees.ledger, why: error.to_string() };
        Err(if is_named { Error::Unconfirmed(unknown) } else { unknown.into() })
    }

    /// Takes back what was written of a workflow of which nothing was sent; false: it stays, and is ended later.
    async fn undo(&self, prepared: &Prepared) -> bool {
        let stores = &self.inner.stores;
        let announced: Vec<_> =
            prepared.announced.iter().map(|write| (write.state.task_id.clone(), write.state.order())).collect();
        let undone = async {
            stores.backend.retract(&announced).await?;
            if prepared.head.kind != Kind::Chain {
                stores.backend.put_group(&prepared.meta(), Duration::ZERO, self.inner.clock.wall()).await?;
            }
            stores.ledger.joins().forget(std::slice::from_ref(&prepared.head.id)).await
        };
        undone
            .await
            .inspect_err(
                |error| tracing::warn!(%error, group = %prepared.head.id, "a group that was not sent is ended later"),
            )
            .is_ok()
    }

    /// What is known under the id, if it is the same send.
    fn same(&self, known: Standing, digest: &[u8; 32], is_named: bool, is_own_id: bool) -> Result<Standing, Error> {
        match () {
            () if is_named && known.head.digest == *digest => Ok(known),
            () if is_named && !is_own_id => Err(Error::RequestIdReused { field: "request_id".to_owned() }),
            () => Err(Error::GroupExists(known.head.id.to_string())),
        }
    }

    /// Checks everything and makes what is sent. Nothing is written.
    async fn prepare_together(
        &self,
        workflow: Workflow,
        id: GroupId,
        message: MessageKey,
        digest: [u8; 32],
        known: Option<&Standing>,
    ) -> Result<Prepared, Error> {
        let now = self.inner.clock.wall();
        let settings = self.inner.settings();
        let Workflow { kind, tasks, callback, is_always, .. } = workflow;
        let count = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let named: Vec<TaskId> = tasks.iter().chain(&callback).filter_map(|task| task.id.clone()).collect();
        let mut earlier = self.earlier(&named, now).await?;
        let mut generation = known.map_or_else(|| self.next_generation(now), |known| known.head.generation);
        if known.is_none() {
            // One sending for all of them, later than all that is stored of each.
            generation = named.iter().fold(generation, |least, id| least.max(earlier.following(id, least)));
        }
        let mut signatures = Vec::with_capacity(tasks.len());
        let mut seen = HashSet::with_capacity(tasks.len());
        for (i, mut task) in tasks.into_iter().enumerate() {
            let path = |error: Error| error.within(&format!("tasks[{i}]"));
            let position = u32::try_from(i).unwrap_or(u32::MAX).saturating_add(1);
            task.id.get_or_insert_with(|| TaskId::trusted(format!("task_{}", message.derived_uuid(position))));
            let mut signature = self.checked(task, now).map_err(path)?;
            envelope::belong(signature.headers.get_or_insert_default(), &id);
            if !seen.insert(signature.uuid.clone()) {
                return Err(path(Error::invalid("id", "is that of another task of the request")));
            }
            signatures.push(signature);
        }
        let ids: Vec<TaskId> = signatures.iter().map(|signature| TaskId::trusted(signature.uuid.as_str())).collect();
        let mut announced = Vec::new();
        let mut announce = |signature: &mut Signature| {
            envelope::mark(signature.headers.get_or_insert_default(), generation, 0);
            announced.push(self.announced(signature, now));
        };
        let callback = match callback {
            None => None,
            Some(mut task) => {
                let path = |error: Error| error.within("callback");
                task.id.get_or_insert_with(|| TaskId::trusted(format!("chord_{}", message.derived_uuid(CALLBACK))));
                let mut signature = self.checked(task, now).map_err(path)?;
                if seen.contains(&signature.uuid) {
                    return Err(path(Error::invalid("id", "is that of one of `tasks`")));
                }
                announce(&mut signature);
                Some((TaskId::trusted(signature.uuid.as_str()), envelope::seal(&signature)))
            }
        };
        if kind == Kind::Chain {
            let mut next: Option<Body> = None;
            for (i, signature) in signatures.iter_mut().enumerate().rev() {
                let own = signature.on_success.clone();
                if let Some(next) = next.take() {
                    signature.on_success.get_or_insert_default().insert(0, next);
                }
                if i > 0 {
                    announce(signature);
                    next = Some(Body(envelope::seal(signature)));
                    // All that is behind it would be kept once more for each task before it.
                    signature.on_success = own;
                }
            }
            signatures.truncate(1);
        } else {
            let group_task_count = i64::from(count);
            // A callback that is sent in any case is none that Machinery knows.
            let carried = callback.as_ref().filter(|_| !is_always && self.inner.guarantees.broker.shared);
            for signature in &mut signatures {
                id.as_str().clone_into(&mut signature.group_uuid);
                signature.group_task_count = group_task_count;
                signature.chord_callback = carried.map(|(_, body)| Body(body.clone()));
            }
        }
        let mut sendings = Vec::with_capacity(signatures.len());
        for (i, signature) in signatures.into_iter().enumerate() {
            let position = u32::try_from(i).unwrap_or(u32::MAX).saturating_add(1);
            let sending = message_of(signature, message.derive(position), now, generation, &settings);
            let field = if kind == Kind::Chain { "tasks".to_owned() } else { format!("tasks[{i}].args") };
            self.sized(&sending, &field)?;
            sendings.push(sending);
        }
        let head = Head {
            id,
            kind,
            generation,
            message,
            digest,
            count,
            callback: callback.as_ref().map(|(_, body)| Callback { body: body.clone(), is_always }),
            at: now,
            is_shared: self.inner.guarantees.broker.shared,
            keep: settings.results_expire_in.max(settings.request_window),
        };
        let callback = callback.map(|(task, _)| task);
        Ok(Prepared { head, tasks: ids, callback, announced, sendings, earlier })
    }

    /// The state of a task that is sent later.
    fn announced(&self, signature: &Signature, now: WallTime) -> StateWrite {
        let task = TaskId::trusted(signature.uuid.as_str());
        let delay = signature.eta.map(Timestamp::to_wall).map_or(Duration::ZERO, |eta| now.until(eta));
        let keep = WAITING_KEPT.max(self.inner.settings().results_expire_in) + delay;
        StateWrite { state: bare_state(signature, &task, Status::Pending, 1, now), keep }
    }

    async fn write_together(
        &self,
        prepared: &Prepared,
        now: WallTime,
        is_any_sent: &mut bool,
    ) -> Result<(), StoreError> {
        let inner = &self.inner;
        let head = &prepared.head;
        if head.kind != Kind::Chain {
            let keep = WAITING_KEPT.max(inner.settings().results_expire_in);
            inner.stores.backend.put_group(&prepared.meta(), keep, now).await?;
        }
        for states in prepared.announced.chunks(ANNOUNCED_MAX) {
            for answer in inner.stores.backend.write(states, now).await {
                answer?;
            }
        }
        inner.failpoints.reach(Point::GroupAnnounced).await;
        let batch_max = inner.guarantees.broker.batch_max.get();
        let mut looked = inner.clock.now();
        for chunk in prepared.sendings.chunks(batch_max) {
            let answers = self.write_new(chunk, &prepared.earlier, now).await;
            *is_any_sent |= answers.iter().any(Result::is_ok);
            answers.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
            inner.failpoints.reach(Point::GroupPartly).await;
            if inner.clock.now().duration_since(looked) > SENDING_MAX / 4 {
                // Whoever looks knows that it is being worked on.
                looked = inner.clock.now();
                let later = inner.clock.wall().plus(SENDING_MAX);
                inner.stores.ledger.joins().look(&[(head.id.clone(), later, 0)]).await?;
            }
        }
        inner.failpoints.reach(Point::GroupSent).await;
        inner.stores.ledger.joins().sent(std::slice::from_ref(&head.id)).await?;
        let first = inner.clock.wall().plus(FIRST_LOOK);
        inner.stores.ledger.joins().look(&[(head.id.clone(), first, 0)]).await
    }
}

/// Everything that a send asks for.
fn digest(workflow: &Workflow) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{:?} {} {}", workflow.kind, workflow.is_always, workflow.tasks.len()));
    hash.update(workflow.id.as_ref().map_or("", GroupId::as_str));
    let tasks: &mut dyn Iterator<Item = &Submission> = &mut workflow.tasks.iter().chain(&workflow.callback);
    tasks.for_each(|task| claims::digest(&mut hash, task));
    hash.finalize().into()
}
