//! Protocol to domain and back: every limit and range of the proto comments is enforced here, and an error names the
//! path of its field from the message converted on. Callers put the path of that message before it.

pub(super) mod arg;
pub(super) mod dead;
pub(super) mod group;
pub(super) mod lease;
pub(super) mod limit;
pub(super) mod listed;
mod named;
pub(super) mod page;
pub(super) mod queue;
pub(super) mod report;
pub(super) mod session;
pub(super) mod state;
pub(super) mod task;
pub(super) mod time;
pub(super) mod trace;
pub(super) mod value;
