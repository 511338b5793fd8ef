//! A worker's functions without a server, for tests.

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::attempt::Handlers;
use super::context::Until;
use crate::engine::Outcome;
use crate::error::Error;
use crate::producer::async_result::TaskState;
use crate::producer::task::{Task, from_proto};
use crate::proto::{self, FailureReason, Lease, TaskStatus};

/// A function that asks for another attempt for ever is stopped here.
const ATTEMPTS_MAX: u32 = 100;

/// Runs tasks with the functions, middleware and failure handler of a worker, in the caller's own task, with no server:
/// made by [`WorkerBuilder::inline`](crate::WorkerBuilder::inline), for tests of functions.
///
/// Arguments and results are converted as on their way through a server, and a failure says what comes next as it does
/// there. What only a server does is not done: its checks and limits, delays, timeouts, callbacks (`on_success`, `on_error`),
/// and leases that are lost. Progress goes nowhere.
///
/// ```
/// use lineshaft_client::{Failure, Task, Worker, WorkerBuilder};
///
/// fn functions(builder: WorkerBuilder) -> WorkerBuilder {
///     builder.register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) })
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The program: functions(Worker::builder("http://127.0.0.1:7340")).build()?.run().await?;
/// let inline = functions(Worker::builder("nowhere")).inline()?;
/// let state = inline.run(Task::new("add").arg(1i64).arg(2i64)).await?;
/// assert_eq!(state.results_as::<i64>()?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Inline {
    handlers: Handlers,
    is_retrying: bool,
}

impl Inline {
    pub(super) fn new(handlers: Handlers) -> Self {
        Self { handlers, is_retrying: false }
    }

    /// With the further attempts that a failure asks for, one right after the other: by the task's retries, and by
    /// [`Failure::retry_later`](crate::Failure::retry_later). Without this there is one attempt. At most 100 are made.
    #[must_use]
    pub fn with_retries(mut self) -> Self {
        self.is_retrying = true;
        self
    }

    /// Runs `task`; where it stands afterwards: SUCCESS, FAILURE, or RETRY if another attempt would follow.
    ///
    /// # Errors
    /// [`Error::Config`]: no function of that name is registered (on a server such a task waits). [`Error::Value`]: an
    /// argument cannot be written.
    pub async fn run(&self, task: Task) -> Result<TaskState, Error> {
        let mut task = task.try_into_proto()?;
        if self.handlers.function(&task.name).is_none() {
            return Err(Error::Config(format!("no function {:?} is registered", task.name)));
        }
        if task.id.is_empty() {
            task.id = format!("task_{}", uuid::Uuid::new_v4());
        }
        let mut retries_left = task.retry_count;
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(&task, attempt, retries_left).await;
            let state = state(&task, attempt, retries_left, &outcome);
            if state.status != TaskStatus::Retry || !self.is_retrying || attempt >= ATTEMPTS_MAX {
                return Ok(state);
            }
            if let Outcome::Failure { retry_after: None, .. } = outcome {
                retries_left = retries_left.saturating_sub(1);
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, task: &proto::Task, attempt: u32, retries_left: u32) -> Outcome {
        let lease = Lease {
            lease_id: format!("inline-{attempt}"),
            fencing_token: u64::from(attempt),
            attempt,
            task_id: task.id.clone(),
            name: task.name.clone(),
            queue: task.queue.clone(),
            headers: task.headers.clone(),
            retries_left,
            args: task.args.clone(),
            timeout: task.attempt_timeout,
            ..Lease::default()
        };
        let deadline = from_proto(task.attempt_timeout).and_then(|timeout| Instant::now().checked_add(timeout));
        // Nobody listens: progress is lost, which it may always be.
        let (events, _) = mpsc::channel(1);
        self.handlers
            .attempt(0, lease, Until { deadline: deadline.map(Instant::into_std), ..Until::default() }, events)
            .await
    }
}

fn state(task: &proto::Task, attempt: u32, retries_left: u32, outcome: &Outcome) -> TaskState {
    let (status, results, error) = match outcome {
        Outcome::Success(results) => (TaskStatus::Success, results.clone(), String::new()),
        Outcome::Failure { error, is_final, retry_after } => {
            let is_over = *is_final || (retry_after.is_none() && retries_left == 0);
            (if is_over { TaskStatus::Failure } else { TaskStatus::Retry }, Vec::new(), error.clone())
        }
        Outcome::Release => (TaskStatus::Retry, Vec::new(), String::new()),
    };
    let has_failed = status == TaskStatus::Failure;
    TaskState {
        task_id: task.id.clone(),
        task_name: task.name.clone(),
        status,
        results,
        error,
        failure_reason: if has_failed { FailureReason::Failed } else { FailureReason::Unspecified },
        attempt,
        created_at: None,
        updated_at: None,
    }
}
