//! Cancelling what belongs together, and giving it up.
//!
//! First all marks, durable: from then on none of the tasks is run, whichever replica meets it. Then those that can be reached
//! are ended or signalled as `super::super::cancel` does with one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::behind::not_run;
use super::fire::{callback_id, open};
use super::look::{as_ended, is_of};
use crate::backend::StateWrite;
use crate::clock::WallTime;
use crate::error::{Error, StoreError};
use crate::ledger::join::{Ended, Head, Kind, Stage};
use crate::ledger::{CancelMark, Notice};
use crate::service::Inner;
use crate::service::outcome::CANCELLED;
use crate::service::types::{CancelAnswer, GroupCancelled};
use crate::task::{FailureReason, GroupId, Status, TaskId, TaskState, Timestamp};

/// Tasks read, marked and pursued at once.
const PAGE: usize = 256;
/// So many tasks are pursued one by one where the broker cannot find messages: each is a search.
const SEARCHED_MAX: usize = 16;

impl Inner {
    /// Cancels what has not run of a group.
    pub(super) async fn cancel_group(self: &Arc<Self>, id: &GroupId) -> Result<GroupCancelled, Error> {
        let now = self.clock.wall();
        let standing = self.stores.ledger.joins().standing(std::slice::from_ref(id)).await?.pop().flatten();
        let Some(standing) = standing else {
            let meta = self.stores.backend.groups(std::slice::from_ref(id), now).await?.pop().flatten();
            let meta = meta.ok_or_else(|| Error::GroupUnknown(id.to_string()))?;
            let mut seen = HashSet::new();
            let tasks: Vec<TaskId> = meta.tasks.into_iter().filter(|task| seen.insert(task.clone())).collect();
            return self.cancel_tasks(tasks, 0, Kind::Group).await;
        };
        let head = standing.head;
        if standing.stage == Stage::Closed {
            return Ok(GroupCancelled { ended: head.count, ..GroupCancelled::default() });
        }
        let mut tasks = Vec::new();
        loop {
            let from = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
            let page = self.stores.ledger.joins().members(id, from, PAGE).await?;
            let is_last = page.len() < PAGE;
            tasks.extend(page.into_iter().map(|member| member.task));
            if is_last {
                break;
            }
        }
        // The callback is marked first: whatever its members come to meanwhile, it is met as cancelled.
        if let Some(callback) = head.callback.as_ref().and_then(open) {
            let task = TaskId::trusted(callback_id(&head, &callback));
            let generation = if head.generation > 0 { head.generation } else { now.0 };
            self.mark_all(&[CancelMark { task, generation }]).await?;
        }
        let cancelled = self.cancel_tasks(tasks, head.generation, head.kind).await?;
        self.looks.hear([head.id]);
        Ok(cancelled)
    }

    async fn mark_all(&self, marks: &[CancelMark]) -> Result<(), StoreError> {
        self.stores.ledger.mark(marks).await?;
        if self.stores.ledger.replicas() {
            marks.iter().for_each(|mark| self.stores.ledger.notices().tell(Notice::Marked(mark.clone())));
        }
        Ok(())
    }

    async fn cancel_tasks(
        self: &Arc<Self>,
        tasks: Vec<TaskId>,
        generation: u64,
        kind: Kind,
    ) -> Result<GroupCancelled, Error> {
        let now = self.clock.wall();
        let mut cancelled = GroupCancelled::default();
        let mut marks = Vec::new();
        for page in tasks.chunks(PAGE) {
            let states = self.stores.backend.read(page, now).await?;
            let mut of_page = Vec::new();
            for (task, state) in page.iter().zip(states) {
                let state = state.filter(|state| is_of(generation, state));
                if state.as_ref().is_some_and(|state| state.status.is_final()) {
                    cancelled.ended += 1;
                    continue;
                }
                let generation = match (generation, state) {
                    (0, Some(state)) if state.generation == 0 => now.0,
                    (0, None) => now.0,
                    (generation, state) => state.map_or(generation, |state| state.generation.max(generation)),
                };
                of_page.push(CancelMark { task: task.clone(), generation });
            }
            self.mark_all(&of_page).await?;
            marks.extend(of_page);
        }
        let answers = match (kind, self.stores.broker.find().is_some()) {
            // All but one of a chain wait for the one before; when that ends, they do.
            (Kind::Chain, _) => self.pursue_chain(&marks).await?,
            (_, true) => self.pursue_found_all(&marks).await?,
            (_, false) => self.pursue_searched(&marks).await?,
        };
        for answer in answers {
            match answer {
                CancelAnswer::Ended => cancelled.ended += 1,
                CancelAnswer::Removed => cancelled.removed += 1,
                CancelAnswer::Signalled => cancelled.signalled += 1,
                CancelAnswer::Marked => cancelled.marked += 1,
            }
        }
        Ok(cancelled)
    }

    async fn pursue_each(self: &Arc<Self>, marks: &[CancelMark]) -> Result<Vec<CancelAnswer>, StoreError> {
        let mut answers = Vec::with_capacity(marks.len());
        for mark in marks {
            answers.push(self.reach(mark).await?);
        }
        Ok(answers)
    }

    async fn pursue_found_all(self: &Arc<Self>, marks: &[CancelMark]) -> Result<Vec<CancelAnswer>, StoreError> {
        let mut answers = Vec::with_capacity(marks.len());
        for page in marks.chunks(PAGE) {
            for (mark, answer) in page.iter().zip(self.pursue_found(page).await?) {
                answers.push(match answer {
                    Some(answer) => answer,
                    // It is on its way from one place to another, or was never sent.
                    None => self.reach(mark).await?,
                });
            }
        }
        Ok(answers)
    }

