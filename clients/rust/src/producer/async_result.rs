//! What became of a task.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::client::{Client, tasks_of};
use super::task::to_proto;
use crate::error::Error;
use crate::jitter::Backoff;
use crate::proto::{self, Arg, CancelResult, ErrorReason, FailureReason, TaskStatus};
use crate::value::{FromResults, ValueError};

/// One call waits at most this long at the server; longer waits are repeated. Short enough for every proxy between.
const ROUND_MAX: Duration = Duration::from_secs(30);
/// How much later than the server's own timeout its answer may come before the call is given up.
const ROUND_SLACK: Duration = Duration::from_secs(5);

/// A task that was sent: its id, and the way to its results. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AsyncResult {
    client: Client,
    task_id: String,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskState {
    /// The id.
    pub task_id: String,
    /// The name; empty where the backend did not keep it.
    pub task_name: String,
    /// Where it stands.
    pub status: TaskStatus,
    /// The results, in SUCCESS only.
    pub results: Vec<Arg>,
    /// The text of the last failure, in RETRY and FAILURE; else empty.
    pub error: String,
    /// Why, in FAILURE.
    pub failure_reason: FailureReason,
    /// The attempt this state belongs to, from 1; 0 before the first.
    pub attempt: u32,
    /// When the task was sent, where it is known.
    pub created_at: Option<SystemTime>,
    /// When this state was written, where it is known.
    pub updated_at: Option<SystemTime>,
}

/// A task ended in FAILURE.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task {task_id:?} failed: {message}")]
#[non_exhaustive]
pub struct TaskError {
    /// The task.
    pub task_id: String,
    /// What its last attempt said.
    pub message: String,
    /// Why it ended.
    pub reason: FailureReason,
}

impl TaskState {
    /// Whether the task has ended.
    pub fn is_completed(&self) -> bool {
        self.is_success() || self.is_failure()
    }

    /// Whether the task has ended well.
    pub fn is_success(&self) -> bool {
        self.status == TaskStatus::Success
    }

    /// Whether the task has ended badly.
    pub fn is_failure(&self) -> bool {
        self.status == TaskStatus::Failure
    }

    /// The results as native values: `()`, one type, or a tuple.
    ///
    /// # Errors
    /// [`ValueError`]: another number of them, or other types. A task without results yet has none.
    pub fn results_as<T: FromResults>(&self) -> Result<T, ValueError> {
        T::from_results(self.results.clone())
    }

    /// The failure, if the task has ended in one.
    pub fn failure(&self) -> Option<TaskError> {
        self.is_failure().then(|| TaskError {
            task_id: self.task_id.clone(),
            message: self.error.clone(),
            reason: self.failure_reason,
        })
    }
}

impl From<proto::TaskState> for TaskState {
    fn from(state: proto::TaskState) -> Self {
        Self {
            status: state.status(),
            failure_reason: state.failure_reason(),
            task_id: state.task_id,
            task_name: state.task_name,
            results: state.results,
            error: state.error,
            attempt: state.attempt,
            created_at: state.created_at.and_then(|at| at.try_into().ok()),
            updated_at: state.updated_at.and_then(|at| at.try_into().ok()),
        }
    }
}

impl AsyncResult {
    pub(super) fn new(client: Client, task_id: String) -> Self {
        Self { client, task_id }
    }

    /// The id of the task.
    pub fn id(&self) -> &str {
        &self.task_id
    }

    /// Where the task stands now.
    ///
    /// # Errors
    /// TASK_UNKNOWN: never sent here, or its state has expired. Else as the server says.
    pub async fn state(&self) -> Result<TaskState, Error> {
        self.client.get_state(&self.task_id).await
    }

    /// Whether the task has ended.
    ///
    /// # Errors
    /// As [`AsyncResult::state`].
    pub async fn is_completed(&self) -> Result<bool, Error> {
        Ok(self.state().await?.is_completed())
    }

    /// Whether the task has ended well.
    ///
    /// # Errors
    /// As [`AsyncResult::state`].
    pub async fn is_success(&self) -> Result<bool, Error> {
        Ok(self.state().await?.is_success())
    }

    /// Whether the task has ended badly.
    ///
    /// # Errors
    /// As [`AsyncResult::state`].
    pub async fn is_failure(&self) -> Result<bool, Error> {
        Ok(self.state().await?.is_failure())
    }

    /// Cancels the task: what waits ends at once, what runs is told to stop, and nothing of it is started or retried any
    /// more. Its end is [`FailureReason::Cancelled`], unless it ends otherwise first; [`AsyncResult::wait`] tells.
    ///
    /// # Errors
    /// TASK_UNKNOWN: never sent here, or its state has expired. Else as the server says; cancelling again is safe.
    pub async fn cancel(&self) -> Result<CancelResult, Error> {
        self.client.cancel(&self.task_id).await
    }

    /// Waits for the results: `()`, one type, or a tuple of several.
    ///
    /// # Errors
    /// [`Error::TaskFailed`]: the task ended in FAILURE. [`Error::Value`]: other results. Else as [`AsyncResult::wait`].
    pub async fn get<T: FromResults>(&self, timeout: Duration) -> Result<T, Error> {
        let state = self.wait(timeout).await?;
        match state.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(T::from_results(state.results)?),
        }
    }

    /// Waits for the end of the task, through restarts of the server; its final state.
    ///
    /// # Errors
    /// [`Error::Timeout`]: not ended within `timeout`. If the last thing that happened was a failure to ask (no
    /// connection, TASK_UNKNOWN), that one instead.
    pub async fn wait(&self, timeout: Duration) -> Result<TaskState, Error> {
        // A year is as good as for ever, and can be added to every moment.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(365 * 86_400));
        let mut backoff = Backoff::random();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.wait_once(left.min(ROUND_MAX)).await {
                Ok(Some(state)) => return Ok(state),
                Ok(None) => {
                    backoff.reset();
                    Error::Timeout { task_id: self.task_id.clone(), timeout }
                }
                // Asked again until the time is up: the server may come back, the task may be sent yet.
                Err(error) if is_passing(&error) => {
                    let pause = error.retry_delay().unwrap_or_default().max(backoff.next());
                    tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
                    error
                }
                Err(error) => return Err(error),
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
        }
    }

    /// One call; none if the task has not ended by the end of `round`.
    async fn wait_once(&self, round: Duration) -> Result<Option<TaskState>, Error> {
        let call = self.client.read(|channel| {
            let request = proto::WaitForResultRequest { task_id: self.task_id.clone(), timeout: Some(to_proto(round)) };
            async move { tasks_of(channel).wait_for_result(request).await }
        });
        match tokio::time::timeout(round + ROUND_SLACK, call).await {
            Ok(response) => {
                let response = response?;
                Ok(response.state.filter(|_| response.completed).map(TaskState::from))
            }
            Err(_elapsed) => Err(Error::Broken { message: "the server does not answer".into() }),
        }
    }
}

/// Whether asking again may bring the end of the task.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Connect { .. } | Error::Broken { .. })
        || error.is_retryable()
        || matches!(error.reason(), Some(ErrorReason::TaskUnknown | ErrorReason::DeadlineExceeded))
}
