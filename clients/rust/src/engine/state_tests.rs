// Long because every case is told on one bench, and the cases read as one list of what a worker may meet.

use std::collections::HashSet;

use super::*;
use crate::proto::worker_lease_request::Message as FromWorker;
use crate::proto::{Drain, HeldLease, Hello, Report, ReportAck, ReportVerdict, Revoke, Timing};

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
                Command::Start { key, lease } => self.starts.push((key, lease.lease_id)),
                Command::Cancel { key } => self.cancels.push(key),
                Command::Abort { key } => self.aborts.push(key),
                Command::Finish => self.is_finished = true,
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

#[test]
fn credit_is_the_concurrency_then_one_more_for_each_lease_done_with() {
    let mut bench = Bench::attached(2);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(2));
    bench.lease(LINK, 1, &["a", "b"]);
    assert_eq!(credit_in(&bench.frames(LINK)), None);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
}

#[test]
fn without_a_limit_the_credit_is_the_servers() {
    let mut bench = Bench::attached(0);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(100));
}

#[test]
fn nothing_starts_before_its_confirmation_has_gone() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    assert!(bench.starts.is_empty());
    let frames = bench.frames(LINK);
    assert!(frames.iter().any(|frame| matches!(frame, FromWorker::Accepted(accepted) if accepted.up_to == 1)));
    assert_eq!(bench.starts.len(), 1);
}

#[test]
fn an_offer_that_was_not_confirmed_starts_when_the_welcome_keeps_it() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.break_link(LINK);
    let link = bench.next_connect();
    let hello = bench.attach(link, &[("a", true), ("b", false)]);
    assert_eq!(hello.held, ["a", "b"]);
    assert_eq!(bench.starts.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn one_after_another_means_one_at_a_time() {
    let mut bench = Bench::new(1, 1);
    bench.state.config.prefetch = 2;
    bench.attach(LINK, &[]);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
    bench.lease(LINK, 1, &["a", "b", "c"]);
    bench.frames(LINK);
    assert_eq!(bench.starts.len(), 1);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    assert_eq!(bench.starts.len(), 2);
}

#[test]
fn reports_are_sent_again_on_every_stream_until_acknowledged() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    for (key, _) in bench.starts.clone() {
        bench.finish(key, success());
    }
    let sent = reports_in(&bench.frames(LINK));
    assert_eq!(sent.len(), 2);
    bench.acknowledge(LINK, &sent[0], ReportVerdict::Recorded);
    bench.break_link(LINK);
    let link = bench.next_connect();
    let hello = bench.attach(link, &[]);
    assert!(hello.held.is_empty(), "a reported lease is not held");
    let again = reports_in(&bench.frames(link));
    assert_eq!(again, [sent[1].clone()]);
    bench.acknowledge(link, &again[0], ReportVerdict::Superseded);
    bench.break_link(link);
    let link = bench.next_connect();
    bench.attach(link, &[]);
    assert!(reports_in(&bench.frames(link)).is_empty());
}

#[test]
fn what_runs_goes_on_while_the_server_is_away() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.break_link(LINK);
    bench.pass(Duration::from_secs(3600));
    assert!(bench.cancels.is_empty());
    let key = bench.starts[0].0;
    bench.finish(key, success());
    assert!(bench.state.next_due().is_none_or(|due| due >= bench.now), "nothing is overdue while nothing can be sent");
}

#[test]
fn a_lease_that_is_not_kept_is_cancelled_and_its_failure_not_reported() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    bench.break_link(LINK);
    let link = bench.next_connect();
    bench.attach(link, &[("a", false), ("b", false)]);
    assert_eq!(bench.cancels.len(), 2);
    // Both handlers still run: no room for others.
    assert_eq!(credit_in(&bench.frames(link)), None);
    let (first, second) = (bench.starts[0].0, bench.starts[1].0);
    bench.finish(first, Outcome::Failure { error: "told to stop".into(), is_final: false, retry_after: None });
    bench.finish(second, success());
    let frames = bench.frames(link);
    let reports = reports_in(&frames);
    assert_eq!(reports.len(), 1, "only the success is worth a try");
    assert_eq!(reports[0].lease_id, "b");
    assert_eq!(credit_in(&frames), Some(2));
}

