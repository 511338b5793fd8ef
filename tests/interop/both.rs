//! Workers of both kinds on one queue, and workflows whose members name the side that works them.

use std::collections::HashMap;

use lineshaft_client::{AsyncChain, AsyncChord, Chain, Chord, Task};
use serde_json::{Value, json};

use crate::go;
use crate::ours::{self, Running, Seen};
use crate::support::until;
use crate::world::*;

/// What the worker of Machinery registers: names that end in `_go`, and what both know.
pub(crate) const FUNCTIONS: [&str; 6] = ["add_go", "held_go", "fails_go", "either", "list", "text"];

/// Who works a task, or sends a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Go,
}

pub(crate) const SIDES: [Side; 2] = [Side::Ours, Side::Go];

impl Side {
    /// The name under which only this side knows a function.
    pub(crate) fn name(self, function: &str) -> String {
        match self {
            Side::Ours => format!("{function}_ours"),
            Side::Go => format!("{function}_go"),
        }
    }
}

/// A task as both kinds of producers can send it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) args: Vec<Value>,
    pub(crate) is_immutable: bool,
    pub(crate) retries: u32,
    pub(crate) on_error: Option<Box<Step>>,
    pub(crate) id: Option<String>,
}

/// A task with whole numbers, texts and truths.
pub(crate) fn step(name: impl Into<String>, args: &[Value]) -> Step {
    Step { name: name.into(), args: args.to_vec(), is_immutable: false, retries: 0, on_error: None, id: None }
}

impl Step {
    pub(crate) fn immutable(mut self) -> Self {
        self.is_immutable = true;
        self
    }

    pub(crate) fn retries(mut self, count: u32) -> Self {
        self.retries = count;
        self
    }

    pub(crate) fn on_error(mut self, step: Step) -> Self {
        self.on_error = Some(Box::new(step));
        self
    }

    pub(crate) fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(crate) fn to_ours(&self) -> Task {
        let mut task = Task::new(&self.name).retry(self.retries);
        for arg in &self.args {
            task = match arg {
                Value::String(text) => task.arg(text.as_str()),
                Value::Bool(yes) => task.arg(*yes),
                number => task.arg(number.as_i64().unwrap()),
            };
        }
        if let Some(step) = &self.on_error {
            task = task.on_error(step.to_ours());
        }
        if let Some(id) = &self.id {
            task = task.id(id);
        }
        if self.is_immutable { task.immutable() } else { task }
    }

    pub(crate) fn to_go(&self) -> Value {
        let label = |arg: &Value| match arg {
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "int64",
        };
        let args: Vec<_> = self.args.iter().map(|arg| (label(arg), arg.clone())).collect();
        let mut task = go::task(&self.name, &args);
        task["Immutable"] = json!(self.is_immutable);
        task["RetryCount"] = json!(self.retries);
        if let Some(id) = &self.id {
            task["UUID"] = json!(id);
        }
        if let Some(step) = &self.on_error {
            task["OnError"] = json!([step.to_go()]);
        }
        task
    }
}

/// The ids of a chord.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) group: String,
    pub(crate) tasks: Vec<String>,
    pub(crate) callback: String,
}

pub(crate) async fn send_chord(world: &World, by: Side, tasks: &[Step], callback: &Step) -> Sent {
    match by {
        Side::Ours => {
            let chord = Chord::new(tasks.iter().map(Step::to_ours), callback.to_ours());
            of_chord(&world.client.send_chord(chord).await.unwrap())
        }
        Side::Go => {
            let chord = (tasks.iter().map(Step::to_go).collect(), Some(callback.to_go()));
            let go::Sent { group, tasks, callback } = go::send_together(world, "chord", &[chord]).await.remove(0);
            Sent { group, tasks, callback }
        }
    }
}

pub(crate) fn of_chord(chord: &AsyncChord) -> Sent {
    let tasks = chord.group().results().map(|task| task.id().to_owned()).collect();
    Sent { group: chord.id().to_owned(), tasks, callback: chord.callback().id().to_owned() }
}

