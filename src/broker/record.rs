//! The stored form of a message: for the rooms that keep it in a format of ours, and for the ledger, which keeps messages
//! that a decision will publish.

use bytes::Bytes;

use crate::clock::WallTime;
use crate::task::{MessageKey, QueueName, TaskId, TaskName};

use super::NewTask;

/// A [`NewTask`] as stored.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NewTaskRecord {
    /// See [`NewTask::key`].
    #[prost(string, tag = "1")]
    pub key: String,
    /// See [`NewTask::task`].
    #[prost(string, tag = "2")]
    pub task: String,
    /// See [`NewTask::name`].
    #[prost(string, tag = "3")]
    pub name: String,
    /// See [`NewTask::queue`].
    #[prost(string, tag = "4")]
    pub queue: String,
    /// See [`NewTask::routing_key`].
    #[prost(string, optional, tag = "5")]
    pub routing_key: Option<String>,
    /// See [`NewTask::body`].
    #[prost(bytes = "bytes", tag = "6")]
    pub body: Bytes,
    /// See [`NewTask::available_at`], unix ns.
    #[prost(fixed64, optional, tag = "7")]
    pub available_at: Option<u64>,
    /// See [`NewTask::priority`].
    #[prost(uint32, tag = "8")]
    pub priority: u32,
}

impl From<&NewTask> for NewTaskRecord {
    fn from(task: &NewTask) -> Self {
        Self {
            key: task.key.as_str().to_owned(),
            task: task.task.as_str().to_owned(),
            name: task.name.as_str().to_owned(),
            queue: task.queue.as_str().to_owned(),
            routing_key: task.routing_key.clone(),
            body: task.body.clone(),
            available_at: task.available_at.map(|at| at.0),
            priority: task.priority.into(),
        }
    }
}

impl From<NewTaskRecord> for NewTask {
    fn from(record: NewTaskRecord) -> Self {
        Self {
            key: MessageKey::trusted(record.key),
            task: TaskId::trusted(record.task),
            name: TaskName::trusted(record.name),
            queue: QueueName::trusted(record.queue),
            routing_key: record.routing_key,
            body: record.body,
            available_at: record.available_at.map(WallTime),
            priority: u8::try_from(record.priority).unwrap_or(u8::MAX),
        }
    }
}
