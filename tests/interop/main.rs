//! The real Machinery, v1.10.8, beside this server on one Redis: its producers and our workers, our producers and its workers.
//! Redis, server and Machinery's programs are processes of their own.
//!
//! `LINESHAFT_TEST_MACHINERY` names the program built from `tests/interop/machinery`; `tests/run.sh redis` builds it. Without
//! it, or without a `redis-server`, each test says that it is skipped.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod both;
mod callbacks;
mod crossing;
mod death;
mod foreign;
mod go;
mod interrupted;
mod links;
mod many;
mod mixed;
mod operating;
mod ours;
mod scenarios;
mod sharing;
mod spoilt;
#[path = "../support/mod.rs"]
mod support;
mod values;
mod workflows;
mod world;
