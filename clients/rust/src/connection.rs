//! Addresses and connections.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::Error;

/// Largest message taken from a server. The server bounds what it is sent by `Limits.message_bytes_max` (4 MiB unless
/// configured); a frame of leases gathers several tasks, so this leaves room above it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How to reach the servers.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How long one attempt to connect may take. Default 5 s.
    pub connect_timeout: Duration,
    /// A ping after this long without traffic, so that a dead connection is noticed. Default 10 s.
    pub keep_alive_interval: Duration,
    /// No answer to a ping for this long: the connection is dead. Default 10 s.
    pub keep_alive_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(10),
        }
    }
}

/// One address, checked: `http://host:port`, the scheme may be left out.
pub(crate) fn endpoint(address: &str, options: &ConnectOptions) -> Result<Endpoint, Error> {
    let address = address.trim();
    if address.is_empty() {
        return Err(Error::Config("an address is empty".into()));
    }
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint =
        Endpoint::from_shared(url).map_err(|error| Error::Config(format!("address {address:?}: {error}")))?;
    match endpoint.uri().scheme_str() {
        Some("http") => {}
        other => {
            return Err(Error::Config(format!(
                "address {address:?}: scheme {:?} is not supported, use \"http\"",
                other.unwrap_or_default()
            )));
        }
    }
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .keep_alive_while_idle(true)
        // The defaults of HTTP/2 (64 KiB) stall a batch of tasks until the other side has read it.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20))
}

/// All addresses, checked; at least one.
pub(crate) fn endpoints(addresses: &[String], options: &ConnectOptions) -> Result<Vec<Endpoint>, Error> {
    if addresses.is_empty() {
        return Err(Error::Config("no address is given".into()));
    }
    addresses.iter().map(|address| endpoint(address, options)).collect()
}

/// A channel per address, one of them current; a server that fails makes the next one current.
#[derive(Debug)]
pub(crate) struct Channels {
    channels: Vec<Channel>,
    current: std::sync::atomic::AtomicUsize,
}

impl Channels {
    /// Connects on first use. Must be called within a runtime.
    pub(crate) fn lazy(endpoints: &[Endpoint]) -> Self {
        Self {
            channels: endpoints.iter().map(Endpoint::connect_lazy).collect(),
            current: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// How many addresses there are.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The current channel and its number, for [`Channels::pass_over`].
    pub(crate) fn current(&self) -> (usize, Channel) {
        let index = self.current.load(std::sync::atomic::Ordering::Relaxed) % self.channels.len().max(1);
        (index, self.channels[index].clone())
    }

    /// Makes the next address current, unless another caller has done so since `failed` was taken.
    pub(crate) fn pass_over(&self, failed: usize) {
        let next = (failed + 1) % self.channels.len().max(1);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        // A failed exchange means that another caller moved on already.
        let _ = self.current.compare_exchange(failed, next, relaxed, relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let options = ConnectOptions::default();
        assert!(endpoint("127.0.0.1:7340", &options).is_ok());
        assert!(endpoint("http://localhost:7340", &options).is_ok());
        for bad in ["", "  ", "ftp://host:1", "http://", "http://a b"] {
            assert!(matches!(endpoint(bad, &options), Err(Error::Config(_))), "{bad:?}");
        }
        assert!(endpoints(&[], &options).is_err());
    }
}
