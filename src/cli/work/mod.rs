//! `work`: makes any program a worker. The contract with the program is in `docs/cli.md`.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lineshaft_client::{Function, Stopped, Worker};
use tokio_util::task::TaskTracker;

use super::{Exit, Failure, Remote, output, span};
use program::Program;

pub mod answer;
pub mod attempt;
pub mod program;

const CONTRACT: &str = "\
The program is started once for every attempt.
  stdin    the arguments, as one JSON array
  stdout   one JSON value or nothing: an array is several results, any other value one
  stderr   is passed on; its last 4 KiB are the error text of a failure
  env      LINESHAFT_TASK_ID, LINESHAFT_TASK_NAME, LINESHAFT_QUEUE, LINESHAFT_ATTEMPT,
           LINESHAFT_RETRIES_LEFT, LINESHAFT_FENCING_TOKEN, TRACEPARENT

Exit codes of the program:
  0      success
  65     the task has failed for good, whatever retries are left
  75     again later, at no cost of a retry: after --retry-delay, or as many seconds as
         {\"retry_after_seconds\": N} on stdout says
  other  the attempt has failed; the task's retries decide

Ctrl-C or SIGTERM lets running programs finish; the same again stops them.

Exit codes:
  0  stopped as asked
  2  wrong usage
  6  any other error";

/// Make any program a worker: arguments as JSON on stdin, results as JSON on stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = CONTRACT)]
pub struct Command {
    #[command(flatten)]
    remote: Remote,
    /// Name of the tasks to take; may be repeated.
    #[arg(long = "task", value_name = "NAME", required = true)]
    tasks: Vec<String>,
    /// Queue to take them from; unset: the server's default queue.
    #[arg(long, value_name = "QUEUE", default_value = "", hide_default_value = true)]
    queue: String,
    /// How many programs run at once, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// Name of this worker, for people; unset: host and process id.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The wait after exit code 75 where the program names none.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span::parse)]
    retry_delay: Duration,
    /// The time between SIGTERM and SIGKILL for a program whose lease is gone.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span::parse)]
    stop_grace: Duration,
    /// How long running programs may go on after Ctrl-C or SIGTERM.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = span::parse)]
    finish_grace: Duration,
    /// The program and its arguments, behind "--".
    #[arg(last = true, required = true, value_name = "PROGRAM", num_args = 1..)]
    program: Vec<OsString>,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        let json = self.remote.json;
        output::finish(self.work().await, json)
    }

    async fn work(self) -> Result<Exit, Failure> {
        let mut words = self.program.into_iter();
        let file = words.next().unwrap_or_default();
        // Found now, so that a slip in the name ends here and not in every task.
        if find(&file).is_none() {
            return Err(Failure::usage(format!("{file:?} is not a program that can be run")));
        }
        let program =
            Program { file, args: words.collect(), retry_delay: self.retry_delay, stop_grace: self.stop_grace };
        let (program, attempts, json) = (Arc::new(program), TaskTracker::new(), self.remote.json);
        let running = attempts.clone();
        let function = Function::raw(move |context, args| {
            let (program, token) = (Arc::clone(&program), running.token());
            async move {
                let _token = token;
                attempt::run(&program, context, args, json).await
            }
        });
        let mut builder = Worker::builder(self.remote.url())
            .queue(self.queue)
            .concurrency(self.concurrency)
            .grace(self.finish_grace)
            .register_all(self.tasks.into_iter().map(|name| (name, function.clone())));
        if let Some(name) = self.name {
            builder = builder.name(name);
        }
        let worker = builder.build().map_err(|error| Failure::usage(error.to_string()))?;
        let stopped = worker.run().await.map_err(|error| Failure::new(Exit::Other, error.to_string()))?;
        // After a stop at once the programs may still be in their grace between the two signals.
        attempts.close();
        let _ = tokio::time::timeout(self.stop_grace, attempts.wait()).await;
        match stopped {
            Stopped::Unreported { reports } => Err(Failure::new(
                Exit::Unavailable,
                format!("no server took the last {reports} reports: these tasks are made again"),
            )),
            Stopped::Gracefully | Stopped::AtOnce => Ok(Exit::Ok),
        }
    }
}

// As execvp looks: a name with a slash is a path, any other is sought in PATH.
fn find(file: &OsString) -> Option<PathBuf> {
    let path = Path::new(file);
    if path.components().count() > 1 {
        return is_executable(path).then(|| path.to_owned());
    }
    let places = std::env::var_os("PATH")?;
    std::env::split_paths(&places).map(|place| place.join(path)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
