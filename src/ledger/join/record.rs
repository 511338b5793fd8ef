//! The stored form of joins, for rooms whose format is ours.

use std::time::Duration;

use bytes::Bytes;

use super::{Callback, Ended, Firing, Head, Kind};
use crate::clock::WallTime;
use crate::ledger::Lifetime;
use crate::ledger::record::EffectsRecord;
use crate::task::record::RecordError;
use crate::task::{GroupId, MessageKey, TaskId};

/// An [`Ended`] as stored.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct EndedRecord {
    /// See [`Ended::group`].
    #[prost(string, tag = "1")]
    pub group: String,
    /// See [`Ended::task`].
    #[prost(string, tag = "2")]
    pub task: String,
    /// See [`Ended::is_failure`].
    #[prost(bool, tag = "3")]
    pub is_failure: bool,
    /// See [`Ended::outcome`].
    #[prost(bytes = "bytes", tag = "4")]
    pub outcome: Bytes,
}

/// A [`Firing`] as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FiringRecord {
    /// See [`Firing::effects`].
    #[prost(message, optional, tag = "1")]
    pub effects: Option<EffectsRecord>,
    /// See [`Firing::begins`].
    #[prost(message, repeated, tag = "2")]
    pub begins: Vec<LifetimeRecord>,
}

/// A [`Lifetime`] as stored in a [`FiringRecord`].
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct LifetimeRecord {
    /// See [`Lifetime::at`], unix ns.
    #[prost(fixed64, tag = "1")]
    pub at: u64,
    /// See [`Lifetime::task`].
    #[prost(string, tag = "2")]
    pub task: String,
    /// See [`Lifetime::generation`].
    #[prost(fixed64, tag = "3")]
    pub generation: u64,
}

/// A [`Head`] as stored.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct HeadRecord {
    /// See [`Head::id`].
    #[prost(string, tag = "1")]
    pub id: String,
    /// Position of the kind in [`KINDS`], from 1.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// See [`Head::generation`].
    #[prost(fixed64, tag = "3")]
    pub generation: u64,
    /// See [`Head::message`].
    #[prost(string, tag = "4")]
    pub message: String,
    /// See [`Head::digest`], 32 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub digest: Bytes,
    /// See [`Head::count`].
    #[prost(uint32, tag = "6")]
    pub count: u32,
    /// See [`Callback::body`]; unset: nothing follows.
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub callback: Option<Bytes>,
    /// See [`Callback::is_always`].
    #[prost(bool, tag = "8")]
    pub is_always: bool,
    /// See [`Head::at`], unix ns.
    #[prost(fixed64, tag = "9")]
    pub at: u64,
    /// See [`Head::is_shared`].
    #[prost(bool, tag = "10")]
    pub is_shared: bool,
    /// See [`Head::keep`], ns.
    #[prost(uint64, tag = "11")]
    pub keep_ns: u64,
}

/// Every [`Kind`], in the order of their numbers.
pub const KINDS: [Kind; 3] = [Kind::Group, Kind::Chord, Kind::Chain];

impl From<&Ended> for EndedRecord {
    fn from(ended: &Ended) -> Self {
        Self {
            group: ended.group.to_string(),
            task: ended.task.to_string(),
            is_failure: ended.is_failure,
            outcome: ended.outcome.clone(),
        }
    }
}

impl From<EndedRecord> for Ended {
    fn from(record: EndedRecord) -> Self {
        Self {
            group: GroupId::trusted(record.group),
            task: TaskId::trusted(record.task),
            is_failure: record.is_failure,
            outcome: record.outcome,
        }
    }
}

impl From<&Firing> for FiringRecord {
    fn from(firing: &Firing) -> Self {
        let lifetime = |lifetime: &Lifetime| LifetimeRecord {
            at: lifetime.at.0,
            task: lifetime.task.to_string(),
            generation: lifetime.generation,
        };
        Self { effects: Some((&firing.effects).into()), begins: firing.begins.iter().map(lifetime).collect() }
    }
}

impl TryFrom<FiringRecord> for Firing {
    type Error = RecordError;

    fn try_from(record: FiringRecord) -> Result<Self, RecordError> {
        let lifetime = |record: LifetimeRecord| Lifetime {
            at: WallTime(record.at),
            task: TaskId::trusted(record.task),
            generation: record.generation,
        };
        Ok(Self {
            effects: record.effects.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            begins: record.begins.into_iter().map(lifetime).collect(),
        })
    }
}

impl From<&Head> for HeadRecord {
    fn from(head: &Head) -> Self {
        Self {
            id: head.id.to_string(),
            kind: KINDS.iter().position(|kind| *kind == head.kind).map_or(0, |at| at as u32 + 1),
            generation: head.generation,
            message: head.message.to_string(),
            digest: Bytes::copy_from_slice(&head.digest),
            count: head.count,
            callback: head.callback.as_ref().map(|callback| callback.body.clone()),
            is_always: head.callback.as_ref().is_some_and(|callback| callback.is_always),
            at: head.at.0,
            is_shared: head.is_shared,
            keep_ns: u64::try_from(head.keep.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<HeadRecord> for Head {
    type Error = RecordError;

    fn try_from(record: HeadRecord) -> Result<Self, RecordError> {
        let kind = (record.kind as usize).checked_sub(1).and_then(|at| KINDS.get(at)).copied();
        Ok(Self {
            id: GroupId::trusted(record.id),
            kind: kind.ok_or(RecordError::Unknown { what: "the kind of a join", number: record.kind })?,
            generation: record.generation,
            message: MessageKey::trusted(record.message),
            digest: record.digest.as_ref().try_into().map_err(|_| RecordError::Missing("the digest"))?,
            count: record.count,
            callback: record.callback.map(|body| Callback { body, is_always: record.is_always }),
            at: WallTime(record.at),
            is_shared: record.is_shared,
            keep: Duration::from_nanos(record.keep_ns),
        })
    }
}
