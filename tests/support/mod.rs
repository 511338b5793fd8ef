//! What integration tests share: servers of both kinds, and ways to wait without sleeping.
//!
//! Each test program uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub)]

pub mod faulty;
pub mod in_process;
pub mod process;
pub mod raw;
pub mod refusal;
pub mod until;

pub use in_process::InProcess;
pub use process::{Options, Process};
pub use refusal::{Refusal, refusal};
pub use until::until;
