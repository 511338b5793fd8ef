//! A worker's stream: attaching, what it says, what it is told, leaving.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::attachment::Attachment;
use super::hands::InHand;
use super::types::{Event, Hello, Parting, Report, Resume, Revoked, Welcome};
use super::{Inner, Reported, Service, outcome};
use crate::backend::StateWrite;
use crate::error::{Error, StoreError};
use crate::ledger::{Ending, Lease, LeaseQuery, Notice, Session, Subscription};
use crate::task::{FencingToken, LeaseId, SessionId, Status};

/// When a worker turned away because too many are attached may try again.
const FULL_RETRY: Duration = Duration::from_secs(5);
/// Reports of one stream that may wait for their verdicts; the stream is not read beyond.
const REPORTS_WAITING_MAX: usize = 1024;
/// Leases read from the ledger in one go.
const LEASES_PAGE: usize = 1000;
/// Attaching again after somebody else was faster, as often as this.
const ATTACH_TRIES: u32 = 3;

impl Service {
    /// Opens a stream: a new session, or one taken up again with the leases it still holds. Newest attach wins: an older
    /// stream of the session is told goodbye.
    ///
    /// # Errors
    /// [`Error::Draining`]; [`Error::QueueFull`] too many attached; [`Error::SessionLost`] the session to resume is
    /// gone; [`Error::Store`].
    pub async fn attach(&self, hello: Hello) -> Result<(Welcome, Stream), Error> {
        let inner = &self.inner;
        inner.may_attach()?;
        let resumed = hello.resume.is_some();
        let (session, secret) = inner.open_session(&hello).await?;
        let held = if resumed { inner.take_over(&session, &hello.held).await? } else { Vec::new() };
        inner.stores.ledger.notices().tell(Notice::Attached(session.id.clone(), session.attach));
        let (attachment, replaced, queues) =
            inner.sessions.add(session.id.clone(), session.worker, session.attach, None, session.subscriptions, 0);
        // Complete before anything is waited for: a caller that gives up from here on detaches, and every queue is served.
        inner.serve(queues);
        let reports = Arc::new(Semaphore::new(REPORTS_WAITING_MAX));
        let stream = Stream { inner: inner.clone(), attachment, reports };
        inner.hear(&session.id);
        if let Some(old) = replaced {
            let unsent = old.part(Parting::Replaced);
            inner.give_back(&unsent, Duration::ZERO, None).await;
        }
        // Whoever attached elsewhere between our record and our being listed here has told so in vain.
        if resumed && !inner.is_newest(&session.id, session.attach).await? {
            stream.attachment.part(Parting::Replaced);
        }
        let welcome = Welcome { session: Resume { session: session.id, secret }, resumed, held };
        Ok((welcome, stream))
    }
}

impl Inner {
    pub(super) fn may_attach(&self) -> Result<(), Error> {
        if self.is_draining() {
            return Err(Error::Draining);
        }
        if self.sessions.len() >= self.settings().sessions_max as usize {
            return Err(Error::QueueFull { what: "the list of attached sessions", retry_after: FULL_RETRY });
        }
        Ok(())
    }

    async fn open_session(&self, hello: &Hello) -> Result<(Session, String), Error> {
        let Some(resume) = &hello.resume else {
            let (mut session, secret) = self.new_session(&hello.worker, hello.subscriptions.clone());
            session.language.clone_from(&hello.language);
            session.version.clone_from(&hello.version);
            session.concurrency = hello.concurrency;
            return match self.stores.ledger.attach(&session).await? {
                true => Ok((session, secret)),
                false => Err(Error::Invariant("a new session was there already".into())),
            };
        };
        for _ in 0..ATTACH_TRIES {
            let stored = self.known_session(resume).await?;
            let session = Session {
                worker: if hello.worker.is_empty() { stored.worker } else { hello.worker.clone() },
                language: hello.language.clone(),
                version: hello.version.clone(),
                subscriptions: hello.subscriptions.clone(),
                concurrency: hello.concurrency,
                attach: stored.attach + 1,
                ..stored
            };
            // A worker that cannot come back for want of a store is not dead.
            if self.stores.ledger.attach(&session).await.inspect_err(|_| self.stalled())? {
                return Ok((session, resume.secret.clone()));
            }
        }
        Err(Error::SessionLost)
    }

    /// A session that is not recorded yet, and its secret.
    pub(super) fn new_session(&self, worker: &str, subscriptions: Vec<Subscription>) -> (Session, String) {
        let id = SessionId::generate();
        let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let worker = if worker.is_empty() { id.as_str() } else { worker }.to_owned();
        let session = Session {
            id,
            secret_hash: Sha256::digest(secret.as_bytes()).into(),
            worker,
            language: String::new(),
            version: String::new(),
            subscriptions,
            concurrency: 0,
            attach: 1,
        };
        (session, secret)
    }

