//! Connections, and making them anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisFuture, Value,
};
use tokio::sync::watch;

use super::address::{Address, Options, Server};
use super::failure::Failure;

/// Pauses between attempts to connect: the first, and what it grows to.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long a call waits for a connection that is being made.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Why there is no connection at start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("redis at {place} cannot be used: {why}")]
pub struct OpenError {
    /// Its servers.
    pub place: String,
    /// What was said.
    pub why: String,
}

/// A Redis. Cheap to clone; its connections close when the last clone is dropped.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    options: Options,
    current: watch::Sender<Option<Shared>>,
    /// Counts connections made.
    number: AtomicU64,
    /// Somebody is connecting.
    is_connecting: Mutex<bool>,
}

/// The connection that calls share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) number: u64,
    pub(super) connection: Wire,
}

/// What commands are sent over.
#[derive(Clone)]
pub(super) enum Wire {
    /// To one server.
    One(MultiplexedConnection),
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?})", self.inner.address)
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`OpenError`], also if the first connection cannot be made: a wrong address or password is a mistake to be told,
    /// not an outage to be waited for.
    pub async fn open(address: Address, options: Options) -> Result<Self, OpenError> {
        let inner = Inner {
            address,
            options,
            current: watch::Sender::new(None),
            number: AtomicU64::new(0),
            is_connecting: Mutex::new(false),
        };
        let link = Self { inner: Arc::new(inner) };
        let refused = |why: String| OpenError { place: link.inner.address.shown(), why };
        let connection = link.inner.connect().await.map_err(|failure| refused(failure.why))?;
        link.inner.put(connection);
        Ok(link)
    }

    /// True if keys of different slots are on different servers.
    pub fn is_cluster(&self) -> bool {
        self.inner.options.is_cluster
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Longest wait for an answer.
    pub(super) fn answer_max(&self) -> Duration {
        self.inner.options.answer_max
    }

    /// A connection of one's own to the server that has `key`, for what blocks. Answers are not bounded in time.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn own(&self, _key: &[u8]) -> Result<MultiplexedConnection, Failure> {
        let client = self.inner.client(ProtocolVersion::RESP2)?;
        self.inner.dial(&client, AsyncConnectionConfig::new().set_response_timeout(None)).await
    }

    /// A connection of one's own that is told things: `config` says where they go.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn listening(&self, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, Failure> {
        let client = self.inner.client(ProtocolVersion::RESP3)?;
        self.inner.dial(&client, config).await
    }

    /// The shared connection; one that is being made is waited for a moment.
    pub(super) async fn shared(&self) -> Result<Shared, Failure> {
        if let Some(shared) = self.inner.current.borrow().clone() {
            return Ok(shared);
        }
        self.inner.reconnect();
        let mut current = self.inner.current.subscribe();
        match tokio::time::timeout(WAIT_MAX, current.wait_for(Option::is_some)).await {
            Ok(Ok(shared)) => shared.clone().ok_or_else(|| Failure::unreachable("the connection is gone")),
            _ => Err(Failure::unreachable(format!("no connection to {} yet", self.inner.address.shown()))),
        }
    }

    /// A connection was found to be of no use: the next is made, unless it was already.
    pub(super) fn broken(&self, number: u64) {
        self.inner.current.send_if_modified(|current| {
            let is_it = current.as_ref().is_some_and(|shared| shared.number == number);
            if is_it {
                *current = None;
            }
            is_it
        });
        if self.inner.current.borrow().is_none() {
            self.inner.reconnect();
        }
    }
}

impl Inner {
    fn client(&self, protocol: ProtocolVersion) -> Result<Client, Failure> {
        let server = self.address.servers.first().ok_or_else(|| Failure::unreachable("no server is named"))?;
        let info = self.info(server, protocol).map_err(|error| Failure::unreachable(error.to_string()))?;
        Client::open(info).map_err(|error| Failure::unreachable(error.to_string()))
    }

    fn info(&self, server: &Server, protocol: ProtocolVersion) -> Result<ConnectionInfo, RedisError> {
        let addr = match server {
            Server::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Server::Tcp(host, port) if self.address.tls => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            Server::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let mut login = RedisConnectionInfo::default().set_db(self.address.database).set_protocol(protocol);
        login = login.set_lib_name(&self.options.client_name, env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.address.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.address.password {
            login = login.set_password(password);
        }
        Ok(addr.into_connection_info()?.set_redis_settings(login))
    }

    async fn dial(&self, client: &Client, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, Failure> {
        let config = config.set_connection_timeout(Some(self.options.connect_max));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // Our own limit as well: a name that does not resolve in time is not covered by the other.
        match tokio::time::timeout(self.options.connect_max * 2, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::unreachable(error.to_string())),
            Err(_) => Err(Failure::unreachable(format!("no connection within {:?}", self.options.connect_max * 2))),
        }
    }

    async fn connect(&self) -> Result<Wire, Failure> {
        let client = self.client(ProtocolVersion::RESP2)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.options.answer_max));
        self.dial(&client, config).await.map(Wire::One)
    }

    fn put(&self, connection: Wire) {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.send_replace(Some(Shared { number, connection }));
    }

    /// Connects until it succeeds, unless somebody does already, for as long as anybody needs it.
    fn reconnect(self: &Arc<Self>) {
        if std::mem::replace(&mut *self.is_connecting.lock(), true) {
            return;
        }
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = RECONNECT.0;
            loop {
                let Some(inner) = inner.upgrade() else { return };
                match inner.connect().await {
                    Ok(connection) => {
                        tracing::info!(redis = %inner.address.shown(), "connected again");
                        inner.put(connection);
                        *inner.is_connecting.lock() = false;
                        return;
                    }
                    Err(failure) => {
                        tracing::warn!(redis = %inner.address.shown(), error = failure.why, "no connection yet");
                    }
                }
                drop(inner);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT.1);
            }
        });
    }
}
