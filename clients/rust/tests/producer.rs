//! The producer against a server whose every answer is written here.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lineshaft_client::proto::*;
use lineshaft_client::{Client, Error, IntoResults, Json, Task, ValueError};
use support::{Notes, Server, Tasks, answering, soon};
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn refusal(code: Code, reason: &str, field: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "lineshaft.v1", []);
    details.set_retry_info(Some(Duration::from_millis(250)));
    details.add_bad_request_violation(field, "as the test says");
    Status::with_error_details(code, "refused", details)
}

fn accepted(task: &lineshaft_client::proto::Task) -> SendResult {
    SendResult { result: Some(send_result::Result::TaskId(format!("id-{}", task.name))), already_sent: false }
}

fn state(status: TaskStatus) -> TaskState {
    TaskState { task_id: "t".into(), status: status as i32, ..TaskState::default() }
}

#[tokio::test]
async fn sends_that_come_while_one_is_under_way_travel_together() {
    let first = Arc::new(Semaphore::new(0));
    let (alone, together) = (Notes::new(), Notes::new());
    let tasks = Tasks {
        send_task: {
            let (gate, seen) = (first.clone(), alone.clone());
            answering(move |request: SendTaskRequest| {
                let gate = gate.clone();
                let name = request.task.unwrap_or_default().name;
                seen.add(name.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(SendTaskResponse { task_id: format!("id-{name}"), already_sent: false })
                }
            })
        },
        send_tasks: {
            let seen = together.clone();
            answering(move |request: SendTasksRequest| {
                seen.add(request.tasks.len());
                let results = request.tasks.iter().map(accepted).collect();
                async move { Ok(SendTasksResponse { results }) }
            })
        },
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let mut sends: Vec<_> = Vec::new();
    for index in 0..101 {
        let client = client.clone();
        sends.push(tokio::spawn(async move { client.send(Task::new(index.to_string())).await }));
        if index == 0 {
            alone.wait(1).await;
        }
    }
    // All others wait behind the first before it is answered: they are spawned on this one thread.
    tokio::task::yield_now().await;
    first.add_permits(1);
    for (index, send) in sends.into_iter().enumerate() {
        let result = soon("an answer", send).await.unwrap().unwrap();
        assert_eq!(result.id(), format!("id-{index}"), "each has its own answer");
    }
    assert_eq!(alone.all(), ["0"]);
    assert_eq!(together.all(), [100]);
}

#[tokio::test]
async fn each_item_of_a_batch_has_its_own_answer() {
    let tasks = Tasks {
        send_tasks: answering(|request: SendTasksRequest| async move {
            let results = request.tasks.iter().map(|task| match task.name.as_str() {
                "bad" => SendResult {
                    already_sent: false,
                    result: Some(send_result::Result::Error(ItemError {
                        code: Code::InvalidArgument as i32,
                        reason: "TASK_INVALID".into(),
                        message: "no".into(),
                        field: "args[0].value".into(),
                        retry_delay: None,
                    })),
                },
                _ => accepted(task),
            });
            Ok(SendTasksResponse { results: results.collect() })
        }),
        send_task: answering(|_| async {
            Ok(SendTaskResponse { task_id: "id-first".into(), ..SendTaskResponse::default() })
        }),
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let answers = client.send_all(["first", "a", "bad", "b"].map(Task::new)).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|result| result.id()).ok()).collect();
    assert_eq!(ids, [Some("id-first"), Some("id-a"), None, Some("id-b")]);
    let error = answers[2].as_ref().unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::TaskInvalid));
    assert_eq!(error.field(), Some("args[0].value"));
}

