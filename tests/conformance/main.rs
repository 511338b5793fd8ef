//! What every room must do, one body per behaviour, run on every room: `<room>::<seam>::<sentence>`.
//!
//! Cases are chosen by capability; a skipped one says on stderr which capability explains it. Time stands still unless a
//! case passes it. A new room implements [`room::Stores`] and adds its lines at the end of this file.

// Clippy knows tests by their attribute, and the cases are shared between tests that macros make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backend;
mod backend_groups;
mod broker;
mod faults;
mod fused;
mod harness;
mod ledger;
mod make;
mod measured_rooms;
mod model;
#[cfg(feature = "redis")]
mod redis_fused;
#[cfg(feature = "redis")]
mod redis_ledger;
#[cfg(feature = "redis")]
mod redis_pooled_rooms;
#[cfg(feature = "redis")]
mod redis_rooms;
mod room;
mod rooms;
#[path = "../support/mod.rs"]
mod support;

/// Every case, for whichever room.
mod once {
    crate::broker::cases!(once);
    crate::ledger::cases!(once);
    crate::backend::cases!(once);
    crate::backend_groups::cases!(once);
    crate::fused::cases!(once);
    pub(crate) mod model {
        crate::harness::cases!(once, model::broker: answers_as_the_model_does);
        crate::harness::cases!(once, model::ledger: answers_as_the_model_does);
        crate::harness::cases!(once, model::backend: answers_as_the_model_does);
        crate::harness::cases!(once, model::fused: answers_as_the_model_does);
    }
}

mod memory {
    crate::broker::cases!(crate::rooms::Memory);
    crate::ledger::cases!(crate::rooms::Memory);
    crate::backend::cases!(crate::rooms::Memory);
    crate::backend_groups::cases!(crate::rooms::Memory);
    crate::fused::cases!(crate::rooms::Memory);
    crate::model::cases!(crate::rooms::Memory, broker ledger backend fused);
}

mod memory_plain {
    crate::broker::cases!(crate::rooms::Plain);
    crate::model::cases!(crate::rooms::Plain, broker);
}

/// The wrapper that makes stores fail, while it does not.
mod memory_without_faults {
    crate::broker::cases!(crate::rooms::WithoutFaults);
    crate::ledger::cases!(crate::rooms::WithoutFaults);
    crate::backend::cases!(crate::rooms::WithoutFaults);
    crate::backend_groups::cases!(crate::rooms::WithoutFaults);
}

/// The wrapper that counts calls, around a room with every view and around one with none.
mod measured {
    crate::broker::cases!(crate::rooms::Measured<crate::rooms::Memory>);
    crate::ledger::cases!(crate::rooms::Measured<crate::rooms::Memory>);
    crate::backend::cases!(crate::rooms::Measured<crate::rooms::Memory>);
    crate::backend_groups::cases!(crate::rooms::Measured<crate::rooms::Memory>);
    crate::fused::cases!(crate::rooms::Measured<crate::rooms::Memory>);
}

mod measured_plain {
    crate::broker::cases!(crate::rooms::Measured<crate::rooms::Plain>);
}

#[cfg(feature = "embedded")]
mod measured_embedded {
    crate::fused::cases!(crate::rooms::Measured<crate::rooms::Embedded>);
}

#[cfg(feature = "embedded")]
mod embedded {
    crate::broker::cases!(crate::rooms::Embedded);
    crate::ledger::cases!(crate::rooms::Embedded);
    crate::backend::cases!(crate::rooms::Embedded);
    crate::backend_groups::cases!(crate::rooms::Embedded);
    crate::fused::cases!(crate::rooms::Embedded);
    crate::model::cases!(crate::rooms::Embedded, broker ledger backend fused);
}

#[cfg(feature = "redis")]
mod redis {
    crate::broker::cases!(crate::redis_rooms::Redis);
    crate::ledger::cases!(crate::redis_rooms::Redis);
    crate::model::cases!(crate::redis_rooms::Redis, broker ledger backend);
    crate::backend::cases!(crate::redis_rooms::Redis);
    crate::backend_groups::cases!(crate::redis_rooms::Redis);
    crate::fused::cases!(crate::redis_rooms::Redis);
}

#[cfg(feature = "redis")]
mod redis_cluster {
    crate::broker::cases!(crate::redis_pooled_rooms::Cluster);
    crate::ledger::cases!(crate::redis_pooled_rooms::Cluster);
    crate::model::cases!(crate::redis_pooled_rooms::Cluster, broker ledger backend);
    crate::backend::cases!(crate::redis_pooled_rooms::Cluster);
    crate::backend_groups::cases!(crate::redis_pooled_rooms::Cluster);
}

#[cfg(feature = "redis")]
mod redis_socket_password {
    crate::broker::cases!(crate::redis_rooms::Locked);
    crate::ledger::cases!(crate::redis_rooms::Locked);
    crate::model::cases!(crate::redis_rooms::Locked, broker ledger backend);
    crate::backend::cases!(crate::redis_rooms::Locked);
    crate::backend_groups::cases!(crate::redis_rooms::Locked);
}

#[cfg(feature = "redis")]
mod redis_sentinel {
    crate::broker::cases!(crate::redis_pooled_rooms::Sentinel);
    crate::ledger::cases!(crate::redis_pooled_rooms::Sentinel);
    crate::model::cases!(crate::redis_pooled_rooms::Sentinel, broker ledger backend);
    crate::backend::cases!(crate::redis_pooled_rooms::Sentinel);
    crate::backend_groups::cases!(crate::redis_pooled_rooms::Sentinel);
}
