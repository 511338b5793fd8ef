//! The producer's side: tasks, how they are sent, and what became of them.

pub(crate) mod async_result;
pub(crate) mod client;
mod coalesce;
pub(crate) mod task;
pub(crate) mod workflow;
