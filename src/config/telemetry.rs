//! Section `telemetry`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Server};

/// What is told to those who watch the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// True: the server counts, and tells it at `/metrics`. Default true. Since 0.1.
    pub metrics: bool,
    /// An address and port for `/metrics` alone, which is then not on `server.listen`; port 0 takes a free one, told in the
    /// log. Unset: none. Beyond loopback only with `server.insecure`. Since 0.1.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { metrics: true, metrics_listen: None }
    }
}

impl Telemetry {
    pub(super) fn check(&self, server: &Server) -> Result<(), ConfigError> {
        let refused = |why: String| Err(ConfigError::Refused { key: "telemetry.metrics_listen", why });
        match self.metrics_listen {
            Some(addr) if !self.metrics => refused(format!(
                "telemetry.metrics_listen is {addr}, but telemetry.metrics is false: leave one of them out"
            )),
            Some(addr) if !addr.ip().is_loopback() && !server.insecure => refused(format!(
                "telemetry.metrics_listen is {addr}, which others can reach, and nobody is asked who they are: listen on \
                 127.0.0.1, or say --insecure (server.insecure: true) if the network is trusted"
            )),
            _ => Ok(()),
        }
    }
}