#[test]
fn a_revoked_lease_is_not_held_any_more() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    bench.receive(LINK, FromServer::Revoke(Revoke { lease_id: "a".into(), reason: 1 }));
    assert_eq!(bench.cancels, [bench.starts[0].0]);
    bench.break_link(LINK);
    let link = bench.next_connect();
    assert_eq!(bench.greet(link).held, ["b"]);
}

#[test]
fn a_lost_session_cancels_all_and_begins_anew() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.break_link(LINK);
    let link = bench.next_connect();
    assert!(bench.greet(link).resume.is_some());
    let lost = Closed { reason: Some(ErrorReason::LeaseLost), ..Closed::default() };
    bench.state.on_closed(bench.now, link, lost);
    bench.tick();
    assert_eq!(bench.cancels.len(), 1);
    let link = bench.next_connect();
    let hello = bench.attach(link, &[]);
    assert!(hello.resume.is_none() && hello.held.is_empty());
    // One slot is taken by the handler that has not ended yet.
    assert_eq!(credit_in(&bench.frames(link)), Some(1));
}

#[test]
fn silence_ends_a_stream_and_heartbeats_prevent_it_at_the_other_end() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.pass(Duration::from_secs(8));
    assert!(matches!(bench.frames(LINK)[..], [FromWorker::Heartbeat(_)]));
    assert!(bench.frames(LINK).is_empty());
    bench.pass(Duration::from_secs(36));
    assert!(bench.closes.is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.closes, [LINK]);
    bench.next_connect();
}

#[test]
fn no_welcome_within_ten_seconds_is_the_next_address() {
    let mut bench = Bench::new(1, 2);
    bench.greet(LINK);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.closes, [LINK]);
    bench.next_connect();
    assert_eq!(bench.connects.iter().map(|(_, address)| *address).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn on_drain_the_next_stream_stands_before_the_old_one_goes() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.receive(LINK, FromServer::Drain(Drain { deadline: None }));
    let next = bench.next_connect();
    let key = bench.starts[0].0;
    bench.finish(key, success());
    let report = reports_in(&bench.frames(LINK)).remove(0);
    let hello = bench.greet(next);
    assert!(hello.resume.is_some() && hello.held.is_empty());
    // An offer that crossed the hello goes back: it is not taken, so it cannot be run twice.
    bench.lease(LINK, 2, &["late"]);
    assert!(bench.state.held().is_empty());
    bench.welcome(next, true, &[]);
    // The answer on the old stream still counts.
    bench.acknowledge(LINK, &report, ReportVerdict::Recorded);
    assert!(bench.state.reports.is_empty());
    assert_eq!(credit_in(&bench.frames(next)), Some(2));
    assert!(bench.frames(LINK).is_empty());
    let connects = bench.connects.len();
    bench.break_link(LINK);
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.connects.len(), connects, "the end of the old stream is no loss");
}

#[test]
fn a_draining_server_is_used_until_another_answers() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.receive(LINK, FromServer::Drain(Drain { deadline: None }));
    for _ in 0..5 {
        let next = bench.next_connect();
        bench.greet(next);
        let draining = Closed { reason: Some(ErrorReason::Draining), ..Closed::default() };
        bench.state.on_closed(bench.now, next, draining);
        bench.tick();
    }
    assert!(bench.cancels.is_empty());
    // What was offered while the hello was on its way went back; the server learns it from the list of all held.
    let next = bench.next_connect();
    bench.greet(next);
    bench.lease(LINK, 2, &["crossed"]);
    bench.break_link(next);
    let frames = bench.frames(LINK);
    let held = frames.iter().find_map(|frame| match frame {
        FromWorker::Heartbeat(heartbeat) => Some((heartbeat.accepted_up_to, heartbeat.held.clone())),
        _ => None,
    });
    assert_eq!(held, Some((2, vec!["a".to_owned()])));
}

#[test]
fn leases_beyond_the_credit_are_not_taken() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    let frames = bench.frames(LINK);
    assert!(frames.iter().any(|frame| matches!(frame,
        FromWorker::Heartbeat(heartbeat) if heartbeat.held == ["a"] && heartbeat.accepted_up_to == 2)));
    assert_eq!(bench.starts.len(), 1);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    // Numbers count what was sent, taken or not.
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
}

