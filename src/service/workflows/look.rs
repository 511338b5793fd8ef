//! Looking at joins: at once when members of one have ended here, and by the index of those that are due.
//!
//! What is full is fired. Of one that is shared with Machinery programs, members that their workers have ended are looked for
//! in the backend, after 1, 2, 4 … 60 s, and at once when only few are missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::clock::{Instant, WallTime};
use crate::error::StoreError;
use crate::ledger::Notice;
use crate::ledger::join::{Ended, Kind, Stage, Standing};
use crate::service::Inner;
use crate::task::{GroupId, Status, TaskId, TaskState};
use crate::wire;

/// How often the index is asked what is due.
const PERIOD: Duration = Duration::from_secs(1);
/// Joins of one look at the index.
const DUE_MAX: usize = 256;
/// Joins worked on at once.
const AT_ONCE_MAX: usize = 16;
/// The longest pause between two looks at a join that other programs may end members of.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The pause of one that only servers end members of: they tell.
const PAUSE_OWN: Duration = Duration::from_secs(3600);
/// A join of which so few members are missing is looked at whenever one has ended here.
const FEW: u32 = 8;
/// Members whose states are read in one look. The next look goes on behind them.
const LOOK_MAX: usize = 1000;
/// States read at once.
const READ_MAX: usize = 256;
/// A join whose members are not sent whole this long after somebody last worked on it is given up.
pub(super) const SENDING_MAX: Duration = Duration::from_secs(60);
/// A join of which nothing is left but the record, this long after it was sent, is given up.
const GIVEN_UP: Duration = Duration::from_secs(30 * 86_400);
/// Joins of other programs that are known to be open here, and for how long that is taken for granted; beyond, they are opened
/// again, which changes nothing.
const KNOWN_MAX: usize = 10_000;
/// What is remembered of a join that was not looked at for so long is forgotten.
const MEMORY_KEPT: Duration = Duration::from_secs(600);
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// What this replica knows of joins. All of it can be done without.
#[derive(Debug)]
pub(in crate::service) struct Looks {
    /// Members of these have ended.
    heard: Mutex<HashSet<GroupId>>,
    wake: Notify,
    /// Worked on now; `true`: to be looked at again afterwards.
    busy: Mutex<HashMap<GroupId, bool>>,
    slots: Arc<Semaphore>,
    memories: Mutex<HashMap<GroupId, Memory>>,
    known: Mutex<HashMap<GroupId, Instant>>,
    watchers: Mutex<HashMap<GroupId, Vec<Arc<Notify>>>>,
}

/// What is remembered of a join between looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// When it was last needed. A join that another replica fires is not heard of here.
    used: Instant,
    /// Where the next look goes on.
    at: u32,
    /// Since when it is known that another program has set out to send the callback.
    pub(super) theirs_since: Option<Instant>,
    /// When the states of its members were last prolonged.
    refreshed: Option<Instant>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            heard: Mutex::default(),
            wake: Notify::new(),
            busy: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            memories: Mutex::default(),
            known: Mutex::default(),
            watchers: Mutex::default(),
        }
    }
}

impl Looks {
    /// Members of these joins have ended, or what follows one was recorded.
    pub(in crate::service) fn hear(&self, groups: impl IntoIterator<Item = GroupId>) {
        let mut heard = self.heard.lock();
        let before = heard.len();
        heard.extend(groups);
        if heard.len() > before {
            self.wake.notify_one();
        }
    }

    /// Somebody watches a join.
    pub(super) fn watch(&self, group: &GroupId) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        self.watchers.lock().entry(group.clone()).or_default().push(wake.clone());
        wake
    }

    /// No longer.
    pub(super) fn unwatch(&self, group: &GroupId, wake: &Arc<Notify>) {
        let mut watchers = self.watchers.lock();
        if let Some(of) = watchers.get_mut(group) {
            of.retain(|other| !Arc::ptr_eq(other, wake));
            if of.is_empty() {
                watchers.remove(group);
            }
        }
    }

    /// Tells who watches these joins.
    pub(in crate::service) fn tell<'a>(&self, groups: impl IntoIterator<Item = &'a GroupId>) {
        let watchers = self.watchers.lock();
        if !watchers.is_empty() {
            groups.into_iter().filter_map(|group| watchers.get(group)).flatten().for_each(|wake| wake.notify_one());
        }
    }

    /// False: somebody works on it, and it is looked at again afterwards.
    fn begin(&self, group: &GroupId) -> bool {
        let mut busy = self.busy.lock();
        match busy.get_mut(group) {
            Some(again) => *again = true,
            None => drop(busy.insert(group.clone(), false)),
        }
        busy.get(group) == Some(&false)
    }

    fn end(&self, group: &GroupId) {
        if self.busy.lock().remove(group) == Some(true) {
            self.hear([group.clone()]);
        }
    }

    pub(super) fn memory(&self, group: &GroupId, now: Instant) -> Memory {
        let new = Memory { used: now, at: 0, theirs_since: None, refreshed: None };
        self.memories.lock().get(group).map_or(new, |known| Memory { used: now, ..*known })
    }

    pub(super) fn remember(&self, group: &GroupId, memory: Memory) {
        self.memories.lock().insert(group.clone(), memory);
    }

    fn tidy(&self, now: Instant) {
        self.memories.lock().retain(|_, memory| now.duration_since(memory.used) < MEMORY_KEPT);
    }

    pub(super) fn forget(&self, group: &GroupId) {
        self.memories.lock().remove(group);
    }

    pub(super) fn is_known(&self, group: &GroupId, now: Instant) -> bool {
        self.known.lock().get(group).is_some_and(|since| now.duration_since(*since) < KNOWN_FOR)
    }

    pub(super) fn know(&self, groups: impl Iterator<Item = GroupId>, now: Instant) {
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.extend(groups.map(|group| (group, now)));
    }
}

