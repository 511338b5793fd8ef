//! Chords that Machinery programs sent: joined as ours, once a member of one ends here.

use std::collections::{HashMap, HashSet};

use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::Decision;
use crate::ledger::join::{Opened, Opening, Stage};
use crate::service::Inner;
use crate::task::{GroupId, TaskId};

/// The first look at such a join, after it was opened: some of its members may have ended before.
const FIRST_LOOK: std::time::Duration = std::time::Duration::from_secs(1);

impl Inner {
    /// Opens the joins that members of these decisions belong to. Nothing is decided before, or a member would be missing.
    pub(in crate::service) async fn adopt(&self, decisions: &mut [Decision]) -> Result<(), StoreError> {
        let mut openings: Vec<Opening> = Vec::new();
        for opening in decisions.iter_mut().flat_map(|decision| decision.opens.drain(..)) {
            let is_new = !openings.iter().any(|other| other.head.id == opening.head.id);
            if is_new && !self.looks.is_known(&opening.head.id, self.clock.now()) {
                openings.push(opening);
            }
        }
        if openings.is_empty() {
            return Ok(());
        }
        let now = self.clock.wall();
        let ids: Vec<GroupId> = openings.iter().map(|opening| opening.head.id.clone()).collect();
        let keep = self.settings().results_expire_in;
        // Of records that nobody has triggered: a group that was sent again under the id of one that is over is another.
        let mut sent_at: HashMap<GroupId, WallTime> = HashMap::new();
        for (opening, meta) in openings.iter_mut().zip(self.stores.backend.groups(&ids, now).await?) {
            opening.head.keep = keep;
            opening.look_at = now.plus(FIRST_LOOK);
            // Its record may have expired: then whoever ends counts.
            if let Some(meta) = meta {
                if !meta.is_triggered {
                    sent_at.insert(meta.id.clone(), meta.created_at.to_wall());
                }
                let mut seen = HashSet::new();
                let members: Vec<TaskId> = meta.tasks.into_iter().filter(|task| seen.insert(task.clone())).collect();
                if let Ok(count @ 1..) = u32::try_from(members.len()) {
                    opening.head.count = count;
                    opening.members = members;
                }
            }
        }
        let opened = self.stores.ledger.joins().open(&openings).await?;
        let is_again = |(opening, opened): &(&Opening, Opened)| {
            let Opened::Known(known) = opened else { return false };
            let sent = sent_at.get(&opening.head.id);
            known.stage == Stage::Closed && sent.is_some_and(|at| *at > known.head.at)
        };
        let again: Vec<Opening> =
            openings.iter().zip(opened).filter(is_again).map(|(opening, _)| opening.clone()).collect();
        if !again.is_empty() {
            let closed: Vec<GroupId> = again.iter().map(|opening| opening.head.id.clone()).collect();
            self.stores.ledger.joins().forget(&closed).await?;
            self.stores.ledger.joins().open(&again).await?;
        }
        self.looks.know(ids.into_iter(), self.clock.now());
        Ok(())
    }
}
