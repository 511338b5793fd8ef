//! Sending tasks that belong together.

use super::result::{AsyncChain, AsyncChord, AsyncGroup};
use super::{Chain, Chord, Group, Parts, member};
use crate::error::Error;
use crate::producer::client::{Client, tasks_of};
use crate::proto;

impl Client {
    /// Sends a group. OK means that the server's broker has all of its tasks.
    ///
    /// It is repeated as [`ClientBuilder::retry_for`](crate::ClientBuilder::retry_for) says, under its request id, so it is done
    /// once.
    ///
    /// # Errors
    /// As [`Client::send`]; GROUP_EXISTS.
    pub async fn send_group(&self, group: Group) -> Result<AsyncGroup, Error> {
        let Group { mut parts } = group;
        let tasks = parts.take(self.default_queue())?;
        let ids = ids(&tasks);
        let request = proto::SendGroupRequest { group_id: parts.id.clone(), request_id: name(&parts), tasks };
        let sent = self
            .send_named(|channel| {
                let request = self.timed(request.clone());
                async move { tasks_of(channel).send_group(request).await }
            })
            .await?;
        Ok(AsyncGroup::new(self.clone(), sent.group_id, told(sent.task_ids, ids)))
    }

    /// Sends a chain. OK means that the server's broker has its first task, with the others in it.
    ///
    /// # Errors
    /// As [`Client::send_group`].
    pub async fn send_chain(&self, chain: Chain) -> Result<AsyncChain, Error> {
        let Chain { mut parts } = chain;
        let tasks = parts.take(self.default_queue())?;
        let ids = ids(&tasks);
        let request = proto::SendChainRequest { group_id: parts.id.clone(), request_id: name(&parts), tasks };
        let sent = self
            .send_named(|channel| {
                let request = self.timed(request.clone());
                async move { tasks_of(channel).send_chain(request).await }
            })
            .await?;
        Ok(AsyncChain::new(AsyncGroup::new(self.clone(), sent.group_id, told(sent.task_ids, ids))))
    }

    /// Sends a chord. OK means that the server's broker has all of its tasks, and the server the callback.
    ///
    /// # Errors
    /// As [`Client::send_group`].
    pub async fn send_chord(&self, chord: Chord) -> Result<AsyncChord, Error> {
        let Chord { mut parts, callback, always } = chord;
        let tasks = parts.take(self.default_queue())?;
        let ids = ids(&tasks);
        let request = proto::SendChordRequest {
            group_id: parts.id.clone(),
            request_id: name(&parts),
            tasks,
            callback: Some(member(callback, self.default_queue())?),
            always,
        };
        let sent = self
            .send_named(|channel| {
                let request = self.timed(request.clone());
                async move { tasks_of(channel).send_chord(request).await }
            })
            .await?;
        let group = AsyncGroup::new(self.clone(), sent.group_id, told(sent.task_ids, ids));
        Ok(AsyncChord::new(group, self.result(sent.callback_id)))
    }

    /// A group, chord or chain by its id, whoever sent it.
    pub fn group(&self, group_id: impl Into<String>) -> AsyncGroup {
        AsyncGroup::new(self.clone(), group_id.into(), Vec::new())
    }
}

/// The name under which the send may be repeated.
fn name(parts: &Parts) -> String {
    if parts.request_id.is_empty() {
        return uuid::Uuid::now_v7().simple().to_string();
    }
    parts.request_id.clone()
}

fn ids(tasks: &[proto::Task]) -> Vec<String> {
    tasks.iter().map(|task| task.id.clone()).collect()
}

/// The server leaves out what the request had named; what it had not, the server makes, which keeps the request small.
fn told(by_server: Vec<String>, of_request: Vec<String>) -> Vec<String> {
    if by_server.is_empty() { of_request } else { by_server }
}
