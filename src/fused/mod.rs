//! One store behind broker, ledger and backend: all effects of a step in one transaction.
//!
//! Where there is none, `service` carries the same steps in the order of `ARCHITECTURE.md`, "A task's life".

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::claim::{Claim, Claimed, Sending};
use crate::ledger::{Decision, Verdict};

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

/// Several steps at once, over three rooms that share a store.
#[async_trait]
pub trait Fused: fmt::Debug + Send + Sync + 'static {
    /// Whether [`Fused::settle`] acknowledges the message too; default true. Else whoever holds the delivery settles it
    /// afterwards: after a crash in between the message comes once more and is answered [`crate::ledger::Begun::Decided`],
    /// and one that is sent again is published again, to be recognised by its record in the ledger.
    fn acknowledges(&self) -> bool {
        true
    }

    /// Writes the state and the lifetime and publishes the message, all or nothing, one answer each, in order. A message that
    /// is carried already has its state, and maybe a later one: sent again, nothing is written, which is no error; unless the
    /// broker does not recognise it ([`crate::broker::Capabilities::recognises`]) and carries it twice.
    ///
    /// # Errors
    /// Per item, as [`crate::broker::Broker::publish`].
    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>>;

    /// Claims the names of each send as [`crate::ledger::claim::Claims::claim`]; and in the same transaction sends what is
    /// claimed now ([`Claimed::New`]), or was claimed and is not known to be published, as [`Fused::send`], and marks it
    /// published; or, step by step, so that what was cut short is sent by whoever finds it. Never answers [`Claimed::Again`];
    /// of what is sent step by step, one may be answered [`Claimed::Failed`] while others are sent.
    ///
    /// # Errors
    /// As [`crate::ledger::Ledger`]: none of them was sent, or it is unknown.
    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError>;

    /// Decides; and where the verdict is `Recorded`, in the same transaction, writes the states, publishes the messages, adds members to joins,
    /// acknowledges the message wherever it stands (held, waiting or delayed; its receipts are void from then on), if it
    /// [`Fused::acknowledges`], and marks the effects done.
    ///
    /// # Errors
    /// As [`crate::ledger::Ledger::decide`]: none of the decisions was written, or it is unknown.
    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError>;

    /// Copying the whole store while it is in use; `None`: this store cannot.
    fn backup(&self) -> Option<&dyn Backup> {
        None
    }
}

/// Copies everything as of one moment, while others write.
pub trait Backup: fmt::Debug + Send + Sync {
    /// Begins a copy of what is durable now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    fn begin(&self) -> Result<Box<dyn Pieces>, StoreError>;
}

/// A copy on its way. Dropped, it is given up.
pub trait Pieces: fmt::Debug + Send {
    /// The next bytes, some hundred KiB of them, read on the caller's thread; `None` once the copy is complete.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: begin anew; [`StoreError::Corrupt`].
    fn next(&mut self) -> Result<Option<Bytes>, StoreError>;
}
