//! A worker's stream, spoken by hand: what is said goes in, what is told comes out.

use std::collections::VecDeque;

use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::stubs::{Stubs, report, taking};
use crate::support::until::soon;

/// An open stream. Dropped, its connection's call is cancelled, as by a worker that dies.
pub(crate) struct Talk {
    say: Option<mpsc::Sender<WorkerLeaseRequest>>,
    told: Streaming<WorkerLeaseResponse>,
    /// The number of the last lease that came.
    pub(crate) received: u64,
    leases: VecDeque<Lease>,
    acks: VecDeque<ReportAck>,
    /// What came while something else was waited for.
    pub(crate) others: Vec<Told>,
    beat: u64,
}

impl Talk {
    /// Opens a stream and says nothing.
    pub(crate) async fn open(stubs: &Stubs) -> Self {
        let (say, said) = mpsc::channel(64);
        let told = stubs.workers().worker_lease(ReceiverStream::new(said)).await.expect("opens").into_inner();
        Self {
            say: Some(say),
            told,
            received: 0,
            leases: VecDeque::new(),
            acks: VecDeque::new(),
            others: Vec::new(),
            beat: 1000,
        }
    }

    /// Opens a stream with this hello, which must be welcomed.
    pub(crate) async fn greet(stubs: &Stubs, hello: Hello) -> (Self, Welcome) {
        let mut talk = Self::open(stubs).await;
        talk.say(Said::Hello(hello)).await;
        match talk.next().await.expect("is welcomed") {
            Some(Told::Welcome(welcome)) => (talk, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// A worker that takes these names from the default queue, with this much credit.
    pub(crate) async fn worker(stubs: &Stubs, names: &[&str], credit: u64) -> (Self, Welcome) {
        let (talk, welcome) = Self::greet(stubs, hello(names)).await;
        talk.credit(credit).await;
        (talk, welcome)
    }

    pub(crate) async fn say(&self, message: Said) {
        self.say_raw(WorkerLeaseRequest { message: Some(message) }).await;
    }

    pub(crate) async fn say_raw(&self, message: WorkerLeaseRequest) {
        self.say.as_ref().expect("not half-closed").send(message).await.expect("the stream is open");
    }

    pub(crate) async fn credit(&self, limit: u64) {
        self.say(Said::Credit(Credit { limit })).await;
    }

    /// Ends what is said; what is told goes on.
    pub(crate) fn half_close(&mut self) {
        self.say = None;
    }

    /// The next message, whatever it is; `None`: the stream ended with OK.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>, Status> {
        let told = soon("the server says something", self.told.message()).await?;
        Ok(told.map(|told| told.message.expect("a message of this version")))
    }

    // Puts what comes where it belongs.
    async fn sort(&mut self) {
        match self.next().await.expect("the stream lives") {
            None => panic!("the stream ended; before: {:?}", self.others),
            Some(Told::Leases(Leases { first_number, leases })) => {
                assert_eq!(first_number, self.received + 1, "leases are numbered without gaps");
                assert!(!leases.is_empty(), "one or more");
                self.received += leases.len() as u64;
                self.leases.extend(leases);
            }
            Some(Told::ReportAck(ack)) => self.acks.push_back(ack),
            Some(other) => self.others.push(other),
        }
    }

    /// The next lease, not confirmed.
    pub(crate) async fn offer(&mut self) -> Lease {
        loop {
            if let Some(lease) = self.leases.pop_front() {
                return lease;
            }
            self.sort().await;
        }
    }

    /// The next lease, confirmed with all that came before it.
    pub(crate) async fn lease(&mut self) -> Lease {
        let lease = self.offer().await;
        self.say(Said::Accepted(Accepted { up_to: self.received - self.leases.len() as u64 })).await;
        lease
    }

    /// So many leases, confirmed.
    pub(crate) async fn lease_many(&mut self, count: usize) -> Vec<Lease> {
        let mut leases = Vec::with_capacity(count);
        for _ in 0..count {
            leases.push(self.lease().await);
        }
        leases
    }

    /// Reports and waits for the verdict.
    pub(crate) async fn report(&mut self, lease: &Lease, outcome: report::Outcome) -> ReportVerdict {
        self.say(Said::Report(report(lease, outcome))).await;
        self.ack().await.verdict()
    }

    /// The next verdict.
    pub(crate) async fn ack(&mut self) -> ReportAck {
        loop {
            if let Some(ack) = self.acks.pop_front() {
                return ack;
            }
            self.sort().await;
        }
    }

    /// Sends a heartbeat and waits for its answer: what was said before it has been heard.
    pub(crate) async fn heartbeat(&mut self, accepted_up_to: u64, held: &[&Lease]) {
        self.beat += 1;
        let held = held.iter().map(|lease| lease.lease_id.clone()).collect();
        self.say(Said::Heartbeat(Heartbeat { accepted_up_to, sequence: self.beat, held })).await;
        let answer = Told::HeartbeatAck(HeartbeatAck { sequence: self.beat });
        self.told(|told| (*told == answer).then_some(())).await;
    }

    /// Waits for something that is neither a lease nor a verdict.
    pub(crate) async fn told<T>(&mut self, mut wanted: impl FnMut(&Told) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.others.iter().find_map(&mut wanted) {
                return found;
            }
            self.sort().await;
        }
    }

    /// The goodbye that ends the stream with OK.
    pub(crate) async fn goodbye(&mut self) -> GoodbyeReason {
        loop {
            match self.next().await.expect("ends with OK") {
                Some(Told::Goodbye(goodbye)) => {
                    assert_eq!(self.next().await.expect("ends with OK"), None, "nothing follows a goodbye");
                    return goodbye.reason();
                }
                Some(other) => self.others.push(other),
                None => panic!("no goodbye; before: {:?}", self.others),
            }
        }
    }

    /// The status that ends the stream.
    pub(crate) async fn refusal(&mut self) -> Status {
        loop {
            match self.next().await {
                Err(status) => return status,
                Ok(None) => panic!("the stream ended with OK"),
                Ok(Some(other)) => self.others.push(other),
            }
        }
    }
}

/// The opening of a worker that takes these names from the default queue.
pub(crate) fn hello(names: &[&str]) -> Hello {
    Hello { worker: "w".into(), subscriptions: taking(names), ..Default::default() }
}

/// The opening of a worker that goes on with its session.
pub(crate) fn resume(welcome: &Welcome, names: &[&str], held: &[&str]) -> Hello {
    let resume = Resume { session_id: welcome.session_id.clone(), secret: welcome.secret.clone() };
    Hello { resume: Some(resume), held: held.iter().map(ToString::to_string).collect(), ..hello(names) }
}
