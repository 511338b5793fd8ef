//! `send`: send one task, and wait for its results if asked to.

use std::collections::HashMap;
use std::time::Duration;

use lineshaft_client::proto;
use lineshaft_client::proto::idempotency::Until;
use prost_types::Timestamp;

use super::workflow::Steps;
use super::{Exit, Failure, Remote, exit, output, remote, span, together, value, wait};

const ARGUMENTS_HELP: &str = r#"Arguments:
  5            int64 (uint64 beyond its range)    int8:5             a narrower integer
  2.5          float64                            float32:2.5        the narrower float
  true, false  bool                               string:5           the text 5
  anything else is a string                       []string:["a"]     a list, as a JSON array
                                                  []byte:aGk=        bytes, as base64

Options hold for all tasks that belong together; --delay and --eta for those sent first. A FILE has a JSON list of tasks:
  [{"name": "add", "args": [1, 2], "queue": "media", "retry_count": 3, "delay": "5s"}]
and that of a chord: {"tasks": [...], "callback": {"name": "sum"}, "always": false}"#;

/// Send a task, or several that belong together; print the id, or wait and print the results.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{ARGUMENTS_HELP}\n\n{}", exit::HELP))]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Name under which a worker registered the function.
    #[arg(value_name = "NAME", required_unless_present_any = ["group", "chain", "chord"])]
    name: Option<String>,
    /// Arguments; see below for their types.
    #[arg(value_name = "ARG", value_parser = value::parse, allow_negative_numbers = true)]
    args: Vec<proto::Arg>,
    /// Queue; unset: the server's default queue.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Id, 1 to 200 bytes; unset: the server makes one. Sending a known id again runs it again. Of tasks that belong together
    /// it names them all, and a known one is refused.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Not before this moment, as 2026-11-24T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "delay")]
    eta: Option<Timestamp>,
    /// Not before this long from now.
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    delay: Option<Duration>,
    /// How often a failed attempt is retried, after 1 s, 2 s, 3 s, 5 s, 8 s and so on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// 0 (lowest) to 255; higher ones first where the broker can.
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u8,
    /// How long the result is kept after the end, 1s to 365d. Default: as the server is configured, 1h.
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    keep_result: Option<Duration>,
    /// How long one attempt may run, 100ms to 30d; a longer one has failed, and is retried if retries are left. Default: no
    /// limit.
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    attempt_timeout: Option<Duration>,
    /// Not begun after this long from now, 1s to 365d: what still waits then ends in FAILURE as expired. Default: no end.
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    expires_in: Option<Duration>,
    /// A header as KEY=TEXT, carried to the worker; may be repeated.
    #[arg(long = "header", value_name = "KEY=TEXT", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Name of this send, 1 to 200 bytes: sent again under it within the server's request window (1 h) it is sent once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Not sent while a task with this key is in force; the id of that one is printed.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["then", "and", "callback", "group", "chain", "chord"])]
    idempotency_key: Option<String>,
    /// How long the idempotency key is in force: started, ended, or a span such as 10m, at most 7d. Default: ended.
    #[arg(long, value_name = "WHEN", value_parser = until, requires = "idempotency_key")]
    until: Option<Until>,
    /// Wait for the end and print the results, one a line, as `wait` does.
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
          value_parser = span::parse)]
    wait: Option<Duration>,
    #[command(flatten)]
    steps: Steps,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is not a moment such as 2026-11-24T18:00:00Z"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no \"=\""))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn until(text: &str) -> Result<Until, String> {
    match text {
        "started" => Ok(Until::Started(true)),
        "ended" => Ok(Until::Ended(true)),
        span => {
            let parsed = span::parse(span).map_err(|why| format!("{why}; or write started or ended"))?;
            prost_types::Duration::try_from(parsed)
                .map(Until::Duration)
                .map_err(|_| "the span is out of range".to_owned())
        }
    }
}

fn duration(span: Option<Duration>, what: &str) -> Result<Option<prost_types::Duration>, Failure> {
    let out_of_range = |_| Failure::usage(format!("{what} is out of range"));
    span.map(prost_types::Duration::try_from).transpose().map_err(out_of_range)
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.send().await, json)
    }

    async fn send(self) -> Result<Exit, Failure> {
        let (remote, patience) = (self.remote.clone(), self.wait);
        let json = remote.json;
        let steps = self.steps.clone();
        let task = self.task()?;
        if let Some(workflow) = steps.workflow(&task)? {
            return together::send(&remote, workflow, task.id, task.request_id, patience).await;
        }
        let request = proto::SendTaskRequest { task: Some(task) };
        let connection = remote.connect().await?;
        let sent = connection.tasks().send_task(remote::quick(request)).await?.into_inner();
        let (id, already) = (sent.task_id, sent.already_sent);
        let Some(patience) = patience else {
            if already && !json {
                output::remark("already sent");
            }
            let object = |id: String| output::object([("task_id", id.into()), ("already_sent", already.into())]);
            output::line(&if json { object(id).to_string() } else { id })?;
            return Ok(Exit::Ok);
        };
        if !json {
            output::remark(&format!("{} {id}", if already { "already sent" } else { "sent" }));
        }
        wait::report(wait::until_ended(&connection, &id, patience).await?, patience, json)
    }

    fn task(self) -> Result<proto::Task, Failure> {
        let mut headers = HashMap::with_capacity(self.headers.len());
        for (key, text) in self.headers {
            if headers.insert(key.clone(), value::text_header(text)).is_some() {
                return Err(Failure::usage(format!("header {key:?} is given twice")));
            }
        }
        let delay = duration(self.delay, "the delay")?;
        let result_retention = duration(self.keep_result, "--keep-result")?;
        let attempt_timeout = duration(self.attempt_timeout, "--attempt-timeout")?;
        let expires_in = duration(self.expires_in, "--expires-in")?;
        Ok(proto::Task {
            id: self.id.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
            queue: self.queue.unwrap_or_default(),
            args: self.args,
            headers,
            eta: self.eta,
            delay,
            priority: self.priority.into(),
            retry_count: self.retries,
            result_retention,
            attempt_timeout,
            expires_in,
            request_id: self.request_id.unwrap_or_default(),
            idempotency: self.idempotency_key.map(|key| proto::Idempotency { key, until: self.until }),
            ..proto::Task::default()
        })
    }
}
