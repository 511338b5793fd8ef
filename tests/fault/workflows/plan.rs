//! The workflows that are sent, and what Machinery's rules make of each: shared by the producer that sends them and the test
//! that compares. All is decided by a prefix and a number.

use std::collections::BTreeMap;

use lineshaft_client::{Chain, Chord, Task};

/// Members of a chord.
pub(crate) const MEMBERS: u32 = 20;
/// Links of a chain.
pub(crate) const LINKS: u32 = 10;
/// Functions of the worker: `add` answers the sum of all integers it is given, `flaky` the same after one retry, `fail` always
/// fails.
pub(crate) const NAMES: [&str; 3] = ["add", "flaky", "fail"];

/// One task, and what is called back.
#[derive(Debug, Clone)]
struct Step {
    id: String,
    name: &'static str,
    own: i64,
    immutable: bool,
    then: Vec<Step>,
    alarm: Vec<Step>,
}

/// What must come of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It runs with these arguments, as the witness writes them, and answers.
    Succeeds(String),
    /// It runs with these arguments, and fails.
    Fails(String),
    /// It ends in FAILURE without being run.
    Never,
}

/// The ends of all tasks, by id.
pub(crate) type Ends = BTreeMap<String, End>;

/// Tasks that are sent together.
#[derive(Debug, Clone)]
pub(crate) struct Workflow {
    pub(crate) id: String,
    tasks: Vec<Step>,
    /// Of a chord.
    callback: Option<Step>,
    is_always: bool,
}

/// What the worker computes of its arguments.
pub(crate) fn sum(args: &[String]) -> i64 {
    args.iter().filter_map(|arg| arg.parse::<i64>().ok()).fold(0, i64::wrapping_add)
}

/// The text of a failure with these arguments.
pub(crate) fn failure(args: &[String]) -> String {
    format!("failed-with-{}", sum(args))
}

/// What the witness writes of these arguments: one word.
pub(crate) fn word(args: &[String]) -> String {
    args.join(",")
}

impl Step {
    fn new(id: String, name: &'static str, own: u32) -> Self {
        Self { id, name, own: i64::from(own), immutable: false, then: Vec::new(), alarm: Vec::new() }
    }

    fn task(&self) -> Task {
        let mut task = Task::new(self.name).id(&self.id).queue("fault").arg(self.own);
        if self.name == "flaky" {
            task = task.retry(1);
        }
        if self.immutable {
            task = task.immutable();
        }
        task = self.then.iter().fold(task, |task, next| task.on_success(next.task()));
        self.alarm.iter().fold(task, |task, next| task.on_error(next.task()))
    }

    /// It never runs, and nothing that waits for its success.
    fn never(&self, ends: &mut Ends) {
        ends.insert(self.id.clone(), End::Never);
        self.then.iter().for_each(|next| next.never(ends));
    }

    /// It runs with `before` and `behind` around its own argument; `None`: it fails.
    fn run(&self, before: &[String], behind: &[String], ends: &mut Ends) -> Option<Vec<String>> {
        let args: Vec<String> = before.iter().cloned().chain([self.own.to_string()]).chain(behind.to_vec()).collect();
        if self.name == "fail" {
            ends.insert(self.id.clone(), End::Fails(word(&args)));
            self.then.iter().for_each(|next| next.never(ends));
            for next in &self.alarm {
                next.run(&[failure(&args)], &[], ends);
            }
            return None;
        }
        ends.insert(self.id.clone(), End::Succeeds(word(&args)));
        let results = vec![sum(&args).to_string()];
        let passed = if self.immutable { &[][..] } else { &results };
        for next in &self.then {
            next.run(&[], passed, ends);
        }
        Some(results)
    }
}

