//! Section `server`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, within};

/// Address, directories, stopping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where the server listens: address and port; port 0 takes a free one. Default `127.0.0.1:7340`. Beyond loopback only
    /// with `insecure`, since this version has no TLS. Since 0.1.
    pub listen: SocketAddr,
    /// The directory of the embedded store; made if it is not there. Default `./lineshaft-data`. Since 0.1.
    pub data_dir: PathBuf,
    /// Where attempts are kept: `embedded:DIR`, or the URL of a Redis. Unset: the broker's own store. With an embedded one a
    /// single server runs on the broker. Since 0.1.
    pub ledger: Option<String>,
    /// True: listen where others can connect, though nothing is encrypted and nobody is asked who they are. Default false.
    /// Since 0.1.
    pub insecure: bool,
    /// How long a stopping server waits for workers to finish or leave: 0 s to 1 h. Default 30 s. Since 0.1.
    pub drain_deadline: Span,
    /// How many calls may be under way on one connection: 1 to 100,000. Default 1,000. Since 0.1.
    pub connection_streams_max: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7340).into(),
            data_dir: PathBuf::from("./lineshaft-data"),
            ledger: None,
            insecure: false,
            drain_deadline: Span::seconds(30),
            connection_streams_max: 1000,
        }
    }
}

impl Server {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && !self.insecure {
            let why = format!(
                "server.listen is {}, which others can reach, and this version has no TLS: listen on 127.0.0.1, or say \
                 --insecure (server.insecure: true) if the network is trusted",
                self.listen
            );
            return Err(ConfigError::Refused { key: "server.listen", why });
        }
        within("server.drain_deadline", self.drain_deadline, Span::seconds(0), Span::seconds(3600))?;
        within("server.connection_streams_max", self.connection_streams_max, 1, 100_000)
    }
}
