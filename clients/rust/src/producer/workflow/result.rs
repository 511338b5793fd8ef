//! What became of tasks that belong together.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::progress::{GroupProgress, GroupWatch};
use crate::error::Error;
use crate::producer::async_result::{AsyncResult, TaskState};
use crate::producer::client::{Client, tasks_of};
use crate::proto::{self, ErrorReason, FailureReason};
use crate::value::FromResults;

/// Tasks asked for at a time; the most that a server answers.
const PAGE_SIZE: u32 = 1000;
/// As good as for ever, and can be added to every moment.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// A group that was sent; or any group, chord or chain, by its id. Cheap to clone but for its ids.
#[derive(Debug, Clone)]
pub struct AsyncGroup {
    client: Client,
    group_id: String,
    task_ids: Vec<String>,
}

/// A chain that was sent.
#[derive(Debug, Clone)]
pub struct AsyncChain {
    group: AsyncGroup,
}

/// A chord that was sent.
#[derive(Debug, Clone)]
pub struct AsyncChord {
    group: AsyncGroup,
    callback: AsyncResult,
}

impl AsyncGroup {
    pub(super) fn new(client: Client, group_id: String, task_ids: Vec<String>) -> Self {
        Self { client, group_id, task_ids }
    }

    /// The id of the group.
    pub fn id(&self) -> &str {
        &self.group_id
    }

    /// The results of its tasks, in order; none where it was not sent but named by [`Client::group`]: see [`AsyncGroup::states`].
    pub fn results(&self) -> impl ExactSizeIterator<Item = AsyncResult> + '_ {
        self.task_ids.iter().map(|id| self.client.result(id.as_str()))
    }

    /// How far it is now.
    ///
    /// # Errors
    /// GROUP_UNKNOWN: never sent here, or it has expired. Else as the server says.
    pub async fn progress(&self) -> Result<GroupProgress, Error> {
        Ok(self.page(1, "").await?.group.unwrap_or_default().into())
    }

    /// How far it is, as it goes on.
    pub fn watch(&self) -> GroupWatch {
        GroupWatch::new(self.client.clone(), self.group_id.clone())
    }

    /// The states of its tasks now, in order. Of one whose state is not kept any more there is the id only.
    ///
    /// # Errors
    /// As [`AsyncGroup::progress`].
    pub async fn states(&self) -> Result<Vec<TaskState>, Error> {
        let (mut states, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.page(PAGE_SIZE, &token).await?;
            states.extend(page.tasks.into_iter().map(TaskState::from));
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(states);
            }
        }
    }

    /// Waits until all of its tasks have ended, well or badly, and the callback of a chord too; through restarts of the server.
    ///
    /// # Errors
    /// [`Error::GroupTimeout`]: not ended within `timeout`. If the server is away by then, why it cannot be asked.
    pub async fn wait(&self, timeout: Duration) -> Result<GroupProgress, Error> {
        self.follow(timeout, false).await
    }

    /// Waits for the results of all its tasks, in their order: of each `()`, one type, or a tuple of several.
    ///
    /// # Errors
    /// [`Error::TaskFailed`]: a task has failed, whatever becomes of the others: the first in their order, as soon as there is
    /// one. [`Error::Value`]: other results. TASK_UNKNOWN: a state has expired. Else as [`AsyncGroup::wait`].
    pub async fn get<T: FromResults>(&self, timeout: Duration) -> Result<Vec<T>, Error> {
        self.follow(timeout, true).await?;
        self.states().await?.into_iter().map(native).collect()
    }

    /// Cancels what has not run: each task as [`AsyncResult::cancel`] does, those that are not sent yet and the callback of a
    /// chord among them. How many tasks each answer is of.
    ///
    /// # Errors
    /// GROUP_UNKNOWN: never sent here, or it has expired. Else as the server says; cancelling again is safe.
    pub async fn cancel(&self) -> Result<proto::CancelGroupResponse, Error> {
        // Cancelling again changes nothing more, so it may be repeated like a read.
        self.client
            .read(|channel| {
                let request = self.client.timed(proto::CancelGroupRequest { group_id: self.group_id.clone() });
                async move { tasks_of(channel).cancel_group(request).await }
            })
            .await
    }

    /// The failure of the first task that failed by itself; else of one that did not run for some other's sake.
    async fn first_failure(&self) -> Result<(), Error> {
        let failures = self.states().await?.into_iter().filter_map(|state| state.failure());
        let first = failures.min_by_key(|failure| failure.reason == FailureReason::NotRun);
        first.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Waits for the end of all; with `until_failure`, an error as soon as a task has failed.
    async fn follow(&self, timeout: Duration, until_failure: bool) -> Result<GroupProgress, Error> {
        let deadline = Instant::now() + timeout.min(TIMEOUT_MAX);
        let mut watch = self.watch();
        let end = timeout_at(deadline, async {
            let mut failed = 0;
            loop {
                let Some(progress) = watch.next().await? else { continue };
                // Looked for only when there are more of them: it reads all pages.
                if until_failure && progress.failed > failed {
                    failed = progress.failed;
                    self.first_failure().await?;
                }
                if progress.completed {
                    return Ok(progress);
                }
            }
        });
        match end.await {
            Ok(end) => end,
            Err(_elapsed) => {
                let late = Error::GroupTimeout { group_id: self.group_id.clone(), timeout };
                Err(watch.trouble().unwrap_or(late))
            }
        }
    }

    async fn page(&self, page_size: u32, token: &str) -> Result<proto::GetGroupResponse, Error> {
        self.client
            .read(|channel| {
                let (group_id, page_token) = (self.group_id.clone(), token.to_owned());
                let request = self.client.timed(proto::GetGroupRequest { group_id, page_size, page_token });
                async move { tasks_of(channel).get_group(request).await }
            })
            .await
    }
}

