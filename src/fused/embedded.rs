//! The embedded stores as one: broker, ledger and backend in one file, and the steps over several of them.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::StateWrite;
use crate::backend::embedded::{self as backend, Backend};
use crate::broker::embedded::{self as broker, Broker};
use crate::broker::{NewTask, Published};
use crate::clock::{Clock, WallTime};
use crate::engine::{self, Engine, OpenError, Options, RestoreError, Restored};
use crate::error::StoreError;
use crate::ledger::claim::{Claim, ClaimName, Claimed, Sending, Step};
use crate::ledger::embedded::{self as ledger, Ledger};
use crate::ledger::join::Ended;
use crate::ledger::{Decision, Lifetime, Verdict};
use crate::task::MessageKey;

/// The embedded stores of one data directory.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The file behind them.
    pub engine: Engine,
    /// Carries tasks.
    pub broker: Arc<Broker>,
    /// The truth about attempts.
    pub ledger: Arc<Ledger>,
    /// Task states.
    pub backend: Arc<Backend>,
    /// Steps over all three.
    pub fused: Arc<Fused>,
}

/// Opens the stores in `directory`, which is made if it does not exist. The directory is free again when the last of
/// the stores is dropped.
///
/// # Errors
/// [`OpenError`]: nothing that is stored was changed.
pub fn open(directory: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Stores, OpenError> {
    let engine = Engine::open(directory, options)?;
    let damaged = |error: StoreError| OpenError::Damaged { path: engine.path().to_owned(), why: error.to_string() };
    let broker = Broker::open(engine.clone(), Arc::clone(&clock)).map_err(damaged)?;
    let ledger = Ledger::open(engine.clone(), Arc::clone(&clock)).map_err(damaged)?;
    let backend = Backend::new(engine.clone());
    let fused = Fused::new(engine.clone(), &broker, &backend, clock);
    Ok(Stores {
        broker: Arc::new(broker),
        ledger: Arc::new(ledger),
        backend: Arc::new(backend),
        fused: Arc::new(fused),
        engine,
    })
}

/// Steps over the embedded rooms, each one transaction.
#[derive(Debug, Clone)]
pub struct Fused {
    engine: Engine,
    broker: Arc<broker::Store>,
    watched: Arc<backend::Watched>,
    clock: Arc<dyn Clock>,
}

impl Fused {
    /// Over rooms that stand on `engine`.
    fn new(engine: Engine, broker: &Broker, backend: &Backend, clock: Arc<dyn Clock>) -> Self {
        Self { engine, broker: Arc::clone(broker.store()), watched: Arc::clone(backend.watched()), clock }
    }
}

fn send_in(
    txn: &mut crate::engine::Txn<'_>,
    broker: &Arc<broker::Store>,
    watched: &Arc<backend::Watched>,
    sendings: Vec<Sending>,
    now: WallTime,
) -> Result<(), StoreError> {
    let lifetimes: Vec<Option<Lifetime>> = sendings.iter().map(Sending::lifetime).collect();
    let (states, tasks): (Vec<StateWrite>, Vec<NewTask>) = sendings.into_iter().map(|s| (s.state, s.message)).unzip();
    let published = broker::publish_in(txn, broker, &tasks)?;
    // A message that is carried already has a state already, and maybe a later one: a repeated send must not begin its
    // task anew.
    let new = states.into_iter().zip(lifetimes).zip(published).filter(|(_, published)| *published == Published::New);
    let (new, lifetimes): (Vec<StateWrite>, Vec<Option<Lifetime>>) = new.map(|(new, _)| new).unzip();
    ledger::limit_in(txn, lifetimes.iter().flatten())?;
    backend::write_in(txn, watched, &new, now).map(drop)
}

#[async_trait]
impl super::Fused for Fused {
    async fn send(&self, items: &[Sending], now: WallTime) -> Vec<Result<(), StoreError>> {
        let (broker, watched) = (Arc::clone(&self.broker), Arc::clone(&self.watched));
        let sendings = items.to_vec();
        let job = move |txn: &mut crate::engine::Txn<'_>| send_in(txn, &broker, &watched, sendings, now);
        vec![self.engine.write(job).await; items.len()]
    }

    async fn send_claimed(&self, claims: &[Claim], now: WallTime) -> Result<Vec<Claimed>, StoreError> {
        let (broker, watched) = (Arc::clone(&self.broker), Arc::clone(&self.watched));
        let claims = claims.to_vec();
        let job = move |txn: &mut crate::engine::Txn<'_>| {
            let mut answers = ledger::claim_in(txn, &claims, Step::Publish)?;
            let mut sendings: Vec<Sending> = Vec::with_capacity(claims.len());
            let mut finished: Vec<(Vec<ClaimName>, MessageKey)> = Vec::new();
            for (claim, answer) in claims.into_iter().zip(&mut answers) {
                match answer {
                    Claimed::New => sendings.push(claim.sending),
                    // Left by a process that carried out every step for itself.
                    Claimed::Again(sending) => {
                        let (task, key) = (sending.message.task.clone(), sending.message.key.clone());
                        finished.push((claim.names(), key.clone()));
                        if !ledger::is_decided_in(txn, &key)? {
                            sendings.push(Sending::clone(sending));
                        }
                        *answer = Claimed::Sent(task);
                    }
                    Claimed::Sent(_) | Claimed::Held(_) | Claimed::Reused | Claimed::Failed(_) => {}
                }
            }
            send_in(txn, &broker, &watched, sendings, now)?;
            ledger::published_in(txn, &finished)?;
            Ok(answers)
        };
        self.engine.write(job).await
    }

    async fn settle(&self, decisions: &[Decision]) -> Result<Vec<Verdict>, StoreError> {
        let (broker, watched) = (Arc::clone(&self.broker), Arc::clone(&self.watched));
        let decisions = decisions.to_vec();
        let job = move |txn: &mut crate::engine::Txn<'_>| {
            let mut verdicts = Vec::with_capacity(decisions.len());
            let mut ended: Vec<&Ended> = Vec::new();
            for decision in &decisions {
                let verdict = ledger::decide_in(txn, decision, true)?;
                if verdict == Verdict::Recorded {
                    backend::write_in(txn, &watched, &decision.effects.states, decision.at)?;
                    broker::publish_in(txn, &broker, &decision.effects.publish)?;
                    broker::acknowledge_in(txn, &broker, &decision.lease.message)?;
                    ended.extend(&decision.effects.joins);
                }
                verdicts.push(verdict);
            }
            // Together: members of one join count it once.
            ledger::joins_in(txn, ended)?;
            Ok(verdicts)
        };
        self.engine.write(job).await
    }

    fn backup(&self) -> Option<&dyn super::Backup> {
        Some(self)
    }
}