#[tokio::test]
async fn an_argument_that_cannot_be_written_is_told_in_its_place_and_nothing_is_sent_for_it() {
    let names = Notes::new();
    let sent = names.clone();
    let tasks = Tasks {
        send_tasks: answering(move |request: SendTasksRequest| {
            request.tasks.iter().for_each(|task| sent.add(task.name.clone()));
            async move { Ok(SendTasksResponse { results: request.tasks.iter().map(accepted).collect() }) }
        }),
        send_task: answering(|request: SendTaskRequest| async move {
            Ok(SendTaskResponse {
                task_id: format!("id-{}", request.task.unwrap_or_default().name),
                already_sent: false,
            })
        }),
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let unwritable = || std::collections::HashMap::from([((1, 2), 3)]);
    let batch = [Task::new("first"), Task::new("no").arg(1i64).arg(Json(unwritable())), Task::new("a"), Task::new("b")];
    let answers = client.send_all(batch).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|result| result.id()).ok()).collect();
    assert_eq!(ids, [Some("id-first"), None, Some("id-a"), Some("id-b")]);
    let error = answers[1].as_ref().unwrap_err();
    assert!(matches!(error, Error::Value(ValueError::Codec { position: 1, codec: "json", .. })), "{error}");
    let error = client.send(Task::new("no").arg(Json(unwritable()))).await.unwrap_err();
    assert!(matches!(error, Error::Value(_)) && !error.is_retryable(), "{error}");
    assert!(!names.all().contains(&"no".to_owned()));
}

#[tokio::test]
async fn a_refusal_keeps_what_the_server_said() {
    let tasks = Tasks {
        send_task: answering(|_| async { Err(refusal(Code::Unavailable, "BROKER_UNAVAILABLE", "task.id")) }),
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let error = client.send(Task::new("a")).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::BrokerUnavailable));
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert_eq!(error.field(), Some("task.id"));
    assert_eq!(error.retry_delay(), Some(Duration::from_millis(250)));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_batch_over_the_servers_limit_is_sent_in_smaller_ones() {
    let sizes = Notes::new();
    let tasks = Tasks {
        send_task: answering(|request: SendTaskRequest| async move {
            Ok(SendTaskResponse {
                task_id: format!("id-{}", request.task.unwrap_or_default().name),
                already_sent: false,
            })
        }),
        send_tasks: {
            let sizes = sizes.clone();
            answering(move |request: SendTasksRequest| {
                sizes.add(request.tasks.len());
                async move {
                    match request.tasks.len() {
                        0..=10 => Ok(SendTasksResponse { results: request.tasks.iter().map(accepted).collect() }),
                        _ => Err(refusal(Code::InvalidArgument, "LIMIT_EXCEEDED", "tasks")),
                    }
                }
            })
        },
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    // Not told of the limit: this client has not asked.
    let client = Client::builder().address(server.url()).connect_lazy().unwrap();
    let answers = client.send_all((0..41).map(|index| Task::new(index.to_string()))).await;
    for (index, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().id(), format!("id-{index}"), "in their order");
    }
    assert!(sizes.all().iter().rev().take(3).all(|size| *size <= 10), "{:?}", sizes.all());
}

