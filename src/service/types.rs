//! What `service` takes and answers, in domain words. `api` translates them to and from the protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Capabilities;
use crate::clock::WallTime;
use crate::ledger::join::Kind;
use crate::ledger::{Session, Subscription, Verdict};
use crate::task::{
    Arg, GroupId, Headers, LeaseId, QueueName, SessionId, Signature, TaskId, TaskName, TaskState, Timestamp,
    TraceContext,
};
use crate::telemetry::spans::Spans;

/// Bytes of tasks or results after which an answer ends, where more may be asked for: below the 4 MiB that most clients
/// take by default, with room for one encoding being longer than the other. An answer of one item is as long as that is.
pub const ANSWER_BYTES_MAX: usize = 3 << 20;

/// A task as a producer gives it, its fields already well-formed.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// `None`: made here.
    pub id: Option<TaskId>,
    /// Registered name.
    pub name: String,
    /// `None`: the default queue.
    pub queue: Option<QueueName>,
    /// Empty: the broker's rule.
    pub routing_key: String,
    /// Arguments.
    pub args: Vec<Arg>,
    /// Headers of the caller.
    pub headers: Headers,
    /// Not before this moment.
    pub eta: Option<Timestamp>,
    /// Not before this long from now; never together with `eta`.
    pub delay: Option<Duration>,
    /// 0 to 255.
    pub priority: u8,
    /// Retries.
    pub retry_count: u32,
    /// Last delay, seconds.
    pub retry_timeout: u64,
    /// Results are not passed on.
    pub immutable: bool,
    /// How long the final state is kept; `None`: [`Settings::results_expire_in`].
    pub result_retention: Option<Duration>,
    /// How long one attempt may run, from its grant; `None`: as long as its worker lives.
    pub attempt_timeout: Option<Duration>,
    /// From the send on; after it no attempt begins.
    pub expires_in: Option<Duration>,
    /// Sent after SUCCESS.
    pub on_success: Vec<Submission>,
    /// Sent after FAILURE.
    pub on_error: Vec<Submission>,
    /// Names this send; never in a callback.
    pub request_id: Option<String>,
    /// At most one task has this key at a time; never in a callback.
    pub idempotency: Option<Idempotency>,
}

/// A key, and how long it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// How long.
    pub until: Until,
}

/// How long an idempotency key is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until a worker has got the task.
    Started,
    /// Until the task has ended.
    Ended,
    /// For this long.
    Passed(Duration),
}

/// The longest [`Until::Passed`], and how long a key is in force in any case: as long as a task that waits is remembered.
pub const KEY_KEPT_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Tasks that are sent together.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// What they are to each other.
    pub kind: Kind,
    /// `None`: made here.
    pub id: Option<GroupId>,
    /// Names this send.
    pub request_id: Option<String>,
    /// In order; without names of their own.
    pub tasks: Vec<Submission>,
    /// Behind them all: of a chord, and only of one.
    pub callback: Option<Submission>,
    /// The callback is sent however the tasks ended.
    pub is_always: bool,
}

/// Tasks that were accepted together, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowSent {
    /// Their id.
    pub group: GroupId,
    /// The ids of the tasks, in order.
    pub tasks: Vec<TaskId>,
    /// The id of the callback.
    pub callback: Option<TaskId>,
    /// Nothing was sent now: it was before.
    pub already: bool,
}

/// How far a group, chord or chain is.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupView {
    /// Its id.
    pub id: GroupId,
    /// What its tasks are to each other.
    pub kind: Kind,
    /// How many tasks there are.
    pub total: u32,
    /// How many have ended.
    pub ended: u32,
    /// How many have failed.
    pub failed: u32,
    /// All have ended, and what follows too.
    pub is_completed: bool,
    /// When they were sent; [`Timestamp::ZERO`]: not known.
    pub created_at: Timestamp,
    /// The callback, as far as it is known.
    pub callback: Option<TaskState>,
}

