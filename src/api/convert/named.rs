//! What a producer calls a send: request ids and idempotency keys.

use lineshaft_client::proto::{self, idempotency};

use super::{limit, task, time};
use crate::error::Error;
use crate::service::types::{Idempotency, KEY_KEPT_MAX, Until};
use crate::task::TaskId;

/// The names of a task `depth` levels below the one that is sent. Both kinds are spelt as ids of tasks are.
pub(super) fn of(
    request_id: &str,
    idempotency: Option<proto::Idempotency>,
    depth: usize,
) -> Result<(Option<String>, Option<Idempotency>), Error> {
    let refuse =
        |field: &str| Error::invalid(field, "is not allowed in a callback: the task that is sent names the send");
    if depth > 0 && !request_id.is_empty() {
        return Err(refuse("request_id"));
    }
    if depth > 0 && idempotency.is_some() {
        return Err(refuse("idempotency"));
    }
    let request_id = task::optional(request_id, |id| TaskId::new(id).map_err(limit::id("request_id")))?;
    let idempotency = idempotency.map(|given| key(given).map_err(|e| e.within("idempotency"))).transpose()?;
    Ok((request_id.map(|id| id.to_string()), idempotency))
}

fn key(given: proto::Idempotency) -> Result<Idempotency, Error> {
    TaskId::new(&given.key).map_err(limit::id("key"))?;
    let refuse = |field: &str| Err(Error::invalid(field, "must be true where it is set"));
    let until = match given.until {
        None | Some(idempotency::Until::Ended(true)) => Until::Ended,
        Some(idempotency::Until::Started(true)) => Until::Started,
        Some(idempotency::Until::Ended(false)) => return refuse("ended"),
        Some(idempotency::Until::Started(false)) => return refuse("started"),
        Some(idempotency::Until::Duration(span)) => {
            let span = time::duration("duration", &span, KEY_KEPT_MAX)?;
            if span.is_zero() {
                return Err(Error::invalid("duration", "must be more than 0"));
            }
            Until::Passed(span)
        }
    };
    Ok(Idempotency { key: given.key, until })
}
