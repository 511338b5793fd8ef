//! Every metric: name, type, labels and help, in the order in which they are told. `src/docs/metrics.md` says the same, and a
//! test compares the two.
//!
//! Names have base units at their end (`_seconds`, `_bytes`), counters end in `_total`. A name or a label that was released is
//! never given another meaning.

/// What kind of values a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many observations were at most so large, their number and their sum.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it is, one sentence.
    pub help: &'static str,
}

/// Declares each metric as a constant, and all of them in order.
macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+
        /// All of them.
        pub const ALL: &[&Metric] = &[$(&$constant),+];
    };
}

metrics! {
    SENT: Counter "lineshaft_tasks_sent_total" ["queue"]
        "Tasks sent to a queue, without callbacks and retries.";
    SENT_BEFORE: Counter "lineshaft_tasks_already_sent_total" ["queue"]
        "Sends answered with a task that was sent before under the same request id or idempotency key.";
    LEASED: Counter "lineshaft_leases_granted_total" ["queue"]
        "Leases offered to workers.";
    RELEASED: Counter "lineshaft_leases_released_total" ["queue"]
        "Leases given back by their workers without an outcome.";
    LOST: Counter "lineshaft_attempts_lost_total" ["queue"]
        "Attempts that ended in a dead worker.";
    OUTCOMES: Counter "lineshaft_task_outcomes_total" ["queue", "outcome"]
        "Outcomes recorded: success, retry, or why a task ended in failure.";
    SET_ASIDE: Counter "lineshaft_tasks_set_aside_total" ["queue"]
        "Tasks set aside as dead.";
    WAIT: Histogram "lineshaft_task_wait_seconds" ["queue", "name"]
        "Time from the send of a task, or from the moment it was delayed to, until its first lease.";
    RUN: Histogram "lineshaft_task_run_seconds" ["queue", "name"]
        "Time from the lease of an attempt until its success or failure was recorded.";
    WAITING: Gauge "lineshaft_queue_waiting" ["queue"]
        "Tasks that are due and wait.";
    DELAYED: Gauge "lineshaft_queue_delayed" ["queue"]
        "Tasks that wait for their time.";
    PARKED: Gauge "lineshaft_queue_parked" ["queue"]
        "Delayed tasks that this server parked, as none of its workers takes their names.";
    HELD: Gauge "lineshaft_queue_leased" ["queue"]
        "Live leases.";
    OLDEST: Gauge "lineshaft_queue_oldest_age_seconds" ["queue"]
        "Age of the oldest task that is due and waits, from its send; 0 if none does.";
    TAKERS: Gauge "lineshaft_queue_workers" ["queue"]
        "Worker sessions that take from a queue.";
    PAUSED: Gauge "lineshaft_queue_paused" ["queue"]
        "1 if a queue is paused.";
    QUEUES_READ: Gauge "lineshaft_queues_read" []
        "Queues behind the gauges of queues at this scrape; 0 too if the store did not answer.";
    QUEUES_UNREAD: Gauge "lineshaft_queues_unread" []
        "1 if the gauges of queues are missing, or there are more queues than one scrape reads.";
    SESSIONS: Gauge "lineshaft_worker_sessions" []
        "Worker sessions attached to this server.";
    SLOTS: Gauge "lineshaft_worker_slots_free" []
        "Leases that the attached workers have asked for and not been given.";
    STORE_CALLS: Histogram "lineshaft_store_call_seconds" ["seam", "store", "method"]
        "Time that calls of a store took, waiting for tasks aside.";
    STORE_ERRORS: Counter "lineshaft_store_errors_total" ["seam", "store", "method", "kind"]
        "Errors of a store, each item of a batch counted.";
    GRPC_CALLS: Counter "lineshaft_grpc_calls_total" ["method", "code"]
        "gRPC calls that have ended, by method and status code.";
    RELOADS: Counter "lineshaft_config_reloads_total" ["result"]
        "Configuration files read again: put in force, or refused.";
    SPANS_DROPPED: Counter "lineshaft_spans_dropped_total" []
        "Spans dropped because the collector of traces did not take them in time.";
    BUILD: Gauge "lineshaft_build_info" ["version"]
        "Always 1; the version of this server is in its label.";
    STARTED: Gauge "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds.";
    OPEN_FDS: Gauge "process_open_fds" []
        "Number of open file descriptors.";
    MAX_FDS: Gauge "process_max_fds" []
        "Maximum number of open file descriptors.";
    RESIDENT: Gauge "process_resident_memory_bytes" []
        "Resident memory size in bytes.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The rows of the document's table: name, type, labels, help.
    fn rows(document: &str) -> Vec<[String; 4]> {
        let cells = |line: &str| {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            <[String; 4]>::try_from(cells).ok()
        };
        document.lines().filter(|line| line.starts_with("| `")).filter_map(cells).collect()
    }

    #[test]
    fn the_document_tells_every_metric_as_it_is_and_no_other() {
        let told = rows(include_str!("../docs/metrics.md"));
        let row = |metric: &&Metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            [format!("`{}`", metric.name), metric.kind.as_str().to_owned(), labels.join(", "), metric.help.to_owned()]
        };
        let true_rows: Vec<[String; 4]> = ALL.iter().map(row).collect();
        let text =
            |rows: &[[String; 4]]| rows.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect::<String>();
        assert_eq!(text(&told), text(&true_rows), "src/docs/metrics.md differs from src/telemetry/table.rs");
    }

    #[test]
    fn names_are_those_of_their_kind_and_no_two_are_the_same() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            if metric.kind == Kind::Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
            let is_good = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(is_good(metric.name) && metric.labels.iter().all(|label| is_good(label)), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '|']), "{}", metric.help);
        }
    }
}
