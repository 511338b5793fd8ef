//! Generated stubs on one connection, with the few calls that almost every case makes.

use std::time::Duration;

use lineshaft_client::proto::queue_service_client::QueueServiceClient;
use lineshaft_client::proto::server_service_client::ServerServiceClient;
use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use lineshaft_client::proto::*;
use tonic::Status;
use tonic::transport::Channel;

use crate::support::{InProcess, until};

/// The four services; each call takes a clone of its stub, as the generated ones ask for.
#[derive(Clone)]
pub(crate) struct Stubs {
    pub(crate) channel: Channel,
}

impl Stubs {
    pub(crate) async fn to(server: &InProcess) -> Self {
        Self { channel: server.channel().await }
    }

    pub(crate) fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn info(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel.clone())
    }

    /// Sends a task, which must be accepted, and answers its id.
    pub(crate) async fn send(&self, task: Task) -> String {
        self.try_send(task).await.expect("is accepted")
    }

    pub(crate) async fn try_send(&self, task: Task) -> Result<String, Status> {
        let sent = self.tasks().send_task(SendTaskRequest { task: Some(task) }).await?;
        Ok(sent.into_inner().task_id)
    }

    /// Sends tasks of name `n` with these ids, in one batch.
    pub(crate) async fn send_ids<I: Into<String>>(&self, ids: impl IntoIterator<Item = I>) {
        let tasks = ids.into_iter().map(|id| Task { id: id.into(), ..named("n") }).collect();
        let sent = self.tasks().send_tasks(SendTasksRequest { tasks }).await.expect("is answered");
        for result in sent.into_inner().results {
            assert!(matches!(result.result, Some(send_result::Result::TaskId(_))), "{result:?}");
        }
    }

    pub(crate) async fn state(&self, id: &str) -> TaskState {
        let state = self.tasks().get_state(GetStateRequest { task_id: id.into() }).await.expect("is known");
        state.into_inner().state.expect("a state")
    }

    /// Waits until a task has this status.
    pub(crate) async fn until(&self, id: &str, status: TaskStatus) -> TaskState {
        until(&format!("{id} is {status:?}"), async || {
            Some(self.state(id).await).filter(|state| state.status() == status)
        })
        .await
    }

    /// The final state of a task.
    pub(crate) async fn end(&self, id: &str) -> TaskState {
        let request = WaitForResultRequest { task_id: id.into(), timeout: None };
        let waited = self.tasks().wait_for_result(request).await.expect("is known").into_inner();
        assert!(waited.completed, "{waited:?}");
        waited.state.expect("a state")
    }

    /// Leases with a new session until there are so many tasks of this name.
    pub(crate) async fn lease_many(&self, name: &str, count: usize) -> (Vec<Lease>, Resume) {
        let mut request = lease_request(&[name], u32::try_from(count).expect("few"));
        let mut leases = Vec::new();
        until(&format!("{count} leases"), async || {
            let answer = self.workers().lease_tasks(request.clone()).await.expect("is answered").into_inner();
            leases.extend(answer.leases);
            request.session = answer.session;
            request.tasks_max = u32::try_from(count - leases.len()).expect("no more than asked for").max(1);
            (leases.len() == count).then_some(())
        })
        .await;
        (leases, request.session.expect("a session"))
    }

    /// Leases one task of this name.
    pub(crate) async fn lease(&self, name: &str) -> Lease {
        self.lease_many(name, 1).await.0.remove(0)
    }

    /// Reports by the unary call; one verdict each.
    pub(crate) async fn report(&self, reports: Vec<Report>) -> Vec<ReportVerdict> {
        let answer = self.workers().report_tasks(ReportTasksRequest { reports }).await.expect("is answered");
        answer.into_inner().acks.iter().map(ReportAck::verdict).collect()
    }

    /// Reports one outcome, which must be recorded.
    pub(crate) async fn record(&self, lease: &Lease, outcome: report::Outcome) {
        let verdicts = self.report(vec![report(lease, outcome)]).await;
        assert_eq!(verdicts, [ReportVerdict::Recorded]);
    }

    /// A page of what waits in the default queue.
    pub(crate) async fn pending(&self, request: GetPendingTasksRequest) -> GetPendingTasksResponse {
        self.queues().get_pending_tasks(request).await.expect("is answered").into_inner()
    }

    /// The leases in force.
    pub(crate) async fn held(&self) -> Vec<LeaseInfo> {
        self.queues().list_leases(ListLeasesRequest::default()).await.expect("is answered").into_inner().leases
    }

    /// The workers whose sessions live.
    pub(crate) async fn listed(&self) -> Vec<WorkerInfo> {
        self.workers().list_workers(ListWorkersRequest::default()).await.expect("is answered").into_inner().workers
    }
}

/// A task of this name.
pub(crate) fn named(name: &str) -> Task {
    Task { name: name.into(), ..Default::default() }
}

/// A task of name `n` with this id.
pub(crate) fn task(id: &str) -> Task {
    Task { id: id.into(), ..named("n") }
}

/// These names of the default queue.
pub(crate) fn taking(names: &[&str]) -> Vec<Subscription> {
    let names = names.iter().map(ToString::to_string).collect();
    vec![Subscription { queue: String::new(), names, weight: 0 }]
}

/// A request of a new session that waits for a second.
pub(crate) fn lease_request(names: &[&str], tasks_max: u32) -> LeaseTasksRequest {
    let wait_max = Some(span(Duration::from_secs(1)));
    LeaseTasksRequest { subscriptions: taking(names), tasks_max, wait_max, ..Default::default() }
}

/// A report without a name.
pub(crate) fn report(lease: &Lease, outcome: report::Outcome) -> Report {
    Report { report_id: String::new(), lease_id: lease.lease_id.clone(), outcome: Some(outcome) }
}

/// A report with a name.
pub(crate) fn report_as(report_id: &str, lease: &Lease, outcome: report::Outcome) -> Report {
    Report { report_id: report_id.into(), ..report(lease, outcome) }
}

/// SUCCESS with these results.
pub(crate) fn success(results: impl IntoIterator<Item = Arg>) -> report::Outcome {
    report::Outcome::Success(Success { results: results.into_iter().collect() })
}

/// A failure that the task's retries decide about.
pub(crate) fn failure(error: &str) -> report::Outcome {
    report::Outcome::Failure(Failure { error: error.into(), ..Default::default() })
}

/// A failure that is tried again after a millisecond.
pub(crate) fn again(error: &str) -> report::Outcome {
    let retry_after = Some(span(Duration::from_millis(1)));
    report::Outcome::Failure(Failure { error: error.into(), retry_after, ..Default::default() })
}

/// Given back, to be offered at once.
pub(crate) fn release() -> report::Outcome {
    report::Outcome::Release(Release::default())
}

/// A value of a type.
pub(crate) fn arg(type_name: &str, value: arg::Value) -> Arg {
    Arg { name: String::new(), r#type: type_name.into(), value: Some(value) }
}

/// A string.
pub(crate) fn text(text: &str) -> Arg {
    arg("string", arg::Value::StringValue(text.into()))
}

/// As the protocol has it.
pub(crate) fn span(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: time.as_secs().cast_signed(), nanos: time.subsec_nanos().cast_signed() }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(at: Option<prost_types::Timestamp>) -> i128 {
    let at = at.expect("a time");
    i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)
}

/// The ids of tasks.
pub(crate) fn ids(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.task_id.as_str()).collect()
}
