//! A server whose every answer is written in the test, on a real socket and a runtime of its own.
//!
//! The runtime is its own so that a test can block the worker's, and can kill the server as a process would die: all its
//! connections at once, without a word.

// Each test program uses a part of this. A broken script fails the test, where it broke.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lineshaft_client::proto::worker_lease_request::Message as FromWorker;
use lineshaft_client::proto::worker_lease_response::Message as FromServer;
use lineshaft_client::proto::*;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_imports)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/scripted_server/lineshaft.v1.rs"));
}

use generated::server_service_server::{ServerService, ServerServiceServer};
use generated::task_service_server::{TaskService, TaskServiceServer};
use generated::worker_service_server::{WorkerService, WorkerServiceServer};

/// Nothing in these tests takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// One `WorkerLease` stream, at the server's end.
pub struct Stream {
    incoming: Streaming<WorkerLeaseRequest>,
    outgoing: mpsc::Sender<Result<WorkerLeaseResponse, Status>>,
    pub sent: u64,
    credit: u64,
    /// Everything that the worker has said.
    pub log: Vec<FromWorker>,
}

pub fn millis(millis: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 })
}

pub fn lease(id: &str, name: &str, args: Vec<Arg>) -> Lease {
    Lease {
        lease_id: id.into(),
        fencing_token: 7,
        attempt: 1,
        task_id: format!("task-{id}"),
        name: name.into(),
        queue: "q".into(),
        args,
        ..Lease::default()
    }
}

impl Stream {
    pub async fn send(&self, message: FromServer) {
        self.outgoing.send(Ok(WorkerLeaseResponse { message: Some(message) })).await.expect("the worker listens");
    }

    /// Ends the stream with a status.
    pub async fn fail(self, status: Status) {
        let _ = self.outgoing.send(Err(status)).await;
    }

    /// The next frame that is not a heartbeat; none at the end.
    pub async fn next(&mut self) -> Option<FromWorker> {
        loop {
            match self.any().await? {
                FromWorker::Heartbeat(_) => {}
                other => return Some(other),
            }
        }
    }

    /// The next frame; none at the end.
    pub async fn any(&mut self) -> Option<FromWorker> {
        loop {
            let frame = soon("a frame of the worker", self.incoming.message()).await.ok().flatten()?;
            if let Some(message) = frame.message {
                if let FromWorker::Credit(credit) = &message {
                    self.credit = credit.limit;
                }
                self.log.push(message.clone());
                return Some(message);
            }
        }
    }

