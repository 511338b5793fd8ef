//! Nouns and pure rules: what a task, an attempt, a lease and a state are. No IO, no clock.

mod arg;
mod id;
mod label;
pub mod record;
mod retry;
mod signature;
mod state;
mod time;
mod trace;

pub use arg::{Arg, ArgError, ArgValue};
pub use id::{
    FencingToken, GroupId, IdError, LeaseId, MessageKey, NAME_BYTES_MAX, QueueName, SessionId, TaskId, TaskName,
};
pub use label::{Kind, Label, TypeName};
pub use retry::next_retry_timeout;
pub use signature::{Body, Headers, RawJson, Signature};
pub use state::{FailureReason, Order, Status, TaskState};
pub use time::Timestamp;
pub use trace::{SpanId, TRACEPARENT, TRACESTATE, TRACESTATE_BYTES_MAX, TraceContext, TraceId};
