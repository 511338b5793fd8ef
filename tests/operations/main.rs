//! The server as those who operate it see it, through the real programs they use.
//!
//! Where those are is told by `tests/run.sh operations`: `LINESHAFT_TEST_JAEGER`. Without it a test says so and is skipped.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http;
mod jaeger;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "otlp")]
mod traces;
