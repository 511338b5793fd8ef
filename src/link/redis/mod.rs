//! Redis: one shared connection that many calls are pipelined on, others of their own for what blocks and what listens.
//!
//! A call is bounded by our own time limit and says afterwards whether anything was written. A connection that broke is
//! made anew by one supervisor; callers wait for it a moment and then fail, they never queue behind a reconnect.

mod address;
mod call;
mod connect;
mod failure;
mod listen;
mod script;
mod track;

pub use address::{Address, AddressError, Options};
pub use call::Access;
pub use connect::{Link, OpenError};
pub use failure::Failure;
pub use listen::{Heard, Listener};
pub use script::Script;
pub use track::Tracker;
