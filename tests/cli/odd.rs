//! A server that answers `GetServerInfo` as it is told and knows no other call: of another version, with another clock.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full};
use lineshaft_client::proto::GetServerInfoResponse;
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Router;

/// Serves until the runtime ends; answers where.
pub(crate) async fn serve(info: GetServerInfoResponse) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = axum::Router::new().route(
        "/lineshaft.v1.ServerService/GetServerInfo",
        axum::routing::post(move || {
            let answer = answer(&info);
            async move { answer }
        }),
    );
    let server: Router = tonic::transport::Server::builder().add_routes(router.into());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    addr
}

/// A message as gRPC frames it, and that all is well.
fn answer(info: &GetServerInfoResponse) -> Response<axum::body::Body> {
    let message = info.encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(&message);
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder().header("content-type", "application/grpc").body(axum::body::Body::new(body)).unwrap()
}
