//! Lineshaft: one gRPC service in front of the task queue you already run.
//!
//! # Layout
//!
//! - [`task`]: nouns and pure rules.
//! - [`wire`]: envelopes, bytes to task and back.
//! - [`broker`], [`ledger`], [`backend`]: the three seams and their rooms; [`fused`]: several at once.
//! - [`service`]: all policy.
//! - [`cli`]: one file per subcommand, on the Rust client.

pub mod backend;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod error;
pub mod failpoint;
pub mod fused;
pub mod ledger;
pub mod service;
pub mod task;
pub mod wire;
