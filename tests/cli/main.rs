//! The command line as a shell meets it: the real program, its stdout, stderr and exit codes.

// Helpers of tests may panic like the tests themselves; clippy knows only the functions marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod dead;
mod demo;
mod doctor;
mod exit_codes;
mod group;
mod listing;
mod manual;
mod odd;
mod program;
mod queues;
mod send;
mod top;
mod watch;
mod work;
