//! Section `telemetry`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Server, quoted};

/// Longest `service_name`, bytes.
const SERVICE_NAME_BYTES_MAX: usize = 200;

/// What is told to those who watch the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans are exported to: `http://HOST:PORT` of a collector that takes OTLP over gRPC, such as Jaeger's port 4317.
    /// Needs the feature `otlp`. Unset: no spans. Since 0.1.
    pub otlp_endpoint: Option<String>,
    /// What this server is called in traces: 1 to 200 bytes. Default `lineshaft`. Since 0.1.
    pub service_name: String,
    /// The part of the traces that is recorded: 0 to 1. Only of those that begin at this server: whether a trace that a
    /// producer began is recorded, the producer says. Default 1. Since 0.1.
    pub sample_ratio: f64,
    /// True: the server counts, and tells it at `/metrics`. Default true. Since 0.1.
    pub metrics: bool,
    /// An address and port for `/metrics` alone, which is then not on `server.listen`; port 0 takes a free one, told in the
    /// log. Unset: none. Beyond loopback only with `server.insecure`. Since 0.1.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            service_name: "lineshaft".to_owned(),
            sample_ratio: 1.0,
            metrics: true,
            metrics_listen: None,
        }
    }
}

impl Telemetry {
    pub(super) fn check(&self, server: &Server) -> Result<(), ConfigError> {
        if let Some(endpoint) = &self.otlp_endpoint {
            let refused = |why| ConfigError::Refused {
                key: "telemetry.otlp_endpoint",
                why: format!("telemetry.otlp_endpoint {why}"),
            };
            crate::telemetry::spans::check_endpoint(endpoint).map_err(refused)?;
        }
        if !(1..=SERVICE_NAME_BYTES_MAX).contains(&self.service_name.len()) {
            return Err(ConfigError::OutOfRange {
                key: "telemetry.service_name".to_owned(),
                value: quoted(&self.service_name),
                range: format!("1 to {SERVICE_NAME_BYTES_MAX} bytes"),
            });
        }
        super::within("telemetry.sample_ratio", self.sample_ratio, 0.0, 1.0)?;
        self.check_metrics(server)
    }

    fn check_metrics(&self, server: &Server) -> Result<(), ConfigError> {
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
