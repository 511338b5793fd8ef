//! A task as Machinery knows it: the 19 fields of its signature.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Arg, Timestamp};

/// One JSON value as its text: no digit of a number is lost and no depth is a problem. `wire` gives and writes it in one
/// form (no white space, keys sorted, Go's escapes); text in another form is brought into it when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawJson(pub String);

/// Headers, sorted bytewise as Go prints them. Keys of ours begin with `lineshaft-` and have string values.
pub type Headers = BTreeMap<String, RawJson>;

/// The JSON of a nested task (a callback), unread. It is one JSON object, as `wire::machinery` encodes or slices it; it is decoded when it is sent, one level at a time, so that a chain of
/// any length needs no recursion.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Body(pub Bytes);

/// Machinery's signature. Field by field as in the wire document, section 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signature {
    /// Task id and result key.
    pub uuid: String,
    /// Registered name.
    pub name: String,
    /// Queue or routing key.
    pub routing_key: String,
    /// Not before.
    pub eta: Option<Timestamp>,
    /// Group id, or empty.
    pub group_uuid: String,
    /// Size of the group.
    pub group_task_count: i64,
    /// Positional arguments; `None` is JSON `null`.
    pub args: Option<Vec<Arg>>,
    /// Headers; `None` is JSON `null`.
    pub headers: Option<Headers>,
    /// 0 to 255.
    pub priority: u8,
    /// Results are not passed to `on_success`.
    pub immutable: bool,
    /// Retries left.
    pub retry_count: i64,
    /// Last delay used, seconds.
    pub retry_timeout: i64,
    /// Sent after success; `None` is JSON `null`.
    pub on_success: Option<Vec<Body>>,
    /// Sent after failure; `None` is JSON `null`.
    pub on_error: Option<Vec<Body>>,
    /// Sent when the group is done.
    pub chord_callback: Option<Body>,
    /// SQS FIFO group.
    pub broker_message_group_id: String,
    /// Filled by Go's SQS consumer.
    pub sqs_receipt_handle: String,
    /// SQS dead-letter support.
    pub stop_task_deletion_on_error: bool,
    /// Drop instead of handing back.
    pub ignore_when_task_not_registered: bool,
}
