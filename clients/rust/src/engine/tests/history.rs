//! Random orders of events, watched by a model of the server with books of its own.

use std::collections::HashSet;

use super::*;

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
                    let is_resuming = hello.resume.is_some();
                    let all = self.held.union(&self.owed).filter(|_| is_resuming).cloned().collect();
                    assert_eq!(named, all, "hello names what is held or waits for its verdict");
                }
                FromWorker::Credit(credit) => {
                    assert!(credit.limit > stream.credit, "credit only grows");
                    stream.credit = credit.limit;
                    let busy = self.running.iter().filter(|(_, id)| !self.held.contains(id)).count() + self.held.len();
                    let room = stream.credit - stream.sent + busy as u64;
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
            (9, Some(link)) => {
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
    for seed in 1..=60u64 {
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
