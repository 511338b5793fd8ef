//! The combinations of stores under test, and how a case is run on one.

use std::future::Future;
use std::sync::Arc;

use lineshaft::clock::SystemClock;
use lineshaft::config::Config;
use lineshaft::failpoint::Failpoints;
use lineshaft::service::Stores;
use lineshaft::{backend, broker, fused, ledger};

use crate::support::InProcess;
use crate::support::until::soon;

/// Empty stores, and what a server on them says of itself.
pub(crate) struct Room {
    stores: Stores,
    failpoints: Failpoints,
    /// `Guarantees.broker`, `.ledger` and `.backend`.
    pub(crate) name: &'static str,
    pub(crate) fused: bool,
    pub(crate) single_replica: bool,
    pub(crate) priorities: bool,
    pub(crate) inspects: bool,
    pub(crate) finds: bool,
    // Removed after the stores in it are closed, since it is declared last.
    _directory: Option<tempfile::TempDir>,
}

impl Room {
    /// A server on these stores, with the defaults.
    pub(crate) async fn serve(&self) -> InProcess {
        self.serve_with(|_| {}).await
    }

    /// A server on these stores, with a changed configuration.
    pub(crate) async fn serve_with(&self, change: impl FnOnce(&mut Config)) -> InProcess {
        InProcess::failing(self.stores.clone(), self.failpoints.clone(), change).await
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
        name: "memory",
        fused: fuse,
        single_replica: false,
        priorities: options.priorities,
        inspects: options.inspect,
        finds: options.find && options.recall,
        _directory: None,
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
        name: "embedded",
        fused: true,
        single_replica: true,
        priorities: true,
        inspects: true,
        finds: true,
        _directory: Some(directory),
    }
}

/// The same, each step for itself.
#[cfg(feature = "embedded")]
pub(crate) async fn embedded() -> Room {
    Room { failpoints: Failpoints::parse("unfused").expect("a plan"), fused: false, ..embedded_fused().await }
}

/// Runs `body` on a fresh room; one that hangs fails.
pub(crate) async fn run<F: Future<Output = ()>>(room: impl Future<Output = Room>, body: impl FnOnce(Room) -> F) {
    soon("the whole case", async { body(room.await).await }).await;
}

/// Instantiates cases, functions of `$module`, for a room.
macro_rules! cases {
    (@each $open:path, $module:tt, $($case:ident)*) => {
        $(crate::rooms::cases!(@one $open, $module, $case);)*
    };
    (@one $open:path, [$module:ident], $case:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            crate::rooms::run($open(), crate::$module::$case).await;
        }
    };
    ($open:path, $module:ident: $($case:ident)*) => {
        crate::rooms::cases!(@each $open, [$module], $($case)*);
    };
}
pub(crate) use cases;
