//! What every server must do, whatever stores it works on, through a real socket: one body per behaviour, run on every
//! room: `<room>::<sentence>`.
//!
//! Driven by the bare stubs that any language has; `client` does the same with the Rust client. What a store must do for
//! this is in `conformance`, what paused time can show of leases in `leasing`, what must be refused in `bad_input`.

// Clippy knows tests by their attribute, and the cases are shared between tests that macros make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arguments;
mod cancel;
mod client;
mod dead;
mod drain;
mod leases;
mod lifetimes;
mod listing;
mod named;
mod outcomes;
mod pending;
mod queues;
mod resume;
mod rooms;
mod send;
mod server;
mod states;
mod stream;
mod stubs;
#[path = "../support/mod.rs"]
mod support;
mod talk;
mod tasks;
mod timeouts;
mod unary;
mod verdicts;

/// Every case on one room.
macro_rules! room {
    ($room:ident, $open:path) => {
        mod $room {
            crate::arguments::cases!($open);
            crate::cancel::cases!($open);
            crate::client::cases!($open);
            crate::dead::cases!($open);
            crate::drain::cases!($open);
            crate::leases::cases!($open);
            crate::lifetimes::cases!($open);
            crate::listing::cases!($open);
            crate::named::cases!($open);
            crate::outcomes::cases!($open);
            crate::pending::cases!($open);
            crate::queues::cases!($open);
            crate::resume::cases!($open);
            crate::send::cases!($open);
            crate::server::cases!($open);
            crate::states::cases!($open);
            crate::stream::cases!($open);
            crate::tasks::cases!($open);
            crate::timeouts::cases!($open);
            crate::unary::cases!($open);
            crate::verdicts::cases!($open);
        }
    };
}

room!(memory, crate::rooms::memory);
room!(memory_fused, crate::rooms::memory_fused);
room!(memory_without_recall, crate::rooms::memory_without_recall);
room!(memory_plain, crate::rooms::memory_plain);
#[cfg(feature = "embedded")]
room!(embedded_fused, crate::rooms::embedded_fused);
#[cfg(feature = "embedded")]
room!(embedded, crate::rooms::embedded);
#[cfg(feature = "redis")]
room!(redis, crate::rooms::redis);
#[cfg(feature = "redis")]
room!(redis_cluster, crate::rooms::redis_cluster);
#[cfg(all(feature = "redis", feature = "embedded"))]
room!(redis_and_embedded, crate::rooms::redis_and_embedded);