    /// The session, if the secret is its own.
    pub(super) async fn known_session(&self, resume: &Resume) -> Result<Session, Error> {
        let stored = self.stores.ledger.session(&resume.session).await?.ok_or(Error::SessionLost)?;
        let given: [u8; 32] = Sha256::digest(resume.secret.as_bytes()).into();
        // Of hashes, so that the time a comparison takes tells nothing of the secret.
        if given == stored.secret_hash { Ok(stored) } else { Err(Error::SessionLost) }
    }

    /// Goes through the leases of a session that attaches again: those it brought back are kept, the others go back to
    /// their queues at no cost, since the worker has just proved that it does not have them.
    async fn take_over(&self, session: &Session, held: &[LeaseId]) -> Result<Vec<(LeaseId, bool)>, StoreError> {
        let live = self.leases_of(&session.id).await?;
        // Looked at after the leases: if this attach is still the newest, all of them were granted under it or before.
        // Otherwise some may be the newer stream's own, and are none of ours.
        if !self.is_newest(&session.id, session.attach).await? {
            return Ok(held.iter().map(|id| (id.clone(), false)).collect());
        }
        let mut absent = Vec::new();
        for lease in &live {
            if !held.contains(&lease.id) {
                absent.push(lease.id.clone());
            } else if self.hands.update(&lease.id, |hand| hand.accepted = true).is_none() {
                // Granted by another replica, or by this server before it was started anew.
                self.hands.put(InHand::brought_back(lease.clone()));
                self.timeouts.meet(lease.id.clone(), lease.at.until(self.clock.wall()));
            }
        }
        self.give_back(&absent, Duration::ZERO, None).await;
        Ok(held.iter().map(|id| (id.clone(), live.iter().any(|l| l.id == *id))).collect())
    }

    /// True if no other stream of the session attached since.
    async fn is_newest(&self, session: &SessionId, attach: u64) -> Result<bool, StoreError> {
        Ok(self.stores.ledger.session(session).await?.is_some_and(|now| now.attach == attach))
    }

    /// All live leases of a session.
    pub(super) async fn leases_of(&self, session: &SessionId) -> Result<Vec<Lease>, StoreError> {
        let mut leases: Vec<Lease> = Vec::new();
        loop {
            let after = leases.last().map_or(FencingToken(0), |l| l.id.token);
            let query = LeaseQuery { session: Some(session.clone()), queue: None, after, max: LEASES_PAGE };
            let page = self.stores.ledger.leases(&query).await?;
            let last = page.len() < LEASES_PAGE;
            leases.extend(page);
            if last {
                return Ok(leases);
            }
        }
    }

    /// The worker is gone for good: what it held goes back, at no cost of an attempt.
    async fn farewell(&self, session: &SessionId) -> Result<(), StoreError> {
        while let Some(leases) = self.stores.ledger.close(session, None).await?.filter(|l| !l.is_empty()) {
            let ids: Vec<LeaseId> = leases.into_iter().map(|l| l.id).collect();
            let items: Vec<_> = ids.iter().map(|id| (id.clone(), Ending::Free { report: None })).collect();
            self.stores.ledger.release(&items).await?;
            for id in &ids {
                self.let_go(id, &Ending::Free { report: None }, Duration::ZERO, true).await;
            }
        }
        Ok(())
    }
}

/// One attached stream. Dropping it detaches the session: its leases stay its own until it attaches again or expires.
#[derive(Debug)]
pub struct Stream {
    inner: Arc<Inner>,
    attachment: Arc<Attachment>,
    reports: Arc<Semaphore>,
}

impl Stream {
    /// The next thing to send; `None` after [`Event::Goodbye`]. Urgent events come before leases. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.attachment.pop() {
                Ok(event) => {
                    if let Some(Event::Leases { .. }) = event {
                        // Bytes were freed: a session that was held up by them may get more.
                        self.inner.sessions.stir(&self.attachment);
                    }
                    return event;
                }
                Err(()) => self.attachment.wake.notified().await,
            }
        }
    }

    /// The other half, for what the worker says. Cheap to clone.
    pub fn inbound(&self) -> Inbound {
        Inbound { inner: self.inner.clone(), attachment: self.attachment.clone(), reports: self.reports.clone() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.inner.sessions.remove(&self.attachment);
        // These never left this process: the worker cannot have started them.
        let unsent = self.attachment.close();
        if !unsent.is_empty() {
            let inner = self.inner.clone();
            self.inner.spawn(async move { inner.give_back(&unsent, Duration::ZERO, None).await });
        }
    }
}