    async fn pursue_chain(self: &Arc<Self>, marks: &[CancelMark]) -> Result<Vec<CancelAnswer>, StoreError> {
        let Some(first) = marks.first() else { return Ok(Vec::new()) };
        let answer = self.reach(first).await?;
        let mut answers = vec![answer];
        let now = self.clock.wall();
        for marks in marks[1..].chunks(PAGE) {
            let ids: Vec<TaskId> = marks.iter().map(|mark| mark.task.clone()).collect();
            let is_over = |state: Option<TaskState>| state.is_some_and(|state| state.status.is_final());
            let states = self.stores.backend.read(&ids, now).await?;
            let removed = |over| if over { CancelAnswer::Removed } else { CancelAnswer::Marked };
            answers.extend(states.into_iter().map(|state| removed(is_over(state))));
        }
        Ok(answers)
    }

    /// Where the broker cannot find messages: few are searched one by one, of many only those that run are told.
    async fn pursue_searched(self: &Arc<Self>, marks: &[CancelMark]) -> Result<Vec<CancelAnswer>, StoreError> {
        if marks.len() <= SEARCHED_MAX {
            return self.pursue_each(marks).await;
        }
        let by_task: HashMap<&TaskId, u64> = marks.iter().map(|mark| (&mark.task, mark.generation)).collect();
        self.end_all_searched(&by_task).await?;
        let signalled = self.signal_all(&by_task).await?;
        let now = self.clock.wall();
        let mut answers = Vec::with_capacity(marks.len());
        for marks in marks.chunks(PAGE) {
            let ids: Vec<TaskId> = marks.iter().map(|mark| mark.task.clone()).collect();
            for (mark, state) in marks.iter().zip(self.stores.backend.read(&ids, now).await?) {
                let is_over = state.is_some_and(|state| state.status.is_final() && is_of(mark.generation, &state));
                answers.push(match is_over {
                    true => CancelAnswer::Removed,
                    false if signalled.contains(&mark.task) => CancelAnswer::Signalled,
                    false => CancelAnswer::Marked,
                });
            }
        }
        Ok(answers)
    }

    /// Ends a join that nobody works on any more: all that can be is cancelled; what has no state was never sent, or is
    /// forgotten, and ends here.
    pub(super) async fn give_up(self: &Arc<Self>, head: &Head) -> Result<(), StoreError> {
        match self.cancel_group(&head.id).await {
            Ok(_) | Err(Error::GroupUnknown(_)) => {}
            Err(Error::Store(error)) => return Err(error),
            Err(error) => tracing::warn!(%error, group = %head.id, "a group is not cancelled yet"),
        }
        let now = self.clock.wall();
        let mut from = 0;
        loop {
            let (missing, next) = self.stores.ledger.joins().missing(&head.id, from, PAGE).await?;
            let states = self.stores.backend.read(&missing, now).await?;
            let unsent = missing.iter().zip(states).filter(|(_, state)| {
                // What is announced of a chain is not sent before the one before it has ended.
                state.as_ref().is_none_or(|state| !is_of(head.generation, state) || head.kind == Kind::Chain)
            });
            let states: Vec<TaskState> = unsent
                .map(|(task, _)| ended_here(task, head.generation, CANCELLED, FailureReason::Cancelled, now))
                .collect();
            self.end_members(head, states, now).await?;
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Ends the tasks of a chain behind one that a Machinery worker ended badly.
    pub(super) async fn end_chain(
        self: &Arc<Self>,
        head: &Head,
        failed: &TaskState,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let cause = not_run(failed.task_id.as_str(), &failed.error);
        let (mut from, mut is_behind) = (0, false);
        loop {
            let page = self.stores.ledger.joins().members(&head.id, from, PAGE).await?;
            let is_last = page.len() < PAGE;
            from += u32::try_from(page.len()).unwrap_or(u32::MAX);
            let mut states = Vec::new();
            for member in page {
                if is_behind && member.outcome.is_none() {
                    states.push(ended_here(&member.task, head.generation, &cause, FailureReason::NotRun, now));
                }
                is_behind |= member.task == failed.task_id;
            }
            self.end_members(head, states, now).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn end_members(&self, head: &Head, states: Vec<TaskState>, now: WallTime) -> Result<(), StoreError> {
        if states.is_empty() {
            return Ok(());
        }
        let ended: Vec<Ended> = states.iter().map(|state| as_ended(&head.id, &state.task_id, state)).collect();
        let keep = self.settings().results_expire_in;
        let writes: Vec<StateWrite> = states.into_iter().map(|state| StateWrite { state, keep }).collect();
        for answer in self.stores.backend.write(&writes, now).await {
            answer?;
        }
        self.stores.ledger.joins().add(&ended).await?;
        self.looks.hear([head.id.clone()]);
        Ok(())
    }
}

/// The end of a task that nobody runs.
fn ended_here(task: &TaskId, generation: u64, error: &str, reason: FailureReason, now: WallTime) -> TaskState {
    TaskState {
        task_id: task.clone(),
        // As it was announced.
        task_name: String::new(),
        status: Status::Failure,
        results: None,
        error: error.to_owned(),
        reason,
        generation: if generation > 0 { generation } else { now.0 },
        attempt: 1,
        releases: 0,
        created_at: Timestamp::ZERO,
        updated_at: Timestamp::from_wall(now),
    }
}