#[test]
fn a_soft_stop_gives_back_what_has_not_begun_and_leaves_last() {
    let mut bench = Bench::new(1, 1);
    bench.state.config.prefetch = 1;
    bench.attach(LINK, &[]);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    bench.state.stop_softly();
    bench.tick();
    let frames = bench.frames(LINK);
    let released = reports_in(&frames);
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].lease_id, "b");
    assert_eq!(credit_in(&frames), None);
    bench.acknowledge(LINK, &released[0], ReportVerdict::Recorded);
    assert!(!bench.is_finished);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    let report = reports_in(&bench.frames(LINK)).remove(0);
    bench.acknowledge(LINK, &report, ReportVerdict::Recorded);
    assert!(matches!(bench.frames(LINK)[..], [FromWorker::Goodbye(_)]));
    bench.receive(LINK, FromServer::Goodbye(ServerGoodbye { reason: 1 }));
    assert!(bench.is_finished);
}

#[test]
fn a_hard_stop_gives_back_what_runs_and_ends_soon_without_a_server() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.state.stop_hard(bench.now);
    bench.tick();
    assert_eq!(bench.aborts, [bench.starts[0].0]);
    assert_eq!(reports_in(&bench.frames(LINK)).len(), 1);
    assert!(!bench.is_finished);
    bench.pass(FLUSH_WAIT);
    assert!(bench.is_finished);
}

#[test]
fn a_worker_that_owes_nothing_ends_without_its_server() {
    let mut bench = Bench::attached(2);
    bench.break_link(LINK);
    bench.state.stop_softly();
    bench.tick();
    assert!(bench.is_finished);
}

#[test]
fn credit_waits_while_reports_pile_up() {
    let mut bench = Bench::attached(2);
    bench.state.config.report_bytes_max = 200;
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    let results = vec![crate::IntoArg::into_arg("x".repeat(300))];
    let key = bench.starts[0].0;
    bench.finish(key, Outcome::Success(results));
    let frames = bench.frames(LINK);
    assert_eq!(credit_in(&frames), None);
    bench.acknowledge(LINK, &reports_in(&frames)[0], ReportVerdict::Recorded);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
}

#[test]
fn unknown_variants_are_only_a_sign_of_life() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    for _ in 0..10 {
        bench.pass(Duration::from_secs(30));
        bench.state.on_frame(bench.now, LINK, WorkerLeaseResponse { message: None });
    }
    assert!(bench.closes.is_empty());
}

#[test]
fn progress_is_coalesced_and_cut() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    let key = bench.starts[0].0;
    let progress = |bench: &mut Bench| {
        let frames = bench.frames(LINK);
        frames
            .into_iter()
            .filter_map(|frame| match frame {
                FromWorker::Progress(progress) => Some(progress),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    bench.state.on_progress(key, 0.1, "first".into());
    bench.state.on_progress(key, 7.0, "ü".repeat(1000));
    let sent = progress(&mut bench);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].fraction, sent[0].message.len()), (1.0, 1000));
    bench.state.on_progress(key, f64::NAN, "soon".into());
    assert!(progress(&mut bench).is_empty());
    bench.pass(Duration::from_millis(200));
    assert_eq!(progress(&mut bench)[0].fraction, 0.0);
}

/// Even draws from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// What a server knows of one stream.
#[derive(Default)]
struct Stream {
    is_welcomed: bool,
    sent: u64,
    credit: u64,
    accepted: u64,
    /// Lease ids by number, from 1.
    offered: Vec<String>,
}

/// A worker and a server under a random order of events, with the server's own books.
struct World {
    bench: Bench,
    random: Random,
    concurrency: usize,
    streams: HashMap<u64, Stream>,
    next_lease: u64,
    /// Leases that the worker may run: confirmed to the server, or kept.
    confirmed: HashSet<String>,
    /// Leases that the worker has received, not reported and not lost.
    held: HashSet<String>,
    /// Handlers that run.
    running: Vec<(Key, String)>,
    seen_starts: usize,
    seen_connects: usize,
    /// Leases whose handler ended well, until a verdict.
    owed: HashSet<String>,
    recorded: HashMap<String, String>,
    unanswered: Vec<Report>,
}

