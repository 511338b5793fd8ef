//! The reference model of joins: one ordered map.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Ledger, SWEEP_MAX};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::ledger::join::{Ended, Fired, Firing, Head, Member, Opened, Opening, Stage, Standing};
use crate::task::{GroupId, TaskId};

// Members that one call of `missing` looks at.
const LOOK_MAX: usize = 10_000;

/// All joins.
#[derive(Debug, Default)]
pub(crate) struct Joins(BTreeMap<GroupId, Join>);

#[derive(Debug)]
struct Join {
    head: Head,
    /// Known members in order, or those that ended, in the order in which they did.
    members: Vec<TaskId>,
    is_known: bool,
    outcomes: BTreeMap<TaskId, (Bytes, bool)>,
    ended: u32,
    failed: u32,
    is_sending: bool,
    firing: Option<Firing>,
    /// `None`: closed.
    look_at: Option<WallTime>,
    forget_at: Option<WallTime>,
}

impl Join {
    fn stage(&self) -> Stage {
        match () {
            () if self.look_at.is_none() => Stage::Closed,
            () if self.firing.is_some() => Stage::Fired,
            () if self.is_sending => Stage::Sending,
            () => Stage::Open,
        }
    }

    fn standing(&self) -> Standing {
        Standing { head: self.head.clone(), stage: self.stage(), ended: self.ended, failed: self.failed }
    }

    fn add(&mut self, ended: &Ended) {
        let is_open = matches!(self.stage(), Stage::Sending | Stage::Open);
        let is_member = !self.is_known || self.members.contains(&ended.task);
        if !is_open || !is_member || self.outcomes.contains_key(&ended.task) {
            return;
        }
        if !self.is_known {
            self.members.push(ended.task.clone());
        }
        self.outcomes.insert(ended.task.clone(), (ended.outcome.clone(), ended.is_failure));
        self.ended += 1;
        self.failed += u32::from(ended.is_failure);
        if self.ended >= self.head.count {
            self.look_at = Some(WallTime(0));
        }
    }
}

impl Joins {
    pub(crate) fn add(&mut self, ended: &[Ended]) {
        for ended in ended {
            if let Some(join) = self.0.get_mut(&ended.group) {
                join.add(ended);
            }
        }
    }

    fn open(&mut self, opening: &Opening) -> Opened {
        if let Some(join) = self.0.get(&opening.head.id) {
            return Opened::Known(join.standing());
        }
        let join = Join {
            head: opening.head.clone(),
            members: opening.members.clone(),
            is_known: !opening.members.is_empty(),
            outcomes: BTreeMap::new(),
            ended: 0,
            failed: 0,
            is_sending: opening.is_sending,
            firing: None,
            look_at: Some(opening.look_at),
            forget_at: None,
        };
        self.0.insert(opening.head.id.clone(), join);
        Opened::New
    }

    fn fire(&mut self, group: &GroupId, firing: &Firing) -> Fired {
        let Some(join) = self.0.get_mut(group).filter(|join| join.look_at.is_some()) else { return Fired::Over };
        match &join.firing {
            Some(firing) => Fired::Known(Box::new(firing.clone())),
            None => {
                join.firing = Some(firing.clone());
                Fired::Recorded
            }
        }
    }

    fn close(&mut self, group: &GroupId, at: WallTime) {
        let Some(join) = self.0.get_mut(group).filter(|join| join.look_at.is_some()) else { return };
        join.look_at = None;
        join.forget_at = Some(at.plus(join.head.keep));
        join.outcomes.clear();
        join.firing = None;
    }

    pub(super) fn sweep(&mut self, now: WallTime) -> usize {
        let past = self.0.iter().filter(|(_, join)| join.forget_at.is_some_and(|at| at <= now));
        let past: Vec<GroupId> = past.map(|(id, _)| id.clone()).take(SWEEP_MAX).collect();
        for id in &past {
            self.0.remove(id);
        }
        past.len()
    }
}

#[async_trait]
impl super::join::Joins for Ledger {
    async fn open(&self, openings: &[Opening]) -> Result<Vec<Opened>, StoreError> {
        let joins = &mut self.lock().joins;
        Ok(openings.iter().map(|opening| joins.open(opening)).collect())
    }

    async fn sent(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        let joins = &mut self.lock().joins;
        for group in groups {
            if let Some(join) = joins.0.get_mut(group) {
                join.is_sending = false;
            }
        }
        Ok(())
    }

    async fn forget(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        let joins = &mut self.lock().joins;
        for group in groups {
            joins.0.remove(group);
        }
        Ok(())
    }

    async fn add(&self, ended: &[Ended]) -> Result<(), StoreError> {
        self.lock().joins.add(ended);
        Ok(())
    }

    async fn standing(&self, groups: &[GroupId]) -> Result<Vec<Option<Standing>>, StoreError> {
        let joins = &self.lock().joins;
        Ok(groups.iter().map(|group| joins.0.get(group).map(Join::standing)).collect())
    }

    async fn members(&self, group: &GroupId, from: u32, max: usize) -> Result<Vec<Member>, StoreError> {
        let joins = &self.lock().joins;
        let Some(join) = joins.0.get(group) else { return Ok(Vec::new()) };
        let member = |task: &TaskId| Member { task: task.clone(), outcome: join.outcomes.get(task).cloned() };
        Ok(join.members.iter().skip(from as usize).take(max).map(member).collect())
    }

    async fn missing(&self, group: &GroupId, from: u32, max: usize) -> Result<(Vec<TaskId>, Option<u32>), StoreError> {
        let joins = &self.lock().joins;
        let open = joins.0.get(group).filter(|join| join.is_known && join.stage() != Stage::Closed);
        let Some(join) = open else { return Ok((Vec::new(), None)) };
        let (mut missing, mut at) = (Vec::new(), from);
        for task in join.members.iter().skip(from as usize).take(LOOK_MAX) {
            if missing.len() == max {
                break;
            }
            at += 1;
            if !join.outcomes.contains_key(task) {
                missing.push(task.clone());
            }
        }
        Ok((missing, ((at as usize) < join.members.len()).then_some(at)))
    }

    async fn fire(&self, firings: &[(GroupId, Firing)]) -> Result<Vec<Fired>, StoreError> {
        let joins = &mut self.lock().joins;
        Ok(firings.iter().map(|(group, firing)| joins.fire(group, firing)).collect())
    }

    async fn close(&self, groups: &[GroupId], at: WallTime) -> Result<(), StoreError> {
        let joins = &mut self.lock().joins;
        groups.iter().for_each(|group| joins.close(group, at));
        Ok(())
    }

    async fn due(&self, now: WallTime, max: usize) -> Result<Vec<GroupId>, StoreError> {
        let joins = &self.lock().joins;
        let due = joins.0.iter().filter_map(|(id, join)| Some((join.look_at.filter(|at| *at <= now)?, id)));
        let mut due: Vec<_> = due.collect();
        due.sort();
        Ok(due.into_iter().map(|(_, id)| id.clone()).take(max).collect())
    }

    async fn look(&self, looks: &[(GroupId, WallTime, u32)]) -> Result<(), StoreError> {
        let joins = &mut self.lock().joins;
        for (group, at, seen) in looks {
            let Some(join) = joins.0.get_mut(group).filter(|join| join.look_at.is_some()) else { continue };
            if join.ended < join.head.count || *seen >= join.ended {
                join.look_at = Some(*at);
            }
        }
        Ok(())
    }
}
