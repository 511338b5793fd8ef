//! Tasks that belong together: what Machinery means by chains, groups and chords, whatever fails and whatever dies.
//!
//! The same against real Machinery programs is in `interop`, with real processes that are killed in `fault`.

mod cancelling;
mod chains;
mod chords;
mod crashes;
mod foreign;
mod random;
mod runner;
mod sending;
mod tree;
mod trees;
