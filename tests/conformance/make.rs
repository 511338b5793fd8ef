//! Short ways to make what the cases need.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lineshaft::backend::StateWrite;
use lineshaft::broker::{Broker, Delivery, NewTask, Published, Settle, Want};
use lineshaft::clock::WallTime;
use lineshaft::ledger::claim::Sending;
use lineshaft::ledger::{Begun, DeadTask, Decision, Effects, Grant, Lease, Ledger, Session, Subscription};
use lineshaft::task::{
    Arg, ArgValue, FailureReason, Kind, Label, LeaseId, MessageKey, QueueName, SessionId, Status, TaskId, TaskName,
    TaskState, Timestamp, TypeName,
};

use crate::harness::START;

pub(crate) fn key(text: &str) -> MessageKey {
    MessageKey::new(text).expect("a message key")
}

pub(crate) fn queue(text: &str) -> QueueName {
    QueueName::new(text).expect("a queue name")
}

pub(crate) fn name(text: &str) -> TaskName {
    TaskName::new(text).expect("a task name")
}

pub(crate) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).expect("a task id")
}

pub(crate) fn session_id(text: &str) -> SessionId {
    SessionId::new(text).expect("a session id")
}

/// A message named `label`, whose body is its label, of name `work` in queue `q`.
pub(crate) fn message(label: &str) -> NewTask {
    NewTask {
        key: key(label),
        task: task_id(&format!("task_{label}")),
        name: name("work"),
        queue: queue("q"),
        routing_key: None,
        body: Bytes::copy_from_slice(label.as_bytes()),
        available_at: None,
        priority: 0,
    }
}

/// Publishes, and expects each to be new.
pub(crate) async fn publish(broker: &Arc<dyn Broker>, tasks: &[NewTask]) {
    let answers = broker.publish(tasks).await;
    assert_eq!(answers, vec![Ok(Published::New); tasks.len()]);
}

/// Publishes messages with these labels, one after another in age.
pub(crate) async fn publish_labels(broker: &Arc<dyn Broker>, labels: &[&str]) {
    publish(broker, &labels.iter().map(|label| message(label)).collect::<Vec<_>>()).await;
}

/// Takes at most `max` of name `work` from queue `q`.
pub(crate) async fn take(broker: &Arc<dyn Broker>, max: usize) -> Vec<Delivery> {
    take_names(broker, &[name("work")], max).await
}

/// Takes at most `max` of these names from queue `q`.
pub(crate) async fn take_names(broker: &Arc<dyn Broker>, names: &[TaskName], max: usize) -> Vec<Delivery> {
    let max = NonZeroUsize::new(max).expect("at least one");
    let want = Want { queue: &queue("q"), names, max, body_bytes_max: usize::MAX };
    broker.take(&want).await.expect("take")
}

/// Takes what is there, and tells the labels.
pub(crate) async fn take_labels(broker: &Arc<dyn Broker>) -> Vec<String> {
    labels(&take(broker, 1_000).await)
}

/// The labels of deliveries.
pub(crate) fn labels(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.body).into_owned()).collect()
}

/// Settles one delivery, and expects that it was held.
pub(crate) async fn settle(broker: &Arc<dyn Broker>, delivery: &Delivery, how: Settle) {
    assert_eq!(broker.settle(&[(delivery.receipt.clone(), how)]).await, vec![Ok(())]);
}

/// Back at once.
pub(crate) const RETURN: Settle = Settle::Return { after: Duration::ZERO, began: true };

/// A session at its `attach`th attach, whose worker is called after it.
pub(crate) fn session(id: &str, attach: u64) -> Session {
    Session {
        id: session_id(id),
        secret_hash: [7; 32],
        worker: format!("worker of {id}"),
        language: "rust".to_owned(),
        version: "0.1.0".to_owned(),
        subscriptions: vec![Subscription {
            queue: queue("q"),
            names: vec![name("work"), name("send mail")],
            weight: 3,
        }],
        concurrency: 4,
        attach,
    }
}

/// Records new sessions.
pub(crate) async fn attach(ledger: &Arc<dyn Ledger>, ids: &[&str]) {
    for id in ids {
        assert_eq!(ledger.attach(&session(id, 1)).await, Ok(true));
    }
}

/// A request for a lease of message `label` by session `id`.
pub(crate) fn grant(label: &str, id: &str) -> Grant {
    Grant {
        message: key(label),
        task: task_id(&format!("task_{label}")),
        name: name("work"),
        queue: queue("q"),
        session: session_id(id),
        attach: 0,
        worker: format!("worker of {id}"),
        request_id: None,
        attempts_before: 0,
        generation: 0,
        at: START,
        body: None,
    }
}

/// Begins one grant.
pub(crate) async fn begin(ledger: &Arc<dyn Ledger>, grant: &Grant) -> Begun {
    let mut begun = ledger.begin(std::slice::from_ref(grant)).await.expect("begin");
    assert_eq!(begun.len(), 1);
    begun.remove(0)
}

