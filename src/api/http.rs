//! The HTTP side of the port: what a browser or a probe sees there, and what answers a path that is none.

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::metrics::Scrapes;
use super::status;

const ABOUT: &str = concat!(
    "Lineshaft ",
    env!("CARGO_PKG_VERSION"),
    ": task queues over gRPC.\n\n",
    "This port speaks gRPC. Reflection is on, so a generic client can explore it:\n\n",
    "  grpcurl -plaintext HOST:PORT list\n",
    "  grpcurl -plaintext HOST:PORT describe lineshaft.v1.TaskService\n\n",
    "GET /healthz answers 200 while this server takes work, 503 while it stops.\n",
    "GET /metrics answers what it counts, unless that has a port of its own or is switched off.\n",
);

/// `/`, `/healthz`, `/metrics` if it is here, and an answer for every path that belongs to no service.
pub(super) fn router(draining: CancellationToken, scrapes: Option<Scrapes>) -> Router {
    let health = move || {
        let draining = draining.is_cancelled();
        async move { if draining { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } else { (StatusCode::OK, "ok\n") } }
    };
    let pages = Router::new().route("/", get(async || ABOUT)).route("/healthz", get(health)).fallback(unknown);
    match scrapes {
        Some(scrapes) => pages.merge(scrapes.router()),
        None => pages,
    }
}

async fn unknown(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return status::method_unknown(request.uri().path()).into_http();
    }
    (StatusCode::NOT_FOUND, "nothing is here; GET / says what this port is\n").into_response()
}

/// True for a gRPC call, by its content type.
pub(super) fn is_grpc(headers: &axum::http::HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"))
}
