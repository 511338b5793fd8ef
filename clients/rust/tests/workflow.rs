//! Groups, chains and chords against a server whose every answer is written here.

// Helpers of tests may panic like tests; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lineshaft_client::proto::*;
use lineshaft_client::{Chain, Chord, Client, Error, Group, IntoResults, Json, Task};
use support::{Notes, PATIENCE, Server, Tasks, answering, soon};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn refusal(code: Code, reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "lineshaft.v1", []);
    details.set_retry_info(Some(Duration::from_millis(1)));
    Status::with_error_details(code, "refused", details)
}

fn ended(id: &str, result: i64) -> TaskState {
    let results = result.into_results();
    TaskState { task_id: id.into(), status: TaskStatus::Success as i32, results, ..TaskState::default() }
}

fn failed(id: &str, reason: FailureReason) -> TaskState {
    let (status, failure_reason) = (TaskStatus::Failure as i32, reason as i32);
    TaskState { task_id: id.into(), status, failure_reason, error: format!("{id} broke"), ..TaskState::default() }
}

fn progress(ended: u32, failed: u32, total: u32) -> WatchStateResponse {
    let group = lineshaft_client::proto::Group {
        group_id: "g".into(),
        total,
        ended,
        failed,
        completed: ended == total,
        ..Default::default()
    };
    WatchStateResponse { group: Some(group), state: None }
}

/// A server on which a group of these tasks goes through `told`.
fn group_of(states: Vec<TaskState>, told: Vec<WatchStateResponse>) -> Tasks {
    Tasks {
        send_group: answering(|request: SendGroupRequest| async move {
            let task_ids = (0..request.tasks.len()).map(|place| format!("t{place}")).collect();
            Ok(SendGroupResponse { group_id: "g".into(), task_ids, already_sent: false })
        }),
        watch: answering(move |_| {
            let told = told.clone();
            async move { Ok(told) }
        }),
        get_group: answering(move |request: GetGroupRequest| {
            let group = Some(lineshaft_client::proto::Group { group_id: request.group_id, ..Default::default() });
            // One task a page, whatever was asked for: a page may end early.
            let place: usize = request.page_token.parse().unwrap_or_default();
            let tasks = states.get(place).cloned().into_iter().collect();
            let next = place + 1;
            let next_page_token = if next < states.len() { next.to_string() } else { String::new() };
            async move { Ok(GetGroupResponse { group, tasks, next_page_token }) }
        }),
        ..Tasks::default()
    }
}

async fn three(tasks: Tasks) -> (Server, lineshaft_client::AsyncGroup) {
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let group = client.send_group(Group::new(["a", "b", "c"].map(Task::new))).await.unwrap();
    (server, group)
}

#[tokio::test]
async fn a_group_answers_all_results_in_the_order_of_its_tasks_from_all_pages() {
    let states = vec![ended("t0", 7), ended("t1", 8), ended("t2", 9)];
    let (_server, group) = three(group_of(states, vec![progress(0, 0, 3), progress(3, 0, 3)])).await;
    assert_eq!(group.id(), "g");
    assert_eq!(group.results().map(|result| result.id().to_owned()).collect::<Vec<_>>(), ["t0", "t1", "t2"]);
    // Also from a task of its own: what is waited for may be sent between threads.
    let got = tokio::spawn(async move { group.get::<i64>(PATIENCE).await });
    assert_eq!(soon("the results", got).await.unwrap().unwrap(), [7, 8, 9]);
}

#[tokio::test]
async fn the_first_failure_ends_the_wait_for_a_group_while_others_run() {
    let running = TaskState { task_id: "t0".into(), status: TaskStatus::Started as i32, ..TaskState::default() };
    let states = vec![running, failed("t1", FailureReason::Failed), ended("t2", 9)];
    let (_server, group) = three(group_of(states, vec![progress(1, 0, 3), progress(2, 1, 3)])).await;
    let error = soon("the failure", group.get::<i64>(PATIENCE)).await.unwrap_err();
    let Error::TaskFailed(failure) = error else { panic!("{error}") };
    assert_eq!((failure.task_id.as_str(), failure.message.as_str()), ("t1", "t1 broke"));
}

