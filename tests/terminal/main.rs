//! The program in a terminal: what is on the screen, what keys do, and that the terminal is given back.
#![cfg(feature = "embedded")]
// Helpers of tests may panic like the tests themselves; clippy knows only the functions marked as tests.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod group;
#[path = "../support/process.rs"]
#[allow(dead_code)] // Shared; each program of tests uses a part.
mod process;
mod progress;
mod pty;
mod scene;
mod tables;
mod top;
