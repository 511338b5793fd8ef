//! Stores in memory that outlive any replica, with switches to make them fail, and replicas on them. Time is paused.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::broker::{Broker, NewTask, PendingQuery};
use lineshaft::clock::{TestClock, WallTime};
use lineshaft::error::Error;
use lineshaft::failpoint::{Failpoints, Point};
use lineshaft::ledger::{DeadTask, Lease, LeaseQuery, Ledger};
use lineshaft::service::types::{Settings, Submission};
use lineshaft::service::{Service, Stores};
use lineshaft::task::{MessageKey, QueueName, Status, TaskId, TaskName, TaskState};
use lineshaft::{backend, broker, fused, ledger};

use crate::faulty::{Faulty, Switch};
use crate::gated::{Gate, Gated};

/// How long a lease lives without a heartbeat.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// The wall time at which every world begins.
pub(crate) const START: WallTime = WallTime(1_790_000_000_000_000_000);

/// Stores that outlive any replica.
pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) broker: Arc<broker::memory::Broker>,
    pub(crate) ledger: Arc<ledger::memory::Ledger>,
    pub(crate) backend: Arc<backend::memory::Backend>,
    /// Makes the ledger fail.
    pub(crate) ledger_switch: Switch,
    /// Makes the broker fail.
    pub(crate) broker_switch: Switch,
    /// Holds calls of the ledger back.
    pub(crate) gate: Gate,
    fused: bool,
    pub(crate) settings: Settings,
}

/// One server on them.
pub(crate) struct Replica {
    pub(crate) service: Service,
    pub(crate) broker: Arc<broker::memory::Broker>,
}

impl World {
    /// Separate stores, each with every power.
    pub(crate) fn new() -> Self {
        Self::with(broker::memory::Options::default())
    }

    /// Separate stores; the broker has only these powers.
    pub(crate) fn with(options: broker::memory::Options) -> Self {
        let clock = Arc::new(TestClock::new(START));
        Self {
            broker: Arc::new(broker::memory::Broker::with(clock.clone(), options)),
            ledger: Arc::new(ledger::memory::Ledger::new(clock.clone())),
            backend: Arc::new(backend::memory::Backend::new()),
            clock,
            ledger_switch: Switch::default(),
            broker_switch: Switch::default(),
            gate: Gate::default(),
            fused: false,
            settings: Settings { lease_duration: LEASE, default_queue: queue("q"), ..Settings::default() },
        }
    }

    /// All three as one store. Its transactions pass neither switch nor gate.
    pub(crate) fn fused() -> Self {
        Self { fused: true, ..Self::new() }
    }

    /// This arrow does not exist: sending is one step.
    pub(crate) fn fused_has_no(&self, point: Point) -> bool {
        self.fused && point == Point::SendStated
    }

    /// Starts a server.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_with(Failpoints::default())
    }

    /// Starts a server that stops at a point.
    pub(crate) fn replica_with(&self, failpoints: Failpoints) -> Replica {
        let broker = Arc::new(self.broker.replica());
        let fused = self.fused.then(|| {
            let all = fused::memory::Fused::new(broker.clone(), self.ledger.clone(), self.backend.clone());
            Arc::new(all) as Arc<dyn fused::Fused>
        });
        let carries: Arc<dyn Broker> = broker.clone();
        let decides: Arc<dyn Ledger> =
            Arc::new(Faulty::new(self.ledger.clone() as Arc<dyn Ledger>, self.ledger_switch.clone()));
        let stores = Stores {
            broker: Arc::new(Faulty::new(carries, self.broker_switch.clone())),
            ledger: Arc::new(Gated::new(decides, self.gate.clone())),
            backend: self.backend.clone(),
            fused,
        };
        Replica { service: Service::start(stores, self.settings.clone(), self.clock.clone(), failpoints), broker }
    }

    /// Puts a message into queue `q` as a foreign program would.
    pub(crate) async fn publish_raw(&self, name: &str, body: &str) {
        let new = NewTask {
            key: MessageKey::generate(),
            task: TaskId::trusted("foreign"),
            name: TaskName::trusted(name),
            queue: queue("q"),
            routing_key: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
            available_at: None,
            priority: 0,
        };
        self.broker.publish(&[new]).await.remove(0).expect("is published");
    }

    /// How many messages wait in `q`, the delayed ones too.
    pub(crate) async fn waiting(&self) -> usize {
        let query = PendingQuery {
            queue: &queue("q"),
            delayed: true,
            after: None,
            max: NonZeroUsize::new(100_000).expect("not zero"),
            body_bytes_max: usize::MAX,
        };
        self.broker.inspect().expect("can look").pending(&query).await.expect("can be listed").items.len()
    }

    /// Live leases.
    pub(crate) async fn leases(&self) -> Vec<Lease> {
        self.ledger.leases(&LeaseQuery { max: 100_000, ..LeaseQuery::default() }).await.expect("can be listed")
    }

    /// Tasks set aside.
    pub(crate) async fn dead(&self) -> Vec<DeadTask> {
        self.ledger.dead(None, 100).await.expect("can be listed")
    }
}

impl Replica {
    /// The end of the process: what only it knew is gone.
    pub(crate) fn crash(self) {
        self.service.halt();
        self.broker.crash();
    }

    /// Sends one task, which must be accepted.
    pub(crate) async fn send(&self, task: Submission) -> TaskId {
        self.try_send(task).await.expect("is accepted")
    }

    /// Sends one task.
    pub(crate) async fn try_send(&self, task: Submission) -> Result<TaskId, Error> {
        self.service.send(vec![task]).await.remove(0)
    }

    /// Sends `count` tasks of one name to queue `q`; their ids are numbered from 0.
    pub(crate) async fn send_many(&self, name: &str, count: u32) {
        let tasks: Vec<Submission> = (0..count).map(|i| task(name, &format!("{name}-{i}"))).collect();
        for chunk in tasks.chunks(1_000) {
            for answer in self.service.send(chunk.to_vec()).await {
                answer.expect("is accepted");
            }
        }
    }

    /// The state of a task, which must be known.
    pub(crate) async fn state(&self, id: &str) -> TaskState {
        self.try_state(id).await.expect("is known")
    }

    /// The state of a task.
    pub(crate) async fn try_state(&self, id: &str) -> Option<TaskState> {
        self.service.states(&[TaskId::trusted(id)]).await.expect("can be read").remove(0)
    }

    /// Waits until a task is at its end.
    pub(crate) async fn end(&self, id: &str) -> TaskState {
        let hour = Duration::from_secs(3_600);
        let state = self.service.wait(TaskId::trusted(id), hour).await.expect("can be read").expect("is known");
        assert!(state.status.is_final(), "{id} is {:?}", state.status);
        state
    }

    /// Waits until a task has this status.
    pub(crate) async fn status(&self, id: &str, status: Status) {
        for _ in 0..100_000 {
            if self.try_state(id).await.is_some_and(|state| state.status == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} is {:?}, not {status:?}", self.try_state(id).await);
    }
}

/// A task for queue `q`.
pub(crate) fn task(name: &str, id: &str) -> Submission {
    Submission { id: Some(TaskId::trusted(id)), name: name.into(), queue: Some(queue("q")), ..Submission::default() }
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::trusted(name)
}

/// Lets everything happen that needs no time.
pub(crate) async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