#[tokio::test]
async fn a_result_that_is_not_kept_any_more_is_an_error_of_its_task() {
    let states = vec![ended("t0", 7), TaskState { task_id: "t1".into(), ..TaskState::default() }];
    let (_server, group) = three(group_of(states, vec![progress(3, 0, 3)])).await;
    let error = group.get::<i64>(PATIENCE).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::TaskUnknown));
    assert!(error.to_string().contains("t1"), "{error}");
}

#[tokio::test]
async fn a_wait_goes_on_through_a_watch_that_ends_and_its_timeout_is_an_error_of_its_own() {
    let watches = Arc::new(AtomicUsize::new(0));
    let count = watches.clone();
    let tasks = Tasks {
        watch: answering(move |_| {
            let told = match count.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(vec![progress(1, 0, 3)]),
                1 => Err(refusal(Code::Unavailable, "DRAINING")),
                _ => Ok(vec![progress(1, 0, 3), progress(2, 1, 3), progress(3, 1, 3)]),
            };
            async move { told }
        }),
        ..group_of(Vec::new(), Vec::new())
    };
    let (_server, group) = three(tasks).await;
    let end = group.wait(PATIENCE).await.unwrap();
    assert_eq!((end.ended, end.failed, end.completed), (3, 1, true));
    let mut watch = group.watch();
    let mut seen = Vec::new();
    while let Some(progress) = watch.next().await.unwrap() {
        seen.push(progress.ended);
    }
    assert_eq!(seen, [1, 2, 3]);

    let tasks = Tasks {
        watch: answering(|_| async {
            std::future::pending::<()>().await;
            Ok(Vec::new())
        }),
        ..group_of(Vec::new(), Vec::new())
    };
    let (_server, group) = three(tasks).await;
    let error = group.wait(Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(&error, Error::GroupTimeout { group_id, .. } if group_id == "g"), "{error}");
}

#[tokio::test]
async fn a_group_that_was_refused_or_may_have_been_sent_is_sent_again_under_one_request_id() {
    let seen = Notes::new();
    let notes = seen.clone();
    let tasks = Tasks {
        send_group: answering(move |request: SendGroupRequest| {
            notes.add(request.clone());
            let answer = match notes.all().len() {
                1 => Err(refusal(Code::ResourceExhausted, "QUEUE_FULL")),
                2 => Err(refusal(Code::Unavailable, "OUTCOME_UNKNOWN")),
                _ => Ok(SendGroupResponse { group_id: "g".into(), ..SendGroupResponse::default() }),
            };
            async move { answer }
        }),
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let builder = Client::builder().address(server.url()).default_queue("q").retry_for(PATIENCE);
    let client = builder.connect().await.unwrap();
    let group = Group::new([Task::new("a").id("x"), Task::new("b").id("y").queue("own")]);
    let sent = client.send_group(group).await.unwrap();
    assert_eq!(sent.results().map(|result| result.id().to_owned()).collect::<Vec<_>>(), ["x", "y"], "as it named them");
    let seen = seen.all();
    assert_eq!(seen.len(), 3);
    assert!(!seen[0].request_id.is_empty());
    assert!(seen.iter().all(|request| *request == seen[0]));
    assert_eq!(seen[0].tasks.iter().map(|task| task.queue.as_str()).collect::<Vec<_>>(), ["q", "own"]);
}

#[tokio::test]
async fn an_argument_that_cannot_be_written_sends_nothing_of_a_group() {
    let server = Server::with_tasks(Tasks::default());
    let client = Client::connect(server.url()).await.unwrap();
    let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
    let group = Group::new([Task::new("a"), Task::new("no").arg(Json(unwritable))]);
    assert!(matches!(client.send_group(group).await, Err(Error::Value(_))));
}

fn chain_of(states: Vec<TaskState>, told: Vec<WatchStateResponse>) -> Tasks {
    let last = states.last().cloned();
    Tasks {
        send_chain: answering(|request: SendChainRequest| async move {
            let task_ids = (0..request.tasks.len()).map(|place| format!("t{place}")).collect();
            Ok(SendChainResponse { group_id: "g".into(), task_ids, already_sent: false })
        }),
        get_state: answering(move |_| {
            let state = last.clone();
            async move { Ok(GetStateResponse { state }) }
        }),
        ..group_of(states, told)
    }
}

#[tokio::test]
async fn a_chain_answers_the_results_of_its_last_task() {
    let server = Server::with_tasks(chain_of(vec![ended("t0", 1), ended("t1", 60)], vec![progress(2, 0, 2)]));
    let client = Client::connect(server.url()).await.unwrap();
    let chain = client.send_chain(Chain::new(["a", "b"].map(Task::new)).id("g")).await.unwrap();
    assert_eq!(chain.id(), "g");
    assert_eq!(chain.get::<i64>(PATIENCE).await.unwrap(), 60);
}

#[tokio::test]
async fn a_chain_fails_as_the_task_that_failed_and_not_as_those_that_did_not_run() {
    let states = vec![
        failed("t0", FailureReason::NotRun),
        failed("t1", FailureReason::Failed),
        failed("t2", FailureReason::NotRun),
    ];
    let server = Server::with_tasks(chain_of(states, vec![progress(3, 3, 3)]));
    let client = Client::connect(server.url()).await.unwrap();
    let chain = client.send_chain(Chain::new(["a", "b", "c"].map(Task::new))).await.unwrap();
    let error = chain.get::<i64>(PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::TaskFailed(failure) if failure.task_id == "t1"), "{error}");
}

