//! `WorkerService`. The stream has a file of its own, `stream`.

use std::time::Duration;

use tonic::{Request, Response, Status, Streaming, async_trait};

use super::convert::{lease, limit, page, report, session, time};
use super::generated::worker_service_server::WorkerService;
use super::proto::*;
use super::{Api, answer, stream};
use crate::error::Error;
use crate::service::types::LeaseRequest;
use crate::task::{LeaseId, SessionId};

/// Greatest `LeaseTasksRequest.wait_max`.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Longest `LeaseTasksRequest.request_id`, bytes.
const REQUEST_ID_BYTES_MAX: usize = 100;

#[async_trait]
impl WorkerService for Api {
    type WorkerLeaseStream = stream::Outbound;

    async fn worker_lease(
        &self,
        request: Request<Streaming<WorkerLeaseRequest>>,
    ) -> Result<Response<Self::WorkerLeaseStream>, Status> {
        // The head of the response goes out at once, since many client libraries wait for it before they send anything.
        Ok(Response::new(stream::open(self.clone(), request.into_inner())))
    }

    async fn lease_tasks(&self, request: Request<LeaseTasksRequest>) -> Result<Response<LeaseTasksResponse>, Status> {
        let request = request.into_inner();
        let settings = &self.service.settings();
        limit::at_most("tasks_max", request.tasks_max as usize, settings.batch_max, "tasks")?;
        limit::at_most("request_id", request.request_id.len(), REQUEST_ID_BYTES_MAX, "bytes")?;
        if !request.request_id.is_empty() && request.session.is_none() {
            return Err(
                Error::invalid("request_id", "needs session: in a new session there is nothing to repeat").into()
            );
        }
        let session = request.session.map(|s| session::resume(s).map_err(|e| e.within("session"))).transpose()?;
        let asked = LeaseRequest {
            session,
            worker: session::worker(request.worker)?,
            subscriptions: session::subscriptions(request.subscriptions, settings)?,
            tasks_max: request.tasks_max.max(1) as usize,
            wait_max: request.wait_max.map_or(Ok(Duration::ZERO), |w| time::duration("wait_max", &w, WAIT_MAX))?,
            request_id: (!request.request_id.is_empty()).then_some(request.request_id),
        };
        let reply = self.service.lease(asked).await?;
        answer(LeaseTasksResponse {
            leases: reply.leases.iter().map(lease::granted).collect(),
            session: Some(session::to_resume(reply.session)),
            timing: Some(session::timing(settings)),
        })
    }

    async fn report_tasks(
        &self,
        request: Request<ReportTasksRequest>,
    ) -> Result<Response<ReportTasksResponse>, Status> {
        let read = report::list("reports", request.into_inner().reports, &self.service.settings())?;
        let mut named = Vec::with_capacity(read.len());
        // What names a lease goes to the service in one batch; its answers are put back between the others.
        let waiting: Vec<Result<ReportAck, ReportAck>> = read
            .into_iter()
            .map(|read| match read {
                Ok(report) => {
                    let report_id = report.id.clone().unwrap_or_default();
                    let lease_id = report.lease.to_string();
                    named.push(report);
                    Ok(ReportAck { report_id, lease_id, ..Default::default() })
                }
                Err(unnamed) => Err(unnamed.ack()),
            })
            .collect();
        let mut verdicts = if named.is_empty() { Vec::new() } else { self.service.report(named).await? }.into_iter();
        let acks = waiting.into_iter().map(|ack| match ack {
            Ok(ack) => ReportAck { verdict: lease::verdict(verdicts.next()).into(), ..ack },
            Err(ack) => ack,
        });
        answer(ReportTasksResponse { acks: acks.collect() })
    }

    async fn extend_leases(
        &self,
        request: Request<ExtendLeasesRequest>,
    ) -> Result<Response<ExtendLeasesResponse>, Status> {
        let request = request.into_inner();
        let settings = &self.service.settings();
        let resume = request.session.ok_or_else(|| Error::invalid("session", "is required"))?;
        let resume = session::resume(resume).map_err(|e| e.within("session"))?;
        limit::at_most("lease_ids", request.lease_ids.len(), settings.reports_max, "leases")?;
        let asked: Vec<LeaseId> = request.lease_ids.iter().filter_map(|id| lease::id(id)).collect();
        let live = self.service.extend(resume, &asked).await?;
        let kept: Vec<(LeaseId, bool)> = asked.into_iter().zip(live).collect();
        answer(ExtendLeasesResponse {
            leases: session::verdicts(request.lease_ids, &kept),
            timing: Some(session::timing(settings)),
        })
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let max = limit::page_size(request.page_size)?;
        let after = page::position(&request.page_token)?
            .map(|bytes| {
                String::from_utf8(bytes).ok().and_then(|id| SessionId::new(&id).ok()).ok_or_else(page::invalid)
            })
            .transpose()?;
        let found = self.service.workers(after.as_ref(), max).await?;
        let mut workers = found.iter().map(session::info).collect();
        let more = page::cut(&mut workers) || found.len() >= max;
        let last = workers.last().filter(|_| more);
        let next = last.map(|worker| page::token(worker.session_id.as_bytes()));
        answer(ListWorkersResponse { workers, next_page_token: next.unwrap_or_default() })
    }
}
