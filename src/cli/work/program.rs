//! One run of a program for one attempt: started, fed, read, and stopped if its lease is gone.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use lineshaft_client::proto;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::answer::{self, ERROR_BYTES_MAX, Outcome};
use crate::cli::value;

/// The most of stdout that is read, bytes. Above every server's `Limits.result_bytes_max` by default, so that it is the
/// server that says when a result is too large; this bound only protects the worker's memory.
pub const STDOUT_BYTES_MAX: usize = 16 << 20;

/// How long stdout and stderr are still read after the program itself has ended: something it left running may hold
/// them open for ever.
const LINGER: Duration = Duration::from_secs(1);

/// A program to run for every attempt.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file, as for execvp.
    pub file: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The wait after exit code 75 where the program names none.
    pub retry_delay: Duration,
    /// The time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

/// What the program is told of the attempt.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// `LINESHAFT_TASK_ID`.
    pub task_id: String,
    /// `LINESHAFT_TASK_NAME`.
    pub task_name: String,
    /// `LINESHAFT_QUEUE`.
    pub queue: String,
    /// `LINESHAFT_ATTEMPT`, from 1.
    pub attempt: u32,
    /// `LINESHAFT_FENCING_TOKEN`.
    pub fencing_token: u64,
    /// `LINESHAFT_RETRIES_LEFT`.
    pub retries_left: u32,
    /// `TRACEPARENT`: the parent of the spans that the program records, if the attempt belongs to a trace.
    pub traceparent: Option<String>,
    /// On stdin, as a JSON array.
    pub args: Vec<proto::Arg>,
}

impl Program {
    /// Runs the program for one attempt. When `stop` ends first, the program and all it started get SIGTERM, after
    /// [`Program::stop_grace`] SIGKILL. The program is always reaped, also if this future is dropped.
    pub async fn run(&self, attempt: &Attempt, stop: impl Future<Output = ()>) -> Outcome {
        let mut child = match self.start(attempt) {
            Ok(child) => child,
            Err(error) => {
                // Nothing was tried, and it is not the task's fault (no memory, no process slots, program being replaced).
                let error = format!("program {:?} cannot be started: {error}", self.file);
                return Outcome::Later { after: self.retry_delay, error };
            }
        };
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let stdin = feed(&mut child, &attempt.args);
        let mut stdout = Kept::first(STDOUT_BYTES_MAX);
        let mut stderr = Kept::last(ERROR_BYTES_MAX);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ended = {
            let streams = async { tokio::join!(stdin, stdout.read(out, false), stderr.read(err, true)) };
            tokio::pin!(streams, stop);
            tokio::select! {
                // `streams` may end long before the program, or after it; both must have ended, the streams within LINGER.
                ended = async {
                    let mut streams_open = true;
                    loop {
                        tokio::select! {
                            ((), overflow, _) = &mut streams, if streams_open => {
                                if overflow {
                                    return Ended::Overflow;
                                }
                                streams_open = false;
                            }
                            status = child.wait() => {
                                if streams_open {
                                    let late = timeout(LINGER, &mut streams).await;
                                    if matches!(late, Ok(((), true, _))) {
                                        return Ended::Overflow;
                                    }
                                }
                                return Ended::Exited(status);
                            }
                        }
                    }
                } => ended,
                () = &mut stop => Ended::Revoked,
            }
        };
        match ended {
            Ended::Exited(Ok(status)) => {
                group.leave();
                answer::read(status, &stdout.bytes, &stderr.bytes, self.retry_delay)
            }
            Ended::Exited(Err(error)) => {
                end(&mut child, &group, self.stop_grace).await;
                Outcome::Failed(format!("the end of the program cannot be learnt: {error}"))
            }
            Ended::Overflow => {
                end(&mut child, &group, self.stop_grace).await;
                Outcome::FailedForGood(format!(
                    "the program wrote more than {STDOUT_BYTES_MAX} bytes to stdout; store large results elsewhere and answer a reference"
                ))
            }
            Ended::Revoked => {
                end(&mut child, &group, self.stop_grace).await;
                Outcome::Stopped
            }
        }
    }

