//! Publishing: bodies at the tail of their lists, later ones into Machinery's set.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use redis::Value;

use super::frame::{self, Later};
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, layout, told};
use crate::broker::{NewTask, Published};
use crate::clock::WallTime;
use crate::error::StoreError;
use crate::link::redis::{Access, Failure};
use crate::task::QueueName;

/// One command, and the messages that it carries.
struct Part<'a> {
    command: redis::Cmd,
    kind: Kind<'a>,
    items: Vec<usize>,
    bytes: usize,
}

/// Messages as commands: names of queues first, then the messages.
pub(crate) struct Batch<'a> {
    parts: Vec<Part<'a>>,
    names: Vec<QueueName>,
}

impl Batch<'_> {
    /// The commands, each of which stands for itself.
    pub(crate) fn commands(&self) -> impl Iterator<Item = redis::Cmd> {
        self.names.iter().map(naming).chain(self.parts.iter().map(|part| part.command.clone()))
    }
}

fn naming(name: &QueueName) -> redis::Cmd {
    let mut command = redis::cmd("SADD");
    command.arg(layout::QUEUES).arg(name.as_str());
    command
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    /// Due: to the list of its queue.
    Due(&'a QueueName),
    /// Later, and the body names the queue: a member of Machinery's set.
    Delayed,
    /// Later, of a body that says nothing of its queue.
    Later,
}

impl<'a> Kind<'a> {
    fn of(task: &'a NewTask, now: WallTime) -> Self {
        match task.available_at.filter(|at| *at > now) {
            None => Self::Due(&task.queue),
            Some(_) if frame::routing_key(&task.body) == Some(task.queue.as_str()) => Self::Delayed,
            Some(_) => Self::Later,
        }
    }
}

/// A message as a script publishes it together with other things.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    kind: Kind<'a>,
    /// The command.
    pub(crate) verb: &'static str,
    /// Its key.
    pub(crate) key: &'a str,
    /// Of a sorted set, in unix ns; else empty.
    pub(crate) score: String,
    /// What is put there.
    pub(crate) member: Bytes,
}

impl super::Broker {
    /// How `task` is published.
    pub(crate) fn place<'a>(&'a self, task: &'a NewTask) -> Placed<'a> {
        let now = self.inner.clock.wall();
        let kind = Kind::of(task, now);
        let (verb, key) = self.inner.place(kind);
        let (score, member) = self.inner.member(kind, task, now);
        Placed { kind, verb, key, score: score.map(|at| at.to_string()).unwrap_or_default(), member }
    }

    /// Queues among those of `tasks` that are to be written down in [`layout::QUEUES`] with them.
    pub(crate) fn unnamed<'a>(&self, tasks: impl Iterator<Item = &'a NewTask>) -> (&'static str, Vec<QueueName>) {
        (layout::QUEUES, self.inner.unnamed(tasks.map(|task| &task.queue)))
    }

    /// `tasks` as commands, to be carried out together with others.
    pub(crate) fn batch<'a>(&self, tasks: &'a [NewTask]) -> Batch<'a> {
        self.inner.batch(tasks)
    }

    /// What the answers to [`Batch::commands`] mean for `count` messages; wakes who waits for them.
    pub(crate) fn concluded(
        &self,
        batch: &Batch<'_>,
        answers: &Result<Vec<Result<Value, Failure>>, Failure>,
        count: usize,
    ) -> Vec<Result<Published, StoreError>> {
        self.inner.concluded(batch, answers, count)
    }

    /// What was placed is published, and the queues are written down.
    pub(crate) fn placed(&self, placed: &[Placed<'_>], names: &[QueueName]) {
        placed.iter().for_each(|placed| self.inner.published(placed.kind));
        self.inner.named(names);
    }
}

