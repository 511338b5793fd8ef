//! A Redis, a server on it, and ways to look at both.

use lineshaft_client::Client;
use lineshaft_client::proto::queue_service_client::QueueServiceClient;
use redis::aio::MultiplexedConnection;
use tonic::transport::Channel;

use crate::support::redis::Redis;
use crate::support::{Options, Process};

/// The queue of all tests, where they need but one.
pub(crate) const QUEUE: &str = "shared";

/// Skips a test where there is no Redis, or no program with the real library.
macro_rules! needs_machinery {
    () => {
        let missing = crate::support::redis::Redis::missing();
        if let Some(why) = missing.or_else(crate::go::missing) {
            use std::io::Write;
            // Not `eprintln`, which the test runner keeps to itself when a test passes.
            drop(writeln!(std::io::stderr(), "skipped {}: {why}", module_path!()));
            return;
        }
    };
}
pub(crate) use needs_machinery;

/// One of each, on one another. What is declared first is ended first.
pub(crate) struct World {
    pub(crate) server: Process,
    pub(crate) client: Client,
    pub(crate) redis: Redis,
    pub(crate) directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these variables for the server.
    pub(crate) async fn with(variables: &[(&str, &str)]) -> Self {
        let redis = Redis::start(&[]).await;
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default()
            .env("BROKER", &redis.url())
            .env("DEFAULT_QUEUE", QUEUE)
            .env("LINESHAFT_LEASES_HEARTBEAT_INTERVAL", "500ms")
            .env("LINESHAFT_LEASES_LEASE_DURATION", "2s");
        let options = variables.iter().fold(options, |options, (name, value)| options.env(name, value));
        let server = Process::start(&directory.path().join("data"), options);
        let client = Client::builder().address(server.url()).default_queue(QUEUE).connect().await.unwrap();
        Self { server, client, redis, directory }
    }

    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        self.redis.connection().await
    }

    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        self.client.queue_service()
    }
}

/// How often each command was carried out, since the counts were reset: commands of scripts and of transactions, too.
pub(crate) async fn calls(connection: &mut MultiplexedConnection, command: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = info.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// All commands since the counts were reset.
pub(crate) async fn commands(connection: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query_async(connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().parse().unwrap()
}

pub(crate) async fn run(connection: &mut MultiplexedConnection, command: &[&str]) {
    let (name, arguments) = command.split_first().unwrap();
    redis::cmd(name).arg(arguments).exec_async(connection).await.unwrap();
}

pub(crate) async fn length(connection: &mut MultiplexedConnection, key: &str) -> u64 {
    redis::cmd("LLEN").arg(key).query_async(connection).await.unwrap()
}
