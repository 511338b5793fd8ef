//! Lineshaft: one gRPC service in front of the task queue you already run.
//!
//! # Layout
//!
//! - [`task`]: nouns and pure rules.
//! - [`wire`]: envelopes, bytes to task and back.
//! - [`broker`], [`ledger`], [`backend`]: the three seams and their rooms; [`fused`]: several at once.
//! - `engine`: the embedded durable store behind the `embedded` rooms (feature `embedded`).
//! - [`link`]: connections to the stores of others, behind the rooms that stand on them.
//! - [`service`]: all policy.
//! - [`api`]: the gRPC edge.
//! - [`server`]: everything on one port, from start to drain.
//! - [`config`]: what a server runs with; [`telemetry`]: what it tells of itself.
//! - [`cli`]: one file per subcommand, on the Rust client.
//! - [`clock`]: the only door to time. [`error`]: the vocabulary of failure. [`failpoint`]: where tests crash a replica.
//! - [`docs`]: glossary and decisions.

pub mod api;
pub mod backend;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod docs;
#[cfg(feature = "embedded")]
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod fused;
pub mod ledger;
pub mod link;
pub mod server;
pub mod service;
pub mod task;
pub mod telemetry;
pub mod wire;
