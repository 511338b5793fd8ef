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
mod groups;
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
mod workflows;

/// Every case.
macro_rules! cases {
    ($($of:tt)+) => {
        crate::arguments::cases!($($of)+);
        crate::cancel::cases!($($of)+);
        crate::client::cases!($($of)+);
        crate::dead::cases!($($of)+);
        crate::drain::cases!($($of)+);
        crate::groups::cases!($($of)+);
        crate::leases::cases!($($of)+);
        crate::lifetimes::cases!($($of)+);
        crate::listing::cases!($($of)+);
        crate::named::cases!($($of)+);
        crate::outcomes::cases!($($of)+);
        crate::pending::cases!($($of)+);
        crate::queues::cases!($($of)+);
        crate::resume::cases!($($of)+);
        crate::send::cases!($($of)+);
        crate::server::cases!($($of)+);
        crate::states::cases!($($of)+);
        crate::stream::cases!($($of)+);
        crate::tasks::cases!($($of)+);
        crate::timeouts::cases!($($of)+);
        crate::unary::cases!($($of)+);
        crate::verdicts::cases!($($of)+);
        crate::workflows::cases!($($of)+);
    };
}

/// Boxed, for whichever room.
mod once {
    cases!(once);
}

/// On one room.
macro_rules! room {
    ($room:ident) => {
        mod $room {
            fn open() -> crate::rooms::Opening {
                Box::pin(async { crate::rooms::$room().await.into() })
            }
            cases!(open);
        }
    };
}

room!(memory);
room!(memory_fused);
room!(memory_without_recall);
room!(memory_plain);
#[cfg(feature = "embedded")]
room!(embedded_fused);
#[cfg(feature = "embedded")]
room!(embedded);
#[cfg(feature = "redis")]
room!(redis);
#[cfg(feature = "redis")]
room!(redis_cluster);
#[cfg(all(feature = "redis", feature = "embedded"))]
room!(redis_and_embedded);
