//! OTLP over gRPC.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as Export, SpanLinks};
use tokio::sync::{mpsc, oneshot};

use super::{Kind, Span, Spans, Value};
use crate::clock::WallTime;

/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How long spans are gathered for a request.
const GATHER: Duration = Duration::from_millis(500);
/// How long one request may take, attempts to repeat it included.
const EXPORT_MAX: Duration = Duration::from_secs(10);

/// Whoever sends spans to a collector at `endpoint`, in the name of `service`.
///
/// # Errors
/// A sentence.
pub(super) fn exporter(endpoint: &str, service: &str) -> Result<SpanExporter, String> {
    let built = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_MAX).build();
    let mut exporter = built.map_err(|error| format!("spans cannot be exported: {error}"))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty().with_service_name(service.to_owned()).with_attribute(version).build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// Exports until told to stop, and then what waits.
pub(super) async fn run(
    exporter: impl Export,
    spans: Spans,
    mut queue: mpsc::Receiver<Span>,
    mut stop: oneshot::Receiver<()>,
) {
    let scope = InstrumentationScope::builder("lineshaft").with_version(env!("CARGO_PKG_VERSION")).build();
    let mut told = false;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let is_last = tokio::select! {
            biased;
            _ = &mut stop => true,
            _ = queue.recv_many(&mut batch, BATCH_MAX) => tokio::select! {
                biased;
                _ = &mut stop => true,
                () = gather(&mut queue, &mut batch) => false,
            },
        };
        send(&exporter, &spans, &scope, &mut batch, &mut told).await;
        if is_last {
            while let Ok(span) = queue.try_recv() {
                batch.push(span);
                if batch.len() == BATCH_MAX {
                    send(&exporter, &spans, &scope, &mut batch, &mut told).await;
                }
            }
            return send(&exporter, &spans, &scope, &mut batch, &mut told).await;
        }
    }
}

/// Waits for more, until a batch is full or [`GATHER`] is over.
async fn gather(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    let more = async {
        while batch.len() < BATCH_MAX {
            let left = BATCH_MAX - batch.len();
            if queue.recv_many(batch, left).await == 0 {
                return;
            }
        }
    };
    // Over is over: what was gathered goes out.
    let _ = tokio::time::timeout(GATHER, more).await;
}

/// Exports a batch. A collector that is away is told of once, and once more when it is back.
async fn send(
    exporter: &impl Export,
    spans: &Spans,
    scope: &InstrumentationScope,
    batch: &mut Vec<Span>,
    told: &mut bool,
) {
    if batch.is_empty() {
        return;
    }
    let count = batch.len();
    let data = batch.drain(..).map(|span| data(span, scope)).collect();
    let sent: Result<OTelSdkResult, _> = tokio::time::timeout(EXPORT_MAX, exporter.export(data)).await;
    let error = match sent {
        Ok(Ok(())) => {
            if std::mem::take(told) {
                tracing::info!(dropped = spans.dropped(), "spans are exported again");
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {EXPORT_MAX:?}"),
    };
    spans.drop_spans(count as u64);
    if !std::mem::replace(told, true) {
        tracing::warn!(error, "spans cannot be exported and are dropped until the collector is back");
    }
}

fn time(at: WallTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(at.0)
}

/// A span as the library takes it.
fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let id = |id: crate::task::SpanId| opentelemetry::trace::SpanId::from_bytes(id.0);
    let attribute = |(key, value)| match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(number) => KeyValue::new(key, number),
    };
    let mut events = SpanEvents::default();
    events.events = span.events.into_iter().map(|(name, at)| Event::new(name, time(at), Vec::new(), 0)).collect();
    SpanData {
        span_context: SpanContext::new(
            opentelemetry::trace::TraceId::from_bytes(span.trace.0),
            id(span.id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: span.parent.map_or(opentelemetry::trace::SpanId::INVALID, id),
        parent_span_is_remote: false,
        span_kind: match span.kind {
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
            Kind::Internal => SpanKind::Internal,
        },
        name: Cow::Owned(span.name),
        start_time: time(span.start),
        end_time: time(span.end.max(span.start)),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_sdk::error::OTelSdkError;
    use parking_lot::Mutex;

    use super::super::tests::span;
    use super::*;

    /// Takes batches, or refuses the first so many.
    #[derive(Debug, Clone, Default)]
    struct Collector {
        taken: Arc<Mutex<Vec<SpanData>>>,
        refuse: Arc<Mutex<usize>>,
    }

    impl Export for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let mut refuse = self.refuse.lock();
            if *refuse > 0 {
                *refuse -= 1;
                return Err(OTelSdkError::InternalFailure("away".to_owned()));
            }
            self.taken.lock().extend(batch);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_exported_when_the_server_ends() {
        let (spans, queue) = Spans::on(1.0);
        let collector = Collector::default();
        let (stop, stopped) = oneshot::channel();
        (0..1200).for_each(|n| spans.record(span(n)));
        stop.send(()).unwrap();
        run(collector.clone(), spans.clone(), queue, stopped).await;
        assert_eq!((collector.taken.lock().len(), spans.dropped()), (1200, 0));
        let first = collector.taken.lock().first().cloned().unwrap();
        assert!(first.end_time >= first.start_time, "a clock that was stepped back");
        assert_eq!((first.attributes.len(), first.events.len()), (2, 1));
        assert_eq!(first.status, Status::error("E"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_is_away_costs_its_spans_and_nothing_else() {
        let (spans, queue) = Spans::on(1.0);
        let collector = Collector { refuse: Arc::new(Mutex::new(1)), ..Collector::default() };
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(collector.clone(), spans.clone(), queue, stopped));
        spans.record(span(0));
        while spans.dropped() == 0 {
            tokio::time::sleep(GATHER).await;
        }
        spans.record(span(1));
        while collector.taken.lock().is_empty() {
            tokio::time::sleep(GATHER).await;
        }
        stop.send(()).unwrap();
        running.await.unwrap();
        assert_eq!((collector.taken.lock().len(), spans.dropped()), (1, 1));
    }
}
