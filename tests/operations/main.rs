//! The server as those who operate it see it, through the real programs they use.
//!
//! Where those are is told by `tests/run.sh operations`: `LINESHAFT_TEST_JAEGER`, `LINESHAFT_TEST_PROMTOOL`. Without one a test
//! says so and is skipped, or does without it.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http;
mod jaeger;
mod metrics;
mod scrape;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "otlp")]
mod traces;
