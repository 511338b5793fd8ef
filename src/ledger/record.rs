//! The stored form of what a ledger keeps, for rooms whose format is ours: protobuf messages, so that fields can be added
//! and old records still read.

use bytes::Bytes;

use crate::backend::record::StateWriteRecord;
use crate::broker::record::NewTaskRecord;
use crate::clock::WallTime;
use crate::task::record::{REASONS, RecordError};
use crate::task::{MessageKey, QueueName, SessionId, TaskId, TaskName};

use super::claim::{Held, Open, Sending, Until};
use super::join::record::EndedRecord;
use super::{DeadTask, Effects, LostAttempt, Session, Subscription};

/// A [`Session`] as stored.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SessionRecord {
    /// See [`Session::id`].
    #[prost(string, tag = "1")]
    pub id: String,
    /// See [`Session::secret_hash`], 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub secret_hash: Bytes,
    /// See [`Session::worker`].
    #[prost(string, tag = "3")]
    pub worker: String,
    /// See [`Session::language`].
    #[prost(string, tag = "4")]
    pub language: String,
    /// See [`Session::version`].
    #[prost(string, tag = "5")]
    pub version: String,
    /// See [`Session::subscriptions`].
    #[prost(message, repeated, tag = "6")]
    pub subscriptions: Vec<SubscriptionRecord>,
    /// See [`Session::concurrency`].
    #[prost(uint32, tag = "7")]
    pub concurrency: u32,
    /// See [`Session::attach`].
    #[prost(uint64, tag = "8")]
    pub attach: u64,
}

/// A [`Subscription`] as stored.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SubscriptionRecord {
    /// See [`Subscription::queue`].
    #[prost(string, tag = "1")]
    pub queue: String,
    /// See [`Subscription::names`].
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
    /// See [`Subscription::weight`].
    #[prost(uint32, tag = "3")]
    pub weight: u32,
}

/// A [`LostAttempt`] as stored.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct LostRecord {
    /// See [`LostAttempt::attempt`].
    #[prost(uint32, tag = "1")]
    pub attempt: u32,
    /// See [`LostAttempt::worker`].
    #[prost(string, tag = "2")]
    pub worker: String,
    /// See [`LostAttempt::at`], unix ns.
    #[prost(fixed64, tag = "3")]
    pub at: u64,
}

/// [`Effects`] as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EffectsRecord {
    /// See [`Effects::states`].
    #[prost(message, repeated, tag = "1")]
    pub states: Vec<StateWriteRecord>,
    /// See [`Effects::publish`].
    #[prost(message, repeated, tag = "2")]
    pub publish: Vec<NewTaskRecord>,
    /// See [`Effects::joins`].
    #[prost(message, repeated, tag = "3")]
    pub joins: Vec<EndedRecord>,
}

/// A [`DeadTask`] as stored.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct DeadRecord {
    /// See [`DeadTask::message`].
    #[prost(string, tag = "1")]
    pub message: String,
    /// See [`DeadTask::task`].
    #[prost(string, tag = "2")]
    pub task: String,
    /// See [`DeadTask::name`].
    #[prost(string, tag = "3")]
    pub name: String,
    /// See [`DeadTask::queue`].
    #[prost(string, tag = "4")]
    pub queue: String,
    /// See [`DeadTask::reason`].
    #[prost(string, tag = "5")]
    pub reason: String,
    /// See [`DeadTask::lost`].
    #[prost(message, repeated, tag = "6")]
    pub lost: Vec<LostRecord>,
    /// See [`DeadTask::at`], unix ns.
    #[prost(fixed64, tag = "7")]
    pub at: u64,
    /// See [`DeadTask::body`].
    #[prost(bytes = "bytes", tag = "8")]
    pub body: Bytes,
    /// See [`DeadTask::kind`], its position in [`crate::task::record::REASONS`].
    #[prost(uint32, tag = "9")]
    pub kind: u32,
    /// See [`DeadTask::attempts`].
    #[prost(uint32, tag = "10")]
    pub attempts: u32,
    /// See [`DeadTask::requeue`].
    #[prost(fixed64, optional, tag = "11")]
    pub requeue: Option<u64>,
}

/// What stands under the name of a send, as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClaimRecord {
    /// Digest of what was asked, 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: Bytes,
    /// The task.
    #[prost(string, tag = "2")]
    pub task: String,
    /// Which sending of it.
    #[prost(fixed64, tag = "3")]
    pub generation: u64,
    /// Its message.
    #[prost(string, tag = "4")]
    pub message: String,
    /// Position of the [`Until`] in [`UNTILS`], from 1.
    #[prost(uint32, tag = "5")]
    pub until: u32,
    /// Unix ns; from then on it is as if it had never been.
    #[prost(fixed64, tag = "6")]
    pub lapses_at: u64,
    /// Set while it is not known to be published.
    #[prost(message, optional, tag = "7")]
    pub open: Option<OpenRecord>,
}

/// What a claim holds that is not known to be published, as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenRecord {
    /// See [`Sending::state`].
    #[prost(message, optional, tag = "1")]
    pub state: Option<StateWriteRecord>,
    /// See [`Sending::message`].
    #[prost(message, optional, tag = "2")]
    pub message: Option<NewTaskRecord>,
    /// Somebody else was told to send it too.
    #[prost(bool, tag = "3")]
    pub is_joined: bool,
    /// When the claim lapses once it is published, unix ns.
    #[prost(fixed64, tag = "4")]
    pub lapses_at: u64,
    /// See [`Sending::expires_at`], unix ns.
    #[prost(fixed64, optional, tag = "5")]
    pub expires_at: Option<u64>,
}

/// Every [`Until`], in the order of their numbers.
pub const UNTILS: [Until; 3] = [Until::Started, Until::Ended, Until::Time];

