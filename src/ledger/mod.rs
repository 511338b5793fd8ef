//! The ledger seam: the truth about attempts.
//!
//! Strict: every write is compared and set, whichever replica asks. The fence stands here, in every combination of
//! stores. A message has at most one live lease and at most one decision; the decision is final.

pub mod claim;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod join;
pub mod lifetime;
pub mod memory;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::StateWrite;
use crate::broker::NewTask;
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::task::{FailureReason, FencingToken, GroupId, LeaseId, MessageKey, QueueName, SessionId, TaskId, TaskName};
pub use lifetime::{Lifetime, Lifetimes};

/// How long a message without live lease and without decision keeps its history (fence, lost attempts, releases) after
/// it was last touched. Seven days: as long as a delivery may wait for a worker or an operator over a holiday.
pub const OPEN_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The session of leases that are granted only so that their message can be decided: nobody's. Left behind by a crash, they
/// are orphans that cost no attempt.
pub const NOBODY: &str = "lineshaft-nobody";

/// One worker process as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// Its own name, for people, and to tell workers apart when attempts are lost.
    pub worker: String,
    /// Language of its client.
    pub language: String,
    /// Version of its client.
    pub version: String,
    /// What it takes.
    pub subscriptions: Vec<Subscription>,
    /// Slots; 0: no limit of its own.
    pub concurrency: u32,
    /// Counts the attaches: the stream with the highest number is the one that counts.
    pub attach: u64,
}

/// A queue and the names taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The queue.
    pub queue: QueueName,
    /// The names.
    pub names: Vec<TaskName>,
    /// Share among the session's queues, from 1.
    pub weight: u32,
}

/// A request for a lease.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The message.
    pub message: MessageKey,
    /// Its task.
    pub task: TaskId,
    /// Its name.
    pub name: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// For whom.
    pub session: SessionId,
    /// The attach under which it is granted; refused if the session attached again since. 0: any (unary calls).
    pub attach: u64,
    /// Its worker's name, for the history of lost attempts.
    pub worker: String,
    /// The `request_id` of the unary call that asked.
    pub request_id: Option<String>,
    /// Attempts made under earlier messages of the task.
    pub attempts_before: u32,
    /// Which sending of the task this is, for [`CancelMark`]s.
    pub generation: u64,
    /// Now.
    pub at: WallTime,
    /// The body, where the broker cannot recall it.
    pub body: Option<Bytes>,
}

/// The answer to a [`Grant`].
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// Granted: run it.
    Run(Lease),
    /// It has a live lease: hold the delivery, neither run nor lose it. A grant repeated after an unknown outcome meets
    /// its own lease here.
    Held(Lease),
    /// It has a decision: acknowledge the delivery.
    Decided,
    /// Its task has a [`CancelMark`]: granted, not to be run but to be decided as cancelled. The session need not live.
    Cancelled(Lease),
    /// The session is gone, or attached again elsewhere: give the delivery back.
    NoSession,
}

/// Says that a task shall end. Durable: whatever message of the task is met from then on, a retry too, is not run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CancelMark {
    /// The task.
    pub task: TaskId,
    /// The sending, see [`crate::task::Order::generation`]. Earlier ones are cancelled too, later ones are not.
    pub generation: u64,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Message and token.
    pub id: LeaseId,
    /// The task.
    pub task: TaskId,
    /// Its name.
    pub name: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Who holds it.
    pub session: SessionId,
    /// Who holds it, by name.
    pub worker: String,
    /// The unary request it answered.
    pub request_id: Option<String>,
    /// The attempt, from 1, counted over all messages of the task.
    pub attempt: u32,
    /// Attempts of this message that ended in dead workers, until now: with this one, once it ended so.
    pub lost: Vec<LostAttempt>,
    /// How often this message was given back without an attempt, until now.
    pub releases: u32,
    /// Since when.
    pub at: WallTime,
    /// The body, if the grant brought it.
    pub body: Option<Bytes>,
}

/// An attempt that ended in a dead worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostAttempt {
    /// The attempt.
    pub attempt: u32,
    /// The worker.
    pub worker: String,
    /// When it was noticed.
    pub at: WallTime,
}

/// How a lease ends without a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The worker never began, or the system interrupted it: costs no attempt.
    Free {
        /// The report that asked for it; the same one again is a duplicate.
        report: Option<String>,
    },
    /// The worker died: counts as an attempt, and is remembered.
    Lost {
        /// When it was noticed.
        at: WallTime,
    },
}

