//! The record of a message, and the rules by which it changes. No IO.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::WallTime;
use crate::ledger::record::{EffectsRecord, LostRecord};
use crate::ledger::{Decision, Ending, Grant, Lease, LeaseStatus, Standing, Verdict};
use crate::task::{FencingToken, LeaseId, MessageKey, QueueName, SessionId, TaskId, TaskName};

/// A message that was granted at least once: its last lease, and how it stands. Of a decided one only the token, the
/// decision and `forget_at` are kept.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Attempt {
    #[prost(fixed64, tag = "1")]
    pub(super) token: u64,
    #[prost(string, tag = "2")]
    task: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    pub(super) queue: String,
    #[prost(string, tag = "5")]
    pub(super) session: String,
    #[prost(string, tag = "6")]
    worker: String,
    #[prost(string, optional, tag = "7")]
    request_id: Option<String>,
    #[prost(uint32, tag = "8")]
    attempt: u32,
    #[prost(message, repeated, tag = "9")]
    lost: Vec<LostRecord>,
    #[prost(uint32, tag = "10")]
    releases: u32,
    #[prost(fixed64, tag = "11")]
    at: u64,
    #[prost(bytes = "bytes", optional, tag = "12")]
    body: Option<Bytes>,
    /// Unset: the lease is live.
    #[prost(oneof = "Ended", tags = "13, 14")]
    pub(super) ended: Option<Ended>,
    /// When to forget it, unix ns; unset: not before something happens to it.
    #[prost(fixed64, optional, tag = "15")]
    pub(super) forget_at: Option<u64>,
}

/// How the last lease of a message ended.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Ended {
    /// Without a decision.
    #[prost(message, tag = "13")]
    Released(Released),
    /// With one.
    #[prost(message, tag = "14")]
    Decided(Decided),
}

/// An ending without a decision.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Released {
    /// The worker died; else it was free.
    #[prost(bool, tag = "1")]
    lost: bool,
    /// Who asked for a free one.
    #[prost(string, optional, tag = "2")]
    report: Option<String>,
}

/// A decision.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Decided {
    /// Who reported it.
    #[prost(string, optional, tag = "1")]
    report: Option<String>,
    /// 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    digest: Bytes,
    /// Unix ns.
    #[prost(fixed64, tag = "3")]
    pub(super) at: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "4")]
    keep_ns: u64,
    /// Unset once they are done.
    #[prost(message, optional, tag = "5")]
    pub(super) effects: Option<EffectsRecord>,
}

impl Attempt {
    /// A new grant, after what is known of the message.
    pub(super) fn granted(earlier: Option<&Self>, grant: &Grant, token: u64) -> Self {
        let (lost, releases) = earlier.map(|e| (e.lost.clone(), e.releases)).unwrap_or_default();
        let lost_attempts = u32::try_from(lost.len()).unwrap_or(u32::MAX);
        Self {
            token,
            task: grant.task.to_string(),
            name: grant.name.to_string(),
            queue: grant.queue.to_string(),
            session: grant.session.to_string(),
            worker: grant.worker.clone(),
            request_id: grant.request_id.clone(),
            attempt: grant.attempts_before.saturating_add(lost_attempts).saturating_add(1),
            lost,
            releases,
            at: grant.at.0,
            body: grant.body.clone(),
            ended: None,
            forget_at: None,
        }
    }

    /// The last lease.
    pub(super) fn lease(&self, message: &MessageKey) -> Lease {
        Lease {
            id: LeaseId { message: message.clone(), token: FencingToken(self.token) },
            task: TaskId::trusted(self.task.as_str()),
            name: TaskName::trusted(self.name.as_str()),
            queue: QueueName::trusted(self.queue.as_str()),
            session: SessionId::trusted(self.session.as_str()),
            worker: self.worker.clone(),
            request_id: self.request_id.clone(),
            attempt: self.attempt,
            lost: self.lost.iter().cloned().map(Into::into).collect(),
            releases: self.releases,
            at: WallTime(self.at),
            body: self.body.clone(),
        }
    }

    /// How `lease` stands, if it is one of this message.
    pub(super) fn status(&self, lease: &LeaseId) -> LeaseStatus {
        if self.token != lease.token.0 {
            return LeaseStatus::Gone;
        }
        match self.ended {
            None => LeaseStatus::Live(self.lease(&lease.message)),
            Some(Ended::Released(_)) => LeaseStatus::Released(self.lease(&lease.message)),
            Some(Ended::Decided(_)) => LeaseStatus::Decided,
        }
    }

    /// How the message stands.
    pub(super) fn standing(&self, message: &MessageKey) -> Standing {
        match self.ended {
            None => Standing::Leased(LeaseId { message: message.clone(), token: FencingToken(self.token) }),
            Some(Ended::Released(_)) => Standing::Open,
            Some(Ended::Decided(_)) => Standing::Decided,
        }
    }

    /// Ends the lease under `token` without a decision; changed if the answer is `Recorded`.
    pub(super) fn release(&mut self, token: FencingToken, ending: &Ending, forget_at: WallTime) -> Verdict {
        if self.token != token.0 {
            return Verdict::Superseded;
        }
        match (&self.ended, ending) {
            (None, _) => {}
            (Some(Ended::Released(then)), Ending::Free { report }) if !then.lost && then.report == *report => {
                return Verdict::Duplicate;
            }
            (Some(Ended::Released(then)), Ending::Lost { .. }) if then.lost => return Verdict::Duplicate,
            (Some(_), _) => return Verdict::Conflict,
        }
        let released = match ending {
            Ending::Free { report } => {
                self.releases = self.releases.saturating_add(1);
                Released { lost: false, report: report.clone() }
            }
            Ending::Lost { at } => {
                self.lost.push(LostRecord { attempt: self.attempt, worker: self.worker.clone(), at: at.0 });
                Released { lost: true, report: None }
            }
        };
        self.ended = Some(Ended::Released(released));
        self.forget_at = Some(forget_at.0);
        Verdict::Recorded
    }

    /// What a decision is answered; changes nothing.
    pub(super) fn judge(&self, decision: &Decision) -> Verdict {
        if self.token != decision.lease.token.0 {
            return Verdict::Superseded;
        }
        let Some(Ended::Decided(first)) = &self.ended else { return Verdict::Recorded };
        let same_report = first.report.is_some() && first.report == decision.report;
        if same_report || first.digest.as_ref() == decision.digest { Verdict::Duplicate } else { Verdict::Conflict }
    }

    /// What is left of the attempt after the decision. Effects are kept unless they are done with it.
    pub(super) fn decided(decision: &Decision, effects_done: bool) -> Self {
        let decided = Decided {
            report: decision.report.clone(),
            digest: Bytes::copy_from_slice(&decision.digest),
            at: decision.at.0,
            keep_ns: u64::try_from(decision.keep.as_nanos()).unwrap_or(u64::MAX),
            effects: (!effects_done).then(|| (&decision.effects).into()),
        };
        let forget_at = effects_done.then(|| decision.at.plus(decision.keep).0);
        Self { token: decision.lease.token.0, ended: Some(Ended::Decided(decided)), forget_at, ..Self::default() }
    }

    /// Marks effects done; answers the time of the decision if they were not.
    pub(super) fn done(&mut self, at: WallTime) -> Option<WallTime> {
        let Some(Ended::Decided(decided)) = &mut self.ended else { return None };
        decided.effects.take()?;
        self.forget_at = Some(at.plus(Duration::from_nanos(decided.keep_ns)).0);
        Some(WallTime(decided.at))
    }
}
