//! A server inside the test, over the memory models, on a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use lineshaft::clock::SystemClock;
use lineshaft::config::Config;
use lineshaft::failpoint::Failpoints;
use lineshaft::server::Server;
use lineshaft::service::{Service, Stores};
use lineshaft::{backend, broker, fused, ledger};
use lineshaft_client::proto::queue_service_client::QueueServiceClient;
use lineshaft_client::proto::server_service_client::ServerServiceClient;
use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct InProcess {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its replica.
    pub service: Service,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

/// New, empty stores in memory, as one fused store.
pub fn memory() -> Stores {
    lineshaft::server::in_memory(Arc::new(SystemClock))
}

impl InProcess {
    /// Starts with the defaults.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with a changed configuration, over new stores.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(memory(), change).await
    }

    /// Starts with a changed configuration over `stores`; the port is free for each server.
    pub async fn on(stores: Stores, change: impl FnOnce(&mut Config)) -> Self {
        Self::failing(stores, Failpoints::default(), change).await
    }

    /// The same, with a plan of failures.
    pub async fn failing(stores: Stores, failpoints: Failpoints, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.server.listen.set_port(0);
        change(&mut config);
        config.check().unwrap();
        let server = Server::bind(&config, stores, Arc::new(SystemClock), failpoints).await.unwrap();
        let (addr, service) = (server.addr(), server.service().clone());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            server.run(async { drop(stopped.await) }).await.unwrap();
        });
        Self { addr, service, stop: Some(stop), running: Some(running) }
    }

    /// Its address as clients take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// An endpoint, to be changed before it connects.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(self.url()).unwrap()
    }

    /// A new connection.
    pub async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    /// A producer on a new connection; messages of any size may leave it.
    pub async fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel().await).max_encoding_message_size(usize::MAX)
    }

    /// An operator on a new connection.
    pub async fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel().await)
    }

    /// A worker on a new connection.
    pub async fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel().await)
    }

    /// Whoever wants to know what this is, on a new connection.
    pub async fn info(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel().await)
    }

    /// Begins to drain; [`InProcess::stopped`] waits for the end.
    pub fn drain(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Drains and waits until the server has stopped.
    pub async fn stopped(mut self) {
        self.drain();
        if let Some(running) = self.running.take() {
            super::until::soon("the server stops", running).await.unwrap();
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.service.halt();
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}