/// Looks at joins for as long as the replica runs. The first look at the index is at once: what a crash left behind.
pub(in crate::service) async fn run(inner: Arc<Inner>) {
    let mut next_round = inner.clock.now();
    loop {
        let looked = tokio::select! {
            () = tokio::time::sleep_until(next_round) => {
                next_round = inner.clock.now() + PERIOD;
                inner.looks.tidy(inner.clock.now());
                inner.look_at_due_joins().await
            }
            () = inner.looks.wake.notified() => {
                let heard = std::mem::take(&mut *inner.looks.heard.lock());
                inner.look_at_heard(heard.into_iter().collect()).await
            }
        };
        if let Err(error) = looked {
            tracing::warn!(%error, "joins are looked at later");
        }
    }
}

impl Inner {
    /// Members of these joins were added: whoever looks at them, or watches them, is told.
    pub(in crate::service) fn joined(&self, groups: HashSet<GroupId>) {
        if groups.is_empty() {
            return;
        }
        if self.stores.ledger.replicas() {
            self.stores.ledger.notices().tell(Notice::Joined(groups.iter().cloned().collect()));
        }
        self.looks.hear(groups);
    }

    async fn look_at_due_joins(self: &Arc<Self>) -> Result<(), StoreError> {
        let due = self.stores.ledger.joins().due(self.clock.wall(), DUE_MAX).await?;
        if due.is_empty() {
            return Ok(());
        }
        for standing in self.stores.ledger.joins().standing(&due).await?.into_iter().flatten() {
            self.start(standing).await;
        }
        Ok(())
    }

    async fn look_at_heard(self: &Arc<Self>, heard: Vec<GroupId>) -> Result<(), StoreError> {
        self.looks.tell(&heard);
        for groups in heard.chunks(DUE_MAX) {
            for standing in self.stores.ledger.joins().standing(groups).await?.into_iter().flatten() {
                // One that is being sent is looked at when that has taken too long, and not before: by the index.
                let is_near = standing.stage == Stage::Open
                    && standing.head.is_shared
                    && standing.head.count - standing.ended.min(standing.head.count) <= FEW;
                if standing.is_full() || is_near {
                    self.start(standing).await;
                }
            }
        }
        Ok(())
    }

    /// Looks at one join beside others.
    async fn start(self: &Arc<Self>, standing: Standing) {
        let group = standing.head.id.clone();
        if standing.stage == Stage::Closed || !self.looks.begin(&group) {
            return;
        }
        let Ok(slot) = self.looks.slots.clone().acquire_owned().await else { return };
        let inner = self.clone();
        self.spawn(async move {
            if let Err(error) = inner.look_at(standing).await {
                tracing::warn!(%error, %group, "a join is looked at later");
                inner.stalled();
            }
            inner.looks.end(&group);
            drop(slot);
        });
    }