#[tokio::test]
async fn the_servers_limit_is_learnt_when_connecting() {
    let sizes = Notes::new();
    let tasks = Tasks {
        limits: Limits { batch_max: 7, ..Limits::default() },
        send_task: answering(|_| async { Ok(SendTaskResponse { task_id: "x".into(), ..SendTaskResponse::default() }) }),
        send_tasks: {
            let sizes = sizes.clone();
            answering(move |request: SendTasksRequest| {
                sizes.add(request.tasks.len());
                async move { Ok(SendTasksResponse { results: request.tasks.iter().map(accepted).collect() }) }
            })
        },
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    client.send_all((0..50).map(|index| Task::new(index.to_string()))).await;
    assert!(sizes.all().iter().all(|size| *size <= 7), "{:?}", sizes.all());
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let gate = Arc::new(Semaphore::new(0));
    let largest = Arc::new(AtomicUsize::new(0));
    let tasks = Tasks {
        send_task: {
            let gate = gate.clone();
            answering(move |_: SendTaskRequest| {
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(SendTaskResponse { task_id: "x".into(), ..SendTaskResponse::default() })
                }
            })
        },
        send_tasks: {
            let largest = largest.clone();
            answering(move |request: SendTasksRequest| {
                largest.fetch_max(request.tasks.len(), Ordering::SeqCst);
                async move { Ok(SendTasksResponse { results: request.tasks.iter().map(accepted).collect() }) }
            })
        },
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::builder().address(server.url()).waiting_bytes_max(8 << 10).connect().await.unwrap();
    let sends: Vec<_> = (0..100)
        .map(|index| {
            let client = client.clone();
            tokio::spawn(async move { client.send(Task::new(index.to_string())).await })
        })
        .collect();
    gate.add_permits(100);
    for send in sends {
        assert!(soon("an answer", send).await.unwrap().is_ok());
    }
    assert!(largest.load(Ordering::SeqCst) <= 8, "a small task counts as 1 KiB");
}

#[tokio::test]
async fn nobody_at_the_address_is_a_failure_to_connect() {
    let server = Server::start();
    let url = server.url();
    server.kill();
    let error = Client::connect(url.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.is_retryable());
    let client = Client::builder().address(url).connect_lazy().unwrap();
    assert!(matches!(client.send(Task::new("a")).await, Err(Error::Connect { .. })));
}

#[tokio::test]
async fn another_address_takes_over() {
    let send_task =
        answering(|_| async { Ok(SendTaskResponse { task_id: "second".into(), ..SendTaskResponse::default() }) });
    let draining = answering(|_| async { Err(refusal(Code::Unavailable, "DRAINING", "")) });
    let dead = Server::start();
    let dead_url = dead.url();
    dead.kill();
    let drains = Server::with_tasks(Tasks { send_task: draining, ..Tasks::default() });
    let works = Server::with_tasks(Tasks { send_task, ..Tasks::default() });
    let client = Client::builder().addresses([dead_url, drains.url(), works.url()]).connect().await.unwrap();
    assert_eq!(client.send(Task::new("a")).await.unwrap().id(), "second");
}

#[tokio::test]
async fn a_send_that_broke_under_way_is_not_repeated() {
    let count = Notes::new();
    let tasks = Tasks {
        send_task: {
            let count = count.clone();
            answering(move |_: SendTaskRequest| {
                count.add(());
                std::future::pending::<Result<SendTaskResponse, Status>>()
            })
        },
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let send = tokio::spawn({
        let client = client.clone();
        async move { client.send(Task::new("a")).await }
    });
    count.wait(1).await;
    server.kill();
    let error = soon("the break", send).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    assert!(!error.is_retryable(), "it may have been done");
    assert_eq!(count.all().len(), 1);
}

#[tokio::test]
async fn a_send_that_was_not_done_is_repeated_for_as_long_as_it_should() {
    let refused = Notes::new();
    let drains = {
        let refused = refused.clone();
        answering(move |_: SendTaskRequest| {
            refused.add(());
            async { Err(refusal(Code::Unavailable, "DRAINING", "")) }
        })
    };
    let server = Server::with_tasks(Tasks { send_task: drains, ..Tasks::default() });
    let client = Client::builder().address(server.url()).retry_for(support::PATIENCE).connect().await.unwrap();
    let send = tokio::spawn({
        let client = client.clone();
        async move { client.send(Task::new("a")).await }
    });
    refused.wait(1).await;
    let address = server.kill();
    let accepts =
        answering(|_| async { Ok(SendTaskResponse { task_id: "done".into(), ..SendTaskResponse::default() }) });
    let _server = Server::start_at(address, Tasks { send_task: accepts, ..Tasks::default() });
    assert_eq!(soon("the send", send).await.unwrap().unwrap().id(), "done");
}

#[tokio::test]
async fn a_send_that_may_have_been_done_is_repeated_under_its_request_id() {
    let asked = Notes::new();
    let hangs = {
        let asked = asked.clone();
        answering(move |request: SendTaskRequest| {
            asked.add(request.task);
            std::future::pending::<Result<SendTaskResponse, Status>>()
        })
    };
    let server = Server::with_tasks(Tasks { send_task: hangs, ..Tasks::default() });
    let client = Client::builder().address(server.url()).retry_for(support::PATIENCE).connect().await.unwrap();
    let send = tokio::spawn({
        let client = client.clone();
        async move { client.send(Task::new("a")).await }
    });
    asked.wait(1).await;
    let address = server.kill();
    let unknown = {
        let asked = asked.clone();
        answering(move |request: SendTaskRequest| {
            asked.add(request.task);
            let is_first = asked.all().len() == 2;
            async move {
                if is_first {
                    return Err(refusal(Code::Unavailable, "OUTCOME_UNKNOWN", ""));
                }
                Ok(SendTaskResponse { task_id: "done".into(), already_sent: true })
            }
        })
    };
    let _server = Server::start_at(address, Tasks { send_task: unknown, ..Tasks::default() });
    assert_eq!(soon("the send", send).await.unwrap().unwrap().id(), "done");
    let asked = asked.all();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|task| *task == asked[0]), "{asked:?}");
    assert!(asked[0].as_ref().is_some_and(|task| !task.request_id.is_empty()));
}

