//! Spans of traces: recorded where something happens, exported beside it.
//!
//! Recording never waits and never fails: a span goes into a bounded queue, and one that finds it full is counted as
//! dropped. A server that exports nothing has no queue, and recording is a look at an option.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::clock::WallTime;
use crate::task::{SpanId, TraceId};

mod export;
#[cfg(feature = "otlp")]
mod otlp;

pub use export::{Exporter, check_endpoint, start};

/// Spans that wait for export, some 1 KiB each; more are dropped.
pub const QUEUE_MAX: usize = 8_192;

/// What a span is about, as tracing systems sort them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message was sent.
    Producer,
    /// A message was worked on.
    Consumer,
    /// What went on in between.
    Internal,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// Something that began and has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What caused it; `None`: it begins the trace.
    pub parent: Option<SpanId>,
    /// What it is about.
    pub kind: Kind,
    /// For people.
    pub name: String,
    /// When it began.
    pub start: WallTime,
    /// When it ended; exported as `start` if a clock was stepped back in between.
    pub end: WallTime,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened in it: a name, and when.
    pub events: Vec<(&'static str, WallTime)>,
    /// It went wrong: how, in one word.
    pub error: Option<&'static str>,
}

/// Where spans are recorded. Cheap to clone.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<Shared>>);

struct Shared {
    /// Of the traces that begin here, those are recorded whose id, read as a number, is below this; `None`: all.
    below: Option<u64>,
    queue: mpsc::Sender<Span>,
    dropped: AtomicU64,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Spans(on)" } else { "Spans(off)" })
    }
}

impl Spans {
    /// Records nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Records into a queue of [`QUEUE_MAX`], and answers its other end. `ratio`, 0 to 1, is the part of the traces that is
    /// recorded of those that begin here.
    pub fn on(ratio: f64) -> (Self, mpsc::Receiver<Span>) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        // Beyond the range of the number the conversion takes its ends.
        let below = (ratio < 1.0).then_some((ratio.max(0.0) * u64::MAX as f64) as u64);
        (Self(Some(Arc::new(Shared { below, queue, dropped: AtomicU64::new(0) }))), receiver)
    }

    /// Somebody takes spans.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace that begins here is recorded. Every replica of the same ratio says the same.
    pub fn samples(&self, trace: TraceId) -> bool {
        let Some(shared) = &self.0 else { return false };
        let [.., a, b, c, d, e, f, g, h] = trace.0;
        shared.below.is_none_or(|below| u64::from_be_bytes([a, b, c, d, e, f, g, h]) < below)
    }

    /// Records a span, or drops it if too many wait.
    pub fn record(&self, span: Span) {
        if let Some(shared) = &self.0
            && shared.queue.try_send(span).is_err()
        {
            self.drop_spans(1);
        }
    }

    /// How many spans were dropped since the start: the queue was full, or nobody took them in time.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
    }

    fn drop_spans(&self, count: u64) {
        if let Some(shared) = &self.0 {
            shared.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn span(n: u64) -> Span {
        Span {
            trace: TraceId::digest(&[b"trace"]),
            id: SpanId::digest(&[&n.to_be_bytes()]),
            parent: None,
            kind: Kind::Internal,
            name: "n".to_owned(),
            start: WallTime(2),
            end: WallTime(1),
            attributes: vec![("text", "t".into()), ("number", 7.into())],
            events: vec![("event", WallTime(1))],
            error: Some("E"),
        }
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts() {
        let (spans, mut receiver) = Spans::on(1.0);
        (0..QUEUE_MAX as u64 + 3).for_each(|n| spans.record(span(n)));
        assert_eq!(spans.dropped(), 3);
        receiver.try_recv().unwrap();
        spans.record(span(0));
        assert_eq!(spans.dropped(), 3);
        drop(receiver);
        spans.record(span(0));
        assert_eq!(spans.dropped(), 4);
    }

    #[test]
    fn nothing_is_recorded_where_nobody_takes_it() {
        let spans = Spans::off();
        spans.record(span(0));
        assert!(!spans.is_on() && !spans.samples(TraceId([0xff; 16])));
        assert_eq!(spans.dropped(), 0);
    }

    #[test]
    fn the_ratio_is_that_of_the_traces() {
        let sampled = |ratio| {
            let (spans, _receiver) = Spans::on(ratio);
            (0..4000u32).filter(|n| spans.samples(TraceId::digest(&[&n.to_be_bytes()]))).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 4000));
        let quarter = sampled(0.25);
        assert!((800..1200).contains(&quarter), "{quarter}");
    }
}
