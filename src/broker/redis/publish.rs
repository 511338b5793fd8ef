//! Publishing: bodies at the tail of their lists, later ones into Machinery's set.

use std::sync::atomic::Ordering;

use redis::Value;

use super::frame::{self, Later};
use super::{BATCH_BYTES_MAX, BATCH_MAX, Inner, layout, told};
use crate::broker::{NewTask, Published};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    /// Due: to the list of its queue.
    Due(&'a QueueName),
    /// Later, and the body names the queue: a member of Machinery's set.
    Delayed,
    /// Later, of a body that says nothing of its queue.
    Later,
}

impl Inner {
    /// Publishes. Each command stands for itself: one that fails says so for its messages alone.
    pub(super) async fn publish(&self, tasks: &[NewTask]) -> Vec<Result<Published, StoreError>> {
        if tasks.is_empty() {
            return Vec::new();
        }
        let now = self.clock.wall();
        let mut parts: Vec<Part<'_>> = Vec::new();
        for (i, task) in tasks.iter().enumerate() {
            let kind = match task.available_at.filter(|at| *at > now) {
                None => Kind::Due(&task.queue),
                Some(_) if frame::routing_key(&task.body) == Some(task.queue.as_str()) => Kind::Delayed,
                Some(_) => Kind::Later,
            };
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
            match (kind, task.available_at) {
                (Kind::Due(_), _) | (_, None) => part.command.arg(&task.body[..]),
                (Kind::Delayed, Some(at)) => part.command.arg(at.0).arg(&task.body[..]),
                (Kind::Later, Some(at)) => {
                    let member = Later::fresh(at, self.sequence(now), task.queue.as_str(), &task.body);
                    part.command.arg(at.0).arg(&member[..])
                }
            };
        }
        let (mut pipeline, names) = self.naming(tasks.iter().map(|task| &task.queue));
        for part in &parts {
            pipeline.add_command(part.command.clone());
        }
        let answers = self.link.pipeline(Access::Write, &pipeline).await;
        let result = |at: usize| match &answers {
            Ok(answers) => answers.get(at + names.len()).map_or(Ok(()), |answer| answer.as_ref().map(|_: &Value| ())),
            Err(failure) => Err(failure),
        };
        let mut published = vec![Ok(Published::New); tasks.len()];
        for (at, part) in parts.iter().enumerate() {
            match result(at) {
                Ok(()) => self.published(part.kind),
                Err(failure) => part.items.iter().for_each(|i| published[*i] = Err(told(Failure::clone(failure)))),
            }
        }
        if answers.is_ok_and(|answers| answers.iter().take(names.len()).all(Result::is_ok)) {
            self.named(&names);
        }
        published
    }

    fn part<'a>(&self, kind: Kind<'a>) -> Part<'a> {
        let (name, key) = match kind {
            Kind::Due(queue) => ("RPUSH", queue.as_str()),
            Kind::Delayed => ("ZADD", self.options.delayed_tasks_key.as_str()),
            Kind::Later => ("ZADD", layout::LATER),
        };
        let mut command = redis::cmd(name);
        command.arg(key);
        Part { command, kind, items: Vec::new(), bytes: 0 }
    }

    // Others hear of it from Redis.
    fn published(&self, kind: Kind<'_>) {
        match kind {
            Kind::Due(queue) => self.queue(queue).tell(),
            Kind::Delayed | Kind::Later => self.delayed.notify_one(),
        }
    }

    /// Commands that write down the queues among `queues` whose names Redis was not told yet.
    pub(super) fn naming<'a>(&self, queues: impl Iterator<Item = &'a QueueName>) -> (redis::Pipeline, Vec<QueueName>) {
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
        let mut pipeline = redis::pipe();
        for name in &names {
            pipeline.cmd("SADD").arg(layout::QUEUES).arg(name.as_str());
        }
        (pipeline, names)
    }

    /// Redis was told of these queues.
    pub(super) fn named(&self, names: &[QueueName]) {
        for name in names {
            self.queue(name).is_named.store(true, Ordering::Relaxed);
        }
    }
}
