//! Real processes, killed, paused and cut off, with the embedded store. Run alone and one after another:
//! `cargo test --release --test fault -- --test-threads=1`.

mod arrows;
mod checker;
mod leases;
mod processes;
mod witness;
