//! Calls: one round trip each, bounded in time.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::connect::{Link, Shared};
use super::failure::Failure;
use super::script::Script;

/// How long a call that was certainly not carried out waits before its one repetition.
const REPEAT_AFTER: Duration = Duration::from_millis(50);

/// A call under way. Boxed, so that whoever awaits it can be moved between threads whatever it borrows.
type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, RedisError>> + Send + 'a>>;

/// Whether a call changes anything: what is not known to be written matters only if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It only looks.
    Read,
    /// It writes.
    Write,
}

impl Link {
    /// Runs one command.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn command(&self, access: Access, command: &Cmd) -> Result<Value, Failure> {
        let run = |mut shared: Shared| -> Running<'_, Value> {
            Box::pin(async move { shared.connection.req_packed_command(command).await.and_then(Value::extract_error) })
        };
        self.again(access, &run).await
    }

    /// Runs a script on `keys`, all of one slot. The server learns it when it does not know it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn script<K, A>(&self, access: Access, script: &Script, keys: &[K], args: &[A]) -> Result<Value, Failure>
    where
        K: AsRef<[u8]> + Sync,
        A: AsRef<[u8]> + Sync,
    {
        let invoke = |name: &str, what: &str| {
            let mut command = redis::cmd(name);
            command.arg(what).arg(keys.len());
            for part in keys.iter().map(AsRef::as_ref).chain(args.iter().map(AsRef::as_ref)) {
                command.arg(part);
            }
            command
        };
        let (by_hash, invoke) = (&invoke("EVALSHA", script.hash()), &invoke);
        let run = |mut shared: Shared| -> Running<'_, Value> {
            Box::pin(async move {
                // What the server refuses is an answer like others on this level.
                match shared.connection.req_packed_command(by_hash).await.and_then(Value::extract_error) {
                    // Nothing ran: a server that was restarted, or is new, is told the script itself.
                    Err(error) if error.code() == Some("NOSCRIPT") => {
                        let whole = invoke("EVAL", script.code());
                        shared.connection.req_packed_command(&whole).await.and_then(Value::extract_error)
                    }
                    answer => answer,
                }
            })
        };
        self.again(access, &run).await
    }

    /// Runs commands, each for itself, in one round trip; one answer each, in order. All keys are of one slot where
    /// [`Link::is_cluster`].
    ///
    /// # Errors
    /// [`Failure`] for all of them; per item what the server said to it.
    pub async fn pipeline(&self, access: Access, commands: &Pipeline) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let count = commands.len();
        let run = |mut shared: Shared| -> Running<'_, Vec<Value>> {
            Box::pin(async move { shared.connection.req_packed_commands(commands, 0, count).await })
        };
        let values = self.again(access, &run).await?;
        let own = |value| match value {
            Value::ServerError(error) => Err(Failure::of(&RedisError::from(error), access)),
            value => Ok(value),
        };
        Ok(values.into_iter().map(own).collect())
    }

    /// Runs commands as one transaction, all of one slot; the answer of each. Not for scripts: one that the server does
    /// not know would leave its neighbours carried out.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn transaction(&self, commands: &mut Pipeline) -> Result<Vec<Value>, Failure> {
        commands.atomic();
        let commands = &*commands;
        let run = |mut shared: Shared| -> Running<'_, Vec<Value>> {
            Box::pin(async move { commands.query_async::<Vec<Value>>(&mut shared.connection).await })
        };
        self.again(Access::Write, &run).await
    }

    /// Runs a call, and once more if it was certainly not carried out and another attempt may reach a better server.
    async fn again<'a, T>(
        &self,
        access: Access,
        run: &(dyn Fn(Shared) -> Running<'a, T> + Sync),
    ) -> Result<T, Failure> {
        match self.once(access, run).await {
            Err(failure) if failure.written == super::failure::Written::Nothing => {
                tokio::time::sleep(REPEAT_AFTER).await;
                self.once(access, run).await
            }
            answer => answer,
        }
    }

    async fn once<'a, T>(&self, access: Access, run: &(dyn Fn(Shared) -> Running<'a, T> + Sync)) -> Result<T, Failure> {
        let shared = self.shared().await?;
        let limit = self.answer_max();
        let failure = match tokio::time::timeout(limit, run(shared.clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::of(&error, access),
            Err(_) => Failure::silent(access, format!("no answer within {limit:?}")),
        };
        if failure.is_broken {
            self.broken(shared.number);
        }
        Err(failure)
    }
}
