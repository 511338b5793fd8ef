//! Send tasks to Lineshaft and work them, from Rust.
//!
//! ```no_run
//! # async fn producer() -> Result<(), Box<dyn std::error::Error>> {
//! use lineshaft_client::{Client, Task};
//! use std::time::Duration;
//!
//! let client = Client::connect("http://127.0.0.1:7340").await?;
//! let sum = client.send(Task::new("add").arg(1i64).arg(2i64)).await?;
//! let three: i64 = sum.get(Duration::from_secs(10)).await?;
//! # let _ = three; Ok(())
//! # }
//! ```
//!
//! ```no_run
//! # async fn worker() -> Result<(), Box<dyn std::error::Error>> {
//! use lineshaft_client::{Failure, Worker};
//!
//! Worker::builder(["http://127.0.0.1:7340"])
//!     .concurrency(10)
//!     .register("add", |a: i64, b: i64| async move { Ok::<_, Failure>(a + b) })
//!     .build()?
//!     .run()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`Client`], [`Task`], [`AsyncResult`] (`producer/`): send tasks, learn what became of them; [`Group`], [`Chain`],
//!   [`Chord`]: tasks that belong together.
//! - [`Worker`], [`Context`], [`Failure`] (`worker/`): register functions and run them; [`Middleware`] stands around each
//!   attempt, [`Inline`] runs them without a server.
//! - `engine/`: the lease engine under the worker: `state.rs` decides and does no IO, `driver.rs` connects and times,
//!   on a thread of its own that user code cannot block.
//! - [`value`]: native types to and from arguments and results; [`Json`] for maps and structs.
//! - [`proto`]: the protocol as generated, for what the typed API does not cover.

mod connection;
mod engine;
mod error;
mod jitter;
mod producer;
pub mod value;
mod worker;

pub use connection::ConnectOptions;
pub use error::Error;
pub use producer::async_result::{AsyncResult, TaskError, TaskState};
pub use producer::client::{Client, ClientBuilder};
pub use producer::task::{Task, Until};
pub use producer::workflow::progress::{GroupProgress, GroupWatch};
pub use producer::workflow::result::{AsyncChain, AsyncChord, AsyncGroup};
pub use producer::workflow::{Chain, Chord, Group};
pub use value::{FromArg, FromResults, IntoArg, IntoResults, Json, Results, ValueError};
pub use worker::builder::{Servers, WorkerBuilder};
pub use worker::context::Context;
pub use worker::failure::Failure;
pub use worker::function::{BlockingHandler, Function, Handler};
pub use worker::inline::Inline;
pub use worker::middleware::{Middleware, Next};
pub use worker::{Stopped, Stopper, Worker};

/// The protocol as generated from `proto/lineshaft/v1`: messages and bare service clients.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("lineshaft.v1");
}
