//! Where a task stands, and the order in which states may follow each other.

use super::{Arg, TaskId, Timestamp};

/// Machinery's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Waiting.
    Pending,
    /// Leased.
    Received,
    /// Running.
    Started,
    /// Failed, to be tried again.
    Retry,
    /// Ended well; final.
    Success,
    /// Ended badly; final.
    Failure,
}

impl Status {
    /// Machinery's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Received => "RECEIVED",
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
        }
    }

    /// Reads Machinery's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Received, Self::Started, Self::Retry, Self::Success, Self::Failure]
            .into_iter()
            .find(|s| s.as_str() == text)
    }

    /// True if nothing follows it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure)
    }

    // Within one attempt. SUCCESS and FAILURE share a rank: whichever is first stays.
    fn rank(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Received => 1,
            Self::Started => 2,
            Self::Retry => 3,
            Self::Success | Self::Failure => 4,
        }
    }
}

/// Why a task ended in FAILURE; ours alone, Machinery knows only the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FailureReason {
    /// Not known, or no FAILURE.
    #[default]
    Unknown,
    /// The worker reported it.
    Failed,
    /// Too many attempts ended in dead workers.
    WorkerLost,
    /// The result was too large to keep.
    ResultTooLarge,
    /// The body is no task.
    Poison,
    /// Somebody cancelled it.
    Cancelled,
    /// Somebody purged its queue.
    Purged,
    /// It was not begun in its time.
    Expired,
    /// Its last attempt ran too long.
    TimedOut,
    /// A task before it ended badly: it was never sent.
    NotRun,
}

/// Position of a state in the life of a task. A write is applied only if its order is greater than the stored one, so a
/// delayed or repeated write never moves a task backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Order {
    /// When this sending of the task was accepted, unix ns; sending a known id again begins a greater one. 0: foreign.
    pub generation: u64,
    /// From 1. PENDING belongs to the attempt that is to come.
    pub attempt: u32,
    /// How often the message of this attempt was given back: what was received may wait again.
    pub releases: u32,
    /// Position of the status within the attempt.
    pub rank: u8,
}

/// The state of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskState {
    /// The id.
    pub task_id: TaskId,
    /// The name; empty where the backend did not keep it.
    pub task_name: String,
    /// Where it stands.
    pub status: Status,
    /// In SUCCESS only; `None` is JSON `null`.
    pub results: Option<Vec<Arg>>,
    /// In RETRY (ours alone) and FAILURE.
    pub error: String,
    /// Why, in FAILURE.
    pub reason: FailureReason,
    /// See [`Order`].
    pub generation: u64,
    /// See [`Order`].
    pub attempt: u32,
    /// See [`Order`].
    pub releases: u32,
    /// When it was sent; [`Timestamp::ZERO`] if not known.
    pub created_at: Timestamp,
    /// When this state was written; [`Timestamp::ZERO`] if not known.
    pub updated_at: Timestamp,
}

impl TaskState {
    /// The generation of the sending that this is a state of; 0: it cannot be told.
    ///
    /// A Machinery program writes none, but when the task was created, by its clock: a worker carries on the time of the
    /// sending, and sets it anew when it sends the task again for a retry. So it is the latest that is known.
    pub fn sending(&self) -> u64 {
        if self.generation > 0 { self.generation } else { self.created_at.to_wall().0 }
    }

    /// Its place in the life of the task. A final state comes after everything else of its generation, whichever attempt
    /// it belongs to: the report of an attempt that was given up for lost may still be the one that counts.
    pub fn order(&self) -> Order {
        if self.status.is_final() {
            let (attempt, releases) = (u32::MAX, u32::MAX);
            return Order { generation: self.generation, attempt, releases, rank: self.status.rank() };
        }
        Order { generation: self.generation, attempt: self.attempt, releases: self.releases, rank: self.status.rank() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_and_a_repeated_send_move_forward_and_a_late_write_does_not() {
        let at = |generation, attempt, status: Status| Order { generation, attempt, releases: 0, rank: status.rank() };
        let given_back = Order { releases: 1, ..at(1, 1, Status::Pending) };
        assert!(given_back > at(1, 1, Status::Started) && given_back < at(1, 2, Status::Pending));
        assert!(at(1, 2, Status::Pending) > at(1, 1, Status::Retry));
        assert!(at(2, 1, Status::Pending) > at(1, 9, Status::Success));
        assert!(at(1, 1, Status::Received) < at(1, 1, Status::Success));
        assert_eq!(at(1, 1, Status::Success), at(1, 1, Status::Failure));
    }
}
