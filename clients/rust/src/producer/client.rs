//! A producer's connection to one or more servers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;

use super::async_result::{AsyncResult, TaskState};
use super::coalesce::{Bounds, Coalescer};
use super::task::Task;
use crate::connection::{Channels, ConnectOptions, MESSAGE_BYTES_MAX, endpoints};
use crate::error::Error;
use crate::proto;
use crate::proto::queue_service_client::QueueServiceClient;
use crate::proto::server_service_client::ServerServiceClient;
use crate::proto::task_service_client::TaskServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Sends tasks and reads their states. Cheap to clone; clones share connections, and concurrent sends of all of them
/// travel together.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    addresses: Vec<String>,
    options: ConnectOptions,
    call_timeout: Duration,
    default_queue: String,
    channels: Arc<Channels>,
    coalescer: Coalescer,
}

/// How a [`Client`] is made.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    addresses: Vec<String>,
    options: ConnectOptions,
    call_timeout: Duration,
    default_queue: String,
    retry_for: Duration,
    waiting_bytes_max: usize,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            options: ConnectOptions::default(),
            call_timeout: Duration::from_secs(60),
            default_queue: String::new(),
            retry_for: Duration::ZERO,
            waiting_bytes_max: 16 << 20,
        }
    }
}

impl ClientBuilder {
    /// Adds a server, `http://host:port`. With several, the first that works is used until it fails.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Adds several servers.
    #[must_use]
    pub fn addresses<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.addresses.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// How to reach the servers.
    #[must_use]
    pub fn options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// How long one attempt to connect may take. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long one call may take. Default 60 s. Waiting for results has its own timeout.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// The queue of tasks that name none. Default: left to the server.
    #[must_use]
    pub fn default_queue(mut self, queue: impl Into<String>) -> Self {
        self.default_queue = queue.into();
        self
    }

    /// How long a send that was not done, or may not have been (no connection or a broken one, or refused as a whole with
    /// DRAINING, BROKER_UNAVAILABLE, QUEUE_FULL or OUTCOME_UNKNOWN) is repeated, with back-off or as the server asks, before
    /// it is an error. It is repeated under its request id, so it is done once; not beyond the time for which the server
    /// remembers one (`Limits.request_window`, 1 h until it has told). Default 0: the error is told at once.
    #[must_use]
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// How many bytes of tasks may wait for the send before them; further sends wait. A task counts as at least 1 KiB.
    /// Default 16 MiB.
    #[must_use]
    pub fn waiting_bytes_max(mut self, bytes: usize) -> Self {
        self.waiting_bytes_max = bytes;
        self
    }

    /// A client that connects on first use. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`]: no address, or a malformed one.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let channels = Arc::new(Channels::lazy(&endpoints(&self.addresses, &self.options)?));
        let bounds = Bounds {
            waiting_bytes_max: self.waiting_bytes_max,
            call_timeout: self.call_timeout,
            retry_for: self.retry_for,
        };
        let coalescer = Coalescer::new(Arc::clone(&channels), bounds);
        Ok(Client {
            inner: Arc::new(Inner {
                addresses: self.addresses,
                options: self.options,
                call_timeout: self.call_timeout,
                default_queue: self.default_queue,
                channels,
                coalescer,
            }),
        })
    }

    /// A client that is connected: a server has told its limits.
    ///
    /// # Errors
    /// [`Error::Config`]: no address, or a malformed one. [`Error::Connect`]: none of them answers. Else as the server says.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.connect_lazy()?;
        client.server_info().await?;
        Ok(client)
    }
}

