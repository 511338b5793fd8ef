//! Documents that are read beside the code: words and decisions.
//!
//! Here, so that they are part of what rustdoc builds.

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("cli.md")]
pub mod cli {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("tracing.md")]
pub mod tracing {}

/// Decisions that are expensive to undo, or asked about twice: one page each.
pub mod adr {
    #[doc = include_str!("adr/0001-seams.md")]
    pub mod adr_0001_seams {}
    #[doc = include_str!("adr/0002-dependencies.md")]
    pub mod adr_0002_dependencies {}
    #[doc = include_str!("adr/0003-embedded-store-first.md")]
    pub mod adr_0003_embedded_store_first {}
    #[doc = include_str!("adr/0004-records-in-protobuf.md")]
    pub mod adr_0004_records_in_protobuf {}
    #[doc = include_str!("adr/0005-successors-of-retired-packages.md")]
    pub mod adr_0005_successors_of_retired_packages {}
    #[doc = include_str!("adr/0006-bodies-kept-raw.md")]
    pub mod adr_0006_bodies_kept_raw {}
    #[doc = include_str!("adr/0007-one-crate-for-messages.md")]
    pub mod adr_0007_one_crate_for_messages {}
    #[doc = include_str!("adr/0008-task-ids-in-order-of-time.md")]
    pub mod adr_0008_task_ids_in_order_of_time {}
    #[doc = include_str!("adr/0009-backup-as-records.md")]
    pub mod adr_0009_backup_as_records {}
    #[doc = include_str!("adr/0010-traces-over-otlp.md")]
    pub mod adr_0010_traces_over_otlp {}
    #[doc = include_str!("adr/0011-joins-as-sets.md")]
    pub mod adr_0011_joins_as_sets {}
}

// The README's Rust is compiled, so that what a stranger copies works.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
