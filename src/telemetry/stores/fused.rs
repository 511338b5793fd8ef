//! The calls of a fused store.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Measured, Stores, methods};
use crate::clock::{Instant, WallTime};
use crate::error::StoreError;
use crate::fused::{Backup, Fused, Pieces};
use crate::ledger::claim::{Claim, Claimed, Sending};
use crate::ledger::{Decision, Verdict};

methods!(send send_claimed settle backup);

impl Stores {
    /// Puts a measure around a fused store, which goes by the name of its rooms.
    pub fn fused(&self, inner: Arc<dyn Fused>, name: &'static str) -> Arc<dyn Fused> {
        Arc::new(Measured::new(inner, self, "fused", name, METHODS))
    }
}

#[async_trait]
impl Fused for Measured<dyn Fused> {
    fn acknowledges(&self) -> bool {
        self.inner.acknowledges()
    }

    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
        self.room.each(Place::send as usize, self.inner.send(items, now)).await
    }

    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError> {
        self.room.whole(Place::send_claimed as usize, self.inner.send_claimed(claims, now)).await
    }

    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        self.room.whole(Place::settle as usize, self.inner.settle(decisions)).await
    }

    fn backup(&self) -> Option<&dyn Backup> {
        self.inner.backup().map(|_| self as &dyn Backup)
    }
}

impl Backup for Measured<dyn Fused> {
    // The pieces are read at the speed of whoever takes them, so only the beginning is measured.
    fn begin(&self) -> Result<Box<dyn Pieces>, StoreError> {
        let backup = self.inner.backup().ok_or_else(|| self.room.missing())?;
        let began = Instant::now();
        let answer = backup.begin();
        self.room.took(Place::backup as usize, began.elapsed());
        answer.inspect_err(|error| self.room.failed(Place::backup as usize, error))
    }
}
