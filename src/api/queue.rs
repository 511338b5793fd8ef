//! `QueueService`.

use tonic::{Request, Response, Status, async_trait};

use super::convert::{lease, limit, page, task};
use super::generated::queue_service_server::QueueService;
use super::proto::*;
use super::{Api, answer};
use crate::error::Error;
use crate::ledger::LeaseQuery;
use crate::task::{FencingToken, QueueName, SessionId};

fn queue(text: &str) -> Result<Option<QueueName>, Error> {
    task::optional(text, |queue| QueueName::new(queue).map_err(limit::id("queue")))
}

#[async_trait]
impl QueueService for Api {
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
        let next =
            found.last().filter(|_| found.len() >= max).map(|view| page::token(&view.lease.id.token.0.to_be_bytes()));
        answer(ListLeasesResponse {
            leases: found.into_iter().map(lease::info).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }
}
