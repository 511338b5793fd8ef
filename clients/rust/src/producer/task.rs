//! A task to be sent.

use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::proto;
use crate::value::{self, IntoArg, ValueError, header_from_json};

/// The header with the trace a task belongs to.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// The header with what tracing systems add.
pub(crate) const TRACESTATE: &str = "tracestate";

/// How long an idempotency key is in force; in any case no longer than seven days from when the task was sent, or from its
/// ETA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// Until a worker has got the task.
    Started,
    /// Until the task has ended.
    #[default]
    Ended,
    /// For this long from the send, whatever becomes of the task: more than 0, at most seven days.
    Passed(Duration),
}

/// One unit of work, to be run by a worker that registered its name.
///
/// What is not set is left to the server: `proto/lineshaft/v1/task.proto` has each field's range and default. Values out
/// of range are refused by the server, with the field's path.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "a task does nothing until it is sent"]
pub struct Task {
    proto: proto::Task,
    /// The first argument that could not be written; told by the send.
    mistake: Option<ValueError>,
}

impl Task {
    /// A task of that name: 1 to 200 bytes without control characters.
    pub fn new(name: impl Into<String>) -> Self {
        Self { proto: proto::Task { name: name.into(), ..proto::Task::default() }, mistake: None }
    }

    /// Adds the next positional argument. One that cannot be written (see [`Json`](crate::Json)) makes the send an error.
    pub fn arg(mut self, value: impl IntoArg) -> Self {
        let position = self.proto.args.len();
        if let Some(codec) = value.codec() {
            value::mark(&mut self.proto, position, codec);
        }
        match value.try_into_arg() {
            Ok(arg) => self.proto.args.push(arg),
            Err(error) => {
                self.mistake.get_or_insert(error.at(position));
                // Holds the place of the argument, for the positions of those that follow.
                self.proto.args.push(proto::Arg::default());
            }
        }
        self
    }