impl AsyncChain {
    pub(super) fn new(group: AsyncGroup) -> Self {
        Self { group }
    }

    /// The id of the chain.
    pub fn id(&self) -> &str {
        self.group.id()
    }

    /// Its tasks together: their results, states and progress.
    pub fn group(&self) -> &AsyncGroup {
        &self.group
    }

    /// Waits for the results of the last task: `()`, one type, or a tuple of several.
    ///
    /// # Errors
    /// [`Error::TaskFailed`]: a task has failed, the first one that did. Else as [`AsyncGroup::get`].
    pub async fn get<T: FromResults>(&self, timeout: Duration) -> Result<T, Error> {
        self.group.follow(timeout, true).await?;
        let last = self.group.results().last();
        let last = last.ok_or_else(|| Error::Broken { message: "the server named no task of the chain".into() })?;
        native(last.state().await?)
    }

    /// Cancels what has not run, as [`AsyncGroup::cancel`].
    ///
    /// # Errors
    /// As [`AsyncGroup::cancel`].
    pub async fn cancel(&self) -> Result<proto::CancelGroupResponse, Error> {
        self.group.cancel().await
    }
}

impl AsyncChord {
    pub(super) fn new(group: AsyncGroup, callback: AsyncResult) -> Self {
        Self { group, callback }
    }

    /// The id of the chord.
    pub fn id(&self) -> &str {
        self.group.id()
    }

    /// Its tasks together: their results, states and progress. It has ended when the callback has.
    pub fn group(&self) -> &AsyncGroup {
        &self.group
    }

    /// The result of the callback.
    pub fn callback(&self) -> &AsyncResult {
        &self.callback
    }

    /// Waits for the results of the callback: `()`, one type, or a tuple of several.
    ///
    /// # Errors
    /// [`Error::TaskFailed`]: the callback has failed; or it did not run, as a task before it has failed: that one's failure.
    /// Else as [`AsyncResult::get`].
    pub async fn get<T: FromResults>(&self, timeout: Duration) -> Result<T, Error> {
        let state = self.callback.wait(timeout).await?;
        if state.failure_reason == FailureReason::NotRun {
            self.group.first_failure().await?;
        }
        native(state)
    }

    /// Cancels what has not run, the callback among it, as [`AsyncGroup::cancel`].
    ///
    /// # Errors
    /// As [`AsyncGroup::cancel`].
    pub async fn cancel(&self) -> Result<proto::CancelGroupResponse, Error> {
        self.group.cancel().await
    }
}

/// The results in a final state.
fn native<T: FromResults>(state: TaskState) -> Result<T, Error> {
    match state.failure() {
        Some(failure) => Err(failure.into()),
        None if state.is_success() => Ok(T::from_results(state.results)?),
        None => Err(Error::Refused {
            code: tonic::Code::NotFound,
            reason: ErrorReason::TaskUnknown,
            message: format!("the state of task {:?} is not kept any more", state.task_id),
            field: None,
            retry_delay: None,
        }),
    }
}
