//! A Redis Cluster of three masters of a test's own, each a server as `redis.rs` starts it, on ports of this machine.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use lineshaft::link::redis::{Address, Link, Options, slot};
use redis::aio::MultiplexedConnection;

use super::redis::Redis;
use super::until::until;

/// Nodes, each with slots.
const NODES: usize = 3;
/// Ports of nodes are below those that the system gives to connections; each bus is 10,000 higher.
const PORTS: std::ops::Range<u16> = 12_000..22_000;
const BUS: u16 = 10_000;

/// Clusters that no test uses at the moment.
static POOL: Mutex<Vec<Cluster>> = Mutex::new(Vec::new());

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Node>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// The server.
    pub server: Redis,
    /// Where it listens.
    pub port: u16,
    /// What the cluster calls it.
    pub id: String,
}

/// A cluster from the pool. It goes back there when dropped, as starting one takes seconds.
#[derive(Debug)]
pub struct Pooled(Option<Cluster>);

impl Pooled {
    /// An empty cluster that nobody else uses.
    pub async fn take() -> Self {
        let free = POOL.lock().unwrap().pop();
        let cluster = match free {
            Some(cluster) => cluster,
            None => Cluster::start_kept().await,
        };
        for node in &cluster.nodes {
            let mut connection = node.server.connection().await;
            // Those of the test before may still be about to send something.
            for kind in ["normal", "pubsub"] {
                let mut command = redis::cmd("CLIENT");
                command.arg("KILL").arg("TYPE").arg(kind).exec_async(&mut connection).await.unwrap();
            }
            redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
        }
        Self(Some(cluster))
    }
}

impl std::ops::Deref for Pooled {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let (Some(cluster), Ok(mut pool)) = (self.0.take(), POOL.lock()) {
            pool.push(cluster);
        }
    }
}

impl Cluster {
    /// Starts one for the pool.
    async fn start_kept() -> Self {
        Self::started(&[], true).await
    }

    /// Starts one of the test's own; `more` are arguments of each server.
    pub async fn start_with(more: &[&str]) -> Self {
        Self::started(more, false).await
    }

    /// Starts the nodes and waits until they are one.
    async fn started(more: &[&str], is_kept: bool) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Node::start(more, is_kept).await);
        }
        let share = 16_384 / NODES + 1;
        for (i, node) in nodes.iter().enumerate() {
            let (first, last) = (i * share, ((i + 1) * share - 1).min(16_383));
            node.cluster(&["SET-CONFIG-EPOCH", &(i + 1).to_string()]).await;
            node.cluster(&["ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
        }
        for node in &nodes[1..] {
            nodes[0].cluster(&["MEET", "127.0.0.1", &node.port.to_string()]).await;
        }
        let cluster = Self { nodes };
        cluster.settled().await;
        cluster
    }

    /// Returns once all nodes agree that all slots are served.
    pub async fn settled(&self) {
        for node in &self.nodes {
            until("the nodes are a cluster", async || {
                let mut connection = node.server.connection().await;
                let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.ok()?;
                let ranges: Vec<redis::Value> =
                    redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await.ok()?;
                let is_whole = info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
                (is_whole && ranges.len() >= NODES).then_some(())
            })
            .await;
        }
    }

    /// Adds a replica of a node; returns once it has what its master has.
    pub async fn add_replica_of(&self, master: usize, more: &[&str]) -> Node {
        let (node, master) = (Node::start(more, false).await, &self.nodes[master]);
        node.cluster(&["MEET", "127.0.0.1", &master.port.to_string()]).await;
        until("it knows its master", async || {
            let mut command = redis::cmd("CLUSTER");
            command.arg("REPLICATE").arg(&master.id);
            command.exec_async(&mut node.connection().await).await.ok()
        })
        .await;
        node.follows().await;
        node
    }

    /// Its address, with each node.
    pub fn url(&self) -> String {
        let places: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis://{}", places.join(","))
    }

    /// A link to it.
    pub async fn link(&self) -> Link {
        let address = Address::parse(&self.url()).unwrap();
        let options = Options { is_cluster: true, answer_max: Duration::from_secs(3), ..Options::default() };
        until("the cluster answers", async || Link::open(address.clone(), options.clone()).await.ok()).await
    }

    /// The number of the node that has the slot of `key` now.
    pub async fn owner(&self, key: &str) -> usize {
        for (i, node) in self.nodes.iter().enumerate() {
            let asked = redis::cmd("EXISTS").arg(key).query_async::<redis::Value>(&mut node.connection().await).await;
            if asked.is_ok() {
                return i;
            }
        }
        panic!("no node has {key}");
    }

    /// Moves the slot of `key` to another node, a key at a time, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, key: &str, to: usize) {
        let slot = slot(key.as_bytes()).to_string();
        let (from, to) = (&self.nodes[self.owner(key).await], &self.nodes[to]);
        to.cluster(&["SETSLOT", &slot, "IMPORTING", &from.id]).await;
        from.cluster(&["SETSLOT", &slot, "MIGRATING", &to.id]).await;
        let mut connection = from.connection().await;
        loop {
            let mut command = redis::cmd("CLUSTER");
            let keys: Vec<Vec<u8>> =
                command.arg("GETKEYSINSLOT").arg(&slot).arg(1).query_async(&mut connection).await.unwrap();
            let Some(key) = keys.first() else { break };
            let mut command = redis::cmd("MIGRATE");
            command.arg("127.0.0.1").arg(to.port).arg(&key[..]).arg(0).arg(5_000);
            command.exec_async(&mut connection).await.unwrap();
        }
        for node in [to, from].into_iter().chain(&self.nodes) {
            node.cluster(&["SETSLOT", &slot, "NODE", &to.id]).await;
        }
    }
}