/// The end of a message: what was reported, and all that follows from it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Under which lease. The lease need not be live, but none may have been granted since.
    pub lease: LeaseId,
    /// Names the report; the same one again is a duplicate.
    pub report: Option<String>,
    /// Digest of the reported outcome: the same again is a duplicate, another a conflict.
    pub digest: [u8; 32],
    /// When.
    pub at: WallTime,
    /// What must happen because of it, each step safe to repeat.
    pub effects: Effects,
    /// The task is set aside.
    pub dead: Option<DeadTask>,
    /// How long the decision is remembered after its effects are done; until then it is remembered in any case.
    pub keep: Duration,
    /// Lifetimes of the tasks that the effects send, remembered with the decision.
    pub begins: Vec<Lifetime>,
    /// The lifetime of the task, if it has ended: forgotten with the decision.
    pub ends: Option<Lifetime>,
    /// Joins that another program began and its members belong to: opened before it is decided, and no part of what is stored.
    pub opens: Vec<join::Opening>,
}

/// What follows from a decision. Recorded with it, so that any replica can finish, byte for byte the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// States to become visible, in order.
    pub states: Vec<StateWrite>,
    /// Messages to publish: a retry, or callbacks.
    pub publish: Vec<NewTask>,
    /// Members of joins that end with it.
    pub joins: Vec<join::Ended>,
}

/// A task set aside, with its reason, history and body.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadTask {
    /// The message.
    pub message: MessageKey,
    /// The task.
    pub task: TaskId,
    /// Its name.
    pub name: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Why.
    pub kind: FailureReason,
    /// Why, for people: the text of the last failure.
    pub reason: String,
    /// Attempts made, over all messages of the task; 0: the body is no task.
    pub attempts: u32,
    /// Attempts of this message that ended in dead workers.
    pub lost: Vec<LostAttempt>,
    /// When.
    pub at: WallTime,
    /// The body as received.
    pub body: Bytes,
    /// The generation under which it is being requeued, from [`Ledger::begin_requeue`]; `None`: it is not.
    pub requeue: Option<u64>,
}

/// The answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Recorded now.
    Recorded,
    /// Recorded before: the same report.
    Duplicate,
    /// Granted again since, decided under a later lease, or not known any more. Nothing changed.
    Superseded,
    /// This lease ended otherwise: a report contradicts the decision, or a release another ending. Nothing changed.
    Conflict,
}

/// What the ledger knows of a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseStatus {
    /// Live.
    Live(Lease),
    /// Ended without a decision, and not granted since: a report would be recorded.
    Released(Lease),
    /// Its message was decided under this lease.
    Decided,
    /// Granted again since (and maybe decided under a later lease), or never granted, or forgotten.
    Gone,
}

/// A decision whose effects are not known to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Undone {
    /// The message.
    pub message: MessageKey,
    /// What may remain to be done.
    pub effects: Effects,
}

/// Which leases to list, oldest first.
#[derive(Debug, Clone, Default)]
pub struct LeaseQuery {
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only granted after this token.
    pub after: FencingToken,
    /// At most this many.
    pub max: usize,
}

