//! Lifetimes: until when a task may be begun.
//!
//! An index by time alone, so that what is over is found without a look at any queue. An entry says nothing of whether the
//! task has ended: whoever finds it looks, and drops it. It is written before the message, so that no message of a task with
//! a lifetime is ever without one, and goes with the decision that ends the task.

use async_trait::async_trait;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::TaskId;

/// Until when one sending of a task may be begun. In order of the moments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lifetime {
    /// From this moment on no attempt begins.
    pub at: WallTime,
    /// The task.
    pub task: TaskId,
    /// The sending, see [`crate::task::Order::generation`].
    pub generation: u64,
}

/// Lifetimes, found by their moments.
///
/// # Errors
/// As [`super::Ledger`].
#[async_trait]
pub trait Lifetimes: Send + Sync {
    /// Remembers lifetimes; one that is known already is nothing.
    async fn limit(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError>;

    /// Lifetimes that are over at `now` (their moment is not after it), in their order, after `after`, at most `max`.
    async fn over(&self, now: WallTime, after: Option<&Lifetime>, max: usize) -> Result<Vec<Lifetime>, StoreError>;

    /// Forgets lifetimes whose tasks have ended or were never sent; one that is not known is nothing.
    async fn forget(&self, lifetimes: &[Lifetime]) -> Result<(), StoreError>;
}
