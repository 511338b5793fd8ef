//! What several test programs share: servers of both kinds, stores that fail on demand, and ways to wait without
//! sleeping.
//!
//! Each test program uses a part of it; here, as in every test, an error is a panic.
#![allow(dead_code, unused_imports, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod faulty;
pub(crate) mod in_process;
pub(crate) mod process;
pub(crate) mod raw;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
pub(crate) mod redis_cluster;
#[cfg(feature = "redis")]
pub(crate) mod redis_sentinel;
pub(crate) mod refusal;
pub(crate) mod until;

pub(crate) use in_process::InProcess;
pub(crate) use process::{Options, Process};
pub(crate) use refusal::{Refusal, refusal};
pub(crate) use until::until;