impl World {
    fn new(seed: u64, concurrency: usize) -> Self {
        Self {
            bench: Bench::new(u32::try_from(concurrency).unwrap(), 2),
            random: Random(seed | 1),
            concurrency,
            streams: HashMap::new(),
            next_lease: 0,
            confirmed: HashSet::new(),
            held: HashSet::new(),
            running: Vec::new(),
            seen_starts: 0,
            seen_connects: 0,
            owed: HashSet::new(),
            recorded: HashMap::new(),
            unanswered: Vec::new(),
        }
    }

    fn observe(&mut self) {
        self.bench.tick();
        for (link, _) in &self.bench.connects[self.seen_connects..] {
            self.streams.insert(*link, Stream::default());
        }
        self.seen_connects = self.bench.connects.len();
        for start in &self.bench.starts[self.seen_starts..] {
            assert!(self.confirmed.contains(&start.1), "{} started before its confirmation", start.1);
            self.running.push(start.clone());
        }
        self.seen_starts = self.bench.starts.len();
        assert!(self.running.len() <= self.concurrency, "more handlers than allowed");
        for link in self.bench.closes.drain(..) {
            self.streams.remove(&link);
        }
    }

    /// Everything that the worker says on `link` now.
    fn listen(&mut self, link: u64) {
        while let Some(frame) = self.bench.state.poll_frame(self.bench.now, link) {
            let stream = self.streams.get_mut(&link).unwrap();
            match frame.message.unwrap() {
                FromWorker::Hello(hello) => {
                    let named: HashSet<String> = hello.held.into_iter().collect();
                    assert_eq!(named, self.held, "hello names what is held");
                }
                FromWorker::Credit(credit) => {
                    assert!(credit.limit > stream.credit, "credit only grows");
                    stream.credit = credit.limit;
                    let room = stream.credit - stream.sent + self.held.len() as u64;
                    assert!(room <= self.concurrency as u64, "credit for more than can be held");
                }
                FromWorker::Heartbeat(heartbeat) => {
                    if heartbeat.accepted_up_to > 0 {
                        let named: HashSet<String> = heartbeat.held.into_iter().collect();
                        assert_eq!(named, self.held, "a heartbeat names what is held");
                        stream.accepted = heartbeat.accepted_up_to;
                        self.confirmed.extend(named);
                    }
                }
                FromWorker::Accepted(accepted) => {
                    assert!(accepted.up_to <= stream.sent);
                    stream.accepted = accepted.up_to;
                    self.confirmed.extend(stream.offered[..accepted.up_to as usize].iter().cloned());
                }
                FromWorker::Report(report) => self.unanswered.push(report),
                FromWorker::Reports(batch) => self.unanswered.extend(batch.reports),
                FromWorker::Started(started) => assert!(self.confirmed.contains(&started.lease_id)),
                FromWorker::Progress(_) => {}
                FromWorker::Goodbye(_) => panic!("nobody stopped this worker"),
            }
            self.observe();
        }
    }

    /// Welcomes a worker that has greeted on `link`.
    fn welcome(&mut self, link: u64) {
        let greeted = self.bench.state.links.get(&link).is_some_and(|link| link.phase == Phase::Greeted);
        if !greeted {
            return;
        }
        let resuming = self.bench.state.links[&link].is_resuming;
        let asked = self.bench.state.links[&link].hello_held.clone();
        let mut verdicts = Vec::new();
        for id in self.bench.state.ids(&asked) {
            let kept = self.random.below(4) > 0;
            verdicts.push((id, kept));
        }
        // Offers that were not named go back.
        let named: HashSet<String> = verdicts.iter().map(|(id, _)| id.clone()).collect();
        self.held.retain(|id| named.contains(id));
        for (id, kept) in &verdicts {
            if *kept {
                self.confirmed.insert(id.clone());
            } else {
                self.held.remove(id);
            }
        }
        let verdicts: Vec<_> = verdicts.iter().map(|(id, kept)| (id.as_str(), *kept)).collect();
        self.streams.get_mut(&link).unwrap().is_welcomed = true;
        self.bench.welcome(link, resuming, &verdicts);
        self.observe();
    }

