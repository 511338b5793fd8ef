//! Connections to the stores of others, shared by the rooms that stand on one: they know commands, not tasks.

#[cfg(feature = "redis")]
pub mod redis;