/// The truth about attempts. Every method takes and answers batches, one answer each, in order.
///
/// # Errors
/// All methods: [`StoreError::Unavailable`] nothing was written; [`StoreError::OutcomeUnknown`] may have been written:
/// call again, every method is safe to repeat; [`StoreError::Corrupt`].
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// The room's name: `embedded`, `redis`, …
    fn name(&self) -> &'static str;

    /// True if several servers may share this ledger.
    fn replicas(&self) -> bool;

    /// Records a session, new or attached again. Refused (`false`) if the stored one has an equal or higher `attach`
    /// (another stream was faster), or if it is unknown and `attach` is not 1 (expired meanwhile). Raises its renewal
    /// number, so that nobody closes what has just come back. After an unknown outcome read the session and attach with
    /// a number above its own: repeated with the same number it is refused, as it cannot be told from a second stream.
    async fn attach(&self, session: &Session) -> Result<bool, StoreError>;

    /// The session as recorded.
    async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError>;

    /// The sessions after `after` in order of their ids, at most `max`.
    async fn sessions(&self, after: Option<&SessionId>, max: usize) -> Result<Vec<Session>, StoreError>;

    /// Raises the renewal number of each session; `false`: no such session. Need not survive a crash: a watcher begins
    /// anew after one.
    async fn renew(&self, sessions: &[SessionId]) -> Result<Vec<bool>, StoreError>;

    /// The renewal number of every session. Equal numbers over a whole lease time, by the watcher's monotonic clock and
    /// without an error in between, mean that the session is dead.
    async fn renewals(&self) -> Result<Vec<(SessionId, u64)>, StoreError>;

    /// Ends a session, if its renewal number is still `renewal` (`None`: whatever it is), and answers the leases it
    /// held, oldest token first; they stay live until they are ended one by one, and no new ones are granted. Answers the
    /// same leases when repeated, until they are ended, also for a session that nobody knows. `None`: it was renewed, and
    /// lives.
    async fn close(&self, session: &SessionId, renewal: Option<u64>) -> Result<Option<Vec<Lease>>, StoreError>;

    /// Live leases whose session does not exist, oldest token first: left by a replica that died between
    /// [`Ledger::close`] and ending them.
    async fn orphans(&self, max: usize) -> Result<Vec<Lease>, StoreError>;

    /// Grants leases, each atomically: no decision, no live lease, session alive and not attached again since. The token
    /// is greater than every token granted before, by any replica, also before a restart. Where several reasons stand
    /// against a grant, the decision is told first, then the live lease, then the cancel mark, then the missing session.
    /// A grant to [`NOBODY`] needs no session: it is made only to be decided.
    async fn begin(&self, grants: &[Grant]) -> Result<Vec<Begun>, StoreError>;

    /// What is known of leases.
    async fn lookup(&self, leases: &[LeaseId]) -> Result<Vec<LeaseStatus>, StoreError>;

    /// For each message: its live lease, or whether it is decided. For deliveries held for others.
    async fn standing(&self, messages: &[MessageKey]) -> Result<Vec<Standing>, StoreError>;

    /// Live leases, oldest token first.
    async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, StoreError>;

    /// Ends leases without a decision.
    ///
    /// - [`Verdict::Recorded`]: it was live. A free ending counts in [`Lease::releases`], a lost one in [`Lease::lost`].
    /// - [`Verdict::Duplicate`]: ended in this way before: freely by the same report, or lost.
    /// - [`Verdict::Conflict`]: it ended otherwise.
    /// - [`Verdict::Superseded`]: not the last lease of its message, or not known.
    async fn release(&self, items: &[(LeaseId, Ending)]) -> Result<Vec<Verdict>, StoreError>;

    /// Records decisions, under the last lease of each message, live or released; the lease ends.
    ///
    /// - [`Verdict::Recorded`]: the first decision; answered only once it is durable. A dead task is set aside with it.
    /// - [`Verdict::Duplicate`]: decided under this lease, by the same report or with the same digest.
    /// - [`Verdict::Conflict`]: decided under this lease, otherwise.
    /// - [`Verdict::Superseded`]: not the last lease of its message, or not known.
    async fn decide(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError>;

    /// Decisions whose effects are not marked done, oldest first, with [`Decision::at`] before `before`.
    async fn undone(&self, before: WallTime, max: usize) -> Result<Vec<Undone>, StoreError>;

    /// Marks effects done: the decision is kept from `at` for its `keep`, then forgotten. Marking again changes nothing;
    /// messages without a decision are passed over.
    async fn done(&self, messages: &[MessageKey], at: WallTime) -> Result<(), StoreError>;

    /// Sets tasks aside without a decision: bodies that are none. One of the same message replaces the one before.
    async fn bury(&self, dead: &[DeadTask]) -> Result<(), StoreError>;

    /// Dead tasks after `after` in order of their message keys, at most `max`.
    async fn dead(&self, after: Option<&MessageKey>, max: usize) -> Result<Vec<DeadTask>, StoreError>;

    /// The dead task of each message; `None`: there is none.
    async fn dead_of(&self, messages: &[MessageKey]) -> Result<Vec<Option<DeadTask>>, StoreError>;

    /// Records with each dead task the generation under which it is requeued, and answers it. One that has a generation
    /// keeps it: whoever begins again, after a crash or at the same time, goes on under the first. `None`: there is no
    /// such dead task (any more).
    async fn begin_requeue(&self, items: &[(MessageKey, u64)]) -> Result<Vec<Option<DeadTask>>, StoreError>;

    /// Forgets the dead tasks of these messages; `false`: there was none.
    async fn forget_dead(&self, messages: &[MessageKey]) -> Result<Vec<bool>, StoreError>;

    /// Marks tasks as cancelled: a grant that begins later sees it, one that began before is a live lease by then. A mark
    /// of an earlier sending than the one marked already changes nothing.
    async fn mark(&self, marks: &[CancelMark]) -> Result<(), StoreError>;

    /// For each sending: whether a mark cancels it.
    async fn marked(&self, sendings: &[CancelMark]) -> Result<Vec<bool>, StoreError>;

    /// Marks after `after` in order of their tasks, at most `max`.
    async fn marks(&self, after: Option<&TaskId>, max: usize) -> Result<Vec<CancelMark>, StoreError>;

    /// Takes marks away whose tasks have ended; one that a later sending has got meanwhile stays.
    async fn unmark(&self, marks: &[CancelMark]) -> Result<(), StoreError>;

    /// How many leases are live in each queue, in order of the queues. Costs as much as there are live leases.
    async fn leased(&self) -> Result<Vec<(QueueName, u64)>, StoreError>;

    /// Pauses queues, since `at`; one that is paused already keeps its moment. Policy alone: grants do not ask.
    async fn pause(&self, queues: &[QueueName], at: WallTime) -> Result<(), StoreError>;

    /// Ends the pauses of queues; one that is not paused is nothing.
    async fn resume(&self, queues: &[QueueName]) -> Result<(), StoreError>;

    /// All paused queues, in order, each with the moment since when.
    async fn paused(&self) -> Result<Vec<(QueueName, WallTime)>, StoreError>;

    /// Forgets what is past its time, a bounded amount; answers how much. 0: nothing was left to forget. Past its time is
    /// a decision `keep` after its effects were done, and a message without lease and decision [`OPEN_KEPT`] after it was
    /// last touched; live leases and undone decisions never are. So is a claim that has lapsed.
    async fn sweep(&self, now: WallTime) -> Result<usize, StoreError>;

    /// Names of sends.
    fn claims(&self) -> &dyn claim::Claims;

    /// Until when tasks may be begun.
    fn lifetimes(&self) -> &dyn Lifetimes;

    /// What was sent together.
    fn joins(&self) -> &dyn join::Joins;

    /// Forgets dead tasks that were set aside before `before`, oldest first, a bounded amount; answers how much. 0: nothing
    /// was left to forget.
    async fn sweep_dead(&self, before: WallTime) -> Result<usize, StoreError>;

    /// Word between replicas. Lossy: whoever listens re-reads.
    fn notices(&self) -> &dyn Notices;
}