/// Sends a chain; the ids of its tasks.
pub(crate) async fn send_chain(world: &World, by: Side, tasks: &[Step]) -> Vec<String> {
    match by {
        Side::Ours => {
            let chain = Chain::new(tasks.iter().map(Step::to_ours));
            of_chain(&world.client.send_chain(chain).await.unwrap())
        }
        Side::Go => {
            let chain = (tasks.iter().map(Step::to_go).collect(), None);
            go::send_together(world, "chain", &[chain]).await.remove(0).tasks
        }
    }
}

pub(crate) fn of_chain(chain: &AsyncChain) -> Vec<String> {
    chain.group().results().map(|task| task.id().to_owned()).collect()
}

/// A server, and a worker of each kind.
pub(crate) struct Both {
    // What is declared first is ended first.
    pub(crate) machinery: go::Worker,
    pub(crate) seen: Seen,
    worker: Running,
    pub(crate) world: World,
}

impl Both {
    pub(crate) async fn new() -> Self {
        Self::on(World::new().await, &[]).await
    }

    /// With these variables for the worker of Machinery.
    pub(crate) async fn on(world: World, variables: &[(&str, &str)]) -> Self {
        let machinery = Self::machinery(&world, variables).await;
        let seen = Seen::default();
        let worker = ours::run(ours::mixed(ours::worker(&world), &seen));
        Self { machinery, seen, worker, world }
    }

    /// A worker of Machinery alone.
    pub(crate) async fn machinery(world: &World, variables: &[(&str, &str)]) -> go::Worker {
        go::Worker::start_with(world, "go", 8, &FUNCTIONS, variables).await
    }

    /// Of a worker that runs already, beside one of Machinery that does, too, or is started now.
    pub(crate) async fn of(world: World, seen: Seen, worker: Running, machinery: Option<go::Worker>) -> Self {
        let machinery = match machinery {
            Some(machinery) => machinery,
            None => Self::machinery(&world, &[]).await,
        };
        Self { machinery, seen, worker, world }
    }

    /// A file that a task may wait for.
    pub(crate) fn gate(&self, name: &str) -> String {
        self.world.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// How often each task was begun: by name of those that write it down.
    pub(crate) fn begun(&self) -> HashMap<String, usize> {
        let mut begun = HashMap::new();
        for id in self.machinery.tasks("start").into_iter().chain(self.seen.tasks()) {
            *begun.entry(id).or_default() += 1;
        }
        begun
    }

    /// Ends our worker, and shows that each of these tasks was begun once, and none is left in the queue.
    pub(crate) async fn once<'a>(self, tasks: impl IntoIterator<Item = &'a String>) {
        let begun = self.drained().await;
        for task in tasks {
            assert_eq!(begun.get(task), Some(&1), "{task} ran once");
        }
        self.worker.stop().await;
    }

    /// The same, where a crash may have repeated what a worker of Machinery had taken already: begun once or more. Those that were
    /// begun more often: how often here, and how often there.
    pub(crate) async fn at_least_once(self, tasks: &[String]) -> Vec<(String, usize, usize)> {
        let begun = self.drained().await;
        let (here, there) = (self.seen.tasks(), self.machinery.tasks("start"));
        let of = |all: &[String], id: &String| all.iter().filter(|other| *other == id).count();
        let mut again = Vec::new();
        for task in tasks {
            let times = begun.get(task).copied().unwrap_or_default();
            assert!(times > 0, "{task} ran");
            if times > 1 {
                again.push((task.clone(), of(&here, task), of(&there, task)));
            }
        }
        self.worker.stop().await;
        again
    }

    async fn drained(&self) -> HashMap<String, usize> {
        let mut connection = self.world.connection().await;
        until("the queue is empty", async || (length(&mut connection, QUEUE).await == 0).then_some(())).await;
        self.begun()
    }
}

/// Lets a task go on that waits for this file.
pub(crate) fn open(gate: &str) {
    std::fs::write(gate, "").unwrap();
}
