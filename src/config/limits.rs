//! Section `limits`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, within};

/// Sizes and counts beyond which requests are refused, by name and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest task as encoded for the broker, bytes: 1,024 to 16,777,216. Default 1,048,576. Since 0.1.
    pub task_bytes_max: usize,
    /// Largest results of one attempt as encoded for the backend, bytes: 1,024 to 16,777,216. Default 1,048,576. Since 0.1.
    pub result_bytes_max: usize,
    /// Largest request message, bytes: 65,536 to 67,108,864. Default 4,194,304. Since 0.1.
    pub message_bytes_max: usize,
    /// Items in one batch: 1 to 10,000. Default 1,000. Since 0.1.
    pub batch_max: usize,
    /// Arguments of one task, and results of one attempt: 1 to 100,000. Default 1,000. Since 0.1.
    pub args_max: usize,
    /// Headers of one task: 0 to 10,000. Default 100. Since 0.1.
    pub headers_max: usize,
    /// Longest delay of a task: 1 s to 3,650 d. Default 365 d. Since 0.1.
    pub delay_max: Span,
    /// How deep tasks may nest in callbacks: 0 to 32, since protobuf libraries stop at 100 levels. Default 16. Since 0.1.
    pub callback_depth_max: u32,
    /// Tasks of one group or chord: 1 to 1,000,000. Default 100,000. Since 0.3.
    pub group_tasks_max: usize,
    /// Tasks of one chain: 1 to 4,900, since each is two levels of JSON and Machinery programs read 10,000. Default 1,000.
    /// Since 0.3.
    pub chain_tasks_max: usize,
    /// Leases one session may hold at once: 1 to 1,000,000. Default 10,000. Since 0.1.
    pub session_leases_max: u32,
    /// Bytes of leases on their way to one session that it has not confirmed: 1,048,576 to 1,073,741,824. Default
    /// 16,777,216. Since 0.1.
    pub session_bytes_max: usize,
    /// Sessions attached at once: 1 to 1,000,000. Default 10,000. Since 0.1.
    pub sessions_max: u32,
    /// Sends under way at once; more are refused with QUEUE_FULL: 1 to 1,000,000. Default 10,000. Since 0.1.
    pub sends_in_flight_max: usize,
    /// How long a `request_id` is remembered, so that the same send again is recognised: 1 s to 7 d. Default 1 h. Since 0.1.
    pub request_window: Span,
    /// Tasks of a queue that this server parks at a broker that other programs share, because none of its workers takes
    /// their names: they come back after 1 s, then 2, 4 … 30 s. Others beyond go to the end of the queue: 0 to 8,192.
    /// Default 1,000. Since 0.2.
    pub parked_max: u32,
    /// A client of a stream that takes nothing for this long is ended with SLOW_CONSUMER: 1 s to 10 min. Default 30 s.
    /// Since 0.1.
    pub stall_max: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            task_bytes_max: 1 << 20,
            result_bytes_max: 1 << 20,
            message_bytes_max: 4 << 20,
            batch_max: 1000,
            args_max: 1000,
            headers_max: 100,
            delay_max: Span::seconds(365 * 86400),
            callback_depth_max: 16,
            group_tasks_max: 100_000,
            chain_tasks_max: 1000,
            session_leases_max: 10_000,
            session_bytes_max: 16 << 20,
            sessions_max: 10_000,
            sends_in_flight_max: 10_000,
            request_window: Span::seconds(3600),
            parked_max: 1000,
            stall_max: Span::seconds(30),
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("limits.task_bytes_max", self.task_bytes_max, 1 << 10, 16 << 20)?;
        within("limits.result_bytes_max", self.result_bytes_max, 1 << 10, 16 << 20)?;
        within("limits.message_bytes_max", self.message_bytes_max, 64 << 10, 64 << 20)?;
        within("limits.batch_max", self.batch_max, 1, 10_000)?;
        within("limits.args_max", self.args_max, 1, 100_000)?;
        within("limits.headers_max", self.headers_max, 0, 10_000)?;
        within("limits.delay_max", self.delay_max, Span::seconds(1), Span::seconds(3650 * 86400))?;
        within("limits.callback_depth_max", self.callback_depth_max, 0, 32)?;
        within("limits.group_tasks_max", self.group_tasks_max, 1, 1_000_000)?;
        within("limits.chain_tasks_max", self.chain_tasks_max, 1, 4_900)?;
        within("limits.session_leases_max", self.session_leases_max, 1, 1_000_000)?;
        within("limits.session_bytes_max", self.session_bytes_max, 1 << 20, 1 << 30)?;
        within("limits.sessions_max", self.sessions_max, 1, 1_000_000)?;
        within("limits.sends_in_flight_max", self.sends_in_flight_max, 1, 1_000_000)?;
        within("limits.request_window", self.request_window, Span::seconds(1), Span::seconds(7 * 86400))?;
        within("limits.parked_max", self.parked_max, 0, 8192)?;
        within("limits.stall_max", self.stall_max, Span::seconds(1), Span::seconds(600))
    }
}
