//! The ceiling of the front door: a gRPC service that does nothing, and a client that calls it.
//!
//! Written against tonic's own server and client, without generated code, so that the public protocol holds no echo.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::cpu;
use super::part::Sample;
use crate::cli::{Exit, Failure, output};

/// Bytes of a message's payload; a task's argument is as long in all measurements.
pub const PAYLOAD_BYTES: usize = 256;

const UNARY: &str = "/lineshaft.bench.Echo/Unary";
const STREAM: &str = "/lineshaft.bench.Echo/Stream";

/// As the server of this program and the clients have them: the default 64 KiB would limit the stream.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// See [`STREAM_WINDOW_BYTES`].
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Before the measurement: connections, caches and branch predictors warm up.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

type Codec = ProstCodec<Message, Message>;

/// Answers what it is sent.
#[derive(Debug, Clone, Copy)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "lineshaft.bench.Echo";
}

impl UnaryService<Message> for Echo {
    type Response = Message;
    type Future = std::future::Ready<Result<Response<Message>, Status>>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl StreamingService<Message> for Echo {
    type Response = Message;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        std::future::ready(Ok(Response::new(Box::pin(request.into_inner()))))
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(Codec::default());
        match request.uri().path() {
            UNARY => Box::pin(async move { Ok(grpc.unary(Echo, request).await) }),
            STREAM => Box::pin(async move { Ok(grpc.streaming(Echo, request).await) }),
            _ => Box::pin(async { Ok(Status::unimplemented("only echoes are here").into_http()) }),
        }
    }
}

/// Serves echoes on a free port of loopback until `until`; prints `listening on URL` first.
///
/// # Errors
/// [`Exit::Other`] if it cannot listen.
pub async fn serve(until: impl Future<Output = ()>) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::new(Exit::Other, format!("the echo cannot listen: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    output::line(&format!("listening on http://{addr}"))?;
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(Echo)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), until)
        .await
        .map_err(|error| Failure::new(Exit::Other, format!("the echo stopped: {error}")))
}

/// Connects to the echo at `url`.
async fn connect(url: &str) -> Result<Channel, Failure> {
    let fail = |error: tonic::transport::Error| Failure::new(Exit::Unavailable, format!("no echo at {url:?}: {error}"));
    Endpoint::from_shared(url.to_owned())
        .map_err(fail)?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await
        .map_err(fail)
}

fn message() -> Message {
    Message { payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]) }
}

/// How many calls ended, in which time, at which cost to this process and to `server`, while `run` went on for `span`
/// after a warm-up.
///
/// # Errors
/// As `run` ended; [`Exit::Other`] if the CPU time of `server` cannot be read.
pub async fn measure(
    done: &AtomicU64,
    server: u32,
    span: Duration,
    run: impl Future<Output = Failure>,
) -> Result<Sample, Failure> {
    let window = async {
        tokio::time::sleep(WARM_UP).await;
        let (begun, own, other) = (Instant::now(), cpu::own(), cpu::of(server)?);
        let before = done.load(Ordering::Relaxed);
        tokio::time::sleep(span).await;
        Ok(Sample {
            count: done.load(Ordering::Relaxed) - before,
            seconds: begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu::own().saturating_sub(own).as_secs_f64(),
            server_cpu_seconds: Some(cpu::of(server)?.saturating_sub(other).as_secs_f64()),
        })
    };
    tokio::select! {
        sample = window => sample,
        failure = run => Err(failure),
    }
}

/// Calls the echo at `url`, process `server`, for `span`, `in_flight` calls at a time on one connection.
///
/// # Errors
/// [`Exit::Unavailable`]: there is no echo. As the call failed.
pub async fn call(url: &str, server: u32, in_flight: u32, span: Duration) -> Result<Sample, Failure> {
    let channel = connect(url).await?;
    let done = AtomicU64::new(0);
    let callers = join_all((0..in_flight).map(|_| async {
        let mut client = tonic::client::Grpc::new(channel.clone());
        loop {
            if let Err(error) = client.ready().await {
                return Failure::new(Exit::Unavailable, format!("the echo is gone: {error}"));
            }
            let request = Request::new(message());
            match client.unary(request, PathAndQuery::from_static(UNARY), Codec::default()).await {
                Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                Err(status) => return Failure::from(status),
            };
        }
    }));
    measure(&done, server, span, async { callers.await.pop().unwrap_or_else(|| Failure::usage("no call in flight")) })
        .await
}

/// Streams to the echo at `url`, process `server`, and back for `span`, at most `window` messages on their way.
///
/// # Errors
/// As [`call`].
pub async fn stream(url: &str, server: u32, window: u32, span: Duration) -> Result<Sample, Failure> {
    let channel = connect(url).await?;
    let mut client = tonic::client::Grpc::new(channel);
    let gone = |what: String| Failure::new(Exit::Unavailable, format!("the echo is gone: {what}"));
    client.ready().await.map_err(|error| gone(error.to_string()))?;
    let room = Arc::new(Semaphore::new(window as usize));
    let sent = futures::stream::unfold(Arc::clone(&room), |room| async move {
        // Closed never: the end of the measurement drops it.
        room.acquire().await.ok()?.forget();
        Some((message(), room))
    });
    let request = Request::new(sent);
    let answer = client.streaming(request, PathAndQuery::from_static(STREAM), Codec::default()).await?;
    let mut answers = answer.into_inner();
    let done = AtomicU64::new(0);
    let run = async {
        loop {
            match answers.next().await {
                Some(Ok(_)) => {
                    done.fetch_add(1, Ordering::Relaxed);
                    room.add_permits(1);
                }
                Some(Err(status)) => return Failure::from(status),
                None => return gone("its stream ended".to_owned()),
            }
        }
    };
    measure(&done, server, span, run).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_echo_answers_calls_streams_and_nothing_else() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(Echo);
        let serving = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let (span, server) = (Duration::from_millis(100), std::process::id());
        let measured = async {
            // A machine may be so busy that nothing happens within the span.
            while call(&url, server, 1, span).await.unwrap().count == 0 {}
            while call(&url, server, 10, span).await.unwrap().count == 0 {}
            while stream(&url, server, 16, span).await.unwrap().count == 0 {}
        };
        tokio::time::timeout(Duration::from_secs(60), measured).await.unwrap();
        let mut client = tonic::client::Grpc::new(connect(&url).await.unwrap());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/lineshaft.bench.Echo/Other");
        let refused = client.unary(Request::new(message()), path, Codec::default()).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::Unimplemented);
        serving.abort();
        assert!(connect("http://127.0.0.1:1").await.is_err());
    }
}
