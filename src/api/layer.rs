//! The outermost layer: whatever status leaves the server, also one that tonic or a service of its family made, has an
//! `ErrorInfo`; the caller's deadline is kept here, where its end can be told with a reason; and calls are counted by the
//! status that leaves.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::counted::Call;
use super::{http::is_grpc, status};
use crate::telemetry::metrics::Metrics;

const TIMEOUT: &str = "grpc-timeout";

/// tonic keeps the same deadline outside of every layer and then answers CANCELLED without details: ours is so much
/// earlier that its answer is the one that is sent. Timers have a granularity of 1 ms.
const EARLIER: Duration = Duration::from_millis(3);

/// Wraps the routes of a server.
#[derive(Debug, Clone)]
pub struct Details {
    /// Named where a message was refused for its size, bytes.
    pub message_bytes_max: usize,
    /// Where calls are counted, if anybody asks for that.
    pub metrics: Option<Arc<Metrics>>,
}

impl<S> Layer<S> for Details {
    type Service = Detailed<S>;

    fn layer(&self, inner: S) -> Detailed<S> {
        Detailed { inner, message_bytes_max: self.message_bytes_max, metrics: self.metrics.clone() }
    }
}

/// A service whose every status has details.
#[derive(Debug, Clone)]
pub struct Detailed<S> {
    inner: S,
    message_bytes_max: usize,
    metrics: Option<Arc<Metrics>>,
}

impl<S> Service<Request<Body>> for Detailed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        let deadline = request.headers().get(TIMEOUT).and_then(|value| timeout(value.to_str().ok()?));
        let max = self.message_bytes_max;
        // Cheap: the parts of a path are shared.
        let uri = request.uri().clone();
        let mut counted = Call::of(self.metrics.as_ref().map(|metrics| metrics.calls.method(uri.path())));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = match deadline {
                Some(after) => match tokio::time::timeout(after.saturating_sub(EARLIER), answer).await {
                    Ok(answer) => answer?,
                    Err(_) => status::deadline_exceeded().into_http(),
                },
                None => answer.await?,
            };
            let (mut parts, body) = response.into_parts();
            if complete(&mut parts.headers, uri.path(), max) {
                counted.ended(&parts.headers);
                return Ok(Response::from_parts(parts, body));
            }
            // The status comes in the trailers.
            let body = body.map_frame(move |mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    complete(trailers, uri.path(), max);
                    counted.ended(trailers);
                }
                frame
            });
            Ok(Response::from_parts(parts, Body::new(body)))
        })
    }
}

/// Gives the status in `headers` its details; false if there is no status.
fn complete(headers: &mut HeaderMap, path: &str, message_bytes_max: usize) -> bool {
    if !headers.contains_key(Status::GRPC_STATUS) {
        return false;
    }
    let Some(found) = Status::from_header_map(headers) else { return false };
    if found.code() == Code::Ok || status::is_detailed(&found) {
        return true;
    }
    let told = status::of_transport(&found, path, message_bytes_max);
    for name in [Status::GRPC_STATUS, Status::GRPC_MESSAGE, Status::GRPC_STATUS_DETAILS] {
        headers.remove(name);
    }
    if told.add_header(headers).is_err() {
        // Only a metadata entry that is no header could do this, and we add none.
        tracing::error!(path, "a status could not be written");
    }
    true
}

/// Reads a gRPC timeout: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if amount.is_empty() || amount.len() > 8 || !amount.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = amount.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "1", "1x", "123456789S", "+1S", "-1S", "1é", "é"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_status_without_details_is_completed_and_one_with_them_left_alone() {
        let mut headers = HeaderMap::new();
        Status::unimplemented("").add_header(&mut headers).unwrap();
        assert!(complete(&mut headers, "/lineshaft.v1.TaskService/Nope", 1));
        let told = Status::from_header_map(&headers).unwrap();
        assert_eq!(reason(&told), "METHOD_UNKNOWN");

        let before = Status::from(crate::error::Error::Draining);
        let mut headers = HeaderMap::new();
        before.add_header(&mut headers).unwrap();
        assert!(complete(&mut headers, "/", 1));
        assert_eq!(reason(&Status::from_header_map(&headers).unwrap()), "DRAINING");

        assert!(!complete(&mut HeaderMap::new(), "/", 1));
    }

    #[derive(Clone)]
    struct Never;

    impl Service<Request<Body>> for Never {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_deadline_is_told_with_a_reason_and_before_tonic_tells_it_without() {
        let mut service = Details { message_bytes_max: 1, metrics: None }.layer(Never);
        let request = Request::builder()
            .header("content-type", "application/grpc")
            .header(TIMEOUT, "100m")
            .body(Body::empty())
            .unwrap();
        let from = tokio::time::Instant::now();
        let response = service.call(request).await.unwrap();
        assert!(from.elapsed() < Duration::from_millis(100), "{:?}", from.elapsed());
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    }

    fn reason(status: &Status) -> String {
        use tonic_types::StatusExt;
        status.get_details_error_info().unwrap().reason
    }
}