    async fn look_at(self: &Arc<Self>, standing: Standing) -> Result<(), StoreError> {
        let (now, head) = (self.clock.wall(), &standing.head);
        match standing.stage {
            Stage::Closed => return Ok(()),
            Stage::Fired => return self.fire_again(&standing).await,
            Stage::Sending | Stage::Open if standing.is_full() => return self.fire(standing).await,
            Stage::Sending => {
                // It was due: nobody has worked on it for as long as its sender would have said so.
                if now >= head.at.plus(SENDING_MAX) {
                    tracing::warn!(group = %head.id, "a group was not sent whole; what was sent of it is cancelled");
                    self.give_up(head).await?;
                }
                return self.look_later(&standing, now, PERIOD).await;
            }
            Stage::Open => {}
        }
        if !head.is_shared {
            return self.look_later(&standing, now, PAUSE_OWN).await;
        }
        let mut pause_max = PAUSE_MAX;
        if head.kind == Kind::Chord {
            // Often enough to have the states of its members kept.
            pause_max = pause_max.min(self.settings().results_expire_in / 4).max(PERIOD);
        }
        let pause = head.at.until(now).clamp(PERIOD, pause_max);
        let found = self.find_ended(&standing, now).await?;
        self.refresh(&standing, pause, now).await?;
        if found {
            // It may be full now, and the rest of its members were not looked at.
            self.looks.hear([head.id.clone()]);
        }
        self.look_later(&standing, now, pause).await
    }

    async fn look_later(&self, standing: &Standing, now: WallTime, pause: Duration) -> Result<(), StoreError> {
        let look = (standing.head.id.clone(), now.plus(pause), standing.ended);
        self.stores.ledger.joins().look(&[look]).await
    }

    /// Adds members that another program has ended; true if there were any.
    async fn find_ended(self: &Arc<Self>, standing: &Standing, now: WallTime) -> Result<bool, StoreError> {
        let head = &standing.head;
        let mut memory = self.looks.memory(&head.id, self.clock.now());
        let is_whole = memory.at == 0;
        let (missing, next) = self.stores.ledger.joins().missing(&head.id, memory.at, LOOK_MAX).await?;
        let (mut ended, mut known) = (Vec::new(), 0);
        let mut failed: Option<TaskState> = None;
        for tasks in missing.chunks(READ_MAX) {
            for (task, state) in tasks.iter().zip(self.stores.backend.read(tasks, now).await?) {
                let Some(state) = state.filter(|state| is_of(head.generation, state)) else { continue };
                known += 1;
                if state.status.is_final() {
                    ended.push(as_ended(&head.id, task, &state));
                    failed = failed.or_else(|| (state.status == Status::Failure).then_some(state));
                }
            }
        }
        let is_whole = is_whole && next.is_none();
        memory.at = next.unwrap_or(0);
        self.looks.remember(&head.id, memory);
        if known == 0 && is_whole && now >= head.at.plus(GIVEN_UP) {
            tracing::warn!(group = %head.id, missing = missing.len(), "a group whose tasks left no trace is given up");
            self.give_up(head).await?;
            return Ok(true);
        }
        if ended.is_empty() {
            return Ok(false);
        }
        self.stores.ledger.joins().add(&ended).await?;
        if let Some(failed) = failed.filter(|_| head.kind == Kind::Chain) {
            self.end_chain(head, &failed, now).await?;
        }
        Ok(true)
    }

    /// Has the states of a join's members kept for as long as some are missing: a Machinery worker that ends the last one reads
    /// them all. The next look is after `pause`.
    async fn refresh(&self, standing: &Standing, pause: Duration, now: WallTime) -> Result<(), StoreError> {
        let head = &standing.head;
        let keep = self.settings().results_expire_in;
        let mut memory = self.looks.memory(&head.id, self.clock.now());
        let is_due = memory.refreshed.is_none_or(|at| self.clock.now().duration_since(at) + pause >= keep / 4);
        if head.kind != Kind::Chord || !is_due || head.at.until(now) < keep / 4 {
            return Ok(());
        }
        let mut from = 0;
        loop {
            let page = self.stores.ledger.joins().members(&head.id, from, LOOK_MAX).await?;
            let is_last = page.len() < LOOK_MAX;
            from += u32::try_from(page.len()).unwrap_or(u32::MAX);
            let ended: Vec<TaskId> =
                page.into_iter().filter(|member| member.outcome.is_some()).map(|member| member.task).collect();
            for tasks in ended.chunks(READ_MAX) {
                self.stores.backend.refresh(&head.id, tasks, keep, now).await?;
            }
            if ended.is_empty() {
                self.stores.backend.refresh(&head.id, &[], keep, now).await?;
            }
            if is_last {
                break;
            }
        }
        memory.refreshed = Some(self.clock.now());
        self.looks.remember(&head.id, memory);
        Ok(())
    }
}

/// Whether a state belongs to this sending of its task, or may. Other programs write no sending.
pub(super) fn is_of(generation: u64, state: &TaskState) -> bool {
    state.generation == 0 || state.generation >= generation
}

/// A member by its state.
pub(super) fn as_ended(group: &GroupId, task: &TaskId, state: &TaskState) -> Ended {
    Ended {
        group: group.clone(),
        task: task.clone(),
        is_failure: state.status == Status::Failure,
        outcome: wire::machinery::encode_state(state),
    }
}
