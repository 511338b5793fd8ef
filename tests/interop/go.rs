//! Machinery's side: workers, and calls of a producer, each a process of its own.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::support::until;
use crate::support::until::soon;
use crate::world::{QUEUE, World};

/// The variable that names the program.
const PROGRAM: &str = "LINESHAFT_TEST_MACHINERY";

/// Why nothing of Machinery can be run; `None`: it can.
pub(crate) fn missing() -> Option<&'static str> {
    std::env::var_os(PROGRAM).is_none().then_some("LINESHAFT_TEST_MACHINERY does not name Machinery's program")
}

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os(PROGRAM).unwrap());
    command.args(arguments).env_clear().env("BROKER", world.redis.url()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What the program prints, line by line.
async fn answer(world: &World, arguments: &[&str], input: &str) -> Vec<String> {
    let mut child = command(world, arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).await.unwrap();
    drop(pipe);
    let output = soon("Machinery's answer", child.wait_with_output()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Sends tasks as a Machinery producer whose default queue is [`QUEUE`]; answers their ids.
pub(crate) async fn send(world: &World, tasks: &[Value]) -> Vec<String> {
    answer(world, &["send", QUEUE], &json!(tasks).to_string()).await
}

/// Tasks that belong together.
pub(crate) struct Sent {
    /// The id of the group; of a chain, none.
    pub(crate) group: String,
    pub(crate) tasks: Vec<String>,
    /// The id of a chord's callback.
    pub(crate) callback: String,
}

/// Sends workflows as a Machinery producer: each a `group`, a `chord` or a `chain` of tasks, and the callback of each chord.
pub(crate) async fn send_together(world: &World, kind: &str, all: &[(Vec<Value>, Option<Value>)]) -> Vec<Sent> {
    let input: Vec<Value> = all.iter().map(|(tasks, callback)| json!({"Tasks": tasks, "Callback": callback})).collect();
    let told = answer(world, &[kind, QUEUE], &json!(input).to_string()).await;
    let read = |line: String| {
        let mut ids: Vec<String> = serde_json::from_str(&line).unwrap();
        let group = if kind == "chain" { String::new() } else { ids.remove(0) };
        let callback = if kind == "chord" { ids.pop().unwrap() } else { String::new() };
        Sent { group, tasks: ids, callback }
    };
    told.into_iter().map(read).collect()
}

/// A task of Machinery's, with arguments of type and value.
pub(crate) fn task(name: &str, args: &[(&str, Value)]) -> Value {
    let args: Vec<Value> = args.iter().map(|(label, value)| json!({"Type": label, "Value": value})).collect();
    json!({"Name": name, "Args": args})
}

/// What `AsyncResult` gave out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    pub(crate) state: String,
    /// The name of the task, as its state has it.
    pub(crate) name: String,
    /// The text of the error.
    pub(crate) error: String,
    /// Go's type of each value, and the value as Go writes it.
    pub(crate) results: Vec<(String, Value)>,
}

impl Ended {
    fn read(line: &str) -> Self {
        let told: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| told[key].as_str().unwrap().to_owned();
        let value = |value: &Value| (value["Type"].as_str().unwrap().to_owned(), value["Value"].clone());
        let results = told["Results"].as_array().unwrap().iter().map(value).collect();
        Self { state: text("State"), name: text("Name"), error: text("Error"), results }
    }
}

/// Waits for the ends of tasks as a Machinery producer does.
pub(crate) async fn results(world: &World, ids: &[String]) -> Vec<Ended> {
    let arguments: Vec<&str> = std::iter::once("result").chain(ids.iter().map(String::as_str)).collect();
    answer(world, &arguments, "").await.iter().map(|line| Ended::read(line)).collect()
}

/// What `ChordAsyncResult` (`kind` is `chord`; the last id is the callback's) or `ChainAsyncResult` (`chain`) gives out: results or
/// the text of the error.
pub(crate) async fn together(world: &World, kind: &str, ids: &[String]) -> Ended {
    let told = answer(world, &[&format!("{kind}-result")], &json!([ids]).to_string()).await;
    Ended::read(&told[0])
}

/// The end of one task.
pub(crate) async fn result(world: &World, id: &str) -> Ended {
    results(world, &[id.to_owned()]).await.pop().unwrap()
}

/// What `GetPendingTasks` lists of [`QUEUE`].
pub(crate) async fn pending(world: &World) -> Vec<String> {
    answer(world, &["pending", QUEUE], "").await
}

/// What `GetDelayedTasks` lists.
pub(crate) async fn delayed(world: &World) -> Vec<String> {
    answer(world, &["delayed"], "").await
}

/// A worker of Machinery's. Killed when dropped.
pub(crate) struct Worker {
    child: Child,
    /// Ends it when it is closed.
    _input: ChildStdin,
    witness: PathBuf,
}

impl Worker {
    /// Starts a worker of [`QUEUE`] that registers these functions; `name` names its files.
    pub(crate) async fn start(world: &World, name: &str, concurrency: u32, functions: &[&str]) -> Self {
        Self::start_with(world, name, concurrency, functions, &[]).await
    }

    /// The same, with these variables.
    pub(crate) async fn start_with(
        world: &World,
        name: &str,
        concurrency: u32,
        functions: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let witness = world.directory.path().join(format!("{name}.witness"));
        let log = std::fs::File::create(witness.with_extension("log")).unwrap();
        let concurrency = concurrency.to_string();
        let arguments = [&["worker", QUEUE, &concurrency], functions].concat();
        let mut command = command(world, &arguments);
        command.env("WITNESS", &witness).envs(variables.iter().copied()).stderr(log);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = soon("Machinery's worker", output.next_line()).await.unwrap();
        assert_eq!(first.as_deref(), Some("working"));
        // The library prints there too, and is killed by the system once nobody reads.
        tokio::spawn(async move { while let Ok(Some(_)) = output.next_line().await {} });
        Self { child, _input: input, witness }
    }

    /// What it saw: `EVENT NAME TASK`, in order.
    pub(crate) fn witness(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.witness).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The tasks of which it saw this event.
    pub(crate) fn tasks(&self, event: &str) -> Vec<String> {
        let of = |line: String| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0] == event).then(|| words[2].to_owned())
        };
        self.witness().into_iter().filter_map(of).collect()
    }

    /// Waits until it saw this event of so many tasks.
    pub(crate) async fn saw(&self, event: &str, count: usize) -> Vec<String> {
        until(&format!("{count} times {event}"), async || Some(self.tasks(event)).filter(|ids| ids.len() >= count))
            .await
    }

    /// What it said of errors.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.witness.with_extension("log")).unwrap()
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Machinery's worker saw: {:?}\nand said: {}", self.witness(), self.log());
        }
    }
}