impl super::Backup for Fused {
    fn begin(&self) -> Result<Box<dyn super::Pieces>, StoreError> {
        Ok(Box::new(self.engine.backup(self.clock.wall())?))
    }
}

impl super::Pieces for engine::Backup {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.next_piece()
    }
}

/// Makes a data directory from a backup: what was acknowledged before it was begun is there, and what was leased then is
/// still held by its worker, if that comes back.
///
/// # Errors
/// [`RestoreError`]; there is no store in `directory` then.
pub fn restore(from: &mut dyn std::io::Read, directory: &Path, clock: &dyn Clock) -> Result<Restored, RestoreError> {
    engine::restore(from, directory, |txn| ledger::restored_in(txn, clock.wall()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::{Backend as _, GroupMeta, Triggered};
    use crate::broker::Broker as _;
    use crate::clock::SystemClock;
    use crate::engine::Table;
    use crate::fused::Fused as _;
    use crate::ledger::Ledger as _;
    use crate::ledger::join::{Callback, Fired, Firing, Head, Kind, Opening};
    use crate::task::{FailureReason, GroupId, MessageKey, QueueName, Status, TaskId, TaskName, TaskState, Timestamp};

    fn stores(directory: &Path) -> Stores {
        open(directory, Options::default(), Arc::new(SystemClock)).unwrap()
    }

    fn item(key: &str, generation: u64) -> Sending {
        let task_id = TaskId::trusted("t");
        let state = TaskState {
            task_id: task_id.clone(),
            task_name: "add".into(),
            status: Status::Pending,
            results: None,
            error: String::new(),
            reason: FailureReason::Unknown,
            generation,
            attempt: 1,
            releases: 0,
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        };
        let task = NewTask {
            key: MessageKey::trusted(key),
            task: task_id,
            name: TaskName::trusted("add"),
            queue: QueueName::trusted("q"),
            routing_key: None,
            body: Bytes::from_static(b"body"),
            available_at: None,
            priority: 0,
        };
        Sending { state: StateWrite { state, keep: Duration::from_secs(60) }, message: task, expires_at: None }
    }

    #[tokio::test]
    async fn a_message_that_is_carried_does_not_begin_its_task_anew() {
        let dir = tempfile::tempdir().unwrap();
        let stores = stores(dir.path());
        let now = SystemClock.wall();
        let before = stores.engine.stats().commits;
        assert_eq!(
            stores.fused.send(&[item("one", 1), item("two", 2), item("one", 3)], now).await,
            [const { Ok(()) }; 3]
        );
        assert_eq!(stores.engine.stats().commits, before + 1);
        let read = stores.backend.read(&[TaskId::trusted("t")], now).await.unwrap();
        assert_eq!(read[0].as_ref().unwrap().generation, 2);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_refuses_the_directory_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let stores = stores(dir.path());
        stores.engine.write(|txn| txn.put(Table::new("messages"), b"key", b"\xff\xff")).await.unwrap();
        drop(stores);
        let refused = open(dir.path(), Options::default(), Arc::new(SystemClock)).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("lineshaft.redb") && text.contains("\"key\""), "{text}");
    }

    #[tokio::test]
    async fn the_directory_is_free_when_the_last_store_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let Stores { broker, fused, .. } = stores(dir.path());
        drop(fused);
        assert!(open(dir.path(), Options::default(), Arc::new(SystemClock)).is_err());
        assert_eq!(broker.capabilities().name, "embedded");
        drop(broker);
        stores(dir.path());
    }

    fn opening(count: u32) -> Opening {
        let head = Head {
            id: GroupId::trusted("g"),
            kind: Kind::Chord,
            generation: 1,
            message: MessageKey::trusted("m"),
            digest: [5; 32],
            count,
            callback: Some(Callback { body: Bytes::from_static(b"callback"), is_always: false }),
            at: WallTime(1),
            is_shared: false,
            keep: Duration::from_secs(60),
        };
        let members = (0..count).map(|n| TaskId::trusted(format!("t{n}"))).collect();
        Opening { head, members, is_sending: false, look_at: WallTime(9) }
    }

    #[tokio::test]
    async fn joins_and_groups_are_in_a_backup() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let before = stores(dir.path());
        let (group, now) = (GroupId::trusted("g"), WallTime(1));
        let opening = opening(5_000);
        before.ledger.joins().open(std::slice::from_ref(&opening)).await.unwrap();
        let ended = |n: u32| Ended {
            group: group.clone(),
            task: TaskId::trusted(format!("t{n}")),
            is_failure: n == 1,
            outcome: Bytes::from_static(b"outcome"),
        };
        before.ledger.joins().add(&[ended(4_999), ended(1)]).await.unwrap();
        let firing = Firing {
            begins: vec![Lifetime { at: now, task: TaskId::trusted("t"), generation: 1 }],
            ..Firing::default()
        };
        before.ledger.joins().fire(&[(group.clone(), firing.clone())]).await.unwrap();
        let meta = GroupMeta {
            id: group.clone(),
            tasks: opening.members.clone(),
            is_triggered: false,
            created_at: Timestamp::ZERO,
        };
        let keep = Duration::from_secs(60);
        before.backend.put_group(&meta, keep, now).await.unwrap();
        assert_eq!(before.backend.trigger(&group, &MessageKey::trusted("m"), keep, now).await, Ok(Triggered::Ours));
        let (mut pieces, mut bytes) = (before.fused.backup().unwrap().begin().unwrap(), Vec::new());
        while let Some(piece) = pieces.next().unwrap() {
            bytes.extend_from_slice(&piece);
        }
        restore(&mut &bytes[..], &other.path().join("data"), &SystemClock).unwrap();

        let after = stores(&other.path().join("data"));
        let (old, new) = (before.ledger.joins(), after.ledger.joins());
        let groups = std::slice::from_ref(&group);
        assert_eq!(new.standing(groups).await, old.standing(groups).await);
        assert_eq!(new.members(&group, 0, 9_000).await, old.members(&group, 0, 9_000).await);
        assert_eq!(new.due(WallTime(9), 9).await, Ok(vec![group.clone()]));
        let again = new.fire(&[(group.clone(), Firing::default())]).await.unwrap();
        assert_eq!(again, [Fired::Known(Box::new(firing))]);
        assert_eq!(after.backend.groups(groups, now).await, before.backend.groups(groups, now).await);
        let theirs = after.backend.trigger(&group, &MessageKey::trusted("n"), keep, now).await;
        assert_eq!(theirs, Ok(Triggered::Theirs));
    }
}
