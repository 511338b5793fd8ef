//! The stores of a server, opened as its configuration names them.

use std::path::Path;
use std::sync::Arc;

use super::ServerError;
#[cfg(feature = "redis")]
use crate::backend::Backend;
use crate::clock::Clock;
use crate::config::{Combination, Config, Place};
#[cfg(feature = "redis")]
use crate::ledger::Ledger;
#[cfg(feature = "redis")]
use crate::link::redis::{Address, Link};
use crate::service::Stores;
use crate::telemetry::metrics::Metrics;
use crate::{backend, broker, fused, ledger};

/// New stores in memory, as one, for servers of which nothing has to outlive the process. They take as much memory as what
/// is sent to them, until it ends and its results expire.
pub fn in_memory(clock: Arc<dyn Clock>) -> Stores {
    let broker = Arc::new(broker::memory::Broker::new(Arc::clone(&clock)));
    let ledger = Arc::new(ledger::memory::Ledger::new(clock));
    let backend = Arc::new(backend::memory::Backend::new());
    let fused = Arc::new(fused::memory::Fused::new(broker.clone(), ledger.clone(), backend.clone()));
    Stores { broker, ledger, backend, fused: Some(fused) }
}

/// The same stores, their calls counted in `metrics`.
pub fn measured(stores: Stores, metrics: &Metrics) -> Stores {
    let name = stores.ledger.name();
    Stores {
        broker: metrics.stores.broker(stores.broker),
        ledger: metrics.stores.ledger(stores.ledger),
        backend: metrics.stores.backend(stores.backend),
        fused: stores.fused.map(|fused| metrics.stores.fused(fused, name)),
    }
}

/// Opens the stores that a configuration names.
///
/// # Errors
/// [`ServerError::Store`]: one of them cannot be used; nothing that is stored was changed.
#[cfg_attr(not(feature = "redis"), expect(unused_variables))]
pub async fn open(named: &Combination, config: &Config, clock: Arc<dyn Clock>) -> Result<Stores, ServerError> {
    let embedded = named.directories().first().map(|dir| embedded(dir, &clock)).transpose()?;
    match &named.broker {
        Place::Embedded(_) => embedded.ok_or_else(|| ServerError::Store("no directory is named".to_owned())),
        #[cfg(feature = "redis")]
        Place::Redis(_) => on_redis(named, config, clock, embedded).await,
    }
}

/// A broker on Redis, with the ledger and the backend that are named.
#[cfg(feature = "redis")]
async fn on_redis(
    named: &Combination,
    config: &Config,
    clock: Arc<dyn Clock>,
    embedded: Option<Stores>,
) -> Result<Stores, ServerError> {
    let mut links: Vec<(Address, Link)> = Vec::new();
    for place in [&named.broker, &named.ledger, &named.backend] {
        if let Place::Redis(address) = place
            && !links.iter().any(|(known, _)| known == address)
        {
            let link = Link::open(address.clone(), config.redis.options(address)).await;
            links.push((address.clone(), link.map_err(|why| ServerError::Store(why.to_string()))?));
        }
    }
    let link = |place: &Place| match place {
        Place::Redis(address) => links.iter().find(|(known, _)| known == address).map(|(_, link)| link.clone()),
        Place::Embedded(_) => None,
    };
    let missing = || ServerError::Store("a store is named that was not opened".to_owned());
    let options = broker_options(config);
    let broker = broker::redis::Broker::open(link(&named.broker).ok_or_else(missing)?, options, Arc::clone(&clock));
    let broker = Arc::new(broker.await.map_err(|why| ServerError::Store(why.to_string()))?);
    if let Some(link) = link(&named.broker).filter(|link| named.is_one() && !link.is_cluster()) {
        return Ok(all_on_redis(link, broker, clock));
    }
    let ledger: Arc<dyn Ledger> = match (link(&named.ledger), &embedded) {
        (Some(link), _) => Arc::new(ledger::redis::Ledger::new(link, clock)),
        (None, Some(embedded)) => Arc::clone(&embedded.ledger),
        (None, None) => return Err(missing()),
    };
    let backend: Arc<dyn Backend> = match (link(&named.backend), &embedded) {
        (Some(link), _) => Arc::new(backend::redis::Backend::new(link)),
        (None, Some(embedded)) => Arc::clone(&embedded.backend),
        (None, None) => return Err(missing()),
    };
    Ok(Stores { broker, ledger, backend, fused: None })
}

/// How a broker uses its Redis.
#[cfg(feature = "redis")]
fn broker_options(config: &Config) -> broker::redis::Options {
    let (default, set) = (broker::redis::Options::default(), &config.redis);
    let connections = set.blocking_connections_max.and_then(|most| usize::try_from(most).ok());
    broker::redis::Options {
        default_queue: config.settings().default_queue,
        delayed_tasks_key: set.delayed_tasks_key.clone().unwrap_or(default.delayed_tasks_key),
        dead_after: set.replica_timeout.map_or(default.dead_after, Into::into),
        blocking_connections_max: connections.unwrap_or(default.blocking_connections_max),
        ..default
    }
}

/// Ledger and backend on the Redis of a broker, as one store.
#[cfg(feature = "redis")]
fn all_on_redis(link: Link, broker: Arc<broker::redis::Broker>, clock: Arc<dyn Clock>) -> Stores {
    let ledger = Arc::new(ledger::redis::Ledger::new(link.clone(), Arc::clone(&clock)));
    let backend = Arc::new(backend::redis::Backend::new(link.clone()));
    let rooms = (Arc::clone(&broker), Arc::clone(&ledger), Arc::clone(&backend));
    let fused = fused::redis::Fused::new(link, rooms.0, rooms.1, rooms.2, clock);
    Stores { broker, ledger, backend, fused: Some(Arc::new(fused)) }
}

/// The embedded stores in a directory, as one.
#[cfg(feature = "embedded")]
fn embedded(dir: &Path, clock: &Arc<dyn Clock>) -> Result<Stores, ServerError> {
    let stores = crate::fused::embedded::open(dir, crate::engine::Options::default(), Arc::clone(clock))
        .map_err(|why| ServerError::Store(why.to_string()))?;
    Ok(Stores { broker: stores.broker, ledger: stores.ledger, backend: stores.backend, fused: Some(stores.fused) })
}

#[cfg(not(feature = "embedded"))]
fn embedded(_: &Path, _: &Arc<dyn Clock>) -> Result<Stores, ServerError> {
    Err(ServerError::Store("this build has no store of its own: build with `--features embedded`".to_owned()))
}

/// Makes a data directory from a backup; answers how many records are in it.
///
/// # Errors
/// [`ServerError::Store`]: there is no store in `directory` then.
#[cfg(feature = "embedded")]
pub fn restore(
    from: &mut dyn std::io::Read,
    directory: &std::path::Path,
    clock: &dyn Clock,
) -> Result<u64, ServerError> {
    let restored = crate::fused::embedded::restore(from, directory, clock);
    restored.map(|restored| restored.records).map_err(|why| ServerError::Store(why.to_string()))
}

/// Refuses: this build has no store.
///
/// # Errors
/// [`ServerError::Store`].
#[cfg(not(feature = "embedded"))]
pub fn restore(_: &mut dyn std::io::Read, _: &std::path::Path, _: &dyn Clock) -> Result<u64, ServerError> {
    Err(ServerError::Store("this build has no store: build with `--features embedded`".to_owned()))
}
