//! TLS: whom we believe, what we show of ourselves, and what went wrong with certificates, as a sentence.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, TlsCertificates};
use rustls::{AlertDescription, CertificateError};

use super::failure::Failure;

/// How servers are believed, and what is shown to them. The files are read whenever a connection is made, so that renewed
/// ones take no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A file of authorities, in PEM. `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Files of our own certificate, with what leads to its authority, and of its key, in PEM. `None`: we show none.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// What makes connections to `info` by TLS.
    ///
    /// # Errors
    /// [`Failure`]: a file cannot be read, or holds something else.
    pub(super) async fn client(&self, info: ConnectionInfo) -> Result<Client, Failure> {
        // An error says that it was done before.
        drop(rustls::crypto::ring::default_provider().install_default());
        let root_cert = match &self.ca {
            Some(path) => Some(certificates(path).await?),
            None => None,
        };
        let client_tls = match &self.own {
            Some((certificate, key)) => {
                Some(ClientTlsConfig { client_cert: certificates(certificate).await?, client_key: bytes(key).await? })
            }
            None => None,
        };
        let shown = TlsCertificates { client_tls, root_cert };
        Client::build_with_tls(info, shown).map_err(|error| Failure::unreachable(error.to_string()))
    }
}

async fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| Failure::unreachable(format!("{} cannot be read: {error}", path.display())))
}

/// A file that holds at least one certificate: nothing would be trusted without one, which is a strange error later.
async fn certificates(path: &Path) -> Result<Vec<u8>, Failure> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let bytes = bytes(path).await?;
    if bytes.windows(BEGIN.len()).any(|part| part == BEGIN) {
        return Ok(bytes);
    }
    Err(Failure::unreachable(format!("{} holds no certificate in PEM", path.display())))
}

/// Why `client` makes no connection, for people, without any secret.
pub(super) fn told(client: &Client, error: &RedisError) -> String {
    match client.get_connection_info().addr() {
        _ if error.kind() == ErrorKind::AuthenticationFailed => "it does not accept the user or password".to_owned(),
        // A server without TLS waits for the end of a line that never comes.
        ConnectionAddr::TcpTls { .. } if error.is_timeout() => {
            "no connection by TLS in time; a server without TLS is named with redis://".to_owned()
        }
        ConnectionAddr::TcpTls { host, .. } => of_tls(error, host).unwrap_or_else(|| error.to_string()),
        _ => error.to_string(),
    }
}

/// What `error` says of certificates; `None`: it is about something else.
fn of_tls(error: &RedisError, host: &str) -> Option<String> {
    let told = match cause(error)? {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => {
                "its certificate is not vouched for by an authority that is trusted; your own is named in redis.tls_ca"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is not for the name {host}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            other => format!("its certificate is not accepted: {other}"),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a certificate of ours; one is named in redis.tls_cert and redis.tls_key".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("it ended the TLS handshake ({alert:?})"),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS; redis:// is without".to_owned(),
        other => format!("no TLS with it: {other}"),
    };
    Some(told)
}

fn cause(error: &RedisError) -> Option<&rustls::Error> {
    // The client library keeps its causes shared.
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    let inner: &(dyn Error + 'static) = shared.as_ref();
    match inner.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref()?.downcast_ref(),
        None => inner.downcast_ref(),
    }
}
