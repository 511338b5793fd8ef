//! The shared vocabulary of failure: what happened, whose fault it is, whether anything was written, what to do next.
//!
//! The mapping to gRPC statuses is in one place, `api::status`.

use std::time::Duration;

/// A failure of a store: broker, ledger or backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written. The same call may succeed later.
    #[error("the {store} store cannot be reached: {why}")]
    Unavailable {
        /// The room.
        store: &'static str,
        /// What it said.
        why: String,
    },
    /// The store refuses for lack of room (disk, memory). Nothing was written.
    #[error("the {store} store is full: {why}")]
    Full {
        /// The room.
        store: &'static str,
        /// What it said.
        why: String,
    },
    /// It may or may not have been written.
    #[error("it is not known whether the {store} store has written: {why}")]
    OutcomeUnknown {
        /// The room.
        store: &'static str,
        /// What it said.
        why: String,
    },
    /// A receipt that is void.
    #[error("the receipt is void")]
    Stale,
    /// Not a position of this room.
    #[error("not a page position of this store")]
    Position,
    /// A stored record cannot be read.
    #[error("a record of the {store} store cannot be read: {why}")]
    Corrupt {
        /// The room.
        store: &'static str,
        /// Which, and why.
        why: String,
    },
}

/// What a caller of `service` is told.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A field has no valid value.
    #[error("{field}: {why}")]
    Invalid {
        /// Path of the field in the request, as `task.args[2].value`.
        field: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A value is over a limit.
    #[error("{field}: {actual} {unit}, the limit is {limit} {unit}")]
    LimitExceeded {
        /// Path of the field.
        field: String,
        /// The limit.
        limit: u64,
        /// What was given.
        actual: u64,
        /// Of both.
        unit: &'static str,
    },
    /// No such task.
    #[error("no task {0:?} is known here; never sent, or its state has expired")]
    TaskUnknown(String),
    /// No such group, chord or chain.
    #[error("no group {0:?} is known here; never sent, or it has expired")]
    GroupUnknown(String),
    /// There is one already.
    #[error("group_id: {0:?} is known already; take another id")]
    GroupExists(String),
    /// No such queue.
    #[error("no queue {0:?} is known here: nothing waits in it, is leased or sent, and no worker takes from it")]
    QueueUnknown(String),
    /// The session is gone.
    #[error("the session is not known here or its secret is wrong; begin a new one")]
    SessionLost,
    /// The stream broke the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// The stores in force cannot do this.
    #[error("{capability} is not possible with {combination}")]
    CapabilityMissing {
        /// The stores.
        combination: String,
        /// What was asked.
        capability: &'static str,
    },
    /// A bounded buffer is full.
    #[error("{what} is full")]
    QueueFull {
        /// Which.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The client does not read.
    #[error("the client does not read what it is sent")]
    SlowConsumer,
    /// This server is stopping.
    #[error("this server is stopping")]
    Draining,
    /// A request id that names another send.
    #[error("{field}: names a send with other content; give each send an id of its own")]
    RequestIdReused {
        /// Path of the field.
        field: String,
    },
    /// A send with a request id that may or may not have been written: to be sent again under the same id.
    #[error("{0}; send it again with the same request_id")]
    Unconfirmed(StoreError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Lineshaft contradicts itself.
    #[error("internal contradiction: {0}")]
    Invariant(String),
}

impl Error {
    /// A field has no valid value.
    pub fn invalid(field: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Invalid { field: field.into(), why: why.to_string() }
    }

    /// The same error, its field path put behind `prefix`: `id` in `task` becomes `task.id`, an empty path `task`.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let path = |field: String| if field.is_empty() { prefix.to_owned() } else { format!("{prefix}.{field}") };
        match self {
            Self::Invalid { field, why } => Self::Invalid { field: path(field), why },
            Self::LimitExceeded { field, limit, actual, unit } => {
                Self::LimitExceeded { field: path(field), limit, actual, unit }
            }
            Self::RequestIdReused { field } => Self::RequestIdReused { field: path(field) },
            other => other,
        }
    }
}
