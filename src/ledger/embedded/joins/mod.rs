//! Joins in the engine's file.
//!
//! A member that ends is one put, and one for its join, whatever the number of its members: its head, its members and what
//! follows it are not read for it.

mod layout;
mod open;
mod read;
mod steps;
mod sweep;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::join::{Ended, Fired, Firing, Joins, Member, Opened, Opening, Standing};
use crate::task::{GroupId, TaskId};

use super::Ledger;

pub(super) use open::Openings;
pub(crate) use steps::joins_in;
pub(super) use sweep::sweep_in;

#[async_trait]
impl Joins for Ledger {
    async fn open(&self, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
        open::open(&self.engine, &self.openings, openings).await
    }

    async fn sent(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        let groups = groups.to_vec();
        self.engine.write(move |txn| steps::sent_in(txn, &groups)).await
    }

    async fn forget(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        let groups = groups.to_vec();
        self.engine.write(move |txn| steps::forget_in(txn, &groups)).await
    }

    async fn add(&self, ended: &[Ended]) -> Result<(), StoreError> {
        let ended = ended.to_vec();
        self.engine.write(move |txn| steps::joins_in(txn, &ended)).await
    }

    async fn standing(&self, groups: &[GroupId]) -> Result<Vec<Option<Standing>>, StoreError> {
        self.engine.read(|records| groups.iter().map(|group| read::standing(records, group)).collect())
    }

    async fn members(&self, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError> {
        self.engine.read(|records| read::members(records, group, from, max))
    }

    async fn missing(&self, group: &GroupId, from: u32, max: usize) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
        self.engine.read(|records| read::missing(records, group, from, max))
    }

    async fn fire(&self, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
        let firings = firings.to_vec();
        self.engine.write(move |txn| steps::fire_in(txn, &firings)).await
    }

    async fn close(&self, groups: &[GroupId], at: WallTime) -> Result<(), StoreError> {
        let groups = groups.to_vec();
        self.engine.write(move |txn| steps::close_in(txn, &groups, at)).await
    }

    async fn due(&self, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
        self.engine.read(|records| read::due(records, now, max))
    }

    async fn look(&self, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError> {
        let looks = looks.to_vec();
        self.engine.write(move |txn| steps::look_in(txn, &looks)).await
    }
}
