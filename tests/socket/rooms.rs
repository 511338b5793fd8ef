//! The combinations of stores under test, and how a case is run on one.

use std::io::Write;
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use lineshaft::clock::SystemClock;
use lineshaft::config::Config;
use lineshaft::failpoint::Failpoints;
#[cfg(feature = "redis")]
use lineshaft::link::redis::Link;
use lineshaft::service::Stores;
use lineshaft::{backend, broker, fused, ledger};

use crate::support::InProcess;
#[cfg(feature = "redis")]
use crate::support::redis::Redis;
#[cfg(feature = "redis")]
use crate::support::redis_cluster::Pooled;
use crate::support::until::soon;

/// Empty stores, and what a server on them says of itself.
pub(crate) struct Room {
    stores: Stores,
    failpoints: Failpoints,
    /// `Guarantees.broker`, `.ledger` and `.backend`.
    pub(crate) names: [&'static str; 3],
    pub(crate) fused: bool,
    pub(crate) single_replica: bool,
    pub(crate) priorities: bool,
    pub(crate) inspects: bool,
    pub(crate) finds: bool,
    // Removed after the stores in it are closed, since it is declared last.
    _directory: Option<tempfile::TempDir>,
    #[cfg(feature = "redis")]
    _redis: Option<Servers>,
}

/// The servers of a Redis.
#[cfg(feature = "redis")]
enum Servers {
    One(Redis),
    Cluster(Pooled),
}

#[cfg(feature = "redis")]
impl Servers {
    fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    async fn link(&self) -> Link {
        match self {
            Self::One(redis) => redis.link().await,
            Self::Cluster(cluster) => cluster.link().await,
        }
    }
}

impl Room {
    /// A server on these stores, with the defaults.
    pub(crate) async fn serve(&self) -> InProcess {
        self.serve_with(|_| {}).await
    }