impl From<&Held> for ClaimRecord {
    fn from(held: &Held) -> Self {
        let open = |open: &Open| OpenRecord {
            state: Some((&open.sending.state).into()),
            message: Some((&open.sending.message).into()),
            is_joined: open.is_joined,
            lapses_at: open.lapses_at.0,
            expires_at: open.sending.expires_at.map(|at| at.0),
        };
        Self {
            digest: Bytes::copy_from_slice(&held.digest),
            task: held.task.to_string(),
            generation: held.generation,
            message: held.message.to_string(),
            until: UNTILS.iter().position(|until| *until == held.until).map_or(0, |at| at as u32 + 1),
            lapses_at: held.lapses_at.0,
            open: held.open.as_ref().map(open),
        }
    }
}

impl TryFrom<ClaimRecord> for Held {
    type Error = RecordError;

    fn try_from(record: ClaimRecord) -> Result<Self, RecordError> {
        let open = |open: OpenRecord| {
            let state = open.state.ok_or(RecordError::Missing("the state to be written"))?.try_into()?;
            let message = open.message.ok_or(RecordError::Missing("the message to be published"))?.into();
            let (is_joined, lapses_at) = (open.is_joined, WallTime(open.lapses_at));
            let sending = Sending { state, message, expires_at: open.expires_at.map(WallTime) };
            Ok::<_, RecordError>(Open { sending, is_joined, lapses_at })
        };
        let until = (record.until as usize).checked_sub(1).and_then(|at| UNTILS.get(at)).copied();
        Ok(Self {
            digest: record.digest.as_ref().try_into().map_err(|_| RecordError::Missing("the digest"))?,
            task: TaskId::trusted(record.task),
            generation: record.generation,
            message: MessageKey::trusted(record.message),
            until: until.ok_or(RecordError::Unknown { what: "the end of a claim", number: record.until })?,
            lapses_at: WallTime(record.lapses_at),
            open: record.open.map(open).transpose()?,
        })
    }
}

impl From<&Session> for SessionRecord {
    fn from(session: &Session) -> Self {
        let subscription = |subscription: &Subscription| SubscriptionRecord {
            queue: subscription.queue.to_string(),
            names: subscription.names.iter().map(ToString::to_string).collect(),
            weight: subscription.weight,
        };
        Self {
            id: session.id.to_string(),
            secret_hash: Bytes::copy_from_slice(&session.secret_hash),
            worker: session.worker.clone(),
            language: session.language.clone(),
            version: session.version.clone(),
            subscriptions: session.subscriptions.iter().map(subscription).collect(),
            concurrency: session.concurrency,
            attach: session.attach,
        }
    }
}

impl TryFrom<SessionRecord> for Session {
    type Error = RecordError;

    fn try_from(record: SessionRecord) -> Result<Self, RecordError> {
        let subscription = |subscription: SubscriptionRecord| Subscription {
            queue: QueueName::trusted(subscription.queue),
            names: subscription.names.into_iter().map(TaskName::trusted).collect(),
            weight: subscription.weight,
        };
        Ok(Self {
            id: SessionId::trusted(record.id),
            secret_hash: record
                .secret_hash
                .as_ref()
                .try_into()
                .map_err(|_| RecordError::Missing("the secret's hash"))?,
            worker: record.worker,
            language: record.language,
            version: record.version,
            subscriptions: record.subscriptions.into_iter().map(subscription).collect(),
            concurrency: record.concurrency,
            attach: record.attach,
        })
    }
}

impl From<&LostAttempt> for LostRecord {
    fn from(lost: &LostAttempt) -> Self {
        Self { attempt: lost.attempt, worker: lost.worker.clone(), at: lost.at.0 }
    }
}

impl From<LostRecord> for LostAttempt {
    fn from(record: LostRecord) -> Self {
        Self { attempt: record.attempt, worker: record.worker, at: WallTime(record.at) }
    }
}

impl From<&Effects> for EffectsRecord {
    fn from(effects: &Effects) -> Self {
        Self {
            states: effects.states.iter().map(Into::into).collect(),
            publish: effects.publish.iter().map(Into::into).collect(),
            joins: effects.joins.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<EffectsRecord> for Effects {
    type Error = RecordError;

    fn try_from(record: EffectsRecord) -> Result<Self, RecordError> {
        Ok(Self {
            states: record.states.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            publish: record.publish.into_iter().map(Into::into).collect(),
            joins: record.joins.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&DeadTask> for DeadRecord {
    fn from(dead: &DeadTask) -> Self {
        Self {
            message: dead.message.to_string(),
            task: dead.task.to_string(),
            name: dead.name.to_string(),
            queue: dead.queue.to_string(),
            reason: dead.reason.clone(),
            lost: dead.lost.iter().map(Into::into).collect(),
            at: dead.at.0,
            body: dead.body.clone(),
            kind: REASONS.iter().position(|kind| *kind == dead.kind).map_or(0, |at| at as u32),
            attempts: dead.attempts,
            requeue: dead.requeue,
        }
    }
}

impl From<DeadRecord> for DeadTask {
    fn from(record: DeadRecord) -> Self {
        Self {
            message: MessageKey::trusted(record.message),
            task: TaskId::trusted(record.task),
            name: TaskName::trusted(record.name),
            queue: QueueName::trusted(record.queue),
            reason: record.reason,
            lost: record.lost.into_iter().map(Into::into).collect(),
            at: WallTime(record.at),
            body: record.body,
            // A number of a later version, or a record from before there was one, is a reason that is not known.
            kind: REASONS.get(record.kind as usize).copied().unwrap_or_default(),
            attempts: record.attempts,
            requeue: record.requeue,
        }
    }
}
