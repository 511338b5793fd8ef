//! The stream of `WorkerLease`: one task that listens and speaks, each without waiting for the other.
//!
//! Nothing that a client does, or leaves undone, holds more than a bounded amount of memory, or anything of another
//! client: what is not read fills [`FRAMES_MAX`] frames and then ends the stream; what is not said ends it too.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::convert::{lease, limit, report, session, time};
use super::proto::worker_lease_request::Message as Said;
use super::proto::worker_lease_response::Message as Told;
use super::proto::*;
use super::{Api, status};
use crate::error::Error;
use crate::service::types::{Event, Granted, Parting, Settings, Welcome as Welcomed};
use crate::service::{Inbound, Service, Stream as Events};

/// Frames that wait for the connection. Small: what waits here cannot be overtaken by what is urgent.
const FRAMES_MAX: usize = 16;

/// Leases are put into one frame until they have this many bytes; one that is larger goes alone. So a large task delays
/// what comes behind it by no more than itself, and a frame stays far below the 4 MiB that client libraries accept.
const FRAME_BYTES: usize = 256 << 10;

/// Verdicts that may wait for the connection. Beyond it the client is not listened to until it reads: one that reports and
/// never reads would otherwise be answered into memory.
const REPORTS_OPEN_MAX: usize = 4096;

/// Longest `Progress.message`, bytes.
const PROGRESS_BYTES_MAX: usize = 1000;

/// A client that has stopped sending is still told the verdicts on what it reported, for at most this long.
const LINGER: Duration = Duration::from_secs(10);

/// How long each side of a stream may keep the other waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first message must have come by then.
    pub hello_max: Duration,
    /// The server says something at least this often.
    pub speak_every: Duration,
    /// A client that takes nothing for this long is too slow.
    pub stall_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            hello_max: Duration::from_secs(10),
            speak_every: Duration::from_secs(10),
            stall_max: Duration::from_secs(30),
        }
    }
}

/// What the connection reads: frames, then how the stream ended.
#[derive(Debug)]
pub struct Outbound {
    frames: mpsc::Receiver<WorkerLeaseResponse>,
    // Set once, when the stream failed. Frames that still wait are dropped then: nobody acts on them any more.
    failure: Arc<OnceLock<Status>>,
    ended: bool,
}

impl Stream for Outbound {
    type Item = Result<WorkerLeaseResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.failure.get().is_none() {
            match self.frames.poll_recv(cx) {
                Poll::Ready(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Poll::Pending => return Poll::Pending,
                // The talk is over; what it ended with was set before its sender was dropped.
                Poll::Ready(None) => {}
            }
        }
        self.ended = true;
        self.frames.close();
        while self.frames.try_recv().is_ok() {}
        Poll::Ready(self.failure.get().cloned().map(Err))
    }
}

/// Opens a stream on what a client says.
pub(super) fn open<S>(api: Api, said: S) -> Outbound
where
    S: Stream<Item = Result<WorkerLeaseRequest, Status>> + Send + Unpin + 'static,
{
    let (frames, reading) = mpsc::channel(FRAMES_MAX);
    let failure = Arc::new(OnceLock::new());
    let outbound = Outbound { frames: reading, failure: failure.clone(), ended: false };
    tokio::spawn(async move {
        let mouth = Mouth { frames, stall_max: api.bounds.stall_max };
        let end = tokio::select! {
            end = talk(api, said, &mouth) => end,
            // The connection is gone: nobody is left to talk to.
            () = mouth.frames.closed() => Ok(()),
        };
        if let Err(end) = end {
            // Set once: this task is the only one that does.
            let _ = failure.set(end);
        }
    });
    outbound
}

async fn talk<S>(api: Api, mut said: S, mouth: &Mouth) -> Result<(), Status>
where
    S: Stream<Item = Result<WorkerLeaseRequest, Status>> + Unpin,
{
    let settings = &api.service.settings();
    let hello = first(&mut said, api.bounds.hello_max).await?;
    let asked = hello.held.clone();
    let hello = session::hello(hello, settings).map_err(|e| e.within("hello"))?;
    let (welcomed, events) = api.service.attach(hello).await?;
    mouth.tell(welcome(welcomed, asked, &api, settings)).await?;

    let reports = Reports::default();
    let ear = Ear { inbound: events.inbound(), mouth, reports: &reports, service: &api.service };
    let mut speaking = pin!(speak(events, mouth, &reports, api.bounds.speak_every));
    let leaving = tokio::select! {
        end = &mut speaking => return end,
        heard = ear.listen(said) => heard?,
    };
    // The client has said its last word. Half-closing detaches the session, but not before the verdicts on its reports,
    // or the answer to its goodbye, are told.
    let told = async { if leaving { std::future::pending().await } else { reports.all_told().await } };
    tokio::select! {
        end = &mut speaking => end,
        () = told => Ok(()),
        () = sleep(LINGER) => Ok(()),
    }
}