    /// Names the task: 1 to 200 bytes without spaces and control characters. Unset: the server makes an id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.proto.id = id.into();
        self
    }

    /// The queue. Unset: the client's default queue, else the server's.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.proto.queue = queue.into();
        self
    }

    /// The routing key, where the broker routes by one. Unset: the broker's rule for the queue.
    pub fn routing_key(mut self, key: impl Into<String>) -> Self {
        self.proto.routing_key = key.into();
        self
    }

    /// Not before this long from the moment the server reads the task. Not together with [`Task::eta`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.proto.delay = Some(to_proto(delay));
        self
    }

    /// Not before this moment, by the server's clock. Not together with [`Task::delay`].
    pub fn eta(mut self, eta: SystemTime) -> Self {
        self.proto.eta = Some(eta.into());
        self
    }

    /// 0 (the default) to 255; higher is leased first where the broker can.
    pub fn priority(mut self, priority: u8) -> Self {
        self.proto.priority = u32::from(priority);
        self
    }

    /// How often a failed attempt is retried. Default 0.
    pub fn retry(mut self, count: u32) -> Self {
        self.proto.retry_count = count;
        self
    }

    /// The delay before the next retry is the smallest Fibonacci number of seconds greater than this; whole seconds.
    pub fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.proto.retry_timeout = Some(to_proto(timeout));
        self
    }

    /// How long the final state is kept after the end, results included: 1 s to 365 days, whole milliseconds. Default: as
    /// the server is configured, 1 h.
    pub fn keep_result(mut self, retention: Duration) -> Self {
        self.proto.result_retention = Some(to_proto(retention));
        self
    }

    /// How long one attempt may run: 100 ms to 30 days. Then its function is told to stop; without a report within the
    /// server's grace time the attempt has failed, and is retried if retries are left. Default: as long as it takes.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.proto.attempt_timeout = Some(to_proto(timeout));
        self
    }

    /// How long after the server has read the task an attempt may still begin: 1 s to 365 days. What still waits then ends
    /// in FAILURE as expired; a running attempt goes on. Default: without end.
    pub fn expires_in(mut self, span: Duration) -> Self {
        self.proto.expires_in = Some(to_proto(span));
        self
    }

    /// Sets a header, carried unchanged through retries and callbacks.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.proto.headers.insert(key.into(), header_from_json(value.into()));
        self
    }

    /// The trace this task belongs to: a W3C `traceparent`, such as a tracing library makes of its current span, which becomes
    /// the parent of all that the server and the worker tell of the task. Its callbacks come under the attempt that causes
    /// them. A malformed one is ignored. The same as a header `traceparent`.
    pub fn traceparent(self, traceparent: impl Into<String>) -> Self {
        self.header(TRACEPARENT, traceparent.into())
    }

    /// What tracing systems add to [`Task::traceparent`]: a W3C `tracestate`, carried unread. The same as a header `tracestate`.
    pub fn tracestate(self, tracestate: impl Into<String>) -> Self {
        self.header(TRACESTATE, tracestate.into())
    }

    /// Adds a task that is sent when this one has succeeded, its results appended to that one's arguments.
    pub fn on_success(mut self, task: Task) -> Self {
        self.mistake = self.mistake.or(task.mistake);
        self.proto.on_success.push(task.proto);
        self
    }

    /// Adds a task that is sent when this one has failed, the error text put before that one's arguments.
    pub fn on_error(mut self, mut task: Task) -> Self {
        value::shift(&mut task.proto);
        self.mistake = self.mistake.or(task.mistake);
        self.proto.on_error.push(task.proto);
        self
    }

    /// Its results are not appended to the arguments of what is sent when it has succeeded. The callback of a chord that is
    /// immutable takes no results itself.
    pub fn immutable(mut self) -> Self {
        self.proto.immutable = true;
        self
    }

    /// Names this send: 1 to 200 bytes without spaces and control characters. Sent again under the same name, with the same
    /// content and within the server's `Limits.request_window` (1 h), it is the same send: answered with the same task, run
    /// once. Unset: the client makes one for each send, which serves its own repetitions.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.proto.request_id = id.into();
        self
    }

    /// Says what the task is about: while a task with this key is in force, another with it is not sent but answered with the
    /// first one's id. 1 to 200 bytes without spaces and control characters.
    pub fn idempotency_key(mut self, key: impl Into<String>, until: Until) -> Self {
        let until = match until {
            Until::Started => proto::idempotency::Until::Started(true),
            Until::Ended => proto::idempotency::Until::Ended(true),
            Until::Passed(time) => proto::idempotency::Until::Duration(to_proto(time)),
        };
        self.proto.idempotency = Some(proto::Idempotency { key: key.into(), until: Some(until) });
        self
    }

    /// The message of the protocol. An argument that could not be written has no value there, and is refused by the server.
    pub fn into_proto(self) -> proto::Task {
        self.proto
    }

    /// The message of the protocol, if every argument could be written.
    pub(crate) fn try_into_proto(self) -> Result<proto::Task, Error> {
        match self.mistake {
            Some(mistake) => Err(mistake.into()),
            None => Ok(self.proto),
        }
    }
}

impl From<proto::Task> for Task {
    fn from(proto: proto::Task) -> Self {
        Self { proto, mistake: None }
    }
}

/// A duration of the protocol; one beyond its range (10,000 years) becomes the longest it has, for the server to refuse.
pub(crate) fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

/// A native duration; a negative one becomes none.
pub(crate) fn from_proto(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| duration.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_carries_what_was_set() {
        let task = Task::new("add")
            .arg(1i64)
            .arg("x")
            .queue("q")
            .delay(Duration::from_millis(1500))
            .priority(9)
            .retry(3)
            .header("tenant", "a")
            .on_success(Task::new("next").immutable())
            .on_error(Task::new("alarm"))
            .into_proto();
        assert_eq!(task.args.len(), 2);
        assert_eq!(task.delay, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!((task.priority, task.retry_count), (9, 3));
        assert_eq!(task.on_success[0].name, "next");
        assert!(task.on_success[0].immutable);
        assert_eq!(task.on_error[0].name, "alarm");
        assert!(task.id.is_empty());
    }

    #[test]
    fn a_duration_without_end_is_left_for_the_server_to_refuse() {
        assert_eq!(to_proto(Duration::MAX).seconds, i64::MAX);
        assert_eq!(from_proto(Some(prost_types::Duration { seconds: -1, nanos: 0 })), None);
    }
}
