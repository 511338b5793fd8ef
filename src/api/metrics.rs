//! The page of metrics: what is counted, and what is read for it at each scrape.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::sync::Mutex;
use tonic::service::Routes;

use crate::clock::Instant;
use crate::service::{Service, queues};
use crate::telemetry::exposition::CONTENT_TYPE;
use crate::telemetry::metrics::{Metrics, Now, Queue};

/// Queues that are read for one scrape, in order of their names.
const QUEUES_MAX: usize = 1_000;
/// What was read is told again for so long: more scrapers, or faster ones, cost the stores nothing.
const FRESH: Duration = Duration::from_secs(2);
/// Longest wait for the stores; a scraper's own patience is 10 s by default.
const READ_MAX: Duration = Duration::from_secs(2);

/// Answers scrapes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scrapes {
    metrics: Arc<Metrics>,
    service: Service,
    read: Arc<Mutex<Option<Read>>>,
}

/// The queues as they were read.
#[derive(Debug, Clone)]
struct Read {
    at: Instant,
    queues: Option<Vec<Queue>>,
    are_more: bool,
}

impl Scrapes {
    /// Tells `metrics`, and what `service` knows at the time.
    pub fn new(metrics: Arc<Metrics>, service: Service) -> Self {
        Self { metrics, service, read: Arc::default() }
    }

    /// A port of its own for the page.
    pub fn routes(self) -> Routes {
        Routes::from(self.router())
    }

    /// `/metrics`.
    pub(super) fn router(self) -> Router {
        let page = move || {
            let scrapes = self.clone();
            async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], scrapes.page().await) }
        };
        Router::new().route("/metrics", get(page))
    }

    async fn page(&self) -> String {
        let read = self.queues().await;
        let attached = self.service.attached();
        self.metrics.page(&Now {
            queues: read.queues,
            are_more: read.are_more,
            sessions: attached.sessions,
            slots_free: attached.slots_free,
            spans_dropped: self.service.settings().spans.dropped(),
        })
    }

    /// Reads the queues, one scrape at a time, unless they were read just now.
    async fn queues(&self) -> Read {
        let mut last = self.read.lock().await;
        if let Some(read) = last.as_ref().filter(|read| read.at.elapsed() < FRESH) {
            return read.clone();
        }
        let found = tokio::time::timeout(READ_MAX, self.service.queues(None, "", QUEUES_MAX)).await;
        let (queues, are_more) = match found {
            Ok(Ok(page)) => (Some(page.queues.into_iter().map(queue).collect()), page.has_more),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the queues cannot be read for a scrape");
                (None, false)
            }
            Err(_) => (None, false),
        };
        last.insert(Read { at: Instant::now(), queues, are_more }).clone()
    }
}

fn queue(view: queues::View) -> Queue {
    Queue {
        name: view.name,
        waiting: view.waiting,
        delayed: view.delayed,
        leased: view.leased,
        parked: view.parked,
        oldest_seconds: view.oldest_age.unwrap_or_default().as_secs_f64(),
        workers: u64::from(view.workers),
        is_paused: view.paused_at.is_some(),
    }
}

/// The paths of all methods that a server has.
pub fn methods() -> Vec<String> {
    let sets = [
        super::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok()).flat_map(|set| set.file);
    let paths = files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let path = format!("/{package}.{}/", service.name());
            service.method.into_iter().map(move |method| format!("{path}{}", method.name()))
        })
    });
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_a_server_is_known() {
        let methods = methods();
        for path in [
            "/lineshaft.v1.TaskService/SendTask",
            "/lineshaft.v1.WorkerService/WorkerLease",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(methods.contains(&path.to_owned()), "{path}: {methods:?}");
        }
    }
}
