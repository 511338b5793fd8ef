//! One server: services, health, reflection and HTTP on one port, from the first connection to the last.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::api::metrics::Scrapes;
use crate::api::{self, Api, layer};
use crate::clock::Clock;
use crate::config::Config;
use crate::failpoint::Failpoints;
use crate::service::types::Settings;
use crate::service::{Service, Stores};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::{self, Exporter};

mod stores;

pub use stores::{in_memory, measured, open, restore};

/// Connections that are still open this long after all work is done are cut: streams of health watchers never end.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// A connection is asked for a sign of life this often, and cut if none comes within [`ALIVE_MAX`].
const ALIVE_EVERY: Duration = Duration::from_secs(20);

/// See [`ALIVE_EVERY`].
const ALIVE_MAX: Duration = Duration::from_secs(20);

/// Flow-control windows: with the default 64 KiB a large batch waits a round trip for each 64 KiB of it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// See [`STREAM_WINDOW_BYTES`].
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Headers of one request, bytes; ours are a few hundred.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// A server that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store cannot be opened; nothing that is stored was changed.
    #[error("{0}")]
    Store(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {why}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        why: std::io::Error,
    },
    /// What reflection should serve cannot be read.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Spans cannot be exported.
    #[error("{0}")]
    Telemetry(String),
    /// The transport failed.
    #[error("the server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    listener: TcpListener,
    api: Api,
    config: Config,
    metrics: Option<Arc<Metrics>>,
    exporter: Exporter,
    apart: Option<Apart>,
}

/// A port for the page of metrics alone.
#[derive(Debug)]
struct Apart {
    addr: SocketAddr,
    listener: TcpListener,
    scrapes: Scrapes,
}

impl Apart {
    async fn bind(addr: SocketAddr, scrapes: Scrapes) -> Result<Self, ServerError> {
        let listen = |why| ServerError::Listen { addr, why };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        tracing::info!(%addr, "the metrics have a port of their own");
        Ok(Self { addr, listener, scrapes })
    }

    /// Answers until `closing`; never ends by itself.
    async fn run(self, closing: CancellationToken) -> Result<(), tonic::transport::Error> {
        tonic::transport::Server::builder()
            .accept_http1(true)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .add_routes(self.scrapes.routes())
            .serve_with_incoming_shutdown(TcpIncoming::from(self.listener), closing.cancelled_owned())
            .await
    }
}

impl Server {
    /// Listens on `config.server.listen` and starts a replica on `stores`.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::Telemetry`].
    pub async fn bind(
        config: &Config,
        stores: Stores,
        clock: Arc<dyn Clock>,
        failpoints: Failpoints,
    ) -> Result<Self, ServerError> {
        let addr = config.server.listen;
        let listen = |why| ServerError::Listen { addr, why };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let exporter = spans::start(&config.telemetry).map_err(ServerError::Telemetry)?;
        let settings = Settings { spans: exporter.spans.clone(), ..config.settings() };
        let metrics = config.telemetry.metrics.then(|| Arc::new(Metrics::new(api::metrics::methods(), clock.wall())));
        let stores = match &metrics {
            Some(metrics) => measured(stores, metrics),
            None => stores,
        };
        let service = Service::measured(stores, settings, clock, failpoints, metrics.clone());
        let mut scrapes = metrics.clone().map(|metrics| Scrapes::new(metrics, service.clone()));
        let mut apart = None;
        if let Some(addr) = config.telemetry.metrics_listen
            && let Some(scrapes) = scrapes.take()
        {
            apart = Some(Apart::bind(addr, scrapes).await?);
        }
        let api = Api { service, draining: CancellationToken::new(), bounds: config.bounds(), scrapes };
        Ok(Self { addr, listener, api, config: config.clone(), metrics, apart, exporter })
    }

    /// The address of the page of metrics, if it has one of its own; its port is never 0.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.apart.as_ref().map(|apart| apart.addr)
    }

    /// The address in force, its port never 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The replica.
    pub fn service(&self) -> &Service {
        &self.api.service
    }

    /// Answers until `shutdown` resolves, then drains: health turns to NOT_SERVING, waiting calls end with DRAINING,
    /// streams move or finish, what is under way is settled, and the port is closed last, so that a client always learns
    /// why.
    ///
    /// # Errors
    /// [`ServerError::Reflection`], [`ServerError::Transport`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { listener, api, config, metrics, apart, exporter, .. } = self;
        let health = HealthReporter::new();
        tell(&health, ServingStatus::Serving).await;
        let (service, draining) = (api.service.clone(), api.draining.clone());
        let routes = routes(api, &health)?;
        let close = CancellationToken::new();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = tonic::transport::Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(ALIVE_EVERY))
            .http2_keepalive_timeout(Some(ALIVE_MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(config.server.connection_streams_max)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .layer(layer::Details { message_bytes_max: config.limits.message_bytes_max, metrics })
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, close.clone().cancelled_owned());
        let closing = close.clone();
        let aside = async {
            match apart {
                Some(apart) => apart.run(closing).await,
                None => Ok(()),
            }
        };
        let mut serving = pin!(async { tokio::try_join!(serving, aside).map(drop) });
        tokio::select! {
            end = &mut serving => return Ok(end?),
            () = shutdown => {}
        }
        tracing::info!("draining");
        tell(&health, ServingStatus::NotServing).await;
        draining.cancel();
        tokio::select! {
            end = &mut serving => return Ok(end?),
            () = service.drain() => {}
        }
        close.cancel();
        if let Ok(end) = tokio::time::timeout(CLOSE_MAX, serving).await {
            end?;
        } else {
            tracing::info!("cutting the connections that are still open");
        }
        exporter.finish().await;
        Ok(())
    }
}

/// Sets the health of the whole and of each service.
async fn tell(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    for name in api::SERVICES {
        health.set_service_status(name, status).await;
    }
}

/// Everything on the port.
fn routes(api: Api, health: &HealthReporter) -> Result<Routes, ServerError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let health = HealthService::from_health_reporter(health.clone());
    Ok(api
        .routes()
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}
