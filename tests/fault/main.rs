//! Real processes, killed, paused and cut off, with the embedded store and with several replicas on one Redis. Run alone and one after another:
//! `cargo test --release --test fault -- --test-threads=1`.

// Clippy knows tests by their attribute, and helpers of tests have none.
#![allow(clippy::expect_used, clippy::panic)]

mod arrows;
mod backup;
mod checker;
mod clock;
mod disk;
#[cfg(feature = "redis")]
mod failover;
mod leases;
mod pause;
mod processes;
#[cfg(feature = "redis")]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
#[path = "../support/redis.rs"]
mod redis;
#[cfg(feature = "redis")]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
#[path = "../support/redis_cluster.rs"]
mod redis_cluster;
#[cfg(feature = "redis")]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
#[path = "../support/redis_sentinel.rs"]
mod redis_sentinel;
#[cfg(feature = "redis")]
mod replicas;
mod scale;
#[cfg(feature = "redis")]
#[allow(dead_code, unreachable_pub)]
#[path = "../support/until.rs"]
mod until;
mod witness;
mod workflows;
