//! Connections, and making them anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError,
};
use tokio::sync::watch;

use super::address::{Address, Login, Options, Server};
use super::call::Access;
use super::cluster::Cluster;
use super::failure::Failure;
use super::own::Renewal;
use super::sentinel::{self, Master};
use super::tls::told;
use super::wire::Wire;

/// Pauses between attempts to connect: the first, and what it grows to.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long a call waits for a connection that is being made.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// How long a start waits for a server that reads its data, and how long between two looks.
const LOADING_MAX: Duration = Duration::from_secs(600);
const LOADING_PAUSE: Duration = Duration::from_millis(250);
/// How much later than its nodes a cluster is taken to be silent.
const CLUSTER_GRACE: Duration = Duration::from_millis(250);

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
    /// Behind sentinels: the master.
    master: Master,
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
        let place = address.shown();
        let refused = |failure: Failure| OpenError { place: place.clone(), why: failure.why };
        let link = Self::connected(address, options).await.map_err(refused)?;
        link.loaded().await.map_err(refused)?;
        Ok(link)
    }

    /// Waits while the server reads its data, as one does that was started a moment ago, perhaps together with us.
    async fn loaded(&self) -> Result<(), Failure> {
        let begun = tokio::time::Instant::now();
        let mut is_told = false;
        loop {
            match self.command(Access::Read, &redis::cmd("PING")).await {
                Err(failure) if failure.is_loading() && begun.elapsed() < LOADING_MAX => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(redis = %self.inner.address.shown(), "waiting: it reads its data");
                    }
                    tokio::time::sleep(LOADING_PAUSE).await;
                }
                Err(failure) if failure.is_loading() => return Err(failure),
                Err(failure) if failure.wants_password() => {
                    return Err(Failure::unreachable("it asks for a password, and the URL has none"));
                }
                // Whatever else is wrong is told by what is asked of it next.
                _ => return Ok(()),
            }
        }
    }

    /// Connects to a node of a cluster.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn open_one(address: Address, options: Options) -> Result<Self, Failure> {
        // Boxed: opening a cluster opens links to its nodes.
        Box::pin(Self::connected(address, options)).await
    }

    /// A link that connects when it is first used.
    pub(super) fn unconnected(address: Address, options: Options) -> Self {
        let inner = Inner {
            address,
            options,
            current: watch::Sender::new(None),
            master: Master::default(),
            number: AtomicU64::new(0),
            is_connecting: Mutex::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    async fn connected(address: Address, options: Options) -> Result<Self, Failure> {
        let link = Self::unconnected(address, options);
        let connection = link.inner.connect().await?;
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
        // The nodes of a cluster have limits of their own, which say more of what was written: they come first.
        self.inner.options.answer_max + if self.is_cluster() { CLUSTER_GRACE } else { Duration::ZERO }
    }

    /// The nodes; `None`: it is no cluster.
    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        match &self.inner.current.borrow().as_ref()?.connection {
            Wire::Cluster(cluster, _) => Some(Arc::clone(cluster)),
            Wire::One(_) => None,
        }
    }

    /// Tells when the shared connection was made anew from now on. In a cluster, whose nodes are connected to one by one,
    /// never.
    pub fn renewal(&self) -> Renewal {
        Renewal::after(self.inner.number.load(Ordering::Relaxed), self.inner.current.subscribe())
    }

    /// A connection beside the shared one, to the same server.
    pub(super) async fn beside(
        &self,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Renewal), Failure> {
        // Counted before: what is made anew meanwhile may lead elsewhere.
        let renewal = self.renewal();
        Ok((self.inner.reach(protocol, config).await?, renewal))
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
        // The nodes of a cluster are made anew one by one.
        if self.is_cluster() {
            return;
        }
        self.inner.current.send_if_modified(|current| {
            let is_it = current.as_ref().is_some_and(|shared| shared.number == number);
            if is_it {
                *current = None;
                self.inner.master.forget();
            }
            is_it
        });
        if self.inner.current.borrow().is_none() {
            self.inner.reconnect();
        }
    }
}

