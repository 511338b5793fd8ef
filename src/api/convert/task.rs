//! Tasks: what a producer gives, and what waits in a queue.

use std::time::Duration;

use lineshaft_client::proto;

use super::{arg, limit, named, time, value};
use crate::error::Error;
use crate::service::types::{Pending, Settings, Submission};
use crate::service::{
    ATTEMPT_TIMEOUT_MAX, RESULT_RETENTION_MAX, attempt_timeout as timeout_of, expires_in as expires_in_of,
    result_retention as retention_of,
};
use crate::task::{Body, Headers, NAME_BYTES_MAX, QueueName, Signature, TaskId, TaskName};
use crate::wire::machinery;

/// Headers whose keys begin so are ours: producers may not set them, workers do not see them.
const RESERVED: &str = "lineshaft-";

/// Most retries a task may ask for.
const RETRY_COUNT_MAX: u32 = 1_000_000;

/// Greatest `Task.retry_timeout`.
const RETRY_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 86400);

/// Least `Task.result_retention`.
const RESULT_RETENTION_MIN: Duration = Duration::from_secs(1);

/// Least `Task.attempt_timeout`.
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Least `Task.expires_in`.
const EXPIRES_IN_MIN: Duration = Duration::from_secs(1);

/// Greatest `Task.expires_in`.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(365 * 86400);

/// Checks a task against every rule of its comments. Paths begin at the task.
pub(in crate::api) fn submission(task: proto::Task, settings: &Settings) -> Result<Submission, Error> {
    nested(task, settings, 0)
}

fn nested(task: proto::Task, settings: &Settings, depth: usize) -> Result<Submission, Error> {
    let id = optional(&task.id, |id| TaskId::new(id).map_err(limit::id("id")))?;
    TaskName::new(&task.name).map_err(limit::id("name"))?;
    let queue = optional(&task.queue, |queue| QueueName::new(queue).map_err(limit::id("queue")))?;
    limit::at_most("routing_key", task.routing_key.len(), NAME_BYTES_MAX, "bytes")?;
    limit::at_most("args", task.args.len(), settings.args_max, "arguments")?;
    let args = arg::list("args", task.args)?;
    let headers = headers(task.headers, settings.headers_max)?;
    let eta = task.eta.map(|eta| time::timestamp("eta", &eta)).transpose()?;
    let delay = task.delay.map(|delay| time::duration("delay", &delay, settings.delay_max)).transpose()?;
    if eta.is_some() && delay.is_some() {
        return Err(Error::invalid("delay", "must not be set together with eta"));
    }
    let priority = u8::try_from(task.priority)
        .map_err(|_| Error::invalid("priority", format!("must be 0 to 255, is {}", task.priority)))?;
    limit::at_most("retry_count", task.retry_count as usize, RETRY_COUNT_MAX as usize, "retries")?;
    let retry_timeout = task.retry_timeout.unwrap_or_default();
    let retry_timeout = time::duration("retry_timeout", &retry_timeout, RETRY_TIMEOUT_MAX)?;
    if retry_timeout.subsec_nanos() > 0 {
        return Err(Error::invalid("retry_timeout", "must be whole seconds"));
    }
    let retention = |given| time::duration("result_retention", &given, RESULT_RETENTION_MAX);
    let result_retention = task.result_retention.map(retention).transpose()?;
    if let Some(short) = result_retention.filter(|retention| *retention < RESULT_RETENTION_MIN) {
        return Err(Error::invalid("result_retention", format!("must be at least 1 s, is {short:?}")));
    }
    let timeout = |given| time::duration("attempt_timeout", &given, ATTEMPT_TIMEOUT_MAX);
    let attempt_timeout = task.attempt_timeout.map(timeout).transpose()?;
    if let Some(short) = attempt_timeout.filter(|timeout| *timeout < ATTEMPT_TIMEOUT_MIN) {
        return Err(Error::invalid("attempt_timeout", format!("must be at least 100 ms, is {short:?}")));
    }
    let expires_in = task.expires_in.map(|span| time::duration("expires_in", &span, EXPIRES_IN_MAX)).transpose()?;
    if let Some(short) = expires_in.filter(|span| *span < EXPIRES_IN_MIN) {
        return Err(Error::invalid("expires_in", format!("must be at least 1 s, is {short:?}")));
    }
    let (request_id, idempotency) = named::of(&task.request_id, task.idempotency, depth)?;
    let callbacks = |field: &str, tasks: Vec<proto::Task>| {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        limit::at_most(field, depth + 1, settings.callback_depth_max as usize, "levels")?;
        limit::at_most(field, tasks.len(), settings.batch_max, "tasks")?;
        let one = |(i, task)| nested(task, settings, depth + 1).map_err(|e: Error| e.within(&format!("{field}[{i}]")));
        tasks.into_iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()
    };
    Ok(Submission {
        id,
        name: task.name,
        queue,
        routing_key: task.routing_key,
        args,
        headers,
        eta,
        delay,
        priority,
        retry_count: task.retry_count,
        retry_timeout: retry_timeout.as_secs(),
        immutable: task.immutable,
        result_retention,
        attempt_timeout,
        expires_in,
        on_success: callbacks("on_success", task.on_success)?,
        on_error: callbacks("on_error", task.on_error)?,
        request_id,
        idempotency,
    })
}