    /// A server on these stores, with a changed configuration.
    pub(crate) async fn serve_with(&self, change: impl FnOnce(&mut Config)) -> InProcess {
        #[cfg_attr(not(feature = "redis"), expect(unused_mut))]
        let mut stores = self.stores.clone();
        #[cfg(feature = "redis")]
        if let Some(redis) = &self._redis {
            // A server that ends gives back what it holds: each has a hold of its own.
            let opened = broker::redis::Broker::open(redis.link().await, Default::default(), Arc::new(SystemClock));
            stores.broker = Arc::new(opened.await.expect("the broker"));
        }
        InProcess::failing(stores, self.failpoints.clone(), change).await
    }
}

fn of_memory(options: broker::memory::Options, fuse: bool) -> Room {
    let clock = Arc::new(SystemClock);
    let broker = Arc::new(broker::memory::Broker::with(clock.clone(), options));
    let ledger = Arc::new(ledger::memory::Ledger::new(clock));
    let backend = Arc::new(backend::memory::Backend::new());
    let fused = fuse.then(|| {
        let all = fused::memory::Fused::new(broker.clone(), ledger.clone(), backend.clone());
        Arc::new(all) as Arc<dyn fused::Fused>
    });
    Room {
        stores: Stores { broker, ledger, backend, fused },
        failpoints: Failpoints::default(),
        names: ["memory"; 3],
        fused: fuse,
        single_replica: false,
        priorities: options.priorities,
        inspects: options.inspect,
        finds: options.find && options.recall,
        _directory: None,
        #[cfg(feature = "redis")]
        _redis: None,
    }
}

/// Three stores, each step for itself.
pub(crate) async fn memory() -> Room {
    of_memory(broker::memory::Options::default(), false)
}

/// One store.
pub(crate) async fn memory_fused() -> Room {
    of_memory(broker::memory::Options::default(), true)
}

/// A broker that cannot be asked for a body again: the ledger keeps it with the lease.
pub(crate) async fn memory_without_recall() -> Room {
    of_memory(broker::memory::Options { recall: false, ..Default::default() }, false)
}

/// A broker without any power that it may lack.
pub(crate) async fn memory_plain() -> Room {
    let options = broker::memory::Options {
        by_name: false,
        recall: false,
        inspect: false,
        find: false,
        priorities: false,
        exact_redelivery: false,
        stale_ack: broker::StaleAck::Undetected,
    };
    of_memory(options, false)
}

/// One store in a directory.
#[cfg(feature = "embedded")]
pub(crate) async fn embedded_fused() -> Room {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(SystemClock);
    let stores = fused::embedded::open(directory.path(), Default::default(), clock).expect("the stores");
    let fused::embedded::Stores { broker, ledger, backend, fused, .. } = stores;
    Room {
        stores: Stores { broker, ledger, backend, fused: Some(fused) },
        failpoints: Failpoints::default(),
        names: ["embedded"; 3],
        fused: true,
        single_replica: true,
        priorities: true,
        inspects: true,
        finds: true,
        _directory: Some(directory),
        #[cfg(feature = "redis")]
        _redis: None,
    }
}

/// The same, each step for itself.
#[cfg(feature = "embedded")]
pub(crate) async fn embedded() -> Room {
    Room { failpoints: Failpoints::parse("unfused").expect("a plan"), fused: false, ..embedded_fused().await }
}

/// A Redis of its own for all three; `None`: there is no Redis here.
#[cfg(feature = "redis")]
pub(crate) async fn redis() -> Option<Room> {
    if Redis::missing().is_some() {
        return None;
    }
    on_redis(Servers::One(Redis::start(&[]).await), false).await
}

/// A Redis Cluster for all three.
#[cfg(feature = "redis")]
pub(crate) async fn redis_cluster() -> Option<Room> {
    if Redis::missing().is_some() {
        return None;
    }
    on_redis(Servers::Cluster(Pooled::take().await), false).await
}

/// A broker on a Redis of its own, and the embedded store for the rest.
#[cfg(all(feature = "redis", feature = "embedded"))]
pub(crate) async fn redis_and_embedded() -> Option<Room> {
    if Redis::missing().is_some() {
        return None;
    }
    on_redis(Servers::One(Redis::start(&[]).await), true).await
}

#[cfg(feature = "redis")]
async fn on_redis(redis: Servers, embeds: bool) -> Option<Room> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config { broker: Some(redis.url()), ..Config::default() };
    if embeds {
        let place = format!("embedded:{}", directory.path().display());
        (config.result_backend, config.server.ledger) = (Some(place.clone()), Some(place));
    }
    let named = lineshaft::config::combination(&config).expect("stores that go together");
    let stores = lineshaft::server::open(&named, &config, Arc::new(SystemClock)).await.expect("the stores");
    let other = if embeds { "embedded" } else { "redis" };
    let is_cluster = matches!(redis, Servers::Cluster(_));
    Some(Room {
        stores,
        failpoints: Failpoints::default(),
        names: ["redis", other, other],
        fused: !embeds && !is_cluster,
        single_replica: embeds,
        priorities: false,
        inspects: true,
        finds: false,
        _directory: Some(directory),
        _redis: Some(redis),
    })
}

/// A room that is being opened; `None`: its store is not installed.
pub(crate) type Opening = LocalBoxFuture<'static, Option<Room>>;

/// Runs `case` on a fresh room; one that hangs fails. Without a room, nothing is run.
///
/// What it is given is of one type for all rooms and cases, so that each is compiled once.
pub(crate) fn run(open: fn() -> Opening, case: fn(Room) -> LocalBoxFuture<'static, ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(soon("the whole case", async {
        match open().await {
            Some(room) => case(room).await,
            // Not `eprintln`, which the test runner keeps to itself when a test passes.
            None => drop(writeln!(std::io::stderr(), "skipped: the store of this room is not installed")),
        }
    }));
}

/// Lists cases, functions of the module named: `once` boxes them, anything else opens a room to make tests for.
///
/// They are boxed in one place, as whatever boxes a future also compiles what drops it.
macro_rules! cases {
    (once, $module:ident: $($case:ident)*) => {
        $(pub(crate) fn $case(room: crate::rooms::Room) -> futures::future::LocalBoxFuture<'static, ()> {
            Box::pin(crate::$module::$case(room))
        })*
    };
    ($open:path, $module:ident: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::rooms::run($open, crate::once::$case);
        })*
    };
}
pub(crate) use cases;
