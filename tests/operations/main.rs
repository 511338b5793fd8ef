//! What a server tells to those who watch it.

// Clippy knows tests by their attribute, and helpers of tests have none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod metrics;
mod scrape;
#[path = "../support/mod.rs"]
mod support;