/// A page of the tasks of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupTasks {
    /// In order; of each its id, and its state if that is kept.
    pub tasks: Vec<(TaskId, Option<TaskState>)>,
    /// From where the next page goes on; `None`: this was the last.
    pub next: Option<u32>,
}

/// What cancelling a group came to: how many tasks of each answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupCancelled {
    /// See [`CancelAnswer::Ended`].
    pub ended: u32,
    /// See [`CancelAnswer::Removed`].
    pub removed: u32,
    /// See [`CancelAnswer::Signalled`].
    pub signalled: u32,
    /// See [`CancelAnswer::Marked`].
    pub marked: u32,
}

/// A task that was accepted, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub task: TaskId,
    /// Nothing was sent now: it was before.
    pub already: bool,
}

/// A stream's opening.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Name for people; empty: the session's id.
    pub worker: String,
    /// Language of the client.
    pub language: String,
    /// Version of the client.
    pub version: String,
    /// What it takes.
    pub subscriptions: Vec<Subscription>,
    /// Slots, for people.
    pub concurrency: u32,
    /// The session to go on with.
    pub resume: Option<Resume>,
    /// The leases it still holds.
    pub held: Vec<LeaseId>,
}

/// Proof of a session.
#[derive(Clone)]
pub struct Resume {
    /// The session.
    pub session: SessionId,
    /// Its secret.
    pub secret: String,
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resume({}, secret redacted)", self.session)
    }
}

/// A lease on its way to a worker.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The lease.
    pub id: LeaseId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its queue.
    pub queue: QueueName,
    /// The task. Headers of ours are still inside.
    pub signature: Arc<Signature>,
    /// When the task was sent, if known.
    pub sent_at: Option<WallTime>,
    /// The attempt, as the parent of what the worker does; `None`: no spans are recorded here, and the task's own context
    /// is for the worker.
    pub trace: Option<TraceContext>,
    /// Rough size of the lease on its way, bytes.
    pub bytes: usize,
}

/// What a stream is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// Work; numbered without gaps from `first_number`.
    Leases {
        /// The number of the first.
        first_number: u64,
        /// One or more.
        leases: Vec<Granted>,
    },
    /// A verdict. `None`: not recorded for a reason that may pass; report again.
    ReportAck {
        /// As reported.
        report: Option<String>,
        /// The lease.
        lease: LeaseId,
        /// What became of it.
        verdict: Option<Verdict>,
    },
    /// Answer to a heartbeat.
    HeartbeatAck {
        /// Echo.
        sequence: u64,
    },
    /// Stop this attempt.
    Revoke {
        /// The lease.
        lease: LeaseId,
        /// Why.
        reason: Revoked,
    },
    /// This server stops.
    Drain {
        /// How long the stream stays open.
        deadline: Duration,
    },
    /// The stream is over; nothing follows.
    Goodbye(Parting),
}

/// Why a lease was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// The session expired.
    Expired,
    /// Not this session's, or ended.
    Unknown,
    /// Somebody cancelled the task; the lease lives until the worker reports, or [`Settings::cancel_grace`] is over.
    Cancelled,
    /// The attempt ran too long; the lease lives until the worker reports, or [`Settings::cancel_grace`] is over.
    TimedOut,
}

/// What cancelling a task came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It waited, and has ended as cancelled.
    Removed,
    /// It is marked: it ends as cancelled when one of our servers meets it, unless it ends otherwise before.
    Marked,
    /// It runs, and its worker was told.
    Signalled,
    /// It had ended before.
    Ended,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The worker said goodbye.
    Asked,
    /// Attached again elsewhere.
    Replaced,
    /// The session expired.
    Expired,
    /// The server stopped.
    Drained,
    /// The client did not read.
    Slow,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone)]
