//! Redis: one shared connection that many calls are pipelined on, others of their own for what blocks and what listens.
//!
//! A call is bounded by our own time limit and says afterwards whether anything was written. A connection that broke is
//! made anew by one supervisor; callers wait for it a moment and then fail, they never queue behind a reconnect.
//! Behind sentinels all connections lead to the master that they name, asked anew whenever one is made anew.
//! In a cluster each node has such a connection, and the link knows which node has which slot.

mod address;
mod call;
mod cluster;
mod connect;
mod failure;
mod listen;
mod own;
mod routed;
mod script;
mod sentinel;
mod slots;
mod tls;
mod track;
mod wire;

pub use address::{Address, AddressError, Login, Options, Server};
pub use call::Access;
pub use connect::{Link, OpenError};
pub use failure::Failure;
pub use listen::{Heard, Listener};
pub use own::Renewal;
pub use script::Script;
pub use slots::{beside, slot};
pub use tls::Tls;
pub use track::Tracker;
