//! What commands go over, whether one server answers them or a cluster.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};

use super::cluster::Cluster;

/// What commands are sent over.
#[derive(Clone)]
pub(super) enum Wire {
    /// To one server.
    One(MultiplexedConnection),
    /// To the nodes of a cluster; answers are waited for as long as is said.
    Cluster(Arc<Cluster>, Duration),
}

impl Wire {
    /// Runs commands, each for itself: an answer for each.
    pub(super) async fn each(&mut self, commands: &Pipeline) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        match self {
            Self::One(connection) => {
                let values = connection.req_packed_commands(commands, 0, commands.len()).await?;
                Ok(values.into_iter().map(Value::extract_error).collect())
            }
            Self::Cluster(cluster, limit) => Ok(cluster.each(commands, *limit).await),
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(cluster, limit) => Box::pin(cluster.one(cmd, *limit)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster, limit) => Box::pin(cluster.at_once(pipeline, offset, count, *limit)),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(..) => 0,
        }
    }
}
