//! Send tasks to Lineshaft and work them, from Rust.

/// The protocol as generated from `proto/lineshaft/v1`: messages and bare service clients.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("lineshaft.v1");
}
