//! Real processes, killed, paused and cut off, with the embedded store. Run alone and one after another:
//! `cargo test --release --test fault -- --test-threads=1`.

// Clippy knows tests by their attribute, and helpers of tests have none.
#![allow(clippy::expect_used, clippy::panic)]

mod arrows;
mod backup;
mod checker;
mod clock;
mod disk;
mod leases;
mod pause;
mod processes;
mod scale;
mod witness;
