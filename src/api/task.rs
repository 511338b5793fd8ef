//! `TaskService`.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, stream};
use prost::Message;
use tonic::{Request, Response, Status, async_trait};

use super::convert::trace::Caller;
use super::convert::{limit, listed, page, state, task, time};
use super::generated::task_service_server::TaskService;
use super::proto::*;
use super::{Api, answer, convert, group, only, status};
use crate::error::Error;
use crate::service::types::ANSWER_BYTES_MAX;
use crate::service::{GroupWatch, StateWatch};
use crate::task::TaskId;

/// `WaitForResultRequest.timeout` where it is unset.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// Greatest `WaitForResultRequest.timeout`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// States read at a time: one result may have `Limits.result_bytes_max`.
const STATES_CHUNK: usize = 64;

fn id(text: &str) -> Result<TaskId, Error> {
    TaskId::new(text).map_err(limit::id("task_id"))
}

#[async_trait]
impl TaskService for Api {
    async fn send_task(&self, request: Request<SendTaskRequest>) -> Result<Response<SendTaskResponse>, Status> {
        let caller = Caller::of(request.metadata());
        let given = request.into_inner().task.ok_or_else(|| Error::invalid("task", "is required"))?;
        let within = |e: Error| e.within("task");
        let mut submission = task::submission(given, &self.service.settings()).map_err(within)?;
        caller.give(&mut submission.headers);
        let sent = only(self.service.submit(vec![submission]).await)?.map_err(within)?;
        answer(SendTaskResponse { task_id: sent.task.to_string(), already_sent: sent.already })
    }

    async fn send_tasks(&self, request: Request<SendTasksRequest>) -> Result<Response<SendTasksResponse>, Status> {
        let caller = Caller::of(request.metadata());
        let given = request.into_inner().tasks;
        let settings = &self.service.settings();
        limit::count("tasks", given.len(), settings.batch_max, "tasks")?;
        if self.draining.is_cancelled() {
            return Err(Error::Draining.into());
        }
        // What is well-formed goes to the service in one batch; the answers are put back between the refusals.
        let mut good = Vec::with_capacity(given.len());
        let refused: Vec<Option<Error>> = given
            .into_iter()
            .map(|given| {
                let accepted = task::submission(given, settings).map(|mut submission| {
                    caller.give(&mut submission.headers);
                    good.push(submission);
                });
                accepted.err()
            })
            .collect();
        let mut answers = if good.is_empty() { Vec::new() } else { self.service.submit(good).await }.into_iter();
        let missing = || Err(Error::Invariant("an item of a batch has no answer".to_owned()));
        let results = refused.into_iter().map(|refusal| {
            let result = match refusal {
                Some(error) => Err(error),
                None => answers.next().unwrap_or_else(missing),
            };
            let already_sent = result.as_ref().is_ok_and(|sent| sent.already);
            let result = match result {
                Ok(sent) => send_result::Result::TaskId(sent.task.to_string()),
                Err(error) => send_result::Result::Error(status::item(&error)),
            };
            SendResult { result: Some(result), already_sent }
        });
        answer(SendTasksResponse { results: results.collect() })
    }

    async fn send_group(&self, request: Request<SendGroupRequest>) -> Result<Response<SendGroupResponse>, Status> {
        self.answer_send_group(request).await
    }

    async fn send_chain(&self, request: Request<SendChainRequest>) -> Result<Response<SendChainResponse>, Status> {
        self.answer_send_chain(request).await
    }

