//! Chains.

use lineshaft::error::Error;
use lineshaft::ledger::join::Kind;
use lineshaft::service::types::{Submission, Workflow};
use lineshaft::task::{Arg, ArgValue, FailureReason, Status};

use super::runner::{self, Witness};
use crate::world::{Replica, World, task};

pub(crate) fn integer(value: i64) -> Arg {
    Arg { name: String::new(), ..Arg::new("n", None, ArgValue::Int(value)).expect("is an integer") }
}

pub(crate) fn workflow(kind: Kind, tasks: Vec<Submission>) -> Workflow {
    Workflow { kind, id: None, request_id: None, tasks, callback: None, is_always: false }
}

pub(crate) async fn results(replica: &Replica, id: &str) -> Vec<ArgValue> {
    let state = replica.end(id).await;
    assert_eq!(state.status, Status::Success, "{state:?}");
    state.results.into_iter().flatten().map(|arg| arg.value).collect()
}

#[tokio::test(start_paused = true)]
async fn results_are_passed_on_and_every_link_is_known_from_the_start() {
    let replica = World::fused().replica();
    let link = |id: &str, value| Submission { args: vec![integer(value)], ..task("sum", id) };
    let sent = replica.service.send_workflow(workflow(Kind::Chain, vec![link("a", 4), link("b", 11), link("c", 4)]));
    let sent = sent.await.expect("is accepted");
    assert!(sent.group.as_str().starts_with("chain_") && !sent.already);
    assert_eq!(replica.state("c").await.status, Status::Pending);
    let view = replica.service.group(&sent.group).await.expect("is known");
    assert_eq!((view.kind, view.total, view.ended, view.is_completed), (Kind::Chain, 3, 0, false));
    let _runner = runner::start(&replica.service, &Witness::default()).await;
    assert_eq!(results(&replica, "c").await, [ArgValue::Int(19)]);
    let mut watch = replica.service.watch_group(sent.group.clone());
    let mut last = None;
    while let Some(view) = watch.next().await.expect("can be read") {
        last = Some(view);
    }
    let last = last.expect("is known");
    assert_eq!((last.ended, last.failed, last.is_completed), (3, 0, true));
    let tasks = replica.service.group_tasks(&sent.group, 0, 2).await.expect("is known");
    assert_eq!((tasks.tasks.len(), tasks.next), (2, Some(2)));
    assert_eq!(tasks.tasks[1].1.as_ref().map(|state| state.status), Some(Status::Success));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_links_run_one_behind_the_other() {
    let replica = World::fused().replica();
    let tasks = (0..1000).map(|i| Submission { args: vec![integer(1)], ..task("sum", &format!("t{i}")) }).collect();
    replica.service.send_workflow(workflow(Kind::Chain, tasks)).await.expect("is accepted");
    let _runner = runner::start(&replica.service, &Witness::default()).await;
    assert_eq!(results(&replica, "t999").await, [ArgValue::Int(1000)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_failure_ends_and_names_it() {
    let replica = World::new().replica();
    let _runner = runner::start(&replica.service, &Witness::default()).await;
    let beside = Submission { on_success: vec![task("sum", "under")], ..task("sum", "beside") };
    let tasks = vec![Submission { on_success: vec![beside], ..task("fail", "a") }, task("sum", "b"), task("sum", "c")];
    replica.service.send_workflow(workflow(Kind::Chain, tasks)).await.expect("is accepted");
    for id in ["b", "c", "beside", "under"] {
        let state = replica.end(id).await;
        assert_eq!((state.status, state.reason), (Status::Failure, FailureReason::NotRun), "{id}");
        assert_eq!(state.error, "lineshaft: not run: task a ended in FAILURE: fail with 0", "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_send_again_is_the_same_chain_and_another_is_refused() {
    let replica = World::new().replica();
    let chain = |name: &str| Workflow {
        request_id: Some("r".into()),
        ..workflow(
            Kind::Chain,
            vec![Submission { id: None, ..task(name, "x") }, Submission { id: None, ..task("sum", "x") }],
        )
    };
    let first = replica.service.send_workflow(chain("sum")).await.expect("is accepted");
    let again = replica.service.send_workflow(chain("sum")).await.expect("is accepted");
    assert_eq!((&first.group, &first.tasks, true), (&again.group, &again.tasks, again.already));
    let other = replica.service.send_workflow(chain("two")).await.expect_err("is another");
    assert!(matches!(other, Error::RequestIdReused { .. }), "{other}");
    let named = Workflow { id: Some(first.group.clone()), ..workflow(Kind::Chain, vec![task("sum", "y")]) };
    let known = replica.service.send_workflow(named).await.expect_err("is known");
    assert!(matches!(known, Error::GroupExists(_)), "{known}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_links_behind_a_failure_end() {
    let replica = World::fused().replica();
    let mut tasks = vec![task("fail", "t0")];
    tasks.extend((1..1000).map(|i| Submission { args: vec![integer(1)], ..task("sum", &format!("t{i}")) }));
    let sent = replica.service.send_workflow(workflow(Kind::Chain, tasks)).await.expect("is accepted");
    let _runner = runner::start(&replica.service, &Witness::default()).await;
    assert_eq!(replica.end("t999").await.reason, FailureReason::NotRun);
    let view = replica.service.group(&sent.group).await.expect("is known");
    assert_eq!((view.ended, view.failed, view.is_completed), (1000, 1000, true));
}
