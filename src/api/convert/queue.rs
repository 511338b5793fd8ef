//! Queues.

use std::num::NonZeroUsize;

use lineshaft_client::proto;

use super::{limit, page, time};
use crate::error::Error;
use crate::service::dead::Mode;
use crate::service::purge::Purge;
use crate::service::queues::{Rates, View};
use crate::task::{NAME_BYTES_MAX, QueueName};

/// Most tasks that one call of `PurgeQueue` may end, and how many it does if not told.
const PURGE_MAX: u32 = 1_000;

/// The name of a queue that must be given.
pub(in crate::api) fn name(text: &str) -> Result<QueueName, Error> {
    QueueName::new(text).map_err(limit::id("queue"))
}

/// The beginning of names; empty: any.
pub(in crate::api) fn prefix(text: &str) -> Result<&str, Error> {
    limit::at_most("name_prefix", text.len(), NAME_BYTES_MAX, "bytes")?;
    Ok(text)
}

/// The queue behind which a page begins.
pub(in crate::api) fn after(token: &str) -> Result<Option<QueueName>, Error> {
    let Some(bytes) = page::position(token)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| page::invalid())?;
    QueueName::new(text).map(Some).map_err(|_| page::invalid())
}

/// What is to be purged.
pub(in crate::api) fn purge(request: proto::PurgeQueueRequest) -> Result<Purge, Error> {
    let proto::PurgeQueueRequest { queue, include_delayed, dry_run, page_size, page_token } = request;
    limit::at_most("page_size", page_size as usize, PURGE_MAX as usize, "tasks")?;
    let max = if page_size == 0 { PURGE_MAX } else { page_size };
    Ok(Purge {
        queue: name(&queue)?,
        delayed: include_delayed,
        mode: if dry_run { Mode::DryRun } else { Mode::Do },
        after: page::position(&page_token)?,
        max: NonZeroUsize::new(max as usize).unwrap_or(NonZeroUsize::MIN),
    })
}

/// A queue as an operator sees it.
pub(in crate::api) fn shown(view: View) -> proto::Queue {
    proto::Queue {
        name: view.name.to_string(),
        waiting: view.waiting,
        delayed: view.delayed,
        leased: view.leased,
        parked: view.parked,
        oldest_sent_at: view.oldest_sent_at.and_then(time::wall),
        oldest_age: view.oldest_age.map(time::to_duration),
        paused: view.paused_at.is_some(),
        paused_at: view.paused_at.and_then(time::wall),
        workers: view.workers,
        rates: view.rates.map(rates),
        others_may_take: view.others_may_take,
    }
}

fn rates(rates: Rates) -> proto::QueueRates {
    let Rates { sent, leased, succeeded, failed, retried, lost, released, purged } = rates;
    proto::QueueRates { sent, leased, succeeded, failed, retried, lost, released, purged }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
        match answer.unwrap_err() {
            Error::Invalid { field, .. } | Error::LimitExceeded { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn wrong_fields_are_refused_by_name() {
        assert_eq!(field_of(name("")), "queue");
        assert_eq!(field_of(name("a b")), "queue");
        assert_eq!(field_of(prefix(&"p".repeat(201))), "name_prefix");
        assert_eq!(field_of(after("zz")), "page_token");
        assert_eq!(field_of(after(&page::token(b"a b"))), "page_token");
        let request = |page_size| proto::PurgeQueueRequest { queue: "q".into(), page_size, ..Default::default() };
        assert_eq!(field_of(purge(request(1_001))), "page_size");
        assert_eq!(purge(request(0)).unwrap().max.get(), 1_000);
        assert_eq!(purge(request(7)).unwrap().max.get(), 7);
    }
}