    async fn send_chord(&self, request: Request<SendChordRequest>) -> Result<Response<SendChordResponse>, Status> {
        self.answer_send_chord(request).await
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Result<Response<GetGroupResponse>, Status> {
        self.answer_get_group(request).await
    }

    async fn cancel_group(
        &self,
        request: Request<CancelGroupRequest>,
    ) -> Result<Response<CancelGroupResponse>, Status> {
        self.answer_cancel_group(request).await
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Result<Response<GetStateResponse>, Status> {
        let id = id(&request.get_ref().task_id)?;
        let found = only(self.service.states(std::slice::from_ref(&id)).await?)?;
        let found = found.ok_or_else(|| Error::TaskUnknown(id.to_string()))?;
        answer(GetStateResponse { state: Some(state::to_proto(&found)) })
    }

    async fn get_states(&self, request: Request<GetStatesRequest>) -> Result<Response<GetStatesResponse>, Status> {
        let given = request.into_inner().task_ids;
        limit::count("task_ids", given.len(), self.service.settings().batch_max, "ids")?;
        let one = |(i, text): (usize, &String)| TaskId::new(text).map_err(|e| limit::id(&format!("task_ids[{i}]"))(e));
        let ids: Vec<TaskId> = given.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        let (mut states, mut bytes) = (Vec::with_capacity(ids.len()), 0);
        // A chunk at a time, so that what does not fit into the answer is not all read.
        for ids in ids.chunks(STATES_CHUNK) {
            for (id, found) in ids.iter().zip(self.service.states(ids).await?) {
                let state = found.map_or_else(|| state::unknown(id.to_string()), |found| state::to_proto(&found));
                bytes += state.encoded_len();
                if bytes > ANSWER_BYTES_MAX && !states.is_empty() {
                    return answer(GetStatesResponse { states });
                }
                states.push(state);
            }
        }
        answer(GetStatesResponse { states })
    }

    async fn cancel_task(&self, request: Request<CancelTaskRequest>) -> Result<Response<CancelTaskResponse>, Status> {
        let id = id(&request.get_ref().task_id)?;
        let result = state::cancelled(self.service.cancel(id).await?);
        answer(CancelTaskResponse { result: result.into() })
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let request = request.into_inner();
        let max = limit::page_size(request.page_size)?;
        let after = page::position(&request.page_token)?;
        let found = self.service.tasks(&listed::filter(request.filter)?, after.as_deref(), max).await?;
        let settings = self.service.settings();
        answer(ListTasksResponse {
            tasks: found.items.iter().map(|task| listed::shown(task, &settings)).collect(),
            next_page_token: found.next.map(|position| page::token(&position)).unwrap_or_default(),
        })
    }

    type WatchStateStream = Pin<Box<dyn Stream<Item = Result<WatchStateResponse, Status>> + Send>>;

    async fn watch_state(
        &self,
        request: Request<WatchStateRequest>,
    ) -> Result<Response<Self::WatchStateStream>, Status> {
        let WatchStateRequest { task_id, group_id } = request.get_ref();
        let watch = match (task_id.as_str(), group_id.as_str()) {
            ("", "") => return Err(Error::invalid("task_id", "is required, or group_id").into()),
            (task, "") => Watch::Task(self.service.watch(id(task)?)),
            ("", group) => Watch::Group(Box::new(self.service.watch_group(group::id(group)?))),
            _ => return Err(Error::invalid("group_id", "must not be set together with task_id").into()),
        };
        let watched = Watched { watch, draining: self.draining.clone(), ended: false };
        Ok(Response::new(Box::pin(stream::unfold(watched, Watched::next))))
    }

    async fn wait_for_result(
        &self,
        request: Request<WaitForResultRequest>,
    ) -> Result<Response<WaitForResultResponse>, Status> {
        let request = request.into_inner();
        let id = id(&request.task_id)?;
        let timeout = request.timeout.map_or(Ok(WAIT_DEFAULT), |t| time::duration("timeout", &t, WAIT_MAX))?;
        let found = tokio::select! {
            biased;
            found = self.service.wait(id.clone(), timeout) => found?,
            () = self.draining.cancelled() => return Err(Error::Draining.into()),
        };
        let found = found.ok_or_else(|| Error::TaskUnknown(id.to_string()))?;
        answer(WaitForResultResponse { completed: found.status.is_final(), state: Some(state::to_proto(&found)) })
    }
}

// The stream of `WatchState`. Pulled by the connection, so a client that does not read costs no memory: states that it
// has not asked for are passed over.
struct Watched {
    watch: Watch,
    draining: tokio_util::sync::CancellationToken,
    ended: bool,
}

enum Watch {
    Task(StateWatch),
    Group(Box<GroupWatch>),
}

impl Watch {
    async fn next(&mut self) -> Result<Option<WatchStateResponse>, Error> {
        Ok(match self {
            Self::Task(watch) => watch
                .next()
                .await?
                .map(|state| WatchStateResponse { state: Some(state::to_proto(&state)), group: None }),
            Self::Group(watch) => watch
                .next()
                .await?
                .map(|view| WatchStateResponse { state: None, group: Some(convert::group::to_proto(&view)) }),
        })
    }
}

impl Watched {
    async fn next(mut self) -> Option<(Result<WatchStateResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        let next = tokio::select! {
            biased;
            next = self.watch.next() => next,
            () = self.draining.cancelled() => Err(Error::Draining),
        };
        self.ended = next.is_err();
        let item = match next {
            Ok(seen) => Ok(seen?),
            Err(error) => Err(error.into()),
        };
        Some((item, self))
    }
}
