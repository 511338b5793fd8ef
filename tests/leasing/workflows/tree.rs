//! Random workflows, and what Machinery's rules make of them: the specification that servers are compared with.

use std::collections::BTreeMap;

use lineshaft::ledger::join::Kind;
use lineshaft::service::types::{Submission, Workflow};
use lineshaft::task::{Arg, ArgValue, GroupId, QueueName, Status, TaskId};

use super::random::Random;

/// Functions of the worker: `sum` adds all integers and the lengths of all strings, `two` answers that and one more, `none`
/// answers nothing, `flaky` fails once, `fail` always.
pub(crate) const NAMES: [&str; 5] = ["sum", "two", "none", "flaky", "fail"];

/// What a function answers for these arguments in this attempt.
pub(crate) fn call(name: &str, args: &[Arg], attempt: u32) -> Result<Vec<i64>, String> {
    let of = |arg: &Arg| match &arg.value {
        ArgValue::Int(number) => *number,
        ArgValue::String(text) => i64::try_from(text.len()).unwrap_or(0),
        _ => 0,
    };
    let sum = args.iter().map(of).fold(0, i64::wrapping_add);
    match name {
        "sum" => Ok(vec![sum]),
        "two" => Ok(vec![sum, sum + 1]),
        "none" => Ok(Vec::new()),
        "flaky" if attempt > 1 => Ok(vec![sum]),
        _ => Err(format!("{name} with {sum}")),
    }
}

/// How each task ends, and with which arguments it runs.
pub(crate) type Effects = BTreeMap<String, Effect>;

/// What becomes of one task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effect {
    pub(crate) status: Status,
    /// `None`: it never runs.
    pub(crate) args: Option<Vec<ArgValue>>,
}

/// A tree of tasks, ids numbered below `prefix`.
pub(crate) struct Grower<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) prefix: String,
    next: u32,
}

impl<'a> Grower<'a> {
    pub(crate) fn new(random: &'a mut Random, prefix: String) -> Self {
        Self { random, prefix, next: 0 }
    }

    fn task(&mut self, depth: u32) -> Submission {
        self.next += 1;
        let id = format!("{}-{}", self.prefix, self.next);
        let name = match self.random.below(10) {
            0..=5 => "sum",
            6 => "two",
            7 => "none",
            8 => "flaky",
            _ => "fail",
        };
        let mut numbers: Vec<Arg> = Vec::new();
        for _ in 0..self.random.below(3) {
            numbers.push(Arg::new("n", None, ArgValue::Int(self.random.below(100) as i64)).expect("is an integer"));
        }
        let children = |grower: &mut Self| -> Vec<Submission> {
            let count = if depth == 0 || !grower.random.one_in(3) { 0 } else { 1 + grower.random.below(2) };
            (0..count).map(|_| grower.task(depth - 1)).collect()
        };
        let (on_success, on_error) = (children(self), children(self));
        Submission {
            id: Some(TaskId::trusted(id)),
            name: name.into(),
            queue: Some(QueueName::trusted("q")),
            args: numbers.into_iter().map(|arg| Arg { name: String::new(), ..arg }).collect(),
            retry_count: u32::from(name == "flaky"),
            immutable: self.random.one_in(4),
            on_success,
            on_error,
            ..Submission::default()
        }
    }

    /// A group, a chord or a chain.
    pub(crate) fn workflow(&mut self) -> Workflow {
        let kind = *self.random.pick(&[Kind::Group, Kind::Chord, Kind::Chain]);
        let tasks = (0..=self.random.below(5)).map(|_| self.task(2)).collect();
        let callback = (kind == Kind::Chord).then(|| self.task(2));
        Workflow {
            kind,
            id: Some(GroupId::trusted(format!("{}-all", self.prefix))),
            request_id: Some(format!("{}-request", self.prefix)),
            tasks,
            callback,
            is_always: kind == Kind::Chord && self.random.one_in(4),
        }
    }
}