    fn offer(&mut self, link: u64) {
        let stream = self.streams.get_mut(&link).unwrap();
        let room = stream.credit.saturating_sub(stream.sent) as usize;
        if !stream.is_welcomed || room == 0 {
            return;
        }
        let count = 1 + self.random.below(room);
        let first = stream.sent + 1;
        let ids: Vec<String> = (0..count as u64).map(|index| format!("lease-{}", self.next_lease + index)).collect();
        self.next_lease += count as u64;
        stream.sent += count as u64;
        stream.offered.extend(ids.clone());
        let is_moving = self.bench.state.links.values().any(|link| link.phase == Phase::Greeted && link.is_resuming);
        if self.bench.state.current == Some(link) && !is_moving {
            self.held.extend(ids.clone());
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.bench.lease(link, first, &ids);
        self.observe();
    }

    fn finish_one(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.random.below(self.running.len());
        let (key, id) = self.running.swap_remove(index);
        self.held.remove(&id);
        self.owed.insert(id);
        self.bench.finish(key, success());
        self.observe();
    }

    fn answer(&mut self, link: u64) {
        for report in std::mem::take(&mut self.unanswered) {
            let other = self.recorded.insert(report.lease_id.clone(), report.report_id.clone());
            assert!(other.is_none_or(|id| id == report.report_id), "one lease, one report");
            let verdict = match self.random.below(5) {
                0 => ReportVerdict::Unspecified,
                1 => ReportVerdict::Superseded,
                _ => ReportVerdict::Recorded,
            };
            if verdict != ReportVerdict::Unspecified {
                self.owed.remove(&report.lease_id);
            }
            self.bench.acknowledge(link, &report, verdict);
        }
        self.observe();
    }

    fn lose(&mut self, link: u64) {
        self.streams.remove(&link);
        // What was said on a broken stream may not have arrived.
        if self.random.below(2) == 0 {
            self.unanswered.clear();
        }
        let is_lost = self.random.below(6) == 0;
        let closed = Closed { reason: is_lost.then_some(ErrorReason::LeaseLost), ..Closed::default() };
        self.bench.state.on_closed(self.bench.now, link, closed);
        if self.bench.state.session.is_none() {
            self.held.clear();
        }
        self.observe();
    }

    fn step(&mut self) {
        let mut links: Vec<u64> = self.streams.keys().copied().collect();
        links.sort_unstable();
        let link = links.get(self.random.below(links.len())).copied();
        match (self.random.below(12), link) {
            (0, _) => self.bench.now += Duration::from_millis(self.random.below(12_000) as u64),
            (1, Some(link)) => self.bench.state.on_connected(self.bench.now, link),
            (2, Some(link)) => self.welcome(link),
            (3 | 4, Some(link)) => self.offer(link),
            (5 | 6, _) => self.finish_one(),
            (7, Some(link)) => self.answer(link),
            (8, Some(link)) if self.random.below(4) == 0 => self.lose(link),
            (9, Some(link)) if self.random.below(4) == 0 => {
                self.bench.receive(link, FromServer::Drain(Drain { deadline: None }));
            }
            (10, Some(link)) => {
                let mut held: Vec<String> = self.held.iter().cloned().collect();
                held.sort_unstable();
                if self.random.below(4) == 0 && !held.is_empty() {
                    let lease_id = held.swap_remove(self.random.below(held.len()));
                    self.held.remove(&lease_id);
                    self.bench.receive(link, FromServer::Revoke(Revoke { lease_id, reason: 1 }));
                }
            }
            (_, Some(link)) => self.listen(link),
            _ => self.bench.now += Duration::from_millis(100),
        }
        self.observe();
    }

    /// No more faults: everything that ended well is reported at last.
    fn settle(&mut self) {
        for _ in 0..2000 {
            let mut links: Vec<u64> = self.streams.keys().copied().collect();
            links.sort_unstable();
            for link in links {
                self.bench.state.on_connected(self.bench.now, link);
                self.listen(link);
                self.welcome(link);
                self.listen(link);
                if self.streams.contains_key(&link) {
                    self.answer(link);
                }
            }
            self.finish_one();
            self.bench.now += Duration::from_millis(100);
            self.observe();
        }
        assert!(self.running.is_empty());
        assert!(self.owed.is_empty(), "never settled: {:?}", self.owed);
        assert!(self.bench.state.reports.is_empty());
        assert!(self.bench.state.leases.is_empty());
    }
}

#[test]
fn every_order_of_events_keeps_the_books_exact() {
    for seed in 1..=150u64 {
        for concurrency in [1, 3, 8] {
            let mut world = World::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), concurrency);
            world.observe();
            for _ in 0..400 {
                world.step();
            }
            world.settle();
        }
    }
}
