//! Finding tasks: what waits, what is leased, what has ended, as one list.
//!
//! There is no index of live tasks by anything that is asked for here: it would cost every task something. The list is
//! composed of what the stores can page through anyway, in the order of a task's life, so that one that moves on while
//! pages are read is met again in a later part. Each call looks at a bounded number of tasks.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use sha2::{Digest, Sha256};

use super::outcome::{lease_state, unleased_state};
use super::{Inner, Service, envelope};
use crate::backend::{Backend, EndedQuery};
use crate::broker::{Inspect, PendingQuery, Waiting};
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::ledger::{Lease, LeaseQuery};
use crate::task::{
    FailureReason, FencingToken, MessageKey, QueueName, Signature, Status, TaskName, TaskState, Timestamp,
};
use crate::wire;

/// Tasks looked at for one page. A filter that fits few must not make one call read them all.
const LOOKED_AT_MAX: usize = 5_000;
/// Bytes of bodies and results looked at for one page.
const LOOKED_AT_BYTES_MAX: usize = 32 << 20;
/// Bytes of bodies and results after which a page ends.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// Tasks read from a store at once.
const READ_MAX: usize = 256;
/// Names of queues read at once: a broker may look at all of them for any number.
const QUEUES_READ_MAX: usize = 256;

/// Which tasks: those that fit every part that is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// In one of these; none: in any.
    pub statuses: Vec<Status>,
    /// Of this queue; ended ones have none any more.
    pub queue: Option<QueueName>,
    /// Of this name.
    pub name: Option<TaskName>,
    /// Sent at this moment or later.
    pub since: Option<WallTime>,
    /// Sent before this moment.
    pub before: Option<WallTime>,
    /// With this text in the JSON of the arguments; ended ones have none any more.
    pub args_contain: Option<String>,
    /// Ended in FAILURE for this reason.
    pub reason: Option<FailureReason>,
}

/// A task that was found.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its state.
    pub state: TaskState,
    /// Its queue; `None`: it has ended.
    pub queue: Option<QueueName>,
    /// The task, while it waits or is leased and its body is at hand.
    pub signature: Option<Signature>,
    /// Not before; `None`: due, or not waiting.
    pub available_at: Option<WallTime>,
    /// Who has it leased; empty: nobody.
    pub worker: String,
}

/// A page of tasks.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Those that fit.
    pub items: Vec<Listed>,
    /// For the next page.
    pub next: Option<Vec<u8>>,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq)]
enum Position {
    /// In this queue, at this place; `None` for the queue: before the first one, for the place: at its start.
    Waiting { queue: Option<QueueName>, at: Option<Vec<u8>> },
    /// Behind the lease of this token.
    Leased { after: FencingToken },
    /// At this place.
    Ended { at: Option<Vec<u8>> },
}

/// What may still be looked at and answered in one call, and the queues that come next in it.
#[derive(Debug)]
struct Budget {
    queues: VecDeque<QueueName>,
    items: usize,
    bytes: usize,
    page_items: usize,
    page_bytes: usize,
}

impl Budget {
    fn look(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn found(&mut self, bytes: usize) {
        self.page_items = self.page_items.saturating_sub(1);
        self.page_bytes = self.page_bytes.saturating_sub(bytes);
    }

    fn is_spent(&self) -> bool {
        [self.items, self.bytes, self.page_items, self.page_bytes].contains(&0)
    }

    /// How many to read: all that are read are looked at, and all may fit.
    fn next_items(&self) -> usize {
        self.page_items.min(self.items).min(READ_MAX)
    }
}

impl Filter {
    fn wants(&self, statuses: [Status; 2]) -> bool {
        let is_asked = self.statuses.is_empty() || statuses.iter().any(|status| self.statuses.contains(status));
        is_asked && (self.reason.is_none() || statuses.contains(&Status::Failure))
    }

    fn fits_state(&self, state: &TaskState) -> bool {
        let sent = (state.created_at != Timestamp::ZERO).then(|| state.created_at.to_wall());
        (self.statuses.is_empty() || self.statuses.contains(&state.status))
            && self.name.as_ref().is_none_or(|name| name.as_str() == state.task_name)
            && self.since.is_none_or(|since| sent.is_some_and(|sent| sent >= since))
            && self.before.is_none_or(|before| sent.is_some_and(|sent| sent < before))
            && self.reason.is_none_or(|reason| state.status == Status::Failure && state.reason == reason)
    }

