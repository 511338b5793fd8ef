//! Tasks that belong together, as `send` reads them: from the command line, or from a file of JSON.

use std::collections::HashMap;
use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches};
use lineshaft_client::proto;
use serde::Deserialize;
use serde_json::Value;

use super::{Failure, span, value};

/// The largest file that is read, bytes; a server takes far less in one message.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What follows the first task on the command line, or stands in its place.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    then: Vec<Vec<String>>,
    and: Vec<Vec<String>>,
    callback: Option<Vec<String>>,
    always: bool,
    file: Option<(Kind, String)>,
}

/// What tasks are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They run beside each other.
    Group,
    /// They run one behind the other.
    Chain,
    /// They run beside each other, and one more behind them.
    Chord,
}

/// Tasks that are sent together.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// What they are to each other.
    pub kind: Kind,
    /// The tasks, in order.
    pub tasks: Vec<proto::Task>,
    /// What comes behind them; of a chord.
    pub callback: Option<proto::Task>,
    /// The callback is sent however they ended.
    pub always: bool,
}

/// The files, with what their tasks are to each other.
const FILES: [(&str, Kind, &str); 3] = [
    ("group", Kind::Group, "Send the tasks of this file (- for stdin) beside each other; see below for its JSON"),
    ("chain", Kind::Chain, "Send the tasks of this file (- for stdin) one behind the other"),
    ("chord", Kind::Chord, "Send the tasks of this file (- for stdin) beside each other, and its callback behind them"),
];

