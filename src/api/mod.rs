//! The gRPC edge: authenticate, validate, translate. No policy: a call becomes domain words, goes to
//! [`Service`], and its answer is put into the protocol's words.
//!
//! One file per gRPC service; `convert` has every rule about fields, `status` every error.

use lineshaft_client::proto;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::error::Error;
use crate::service::Service;

pub mod codec;
mod convert;
mod counted;
mod group;
mod http;
pub mod layer;
pub mod metrics;
mod queue;
mod server;
pub mod status;
mod stream;
mod task;
mod worker;

pub use stream::{Bounds, Outbound};

/// The server's side of each service, as `build.rs` generates it.
mod generated {
    #![allow(missing_docs, clippy::all, unreachable_pub)]
    tonic::include_proto!("lineshaft.v1");
}

/// What reflection serves: every message and service, with comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lineshaft.v1.descriptors"));

/// The names of our services, as health and reflection know them.
pub const SERVICES: [&str; 4] = [
    generated::task_service_server::SERVICE_NAME,
    generated::queue_service_server::SERVICE_NAME,
    generated::worker_service_server::SERVICE_NAME,
    generated::server_service_server::SERVICE_NAME,
];

/// What the handlers of every service share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    /// All policy.
    pub service: Service,
    /// Cancelled when the server begins to drain: calls that only wait then end with DRAINING.
    pub draining: CancellationToken,
    /// Bounds of the worker's stream.
    pub bounds: Bounds,
    /// The page of metrics, if it is on this port.
    pub scrapes: Option<metrics::Scrapes>,
}

impl Api {
    /// All services of ours, and the few HTTP pages of the same port.
    pub fn routes(self) -> Routes {
        use generated::{
            queue_service_server::QueueServiceServer, server_service_server::ServerServiceServer,
            task_service_server::TaskServiceServer, worker_service_server::WorkerServiceServer,
        };
        const GZIP: CompressionEncoding = CompressionEncoding::Gzip;
        let max = self.service.settings().message_bytes_max;
        Routes::from(http::router(self.draining.clone(), self.scrapes.clone()))
            .add_service(
                TaskServiceServer::new(self.clone())
                    .accept_compressed(GZIP)
                    .send_compressed(GZIP)
                    .max_decoding_message_size(max),
            )
            .add_service(
                QueueServiceServer::new(self.clone())
                    .accept_compressed(GZIP)
                    .send_compressed(GZIP)
                    .max_decoding_message_size(max),
            )
            .add_service(
                ServerServiceServer::new(self.clone())
                    .accept_compressed(GZIP)
                    .send_compressed(GZIP)
                    .max_decoding_message_size(max),
            )
            // Answers of this one are never compressed: tonic compresses every message of a stream or none, and most of
            // a worker's are acknowledgements of a few bytes, which gzip makes larger at thirty times the cost.
            .add_service(WorkerServiceServer::new(self).accept_compressed(GZIP).max_decoding_message_size(max))
    }
}

/// Below this, compressing an answer costs more than it saves: gzip's own header and dictionary are some 30 bytes.
const COMPRESSED_FROM_BYTES: usize = 1024;

/// An answer, compressed only where that can pay.
fn answer<M: Message>(message: M) -> Result<Response<M>, Status> {
    let small = message.encoded_len() < COMPRESSED_FROM_BYTES;
    let mut response = Response::new(message);
    if small {
        response.disable_compression();
    }
    Ok(response)
}

/// The only answer of a batch of one.
fn only<T>(answers: Vec<T>) -> Result<T, Error> {
    answers.into_iter().next().ok_or_else(|| Error::Invariant("a batch of one has no answer".to_owned()))
}