fn chord_of(states: Vec<TaskState>, callback: TaskState) -> Tasks {
    Tasks {
        send_chord: answering(|request: SendChordRequest| async move {
            assert!(request.always && request.callback.is_some());
            let task_ids = (0..request.tasks.len()).map(|place| format!("t{place}")).collect();
            let (group_id, callback_id) = ("g".into(), "c".into());
            Ok(SendChordResponse { group_id, task_ids, callback_id, already_sent: false })
        }),
        wait: answering(move |request: WaitForResultRequest| {
            assert_eq!(request.task_id, "c");
            let state = Some(callback.clone());
            async move { Ok(WaitForResultResponse { completed: true, state }) }
        }),
        cancel_group: answering(|request: CancelGroupRequest| async move {
            assert_eq!(request.group_id, "g");
            Ok(CancelGroupResponse { ended: 1, removed: 2, ..CancelGroupResponse::default() })
        }),
        ..group_of(states, Vec::new())
    }
}

#[tokio::test]
async fn a_chord_answers_the_results_of_its_callback_also_behind_a_failure() {
    let states = vec![failed("t0", FailureReason::Failed), ended("t1", 2)];
    let server = Server::with_tasks(chord_of(states, ended("c", 3)));
    let client = Client::connect(server.url()).await.unwrap();
    let chord = Chord::new(["a", "b"].map(Task::new), Task::new("sum")).always();
    let chord = client.send_chord(chord).await.unwrap();
    assert_eq!((chord.id(), chord.callback().id()), ("g", "c"));
    assert_eq!(chord.get::<i64>(PATIENCE).await.unwrap(), 3);
    let cancelled = chord.cancel().await.unwrap();
    assert_eq!((cancelled.ended, cancelled.removed), (1, 2));
}

#[tokio::test]
async fn a_chord_whose_callback_did_not_run_fails_as_the_task_that_failed() {
    let states = vec![ended("t0", 1), failed("t1", FailureReason::Failed)];
    let server = Server::with_tasks(chord_of(states, failed("c", FailureReason::NotRun)));
    let client = Client::connect(server.url()).await.unwrap();
    let chord = Chord::new(["a", "b"].map(Task::new), Task::new("sum")).always();
    let error = client.send_chord(chord).await.unwrap().get::<i64>(PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::TaskFailed(failure) if failure.task_id == "t1"), "{error}");
}
