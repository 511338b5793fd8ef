//! The engine's thread: connects, times, and carries frames and commands between the state and the world.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic_types::StatusExt;

use super::state::{Closed, State};
use super::{Command, Config, HandlerEvent, Key};
use crate::connection::MESSAGE_BYTES_MAX;
use crate::error::Error;
use crate::proto::worker_service_client::WorkerServiceClient;
use crate::proto::{Lease, ReportVerdict, WorkerLeaseRequest, WorkerLeaseResponse};

/// Frames handed to a stream and not taken by the connection yet. Few: what waits behind them is still coalesced.
const OUTGOING_FRAMES_MAX: usize = 16;
/// Events of all streams on their way to the engine; a stream waits beyond that.
const LINK_EVENTS_MAX: usize = 256;
/// Events taken in one step before frames go out, so that a busy side cannot starve the other.
const STEP_EVENTS_MAX: usize = 1024;
/// What is due but cannot be done now (a stream that takes no more) is looked at again after this.
const OVERDUE_PAUSE: Duration = Duration::from_millis(10);

/// What the engine asks of the worker's runtime. Called on the engine's thread: must not block.
pub(crate) trait Hands: Send + 'static {
    /// Run this attempt; its end is told by a [`HandlerEvent::Finished`]. At its deadline it will be told to stop.
    fn start(&mut self, key: Key, lease: Lease, deadline: Option<Instant>);
    /// Tell the attempt to stop.
    fn cancel(&mut self, key: Key);
    /// Drop the attempt.
    fn abort(&mut self, key: Key);
    /// The attempt has ended; nothing more will be asked about it.
    fn forget(&mut self, key: Key);
    /// A report was answered for good.
    fn settled(&mut self, lease_id: &str, verdict: ReportVerdict);
}

/// How the worker should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopSignal {
    Not,
    Soft,
    Hard,
}

/// What happens on a stream.
enum LinkEvent {
    Connected(u64),
    Frame(u64, Box<WorkerLeaseResponse>),
    Closed(u64, Closed),
}

struct Outgoing {
    /// None once nothing more is to be sent.
    frames: Option<mpsc::Sender<WorkerLeaseRequest>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything an engine is made of.
pub(crate) struct Parts<H> {
    pub(crate) config: Config,
    /// At least one.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) hands: H,
    pub(crate) handlers: mpsc::Receiver<HandlerEvent>,
    pub(crate) stop: tokio::sync::watch::Receiver<StopSignal>,
}

/// Runs the engine on a new thread; the receiver tells its end, and how many reports no server has answered.
///
/// # Errors
/// [`Error::Config`]: the system gives no thread or no runtime.
pub(crate) fn spawn<H: Hands>(parts: Parts<H>) -> Result<tokio::sync::oneshot::Receiver<usize>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Config(format!("the lease engine has no runtime: {error}")))?;
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("lineshaft-lease".into())
        .spawn(move || {
            let owed = runtime.block_on(Driver::new(parts).run());
            // Nobody listens if the worker's future was dropped.
            let _ = done.send(owed);
        })
        .map_err(|error| Error::Config(format!("the lease engine has no thread: {error}")))?;
    Ok(ended)
}

struct Driver<H> {
    state: State,
    endpoints: Vec<Endpoint>,
    hands: H,
    handlers: mpsc::Receiver<HandlerEvent>,
    stop: tokio::sync::watch::Receiver<StopSignal>,
    is_stop_open: bool,
    link_events: mpsc::Receiver<LinkEvent>,
    to_engine: mpsc::Sender<LinkEvent>,
    links: HashMap<u64, Outgoing>,
}

impl<H: Hands> Driver<H> {
    fn new(parts: Parts<H>) -> Self {
        let (to_engine, link_events) = mpsc::channel(LINK_EVENTS_MAX);
        let unique = uuid::Uuid::new_v4();
        let seed = unique.as_u64_pair().1;
        let name = unique.simple().to_string();
        Self {
            state: State::new(Instant::now(), parts.config, parts.endpoints.len(), name, seed),
            endpoints: parts.endpoints,
            hands: parts.hands,
            handlers: parts.handlers,
            stop: parts.stop,
            is_stop_open: true,
            link_events,
            to_engine,
            links: HashMap::new(),
        }
    }

    /// Until the engine ends; the number of reports that no server has answered.
    async fn run(mut self) -> usize {
        loop {
            let now = Instant::now();
            self.state.on_tick(now);
            if self.settle(now) {
                return self.state.owed();
            }
            self.wait().await;
        }
    }

    /// Sends what can be sent and does what is to be done, until there is nothing left; true: the engine ends.
    fn settle(&mut self, now: Instant) -> bool {
        loop {
            let has_sent = self.send_frames(now);
            let mut has_acted = false;
            while let Some(command) = self.state.poll_command() {
                has_acted = true;
                match command {
                    Command::Finish => return true,
                    other => self.act(other),
                }
            }
            if !has_sent && !has_acted {
                return false;
            }
        }
    }

