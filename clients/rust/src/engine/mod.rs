//! The lease engine: keeps a worker's session and leases, whatever its handlers, its servers and its network do.
//!
//! - `state` decides: frames, events and moments in, frames and commands out. No IO, no clock, so that every order of
//!   events can be tried.
//! - `leases`, `link` and `reports` are its bookkeeping: of what it holds, of one stream, of what is not acknowledged yet.
//! - `frames` says what goes next on a stream, most urgent first.
//! - `driver` does the IO, on a thread of its own with its own runtime: a handler that blocks the user's runtime for
//!   minutes does not stop the heartbeats.

pub(crate) mod driver;
mod frames;
mod leases;
mod link;
mod reports;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use crate::proto::{Arg, Lease, ReportVerdict, Subscription};

/// Names a lease within the engine. Never used twice.
pub(crate) type Key = u64;

/// What the engine needs to know of its worker.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// As `Hello.worker`.
    pub(crate) worker: String,
    /// As `Hello.subscriptions`.
    pub(crate) subscriptions: Vec<Subscription>,
    /// Attempts at once; 0: no limit.
    pub(crate) concurrency: u32,
    /// Leases held beyond those that run, so that the next attempt starts without a round trip.
    pub(crate) prefetch: u32,
    /// No credit is given while more bytes of reports than this wait for their acknowledgement.
    pub(crate) report_bytes_max: usize,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Well.
    Success(Vec<Arg>),
    /// Badly.
    Failure {
        /// For people.
        error: String,
        /// Whatever retries are left.
        is_final: bool,
        /// Asked for; costs no retry.
        retry_after: Option<Duration>,
    },
    /// Not made, or given up: made again at no cost.
    Release,
}

/// What a handler tells the engine.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    /// It runs.
    Began(Key),
    /// How far it is.
    Progress(Key, f64, String),
    /// How it ended.
    Finished(Key, Outcome),
}

/// What the engine wants done.
#[derive(Debug)]
pub(crate) enum Command {
    /// Connect to the address of that number, and open a stream once told so by a `Hello`.
    Connect { link: u64, address: usize },
    /// Nothing more is sent on that stream; it is read to its end.
    FinishSending { link: u64 },
    /// Drop that stream.
    Close { link: u64 },
    /// Run this attempt, until the deadline if there is one.
    Start { key: Key, lease: Box<Lease>, deadline: Option<Instant> },
    /// Tell the attempt to stop.
    Cancel { key: Key },
    /// Drop the attempt.
    Abort { key: Key },
    /// A report was answered for good.
    Settled { lease_id: String, verdict: ReportVerdict },
    /// Everything is done: the engine ends.
    Finish,
}
