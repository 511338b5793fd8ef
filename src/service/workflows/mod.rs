//! Tasks that belong together: sent as one, joined once, cancelled as one.
//!
//! - `send`: recording and sending them. `adopt`: those that Machinery programs sent.
//! - `behind`: what the end of a task means for others. `look`, `fire`: noticing that all have ended, and what follows.
//! - `cancel`: ending what has not run. `view`: looking, watching.

mod adopt;
pub(super) mod behind;
mod cancel;
mod fire;
mod look;
mod send;
mod view;

use super::Service;
use super::types::{GroupCancelled, GroupTasks, GroupView, Workflow, WorkflowSent};
use crate::error::Error;
use crate::task::GroupId;
pub(super) use look::{Looks, run};
pub use view::GroupWatch;

impl Service {
    /// Accepts tasks that belong together, all or none. `Ok` only once all are durable, or were before. Goes on to its end if
    /// the caller goes away.
    ///
    /// # Errors
    /// As [`Service::submit`], with paths from the request on: `tasks[3].name`, `callback.args`; [`Error::GroupExists`].
    pub async fn send_workflow(&self, workflow: Workflow) -> Result<WorkflowSent, Error> {
        let service = self.clone();
        self.inner.finished(async move { service.send_together(workflow).await }).await.unwrap_or(Err(Error::Draining))
    }

    /// How far a group, chord or chain is.
    ///
    /// # Errors
    /// [`Error::GroupUnknown`]; [`Error::Store`].
    pub async fn group(&self, id: &GroupId) -> Result<GroupView, Error> {
        self.inner.group_view(id).await?.ok_or_else(|| Error::GroupUnknown(id.to_string()))
    }

    /// Tasks of a group, chord or chain, from position `from` on, at most `max`.
    ///
    /// # Errors
    /// [`Error::GroupUnknown`]; [`Error::Store`].
    pub async fn group_tasks(&self, id: &GroupId, from: u32, max: usize) -> Result<GroupTasks, Error> {
        self.inner.tasks_of(id, from, max).await
    }

    /// Cancels what has not run of a group, chord or chain.
    ///
    /// # Errors
    /// [`Error::GroupUnknown`]; [`Error::Store`]: cancel again.
    pub async fn cancel_group(&self, id: &GroupId) -> Result<GroupCancelled, Error> {
        let (inner, id) = (self.inner.clone(), id.clone());
        self.inner.finished(async move { inner.cancel_group(&id).await }).await.unwrap_or(Err(Error::Draining))
    }

    /// Watches how far a group, chord or chain is. One that is not known yet is waited for.
    pub fn watch_group(&self, id: GroupId) -> GroupWatch {
        GroupWatch::new(self, id)
    }
}
