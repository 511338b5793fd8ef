//! The spans of a task's life, and the context that its worker gets.

use std::time::Duration;

use lineshaft::clock::{Clock, WallTime};
use lineshaft::service::types::{Granted, Outcome, Submission};
use lineshaft::task::{Headers, RawJson, SpanId, TRACEPARENT, TRACESTATE, TraceContext};
use lineshaft::telemetry::spans::{Kind, Span, Spans, Value};
use tokio::sync::mpsc::Receiver;

use crate::worker::{Worker, failure, release, success};
use crate::world::{LEASE, World, rest, task};

const OF_PRODUCER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn producer() -> TraceContext {
    TraceContext::parse(OF_PRODUCER).expect("is one")
}

fn headers(entries: &[(&str, &str)]) -> Headers {
    entries.iter().map(|(key, text)| ((*key).to_owned(), RawJson::string(text))).collect()
}

/// A task in its producer's trace.
fn traced(id: &str) -> Submission {
    Submission { headers: headers(&[(TRACEPARENT, OF_PRODUCER), (TRACESTATE, "a=1")]), ..task("a", id) }
}

/// A world whose spans are recorded.
fn recorded(mut world: World, ratio: f64) -> (World, Receiver<Span>) {
    let (spans, receiver) = Spans::on(ratio);
    world.settings.spans = spans;
    (world, receiver)
}

fn all(spans: &mut Receiver<Span>) -> Vec<Span> {
    std::iter::from_fn(|| spans.try_recv().ok()).collect()
}

/// The one span of that name, and whatever attempt.
fn one<'a>(spans: &'a [Span], name: &str, attempt: Option<i64>) -> &'a Span {
    let is_it = |span: &&Span| span.name == name && attempt == number(span, "lineshaft.attempt");
    let found: Vec<&Span> = spans.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{name} {attempt:?}: {spans:#?}");
    found[0]
}

fn number(span: &Span, key: &str) -> Option<i64> {
    span.attributes.iter().find_map(|(k, value)| match value {
        Value::Number(number) if *k == key => Some(*number),
        _ => None,
    })
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    span.attributes.iter().find_map(|(k, value)| match value {
        Value::Text(text) if *k == key => Some(text.as_str()),
        _ => None,
    })
}

fn context(lease: &Granted) -> TraceContext {
    lease.trace.expect("spans are recorded")
}