impl clap::Args for Steps {
    fn augment_args(command: clap::Command) -> clap::Command {
        let task = |id: &'static str, help: &'static str| {
            let arg = Arg::new(id).long(id).value_names(["NAME", "ARG"]).num_args(1..).action(ArgAction::Append);
            arg.allow_negative_numbers(true).help_heading("Tasks that belong together").help(help)
        };
        let command = command
            .arg(
                task(
                    "then",
                    "Send one more behind the task before, with its results behind these arguments; repeatable",
                )
                .conflicts_with_all(["and", "callback"]),
            )
            .arg(task("and", "Send one more beside the others; repeatable"))
            .arg(
                task("callback", "Send one more behind them all, with all their results behind these arguments")
                    .action(ArgAction::Set),
            )
            .arg(
                Arg::new("always")
                    .long("always")
                    .action(ArgAction::SetTrue)
                    .help_heading("Tasks that belong together")
                    .help("Send the callback also if a task has failed; its arguments tell how each ended"),
            );
        let files = FILES.map(|(id, _, help)| {
            let others = FILES.map(|(other, ..)| other).into_iter().filter(move |other| *other != id);
            let arg = Arg::new(id).long(id).value_name("FILE").help_heading("Tasks that belong together").help(help);
            arg.conflicts_with_all(["then", "and", "callback", "always", "name", "args"]).conflicts_with_all(others)
        });
        command.args(files)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Steps {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // Each occurrence is a task of its own.
        let tasks = |id: &str| -> Vec<Vec<String>> {
            let occurrences = matches.get_occurrences::<String>(id).into_iter().flatten();
            occurrences.map(|words| words.cloned().collect()).collect()
        };
        let file = |(id, kind, _): (&str, Kind, &str)| Some((kind, matches.get_one::<String>(id)?.clone()));
        Ok(Self {
            then: tasks("then"),
            and: tasks("and"),
            callback: tasks("callback").pop(),
            always: matches.get_flag("always"),
            file: FILES.into_iter().find_map(file),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Steps {
    /// The tasks, if it is not one only. `first` is the task that stands in front, with the options of all of them.
    ///
    /// # Errors
    /// [`Exit::Usage`](super::Exit::Usage): a file that cannot be read, or tells of no tasks.
    pub fn workflow(&self, first: &proto::Task) -> Result<Option<Workflow>, Failure> {
        // Their id and request id name them all. A moment is that of what is sent first.
        let first = proto::Task { id: String::new(), request_id: String::new(), ..first.clone() };
        let options = proto::Task { name: String::new(), args: Vec::new(), ..first.clone() };
        let later = proto::Task { eta: None, delay: None, ..options.clone() };
        if let Some((kind, path)) = &self.file {
            return read(*kind, path, &options, &later).map(Some);
        }
        let tasks = |kind, options: &proto::Task, steps: &[Vec<String>]| -> Result<Workflow, Failure> {
            let mut tasks = vec![first.clone()];
            for step in steps {
                tasks.push(words(step, options)?);
            }
            Ok(Workflow { kind, tasks, callback: None, always: self.always })
        };
        if let Some(callback) = &self.callback {
            let callback = Some(words(callback, &later)?);
            return Ok(Some(Workflow { callback, ..tasks(Kind::Chord, &options, &self.and)? }));
        }
        if self.always {
            return Err(Failure::usage("--always is about a --callback"));
        }
        Ok(match (self.and.is_empty(), self.then.is_empty()) {
            (false, _) => Some(tasks(Kind::Group, &options, &self.and)?),
            (true, false) => Some(tasks(Kind::Chain, &later, &self.then)?),
            (true, true) => None,
        })
    }
}

/// A task of the command line: its name, then its arguments.
fn words(words: &[String], options: &proto::Task) -> Result<proto::Task, Failure> {
    let (name, args) = words.split_first().ok_or_else(|| Failure::usage("a task has a name"))?;
    let args = args.iter().map(|arg| value::parse(arg)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    Ok(proto::Task { name: name.clone(), args, ..options.clone() })
}

/// A file: the tasks, or they and what is said of them together.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum File {
    Tasks(Vec<Value>),
    Together(Value),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Together {
    tasks: Vec<Value>,
    callback: Option<Value>,
    #[serde(default)]
    always: bool,
}

/// A task in a file; what is absent is as the command's options say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    #[serde(default)]
    args: Vec<Value>,
    id: Option<String>,
    queue: Option<String>,
    routing_key: Option<String>,
    #[serde(default)]
    headers: HashMap<String, String>,
    eta: Option<String>,
    delay: Option<String>,
    priority: Option<u32>,
    retry_count: Option<u32>,
    keep_result: Option<String>,
    attempt_timeout: Option<String>,
    expires_in: Option<String>,
    #[serde(default)]
    immutable: bool,
}

/// An argument as `--json` shows it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    r#type: String,
    value: Value,
}

fn read(kind: Kind, path: &str, options: &proto::Task, later: &proto::Task) -> Result<Workflow, Failure> {
    let told = |why: &dyn std::fmt::Display| Failure::usage(format!("{path:?}: {why}"));
    let mut text = String::new();
    let read = match path {
        "-" => std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)),
    };
    read.map_err(|error| told(&error))?;
    from_json(kind, &text, options, later).map_err(|why| told(&why))
}

fn from_json(kind: Kind, text: &str, options: &proto::Task, later: &proto::Task) -> Result<Workflow, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let together = match file {
        File::Tasks(tasks) => Together { tasks, callback: None, always: false },
        File::Together(object) => serde_json::from_value(object).map_err(|error| error.to_string())?,
    };
    match (kind, &together.callback) {
        (Kind::Chord, None) => return Err("a chord has a \"callback\" beside its \"tasks\"".to_owned()),
        (Kind::Group | Kind::Chain, Some(_)) => return Err("only a chord has a \"callback\"".to_owned()),
        _ => {}
    }
    let mut tasks = Vec::with_capacity(together.tasks.len());
    for (place, given) in together.tasks.into_iter().enumerate() {
        let options = if kind == Kind::Chain && place > 0 { later } else { options };
        tasks.push(task(given, options).map_err(|why| format!("tasks[{place}]: {why}"))?);
    }
    let callback = together.callback.map(|given| task(given, later)).transpose();
    let callback = callback.map_err(|why| format!("callback: {why}"))?;
    Ok(Workflow { kind, tasks, callback, always: together.always })
}

fn task(given: Value, options: &proto::Task) -> Result<proto::Task, String> {
    let given: Given = serde_json::from_value(given).map_err(|error| error.to_string())?;
    let within = |what: &'static str, text: Option<String>, or: Option<prost_types::Duration>| match text {
        None => Ok(or),
        Some(text) => {
            let span = span::parse(&text).map_err(|why| format!("{what}: {why}"))?;
            prost_types::Duration::try_from(span).map(Some).map_err(|_| format!("{what} is out of range"))
        }
    };
    let mut headers = options.headers.clone();
    headers.extend(given.headers.into_iter().map(|(key, text)| (key, value::text_header(text))));
    let args = given.args.into_iter().enumerate();
    let args = args.map(|(place, arg)| argument(arg).map_err(|why| format!("args[{place}]: {why}")));
    let eta = given.eta.map(|text| text.parse().map_err(|_| format!("eta: {text:?} is no moment"))).transpose()?;
    // A task's own moment stands in place of both.
    let own_moment = eta.is_some() || given.delay.is_some();
    Ok(proto::Task {
        name: given.name,
        args: args.collect::<Result<_, _>>()?,
        id: given.id.unwrap_or_default(),
        queue: given.queue.unwrap_or_else(|| options.queue.clone()),
        routing_key: given.routing_key.unwrap_or_default(),
        headers,
        eta: if own_moment { eta } else { options.eta },
        delay: within("delay", given.delay, options.delay.filter(|_| !own_moment))?,
        priority: given.priority.unwrap_or(options.priority),
        retry_count: given.retry_count.unwrap_or(options.retry_count),
        result_retention: within("keep_result", given.keep_result, options.result_retention)?,
        attempt_timeout: within("attempt_timeout", given.attempt_timeout, options.attempt_timeout)?,
        expires_in: within("expires_in", given.expires_in, options.expires_in)?,
        immutable: given.immutable,
        ..proto::Task::default()
    })
}

