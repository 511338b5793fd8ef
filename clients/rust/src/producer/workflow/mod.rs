//! Tasks that belong together: groups, chains and chords.

use super::task::Task;
use crate::error::Error;
use crate::proto;

pub(crate) mod progress;
pub(crate) mod result;
mod send;

/// Tasks that run beside each other; sent all or none.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "a group does nothing until it is sent"]
pub struct Group {
    parts: Parts,
}

/// Tasks that run one behind the other: the results of each are appended to the next one's arguments, unless it is
/// [`Task::immutable`]. Once one has failed, those behind it end without being run.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "a chain does nothing until it is sent"]
pub struct Chain {
    parts: Parts,
}

/// Tasks that run beside each other, and one more behind them all: with all their results, in the order of the tasks, appended
/// to its arguments, unless the callback is [`Task::immutable`]. If one of them has failed, the callback ends without being run.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a chord does nothing until it is sent"]
pub struct Chord {
    parts: Parts,
    callback: Task,
    always: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Parts {
    id: String,
    request_id: String,
    tasks: Vec<Task>,
}

impl Parts {
    fn of(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { tasks: tasks.into_iter().collect(), ..Self::default() }
    }

    /// What of the tasks can be sent, each in `queue` unless it names another.
    fn take(&mut self, queue: &str) -> Result<Vec<proto::Task>, Error> {
        std::mem::take(&mut self.tasks).into_iter().map(|task| member(task, queue)).collect()
    }
}

fn member(task: Task, queue: &str) -> Result<proto::Task, Error> {
    let mut task = task.try_into_proto()?;
    if task.queue.is_empty() {
        queue.clone_into(&mut task.queue);
    }
    Ok(task)
}

macro_rules! named {
    () => {
        /// Names them together: 1 to 200 bytes without spaces and control characters. One that is known is refused with
        /// GROUP_EXISTS, unless this is the same send again. Unset: the server makes an id.
        pub fn id(mut self, id: impl Into<String>) -> Self {
            self.parts.id = id.into();
            self
        }

        /// Names this send, as [`Task::request_id`] does one of a task; the tasks have none of their own. Unset: the client makes one
        /// for each send, which serves its own repetitions.
        pub fn request_id(mut self, id: impl Into<String>) -> Self {
            self.parts.request_id = id.into();
            self
        }
    };
}

impl Group {
    /// A group of these tasks: 1 to the server's `Limits.group_tasks_max` (100,000), without names of their sends. They travel in
    /// one message, for which the server has a limit too (`Limits.message_bytes_max`, 4 MiB).
    pub fn new(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { parts: Parts::of(tasks) }
    }

    named!();
}

impl Chain {
    /// A chain of these tasks, in their order: 1 to the server's `Limits.chain_tasks_max` (1,000), without names of their sends, and
    /// all together no larger than one task may be.
    pub fn new(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { parts: Parts::of(tasks) }
    }

    named!();
}

impl Chord {
    /// A chord of these tasks, as of a [`Group`], and of what comes behind them.
    pub fn new(tasks: impl IntoIterator<Item = Task>, callback: Task) -> Self {
        Self { parts: Parts::of(tasks), callback, always: false }
    }

    named!();

    /// The callback is sent however the tasks ended. One string for each task is then appended to its arguments: JSON with
    /// `TaskUUID`, `State` (SUCCESS or FAILURE), `Results` and `Error`.
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }
}
