//! Connections of one's own, beside the one that calls share: for what blocks, and for what is told things.
//!
//! Nobody waits on them for an answer that has to come soon, so a server that is gone without a word is not noticed on them. It is
//! on the shared one, where calls are bounded in time: when that was made anew, the others are of no use either.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion};
use tokio::sync::watch;

use super::connect::{Link, Shared};
use super::failure::Failure;

/// Tells when a connection of one's own is of no use any more, though nothing on it says so.
#[derive(Clone)]
pub struct Renewal {
    /// Connections that calls shared until then.
    number: u64,
    current: watch::Receiver<Option<Shared>>,
}

impl Renewal {
    /// When a connection behind the one with this number is shared.
    pub(super) fn after(number: u64, current: watch::Receiver<Option<Shared>>) -> Self {
        Self { number, current }
    }

    /// Returns once the shared connection was made anew since: it broke, or did not answer in time, and another server may
    /// be in its place.
    pub async fn happened(&mut self) {
        let number = self.number;
        // An error says that the link is gone.
        drop(self.current.wait_for(|current| current.as_ref().is_some_and(|shared| shared.number > number)).await);
    }
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renewal(after {})", self.number)
    }
}

impl Link {
    /// A connection of one's own to the server that has `key`, for what blocks. Answers are not bounded in time.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn own(&self, key: &[u8]) -> Result<(MultiplexedConnection, Renewal), Failure> {
        if let Some(cluster) = self.cluster() {
            return Box::pin(cluster.node_of(key)?.link.own(key)).await;
        }
        self.beside(ProtocolVersion::RESP2, AsyncConnectionConfig::new().set_response_timeout(None)).await
    }

    /// A connection of one's own that is told things: `config` says where they go. In a cluster to any node: channels
    /// are heard on all of them.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn listening(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Renewal), Failure> {
        if let Some(cluster) = self.cluster() {
            let node = cluster.node(None).ok_or_else(|| Failure::unreachable("no node of the cluster is known"))?;
            return Box::pin(node.link.listening(config)).await;
        }
        self.beside(ProtocolVersion::RESP3, config).await
    }
}