    /// What can be said by the body alone.
    fn fits_body(&self, signature: &Signature) -> bool {
        self.name.as_ref().is_none_or(|name| name.as_str() == signature.name)
            && self.args_contain.as_ref().is_none_or(|text| {
                let json = wire::machinery::encode_results(signature.args.as_deref().unwrap_or_default());
                json.windows(text.len().max(1)).any(|part| part == text.as_bytes())
            })
    }

    /// Stands for the filter in positions: one that is used with another filter would skip tasks.
    fn digest(&self) -> [u8; 8] {
        let digest = Sha256::digest(format!("{self:?}"));
        std::array::from_fn(|at| digest[at])
    }
}

impl Service {
    /// Tasks that fit: those that wait, then those that are leased, then those that ended, newest end first. A page may be
    /// short, or empty, and not the last.
    ///
    /// # Errors
    /// [`Error::CapabilityMissing`]: a status is asked for that the stores cannot list; [`StoreError::Position`] if `after`
    /// is not from a page before with this filter; [`Error::Store`].
    pub async fn tasks(&self, filter: &Filter, after: Option<&[u8]>, max: usize) -> Result<Page, Error> {
        let inner = &self.inner;
        let begin = Position::Waiting { queue: None, at: None };
        let mut position = after.map_or(Ok(begin), |bytes| Position::read(bytes, filter))?;
        let mut budget = Budget {
            queues: VecDeque::new(),
            items: LOOKED_AT_MAX,
            bytes: LOOKED_AT_BYTES_MAX,
            page_items: max.max(1),
            page_bytes: PAGE_BYTES_MAX,
        };
        let mut items = Vec::new();
        loop {
            let next = match position {
                Position::Waiting { queue, at } => {
                    let then = Position::Leased { after: FencingToken(0) };
                    inner.waiting(filter, (queue, at), &mut budget, &mut items).await?.unwrap_or(then)
                }
                Position::Leased { after } => {
                    let then = Position::Ended { at: None };
                    inner.leased(filter, after, &mut budget, &mut items).await?.unwrap_or(then)
                }
                Position::Ended { at } => match inner.ended(filter, at, &mut budget, &mut items).await? {
                    Some(next) => next,
                    None => return Ok(Page { items, next: None }),
                },
            };
            if budget.is_spent() {
                return Ok(Page { items, next: Some(next.write(filter)) });
            }
            position = next;
        }
    }
}

impl Inner {
    fn missing(&self, filter: &Filter, capability: &'static str) -> Result<Option<Position>, Error> {
        if filter.statuses.is_empty() {
            return Ok(None);
        }
        let combination =
            format!("the {} broker and the {} backend", self.guarantees.broker.name, self.guarantees.backend);
        Err(Error::CapabilityMissing { combination, capability })
    }

