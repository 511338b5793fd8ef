//! Claims: what a send is called by its sender, so that the same send again is recognised.
//!
//! A claim goes from *claimed* to *published*. Whoever finds it claimed sends again what it holds, under the same ids and
//! byte for byte, and the copy is recognised when it is met. Whoever finds it published answers its task.

use std::time::Duration;

use async_trait::async_trait;

use crate::backend::StateWrite;
use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{MessageKey, TaskId};

use super::Lifetime;

/// What a claim is found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimName {
    /// The `request_id` of a send.
    Request(String),
    /// The `idempotency_key` of a task.
    Key(String),
}

/// How long a key is in force, besides the time at which its claim lapses in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until its task has started.
    Started,
    /// Until its task has ended.
    Ended,
    /// Until its claim lapses.
    Time,
}

/// What is sent: the state, the message, and until when the task may be begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Sending {
    /// PENDING.
    pub state: StateWrite,
    /// The message.
    pub message: NewTask,
    /// From this moment on no attempt of the task begins; `None`: it may be begun whenever it is.
    pub expires_at: Option<WallTime>,
}

impl Sending {
    /// The lifetime of the task, if it has one.
    pub fn lifetime(&self) -> Option<Lifetime> {
        let (task, generation) = (&self.message.task, self.state.state.generation);
        self.expires_at.map(|at| Lifetime { at, task: task.clone(), generation })
    }
}

/// A send with a name: of the request, of the task, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The request's id.
    pub request: Option<String>,
    /// Digest of what was asked: under one request id it must be the same.
    pub digest: [u8; 32],
    /// The idempotency key.
    pub key: Option<KeyClaim>,
    /// What is sent, if nothing was under these names.
    pub sending: Sending,
    /// Now.
    pub at: WallTime,
    /// How long the request id is remembered, and a claim that is not published.
    pub window: Duration,
}

/// The part of a [`Claim`] that is about the idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyClaim {
    /// The key.
    pub key: String,
    /// How long it is in force.
    pub until: Until,
    /// When it lapses in any case, once published.
    pub lapses_at: WallTime,
    /// What the caller found out about the holder it was told of.
    pub judged: Option<Judged>,
}

/// Whether the key of a task that holds it is in force. Of another holder than the one named it says nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// No longer: the claim may replace it.
    Free(MessageKey),
    /// It is.
    InForce(MessageKey),
}

/// The task that holds a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// The task.
    pub task: TaskId,
    /// Which sending of it.
    pub generation: u64,
    /// Its message.
    pub message: MessageKey,
    /// How long the key is in force.
    pub until: Until,
    /// It is not known to be published.
    pub is_open: bool,
}

/// The answer to a [`Claim`].
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// Nothing was under these names: it is claimed now. Send it, then say so.
    New,
    /// Claimed before, and not known to be published: send this, then say so.
    Again(Box<Sending>),
    /// Published before: the task.
    Sent(TaskId),
    /// A task holds the key: look whether it is in force, and claim again with what was found. Nothing changed.
    Held(Holder),
    /// The request id was used for something else. Nothing changed.
    Reused,
    /// Only of a send that claims and publishes in several steps: claimed, and then the send failed. Nothing is sent and nothing
    /// claimed any more, unless the error says that this is not known.
    Failed(StoreError),
}

/// Names of sends, compared and set.
///
/// # Errors
/// As [`super::Ledger`].
#[async_trait]
pub trait Claims: Send + Sync {
    /// Claims the names of each send, both or neither, as if one after another. What has lapsed at [`Claim::at`] is as if
    /// it had never been. The request id is looked at first: it names the send, whatever became of the key.
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError>;

    /// Says that these messages are published: the claims under these names, if they are of this message, are kept until
    /// they lapse, without what was sent.
    async fn published(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<(), StoreError>;

    /// Takes claims back whose messages were definitely not published. `false`: one of the names is of another message, or
    /// published, or somebody was answered [`Claimed::Again`] meanwhile and may have published it; nothing changed then.
    async fn unclaim(&self, items: &[(Vec<ClaimName>, MessageKey)]) -> Result<Vec<bool>, StoreError>;
}

/// What stands under one name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) digest: [u8; 32],
    pub(crate) task: TaskId,
    pub(crate) generation: u64,
    pub(crate) message: MessageKey,
    pub(crate) until: Until,
    pub(crate) lapses_at: WallTime,
    /// While it is not known to be published.
    pub(crate) open: Option<Open>,
}

