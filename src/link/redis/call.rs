//! Calls: one round trip each, bounded in time.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::connect::{Link, Shared};
use super::failure::Failure;
use super::script::Script;
use super::slots;

/// How long a call that was certainly not carried out waits before its one repetition.
const REPEAT_AFTER: Duration = Duration::from_millis(50);

/// A call under way. Boxed, so that whoever awaits it can be moved between threads whatever it borrows.
type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, RedisError>> + Send + 'a>>;

/// Keys, or arguments, of a script.
type Parts<'a> = Vec<&'a [u8]>;

/// Whether a call changes anything: what is not known to be written matters only if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It only looks.
    Read,
    /// It writes.
    Write,
}

/// What the server said to one of several commands.
fn own(value: Value, access: Access) -> Result<Value, Failure> {
    match value {
        Value::ServerError(error) => Err(Failure::of(&RedisError::from(error), access)),
        value => Ok(value),
    }
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

    /// Runs a script on `keys`, all of one slot. The server learns it when it does not know it. In a cluster the script has
    /// one key more, the last, which never exists: it does not begin while its slot moves.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn script<K, A>(&self, access: Access, script: &Script, keys: &[K], args: &[A]) -> Result<Value, Failure>
    where
        K: AsRef<[u8]> + Sync,
        A: AsRef<[u8]> + Sync,
    {
        let never = keys.first().filter(|_| self.is_cluster()).map(|key| slots::never(key.as_ref()));
        let never = never.as_deref();
        let invoke = |name: &str, what: &str| {
            let mut command = redis::cmd(name);
            command.arg(what).arg(keys.len() + usize::from(never.is_some()));
            let keys = keys.iter().map(AsRef::as_ref).chain(never);
            for part in keys.chain(args.iter().map(AsRef::as_ref)) {
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

    /// Runs commands, each for itself, in one round trip; one answer each, in order. In a cluster the keys of one command
    /// are of one slot, and only commands on the same slot run in order.
    ///
    /// # Errors
    /// [`Failure`] for all of them; per item what the server said to it.
    pub async fn pipeline(&self, access: Access, commands: &Pipeline) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let used = AtomicU64::new(0);
        let used = &used;
        let run = |mut shared: Shared| -> Running<'_, Vec<Result<Value, RedisError>>> {
            Box::pin(async move {
                used.store(shared.number, Ordering::Relaxed);
                shared.connection.each(commands).await
            })
        };
        let answers = self.again(access, &run).await?;
        let told = |answer: Result<Value, RedisError>| answer.map_err(|error| Failure::of(&error, access));
        let answers: Vec<Result<Value, Failure>> = answers.into_iter().map(told).collect();
        // One refusal among answers leads as much to the wrong server as a call that is refused as a whole.
        if answers.iter().any(|answer| answer.as_ref().is_err_and(|failure| failure.is_broken)) {
            self.broken(used.load(Ordering::Relaxed));
        }
        Ok(answers)
    }

    /// Runs a script several times, each for itself, in one round trip to each server: an answer for each call of keys and
    /// arguments. In a cluster each call names one key only, and touches no other.
    ///
    /// # Errors
    /// [`Failure`] for all of them; per call its own.
    pub async fn scripts(
        &self,
        access: Access,
        script: &Script,
        calls: &[(Parts<'_>, Parts<'_>)],
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let invoke = |name: &str, what: &str, at: &[usize]| {
            let mut commands = Pipeline::new();
            for (keys, args) in at.iter().filter_map(|at| calls.get(*at)) {
                commands.cmd(name).arg(what).arg(keys.len());
                for part in keys.iter().chain(args) {
                    commands.arg(*part);
                }
            }
            commands
        };
        let all: Vec<usize> = (0..calls.len()).collect();
        let mut answers = self.pipeline(access, &invoke("EVALSHA", script.hash(), &all)).await?;
        let is_unknown =
            |answer: &Result<Value, Failure>| answer.as_ref().is_err_and(|failure| failure.why.starts_with("NOSCRIPT"));
        let unknown: Vec<usize> = all.into_iter().filter(|at| answers.get(*at).is_some_and(is_unknown)).collect();
        if !unknown.is_empty() {
            // Nothing ran where the script is not known.
            let whole = self.pipeline(access, &invoke("EVAL", script.code(), &unknown)).await?;
            for (at, answer) in unknown.into_iter().zip(whole) {
                answers[at] = answer;
            }
        }
        Ok(answers)
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

    /// Runs commands as one transaction; what the server said to each. Unlike [`Link::transaction`], one that is refused while
    /// its neighbours are carried out fails alone.
    ///
    /// # Errors
    /// [`Failure`]: of all of them.
    pub async fn together(&self, commands: &mut Pipeline) -> Result<Vec<Result<Value, Failure>>, Failure> {
        commands.atomic();
        let commands = &*commands;
        // One answer to each command, that it is queued, and one to the beginning come before the one that counts.
        let before = commands.len() + 1;
        let run = |mut shared: Shared| -> Running<'_, Vec<Value>> {
            Box::pin(async move {
                let mut answers = shared.connection.req_packed_commands(commands, before, 1).await?;
                match answers.pop() {
                    Some(Value::Array(values)) => Ok(values),
                    Some(Value::ServerError(error)) => Err(error.into()),
                    _ => Err((redis::ErrorKind::UnexpectedReturnType, "a transaction was not carried out").into()),
                }
            })
        };
        let values = self.again(Access::Write, &run).await?;
        Ok(values.into_iter().map(|value| own(value, Access::Write)).collect())
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