pub struct Welcome {
    /// The session and its secret.
    pub session: Resume,
    /// True if an old one was taken up again.
    pub resumed: bool,
    /// For each lease brought back: kept or not.
    pub held: Vec<(LeaseId, bool)>,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Names the report.
    pub id: Option<String>,
    /// The lease.
    pub lease: LeaseId,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Well, with results.
    Success(Vec<Arg>),
    /// Badly.
    Failure {
        /// What a person should read.
        error: String,
        /// No retry, whatever is left.
        is_final: bool,
        /// Again after this long, at no cost of a retry.
        retry_after: Option<Duration>,
    },
    /// It ran too long, and its worker has not told its end. Only this server itself reports so.
    TimedOut {
        /// How long it might run.
        after: Duration,
    },
    /// Not made, or given up: to be made again.
    Release {
        /// Not before this long.
        delay: Duration,
    },
}

/// A unary request for leases.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// `None`: a new session.
    pub session: Option<Resume>,
    /// Name of a new session.
    pub worker: String,
    /// What to take.
    pub subscriptions: Vec<Subscription>,
    /// 1 to `batch_max`.
    pub tasks_max: usize,
    /// How long to wait for the first.
    pub wait_max: Duration,
    /// Makes the request safe to repeat.
    pub request_id: Option<String>,
}

/// Its answer.
#[derive(Debug, Clone)]
pub struct LeaseReply {
    /// Leases, maybe none.
    pub leases: Vec<Granted>,
    /// The session.
    pub session: Resume,
}

/// A task that waits.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The task, or why the body is none.
    pub task: Result<Signature, String>,
    /// Not before; `None`: due.
    pub available_at: Option<WallTime>,
    /// No attached worker takes this name from this queue.
    pub unclaimed: bool,
}

/// A page of waiting tasks.
#[derive(Debug, Clone, Default)]
pub struct PendingTasks {
    /// In order.
    pub tasks: Vec<Pending>,
    /// For the next page.
    pub next: Option<Vec<u8>>,
}

/// A lease for people.
#[derive(Debug, Clone)]
pub struct LeaseView {
    /// The lease.
    pub lease: crate::ledger::Lease,
    /// The worker confirmed that it has it, as far as this replica knows.
    pub accepted: bool,
    /// The worker said that the attempt runs.
    pub started: bool,
    /// How far the attempt is, 0 to 1, and what it said last.
    pub progress: Option<(f64, String)>,
}

/// A worker for people.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its session.
    pub session: Session,
    /// Leases it holds.
    pub leases: u32,
    /// It has a stream here, or waits in a unary call.
    pub attached: bool,
    /// How long ago it was heard of, as far as this replica knows.
    pub silent_for: Duration,
}