    pub async fn hello(&mut self) -> Hello {
        match self.next().await {
            Some(FromWorker::Hello(hello)) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    pub async fn welcome(&self, resumed: bool, kept: &[(&str, bool)]) {
        self.welcome_with(resumed, kept, 10_000, 30_000).await;
    }

    pub async fn welcome_with(&self, resumed: bool, kept: &[(&str, bool)], heartbeat: i64, silence: i64) {
        self.welcome_timed(resumed, kept, [heartbeat, heartbeat * 3, silence]).await;
    }

    /// With these intervals, ms: of heartbeats, of leases, of a server's silence. A worker leaves a silent server half way
    /// between a heartbeat and the end of its leases at the latest.
    pub async fn welcome_timed(&self, resumed: bool, kept: &[(&str, bool)], timing: [i64; 3]) {
        let [heartbeat, lease, silence] = timing;
        self.send(FromServer::Welcome(Welcome {
            session_id: "session".into(),
            secret: "secret".into(),
            resumed,
            timing: Some(Timing {
                heartbeat_interval: millis(heartbeat),
                lease_duration: millis(lease),
                silence_max: millis(silence),
            }),
            guarantees: None,
            held: kept.iter().map(|(id, kept)| HeldLease { lease_id: (*id).into(), kept: *kept }).collect(),
            session_leases_max: 1000,
        }))
        .await;
    }

    /// Sends leases, as soon as the worker's credit allows.
    pub async fn lease(&mut self, leases: Vec<Lease>) {
        while self.credit < self.sent + leases.len() as u64 {
            assert!(self.any().await.is_some(), "the stream ended before enough credit");
        }
        let first_number = self.sent + 1;
        self.sent += leases.len() as u64;
        self.send(FromServer::Leases(Leases { first_number, leases })).await;
    }

    /// The next frame of which `pick` makes something; others are passed over.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(FromWorker) -> Option<T>) -> T {
        loop {
            match self.any().await {
                Some(frame) => {
                    if let Some(found) = pick(frame) {
                        return found;
                    }
                }
                None => panic!("the stream ended before {what}"),
            }
        }
    }

    pub async fn credit(&mut self) -> u64 {
        self.until("credit", |frame| match frame {
            FromWorker::Credit(credit) => Some(credit.limit),
            _ => None,
        })
        .await
    }

    /// The next `count` reports.
    pub async fn reports(&mut self, count: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        while reports.len() < count {
            reports.extend(
                self.until("a report", |frame| match frame {
                    FromWorker::Report(report) => Some(vec![report]),
                    FromWorker::Reports(batch) => Some(batch.reports),
                    _ => None,
                })
                .await,
            );
        }
        reports
    }

    pub async fn report(&mut self) -> Report {
        self.reports(1).await.remove(0)
    }

    pub async fn acknowledge(&self, report: &Report, verdict: ReportVerdict) {
        self.send(FromServer::ReportAck(ReportAck {
            report_id: report.report_id.clone(),
            lease_id: report.lease_id.clone(),
            verdict: verdict as i32,
        }))
        .await;
    }

    /// Waits for the worker's goodbye and answers it.
    pub async fn part(mut self) {
        self.until("goodbye", |frame| matches!(frame, FromWorker::Goodbye(_)).then_some(())).await;
        self.send(FromServer::Goodbye(ServerGoodbye { reason: GoodbyeReason::Asked as i32 })).await;
    }
}

type Answering<Q, A> = Arc<dyn Fn(Q) -> futures::future::BoxFuture<'static, Result<A, Status>> + Send + Sync>;

/// What the scripted `TaskService` answers; a method that is not scripted is unimplemented.
#[derive(Clone, Default)]
pub struct Tasks {
    pub send_task: Option<Answering<SendTaskRequest, SendTaskResponse>>,
    pub send_tasks: Option<Answering<SendTasksRequest, SendTasksResponse>>,
    pub get_state: Option<Answering<GetStateRequest, GetStateResponse>>,
    pub wait: Option<Answering<WaitForResultRequest, WaitForResultResponse>>,
    pub send_group: Option<Answering<SendGroupRequest, SendGroupResponse>>,
    pub send_chain: Option<Answering<SendChainRequest, SendChainResponse>>,
    pub send_chord: Option<Answering<SendChordRequest, SendChordResponse>>,
    pub get_group: Option<Answering<GetGroupRequest, GetGroupResponse>>,
    pub cancel_group: Option<Answering<CancelGroupRequest, CancelGroupResponse>>,
    /// What one stream tells before it ends with OK.
    pub watch: Option<Answering<WatchStateRequest, Vec<WatchStateResponse>>>,
    pub limits: Limits,
}

pub fn answering<Q, A, F, Fut>(answer: F) -> Option<Answering<Q, A>>
where
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    Some(Arc::new(move |request| Box::pin(answer(request))))
}

async fn scripted<Q, A>(script: &Option<Answering<Q, A>>, request: Request<Q>) -> Result<Response<A>, Status> {
    match script {
        Some(answer) => answer(request.into_inner()).await.map(Response::new),
        None => Err(Status::unimplemented("not in this test")),
    }
}

