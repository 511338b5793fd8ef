//! What a command line says of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Sources;

/// Flags that configure a server, for `serve` and for `config`.
#[derive(Debug, Clone, clap::Args)]
pub struct Given {
    /// A YAML file; an existing Machinery config.yml will do.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:7340].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Directory of the embedded store [default: ./lineshaft-data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Listen beyond loopback although nothing is encrypted and nobody is asked who they are.
    #[arg(long)]
    pub insecure: bool,
}

impl Given {
    /// The file, the environment of this process, and these flags.
    pub fn sources(self) -> Sources {
        let flags = [
            ("server.listen", self.listen.map(|addr| addr.to_string())),
            ("server.data_dir", self.data_dir.map(|dir| dir.to_string_lossy().into_owned())),
            ("server.insecure", self.insecure.then(|| "true".to_owned())),
        ];
        Sources {
            file: self.config,
            environment: Sources::environment(),
            flags: flags.into_iter().filter_map(|(key, text)| Some((key, text?))).collect(),
        }
    }
}