#[tokio::test]
async fn a_request_id_is_made_for_each_send_unless_it_is_given() {
    let asked = Notes::new();
    let accepts = {
        let asked = asked.clone();
        answering(move |request: SendTaskRequest| {
            asked.add(request.task.unwrap_or_default().request_id);
            async { Ok(SendTaskResponse { task_id: "t".into(), already_sent: false }) }
        })
    };
    let server = Server::with_tasks(Tasks { send_task: accepts, ..Tasks::default() });
    let client = Client::connect(server.url()).await.unwrap();
    for task in [Task::new("a"), Task::new("a"), Task::new("a").request_id("mine")] {
        client.send(task).await.unwrap();
    }
    let asked = asked.all();
    assert!(asked[0] != asked[1] && !asked[0].is_empty() && !asked[1].is_empty(), "{asked:?}");
    assert_eq!(asked[2], "mine");
}

#[tokio::test]
async fn waiting_goes_on_through_a_restart_of_the_server() {
    let asked = Notes::new();
    let hangs = {
        let asked = asked.clone();
        answering(move |request: WaitForResultRequest| {
            asked.add(request.task_id);
            std::future::pending::<Result<WaitForResultResponse, Status>>()
        })
    };
    let server = Server::with_tasks(Tasks { wait: hangs, ..Tasks::default() });
    let client = Client::connect(server.url()).await.unwrap();
    let wait = tokio::spawn({
        let result = client.result("t");
        async move { result.get::<(i64, String)>(Duration::from_secs(15)).await }
    });
    assert_eq!(asked.wait(1).await, ["t"]);
    let address = server.kill();
    let answers = answering(|_| async {
        let results = (7i64, "x").into_results();
        let state = TaskState { results, ..state(TaskStatus::Success) };
        Ok(WaitForResultResponse { state: Some(state), completed: true })
    });
    let _server = Server::start_at(address, Tasks { wait: answers, ..Tasks::default() });
    assert_eq!(soon("the results", wait).await.unwrap().unwrap(), (7, "x".to_owned()));
}

#[tokio::test]
async fn a_wait_ends_with_its_timeout() {
    let pending = answering(|_| async {
        Ok(WaitForResultResponse { state: Some(state(TaskStatus::Started)), completed: false })
    });
    let server = Server::with_tasks(Tasks { wait: pending, ..Tasks::default() });
    let client = Client::connect(server.url()).await.unwrap();
    let error = client.result("t").wait(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_failed_task_is_an_error_of_its_own() {
    let failed = || TaskState {
        error: "broken".into(),
        failure_reason: FailureReason::WorkerLost as i32,
        attempt: 3,
        ..state(TaskStatus::Failure)
    };
    let tasks = Tasks {
        wait: answering(move |_| async move { Ok(WaitForResultResponse { state: Some(failed()), completed: true }) }),
        get_state: answering(move |_| async move { Ok(GetStateResponse { state: Some(failed()) }) }),
        ..Tasks::default()
    };
    let server = Server::with_tasks(tasks);
    let client = Client::connect(server.url()).await.unwrap();
    let result = client.result("t");
    match result.get::<i64>(Duration::from_secs(5)).await {
        Err(Error::TaskFailed(failure)) => {
            assert_eq!((failure.message.as_str(), failure.reason), ("broken", FailureReason::WorkerLost));
        }
        other => panic!("not the failure: {other:?}"),
    }
    assert_eq!(result.state().await.unwrap().attempt, 3);
    assert!(result.is_completed().await.unwrap());
    assert!(result.is_failure().await.unwrap());
    assert!(!result.is_success().await.unwrap());
}

#[tokio::test]
async fn results_of_other_types_are_an_error_that_names_them() {
    let answers = answering(|_| async {
        let state = TaskState { results: ("x",).into_results(), ..state(TaskStatus::Success) };
        Ok(WaitForResultResponse { state: Some(state), completed: true })
    });
    let server = Server::with_tasks(Tasks { wait: answers, ..Tasks::default() });
    let client = Client::connect(server.url()).await.unwrap();
    let error = client.result("t").get::<i64>(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.to_string(), "value 0: expected int64, found string");
}