/// The server. Dropped: killed.
pub struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    pub address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Tasks::default())
    }

    pub fn with_tasks(tasks: Tasks) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tasks)
    }

    /// A server at an address that another one may just have left.
    pub fn start_at(address: SocketAddr, tasks: Tasks) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (to_test, streams) = mpsc::channel(16);
        let entered = runtime.enter();
        let listener = bind(address);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        drop(entered);
        let service = Scripted { to_test, tasks };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(WorkerServiceServer::new(service.clone()))
                .add_service(TaskServiceServer::new(service.clone()))
                .add_service(ServerServiceServer::new(service))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
        );
        Self { runtime: Some(runtime), address, streams }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next stream that a worker opens.
    pub async fn stream(&mut self) -> Stream {
        soon("a stream", self.streams.recv()).await.expect("the server runs")
    }

    /// Dies without a word; its address, for the next one.
    pub fn kill(mut self) -> SocketAddr {
        self.stop();
        self.address
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Binds, waiting for a predecessor at the same address to be gone.
fn bind(address: SocketAddr) -> std::net::TcpListener {
    for _ in 0..2000 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        if socket.bind(address).is_ok()
            && let Ok(listener) = socket.listen(64)
        {
            return listener.into_std().unwrap();
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("cannot bind {address}");
}

#[derive(Clone)]
struct Scripted {
    to_test: mpsc::Sender<Stream>,
    tasks: Tasks,
}

#[tonic::async_trait]
impl WorkerService for Scripted {
    type WorkerLeaseStream = ReceiverStream<Result<WorkerLeaseResponse, Status>>;

    async fn worker_lease(
        &self,
        request: Request<Streaming<WorkerLeaseRequest>>,
    ) -> Result<Response<Self::WorkerLeaseStream>, Status> {
        let (outgoing, responses) = mpsc::channel(64);
        let stream = Stream { incoming: request.into_inner(), outgoing, sent: 0, credit: 0, log: Vec::new() };
        self.to_test.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn lease_tasks(&self, _: Request<LeaseTasksRequest>) -> Result<Response<LeaseTasksResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn report_tasks(&self, _: Request<ReportTasksRequest>) -> Result<Response<ReportTasksResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn extend_leases(&self, _: Request<ExtendLeasesRequest>) -> Result<Response<ExtendLeasesResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}

#[tonic::async_trait]
impl TaskService for Scripted {
    type WatchStateStream = ReceiverStream<Result<WatchStateResponse, Status>>;

    async fn send_task(&self, request: Request<SendTaskRequest>) -> Result<Response<SendTaskResponse>, Status> {
        scripted(&self.tasks.send_task, request).await
    }

    async fn send_tasks(&self, request: Request<SendTasksRequest>) -> Result<Response<SendTasksResponse>, Status> {
        scripted(&self.tasks.send_tasks, request).await
    }

    async fn send_group(&self, request: Request<SendGroupRequest>) -> Result<Response<SendGroupResponse>, Status> {
        scripted(&self.tasks.send_group, request).await
    }

    async fn send_chain(&self, request: Request<SendChainRequest>) -> Result<Response<SendChainResponse>, Status> {
        scripted(&self.tasks.send_chain, request).await
    }

    async fn send_chord(&self, request: Request<SendChordRequest>) -> Result<Response<SendChordResponse>, Status> {
        scripted(&self.tasks.send_chord, request).await
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Result<Response<GetGroupResponse>, Status> {
        scripted(&self.tasks.get_group, request).await
    }

    async fn cancel_group(
        &self,
        request: Request<CancelGroupRequest>,
    ) -> Result<Response<CancelGroupResponse>, Status> {
        scripted(&self.tasks.cancel_group, request).await
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Result<Response<GetStateResponse>, Status> {
        scripted(&self.tasks.get_state, request).await
    }

    async fn get_states(&self, _: Request<GetStatesRequest>) -> Result<Response<GetStatesResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn cancel_task(&self, _: Request<CancelTaskRequest>) -> Result<Response<CancelTaskResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn watch_state(
        &self,
        request: Request<WatchStateRequest>,
    ) -> Result<Response<Self::WatchStateStream>, Status> {
        let told = scripted(&self.tasks.watch, request).await?.into_inner();
        let (sender, stream) = mpsc::channel(told.len().max(1));
        for told in told {
            let _ = sender.try_send(Ok(told));
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn wait_for_result(
        &self,
        request: Request<WaitForResultRequest>,
    ) -> Result<Response<WaitForResultResponse>, Status> {
        scripted(&self.tasks.wait, request).await
    }
}

#[tonic::async_trait]
impl ServerService for Scripted {
    async fn get_server_info(
        &self,
        _: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        Ok(Response::new(GetServerInfoResponse { limits: Some(self.tasks.limits), ..GetServerInfoResponse::default() }))
    }

    type BackupStream = ReceiverStream<Result<BackupResponse, Status>>;

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("nobody scripted a backup"))
    }
}

/// A list that handlers write to and tests wait on.
#[derive(Clone)]
pub struct Notes<T> {
    items: Arc<Mutex<Vec<T>>>,
    changed: Arc<tokio::sync::Notify>,
}

impl<T: Clone> Notes<T> {
    pub fn new() -> Self {
        Self { items: Arc::new(Mutex::new(Vec::new())), changed: Arc::new(tokio::sync::Notify::new()) }
    }

    pub fn add(&self, item: T) {
        self.items.lock().push(item);
        self.changed.notify_one();
    }

    pub fn all(&self) -> Vec<T> {
        self.items.lock().clone()
    }

    /// All, once there are `count`.
    pub async fn wait(&self, count: usize) -> Vec<T> {
        soon("a note", async {
            loop {
                let items = self.all();
                if items.len() >= count {
                    return items;
                }
                self.changed.notified().await;
            }
        })
        .await
    }
}