/// The `Hello` that a stream must begin with.
async fn first<S>(said: &mut S, hello_max: Duration) -> Result<Hello, Status>
where
    S: Stream<Item = Result<WorkerLeaseRequest, Status>> + Unpin,
{
    match timeout(hello_max, said.next()).await {
        Err(_) => Err(Error::Protocol("no hello came in time; it must be the first message").into()),
        Ok(None) => Err(Error::Protocol("the stream ended before its hello").into()),
        Ok(Some(Err(status))) => Err(status),
        Ok(Some(Ok(WorkerLeaseRequest { message: Some(Said::Hello(hello)) }))) => Ok(hello),
        Ok(Some(Ok(_))) => Err(Error::Protocol("the first message must be hello").into()),
    }
}

/// Reports whose verdicts are not told yet.
#[derive(Debug, Default)]
struct Reports {
    open: AtomicUsize,
    told: Notify,
}

impl Reports {
    fn heard(&self, n: usize) {
        self.open.fetch_add(n, Ordering::AcqRel);
    }

    /// Waits until fewer than [`REPORTS_OPEN_MAX`] verdicts are to be told.
    async fn room(&self) {
        while self.open.load(Ordering::Acquire) >= REPORTS_OPEN_MAX {
            self.told.notified().await;
        }
    }

    fn told(&self) {
        // Never below zero, should a verdict come that was not asked for.
        let _ = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        self.told.notify_one();
    }

    async fn all_told(&self) {
        while self.open.load(Ordering::Acquire) > 0 {
            self.told.notified().await;
        }
    }
}

/// The sending half.
#[derive(Debug)]
struct Mouth {
    frames: mpsc::Sender<WorkerLeaseResponse>,
    stall_max: Duration,
}

impl Mouth {
    /// Hands a frame to the connection.
    ///
    /// # Errors
    /// SLOW_CONSUMER: there was no room for [`Bounds::stall_max`].
    async fn tell(&self, message: Told) -> Result<(), Status> {
        let frame = WorkerLeaseResponse { message: Some(message) };
        let frame = match self.frames.try_send(frame) {
            Err(mpsc::error::TrySendError::Full(frame)) => frame,
            // Closed is seen by whoever waits for it; the frame has no reader.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
        };
        match timeout(self.stall_max, self.frames.send(frame)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::SlowConsumer.into()),
        }
    }
}

/// Tells the client what happens, and that this server lives.
async fn speak(mut events: Events, mouth: &Mouth, reports: &Reports, every: Duration) -> Result<(), Status> {
    let mut silence = pin!(sleep(every));
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                None => return Ok(()),
                Some(Event::Goodbye(Parting::Slow)) => return Err(Error::SlowConsumer.into()),
                Some(Event::Leases { first_number, leases }) => {
                    for frame in frames(first_number, &leases) {
                        mouth.tell(frame).await?;
                    }
                }
                Some(event) => {
                    let is_verdict = matches!(event, Event::ReportAck { .. });
                    mouth.tell(told(event)).await?;
                    if is_verdict {
                        reports.told();
                    }
                }
            },
            () = &mut silence => mouth.tell(Told::HeartbeatAck(HeartbeatAck { sequence: 0 })).await?,
        }
        silence.as_mut().reset(Instant::now() + every);
    }
}

/// Leases as frames of bounded size.
fn frames(first_number: u64, leases: &[Granted]) -> Vec<Told> {
    let mut frames = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    let mut cut = |from: usize, to: usize| {
        let number = first_number + from as u64;
        let leases = leases[from..to].iter().map(lease::granted).collect();
        frames.push(Told::Leases(Leases { first_number: number, leases }));
    };
    for (i, lease) in leases.iter().enumerate() {
        if i > from && bytes + lease.bytes > FRAME_BYTES {
            cut(from, i);
            (from, bytes) = (i, 0);
        }
        bytes += lease.bytes;
    }
    if from < leases.len() {
        cut(from, leases.len());
    }
    frames
}

fn told(event: Event) -> Told {
    match event {
        Event::Leases { first_number, leases } => {
            Told::Leases(Leases { first_number, leases: leases.iter().map(lease::granted).collect() })
        }
        Event::ReportAck { report, lease, verdict } => Told::ReportAck(ReportAck {
            report_id: report.unwrap_or_default(),
            lease_id: lease.to_string(),
            verdict: lease::verdict(verdict).into(),
        }),
        Event::HeartbeatAck { sequence } => Told::HeartbeatAck(HeartbeatAck { sequence }),
        Event::Revoke { lease, reason } => {
            Told::Revoke(Revoke { lease_id: lease.to_string(), reason: lease::revoked(reason).into() })
        }
        Event::Drain { deadline } => Told::Drain(Drain { deadline: Some(time::to_duration(deadline)) }),
        Event::Goodbye(parting) => Told::Goodbye(ServerGoodbye { reason: goodbye(parting).into() }),
    }
}

