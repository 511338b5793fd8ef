//! `QueueService`.

use tonic::{Request, Response, Status, async_trait};

use super::convert::{self, dead, lease, limit, page, task};
use super::generated::queue_service_server::QueueService;
use super::proto::*;
use super::{Api, answer};
use crate::error::Error;
use crate::ledger::LeaseQuery;
use crate::service::dead::{Change, Mode};
use crate::task::{FencingToken, QueueName, SessionId};

fn queue(text: &str) -> Result<Option<QueueName>, Error> {
    task::optional(text, |queue| QueueName::new(queue).map_err(limit::id("queue")))
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Do }
}

#[async_trait]
impl QueueService for Api {
    async fn list_queues(&self, request: Request<ListQueuesRequest>) -> Result<Response<ListQueuesResponse>, Status> {
        let request = request.into_inner();
        let max = limit::page_size(request.page_size)?;
        let after = convert::queue::after(&request.page_token)?;
        let prefix = convert::queue::prefix(&request.name_prefix)?;
        let found = self.service.queues(after.as_ref(), prefix, max).await?;
        let last = found.queues.last().filter(|_| found.has_more);
        answer(ListQueuesResponse {
            next_page_token: last.map(|view| page::token(view.name.as_str().as_bytes())).unwrap_or_default(),
            queues: found.queues.into_iter().map(convert::queue::shown).collect(),
        })
    }

    async fn get_queue(&self, request: Request<GetQueueRequest>) -> Result<Response<GetQueueResponse>, Status> {
        let queue = convert::queue::name(&request.into_inner().queue)?;
        let view = self.service.queue(queue).await?;
        answer(GetQueueResponse { queue: Some(convert::queue::shown(view)) })
    }

    async fn pause_queue(&self, request: Request<PauseQueueRequest>) -> Result<Response<PauseQueueResponse>, Status> {
        let queue = convert::queue::name(&request.into_inner().queue)?;
        let view = self.service.pause(queue).await?;
        answer(PauseQueueResponse { queue: Some(convert::queue::shown(view)) })
    }

    async fn resume_queue(
        &self,
        request: Request<ResumeQueueRequest>,
    ) -> Result<Response<ResumeQueueResponse>, Status> {
        let queue = convert::queue::name(&request.into_inner().queue)?;
        let view = self.service.resume(queue).await?;
        answer(ResumeQueueResponse { queue: Some(convert::queue::shown(view)) })
    }

    async fn purge_queue(&self, request: Request<PurgeQueueRequest>) -> Result<Response<PurgeQueueResponse>, Status> {
        let purged = self.service.purge(convert::queue::purge(request.into_inner())?).await?;
        answer(PurgeQueueResponse {
            purged: purged.count,
            next_page_token: purged.next.map(|position| page::token(&position)).unwrap_or_default(),
        })
    }

    async fn get_pending_tasks(
        &self,
        request: Request<GetPendingTasksRequest>,
    ) -> Result<Response<GetPendingTasksResponse>, Status> {
        let request = request.into_inner();
        let settings = &self.service.settings();
        let queue = queue(&request.queue)?.unwrap_or_else(|| settings.default_queue.clone());
        let max = limit::page_size(request.page_size)?;
        let after = page::position(&request.page_token)?;
        let page = self.service.pending(Some(queue.clone()), request.include_delayed, after.as_deref(), max).await?;
        answer(GetPendingTasksResponse {
            tasks: page.tasks.into_iter().map(|waiting| task::pending(waiting, &queue, settings)).collect(),
            next_page_token: page.next.map(|position| page::token(&position)).unwrap_or_default(),
        })
    }

    async fn list_leases(&self, request: Request<ListLeasesRequest>) -> Result<Response<ListLeasesResponse>, Status> {
        let request = request.into_inner();
        let session = task::optional(&request.session_id, |id| SessionId::new(id).map_err(limit::id("session_id")))?;
        let max = limit::page_size(request.page_size)?;
        let after = match page::position(&request.page_token)? {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| page::invalid())?),
            None => 0,
        };
        let query = LeaseQuery { session, queue: queue(&request.queue)?, after: FencingToken(after), max };
        let found = self.service.leases(&query).await?;
        // A full page may be the last one; the next is empty then.
        let is_full = found.len() >= max;
        let mut leases = found.into_iter().map(lease::info).collect();
        let more = page::cut(&mut leases) || is_full;
        let next = leases.last().filter(|_| more).map(|lease| page::token(&lease.fencing_token.to_be_bytes()));
        answer(ListLeasesResponse { leases, next_page_token: next.unwrap_or_default() })
    }

    async fn list_dead_tasks(
        &self,
        request: Request<ListDeadTasksRequest>,
    ) -> Result<Response<ListDeadTasksResponse>, Status> {
        let request = request.into_inner();
        let max = limit::page_size(request.page_size)?;
        let after = page::position(&request.page_token)?;
        let found = self.service.dead(&dead::filter(request.filter)?, after.as_deref(), max).await?;
        let settings = self.service.settings();
        answer(ListDeadTasksResponse {
            dead_tasks: found.items.into_iter().map(|view| dead::shown(view, &settings)).collect(),
            next_page_token: found.next.map(|position| page::token(&position)).unwrap_or_default(),
        })
    }

    async fn requeue_dead_tasks(
        &self,
        request: Request<RequeueDeadTasksRequest>,
    ) -> Result<Response<RequeueDeadTasksResponse>, Status> {
        let RequeueDeadTasksRequest { dead_ids, filter, page_size, page_token, dry_run, retry_count } =
            request.into_inner();
        let target = dead::target(dead_ids, filter, page_size, &page_token, &self.service.settings())?;
        let change = Change::Requeue { retry_count: dead::retry_count(retry_count)? };
        let changes = self.service.change_dead(target, change, mode(dry_run)).await?;
        let (results, next_page_token) = dead::changes(changes);
        answer(RequeueDeadTasksResponse { results, next_page_token })
    }

    async fn delete_dead_tasks(
        &self,
        request: Request<DeleteDeadTasksRequest>,
    ) -> Result<Response<DeleteDeadTasksResponse>, Status> {
        let DeleteDeadTasksRequest { dead_ids, filter, page_size, page_token, dry_run } = request.into_inner();
        let target = dead::target(dead_ids, filter, page_size, &page_token, &self.service.settings())?;
        let changes = self.service.change_dead(target, Change::Delete, mode(dry_run)).await?;
        let (results, next_page_token) = dead::changes(changes);
        answer(DeleteDeadTasksResponse { results, next_page_token })
    }
}
