//! How the ledger talks to its Redis, and reads what it answers.

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};

use crate::error::StoreError;
use crate::link::redis::{Access, Link, Script};
use crate::task::record::RecordError;

use super::layout::{self, Arg, ITEMS_MAX, RECORDS};

/// The room's name.
pub(super) const NAME: &str = "redis";

/// The Redis of a ledger.
#[derive(Debug, Clone)]
pub(super) struct Store {
    link: Link,
}

impl Store {
    /// The store behind `link`.
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }

    /// Runs a script that writes.
    pub(super) async fn run(&self, script: &Script, args: &[Arg<'_>]) -> Result<Value, StoreError> {
        self.link.script(Access::Write, script, &[RECORDS], args).await.map_err(|failure| failure.told_by(NAME))
    }

    /// Runs a command that writes.
    pub(super) async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.link.command(Access::Write, command).await.map_err(|failure| failure.told_by(NAME))
    }

    /// Runs a command that only looks.
    pub(super) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.link.command(Access::Read, command).await.map_err(|failure| failure.told_by(NAME))
    }

    /// Runs commands that only look, one round trip, others may come in between.
    pub(super) async fn read_all(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let answers = self.link.pipeline(Access::Read, commands).await.map_err(|failure| failure.told_by(NAME))?;
        answers.into_iter().map(|answer| answer.map_err(|failure| failure.told_by(NAME))).collect()
    }

    /// Runs commands that only look, at one moment.
    pub(super) async fn read_at_once(&self, mut commands: Pipeline) -> Result<Vec<Value>, StoreError> {
        self.link.transaction(&mut commands).await.map_err(|failure| match failure.told_by(NAME) {
            // Nothing is written by looking.
            StoreError::OutcomeUnknown { store, why } => StoreError::Unavailable { store, why },
            other => other,
        })
    }

    /// A page of an index whose scores are all 0: what is after `after`, in order of the bytes.
    pub(super) async fn page(&self, key: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, StoreError> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(key).arg(from).arg("+").arg("LIMIT").arg(0).arg(limit(max));
        texts(self.read(&command).await?)
    }

    /// Fields of a hash, in pieces.
    pub(super) async fn fields<F: AsRef<str>>(
        &self,
        key: &str,
        fields: &[F],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut found = Vec::with_capacity(fields.len());
        for piece in fields.chunks(ITEMS_MAX) {
            found.extend(bytes_list(self.read(&hmget(key, piece.iter().map(AsRef::as_ref))).await?)?);
        }
        Ok(found)
    }

    /// Runs a script that forgets what is past a moment, µs; answers how much.
    pub(super) async fn sweep(&self, script: &Script, until: u64, max: usize) -> Result<usize, StoreError> {
        let forgotten = int(&self.run(script, &[layout::number(until), layout::number(max)]).await?)?;
        Ok(usize::try_from(forgotten).unwrap_or_default())
    }

    /// Runs commands that write, all or none.
    pub(super) async fn write_at_once(&self, mut commands: Pipeline) -> Result<Vec<Value>, StoreError> {
        self.link.transaction(&mut commands).await.map_err(|failure| failure.told_by(NAME))
    }
}

/// A batch that is carried out in pieces: after the first one it can no longer be said that nothing was written.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    is_begun: bool,
}

impl Pieces {
    /// The answer of the next piece, its error in the words that hold for the whole.
    pub(super) fn next<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match answer {
            Err(StoreError::Unavailable { store, why } | StoreError::Full { store, why }) if self.is_begun => {
                Err(StoreError::OutcomeUnknown { store, why })
            }
            answer => {
                self.is_begun = true;
                answer
            }
        }
    }
}

/// What is stored, or was answered, is not what it should be.
pub(super) fn corrupt(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { store: NAME, why: format!("{what}: {why}") }
}

/// A stored message.
pub(super) fn decode<M: prost::Message + Default>(what: &str, bytes: Bytes) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| corrupt(what, RecordError::from(error)))
}

/// At most so many, as Redis takes it.
pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

fn odd(expected: &str, value: &Value) -> StoreError {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    corrupt("an answer", format_args!("{kind} instead of {expected}"))
}

/// A list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        // The newer protocol tells sets and pairs apart from lists.
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        other => Err(odd("a list", &other)),
    }
}

/// A number.
pub(super) fn int(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(odd("a number", other)),
    }
}

/// Bytes; `None`: there are none.
pub(super) fn bytes(value: Value) -> Result<Option<Bytes>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::Nil => Ok(None),
        other => Err(odd("a text", &other)),
    }
}

/// Text that must be there.
pub(super) fn text(value: Value) -> Result<String, StoreError> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|error| corrupt("a text", error)),
        other => Err(odd("a text", &other)),
    }
}

/// A list of bytes.
pub(super) fn bytes_list(value: Value) -> Result<Vec<Option<Bytes>>, StoreError> {
    list(value)?.into_iter().map(bytes).collect()
}

/// A list of texts.
pub(super) fn texts(value: Value) -> Result<Vec<String>, StoreError> {
    list(value)?.into_iter().map(text).collect()
}

/// A list of texts, each followed by what belongs to it.
pub(super) fn text_pairs(value: Value) -> Result<Vec<(String, String)>, StoreError> {
    let mut flat = texts(value)?.into_iter();
    Ok(std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect())
}

/// A number within a text.
pub(super) fn parsed(what: &str, text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|error| corrupt(what, error))
}

/// `HMGET key fields…`. No field, no command: ask only for some.
pub(super) fn hmget<'a>(key: &str, fields: impl Iterator<Item = &'a str>) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(key);
    for field in fields {
        command.arg(field);
    }
    command
}