async fn a_task_that_fails_once(world: World) {
    let (world, mut spans) = recorded(world, 1.0);
    let replica = world.replica();
    replica.send(Submission { retry_count: 1, ..traced("t") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let first = worker.lease().await;
    worker.report(&first, failure("SECRET")).await;
    let second = worker.lease().await;
    worker.report(&second, success("SECRET")).await;
    replica.end("t").await;

    let spans = all(&mut spans);
    assert!(!format!("{spans:?}").contains("SECRET"));
    let send = one(&spans, "send a", None);
    assert_eq!((send.parent, send.kind, send.error), (Some(producer().span), Kind::Producer, None));
    assert_eq!(text(send, "messaging.message.id"), Some("t"));
    assert_eq!(text(send, "messaging.destination.name"), Some("q"));
    let mut ends = Vec::new();
    for (attempt, lease, outcome, error) in [(1, &first, "retry", Some("FAILED")), (2, &second, "success", None)] {
        let wait = one(&spans, "wait a", Some(attempt));
        let work = one(&spans, "attempt a", Some(attempt));
        assert_eq!((wait.parent, work.parent), (Some(send.id), Some(send.id)));
        assert_eq!((text(work, "lineshaft.outcome"), work.error), (Some(outcome), error));
        assert_eq!(context(lease), TraceContext { span: work.id, ..producer() }, "what the worker does is under it");
        assert!(send.start <= wait.start && wait.start <= wait.end, "{spans:#?}");
        assert!(wait.end == work.start && work.start <= work.end, "{spans:#?}");
        ends.push((wait.start, work.end));
    }
    assert!(ends[0].1 <= ends[1].0, "the second waits after the first");
    let retried = one(&spans, "attempt a", Some(1));
    assert_eq!(retried.events, [("retry", retried.end)]);
    assert_eq!(number(retried, "lineshaft.retry.delay_ms"), Some(1_000));
    assert!(spans.iter().all(|span| span.trace == producer().trace), "{spans:#?}");
    assert_eq!(spans.len(), 5, "{spans:#?}");
}

#[tokio::test(start_paused = true)]
async fn send_wait_and_attempt_are_told_of_each_attempt_under_the_producers_span() {
    a_task_that_fails_once(World::new()).await;
    a_task_that_fails_once(World::fused()).await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_sent_under_the_attempt_that_causes_it() {
    for world in [World::new(), World::fused()] {
        let (world, mut spans) = recorded(world, 1.0);
        let replica = world.replica();
        let next = Submission { headers: headers(&[(TRACEPARENT, "nonsense")]), ..task("next", "n") };
        replica.send(Submission { on_success: vec![next], ..traced("t") }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a", "next"], 10).await;
        let first = worker.lease().await;
        worker.report(&first, success("")).await;
        let second = worker.lease().await;
        worker.report(&second, success("")).await;
        replica.end("n").await;
        let spans = all(&mut spans);
        let send = one(&spans, "send next", None);
        assert_eq!(send.parent, Some(context(&first).span));
        assert_eq!(one(&spans, "attempt next", Some(1)).parent, Some(send.id));
        assert!(spans.iter().all(|span| span.trace == producer().trace), "{spans:#?}");
        let state = second.signature.headers.as_ref().and_then(|headers| headers.get(TRACESTATE)).cloned();
        assert_eq!(state, Some(RawJson::string("a=1")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_attempt_has_a_span_of_its_own_that_has_ended_in_error() {
    let (world, mut spans) = recorded(World::new(), 1.0);
    let (one_replica, two) = (world.replica(), world.replica());
    one_replica.send(traced("t")).await;
    let mut dead = Worker::attach(&one_replica.service, "dead", &["a"], 1).await;
    dead.lease().await;
    rest().await;
    dead.fall_silent();
    let mut other = Worker::attach(&two.service, "other", &["a"], 1).await;
    let lease = other.offer_within(3 * LEASE).await.expect("comes");
    other.inbound.accepted(other.received);
    other.report(&lease, success("")).await;
    let spans = all(&mut spans);
    let lost = one(&spans, "attempt a", Some(1));
    assert_eq!((text(lost, "lineshaft.outcome"), lost.error), (Some("lost"), Some("WORKER_LOST")));
    assert_eq!(text(lost, "lineshaft.worker"), Some("dead"));
    let wait = one(&spans, "wait a", Some(2));
    assert!(lost.start <= lost.end && lost.end <= wait.start, "it waits again from when that was seen: {spans:#?}");
    assert_eq!(one(&spans, "attempt a", Some(2)).error, None);
    assert_eq!(spans.len(), 5, "{spans:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_outlives_its_server_is_told_by_the_next_one() {
    let (world, mut spans) = recorded(World::new(), 1.0);
    let first = world.replica();
    first.send(traced("t")).await;
    let mut worker = Worker::attach(&first.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    rest().await;
    first.crash();
    let next = world.replica();
    let mut again = worker.again(&next.service, &["a"], &[&lease]).await.expect("attaches");
    again.report(&lease, success("")).await;
    let spans = all(&mut spans);
    assert_eq!(one(&spans, "attempt a", Some(1)).id, context(&lease).span, "as the lease has it");
    assert_eq!(spans.len(), 3, "{spans:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_given_back_is_told_and_a_delay_is_no_wait() {
    let (world, mut spans) = recorded(World::new(), 1.0);
    let replica = world.replica();
    replica.send(Submission { delay: Some(Duration::from_secs(60)), ..traced("t") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    let first = worker.lease().await;
    worker.report(&first, release(Duration::ZERO)).await;
    let second = worker.lease().await;
    worker.report(&second, success("")).await;
    let spans = all(&mut spans);
    let due = WallTime(one(&spans, "send a", None).start.0).plus(Duration::from_secs(60));
    let waits: Vec<&Span> = spans.iter().filter(|span| span.name == "wait a").collect();
    assert_eq!((waits.len(), waits[0].start), (2, due), "{spans:#?}");
    let outcomes: Vec<_> = spans.iter().filter_map(|span| text(span, "lineshaft.outcome")).collect();
    assert_eq!(outcomes, ["released", "success"]);
    assert_ne!(context(&first).span, context(&second).span);
}

#[tokio::test(start_paused = true)]
async fn the_producer_says_whether_its_trace_is_recorded_and_else_the_ratio_does() {
    for (ratio, flag, recorded_spans) in [(1.0, Some("00"), 0), (0.0, Some("01"), 3), (0.0, None, 0), (1.0, None, 3)] {
        let (world, mut spans) = recorded(World::new(), ratio);
        let replica = world.replica();
        let own = flag.map(|flag| format!("{}{flag}", &OF_PRODUCER[..53]));
        let given = own.iter().map(|own| (TRACEPARENT, own.as_str())).collect::<Vec<_>>();
        replica.send(Submission { headers: headers(&given), ..task("a", "t") }).await;
        let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
        let lease = worker.lease().await;
        worker.report(&lease, success("")).await;
        assert_eq!(context(&lease).is_sampled, recorded_spans > 0);
        let spans = all(&mut spans);
        assert_eq!(spans.len(), recorded_spans, "{ratio} {flag:?}");
        if flag.is_none() && recorded_spans > 0 {
            let send = one(&spans, "send a", None);
            assert_eq!(send.parent, None, "it begins the trace");
            assert!(spans.iter().all(|span| span.trace == send.trace));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_record_of_spans_everything_is_the_producers() {
    let world = World::new();
    let replica = world.replica();
    replica.send(Submission { on_success: vec![task("a", "n")], ..traced("t") }).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 10).await;
    for _ in 0..2 {
        let lease = worker.lease().await;
        assert_eq!(lease.trace, None);
        assert_eq!(TraceContext::of(lease.signature.headers.as_ref()), Some(producer()));
        worker.report(&lease, success("")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_send_under_its_name_is_the_same_send_whatever_its_trace() {
    for world in [World::new(), World::fused()] {
        let (world, mut spans) = recorded(world, 1.0);
        let replica = world.replica();
        let named = |header: &str| Submission {
            request_id: Some("r".to_owned()),
            headers: headers(&[(TRACEPARENT, header)]),
            ..task("a", "t")
        };
        let first = replica.send(named(OF_PRODUCER)).await;
        let other = OF_PRODUCER.replace("00f067aa0ba902b7", "00f067aa0ba902b8");
        assert_eq!(replica.send(named(&other)).await, first);
        let spans = all(&mut spans);
        assert_eq!(one(&spans, "send a", None).parent, Some(producer().span), "told once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_foreign_program_begins_a_trace_at_its_lease() {
    let (world, mut spans) = recorded(World::new(), 1.0);
    let replica = world.replica();
    world.publish_raw("a", r#"{"UUID":"foreign","Name":"a","RetryCount":1}"#).await;
    let mut worker = Worker::attach(&replica.service, "w", &["a"], 1).await;
    let lease = worker.lease().await;
    let outcome = Outcome::Failure { error: "no".into(), is_final: true, retry_after: None };
    worker.report(&lease, outcome).await;
    let spans = all(&mut spans);
    let work = one(&spans, "attempt a", Some(1));
    assert_eq!((work.parent, work.error), (None, Some("FAILED")));
    assert_eq!(context(&lease).span, work.id);
    assert_eq!(one(&spans, "wait a", Some(1)).trace, work.trace);
    assert_ne!(work.id, SpanId([0; 8]));
    assert!(work.end <= world.clock.wall());
}