/// What becomes of a workflow.
pub(crate) fn effects(workflow: &Workflow) -> Effects {
    let mut effects = Effects::new();
    if workflow.kind == Kind::Chain {
        chain(&workflow.tasks, Vec::new(), &mut effects);
        return effects;
    }
    let outcomes: Vec<Option<Vec<ArgValue>>> =
        workflow.tasks.iter().map(|task| run(task, Vec::new(), &mut effects)).collect();
    let Some(callback) = &workflow.callback else { return effects };
    if workflow.is_always {
        // The outcomes themselves are looked at apart: their text has times in it.
        run_with(callback, None, outcomes.len(), &mut effects);
    } else if outcomes.iter().all(Option::is_some) {
        let results = if callback.immutable { Vec::new() } else { outcomes.into_iter().flatten().flatten().collect() };
        run(callback, results, &mut effects);
    } else {
        never(callback, &mut effects);
    }
    effects
}

fn chain(tasks: &[Submission], passed: Vec<ArgValue>, effects: &mut Effects) {
    let Some((first, rest)) = tasks.split_first() else { return };
    match run(first, passed, effects) {
        Some(results) => chain(rest, if first.immutable { Vec::new() } else { results }, effects),
        None => rest.iter().for_each(|task| never(task, effects)),
    }
}

fn never(task: &Submission, effects: &mut Effects) {
    let id = task.id.as_ref().expect("has an id").to_string();
    effects.insert(id, Effect { status: Status::Failure, args: None });
    task.on_success.iter().for_each(|next| never(next, effects));
}

/// Runs a task with these arguments behind its own; `None`: it fails.
fn run(task: &Submission, passed: Vec<ArgValue>, effects: &mut Effects) -> Option<Vec<ArgValue>> {
    run_with(task, Some(passed), 0, effects)
}

/// `passed` unset: so many strings that the specification does not know.
fn run_with(
    task: &Submission,
    passed: Option<Vec<ArgValue>>,
    strings: usize,
    effects: &mut Effects,
) -> Option<Vec<ArgValue>> {
    let is_known = passed.is_some() || task.immutable;
    let mut values: Vec<ArgValue> = task.args.iter().map(|arg| arg.value.clone()).collect();
    if let Some(passed) = passed {
        values.extend(passed);
    } else if !task.immutable {
        values.extend(vec![ArgValue::String(String::new()); strings]);
    }
    let args: Vec<Arg> = values.iter().map(|value| Arg::new("x", None, value.clone()).expect("is a value")).collect();
    let answer = call(&task.name, &args, if task.retry_count > 0 { 2 } else { 1 });
    let status = if answer.is_ok() { Status::Success } else { Status::Failure };
    let id = task.id.as_ref().expect("has an id").to_string();
    let args = if is_known { values } else { vec![ArgValue::Bool(true)] };
    effects.insert(id, Effect { status, args: Some(args) });
    match answer {
        Ok(results) => {
            let results: Vec<ArgValue> = results.into_iter().map(ArgValue::Int).collect();
            for next in &task.on_success {
                match is_known {
                    true => drop(run(next, if task.immutable { Vec::new() } else { results.clone() }, effects)),
                    false => unknown(next, effects),
                }
            }
            Some(results)
        }
        Err(error) => {
            task.on_success.iter().for_each(|next| never(next, effects));
            for next in &task.on_error {
                let mut with = next.clone();
                with.args.insert(0, Arg::string(&error));
                match is_known {
                    true => drop(run(&with, Vec::new(), effects)),
                    false => unknown(next, effects),
                }
            }
            None
        }
    }
}

/// Behind something whose arguments are not known: statuses hang on names alone.
fn unknown(task: &Submission, effects: &mut Effects) {
    run_with(&Submission { immutable: false, ..task.clone() }, None, 0, effects);
}