/// Intervals and limits in force. Defaults are those of `config`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Queue of tasks that name none.
    pub default_queue: QueueName,
    /// How long results are kept after the end of their task.
    pub results_expire_in: Duration,
    /// Workers send a heartbeat this often.
    pub heartbeat_interval: Duration,
    /// Without a heartbeat for this long the leases are lost.
    pub lease_duration: Duration,
    /// Silence on a stream after which it is dead.
    pub silence_max: Duration,
    /// A worker told to stop, of a cancellation or a timeout, has this long to report; then its lease ends.
    pub cancel_grace: Duration,
    /// Attempts that may end in dead workers.
    pub lost_max: u32,
    /// Tasks that end in FAILURE are set aside too.
    pub keep_failed: bool,
    /// Tasks set aside are forgotten this long after.
    pub dead_expire_in: Duration,
    /// Largest task as encoded, bytes.
    pub task_bytes_max: usize,
    /// Largest results as encoded, bytes.
    pub result_bytes_max: usize,
    /// Largest request message, bytes.
    pub message_bytes_max: usize,
    /// Items in a batch.
    pub batch_max: usize,
    /// Arguments of a task.
    pub args_max: usize,
    /// Headers of a task.
    pub headers_max: usize,
    /// Longest delay.
    pub delay_max: Duration,
    /// Leases one session may hold.
    pub session_leases_max: u32,
    /// The greatest `session_leases_max` since the start: a worker may name all that it was given under another limit.
    pub held_max: usize,
    /// The greatest `batch_max` since the start: workers report and extend in batches of the size they once learned.
    pub reports_max: usize,
    /// Sessions attached at once.
    pub sessions_max: u32,
    /// Depth of callbacks.
    pub callback_depth_max: u32,
    /// Tasks of one group or chord.
    pub group_tasks_max: usize,
    /// Tasks of one chain.
    pub chain_tasks_max: usize,
    /// Sends under way at once; more are refused.
    pub sends_in_flight_max: usize,
    /// How long a [`Submission::request_id`] is remembered.
    pub request_window: Duration,
    /// Streams stay open this long while draining.
    pub drain_deadline: Duration,
    /// Bytes of leases on their way to one session that it has not yet read.
    pub session_bytes_max: usize,
    /// Tasks of a queue that one replica parks because nobody here takes their names.
    pub parked_max: u32,
    /// What the weights of subscriptions are multiplied by, for each queue that is named: from 1. Others: 1.
    pub weights: HashMap<QueueName, u32>,
    /// Where spans are recorded. A running server keeps what it was started with.
    pub spans: Spans,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_queue: QueueName::trusted("machinery_tasks"),
            results_expire_in: Duration::from_secs(3600),
            heartbeat_interval: Duration::from_secs(10),
            lease_duration: Duration::from_secs(30),
            silence_max: Duration::from_secs(45),
            cancel_grace: Duration::from_secs(10),
            lost_max: 3,
            keep_failed: false,
            dead_expire_in: Duration::from_secs(30 * 86400),
            task_bytes_max: 1 << 20,
            result_bytes_max: 1 << 20,
            message_bytes_max: 4 << 20,
            batch_max: 1000,
            args_max: 1000,
            headers_max: 100,
            delay_max: Duration::from_secs(365 * 86400),
            session_leases_max: 10_000,
            held_max: 10_000,
            reports_max: 1000,
            sessions_max: 10_000,
            callback_depth_max: 16,
            group_tasks_max: 100_000,
            chain_tasks_max: 1000,
            sends_in_flight_max: 10_000,
            request_window: Duration::from_secs(3600),
            drain_deadline: Duration::from_secs(30),
            session_bytes_max: 16 << 20,
            parked_max: 1000,
            weights: HashMap::new(),
            spans: Spans::off(),
        }
    }
}

impl Settings {
    /// The settings after a change to `next`. What workers were told, and what a running server cannot change, stays.
    pub(super) fn followed_by(&self, next: Self) -> Self {
        Self {
            default_queue: self.default_queue.clone(),
            heartbeat_interval: self.heartbeat_interval,
            lease_duration: self.lease_duration,
            silence_max: self.silence_max,
            message_bytes_max: self.message_bytes_max,
            held_max: self.held_max.max(next.held_max),
            reports_max: self.reports_max.max(next.reports_max),
            spans: self.spans.clone(),
            ..next
        }
    }

    /// What the weights of subscriptions to `queue` are multiplied by.
    pub fn weight_of(&self, queue: &QueueName) -> u32 {
        self.weights.get(queue).copied().unwrap_or(1)
    }
}

/// The stores in force and what they promise together.
#[derive(Debug, Clone)]
pub struct Guarantees {
    /// The broker's.
    pub broker: Capabilities,
    /// The ledger's name.
    pub ledger: &'static str,
    /// The backend's name.
    pub backend: &'static str,
    /// Sending and settling are one transaction.
    pub fused: bool,
    /// Only one server may use these stores.
    pub single_replica: bool,
}

/// Names taken by attached workers, for [`Pending::unclaimed`].
pub type Claimed = std::collections::HashSet<TaskName>;
