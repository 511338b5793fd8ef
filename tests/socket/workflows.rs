//! Random workflows with random failures, sent and worked by the Rust client: the same set of effects as Machinery's rules
//! have, on every room. The specification is that of `leasing`, where the same runs with crashes in paused time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lineshaft::ledger::join::Kind;
use lineshaft::service::types::{Submission, Workflow};
use lineshaft::task::{self, ArgValue, Status};
use lineshaft_client::proto::arg::Value;
use lineshaft_client::proto::{self, FailureReason, TaskStatus};
use lineshaft_client::{Client, Context, Failure, Function, Results, TaskState, Worker, WorkerBuilder};
use parking_lot::Mutex;

use crate::client::{connect, with};
use crate::rooms::Room;

#[path = "../leasing/workflows/random.rs"]
mod random;
#[path = "../leasing/workflows/tree.rs"]
mod tree;

use random::Random;
use tree::{Effects, Grower, NAMES, call, effects};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, workflows:
            random_workflows_have_the_effects_of_the_specification
        );
    };
}
pub(crate) use cases;

/// Workflows of a room.
const TREES: u64 = 100;
/// Ids in one question.
const BATCH: usize = 500;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// More than the machine can run: a worker that sleeps nowhere.
const SLOTS: u32 = 64;

/// What workers were given: by task, the arguments of the last attempt.
type Given = Arc<Mutex<BTreeMap<String, Vec<ArgValue>>>>;

/// A task as clients send it.
fn sent(task: &Submission) -> proto::Task {
    let arg = |arg: &task::Arg| match &arg.value {
        ArgValue::Int(number) => {
            proto::Arg { r#type: "int64".to_owned(), value: Some(Value::Int64Value(*number)), ..proto::Arg::default() }
        }
        other => panic!("the tree has integers only, not {other:?}"),
    };
    proto::Task {
        id: task.id.as_ref().expect("has an id").to_string(),
        name: task.name.clone(),
        queue: "q".to_owned(),
        args: task.args.iter().map(arg).collect(),
        retry_count: task.retry_count,
        immutable: task.immutable,
        on_success: task.on_success.iter().map(sent).collect(),
        on_error: task.on_error.iter().map(sent).collect(),
        ..proto::Task::default()
    }
}

async fn send(client: &Client, workflow: &Workflow) {
    let group_id = workflow.id.as_ref().expect("has an id").to_string();
    let (tasks, request_id) = (workflow.tasks.iter().map(sent).collect(), group_id.clone());
    let mut stub = client.task_service();
    match (workflow.kind, &workflow.callback) {
        (Kind::Chain, _) => {
            stub.send_chain(proto::SendChainRequest { group_id, tasks, request_id }).await.expect("is accepted");
        }
        (_, None) => {
            stub.send_group(proto::SendGroupRequest { group_id, tasks, request_id }).await.expect("is accepted");
        }
        (_, Some(callback)) => {
            let (callback, always) = (Some(sent(callback)), workflow.is_always);
            let request = proto::SendChordRequest { group_id, tasks, callback, always, request_id };
            stub.send_chord(request).await.expect("is accepted");
        }
    }
}

fn value(arg: &proto::Arg) -> ArgValue {
    match &arg.value {
        Some(Value::Int64Value(number)) => ArgValue::Int(*number),
        Some(Value::StringValue(text)) => ArgValue::String(text.clone()),
        other => panic!("neither an integer nor a string: {other:?}"),
    }
}

fn worker(client: &Client, given: &Given) -> WorkerBuilder {
    let function = |name: &'static str| {
        let given = given.clone();
        let run = move |context: Context, args: Vec<proto::Arg>| {
            let values: Vec<ArgValue> = args.iter().map(value).collect();
            given.lock().insert(context.task_id().to_owned(), values.clone());
            let of = |value| task::Arg::new("x", None, value).expect("is a value");
            let args: Vec<task::Arg> = values.into_iter().map(of).collect();
            let answer = call(name, &args, context.attempt());
            let result = |number| proto::Arg {
                r#type: "int64".to_owned(),
                value: Some(Value::Int64Value(number)),
                ..proto::Arg::default()
            };
            let answer = answer.map(|all| Results(all.into_iter().map(result).collect())).map_err(Failure::new);
            async move { answer }
        };
        (name, Function::raw(run))
    };
    Worker::builder(client).queue("q").concurrency(SLOTS).register_all(NAMES.map(function))
}

/// The ends of all tasks.
async fn ends(client: &Client, expected: &Effects) -> BTreeMap<String, TaskState> {
    let mut left: HashSet<String> = expected.keys().cloned().collect();
    let mut ended = BTreeMap::new();
    // The case has a deadline.
    while !left.is_empty() {
        let all: Vec<String> = left.iter().cloned().collect();
        for ids in all.chunks(BATCH) {
            let states = client.states(ids.to_vec()).await.expect("are told").into_iter().flatten();
            for state in states.filter(|s| matches!(s.status, TaskStatus::Success | TaskStatus::Failure)) {
                left.remove(&state.task_id);
                ended.insert(state.task_id.clone(), state);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    ended
}

pub(crate) async fn random_workflows_have_the_effects_of_the_specification(room: Room) {
    let server = room.serve().await;
    let client = connect(&server).await;
    let given = Given::default();
    with(worker(&client, &given), async {
        let (mut expected, mut groups) = (Effects::new(), Vec::new());
        for seed in 0..TREES {
            let mut random = Random::new(seed);
            let workflow = Grower::new(&mut random, format!("s{seed}")).workflow();
            expected.extend(effects(&workflow));
            send(&client, &workflow).await;
            groups.push(workflow.id.expect("has an id").to_string());
        }
        let ends = ends(&client, &expected).await;
        let given = given.lock().clone();
        for (id, effect) in &expected {
            let (state, given) = (&ends[id], given.get(id));
            assert_eq!(state.status == TaskStatus::Success, effect.status == Status::Success, "{id}: {state:?}");
            let is_unrun = state.failure_reason == FailureReason::NotRun;
            assert_eq!(is_unrun, effect.args.is_none(), "{id}: {state:?}");
            match &effect.args {
                None => assert_eq!(given, None, "{id} ran"),
                // The specification does not know them.
                Some(args) if *args == [ArgValue::Bool(true)] => assert!(given.is_some(), "{id} did not run"),
                Some(args) => assert_eq!(given, Some(args), "{id}"),
            }
        }
        let strangers: Vec<&String> = given.keys().filter(|id| !expected.contains_key(*id)).collect();
        assert!(strangers.is_empty(), "{strangers:?} ran");
        for id in groups {
            let told = client.group(&id).wait(crate::support::until::DEADLINE).await.expect("is complete");
            assert!(told.completed && told.ended == told.total, "{told:?}");
        }
    })
    .await;
}
