//! The calls of `TaskService` about tasks that belong together.

use prost::Message;
use tonic::{Request, Response, Status};

use super::convert::group::{self, Given};
use super::convert::trace::Caller;
use super::convert::{limit, state};
use super::proto::*;
use super::{Api, answer};
use crate::error::Error;
use crate::ledger::join::Kind;
use crate::service::types::{ANSWER_BYTES_MAX, WorkflowSent};
use crate::task::GroupId;

/// Tasks read at a time: one result may have `Limits.result_bytes_max`.
const TASKS_CHUNK: usize = 64;

/// The id of a group in a request.
pub(super) fn id(text: &str) -> Result<GroupId, Error> {
    GroupId::new(text).map_err(limit::id("group_id"))
}

impl Api {
    pub(super) async fn answer_send_group(
        &self,
        request: Request<SendGroupRequest>,
    ) -> Result<Response<SendGroupResponse>, Status> {
        let caller = Caller::of(request.metadata());
        let SendGroupRequest { group_id, tasks, request_id } = request.into_inner();
        let given = Given { group_id, tasks, request_id, ..Given::default() };
        let (sent, task_ids) = self.send_together(Kind::Group, given, &caller).await?;
        answer(SendGroupResponse { group_id: sent.group.to_string(), task_ids, already_sent: sent.already })
    }

    pub(super) async fn answer_send_chain(
        &self,
        request: Request<SendChainRequest>,
    ) -> Result<Response<SendChainResponse>, Status> {
        let caller = Caller::of(request.metadata());
        let SendChainRequest { group_id, tasks, request_id } = request.into_inner();
        let given = Given { group_id, tasks, request_id, ..Given::default() };
        let (sent, task_ids) = self.send_together(Kind::Chain, given, &caller).await?;
        answer(SendChainResponse { group_id: sent.group.to_string(), task_ids, already_sent: sent.already })
    }

    pub(super) async fn answer_send_chord(
        &self,
        request: Request<SendChordRequest>,
    ) -> Result<Response<SendChordResponse>, Status> {
        let caller = Caller::of(request.metadata());
        let SendChordRequest { group_id, tasks, callback, always, request_id } = request.into_inner();
        let given = Given { group_id, tasks, callback, is_always: always, request_id };
        let (sent, task_ids) = self.send_together(Kind::Chord, given, &caller).await?;
        answer(SendChordResponse {
            group_id: sent.group.to_string(),
            task_ids,
            callback_id: sent.callback.map(|id| id.to_string()).unwrap_or_default(),
            already_sent: sent.already,
        })
    }

    /// What was sent, and the ids that the answer tells.
    async fn send_together(
        &self,
        kind: Kind,
        given: Given,
        caller: &Caller,
    ) -> Result<(WorkflowSent, Vec<String>), Error> {
        let mut workflow = given.read(kind, &self.service.settings())?;
        for task in workflow.tasks.iter_mut().chain(&mut workflow.callback) {
            caller.give(&mut task.headers);
        }
        let all_named = workflow.tasks.iter().all(|task| task.id.is_some());
        let sent = self.service.send_workflow(workflow).await?;
        let ids = group::ids(&sent, all_named);
        Ok((sent, ids))
    }

    pub(super) async fn answer_get_group(
        &self,
        request: Request<GetGroupRequest>,
    ) -> Result<Response<GetGroupResponse>, Status> {
        let request = request.get_ref();
        let id = id(&request.group_id)?;
        let max = limit::page_size(request.page_size)?;
        let first = group::place(&request.page_token)?;
        let told = group::to_proto(&self.service.group(&id).await?);
        let (mut bytes, mut tasks, mut next) = (told.encoded_len(), Vec::new(), Some(first));
        // A chunk at a time, so that what does not fit into the answer is not all read.
        'page: while let Some(from) = next.filter(|_| tasks.len() < max) {
            let page = self.service.group_tasks(&id, from, TASKS_CHUNK.min(max - tasks.len())).await?;
            next = page.next;
            for (place, (task, found)) in (from..).zip(page.tasks) {
                let task = found.map_or_else(|| state::unknown(task.to_string()), |found| state::to_proto(&found));
                bytes += task.encoded_len();
                if bytes > ANSWER_BYTES_MAX && !tasks.is_empty() {
                    next = Some(place);
                    break 'page;
                }
                tasks.push(task);
            }
        }
        // Behind the last task there is no page: of a group whose tasks fill a page, the store cannot say so.
        let next = next.filter(|place| *place < told.total);
        let next_page_token = next.map(group::token).unwrap_or_default();
        answer(GetGroupResponse { group: Some(told), tasks, next_page_token })
    }

    pub(super) async fn answer_cancel_group(
        &self,
        request: Request<CancelGroupRequest>,
    ) -> Result<Response<CancelGroupResponse>, Status> {
        let id = id(&request.get_ref().group_id)?;
        answer(group::cancelled(self.service.cancel_group(&id).await?))
    }
}