impl Client {
    /// A client of the server at `address`, `http://host:port`, with defaults.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::builder().address(address).connect().await
    }

    /// A client to be configured.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Sends `task`. OK means that the server's broker has it.
    ///
    /// Concurrent sends travel as one call while an earlier one is under way. Dropping the future does not take back a
    /// task that is under way.
    ///
    /// # Errors
    /// As the server says: see [`Error::is_retryable`]. [`Error::Broken`] and OUTCOME_UNKNOWN: it may have been sent; the
    /// same task with the same [`Task::request_id`] may be sent again.
    /// [`Error::Value`]: an argument cannot be written; nothing was sent.
    pub async fn send(&self, task: Task) -> Result<AsyncResult, Error> {
        let id = self.inner.coalescer.send(self.prepare(task)?).await?;
        Ok(self.result(id))
    }

    /// Sends `tasks`, each of which succeeds or fails on its own; the answers are in their order.
    pub async fn send_all(&self, tasks: impl IntoIterator<Item = Task>) -> Vec<Result<AsyncResult, Error>> {
        let mut ready = Vec::new();
        let prepared: Vec<Result<(), Error>> =
            tasks.into_iter().map(|task| self.prepare(task).map(|task| ready.push(task))).collect();
        let mut answers = self.inner.coalescer.send_all(ready).await.into_iter();
        // One answer for each task that was ready.
        let answer = |prepared: Result<(), Error>| prepared.and_then(|()| answers.next().unwrap_or(Err(Error::Closed)));
        prepared.into_iter().map(answer).map(|answer| answer.map(|id| self.result(id))).collect()
    }

    fn prepare(&self, task: Task) -> Result<proto::Task, Error> {
        let mut task = task.try_into_proto()?;
        if task.queue.is_empty() {
            task.queue.clone_from(&self.inner.default_queue);
        }
        // Made once: whoever sends the task again sends it under this name, so it is done once.
        if task.request_id.is_empty() {
            task.request_id = uuid::Uuid::now_v7().simple().to_string();
        }
        Ok(task)
    }

    /// The result of a task by its id, whoever sent it.
    pub fn result(&self, task_id: impl Into<String>) -> AsyncResult {
        AsyncResult::new(self.clone(), task_id.into())
    }

    /// The states of several tasks, in the order asked; none for a task that is not known.
    ///
    /// # Errors
    /// As the server says; LIMIT_EXCEEDED for more than its `batch_max` ids.
    pub async fn states(&self, task_ids: Vec<String>) -> Result<Vec<Option<TaskState>>, Error> {
        let mut states = Vec::with_capacity(task_ids.len());
        // An answer ends early where results are large. Asked at least once, so that the server judges an empty list.
        loop {
            let left = task_ids.get(states.len()..).unwrap_or_default();
            let response = self
                .read(|channel| {
                    let request = self.timed(proto::GetStatesRequest { task_ids: left.to_vec() });
                    async move { tasks_of(channel).get_states(request).await }
                })
                .await?;
            let told = response.states.len();
            states.extend(
                response
                    .states
                    .into_iter()
                    .map(|state| (state.status() != proto::TaskStatus::Unspecified).then(|| TaskState::from(state))),
            );
            if told == 0 || states.len() >= task_ids.len() {
                return Ok(states);
            }
        }
    }

    pub(crate) async fn cancel(&self, task_id: &str) -> Result<proto::CancelResult, Error> {
        // Cancelling again changes nothing more, so it may be repeated like a read.
        let response = self
            .read(|channel| {
                let request = self.timed(proto::CancelTaskRequest { task_id: task_id.to_owned() });
                async move { tasks_of(channel).cancel_task(request).await }
            })
            .await?;
        Ok(response.result())
    }

    /// The server's version, limits and guarantees.
    ///
    /// # Errors
    /// [`Error::Connect`]: no server answers.
    pub async fn server_info(&self) -> Result<proto::GetServerInfoResponse, Error> {
        let info = self
            .read(|channel| {
                let request = self.timed(proto::GetServerInfoRequest {});
                async move { ServerServiceClient::new(channel).get_server_info(request).await }
            })
            .await?;
        if let Some(limits) = &info.limits {
            self.inner.coalescer.learn(limits);
        }
        Ok(info)
    }

    /// The bare client of `TaskService`, on the server in use now.
    pub fn task_service(&self) -> TaskServiceClient<Channel> {
        tasks_of(self.channel())
    }

    /// The bare client of `QueueService`, on the server in use now.
    pub fn queue_service(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The bare client of `WorkerService`, on the server in use now.
    pub fn worker_service(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The bare client of `ServerService`, on the server in use now.
    pub fn server_service(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel())
    }

    /// The connection to the server in use now.
    pub fn channel(&self) -> Channel {
        self.inner.channels.current().1
    }

    /// The addresses given, in their order.
    pub fn addresses(&self) -> &[String] {
        &self.inner.addresses
    }

    /// The queue of tasks that name none; empty: left to the server.
    pub(crate) fn default_queue(&self) -> &str {
        &self.inner.default_queue
    }

    pub(crate) fn options(&self) -> &ConnectOptions {
        &self.inner.options
    }

    pub(crate) fn timed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.inner.call_timeout);
        request
    }

    /// A send under a request id, repeated as sends of tasks are.
    pub(crate) async fn send_named<T, Call, Answer>(&self, call: Call) -> Result<T, Error>
    where
        Call: Fn(Channel) -> Answer,
        Answer: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        Ok(self.inner.coalescer.repeat(call).await?.into_inner())
    }

    /// A call that may be repeated: once on each address, twice if there is only one, since the
    /// first call after a restart of the server may meet the connection that has just died.
    pub(crate) async fn read<T, Call, Answer>(&self, call: Call) -> Result<T, Error>
    where
        Call: Fn(Channel) -> Answer,
        Answer: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut left = self.inner.channels.len().max(2);
        loop {
            let (index, channel) = self.inner.channels.current();
            let error = match call(channel).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => Error::from(status),
            };
            left -= 1;
            if error.is_of_this_server() {
                self.inner.channels.pass_over(index);
            }
            if left == 0 || !error.is_of_this_server() {
                return Err(error);
            }
        }
    }

    pub(crate) async fn get_state(&self, task_id: &str) -> Result<TaskState, Error> {
        let response = self
            .read(|channel| {
                let request = self.timed(proto::GetStateRequest { task_id: task_id.to_owned() });
                async move { tasks_of(channel).get_state(request).await }
            })
            .await?;
        Ok(response.state.unwrap_or_default().into())
    }
}

pub(super) fn tasks_of(channel: Channel) -> TaskServiceClient<Channel> {
    TaskServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