    fn send_frames(&mut self, now: Instant) -> bool {
        let mut has_sent = false;
        for (id, link) in &self.links {
            let Some(frames) = &link.frames else { continue };
            // A permit first: a frame that was polled counts as sent, so there must be room for it.
            while let Ok(permit) = frames.try_reserve() {
                let Some(frame) = self.state.poll_frame(now, *id) else { break };
                permit.send(frame);
                has_sent = true;
            }
        }
        has_sent
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Connect { link, address } => self.connect(link, address),
            Command::FinishSending { link } => {
                if let Some(outgoing) = self.links.get_mut(&link) {
                    outgoing.frames = None;
                }
            }
            Command::Close { link } => {
                self.links.remove(&link);
            }
            Command::Start { key, lease, deadline } => self.hands.start(key, *lease, deadline),
            Command::Cancel { key } => self.hands.cancel(key),
            Command::Abort { key } => self.hands.abort(key),
            Command::Settled { lease_id, verdict } => self.hands.settled(&lease_id, verdict),
            Command::Finish => {}
        }
    }

    fn connect(&mut self, link: u64, address: usize) {
        let Some(endpoint) = self.endpoints.get(address).or_else(|| self.endpoints.first()) else { return };
        let (frames, outgoing) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let task = tokio::spawn(carry(link, endpoint.clone(), outgoing, self.to_engine.clone())).abort_handle();
        self.links.insert(link, Outgoing { frames: Some(frames), task });
    }

    /// Until something happens or is due; then takes all that has happened.
    async fn wait(&mut self) {
        let now = Instant::now();
        let due = self.state.next_due().map(|due| if due <= now { now + OVERDUE_PAUSE } else { due });
        let full = self.links.values().filter_map(|link| link.frames.as_ref()).find(|frames| frames.capacity() == 0);
        let full = full.cloned();
        tokio::select! {
            event = self.link_events.recv() => self.take_link_event(event),
            event = self.handlers.recv() => self.take_handler_event(event),
            changed = self.stop.changed(), if self.is_stop_open => self.take_stop(changed.is_ok()),
            () = room(full) => {}
            () = sleep_until(due) => {}
        }
        for _ in 0..STEP_EVENTS_MAX {
            match self.link_events.try_recv() {
                Ok(event) => self.take_link_event(Some(event)),
                Err(_) => break,
            }
        }
        for _ in 0..STEP_EVENTS_MAX {
            match self.handlers.try_recv() {
                Ok(event) => self.take_handler_event(Some(event)),
                Err(_) => break,
            }
        }
    }

    fn take_link_event(&mut self, event: Option<LinkEvent>) {
        let now = Instant::now();
        match event {
            Some(LinkEvent::Connected(link)) => self.state.on_connected(now, link),
            Some(LinkEvent::Frame(link, frame)) => self.state.on_frame(now, link, *frame),
            Some(LinkEvent::Closed(link, closed)) => {
                self.links.remove(&link);
                self.state.on_closed(now, link, closed);
            }
            // Not while `to_engine` is held here.
            None => {}
        }
    }

    fn take_handler_event(&mut self, event: Option<HandlerEvent>) {
        match event {
            Some(HandlerEvent::Began(key)) => self.state.on_began(key),
            Some(HandlerEvent::Progress(key, fraction, message)) => self.state.on_progress(key, fraction, message),
            Some(HandlerEvent::Finished(key, outcome)) => {
                self.hands.forget(key);
                self.state.on_finished(key, outcome);
            }
            // Not while `hands` holds a sender.
            None => {}
        }
    }

    fn take_stop(&mut self, is_open: bool) {
        self.is_stop_open = is_open;
        let signal = *self.stop.borrow_and_update();
        // A worker whose future was dropped stops at once: nobody is left to wait for it.
        match if is_open { signal } else { StopSignal::Hard } {
            StopSignal::Not => {}
            StopSignal::Soft => self.state.stop_softly(),
            StopSignal::Hard => self.state.stop_hard(Instant::now()),
        }
    }
}

/// Until that stream takes frames again; for ever if there is none.
async fn room(full: Option<mpsc::Sender<WorkerLeaseRequest>>) {
    match full {
        // Closed: its end is told by an event.
        Some(frames) if frames.reserve().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// One stream from connecting to its end, which it tells last.
async fn carry(
    link: u64,
    endpoint: Endpoint,
    outgoing: mpsc::Receiver<WorkerLeaseRequest>,
    events: mpsc::Sender<LinkEvent>,
) {
    let closed = match converse(link, &endpoint, outgoing, &events).await {
        Ok(()) => Closed { message: "the server ended the stream".into(), ..Closed::default() },
        Err(closed) => closed,
    };
    // The engine may have ended.
    let _ = events.send(LinkEvent::Closed(link, closed)).await;
}

async fn converse(
    link: u64,
    endpoint: &Endpoint,
    outgoing: mpsc::Receiver<WorkerLeaseRequest>,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), Closed> {
    // A connection of its own for each stream: a server that is replaced behind one address is found only by connecting.
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Closed { message: format!("{}: {}", endpoint.uri(), chain(&error)), ..Closed::default() })?;
    if events.send(LinkEvent::Connected(link)).await.is_err() {
        return Ok(());
    }
    let mut client = WorkerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut incoming = client.worker_lease(ReceiverStream::new(outgoing)).await.map_err(of_status)?.into_inner();
    while let Some(frame) = incoming.next().await {
        if events.send(LinkEvent::Frame(link, Box::new(frame.map_err(of_status)?))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn of_status(status: tonic::Status) -> Closed {
    let retry_delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    let error = Error::from(status);
    Closed { reason: error.reason(), retry_delay, message: error.to_string() }
}

/// An error with all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
