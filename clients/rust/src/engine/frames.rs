//! What goes next on a stream. Asked only while the stream takes more, so what waits is coalesced, not queued twice.

use std::time::Duration;

use tokio::time::Instant;

use super::leases::Stage;
use super::link::Phase;
use super::state::{State, Stop};
use crate::proto::worker_lease_request::Message;
use crate::proto::{
    Accepted, Credit, Heartbeat, Hello, Progress, ReportBatch, Started, WorkerGoodbye, WorkerLeaseRequest,
};

/// Progress is for people: two words a second of each task would tell them no less, five are cheap.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

impl State {
    /// The next frame for that stream, the most urgent first; none: nothing to say now.
    ///
    /// A frame answered here counts as sent: what depends on it (an attempt on its confirmation) may go on.
    pub(crate) fn poll_frame(&mut self, now: Instant, id: u64) -> Option<WorkerLeaseRequest> {
        let message = match self.links.get(&id)?.phase {
            Phase::Connected => Some(self.hello(now, id)),
            Phase::Attached if self.current == Some(id) => self.next_message(now, id),
            _ => None,
        };
        message.map(|message| WorkerLeaseRequest { message: Some(message) })
    }

    fn hello(&mut self, now: Instant, id: u64) -> Message {
        let held = if self.session.is_some() { self.held() } else { Vec::new() };
        let mut named = self.ids(&held);
        if self.session.is_some() {
            // Their handlers are done, but until the verdict the server must not give them to anybody else.
            named.extend(self.reports.lease_ids());
        }
        let hello = Hello {
            worker: self.config.worker.clone(),
            language: "rust".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            subscriptions: self.config.subscriptions.clone(),
            concurrency: self.config.concurrency,
            resume: self.session.clone(),
            held: named,
        };
        if let Some(link) = self.links.get_mut(&id) {
            link.phase = Phase::Greeted;
            link.deadline = now + self.intervals.welcome;
            link.is_resuming = hello.resume.is_some();
            link.hello_held = held;
        }
        Message::Hello(hello)
    }

    fn next_message(&mut self, now: Instant, id: u64) -> Option<Message> {
        if self.goodbye_at.is_some() {
            return None;
        }
        self.heartbeat(now, id)
            .or_else(|| self.accepted(id))
            .or_else(|| self.report_batch(now))
            .or_else(|| self.credit(id))
            .or_else(|| self.started())
            .or_else(|| self.next_progress(now))
            .or_else(|| self.goodbye(now))
    }

    fn heartbeat(&mut self, now: Instant, id: u64) -> Option<Message> {
        let link = self.links.get_mut(&id)?;
        let is_due = now >= link.heartbeat_at + self.intervals.heartbeat;
        if !is_due && !link.has_refused {
            return None;
        }
        link.heartbeat_at = now;
        link.heartbeat_sequence += 1;
        let sequence = link.heartbeat_sequence;
        // The list of all that is held is long, and says nothing new unless a lease was received and not taken.
        if !std::mem::take(&mut link.has_refused) {
            return Some(Message::Heartbeat(Heartbeat { accepted_up_to: 0, sequence, held: Vec::new() }));
        }
        let accepted_up_to = link.received;
        let held = self.held();
        self.on_accepted(id, accepted_up_to);
        Some(Message::Heartbeat(Heartbeat { accepted_up_to, sequence, held: self.ids(&held) }))
    }

    fn accepted(&mut self, id: u64) -> Option<Message> {
        let link = self.links.get(&id)?;
        if link.received == link.accepted {
            return None;
        }
        let up_to = link.received;
        self.on_accepted(id, up_to);
        Some(Message::Accepted(Accepted { up_to }))
    }

    fn report_batch(&mut self, now: Instant) -> Option<Message> {
        let mut reports = self.reports.take(now);
        match reports.len() {
            0 => None,
            1 => reports.pop().map(Message::Report),
            _ => Some(Message::Reports(ReportBatch { reports })),
        }
    }

    fn credit(&mut self, id: u64) -> Option<Message> {
        let free = self.free();
        let link = self.links.get_mut(&id)?;
        let limit = link.received + free;
        if link.is_draining || limit <= link.credit {
            return None;
        }
        link.credit = limit;
        Some(Message::Credit(Credit { limit }))
    }

    fn started(&mut self) -> Option<Message> {
        while let Some(key) = self.begun.pop_front() {
            // One that has ended meanwhile says more by its report.
            if let Some(held) = self.leases.get(&key).filter(|held| held.stage == Stage::Running) {
                return Some(Message::Started(Started { lease_id: held.lease_id.clone() }));
            }
        }
        None
    }

    fn next_progress(&mut self, now: Instant) -> Option<Message> {
        if now < self.progress_at {
            return None;
        }
        let key = self.progress.keys().next().copied()?;
        let (fraction, message) = self.progress.remove(&key)?;
        if self.progress.is_empty() {
            self.progress_at = now + PROGRESS_INTERVAL;
        }
        let lease_id = self.leases.get(&key)?.lease_id.clone();
        Some(Message::Progress(Progress { lease_id, fraction, message }))
    }

    fn goodbye(&mut self, now: Instant) -> Option<Message> {
        if self.stop == Stop::Not || !self.is_done() {
            return None;
        }
        self.goodbye_at = Some(now);
        Some(Message::Goodbye(WorkerGoodbye {}))
    }
}