/// What a worker may say on a stream. Only [`Inbound::report`] waits, and never for a store.
#[derive(Debug, Clone)]
pub struct Inbound {
    inner: Arc<Inner>,
    attachment: Arc<Attachment>,
    reports: Arc<Semaphore>,
}

impl Inbound {
    /// The number of the last lease that may be sent.
    pub fn credit(&self, limit: u64) {
        self.attachment.credit(limit, u64::from(self.inner.settings().session_leases_max));
        self.inner.sessions.stir(&self.attachment);
    }

    /// Renews the session. With `accepted` above 0 it confirms leases too, and those it is the first to confirm and that
    /// `held` does not name go back.
    pub fn heartbeat(&self, sequence: u64, accepted: u64, held: &[LeaseId]) {
        self.inner.hear(&self.attachment.session);
        self.attachment.tell(Event::HeartbeatAck { sequence });
        if accepted > 0 {
            let (kept, absent): (Vec<_>, Vec<_>) =
                self.attachment.confirm(accepted).into_iter().partition(|id| held.contains(id));
            self.confirmed(&kept);
            if !absent.is_empty() {
                let inner = self.inner.clone();
                self.inner.spawn(async move { inner.give_back(&absent, Duration::ZERO, None).await });
            }
        }
        for id in held {
            let known = self.inner.hands.get(id);
            if known.is_some_and(|h| h.lease.session != self.attachment.session) {
                self.attachment.tell(Event::Revoke { lease: id.clone(), reason: Revoked::Unknown });
            }
        }
    }

    /// Confirms leases up to this number.
    pub fn accepted(&self, up_to: u64) {
        self.inner.hear(&self.attachment.session);
        let confirmed = self.attachment.confirm(up_to);
        self.confirmed(&confirmed);
    }

    fn confirmed(&self, leases: &[LeaseId]) {
        for id in leases {
            self.inner.hands.update(id, |hand| hand.accepted = true);
        }
    }

    /// The attempt runs. The state becomes STARTED.
    pub fn started(&self, lease: &LeaseId) {
        let hand = self.inner.hands.update(lease, |hand| {
            hand.accepted = true;
            hand.started = true;
            hand.clone()
        });
        let Some((hand, opened)) = hand.and_then(|mut h| h.opened.take().map(|o| (h, o))) else { return };
        let now = self.inner.clock.wall();
        let state = outcome::lease_state(&hand.lease, &opened.signature, Status::Started, now);
        self.inner.states.push(StateWrite { state, keep: outcome::WAITING_KEPT });
    }

    /// How far it is, for people to see.
    pub fn progress(&self, lease: &LeaseId, fraction: f64, message: String) {
        self.inner.hands.update(lease, |hand| hand.progress = Some((fraction, message)));
    }

    /// Outcomes; verdicts come as [`Event::ReportAck`]. Waits while too many reports of this stream have no verdict, so
    /// that a flood of them is held up at the socket.
    pub async fn report(&self, reports: Vec<Report>) {
        self.inner.hear(&self.attachment.session);
        for report in reports {
            self.attachment.reported(&report.lease);
            let Ok(permit) = self.reports.clone().acquire_owned().await else { return };
            let reported = Reported { report, to: Some(self.attachment.clone()), permit: Some(permit) };
            if self.inner.reports.send(reported).await.is_err() {
                return;
            }
        }
    }

    /// The worker leaves for good: its leases go back, at no cost of an attempt.
    pub async fn goodbye(&self) {
        // What it reported before counts as reported: each permit comes back with its verdict.
        let _ = self.reports.acquire_many(REPORTS_WAITING_MAX as u32).await;
        self.attachment.part(Parting::Asked);
        // A step of its own: the stream ends as soon as the goodbye is told, and whoever listens to it ends with it.
        let (inner, session) = (self.inner.clone(), self.attachment.session.clone());
        let (done, over) = tokio::sync::oneshot::channel::<()>();
        self.inner.spawn(async move {
            let _done = done;
            if let Err(error) = inner.farewell(&session).await {
                tracing::warn!(%error, %session, "leases of a worker that left wait for expiry");
            }
        });
        // Nothing is sent: the step is over, or halted, when its end is dropped.
        let _ = over.await;
    }

    /// The client does not read what it is sent: ends the stream. Its leases stay its own until it expires.
    pub fn too_slow(&self) {
        self.attachment.part(Parting::Slow);
    }
}
