//! Taking messages from where they wait, by what they say: a view of rooms that have no index of them.

use async_trait::async_trait;
use bytes::Bytes;

use super::Delivery;
use crate::error::StoreError;
use crate::task::QueueName;

/// Where a message was seen. Only the room that told it reads it; it is worth nothing once the message has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The room's own word for a list and an end of it.
    pub part: u8,
    /// How many messages stood nearer to that end.
    pub depth: usize,
    /// What stood there, as the room keeps it.
    pub value: Bytes,
}

/// A message that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Its queue.
    pub queue: QueueName,
    /// Where.
    pub place: Place,
}

/// Whether a body is one that is looked for.
pub type Wanted<'a> = &'a (dyn Fn(&[u8]) -> bool + Send + Sync);

/// Picking messages out of the middle of queues. For rooms that cannot [`super::Find`], and may be shared with programs
/// that take from the same places: what was picked is held as what was taken, and nobody else gets it.
#[async_trait]
pub trait Pick: Send + Sync {
    /// Delayed messages can be picked, not only those that are due.
    fn picks_delayed(&self) -> bool;

    /// Looks for messages that wait, due or delayed, and whose bodies are `wanted`: through a bounded number of them, from the
    /// ends of each queue. Ends with the queue in which there are `max` in all. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn search(&self, wanted: Wanted<'_>, max: usize) -> Result<Vec<Spot>, StoreError>;

    /// Takes messages from where they were seen, one answer each, in order; `None`: it is not there, or not near it, any
    /// more. As [`super::Broker::take`] otherwise.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing was taken, or what was taken returns by itself.
    async fn pick(&self, spots: &[Spot]) -> Result<Vec<Option<Delivery>>, StoreError>;
}
