//! Sentinels: which server is the master now.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;
use redis::aio::{ConnectionLike, MultiplexedConnection};

use super::address::Server;
use super::failure::Failure;

/// Longest time for which all sentinels together are asked.
pub(super) const ASK_MAX: Duration = Duration::from_secs(2);

/// What is known of the master.
#[derive(Debug, Default)]
pub(super) struct Master {
    /// Where it was when a sentinel was asked last.
    known: Mutex<Option<Server>>,
    /// The sentinel that answered last: it is asked first.
    first: AtomicUsize,
}

impl Master {
    /// Where it is, as far as is known.
    pub(super) fn known(&self) -> Option<Server> {
        self.known.lock().clone()
    }

    /// It was found.
    pub(super) fn found(&self, server: Server) {
        *self.known.lock() = Some(server);
    }

    /// What is known of it is of no use any more.
    pub(super) fn forget(&self) {
        *self.known.lock() = None;
    }

    /// The numbers of `count` sentinels in the order in which they are asked.
    pub(super) fn order(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.first.load(Ordering::Relaxed);
        (0..count).map(move |i| (first + i) % count)
    }

    /// A sentinel answered.
    pub(super) fn answered(&self, number: usize) {
        self.first.store(number, Ordering::Relaxed);
    }
}

/// Asks one sentinel where the master of this name is.
pub(super) async fn ask(sentinel: &mut MultiplexedConnection, name: &str) -> Result<Server, Failure> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(name);
    let answer = sentinel.req_packed_command(&command).await.and_then(Value::extract_error);
    // An error's own words say too little: what is no sentinel calls this an unknown command.
    let answer = answer.map_err(|error| {
        let hint = match error.code() {
            Some("NOAUTH") => "; the password of sentinels is named in redis.sentinel_password",
            _ => "",
        };
        Failure::unreachable(format!("it answers no question for a master: {error}{hint}"))
    })?;
    place(&answer).ok_or_else(|| Failure::unreachable(format!("it knows no master named {name}")))
}

fn place(answer: &Value) -> Option<Server> {
    let (host, port): (String, u16) = match answer {
        Value::Array(_) => redis::from_redis_value(answer.clone()).ok()?,
        _ => return None,
    };
    Some(Server::Tcp(host, port))
}

/// Fails unless the server says that it is a master. One that was just demoted may still be named by a sentinel.
pub(super) async fn is_master(connection: &mut MultiplexedConnection) -> Result<(), Failure> {
    let answer = connection.req_packed_command(&redis::cmd("ROLE")).await.and_then(Value::extract_error);
    let role = match answer {
        Ok(Value::Array(parts)) => {
            parts.into_iter().next().and_then(|role| redis::from_redis_value::<String>(role).ok())
        }
        Ok(_) => None,
        // One that still reads its data answers nothing else: it is asked again by whoever uses the connection.
        Err(error) if error.code() == Some("LOADING") => return Ok(()),
        Err(error) => return Err(Failure::unreachable(error.to_string())),
    };
    match role.as_deref() {
        Some("master") => Ok(()),
        _ => Err(Failure::unreachable("the sentinels name a server that is no master yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentinel_that_answered_last_is_asked_first() {
        let master = Master::default();
        master.answered(1);
        assert_eq!(master.order(3).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn an_answer_names_a_server_or_none() {
        let text = |text: &str| Value::BulkString(text.into());
        let named = Value::Array(vec![text("::1"), text("6379")]);
        assert_eq!(place(&named), Some(Server::Tcp("::1".into(), 6379)));
        assert_eq!(place(&Value::Nil), None);
        assert_eq!(place(&Value::Array(vec![text("h"), text("no port")])), None);
    }
}