impl Inner {
    /// Publishes. Each command stands for itself: one that fails says so for its messages alone.
    pub(super) async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        if tasks.is_empty() {
            return Vec::new();
        }
        let batch = self.batch(tasks);
        let mut pipeline = redis::pipe();
        batch.commands().for_each(|command| {
            pipeline.add_command(command);
        });
        let answers = self.link.pipeline(Access::Write, &pipeline).await;
        self.concluded(&batch, &answers, tasks.len())
    }

    /// The commands that publish `tasks`.
    fn batch<'a>(&self, tasks: &'a [NewTask]) -> Batch<'a> {
        let now = self.clock.wall();
        let mut parts: Vec<Part<'_>> = Vec::new();
        for (i, task) in tasks.iter().enumerate() {
            let kind = Kind::of(task, now);
            let has_room = |part: &Part<'_>| {
                part.kind == kind && part.items.len() < BATCH_MAX && part.bytes + task.body.len() <= BATCH_BYTES_MAX
            };
            // The latest of a kind, so that order is kept.
            let open = parts.iter().rposition(|part| part.kind == kind).filter(|at| has_room(&parts[*at]));
            let at = open.unwrap_or_else(|| {
                parts.push(self.part(kind));
                parts.len() - 1
            });
            let part = &mut parts[at];
            part.items.push(i);
            part.bytes += task.body.len();
            let (score, member) = self.member(kind, task, now);
            part.command.arg(score).arg(&member[..]);
        }
        Batch { parts, names: self.unnamed(tasks.iter().map(|task| &task.queue)) }
    }

    /// What the answers to [`Batch::commands`] mean for its messages.
    fn concluded(
        &self,
        Batch { parts, names }: &Batch<'_>,
        answers: &Result<Vec<Result<Value, Failure>>, Failure>,
        count: usize,
    ) -> Vec<Result<Published, StoreError>> {
        let result = |at: usize| match answers {
            Ok(answers) => answers.get(at + names.len()).map_or(Ok(()), |answer| answer.as_ref().map(|_: &Value| ())),
            Err(failure) => Err(failure),
        };
        let mut published = vec![Ok(Published::New); count];
        for (at, part) in parts.iter().enumerate() {
            match result(at) {
                Ok(()) => self.published(part.kind),
                Err(failure) => part.items.iter().for_each(|i| published[*i] = Err(told(Failure::clone(failure)))),
            }
        }
        if answers.as_ref().is_ok_and(|answers| answers.iter().take(names.len()).all(Result::is_ok)) {
            self.named(names);
        }
        published
    }

    /// When it is due, if it is later, and what stands in the key.
    fn member(&self, kind: Kind<'_>, task: &NewTask, now: WallTime) -> (Option<u64>, Bytes) {
        match (kind, task.available_at) {
            (Kind::Due(_), _) | (_, None) => (None, task.body.clone()),
            (Kind::Delayed, Some(at)) => (Some(at.0), task.body.clone()),
            (Kind::Later, Some(at)) => {
                (Some(at.0), Later::fresh(at, self.sequence(now), task.queue.as_str(), &task.body))
            }
        }
    }

    /// The command that publishes, and its key.
    fn place<'a>(&'a self, kind: Kind<'a>) -> (&'static str, &'a str) {
        match kind {
            Kind::Due(queue) => ("RPUSH", queue.as_str()),
            Kind::Delayed => ("ZADD", self.options.delayed_tasks_key.as_str()),
            Kind::Later => ("ZADD", layout::LATER),
        }
    }

    fn part<'a>(&self, kind: Kind<'a>) -> Part<'a> {
        let (name, key) = self.place(kind);
        let mut command = redis::cmd(name);
        command.arg(key);
        Part { command, kind, items: Vec::new(), bytes: 0 }
    }

    // Others hear of it from Redis.
    fn published(&self, kind: Kind<'_>) {
        match kind {
            Kind::Due(queue) => self.queue(queue).feed(),
            Kind::Delayed | Kind::Later => self.delayed.notify_one(),
        }
    }

    /// Queues among `queues` whose names Redis was not told yet.
    pub(super) fn unnamed<'a>(&self, queues: impl Iterator<Item = &'a QueueName>) -> Vec<QueueName> {
        let mut names: Vec<QueueName> = Vec::new();
        let mut last = None;
        for name in queues {
            if last == Some(name) {
                continue;
            }
            last = Some(name);
            if !names.contains(name) && !self.queue(name).is_named.load(Ordering::Relaxed) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Commands that write down the queues among `queues` whose names Redis was not told yet.
    pub(super) fn naming<'a>(&self, queues: impl Iterator<Item = &'a QueueName>) -> (redis::Pipeline, Vec<QueueName>) {
        let names = self.unnamed(queues);
        let mut pipeline = redis::pipe();
        names.iter().for_each(|name| {
            pipeline.add_command(naming(name));
        });
        (pipeline, names)
    }

    /// Redis was told of these queues.
    pub(super) fn named(&self, names: &[QueueName]) {
        for name in names {
            self.queue(name).is_named.store(true, Ordering::Relaxed);
        }
    }
}
