//! The JSON of Machinery v1: task bodies, task states, the rules that come with them.
//!
//! One object for a task, the same on every broker; keys are Go's field names. What is written here is byte for byte what
//! Machinery writes; what is read is at least what a Go worker reads.
//!
//! # Deliberate differences in reading
//!
//! - An integer beyond the width of its label (300 under `int8`) and a float beyond `float32` are refused, as an error of
//!   that argument. A Go worker would compute with 44 and with infinity: the sender's value is lost either way, and a
//!   task that fails says so.
//! - What would end a Go worker's process (`null` among callbacks; a bool or an object with members under a slice label)
//!   makes the body unreadable, so that it is set aside and never offered to such a worker again.
//! - Callbacks are not looked into until they are sent. An error inside one surfaces then, and depth costs nothing.

mod callback;
mod group;
mod kept;
#[cfg(test)]
mod properties;
mod read;
mod routing;
mod stamp;
mod state;
mod value;
mod write;

pub use callback::{callback_after_chord, callback_after_error, callback_after_success};
pub use group::{GroupRecord, decode_group, encode_group};
pub use kept::{Kept, ORDER_CHARS, decode_kept, encode_kept, order_text};
pub use read::{ArgsError, Decoded, decode, salvage_uuid};
pub use routing::{EmptyKey, Exchange, Filled, RULES, Rule, rule};
pub use stamp::{STAMP, stamp, stamped};
pub use state::{decode_state, encode_results, encode_state};
pub use write::{digest, encode};

use super::json::JsonError;

/// Why bytes are not a task or not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not JSON, or cut short.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field holds a value that Go cannot read into it.
    #[error("{field}: {why}")]
    Field {
        /// Its name, as `RetryCount`.
        field: &'static str,
        /// What is wrong, with the value where it is short.
        why: String,
    },
    /// Readable, but it would end the process of a Go worker.
    #[error("{field}[{index}]: {why}, which ends the process of a machinery worker")]
    Lethal {
        /// `Args`, `OnSuccess` or `OnError`.
        field: &'static str,
        /// Which of its items, from 0.
        index: usize,
        /// What stands there.
        why: &'static str,
    },
}