/// Where a message stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// No live lease, no decision.
    Open,
    /// It has a live lease.
    Leased(LeaseId),
    /// It has a decision.
    Decided,
}

/// Word between replicas.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// These messages were decided, or their leases ended: whoever holds a delivery of one looks again.
    Ended(Vec<MessageKey>),
    /// The session attached with this number: older streams of it end.
    Attached(SessionId, u64),
    /// The session was closed: its stream ends.
    Closed(SessionId),
    /// A task was marked as cancelled: whoever has its worker attached tells it.
    Marked(CancelMark),
    /// Queues were paused or resumed: every replica reads which.
    Paused,
    /// Members of these joins ended: whoever watches them looks again.
    Joined(Vec<GroupId>),
}

/// Word between replicas: lossy, in no order.
pub trait Notices: Send + Sync {
    /// Tells every replica, this one too.
    fn tell(&self, notice: Notice);

    /// Everything told from now on. A listener that falls 1,024 behind loses the oldest.
    fn listen(&self) -> tokio::sync::broadcast::Receiver<Notice>;
}

/// Notices within one process.
#[derive(Debug)]
pub struct LocalNotices(tokio::sync::broadcast::Sender<Notice>);

impl Default for LocalNotices {
    fn default() -> Self {
        Self(tokio::sync::broadcast::channel(1024).0)
    }
}

impl Notices for LocalNotices {
    fn tell(&self, notice: Notice) {
        // An error says that nobody listens.
        let _ = self.0.send(notice);
    }

    fn listen(&self) -> tokio::sync::broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}
