//! The record of a message, in two parts: a head, which scripts read and write, and a blob, which they only carry.
//!
//! A head is text. Names have no control characters, so these separate its parts; free text has them escaped.
//!
//! - `L` token session `\1` queue `\1` worker `\2` attempt `\2` releases `\2` `\2` history: a live lease.
//! - `R` the same, with the ending before the history (`l`: lost; `f`: free; `f=` and the report that asked): released.
//! - `D` token digest keep at report: decided. The token has 16 digits, the digest 32 bytes, `keep` (µs) 16 digits, `at`
//!   (unix ns) 20; the report is empty, or `=` and its text.
//!
//! The history is made of attempt `\3` at `\3` worker `\4`: the attempts of this message that were lost.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message;

use crate::clock::WallTime;
use crate::ledger::record::EffectsRecord;
use crate::ledger::{Decision, Effects, Ending, Grant, Lease, LostAttempt, Standing};
use crate::task::record::RecordError;
use crate::task::{FencingToken, LeaseId, MessageKey, QueueName, SessionId, TaskId, TaskName};

/// Between the parts of a holder.
const IN_HOLDER: char = '\u{1}';
/// Between the parts of a head.
const IN_HEAD: char = '\u{2}';
/// Between the parts of a lost attempt.
const IN_LOST: char = '\u{3}';
/// After each lost attempt.
const LOST_END: char = '\u{4}';

const TOKEN_DIGITS: usize = 16;
const DIGEST_BYTES: usize = 32;
const KEEP_DIGITS: usize = 16;
const AT_DIGITS: usize = 20;

/// Larger than every token: those are exact numbers of Lua.
const TOKEN_NEVER: u64 = 9_999_999_999_999_999;

/// A decision is kept at most so long, µs, 31 years: its end is then a moment, and not behind all.
const KEEP_MAX: u128 = 1_000_000_000_000_000;
/// The latest moment of a decision, unix ns, in the year 2255: its microseconds have sixteen digits.
const AT_MAX: u64 = 9_000_000_000_000_000_000;

/// What a grant says that no script looks at.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct GrantRecord {
    /// See [`Grant::task`].
    #[prost(string, tag = "1")]
    task: String,
    /// See [`Grant::name`].
    #[prost(string, tag = "2")]
    name: String,
    /// See [`Grant::request_id`].
    #[prost(string, optional, tag = "3")]
    request_id: Option<String>,
    /// See [`Grant::at`], unix ns.
    #[prost(fixed64, tag = "4")]
    at: u64,
    /// See [`Grant::body`].
    #[prost(bytes = "bytes", optional, tag = "5")]
    body: Option<Bytes>,
}

impl From<&Grant> for GrantRecord {
    fn from(grant: &Grant) -> Self {
        Self {
            task: grant.task.to_string(),
            name: grant.name.to_string(),
            request_id: grant.request_id.clone(),
            at: grant.at.0,
            body: grant.body.clone(),
        }
    }
}

/// A head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// Granted, and not decided.
    Open(Open),
    /// Decided.
    Decided {
        /// Under which token.
        token: FencingToken,
        /// When.
        at: WallTime,
    },
}

/// The head of a message that is not decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// The last lease lives.
    pub(super) is_live: bool,
    /// Its token.
    pub(super) token: FencingToken,
    session: String,
    /// Its queue.
    pub(super) queue: String,
    worker: String,
    attempt: u32,
    releases: u32,
    lost: Vec<LostAttempt>,
}

impl Head {
    /// Reads a head.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let missing = || RecordError::Missing("a part of the head");
        let (kind, rest) = bytes.split_first().ok_or_else(missing)?;
        let (token, rest) = rest.split_at_checked(TOKEN_DIGITS).ok_or_else(missing)?;
        let token = FencingToken(digits(token).ok_or_else(missing)?);
        match kind {
            b'D' => {
                let at = rest.get(DIGEST_BYTES + KEEP_DIGITS..).and_then(|rest| rest.get(..AT_DIGITS));
                let at = WallTime(at.and_then(digits).ok_or_else(missing)?);
                Ok(Self::Decided { token, at })
            }
            b'L' | b'R' => {
                let rest = std::str::from_utf8(rest).map_err(|_| missing())?;
                Open::read(*kind == b'L', token, rest).map(Self::Open).ok_or_else(missing)
            }
            other => Err(RecordError::Unknown { what: "the kind of a head", number: (*other).into() }),
        }
    }

    /// The token of the last lease.
    pub(super) fn token(&self) -> FencingToken {
        match self {
            Self::Open(open) => open.token,
            Self::Decided { token, .. } => *token,
        }
    }

    /// How its message stands.
    pub(super) fn standing(&self, message: &MessageKey) -> Standing {
        match self {
            Self::Open(open) if open.is_live => {
                Standing::Leased(LeaseId { message: message.clone(), token: open.token })
            }
            Self::Open(_) => Standing::Open,
            Self::Decided { .. } => Standing::Decided,
        }
    }
}