/// Plain JSON, or a value with its type as `--json` shows one.
fn argument(given: Value) -> Result<proto::Arg, String> {
    let Some(typed) = Typed::deserialize(&given).ok() else { return Ok(value::from_json(&given)) };
    let text = typed.value.as_str().map_or_else(|| typed.value.to_string(), str::to_owned);
    value::parse_typed(&typed.r#type, &text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Sent {
        #[arg(required_unless_present_any = ["group", "chain", "chord"])]
        name: Option<String>,
        #[arg(allow_negative_numbers = true)]
        args: Vec<String>,
        #[arg(long)]
        queue: Option<String>,
        #[command(flatten)]
        steps: Steps,
    }

    fn named(name: &str) -> proto::Task {
        proto::Task { name: name.into(), queue: "q".into(), delay: Some(Default::default()), ..Default::default() }
    }

    fn sent(line: &[&str]) -> Option<Workflow> {
        let sent = Sent::try_parse_from([&["send"], line].concat()).unwrap();
        sent.steps.workflow(&named(&sent.name.unwrap())).unwrap()
    }

    fn shown(tasks: &[proto::Task]) -> Vec<String> {
        let one = |task: &proto::Task| format!("{}({}) {}", task.name, value::texts(&task.args), task.delay.is_some());
        tasks.iter().map(one).collect()
    }

    #[test]
    fn steps_of_the_command_line_are_chains_groups_and_chords() {
        assert_eq!(sent(&["add", "1", "2"]), None);
        let chain = sent(&["add", "1", "--then", "add", "-5", "x", "--queue", "q", "--then", "neg"]).unwrap();
        assert_eq!((chain.kind, chain.callback.is_none()), (Kind::Chain, true));
        assert_eq!(shown(&chain.tasks), ["add() true", "add(-5, \"x\") false", "neg() false"]);
        assert!(chain.tasks.iter().all(|task| task.queue == "q"), "options are those of all");
        let group = sent(&["add", "--and", "add", "2", "--and", "add", "3"]).unwrap();
        assert_eq!((group.kind, group.tasks.len()), (Kind::Group, 3));
        let chord = sent(&["add", "--and", "add", "2", "--callback", "sum", "9", "--always"]).unwrap();
        assert_eq!((chord.kind, chord.tasks.len(), chord.always), (Kind::Chord, 2, true));
        assert_eq!(shown(chord.callback.as_slice()), ["sum(9) false"]);
        for bad in [&["a", "--then", "b", "--and", "c"][..], &["a", "--group", "f"], &["--group", "f", "--chain", "g"]]
        {
            assert!(Sent::try_parse_from([&["send"], bad].concat()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_has_tasks_in_plain_json_or_with_types() {
        let text = r#"{"tasks": [{"name": "a", "args": [1, "x", {"type": "int8", "value": 5}, {"k": 1}], "retry_count": 3},
            {"name": "b", "id": "i", "queue": "own", "delay": "5s", "headers": {"k": "v"}, "immutable": true}],
            "callback": {"name": "c"}, "always": true}"#;
        let (options, later) = (named(""), proto::Task { delay: None, ..named("") });
        let chord = from_json(Kind::Chord, text, &options, &later).unwrap();
        assert_eq!(shown(&chord.tasks), ["a(1, \"x\", 5, \"{\\\"k\\\":1}\") true", "b() true"]);
        assert_eq!((chord.tasks[0].args[2].r#type.as_str(), chord.tasks[0].retry_count), ("int8", 3));
        assert_eq!((chord.tasks[0].queue.as_str(), chord.tasks[1].queue.as_str()), ("q", "own"));
        assert_eq!((chord.tasks[1].delay.unwrap().seconds, chord.tasks[1].immutable), (5, true));
        assert_eq!((chord.callback.unwrap().delay, chord.always), (None, true));
        let chain = from_json(Kind::Chain, r#"[{"name":"a"},{"name":"b"}]"#, &options, &later).unwrap();
        assert_eq!(shown(&chain.tasks), ["a() true", "b() false"]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_place() {
        let cases = [
            (Kind::Group, "{", "EOF"),
            (Kind::Group, r#"[{"name":"a"},{}]"#, "tasks[1]: missing field `name`"),
            (Kind::Group, r#"[{"name":"a","arg":[]}]"#, "tasks[0]: unknown field `arg`"),
            (Kind::Group, r#"[{"name":"a","args":[{"type":"int8","value":300}]}]"#, "args[0]: 300 is out of range"),
            (Kind::Group, r#"[{"name":"a","delay":"soon"}]"#, "tasks[0]: delay"),
            (Kind::Group, r#"{"tasks":[],"callback":{"name":"c"}}"#, "only a chord"),
            (Kind::Chord, r#"[{"name":"a"}]"#, "a chord has a \"callback\""),
            (Kind::Chord, r#"{"tasks":[],"callback":{}}"#, "callback: missing field"),
        ];
        for (kind, text, why) in cases {
            let error = from_json(kind, text, &named(""), &named("")).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
