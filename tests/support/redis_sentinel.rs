//! A master, its replica and sentinels of a test's own, on ports of this machine.

use std::process::Child;
use std::sync::Mutex;
use std::time::Duration;

use lineshaft::link::redis::{Address, Link, Options};

use super::redis::{Redis, guarded};
use super::redis_cluster::free_port;
use super::until::until;

/// What the sentinels call the master.
const NAME: &str = "mymaster";
/// How long a master that nobody shall miss may be silent: a busy machine is no dead one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Groups that no test uses at the moment.
static POOL: Mutex<Vec<Sentinels>> = Mutex::new(Vec::new());

/// Servers and those that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// A master and a replica at first.
    pub servers: Vec<Redis>,
    ports: Vec<u16>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    guard: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // An error says that it is gone.
        let _ = self.guard.wait();
    }
}

/// A group from the pool. It goes back there when dropped.
#[derive(Debug)]
pub struct Pooled(Option<Sentinels>);

impl Pooled {
    /// An empty group that nobody else uses.
    pub async fn take() -> Self {
        let free = POOL.lock().unwrap().pop();
        let group = match free {
            Some(group) => group,
            None => Sentinels::started(1, PATIENCE, true).await,
        };
        let mut connection = group.servers[0].connection().await;
        // Those of the test before may still be about to send something.
        for kind in ["normal", "pubsub"] {
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).exec_async(&mut connection).await.unwrap();
        }
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
        Self(Some(group))
    }
}

impl std::ops::Deref for Pooled {
    type Target = Sentinels;

    fn deref(&self) -> &Sentinels {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let (Some(group), Ok(mut pool)) = (self.0.take(), POOL.lock()) {
            pool.push(group);
        }
    }
}

impl Sentinels {
    /// Starts three sentinels that miss a master after a second.
    pub async fn start() -> Self {
        Self::started(3, Duration::from_secs(1), false).await
    }

    async fn started(count: usize, patience: Duration, is_kept: bool) -> Self {
        let mut group = Self { servers: Vec::new(), ports: Vec::new(), sentinels: Vec::new() };
        for _ in 0..2 {
            let port = free_port();
            let own = port.to_string();
            let mut arguments = vec!["--port", &own, "--bind", "127.0.0.1"];
            let master = group.ports.first().map(|port| format!("127.0.0.1 {port}"));
            if let Some(master) = &master {
                arguments.extend(["--replicaof", master]);
            }
            let server = if is_kept { Redis::start_kept(&arguments).await } else { Redis::start(&arguments).await };
            group.servers.push(server);
            group.ports.push(port);
        }
        until("the replica follows", async || {
            let mut connection = group.servers[1].connection().await;
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await.ok()?;
            info.contains("master_link_status:up").then_some(())
        })
        .await;
        for _ in 0..count {
            group.sentinels.push(Sentinel::start(group.ports[0], count / 2 + 1, patience));
        }
        group.agreed().await;
        group
    }

    /// Returns once each sentinel knows the replica and all others.
    async fn agreed(&self) {
        for sentinel in &self.sentinels {
            until("the sentinels know each other", async || {
                let client = redis::Client::open(format!("redis://127.0.0.1:{}", sentinel.port)).unwrap();
                let mut connection = client.get_multiplexed_async_connection().await.ok()?;
                let mut ask = async |what: &str| -> Option<usize> {
                    let mut command = redis::cmd("SENTINEL");
                    let found: Vec<redis::Value> =
                        command.arg(what).arg(NAME).query_async(&mut connection).await.ok()?;
                    Some(found.len())
                };
                let is_whole = ask("replicas").await? == 1 && ask("sentinels").await? + 1 == self.sentinels.len();
                is_whole.then_some(())
            })
            .await;
        }
    }

    /// Its address: that of each sentinel.
    pub fn url(&self) -> String {
        let places: Vec<String> = self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis://{}", places.join(","))
    }

    /// The address of its first sentinel alone.
    pub fn first_sentinel(&self) -> String {
        format!("redis://127.0.0.1:{}", self.sentinels[0].port)
    }

    /// How to follow the master.
    pub fn options() -> Options {
        Options { master_name: Some(NAME.to_owned()), answer_max: Duration::from_secs(2), ..Options::default() }
    }

    /// A link to the master.
    pub async fn link(&self) -> Link {
        let address = Address::parse(&self.url()).unwrap();
        until("a master answers", async || Link::open(address.clone(), Self::options()).await.ok()).await
    }

    /// Ends one sentinel.
    pub fn kill_sentinel(&mut self, number: usize) {
        let sentinel = &mut self.sentinels[number];
        drop(sentinel.guard.stdin.take());
        sentinel.guard.wait().unwrap();
    }
}

impl Sentinel {
    fn start(master: u16, quorum: usize, patience: Duration) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let (path, patience) = (directory.path().display(), patience.as_millis());
        let file = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {path}\nsentinel monitor {NAME} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {NAME} {patience}\nsentinel failover-timeout {NAME} 4000\n"
        );
        std::fs::write(&file, text).unwrap();
        let guard = guarded("").arg(&file).arg("--sentinel").spawn().unwrap();
        Self { guard, port, _directory: directory }
    }
}