    /// A step through what waits; answers where to go on, `None`: with the next part.
    async fn waiting(
        &self,
        filter: &Filter,
        (queue, at): (Option<QueueName>, Option<Vec<u8>>),
        budget: &mut Budget,
        items: &mut Vec<Listed>,
    ) -> Result<Option<Position>, Error> {
        if !filter.wants([Status::Pending, Status::Retry]) {
            return Ok(None);
        }
        let Some(inspect) = self.stores.broker.inspect() else {
            return self.missing(filter, "listing the tasks that wait");
        };
        let queue = match queue {
            Some(queue) => queue,
            None => match self.queue_after(None, filter, inspect, budget).await? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let Some(max) = NonZeroUsize::new(budget.next_items()) else {
            return Ok(Some(Position::Waiting { queue: Some(queue), at }));
        };
        let body_bytes_max = budget.page_bytes;
        let query = PendingQuery { queue: &queue, delayed: true, after: at.as_deref(), max, body_bytes_max };
        let page = inspect.pending(&query).await?;
        // A queue in which nothing is costs something, too.
        budget.look(0);
        let mut fitting = Vec::new();
        for Waiting { body, available_at, .. } in page.items {
            budget.look(body.len());
            if let Ok(opened) = envelope::open(&body)
                && filter.fits_body(&opened.signature)
            {
                fitting.push(((*opened.signature).clone(), available_at, body.len()));
            }
        }
        let now = self.clock.wall();
        let blank = fitting.iter().map(|(signature, ..)| unleased_state(signature, now));
        let states = self.known(blank.collect(), now, |known| matches!(known.status, Status::Pending | Status::Retry));
        for ((signature, available_at, bytes), state) in fitting.into_iter().zip(states.await?) {
            if filter.fits_state(&state) {
                budget.found(bytes);
                let (queue, signature) = (Some(queue.clone()), Some(signature));
                items.push(Listed { state, queue, signature, available_at, worker: String::new() });
            }
        }
        if page.next.is_some() {
            return Ok(Some(Position::Waiting { queue: Some(queue), at: page.next }));
        }
        let next = self.queue_after(Some(&queue), filter, inspect, budget).await?;
        Ok(next.map(|queue| Position::Waiting { queue: Some(queue), at: None }))
    }

    /// The queue to look at after another; `None` for that one: the first.
    async fn queue_after(
        &self,
        after: Option<&QueueName>,
        filter: &Filter,
        inspect: &dyn Inspect,
        budget: &mut Budget,
    ) -> Result<Option<QueueName>, StoreError> {
        if let Some(only) = &filter.queue {
            return Ok(after.is_none().then(|| only.clone()));
        }
        if budget.queues.is_empty() {
            budget.queues = inspect.queues(after, "", QUEUES_READ_MAX).await?.into();
        }
        Ok(budget.queues.pop_front())
    }

    /// A step through the leases, as [`Inner::waiting`].
    async fn leased(
        &self,
        filter: &Filter,
        after: FencingToken,
        budget: &mut Budget,
        items: &mut Vec<Listed>,
    ) -> Result<Option<Position>, Error> {
        if !filter.wants([Status::Received, Status::Started]) {
            return Ok(None);
        }
        let max = budget.next_items().max(1);
        let query = LeaseQuery { session: None, queue: filter.queue.clone(), after, max };
        let leases = self.stores.ledger.leases(&query).await?;
        let mut is_last = leases.len() < max;
        let keys: Vec<MessageKey> = leases.iter().map(|lease| lease.id.message.clone()).collect();
        let recalled = match self.stores.broker.recall() {
            Some(recall) => recall.recall(&keys).await?,
            None => vec![None; keys.len()],
        };
        let mut after = after;
        let mut fitting: Vec<(Lease, Option<Signature>, usize)> = Vec::new();
        let mut fitting_bytes = 0;
        for (lease, recalled) in leases.into_iter().zip(recalled) {
            if fitting_bytes >= budget.page_bytes {
                is_last = false;
                break;
            }
            after = lease.id.token;
            let body = recalled.or_else(|| lease.body.clone());
            let bytes = body.as_ref().map_or(0, bytes::Bytes::len);
            budget.look(bytes);
            let signature = body.and_then(|body| envelope::open(&body).ok()).map(|opened| (*opened.signature).clone());
            if signature.as_ref().map_or(filter.args_contain.is_none(), |signature| filter.fits_body(signature)) {
                fitting_bytes += bytes;
                fitting.push((lease, signature, bytes));
            }
        }
        let now = self.clock.wall();
        let blank = fitting.iter().map(|(lease, signature, _)| {
            let is_started = self.hands.get(&lease.id).is_some_and(|hand| hand.started);
            let status = if is_started { Status::Started } else { Status::Received };
            let nameless = Signature { name: lease.name.to_string(), ..Signature::default() };
            lease_state(lease, signature.as_ref().unwrap_or(&nameless), status, lease.at)
        });
        let states =
            self.known(blank.collect(), now, |known| matches!(known.status, Status::Received | Status::Started));
        for ((lease, signature, bytes), state) in fitting.into_iter().zip(states.await?) {
            if filter.fits_state(&state) {
                budget.found(bytes);
                let (queue, worker) = (Some(lease.queue), lease.worker);
                items.push(Listed { state, queue, signature, available_at: None, worker });
            }
        }
        Ok((!is_last).then_some(Position::Leased { after }))
    }

    /// A step through the ended, as [`Inner::waiting`].
    async fn ended(
        &self,
        filter: &Filter,
        at: Option<Vec<u8>>,
        budget: &mut Budget,
        items: &mut Vec<Listed>,
    ) -> Result<Option<Position>, Error> {
        let is_forgotten = filter.queue.is_some() || filter.args_contain.is_some();
        if is_forgotten || !filter.wants([Status::Success, Status::Failure]) {
            return Ok(None);
        }
        let backend: &dyn Backend = &*self.stores.backend;
        let Some(ended) = backend.ended() else {
            return self.missing(filter, "listing the tasks that ended");
        };
        let max = budget.next_items().max(1);
        let query = EndedQuery { after: at.as_deref(), max, bytes_max: budget.page_bytes.max(1) };
        let page = ended.ended(&query, self.clock.wall()).await?;
        budget.look(0);
        for state in page.states {
            let bytes =
                state.error.len() + state.results.as_deref().map_or(0, |r| wire::machinery::encode_results(r).len());
            budget.look(bytes);
            if filter.fits_state(&state) {
                budget.found(bytes);
                items.push(Listed { state, queue: None, signature: None, available_at: None, worker: String::new() });
            }
        }
        Ok(page.next.map(|at| Position::Ended { at: Some(at) }))
    }

    /// The states that the backend knows of these sendings, where they agree with where the tasks were met; else the
    /// states as given, since states become visible a little later than what they tell.
    async fn known(
        &self,
        blank: Vec<TaskState>,
        now: WallTime,
        agrees: impl Fn(&TaskState) -> bool + Send,
    ) -> Result<Vec<TaskState>, StoreError> {
        if blank.is_empty() {
            return Ok(blank);
        }
        let ids: Vec<_> = blank.iter().map(|state| state.task_id.clone()).collect();
        let known = self.stores.backend.read(&ids, now).await?;
        let chosen = blank.into_iter().zip(known).map(|(blank, known)| match known {
            Some(known)
                if agrees(&known)
                    && known.generation == blank.generation
                    && known.order() >= TaskState { status: Status::Pending, ..blank.clone() }.order()
                    && known.status.max(blank.status) == known.status =>
            {
                known
            }
            Some(known) if known.generation == blank.generation && known.created_at != Timestamp::ZERO => {
                TaskState { created_at: known.created_at, ..blank }
            }
            _ => blank,
        });
        Ok(chosen.collect())
    }
}

impl Position {
    fn write(&self, filter: &Filter) -> Vec<u8> {
        let optional = |bytes: Option<&[u8]>| bytes.map_or(vec![0], |bytes| [&[1], bytes].concat());
        let rest = match self {
            Self::Waiting { queue, at } => {
                let queue = queue.as_ref().map_or("", QueueName::as_str).as_bytes();
                let length = u8::try_from(queue.len()).unwrap_or(u8::MAX);
                [&[b'w', length], queue, &optional(at.as_deref())].concat()
            }
            Self::Leased { after } => [&b"l"[..], &after.0.to_be_bytes()].concat(),
            Self::Ended { at } => [&b"e"[..], &optional(at.as_deref())].concat(),
        };
        [&filter.digest()[..], &rest].concat()
    }