    fn start(&self, attempt: &Attempt) -> std::io::Result<Child> {
        Command::new(&self.file)
            .args(&self.args)
            .env("LINESHAFT_TASK_ID", &attempt.task_id)
            .env("LINESHAFT_TASK_NAME", &attempt.task_name)
            .env("LINESHAFT_QUEUE", &attempt.queue)
            .env("LINESHAFT_ATTEMPT", attempt.attempt.to_string())
            .env("LINESHAFT_FENCING_TOKEN", attempt.fencing_token.to_string())
            .env("LINESHAFT_RETRIES_LEFT", attempt.retries_left.to_string())
            // Of another trace, if at all: this program's own.
            .env_remove("TRACEPARENT")
            .envs(attempt.traceparent.iter().map(|context| ("TRACEPARENT", context)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a Ctrl-C at the terminal reaches this process only, which lets programs finish; and a
            // stop reaches all that the program has started.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

enum Ended {
    Exited(std::io::Result<std::process::ExitStatus>),
    Overflow,
    Revoked,
}

// The process group of the program: all that it started, unless that made a group of its own. Killed when dropped, so
// that an attempt which is given up in the middle leaves nothing behind.
struct Group(Option<Pid>);

impl Group {
    // A group that is gone already is as good as stopped, so errors say nothing.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    // The program has ended by itself: what it left running is its own affair, and its id may be given to others.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

// Stops the program and all of its group, and reaps it.
async fn end(child: &mut Child, group: &Group, grace: Duration) {
    group.signal(Signal::TERM);
    if timeout(grace, child.wait()).await.is_err() {
        group.signal(Signal::KILL);
        let _ = child.wait().await;
    }
}

// Writes the arguments and closes stdin. A program that does not read them is free to: its own end closes the pipe.
fn feed(child: &mut Child, args: &[proto::Arg]) -> impl Future<Output = ()> + use<> {
    let pipe = child.stdin.take();
    let json = serde_json::Value::from(args.iter().map(value::to_json).collect::<Vec<_>>()).to_string();
    async move {
        if let Some(mut pipe) = pipe {
            let _ = pipe.write_all(json.as_bytes()).await;
            let _ = pipe.write_all(b"\n").await;
        }
    }
}

// What is kept of a stream: its first or its last bytes.
struct Kept {
    bytes: Vec<u8>,
    bytes_max: usize,
    end: bool,
}

impl Kept {
    fn first(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, end: false }
    }

    fn last(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, end: true }
    }

    // Reads to the end, and copies to this process's stderr if asked. True if the first bytes are not all there is.
    async fn read(&mut self, from: Option<impl AsyncRead + Unpin>, echo: bool) -> bool {
        let Some(mut from) = from else { return false };
        let mut chunk = vec![0; 16 << 10];
        // A pipe that cannot be read has ended for us.
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            let Some(read) = chunk.get(..count) else { return false };
            if echo {
                let _ = tokio::io::stderr().write_all(read).await;
            }
            self.bytes.extend_from_slice(read);
            if self.end {
                let surplus = self.bytes.len().saturating_sub(self.bytes_max);
                self.bytes.drain(..surplus);
            } else if self.bytes.len() > self.bytes_max {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::future::pending;

    fn shell(script: &str) -> Program {
        Program {
            file: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            retry_delay: Duration::from_secs(10),
            stop_grace: Duration::from_secs(20),
        }
    }

    async fn run(script: &str, args: &[&str]) -> Outcome {
        let args = args.iter().map(|text| value::parse(text).unwrap()).collect();
        let traceparent = Some("00-a-b-01".to_owned());
        let attempt =
            Attempt { task_id: "task_1".into(), attempt: 2, fencing_token: 7, traceparent, args, ..Attempt::default() };
        shell(script).run(&attempt, pending()).await
    }

    fn values(outcome: Outcome) -> Vec<Value> {
        match outcome {
            Outcome::Success(results) => results.iter().map(value::to_json).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn arguments_come_on_stdin_as_a_json_array() {
        assert_eq!(
            values(run("cat", &["1", "2.5", "a\"b", "[]string:[\"x\"]"]).await),
            [json!(1), json!(2.5), json!("a\"b"), json!(["x"])]
        );
    }

    #[tokio::test]
    async fn the_attempt_is_described_in_the_environment() {
        let described = r#""$LINESHAFT_TASK_ID" "$LINESHAFT_ATTEMPT" "$LINESHAFT_FENCING_TOKEN" "$TRACEPARENT""#;
        let script = &format!(r#"printf '["%s", %s, %s, "%s"]' {described}"#);
        assert_eq!(values(run(script, &[]).await), [json!("task_1"), json!(2), json!(7), json!("00-a-b-01")]);
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_and_closes_early_still_ends_well() {
        let long = "x".repeat(1 << 20);
        assert_eq!(values(run("exec 1>&-; exit 0", &[&long]).await), [] as [Value; 0]);
        assert_eq!(values(run("echo 1", &[&long]).await), [json!(1)]);
    }

    #[tokio::test]
    async fn a_failing_program_is_quoted_from_its_stderr() {
        assert_eq!(run("echo boom >&2; exit 1", &[]).await, Outcome::Failed("boom".into()));
        assert_eq!(run("echo never >&2; exit 65", &[]).await, Outcome::FailedForGood("never".into()));
    }

    #[tokio::test]
    async fn endless_output_is_stopped() {
        let outcome = timeout(Duration::from_secs(60), run("yes", &[])).await.unwrap();
        assert!(matches!(outcome, Outcome::FailedForGood(error) if error.contains("stdout")));
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_does_not_hold_up_its_end() {
        let outcome = timeout(Duration::from_secs(15), run("sleep 30 & echo 5", &[])).await.unwrap();
        assert_eq!(values(outcome), [json!(5)]);
    }

    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A program that starts another and writes its id to `file`.
    fn parent(file: &std::path::Path, before: &str) -> Program {
        shell(&format!("{before} sleep 30 & echo $! > {0}.new; mv {0}.new {0}; wait; wait", file.display()))
    }

    async fn child_is_gone(file: &std::path::Path) {
        let child: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        until("the program's child is gone", || match std::fs::read_to_string(format!("/proc/{child}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        })
        .await;
    }

    #[tokio::test]
    async fn a_lost_lease_stops_the_program_and_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("child");
        let stop = until("the program has begun", || file.exists());
        assert_eq!(parent(&file, "").run(&Attempt::default(), stop).await, Outcome::Stopped);
        child_is_gone(&file).await;
    }

    #[tokio::test]
    async fn a_program_deaf_to_sigterm_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("child");
        let stop = until("the program has begun", || file.exists());
        let program = Program { stop_grace: Duration::from_millis(50), ..parent(&file, "trap '' TERM;") };
        assert_eq!(program.run(&Attempt::default(), stop).await, Outcome::Stopped);
        child_is_gone(&file).await;
    }

    #[tokio::test]
    async fn an_attempt_given_up_in_the_middle_leaves_nothing_running() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("child");
        let (program, attempt) = (parent(&file, ""), Attempt::default());
        tokio::select! {
            outcome = program.run(&attempt, pending()) => panic!("{outcome:?}"),
            () = until("the program has begun", || file.exists()) => {}
        }
        child_is_gone(&file).await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_tried_again_later() {
        let program = Program { file: "/nonexistent/program".into(), ..shell("") };
        let outcome = program.run(&Attempt::default(), pending()).await;
        assert!(matches!(outcome, Outcome::Later { error, .. } if error.contains("cannot be started")));
    }
}
