//! The invariants of leasing, one test for each sentence, on stores in memory and paused time.
//!
//! What holds here holds for every room that passes `conformance`. Crashes at every arrow are in `failpoints`.

// Helpers of tests may panic like tests; the lint knows only functions marked as tests.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "../support/faulty.rs"]
mod faulty;
#[path = "../support/gated.rs"]
mod gated;
#[path = "../support/worker.rs"]
mod worker;
#[path = "../support/world.rs"]
mod world;

mod bodies;
mod cancel;
mod cancel_races;
mod credit;
mod dead;
mod drain;
mod expiry;
mod fair;
mod fence;
mod lifetimes;
mod named;
mod offers;
mod queues;
mod retries;
mod sending;
mod sessions;
mod timeouts;
mod traces;
mod workflows;