/// Unset (empty) is `None`.
pub(in crate::api) fn optional<T>(text: &str, read: impl FnOnce(&str) -> Result<T, Error>) -> Result<Option<T>, Error> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn headers(headers: std::collections::HashMap<String, proto::Value>, max: usize) -> Result<Headers, Error> {
    limit::at_most("headers", headers.len(), max, "entries")?;
    let one = |(key, header): (String, proto::Value)| {
        let path = || format!("headers{}", limit::key(&key));
        if key.is_empty() {
            return Err(Error::invalid(path(), "a key must not be empty"));
        }
        limit::at_most(&path(), key.len(), NAME_BYTES_MAX, "bytes")?;
        if is_reserved(&key) {
            return Err(Error::invalid(path(), "keys that begin with \"lineshaft-\" are the server's own"));
        }
        let json = value::to_json(&header).map_err(|e| e.within(&path()))?;
        Ok((key, json))
    };
    headers.into_iter().map(one).collect()
}

fn is_reserved(key: &str) -> bool {
    key.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

/// The headers as a worker or operator sees them: without ours.
pub(in crate::api) fn shown_headers(headers: Option<&Headers>) -> std::collections::HashMap<String, proto::Value> {
    headers
        .into_iter()
        .flatten()
        .filter(|(key, _)| !is_reserved(key))
        .map(|(key, json)| (key.clone(), value::from_json(json)))
        .collect()
}

/// A task that waits, as an operator sees it.
pub(in crate::api) fn pending(pending: Pending, queue: &QueueName, settings: &Settings) -> proto::PendingTask {
    let (task, undecodable) = match pending.task {
        Ok(signature) => (Some(shown(&signature, Some(queue), settings.callback_depth_max)), String::new()),
        Err(why) => (None, why),
    };
    proto::PendingTask {
        task,
        available_at: pending.available_at.and_then(time::wall),
        unclaimed: pending.unclaimed,
        undecodable,
    }
}

// A callback names its queue only by its routing key, and one whose body is none, or that lies deeper than tasks may
// nest here, is left out: protobuf libraries stop at 100 levels.
pub(super) fn shown(signature: &Signature, queue: Option<&QueueName>, depth_left: u32) -> proto::Task {
    let callbacks = |bodies: &Option<Vec<Body>>| match (depth_left.checked_sub(1), bodies) {
        (Some(left), Some(bodies)) => {
            bodies.iter().filter_map(decode).map(|signature| shown(&signature, None, left)).collect()
        }
        _ => Vec::new(),
    };
    proto::Task {
        id: signature.uuid.clone(),
        name: signature.name.clone(),
        queue: queue.map(|q| q.to_string()).unwrap_or_default(),
        routing_key: signature.routing_key.clone(),
        args: signature.args.iter().flatten().map(arg::to_proto).collect(),
        headers: shown_headers(signature.headers.as_ref()),
        eta: signature.eta.and_then(time::to_timestamp),
        delay: None,
        priority: signature.priority.into(),
        retry_count: u32::try_from(signature.retry_count).unwrap_or(0),
        retry_timeout: u64::try_from(signature.retry_timeout)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(|seconds| time::to_duration(Duration::from_secs(seconds))),
        immutable: signature.immutable,
        result_retention: retention_of(signature).map(time::to_duration),
        attempt_timeout: timeout_of(signature).map(time::to_duration),
        expires_in: expires_in_of(signature).map(time::to_duration),
        on_success: callbacks(&signature.on_success),
        on_error: callbacks(&signature.on_error),
        request_id: String::new(),
        idempotency: None,
    }
}

fn decode(body: &Body) -> Option<Signature> {
    machinery::decode(&body.0).ok().map(|decoded| decoded.signature)
}

#[cfg(test)]
mod tests {
    use lineshaft_client::proto::idempotency::Until;

    use super::*;

    fn named(name: &str) -> proto::Task {
        proto::Task { name: name.to_owned(), ..Default::default() }
    }

    fn field_of(task: proto::Task) -> String {
        match submission(task, &Settings::default()).unwrap_err() {
            Error::Invalid { field, .. } | Error::LimitExceeded { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn key(key: &str) -> proto::Idempotency {
        proto::Idempotency { key: key.into(), until: None }
    }

    fn passed(time: i64) -> proto::Idempotency {
        proto::Idempotency { until: seconds(time).map(Until::Duration), ..key("k") }
    }

    fn with(change: impl FnOnce(&mut proto::Task)) -> proto::Task {
        let mut task = named("n");
        change(&mut task);
        task
    }

    #[test]
    fn every_field_out_of_its_range_is_refused_by_name() {
        let text = |s: &str| proto::Value { kind: Some(proto::value::Kind::StringValue(s.into())) };
        let header = |key: String| with(|t| t.headers = std::collections::HashMap::from([(key, text("v"))]));
        let cases = [
            (named(""), "name"),
            (named(&"n".repeat(201)), "name"),
            (with(|t| t.id = "i".repeat(201)), "id"),
            (with(|t| t.id = "a b".into()), "id"),
            (with(|t| t.queue = "q".repeat(201)), "queue"),
            (with(|t| t.routing_key = "k".repeat(201)), "routing_key"),
            (with(|t| t.priority = 256), "priority"),
            (with(|t| t.retry_count = 1_000_001), "retry_count"),
            (with(|t| t.retry_timeout = seconds(30 * 86400 + 1)), "retry_timeout"),
            (with(|t| t.retry_timeout = Some(prost_types::Duration { seconds: 1, nanos: 1 })), "retry_timeout"),
            (with(|t| t.attempt_timeout = seconds(0)), "attempt_timeout"),
            (
                with(|t| t.attempt_timeout = Some(prost_types::Duration { seconds: 0, nanos: 99_999_999 })),
                "attempt_timeout",
            ),
            (with(|t| t.attempt_timeout = seconds(30 * 86400 + 1)), "attempt_timeout"),
            (with(|t| t.expires_in = seconds(0)), "expires_in"),
            (with(|t| t.expires_in = seconds(365 * 86400 + 1)), "expires_in"),
            (with(|t| t.result_retention = seconds(0)), "result_retention"),
            (with(|t| t.result_retention = seconds(365 * 86400 + 1)), "result_retention"),
            (with(|t| t.delay = seconds(-1)), "delay"),
            (with(|t| t.delay = seconds(i64::MAX)), "delay"),
            (with(|t| t.eta = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })), "eta"),
            (with(|t| (t.eta, t.delay) = (Some(prost_types::Timestamp::default()), seconds(1))), "delay"),
            (with(|t| t.args = vec![proto::Arg::default(); 1001]), "args"),
            (header(String::new()), r#"headers[""]"#),
            (header("lineshaft-x".into()), r#"headers["lineshaft-x"]"#),
            (header("Lineshaft-X".into()), r#"headers["Lineshaft-X"]"#),
            (with(|t| t.request_id = "a b".into()), "request_id"),
            (with(|t| t.request_id = "r".repeat(201)), "request_id"),
            (with(|t| t.idempotency = Some(proto::Idempotency::default())), "idempotency.key"),
            (with(|t| t.idempotency = Some(key("a\n"))), "idempotency.key"),
            (
                with(|t| t.idempotency = Some(proto::Idempotency { until: Some(Until::Ended(false)), ..key("k") })),
                "idempotency.ended",
            ),
            (
                with(|t| t.idempotency = Some(proto::Idempotency { until: Some(Until::Started(false)), ..key("k") })),
                "idempotency.started",
            ),
            (with(|t| t.idempotency = Some(passed(0))), "idempotency.duration"),
            (with(|t| t.idempotency = Some(passed(7 * 86400 + 1))), "idempotency.duration"),
            (with(|t| t.on_success = vec![with(|t| t.request_id = "r".into())]), "on_success[0].request_id"),
            (with(|t| t.on_error = vec![with(|t| t.idempotency = Some(key("k")))]), "on_error[0].idempotency"),
            (with(|t| t.on_error = vec![named("ok"), named("")]), "on_error[1].name"),
        ];
        for (task, field) in cases {
            assert_eq!(field_of(task), field);
        }
        let many = (0..101).map(|i| (i.to_string(), text("v"))).collect();
        assert_eq!(field_of(with(|t| t.headers = many)), "headers");
        assert!(field_of(header("k".repeat(201))).starts_with("headers[\"kkk"));
    }

    #[test]
    fn callbacks_nest_16_deep_and_no_deeper() {
        let deep = |levels: usize| {
            (0..levels).fold(named("leaf"), |inner, _| proto::Task { on_success: vec![inner], ..named("n") })
        };
        assert!(submission(deep(16), &Settings::default()).is_ok());
        let error = submission(deep(17), &Settings::default()).unwrap_err();
        let Error::LimitExceeded { field, limit: 16, actual: 17, unit: "levels" } = error else { panic!("{error}") };
        assert_eq!(field, vec!["on_success[0]"; 16].join(".") + ".on_success");
    }

    #[test]
    fn what_is_unset_stays_unset() {
        let read = submission(named("n"), &Settings::default()).unwrap();
        assert!(read.id.is_none() && read.queue.is_none() && read.eta.is_none() && read.delay.is_none());
        assert_eq!((read.priority, read.retry_count, read.retry_timeout), (0, 0, 0));
    }
}
