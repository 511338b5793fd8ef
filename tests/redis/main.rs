//! What only a real Redis can show: kills, restarts, lost answers, other programs on the same keys.
//!
//! Without a `redis-server` each test says that it is skipped.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod beside;
mod chords;
mod claims;
mod cluster;
mod cost;
mod death;
mod delayed;
mod ended;
mod ending;
mod gate;
mod idle;
mod joins;
mod joins_cost;
mod loading;
mod outage;
mod picking;
mod refusing;
mod resending;
mod sentinel;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod world;