    fn read(bytes: &[u8], filter: &Filter) -> Result<Self, StoreError> {
        let optional = |bytes: &[u8]| match bytes.split_first() {
            Some((0, [])) => Ok(None),
            Some((1, bytes)) => Ok(Some(bytes.to_vec())),
            _ => Err(StoreError::Position),
        };
        let bytes = bytes.strip_prefix(&filter.digest()[..]).ok_or(StoreError::Position)?;
        match bytes.split_first() {
            Some((b'w', rest)) => {
                let (length, rest) = rest.split_first().ok_or(StoreError::Position)?;
                let (queue, at) = rest.split_at_checked(usize::from(*length)).ok_or(StoreError::Position)?;
                let queue = std::str::from_utf8(queue).map_err(|_| StoreError::Position)?;
                let queue = match queue {
                    "" => None,
                    queue => Some(QueueName::new(queue).map_err(|_| StoreError::Position)?),
                };
                Ok(Self::Waiting { queue, at: optional(at)? })
            }
            Some((b'l', rest)) => {
                let after = rest.try_into().map_err(|_| StoreError::Position)?;
                Ok(Self::Leased { after: FencingToken(u64::from_be_bytes(after)) })
            }
            Some((b'e', rest)) => Ok(Self::Ended { at: optional(rest)? }),
            _ => Err(StoreError::Position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_with_their_filter_and_with_no_other() {
        let filter = Filter { queue: Some(QueueName::trusted("q")), ..Filter::default() };
        for position in [
            Position::Waiting { queue: None, at: None },
            Position::Waiting { queue: Some(QueueName::trusted("q")), at: Some(b"place".to_vec()) },
            Position::Leased { after: FencingToken(7) },
            Position::Ended { at: None },
            Position::Ended { at: Some(b"place".to_vec()) },
        ] {
            let bytes = position.write(&filter);
            assert_eq!(Position::read(&bytes, &filter), Ok(position));
            assert_eq!(Position::read(&bytes, &Filter::default()), Err(StoreError::Position));
            assert_eq!(Position::read(&bytes[..8], &filter), Err(StoreError::Position));
        }
    }
}
