//! A worker that does what a test tells it, and sends heartbeats by itself until it falls silent.

use std::collections::VecDeque;
use std::time::Duration;

use lineshaft::error::Error;
use lineshaft::ledger::{Subscription, Verdict};
use lineshaft::service::types::{Event, Granted, Hello, Outcome, Parting, Report, Resume, Welcome};
use lineshaft::service::{Inbound, Service, Stream};
use lineshaft::task::{Arg, LeaseId, TaskName};
use tokio::task::AbortHandle;

use crate::world::{LEASE, queue};

/// Longer than anything that is bound to happen takes.
const LONG: Duration = Duration::from_secs(3 * 3_600);

/// An attached worker. Dropped, it detaches and falls silent.
pub(crate) struct Worker {
    pub(crate) session: Resume,
    pub(crate) welcome: Welcome,
    pub(crate) inbound: Inbound,
    pub(crate) stream: Stream,
    /// Numbers of the leases that came.
    pub(crate) received: u64,
    waiting: VecDeque<Granted>,
    /// What came while something else was waited for.
    pub(crate) others: Vec<Event>,
    pulse: AbortHandle,
}

impl Worker {
    /// Attaches a new worker that takes these names from queue `q`, with this much credit.
    pub(crate) async fn attach(service: &Service, worker: &str, names: &[&str], credit: u64) -> Self {
        Self::say(service, hello(worker, &[("q", names, 1)]), credit).await.expect("attaches")
    }

    /// Attaches again, elsewhere or here, with the leases it says it holds.
    pub(crate) async fn again(&self, service: &Service, names: &[&str], held: &[&Granted]) -> Result<Self, Error> {
        let held = held.iter().map(|lease| lease.id.clone()).collect();
        let hello = Hello { resume: Some(self.session.clone()), held, ..hello("", &[("q", names, 1)]) };
        Self::say(service, hello, 0).await
    }

    /// Attaches with this opening.
    pub(crate) async fn say(service: &Service, hello: Hello, credit: u64) -> Result<Self, Error> {
        let (welcome, stream) = service.attach(hello).await?;
        let inbound = stream.inbound();
        inbound.credit(credit);
        let beats = inbound.clone();
        let pulse = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 6).await;
                beats.heartbeat(0, 0, &[]);
            }
        });
        Ok(Self {
            session: welcome.session.clone(),
            welcome,
            inbound,
            stream,
            received: 0,
            waiting: VecDeque::new(),
            others: Vec::new(),
            pulse: pulse.abort_handle(),
        })
    }

    /// No more heartbeats.
    pub(crate) fn fall_silent(&self) {
        self.pulse.abort();
    }

    /// The next event that is no answer to a heartbeat.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        // One deadline for all: answers to heartbeats keep coming.
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            match tokio::time::timeout_at(deadline, self.stream.next()).await.expect("something comes") {
                Some(Event::HeartbeatAck { .. }) => {}
                event => return event,
            }
        }
    }

    /// The next lease, not confirmed.
    pub(crate) async fn offer(&mut self) -> Granted {
        loop {
            if let Some(lease) = self.waiting.pop_front() {
                return lease;
            }
            match self.event().await {
                Some(Event::Leases { first_number, leases }) => {
                    assert_eq!(first_number, self.received + 1, "leases are numbered without gaps");
                    self.received += leases.len() as u64;
                    self.waiting.extend(leases);
                }
                Some(Event::Goodbye(parting)) => panic!("the stream ended: {parting:?}"),
                None => panic!("the stream ended"),
                Some(other) => self.others.push(other),
            }
        }
    }

    /// The next lease, confirmed.
    pub(crate) async fn lease(&mut self) -> Granted {
        let lease = self.offer().await;
        self.inbound.accepted(self.received - self.waiting.len() as u64);
        lease
    }

    /// The lease that comes within this time, not confirmed.
    pub(crate) async fn offer_within(&mut self, time: Duration) -> Option<Granted> {
        tokio::time::timeout(time, self.offer()).await.ok()
    }

    /// All leases that come without time passing, confirmed.
    pub(crate) async fn all_offers(&mut self) -> Vec<Granted> {
        let mut leases = Vec::new();
        while let Some(lease) = self.offer_within(Duration::from_millis(10)).await {
            leases.push(lease);
        }
        self.inbound.accepted(self.received);
        leases
    }

    /// Reports, and waits for the verdict.
    pub(crate) async fn report(&mut self, lease: &Granted, outcome: Outcome) -> Verdict {
        self.inbound.report(vec![report(lease, outcome)]).await;
        self.verdict(&lease.id).await.expect("is decided")
    }

    /// The verdict on a lease; `None`: not recorded.
    pub(crate) async fn verdict(&mut self, of: &LeaseId) -> Option<Verdict> {
        loop {
            match self.event().await {
                Some(Event::ReportAck { lease, verdict, .. }) if lease == *of => return verdict,
                Some(Event::Leases { leases, .. }) => {
                    self.received += leases.len() as u64;
                    self.waiting.extend(leases);
                }
                Some(Event::Goodbye(parting)) => panic!("the stream ended: {parting:?}"),
                None => panic!("the stream ended"),
                Some(other) => self.others.push(other),
            }
        }
    }

    /// Waits for the end of the stream and tells its reason.
    pub(crate) async fn parting(&mut self) -> Parting {
        loop {
            match self.event().await {
                Some(Event::Goodbye(parting)) => {
                    assert!(self.stream.next().await.is_none(), "nothing follows a goodbye");
                    return parting;
                }
                Some(other) => self.others.push(other),
                None => panic!("the stream ended without a goodbye"),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.pulse.abort();
    }
}

/// An opening of a new session: queues, names, weights.
pub(crate) fn hello(worker: &str, takes: &[(&str, &[&str], u32)]) -> Hello {
    let subscription = |(from, names, weight): &(&str, &[&str], u32)| Subscription {
        queue: queue(from),
        names: names.iter().map(|name| TaskName::trusted(*name)).collect(),
        weight: *weight,
    };
    Hello {
        worker: worker.into(),
        language: "test".into(),
        version: "0".into(),
        subscriptions: takes.iter().map(subscription).collect(),
        concurrency: 1,
        resume: None,
        held: Vec::new(),
    }
}

/// A report without a name.
pub(crate) fn report(lease: &Granted, outcome: Outcome) -> Report {
    Report { id: None, lease: lease.id.clone(), outcome }
}

/// SUCCESS with one string.
pub(crate) fn success(text: &str) -> Outcome {
    Outcome::Success(vec![Arg::string(text)])
}

/// A failure that may be tried again.
pub(crate) fn failure(error: &str) -> Outcome {
    Outcome::Failure { error: error.into(), is_final: false, retry_after: None }
}

/// Given back.
pub(crate) fn release(delay: Duration) -> Outcome {
    Outcome::Release { delay }
}