impl Workflow {
    /// A chord: one in ten has a member that fails, one in ten is called back in any case.
    pub(crate) fn chord(prefix: &str, number: u32) -> Self {
        let id = format!("{prefix}-chord-{number}");
        let member = |place: u32| {
            let fails = number % 10 == 3 && place == number / 10 % MEMBERS;
            let name = if fails { "fail" } else { NAMES[usize::from((number + place) % 10 == 7)] };
            let mut step = Step::new(format!("{id}-{place}"), name, place);
            if place == 0 {
                step.then.push(Step::new(format!("{id}-0-then"), "add", number));
            }
            if fails {
                step.alarm.push(Step::new(format!("{id}-{place}-alarm"), "add", number));
            }
            step
        };
        let tasks = (0..MEMBERS).map(member).collect();
        let mut callback = Step::new(format!("{id}-callback"), "add", 1000 + number);
        callback.immutable = number % 10 == 8;
        if number.is_multiple_of(4) {
            callback.then.push(Step::new(format!("{id}-last"), "add", 5));
        }
        Self { id, tasks, callback: Some(callback), is_always: number % 10 == 6 || number % 20 == 3 }
    }

    /// A chain: one in ten has a link that fails.
    pub(crate) fn chain(prefix: &str, number: u32) -> Self {
        let id = format!("{prefix}-chain-{number}");
        let link = |place: u32| {
            let fails = number % 10 == 5 && place == number / 10 % LINKS;
            let flaky = number.is_multiple_of(3) && place == number % LINKS;
            let name = if fails { "fail" } else { NAMES[usize::from(flaky)] };
            let mut step = Step::new(format!("{id}-{place}"), name, place);
            step.immutable = number % 7 == 2 && place == 4;
            if number % 5 == 1 && place == 3 {
                step.then.push(Step::new(format!("{id}-beside"), "add", number));
            }
            if fails {
                step.alarm.push(Step::new(format!("{id}-alarm"), "add", number));
            }
            step
        };
        Self { tasks: (0..LINKS).map(link).collect(), id, callback: None, is_always: false }
    }

    /// How many tasks there are, a callback not counted.
    pub(crate) fn total(&self) -> u32 {
        u32::try_from(self.tasks.len()).unwrap_or(u32::MAX)
    }

    /// The ids of its tasks, the callback's not among them.
    pub(crate) fn members(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|task| task.id.as_str())
    }

    /// What is sent of a chord; `None`: it is a chain.
    pub(crate) fn as_chord(&self) -> Option<Chord> {
        let chord = Chord::new(self.tasks.iter().map(Step::task), self.callback.as_ref()?.task());
        let chord = chord.id(&self.id).request_id(format!("send-{}", self.id));
        Some(if self.is_always { chord.always() } else { chord })
    }

    /// What is sent of a chain.
    pub(crate) fn as_chain(&self) -> Chain {
        Chain::new(self.tasks.iter().map(Step::task)).id(&self.id).request_id(format!("send-{}", self.id))
    }

    /// What must come of all tasks.
    pub(crate) fn ends(&self) -> Ends {
        let mut ends = Ends::new();
        let Some(callback) = &self.callback else {
            let mut passed = Some(Vec::new());
            for link in &self.tasks {
                passed = match passed {
                    Some(passed) => link
                        .run(&[], &passed, &mut ends)
                        .map(|results| if link.immutable { Vec::new() } else { results }),
                    None => {
                        link.never(&mut ends);
                        None
                    }
                };
            }
            return ends;
        };
        let outcomes: Vec<(&Step, Option<Vec<String>>)> =
            self.tasks.iter().map(|member| (member, member.run(&[], &[], &mut ends))).collect();
        let passed: Option<Vec<String>> = if self.is_always {
            let said = |(member, outcome): &(&Step, Option<Vec<String>>)| {
                format!("{}:{}", member.id, if outcome.is_some() { "SUCCESS" } else { "FAILURE" })
            };
            Some(outcomes.iter().map(said).collect())
        } else {
            outcomes.into_iter().map(|(_, outcome)| outcome).collect::<Option<Vec<_>>>().map(|all| all.concat())
        };
        match passed {
            Some(_) if callback.immutable => drop(callback.run(&[], &[], &mut ends)),
            Some(passed) => drop(callback.run(&[], &passed, &mut ends)),
            None => callback.never(&mut ends),
        }
        ends
    }
}