fn goodbye(parting: Parting) -> GoodbyeReason {
    match parting {
        Parting::Asked => GoodbyeReason::Asked,
        Parting::Replaced => GoodbyeReason::Replaced,
        Parting::Expired => GoodbyeReason::Expired,
        Parting::Drained => GoodbyeReason::Drained,
        // Told as a status.
        Parting::Slow => GoodbyeReason::Unspecified,
    }
}

fn welcome(welcomed: Welcomed, asked: Vec<String>, api: &Api, settings: &Settings) -> Told {
    let Welcomed { session, resumed, held } = welcomed;
    let Resume { session_id, secret } = session::to_resume(session);
    Told::Welcome(Welcome {
        session_id,
        secret,
        resumed,
        timing: Some(session::timing(settings)),
        guarantees: Some(session::guarantees(&api.service.guarantees())),
        held: session::verdicts(asked, &held),
        session_leases_max: settings.session_leases_max,
    })
}

/// The receiving half.
#[derive(Debug)]
struct Ear<'a> {
    inbound: Inbound,
    mouth: &'a Mouth,
    reports: &'a Reports,
    service: &'a Service,
}

impl Ear<'_> {
    /// Listens to the end of what the client says; true if it said goodbye.
    ///
    /// # Errors
    /// The protocol was broken, or nothing came for [`Settings::silence_max`].
    async fn listen<S>(&self, mut said: S) -> Result<bool, Status>
    where
        S: Stream<Item = Result<WorkerLeaseRequest, Status>> + Unpin,
    {
        let mut leaving = false;
        let mut heard_at = Instant::now();
        // One timer for the whole stream, looked at when it fires, instead of one for each message.
        // What the worker was told; a change of settings leaves it.
        let silence_max = self.service.settings().silence_max;
        let mut silence = pin!(sleep(silence_max));
        loop {
            tokio::select! {
                // What has come counts, even if this server was too busy to look in time.
                biased;
                message = said.next() => match message {
                    None => return Ok(leaving),
                    Some(message) => {
                        // After a goodbye nothing counts any more.
                        let message = message?.message;
                        if !leaving {
                            leaving = matches!(message, Some(Said::Goodbye(_)));
                            self.hear(message).await?;
                        }
                        heard_at = Instant::now();
                    }
                },
                () = &mut silence => {
                    let until = heard_at + silence_max;
                    if until <= Instant::now() {
                        return Err(status::cancelled("nothing was heard from the worker for timing.silence_max"));
                    }
                    silence.as_mut().reset(until);
                }
            }
        }
    }

    async fn hear(&self, message: Option<Said>) -> Result<(), Status> {
        match message {
            // A variant that is newer than this server.
            None => {}
            Some(Said::Hello(_)) => return Err(Error::Protocol("hello was said before; only the first counts").into()),
            Some(Said::Credit(Credit { limit })) => self.inbound.credit(limit),
            Some(Said::Heartbeat(beat)) => {
                let held = session::held("heartbeat.held", &beat.held, &self.service.settings())?;
                self.inbound.heartbeat(beat.sequence, beat.accepted_up_to, &held);
            }
            Some(Said::Accepted(Accepted { up_to })) => self.inbound.accepted(up_to),
            Some(Said::Started(Started { lease_id })) => {
                if let Some(lease) = lease::id(&lease_id) {
                    self.inbound.started(&lease);
                }
            }
            Some(Said::Progress(progress)) => {
                if let Some(lease) = lease::id(&progress.lease_id) {
                    // NaN is no progress.
                    let fraction = if progress.fraction > 0.0 { progress.fraction.min(1.0) } else { 0.0 };
                    self.inbound.progress(&lease, fraction, limit::cut(progress.message, PROGRESS_BYTES_MAX));
                }
            }
            Some(Said::Report(said)) => {
                let read = report::read(said, &self.service.settings()).map_err(|e| e.within("report"))?;
                self.report(vec![read]).await?;
            }
            Some(Said::Reports(batch)) => {
                let settings = &self.service.settings();
                let read = report::list("reports", batch.reports, settings).map_err(|e| e.within("reports"))?;
                self.report(read).await?;
            }
            Some(Said::Goodbye(_)) => self.inbound.goodbye().await,
        }
        Ok(())
    }

    async fn report(&self, read: Vec<report::Read>) -> Result<(), Status> {
        let mut named = Vec::with_capacity(read.len());
        for read in read {
            match read {
                Ok(report) => named.push(report),
                Err(unnamed) => self.mouth.tell(Told::ReportAck(unnamed.ack())).await?,
            }
        }
        if !named.is_empty() {
            self.reports.room().await;
            self.reports.heard(named.len());
            self.inbound.report(named).await;
        }
        Ok(())
    }
}
