//! How far a group is, now and as it goes on.

use std::time::SystemTime;

use tonic::Streaming;

use crate::error::Error;
use crate::jitter::Backoff;
use crate::producer::async_result::{TaskState, is_passing};
use crate::producer::client::{Client, tasks_of};
use crate::proto::{self, GroupKind};

/// How far a group, chord or chain is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GroupProgress {
    /// The id.
    pub group_id: String,
    /// What its tasks are to each other.
    pub kind: GroupKind,
    /// How many tasks there are, the callback of a chord not counted.
    pub total: u32,
    /// How many of them have ended, well or badly.
    pub ended: u32,
    /// How many of them have failed.
    pub failed: u32,
    /// Whether all have ended, and of a chord the callback too.
    pub completed: bool,
    /// When they were sent, where it is known.
    pub created_at: Option<SystemTime>,
    /// The state of the callback of a chord, as far as it is known.
    pub callback: Option<TaskState>,
}

impl From<proto::Group> for GroupProgress {
    fn from(group: proto::Group) -> Self {
        Self {
            kind: group.kind(),
            group_id: group.group_id,
            total: group.total,
            ended: group.ended,
            failed: group.failed,
            completed: group.completed,
            created_at: group.created_at.and_then(|at| at.try_into().ok()),
            callback: group.callback.map(TaskState::from),
        }
    }
}

/// How far a group is, again and again: at once, and then whenever more has ended.
#[derive(Debug)]
pub struct GroupWatch {
    client: Client,
    group_id: String,
    stream: Option<Streaming<proto::WatchStateResponse>>,
    last: Option<GroupProgress>,
    backoff: Backoff,
    /// Why nothing is told at present.
    trouble: Option<Error>,
}

impl GroupWatch {
    pub(super) fn new(client: Client, group_id: String) -> Self {
        Self { client, group_id, stream: None, last: None, backoff: Backoff::random(), trouble: None }
    }

    /// The next progress that differs from the one before; none behind one that is completed. A group that is not known yet
    /// is waited for, and so is a server that is away. Cancel-safe.
    ///
    /// # Errors
    /// What the server refuses for good, such as an id that is none.
    pub async fn next(&mut self) -> Result<Option<GroupProgress>, Error> {
        loop {
            if self.last.as_ref().is_some_and(|last| last.completed) {
                return Ok(None);
            }
            let error = match self.told().await {
                Ok(Some(progress)) if self.last.as_ref() != Some(&progress) => {
                    self.last = Some(progress.clone());
                    return Ok(Some(progress));
                }
                // A stream that is opened again begins with what is known already.
                Ok(Some(_)) => continue,
                Ok(None) => Error::Broken { message: "the server ended the watch".into() },
                Err(error) => error,
            };
            self.stream = None;
            if !is_passing(&error) {
                return Err(error);
            }
            let pause = error.retry_delay().unwrap_or_default().max(self.backoff.next());
            self.trouble = Some(error);
            tokio::time::sleep(pause).await;
        }
    }

    /// Why nothing is told at present, if the server is away.
    pub(super) fn trouble(self) -> Option<Error> {
        self.trouble
    }

    async fn told(&mut self) -> Result<Option<GroupProgress>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => {
                let opened = self.client.read(|channel| {
                    let request = proto::WatchStateRequest {
                        group_id: self.group_id.clone(),
                        ..proto::WatchStateRequest::default()
                    };
                    async move { tasks_of(channel).watch_state(request).await }
                });
                empty.insert(opened.await?)
            }
        };
        let told = stream.message().await?;
        self.backoff.reset();
        self.trouble = None;
        Ok(told.map(|told| told.group.unwrap_or_default().into()))
    }
}
