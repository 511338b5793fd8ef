//! A client that sends bytes of our choice, where a generated one could not be made to.

use bytes::{Buf, BufMut, Bytes};
use futures::Stream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Messages are bytes, whatever they hold.
#[derive(Debug, Default, Clone, Copy)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Calls a unary method with bytes.
pub async fn unary(channel: Channel, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    unary_request(channel, path, Request::new(message)).await
}

/// Calls a unary method with bytes and metadata.
pub async fn unary_request(channel: Channel, path: &'static str, request: Request<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    grpc.unary(request, path.parse().unwrap(), Raw).await.map(Response::into_inner)
}

/// Opens a bidirectional stream of bytes.
pub async fn stream(
    channel: Channel,
    path: &'static str,
    said: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    grpc.streaming(Request::new(said), path.parse().unwrap(), Raw).await.map(Response::into_inner)
}
