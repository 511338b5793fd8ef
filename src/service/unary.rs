//! Leasing by single calls: the unary twin of the stream. Same sessions, same grants, same guarantees.

use std::sync::Arc;
use std::time::Duration;

use super::attachment::Attachment;
use super::types::{ANSWER_BYTES_MAX, Granted, LeaseReply, LeaseRequest, Resume};
use super::{Inner, Service, dispatch, envelope};
use crate::error::{Error, StoreError};
use crate::ledger::{Lease, LeaseStatus};
use crate::task::LeaseId;

impl Service {
    /// Leases up to `tasks_max` tasks, waiting at most `wait_max` for the first. What is answered counts as accepted; a
    /// call that is given up before its answer gives its leases back.
    ///
    /// # Errors
    /// [`Error::Draining`]; [`Error::QueueFull`]; [`Error::SessionLost`]; [`Error::Store`].
    pub async fn lease(&self, request: LeaseRequest) -> Result<LeaseReply, Error> {
        let inner = &self.inner;
        inner.may_attach()?;
        let (session, secret) = match &request.session {
            Some(resume) => (inner.known_session(resume).await?, resume.secret.clone()),
            None => {
                let (session, secret) = inner.new_session(&request.worker, request.subscriptions.clone());
                inner.stores.ledger.attach(&session).await?;
                (session, secret)
            }
        };
        if !inner.stores.ledger.renew(std::slice::from_ref(&session.id)).await?.first().is_some_and(|alive| *alive) {
            return Err(Error::SessionLost);
        }
        inner.hear(&session.id);
        let resume = Resume { session: session.id.clone(), secret };
        if let Some(request_id) = &request.request_id {
            let before = inner.leases_of(&session.id).await?;
            let before: Vec<Lease> = before.into_iter().filter(|l| l.request_id.as_ref() == Some(request_id)).collect();
            if !before.is_empty() {
                return Ok(LeaseReply { leases: inner.granted_again(before).await?, session: resume });
            }
        }
        let (attachment, _, queues) = inner.sessions.add(
            session.id,
            session.worker,
            0,
            request.request_id,
            request.subscriptions,
            request.tasks_max as u64,
        );
        let call = Call { inner: inner.clone(), attachment, answered: false };
        inner.serve(queues);
        let leases = call.wait(request.wait_max).await;
        Ok(LeaseReply { leases, session: resume })
    }

    /// Renews a session, and with it all its leases; tells which of `leases` are live, its own, not of a cancelled task and
    /// not over its time.
    ///
    /// # Errors
    /// [`Error::SessionLost`]; [`Error::Store`].
    pub async fn extend(&self, session: Resume, leases: &[LeaseId]) -> Result<Vec<bool>, Error> {
        let inner = &self.inner;
        let session = inner.known_session(&session).await?;
        if !inner.stores.ledger.renew(std::slice::from_ref(&session.id)).await?.first().is_some_and(|alive| *alive) {
            return Err(Error::SessionLost);
        }
        inner.hear(&session.id);
        let status = inner.stores.ledger.lookup(leases).await?;
        let is_told = |lease: &LeaseId| {
            inner.cancels.is_signalled(lease) || inner.hands.limit(lease).is_some_and(|limit| limit.is_over())
        };
        Ok(status
            .into_iter()
            .map(|s| matches!(s, LeaseStatus::Live(l) if l.session == session.id && !is_told(&l.id)))
            .collect())
    }
}

impl Inner {
    // The leases of a call that is repeated, with their tasks.
    async fn granted_again(&self, leases: Vec<Lease>) -> Result<Vec<Granted>, StoreError> {
        let keys: Vec<_> = leases.iter().map(|l| l.id.message.clone()).collect();
        let bodies = match self.stores.broker.recall() {
            Some(recall) => recall.recall(&keys).await?,
            None => leases.iter().map(|l| l.body.clone()).collect(),
        };
        let settings = self.settings();
        let opened = leases.iter().zip(bodies).filter_map(|(lease, body)| {
            let body = body?;
            let opened = envelope::open(&body).ok()?;
            Some(dispatch::granted(lease, &opened, body.len(), &settings.spans))
        });
        Ok(opened.collect())
    }
}

/// A call that waits. Dropping it before its answer gives back what it got.
struct Call {
    inner: Arc<Inner>,
    attachment: Arc<Attachment>,
    answered: bool,
}

impl Call {
    async fn wait(mut self, wait_max: Duration) -> Vec<Granted> {
        /// Even a call that does not wait lets one dispatch round happen.
        const ROUND: Duration = Duration::from_millis(100);
        let deadline = self.inner.clock.now() + wait_max.max(ROUND);
        let session = &self.attachment.session;
        let first = async {
            loop {
                self.attachment.wake.notified().await;
                // The rest of a batch whose first lease is here comes along: its slots are still reserved.
                if self.attachment.has_leases() && !self.attachment.expects() {
                    return;
                }
            }
        };
        // The caller cannot renew a session whose first answer it waits for. One that holds leases is its own to renew:
        // a connection that looks open is no proof that those attempts still run.
        let renewing = async {
            loop {
                tokio::time::sleep(self.inner.settings().heartbeat_interval).await;
                if self.inner.hands.of_session(session) == 0 {
                    self.inner.hear(session);
                }
            }
        };
        tokio::select! {
            () = first => {}
            () = renewing => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = self.inner.draining.cancelled() => {}
        }
        let mut leases = self.attachment.collect();
        let more: Vec<LeaseId> = leases
            .split_off(fitting(leases.iter().map(|lease| lease.bytes)))
            .into_iter()
            .map(|lease| lease.id)
            .collect();
        if !more.is_empty() {
            let inner = self.inner.clone();
            self.inner.spawn(async move { inner.give_back(&more, Duration::ZERO, None).await });
        }
        if !leases.is_empty() {
            // They live from the answer on, however long it was waited for.
            self.inner.hear(session);
        }
        for lease in &leases {
            self.inner.hands.update(&lease.id, |hand| hand.accepted = true);
        }
        self.answered = true;
        leases
    }
}

/// How many of the first leases make one answer: all that fit, and at least one.
fn fitting(sizes: impl ExactSizeIterator<Item = usize>) -> usize {
    let (mut left, all) = (ANSWER_BYTES_MAX, sizes.len());
    let fit = sizes.take_while(|bytes| {
        let fits = *bytes <= left;
        left = left.saturating_sub(*bytes);
        fits
    });
    fit.count().max(1).min(all)
}

impl Drop for Call {
    fn drop(&mut self) {
        self.inner.sessions.remove(&self.attachment);
        if !self.answered {
            let unsent: Vec<LeaseId> = self.attachment.collect().into_iter().map(|l| l.id).collect();
            let inner = self.inner.clone();
            self.inner.spawn(async move { inner.give_back(&unsent, Duration::ZERO, None).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_what_fits_and_at_least_one() {
        assert_eq!(fitting([].into_iter()), 0);
        assert_eq!(fitting([ANSWER_BYTES_MAX + 1, 1].into_iter()), 1);
        assert_eq!(fitting([ANSWER_BYTES_MAX, 1, 1].into_iter()), 1);
        assert_eq!(fitting([1 << 20; 5].into_iter()), 3);
        assert_eq!(fitting([10; 1000].into_iter()), 1000);
    }
}