/// A claim that is not known to be published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Open {
    pub(crate) sending: Sending,
    /// Somebody else was told to send it too.
    pub(crate) is_joined: bool,
    /// When it lapses, once published.
    pub(crate) lapses_at: WallTime,
}

/// Whether what is claimed is published in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is published later, and may never be.
    Claim,
    /// It is published with it.
    Publish,
}

impl Claim {
    /// Under which names.
    pub fn names(&self) -> Vec<ClaimName> {
        self.request_name().into_iter().chain(self.key_name()).collect()
    }

    /// The name of its request.
    pub(crate) fn request_name(&self) -> Option<ClaimName> {
        self.request.clone().map(ClaimName::Request)
    }

    /// The name of its key.
    pub(crate) fn key_name(&self) -> Option<ClaimName> {
        self.key.as_ref().map(|key| ClaimName::Key(key.key.clone()))
    }

    fn held(&self, until: Until, lapses_at: WallTime, step: Step) -> Held {
        let open = |sending: &Sending| Open { sending: sending.clone(), is_joined: false, lapses_at };
        let open = (step == Step::Claim).then(|| open(&self.sending));
        Held {
            digest: self.digest,
            task: self.sending.message.task.clone(),
            generation: self.sending.state.state.generation,
            message: self.sending.message.key.clone(),
            until,
            // What is never published is forgotten with its request, whatever was asked of the key.
            lapses_at: if open.is_some() { self.at.plus(self.window) } else { lapses_at },
            open,
        }
    }

    /// The answer, given what stands under its names, and what is to be stored. The rule of every room.
    pub(crate) fn judge(
        &self,
        by_request: Option<Held>,
        by_key: Option<Held>,
        step: Step,
    ) -> (Claimed, Vec<(ClaimName, Held)>) {
        let live = |held: &Held| held.lapses_at > self.at;
        if let (Some(name), Some(held)) = (self.request_name(), by_request.filter(live)) {
            if held.digest != self.digest {
                return (Claimed::Reused, Vec::new());
            }
            return held.again(name);
        }
        if let (Some(key), Some(name), Some(held)) = (&self.key, self.key_name(), by_key.filter(live)) {
            let is_free = matches!(&key.judged, Some(Judged::Free(message)) if *message == held.message);
            let is_in_force = held.until == Until::Time
                || matches!(&key.judged, Some(Judged::InForce(message)) if *message == held.message);
            if !is_in_force && !is_free {
                return (Claimed::Held(held.holder()), Vec::new());
            }
            if is_in_force {
                // The request is remembered beside the key, so that it is the same send also when the key is free again.
                let request = self.request_name().map(|name| (name, held.joined_by(self)));
                let (answer, mut writes) = held.again(name);
                writes.extend(request);
                return (answer, writes);
            }
        }
        let request = self.request_name().map(|name| (name, self.held(Until::Time, self.at.plus(self.window), step)));
        let key = self.key.as_ref().map(|key| self.held(key.until, key.lapses_at, step));
        let writes = request.into_iter().chain(self.key_name().zip(key)).collect();
        (Claimed::New, writes)
    }
}

impl Held {
    fn again(mut self, name: ClaimName) -> (Claimed, Vec<(ClaimName, Self)>) {
        let Some(open) = &mut self.open else { return (Claimed::Sent(self.task), Vec::new()) };
        open.is_joined = true;
        (Claimed::Again(Box::new(open.sending.clone())), vec![(name, self)])
    }

    fn holder(&self) -> Holder {
        Holder {
            task: self.task.clone(),
            generation: self.generation,
            message: self.message.clone(),
            until: self.until,
            is_open: self.open.is_some(),
        }
    }

    /// What stands under the request id of a claim whose key this one holds. Not published, it lapses with this one: the
    /// decision about the message is remembered only so long.
    fn joined_by(&self, claim: &Claim) -> Self {
        let kept = claim.at.plus(claim.window);
        let open = self.open.clone().map(|open| Open { is_joined: true, lapses_at: kept, ..open });
        let lapses_at = if open.is_some() { self.lapses_at } else { kept };
        Self { digest: claim.digest, until: Until::Time, lapses_at, open, ..self.clone() }
    }

    /// What stands there once `message` is published; `None`: nothing changes.
    pub(crate) fn published(self, message: &MessageKey) -> Option<Self> {
        let lapses_at = self.open.as_ref().filter(|_| self.message == *message)?.lapses_at;
        Some(Self { open: None, lapses_at, ..self })
    }

    /// Whether `message` can be taken back.
    pub(crate) fn is_own(&self, message: &MessageKey) -> bool {
        self.message == *message && self.open.as_ref().is_some_and(|open| !open.is_joined)
    }
}
