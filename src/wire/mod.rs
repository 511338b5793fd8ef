//! Envelopes: pure bytes to task and back. No IO, no policy.
//!
//! # Layout
//!
//! - [`json`]: JSON text as Go reads and writes it, without recursion.
//! - [`machinery`]: the task bodies and states of Machinery v1.
//! - `base64`: bytes in strings.

mod base64;
pub mod json;
pub mod machinery;
