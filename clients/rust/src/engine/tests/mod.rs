//! The engine without IO: one event after another, and what it does about each.

mod history;
mod restart;
mod scenario;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::link::Phase;
use super::state::{Closed, FLUSH_WAIT, State};
use super::{Command, Config, Key, Outcome};
use crate::proto::worker_lease_request::Message as FromWorker;
use crate::proto::worker_lease_response::Message as FromServer;
use crate::proto::{
    Drain, ErrorReason, HeldLease, Hello, Lease, Leases, Report, ReportAck, ReportVerdict, Revoke, RevokeReason,
    ServerGoodbye, Timing, Welcome, WorkerLeaseResponse,
};

const LINK: u64 = 1;

fn config(concurrency: u32) -> Config {
    Config { worker: "w".into(), subscriptions: Vec::new(), concurrency, prefetch: 0, report_bytes_max: 1 << 20 }
}

fn success() -> Outcome {
    Outcome::Success(Vec::new())
}

/// A state with its moment and all that it has asked for.
struct Bench {
    state: State,
    now: Instant,
    connects: Vec<(u64, usize)>,
    closes: Vec<u64>,
    starts: Vec<(Key, String)>,
    cancels: Vec<Key>,
    aborts: Vec<Key>,
    settled: Vec<(String, ReportVerdict)>,
    is_finished: bool,
}

impl Bench {
    fn new(concurrency: u32, addresses: usize) -> Self {
        let now = Instant::now();
        let state = State::new(now, config(concurrency), addresses, "w".into(), 42);
        Self {
            state,
            now,
            connects: Vec::new(),
            closes: Vec::new(),
            starts: Vec::new(),
            cancels: Vec::new(),
            aborts: Vec::new(),
            settled: Vec::new(),
            is_finished: false,
        }
    }

    /// A worker that is attached on stream 1.
    fn attached(concurrency: u32) -> Self {
        let mut bench = Self::new(concurrency, 1);
        bench.attach(LINK, &[]);
        bench
    }

    fn tick(&mut self) {
        self.state.on_tick(self.now);
        while let Some(command) = self.state.poll_command() {
            match command {
                Command::Connect { link, address } => self.connects.push((link, address)),
                Command::Close { link } => self.closes.push(link),
                Command::Start { key, lease, .. } => self.starts.push((key, lease.lease_id)),
                Command::Cancel { key } => self.cancels.push(key),
                Command::Abort { key } => self.aborts.push(key),
                Command::Finish => self.is_finished = true,
                Command::Settled { lease_id, verdict } => self.settled.push((lease_id, verdict)),
                Command::FinishSending { .. } => {}
            }
        }
    }

    /// All frames that go now, as the driver would send them.
    fn frames(&mut self, link: u64) -> Vec<FromWorker> {
        let mut frames = Vec::new();
        while let Some(frame) = self.state.poll_frame(self.now, link) {
            frames.extend(frame.message);
        }
        self.tick();
        frames
    }

    fn receive(&mut self, link: u64, message: FromServer) {
        self.state.on_frame(self.now, link, WorkerLeaseResponse { message: Some(message) });
        self.tick();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tick();
    }

    /// Time goes on until another stream is wanted; its number.
    fn next_connect(&mut self) -> u64 {
        let before = self.connects.len();
        for _ in 0..1000 {
            self.tick();
            if self.connects.len() > before {
                return self.connects[before].0;
            }
            self.now += Duration::from_millis(10);
        }
        panic!("no reconnect within 10 s");
    }

    /// Connects `link`; its `Hello`.
    fn greet(&mut self, link: u64) -> Hello {
        self.tick();
        self.state.on_connected(self.now, link);
        match self.frames(link).remove(0) {
            FromWorker::Hello(hello) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    fn welcome(&mut self, link: u64, resumed: bool, verdicts: &[(&str, bool)]) {
        let held = verdicts.iter().map(|(id, kept)| HeldLease { lease_id: (*id).into(), kept: *kept }).collect();
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let timing = Timing { heartbeat_interval: seconds(10), lease_duration: seconds(30), silence_max: seconds(45) };
        self.receive(
            link,
            FromServer::Welcome(Welcome {
                session_id: "s".into(),
                secret: "x".into(),
                resumed,
                timing: Some(timing),
                guarantees: None,
                held,
                session_leases_max: 100,
            }),
        );
    }

    fn attach(&mut self, link: u64, verdicts: &[(&str, bool)]) -> Hello {
        let hello = self.greet(link);
        self.welcome(link, hello.resume.is_some(), verdicts);
        hello
    }

    fn lease(&mut self, link: u64, first_number: u64, ids: &[&str]) {
        let leases = ids.iter().map(|id| Lease { lease_id: (*id).into(), ..Lease::default() }).collect();
        self.receive(link, FromServer::Leases(Leases { first_number, leases }));
    }

    fn finish(&mut self, key: Key, outcome: Outcome) {
        self.state.on_finished(key, outcome);
        self.tick();
    }

    fn acknowledge(&mut self, link: u64, report: &Report, verdict: ReportVerdict) {
        self.receive(
            link,
            FromServer::ReportAck(ReportAck {
                report_id: report.report_id.clone(),
                lease_id: report.lease_id.clone(),
                verdict: verdict as i32,
            }),
        );
    }

    fn break_link(&mut self, link: u64) {
        self.state.on_closed(self.now, link, Closed::default());
        self.tick();
    }
}

fn reports_in(frames: &[FromWorker]) -> Vec<Report> {
    let mut reports = Vec::new();
    for frame in frames {
        match frame {
            FromWorker::Report(report) => reports.push(report.clone()),
            FromWorker::Reports(batch) => reports.extend(batch.reports.clone()),
            _ => {}
        }
    }
    reports
}

fn credit_in(frames: &[FromWorker]) -> Option<u64> {
    frames.iter().rev().find_map(|frame| match frame {
        FromWorker::Credit(credit) => Some(credit.limit),
        _ => None,
    })
}