impl Node {
    /// Starts a server that is no node of anything yet.
    async fn start(more: &[&str], is_kept: bool) -> Self {
        let port = free_port();
        let (own, bus) = (port.to_string(), (port + BUS).to_string());
        let arguments = ["--port", &own, "--cluster-port", &bus, "--bind", "127.0.0.1", "--cluster-enabled", "yes"];
        let arguments = [&arguments[..], &["--cluster-node-timeout", "5000"], more].concat();
        let server = if is_kept { Redis::start_kept(&arguments).await } else { Redis::start(&arguments).await };
        let id = redis::cmd("CLUSTER").arg("MYID").query_async(&mut server.connection().await).await.unwrap();
        Self { server, port, id }
    }

    /// Takes the place of its master, which becomes its replica; returns once it has.
    pub async fn take_over(&self) {
        self.follows().await;
        self.cluster(&["FAILOVER"]).await;
        self.leads().await;
    }

    /// Returns once it is a master.
    pub async fn leads(&self) {
        until("it is a master", async || {
            let info = self.replication().await;
            info.contains("role:master").then_some(())
        })
        .await;
    }

    /// Returns once it is a replica that has what its master has.
    async fn follows(&self) {
        until("it has what its master has", async || {
            let info = self.replication().await;
            info.contains("master_link_status:up").then_some(())
        })
        .await;
    }

    async fn replication(&self) -> String {
        redis::cmd("INFO").arg("replication").query_async(&mut self.connection().await).await.unwrap()
    }

    /// A plain connection.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.server.connection().await
    }

    async fn cluster(&self, arguments: &[&str]) {
        let mut connection = self.connection().await;
        redis::cmd("CLUSTER").arg(arguments).exec_async(&mut connection).await.unwrap();
    }
}

/// A port that is free, and its bus.
pub fn free_port() -> u16 {
    loop {
        let chance = u64::try_from(uuid::Uuid::new_v4().as_u128() % u128::from(PORTS.end - PORTS.start)).unwrap();
        let port = PORTS.start + u16::try_from(chance).unwrap();
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + BUS) {
            return port;
        }
    }
}