impl Inner {
    /// A connection to the server, or to the master that the sentinels name.
    async fn reach(
        &self,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Failure> {
        let Some(name) = &self.options.master_name else {
            let server = self.address.servers.first().ok_or_else(|| Failure::unreachable("no server is named"))?;
            return self.dial(&self.client(server, self.login(protocol)).await?, config).await;
        };
        let server = match self.master.known() {
            Some(server) => server,
            None => self.ask(name).await?,
        };
        let reached = async {
            let mut connection = self.dial(&self.client(&server, self.login(protocol)).await?, config).await?;
            let asked = tokio::time::timeout(self.options.connect_max, sentinel::is_master(&mut connection)).await;
            asked.map_err(|_| Failure::unreachable("the master does not answer"))??;
            Ok(connection)
        };
        let reached = reached.await;
        match &reached {
            Ok(_) => self.master.found(server),
            Err(_) => self.master.forget(),
        }
        reached
    }

    /// Asks the sentinels, one after the other, where the master of this name is.
    async fn ask(&self, name: &str) -> Result<Server, Failure> {
        let sentinels = &self.address.servers;
        let share = sentinel::ASK_MAX / u32::try_from(sentinels.len().max(1)).unwrap_or(u32::MAX);
        let mut last = Failure::unreachable("no sentinel is named");
        for number in self.master.order(sentinels.len()) {
            let asked = async {
                let login = self.options.sentinel.put_in(RedisConnectionInfo::default());
                let client = self.client(&sentinels[number], login.set_protocol(ProtocolVersion::RESP2)).await?;
                sentinel::ask(&mut self.dial(&client, AsyncConnectionConfig::new()).await?, name).await
            };
            let answer = tokio::time::timeout(share, asked).await;
            match answer.unwrap_or_else(|_| Err(Failure::unreachable(format!("no answer within {share:?}")))) {
                Ok(server) => {
                    self.master.answered(number);
                    return Ok(server);
                }
                Err(failure) => last = failure,
            }
        }
        Err(Failure::unreachable(format!("no sentinel names the master {name}; the last one asked: {}", last.why)))
    }

    async fn client(&self, server: &Server, login: RedisConnectionInfo) -> Result<Client, Failure> {
        let unreachable = |error: RedisError| Failure::unreachable(error.to_string());
        let addr = match server {
            Server::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Server::Tcp(host, port) if self.address.tls => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            Server::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let is_tls = matches!(addr, ConnectionAddr::TcpTls { .. });
        let info: ConnectionInfo = addr.into_connection_info().map_err(unreachable)?.set_redis_settings(login);
        if is_tls { self.options.tls.client(info).await } else { Client::open(info).map_err(unreachable) }
    }

    /// How to log in at the server itself: the password of Machinery's URL is the master's, sentinels have their own.
    fn login(&self, protocol: ProtocolVersion) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default().set_db(self.address.database).set_protocol(protocol);
        login = login.set_lib_name(&self.options.client_name, env!("CARGO_PKG_VERSION"));
        let (user, password) = (self.address.user.clone(), self.address.password.clone());
        Login { user, password }.put_in(login)
    }

    async fn dial(&self, client: &Client, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, Failure> {
        let config = config.set_connection_timeout(Some(self.options.connect_max));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // Our own limit as well: a name that does not resolve in time is not covered by the other.
        match tokio::time::timeout(self.options.connect_max * 2, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::unreachable(told(client, &error))),
            Err(_) => Err(Failure::unreachable(format!("no connection within {:?}", self.options.connect_max * 2))),
        }
    }

    async fn connect(&self) -> Result<Wire, Failure> {
        if self.options.is_cluster {
            let cluster = Cluster::open(&self.address, &self.options).await?;
            return Ok(Wire::Cluster(Arc::new(cluster), self.options.answer_max));
        }
        // Whatever the last connection led to may be no master any more.
        self.master.forget();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.options.answer_max));
        self.reach(ProtocolVersion::RESP2, config).await.map(Wire::One)
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