impl Open {
    fn read(is_live: bool, token: FencingToken, rest: &str) -> Option<Self> {
        let mut parts = rest.splitn(5, IN_HEAD);
        let mut holder = parts.next()?.splitn(3, IN_HOLDER);
        let (session, queue, worker) = (holder.next()?, holder.next()?, holder.next()?);
        let (attempt, releases) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (_ending, history) = (parts.next()?, parts.next()?);
        let lost = |text: &str| {
            let mut parts = text.splitn(3, IN_LOST);
            let (attempt, at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(LostAttempt { attempt, at: WallTime(at), worker: unescaped(parts.next()?)? })
        };
        Some(Self {
            is_live,
            token,
            session: session.to_owned(),
            queue: queue.to_owned(),
            worker: unescaped(worker)?,
            attempt,
            releases,
            lost: history.split_terminator(LOST_END).map(lost).collect::<Option<_>>()?,
        })
    }

    /// The last lease, of which the blob knows the rest.
    pub(super) fn lease(self, message: MessageKey, rest: GrantRecord) -> Lease {
        Lease {
            id: LeaseId { message, token: self.token },
            task: TaskId::trusted(rest.task),
            name: TaskName::trusted(rest.name),
            queue: QueueName::trusted(self.queue),
            session: SessionId::trusted(self.session),
            worker: self.worker,
            request_id: rest.request_id,
            attempt: self.attempt,
            lost: self.lost,
            releases: self.releases,
            at: WallTime(rest.at),
            body: rest.body,
        }
    }
}

/// The lease of a grant of which nothing was known before.
pub(super) fn first(grant: &Grant, token: FencingToken) -> Lease {
    Lease {
        id: LeaseId { message: grant.message.clone(), token },
        task: grant.task.clone(),
        name: grant.name.clone(),
        queue: grant.queue.clone(),
        session: grant.session.clone(),
        worker: grant.worker.clone(),
        request_id: grant.request_id.clone(),
        attempt: grant.attempts_before.saturating_add(1),
        lost: Vec::new(),
        releases: 0,
        at: grant.at,
        body: grant.body.clone(),
    }
}

/// Who holds a lease, and which attempt it is if it is the first of its message, as in a head.
pub(super) fn holder(grant: &Grant) -> String {
    let Grant { session, queue, worker, attempts_before, .. } = grant;
    let attempt = attempts_before.saturating_add(1);
    format!("{session}{IN_HOLDER}{queue}{IN_HOLDER}{}{IN_HEAD}{attempt}", escaped(worker))
}

/// A token as in a head. One of more digits was never granted, and is written as another that never will be.
pub(super) fn token(token: FencingToken) -> String {
    format!("{:016}", token.0.min(TOKEN_NEVER))
}

/// An ending as in a head.
pub(super) fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Lost { .. } => "l".to_owned(),
        Ending::Free { report: None } => "f".to_owned(),
        Ending::Free { report: Some(report) } => format!("f={}", escaped(report)),
    }
}

/// The head of a message that is decided.
pub(super) fn decided(decision: &Decision) -> Vec<u8> {
    let keep = decision.keep.as_nanos().div_ceil(1_000).min(KEEP_MAX);
    let mut head = format!("D{}", token(decision.lease.token)).into_bytes();
    head.extend_from_slice(&decision.digest);
    head.extend_from_slice(format!("{keep:016}{:020}", decision.at.0.min(AT_MAX)).as_bytes());
    if let Some(report) = &decision.report {
        head.push(b'=');
        head.extend_from_slice(report.as_bytes());
    }
    head
}

/// The blob of a decision.
pub(super) fn effects_blob(effects: &Effects) -> Vec<u8> {
    EffectsRecord::from(effects).encode_to_vec()
}

fn digits(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Free text without control characters: each, and `%`, as `%` and two hexadecimal digits.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_odd = |c: char| c.is_ascii_control() || c == '%';
    if !text.contains(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if is_odd(c) => out.push_str(&format!("%{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        out.push(char::from(u8::from_str_radix(code, 16).ok()?));
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_is_read_as_it_was_written() {
        for text in ["", "plain", "100 %", "\u{1}\u{2}%01\u{7f}\n", "\u{e9}%\u{1f980}"] {
            let written = escaped(text);
            assert!(!written.contains(|c: char| c.is_ascii_control()), "{written:?}");
            assert_eq!(unescaped(&written).as_deref(), Some(text));
        }
        assert_eq!((unescaped("%4"), unescaped("%\u{e9}")), (None, None));
    }

    #[test]
    fn a_head_that_is_none_is_refused() {
        for bytes in ["", "L", "X0000000000000001", "L0000000000000001s", "D0000000000000001short", "Lx"] {
            assert!(Head::read(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert!(Head::read(b"L0000000000000001s\x01q\x01w\x021\x02x\x02\x02").is_err());
    }

    #[test]
    fn the_history_is_read_in_its_order() {
        let head = b"R0000000000000009s\x01q\x01w%01\x023\x021\x02l\x021\x037\x03one\x042\x038\x03two%25\x04";
        let Head::Open(open) = Head::read(head).unwrap() else { panic!("decided") };
        let lost = |attempt, at, worker: &str| LostAttempt { attempt, at: WallTime(at), worker: worker.to_owned() };
        assert_eq!(open.lost, [lost(1, 7, "one"), lost(2, 8, "two%")]);
        assert_eq!((open.is_live, open.token, open.attempt, open.releases), (false, FencingToken(9), 3, 1));
        assert_eq!(open.worker, "w\u{1}");
    }
}
