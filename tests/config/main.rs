//! What configures a server, through the program: files, variables, flags; checked, shown, and read again while it runs.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod bad_files;
mod command;
mod reload;
