//! What an error of Redis says about what was written.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::call::Access;
use crate::error::StoreError;

/// A call that failed, before it is put into the words of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether it may have been written.
    pub written: Written,
    /// What Redis, or the connection, said.
    pub why: String,
    /// A connection is of no use any more, or leads to the wrong server.
    pub is_broken: bool,
}

/// Whether a failed call may have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Nothing; the same call may succeed later.
    Nothing,
    /// Nothing; there is no room.
    Full,
    /// Not known.
    Unknown,
    /// Some of it may be: a key holds what is not ours.
    Part,
}

impl Failure {
    /// Nothing was sent.
    pub(super) fn unreachable(why: impl Into<String>) -> Self {
        Self { written: Written::Nothing, why: why.into(), is_broken: true }
    }

    /// No answer in time.
    pub fn silent(access: Access, why: impl Into<String>) -> Self {
        let written = if access == Access::Read { Written::Nothing } else { Written::Unknown };
        Self { written, why: why.into(), is_broken: true }
    }

    /// What `error` means to a call.
    pub fn of(error: &RedisError, access: Access) -> Self {
        // The cause of an aborted transaction is told for its commands.
        if error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort)
            && let Some(errors) = error.clone().into_server_errors()
            && let Some((_, cause)) = errors.iter().find(|(_, cause)| cause.code() != "EXECABORT")
        {
            return Self::server(cause.code(), cause.details());
        }
        if let Some(code) = error.code() {
            return Self::server(code, error.detail());
        }
        if error.is_connection_refusal() {
            return Self::unreachable(error.to_string());
        }
        match error.kind() {
            ErrorKind::Io => Self::silent(access, error.to_string()),
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::EmptySentinelList => Self::unreachable(error.to_string()),
            _ => Self { written: Written::Part, why: error.to_string(), is_broken: false },
        }
    }

    /// What an answer of the server means, by its code.
    fn server(code: &str, detail: Option<&str>) -> Self {
        let why = match detail {
            Some(detail) => format!("{code} {detail}"),
            None => code.to_owned(),
        };
        let written = match code {
            "OOM" => Written::Full,
            "READONLY" | "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "NOREPLICAS"
            | "BUSY" | "MISCONF" | "UNBLOCKED" | "NOAUTH" | "WRONGPASS" | "NOPERM" | "NOSCRIPT" => Written::Nothing,
            _ => Written::Part,
        };
        // A server that is no master any more has to be looked up anew.
        let is_broken = matches!(code, "READONLY" | "UNBLOCKED" | "NOREPLICAS" | "MASTERDOWN");
        Self { written, why, is_broken }
    }

    /// The server has just started and reads its data: it will answer.
    pub fn is_loading(&self) -> bool {
        self.written == Written::Nothing && self.why.starts_with("LOADING")
    }

    /// The server answers nobody without a password.
    pub(super) fn wants_password(&self) -> bool {
        self.written == Written::Nothing && self.why.starts_with("NOAUTH")
    }

    /// In the words of the room `store`.
    pub fn told_by(self, store: &'static str) -> StoreError {
        let why = self.why;
        match self.written {
            Written::Nothing => StoreError::Unavailable { store, why },
            Written::Full => StoreError::Full { store, why },
            Written::Unknown => StoreError::OutcomeUnknown { store, why },
            Written::Part => StoreError::Corrupt { store, why },
        }
    }
}