/// A lease of message `label` for session `id`, which must be possible.
pub(crate) async fn lease(ledger: &Arc<dyn Ledger>, label: &str, id: &str) -> Lease {
    match begin(ledger, &grant(label, id)).await {
        Begun::Run(lease) => lease,
        other => panic!("no lease of {label} for {id}: {other:?}"),
    }
}

/// How long the decisions of the cases are kept.
pub(crate) const KEEP: Duration = Duration::from_secs(3_600);

/// A decision under `lease`, reported as `report`, of the outcome number `outcome`.
pub(crate) fn decision(lease: &LeaseId, report: Option<&str>, outcome: u8) -> Decision {
    Decision {
        lease: lease.clone(),
        report: report.map(str::to_owned),
        digest: [outcome; 32],
        at: START,
        effects: Effects::default(),
        dead: None,
        keep: KEEP,
        begins: Vec::new(),
        ends: None,
        opens: Vec::new(),
    }
}

/// A task set aside.
pub(crate) fn dead(label: &str, reason: &str) -> DeadTask {
    DeadTask {
        message: key(label),
        task: task_id(&format!("task_{label}")),
        name: name("work"),
        queue: queue("q"),
        kind: FailureReason::WorkerLost,
        reason: reason.to_owned(),
        attempts: 3,
        lost: Vec::new(),
        at: START,
        body: Bytes::copy_from_slice(label.as_bytes()),
        requeue: None,
    }
}

/// A state of task `id`, kept for an hour.
pub(crate) fn state(id: &str, generation: u64, attempt: u32, status: Status) -> StateWrite {
    StateWrite {
        state: TaskState {
            task_id: task_id(id),
            task_name: "work".to_owned(),
            status,
            results: None,
            error: String::new(),
            reason: FailureReason::Unknown,
            generation,
            attempt,
            releases: 0,
            created_at: Timestamp::from_wall(START),
            updated_at: Timestamp::from_wall(START),
        },
        keep: KEEP,
    }
}

/// What is sent as message `label` under `generation`.
pub(crate) fn sent(label: &str, generation: u64, expires_at: Option<WallTime>) -> Sending {
    let state = state(&format!("task_{label}"), generation, 1, Status::Pending);
    Sending { state, message: message(label), expires_at }
}

/// One argument of every kind of value, at the ends of their ranges.
pub(crate) fn every_value() -> Vec<Arg> {
    let known = |kind, list, byte_alias| TypeName::Known(Label { kind, list, byte_alias });
    let other = TypeName::Other("map[string]int".to_owned());
    let values = [
        (known(Kind::Bool, false, false), ArgValue::Bool(true)),
        (known(Kind::Int8, false, false), ArgValue::Int(-128)),
        (known(Kind::Int64, false, false), ArgValue::Int(i64::MIN)),
        (known(Kind::Uint64, false, false), ArgValue::Uint(u64::MAX)),
        (known(Kind::Float32, false, false), ArgValue::Float(f64::from(0.1_f32))),
        (known(Kind::Float64, false, false), ArgValue::Float(-0.0)),
        (known(Kind::String, false, false), ArgValue::String("\u{e9}\0\u{1f980}".to_owned())),
        (known(Kind::Uint8, true, false), ArgValue::Bytes(Bytes::from_static(b"\x00\xff"))),
        (known(Kind::Uint8, true, true), ArgValue::Bytes(Bytes::new())),
        (known(Kind::Bool, true, false), ArgValue::Bools(vec![true, false])),
        (known(Kind::Int, true, false), ArgValue::Ints(vec![i64::MAX, 0, -1])),
        (known(Kind::Uint16, true, false), ArgValue::Uints(vec![65_535, 0])),
        (known(Kind::Float64, true, false), ArgValue::Floats(vec![f64::MIN_POSITIVE, 1e300])),
        (known(Kind::String, true, false), ArgValue::Strings(vec![String::new(), "x".to_owned()])),
        (known(Kind::Int, true, false), ArgValue::Ints(Vec::new())),
        (known(Kind::Int, true, false), ArgValue::Nil),
        (other, ArgValue::Json("{\"a\":1.0e2}".to_owned())),
    ];
    let arg = |(n, (type_name, value))| Arg {
        name: if n == 0 { "first".to_owned() } else { String::new() },
        type_name,
        value,
    };
    values.into_iter().enumerate().map(arg).collect()
}

/// `time` plus whole seconds.
pub(crate) fn later(time: WallTime, seconds: u64) -> WallTime {
    time.plus(Duration::from_secs(seconds))
}

/// A member of a join, of which nobody knows.
pub(crate) fn ended_member(label: &str) -> lineshaft::ledger::join::Ended {
    lineshaft::ledger::join::Ended {
        group: lineshaft::task::GroupId::trusted(format!("group_{label}")),
        task: task_id(&format!("task_{label}")),
        is_failure: true,
        outcome: bytes::Bytes::from_static(b"\x00how it ended"),
    }
}
