//! Scripts, run by their hash.

use std::sync::OnceLock;

/// A Lua script. Redis runs it whole or, if it cannot be run at all, not.
#[derive(Debug)]
pub struct Script {
    code: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// A script, to be kept in a `static`.
    pub const fn new(code: &'static str) -> Self {
        Self { code, hash: OnceLock::new() }
    }

    /// The text.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What Redis knows it by.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }
}
