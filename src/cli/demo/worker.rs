//! The worker of the demo: a program on the Rust client as anybody would write it, except that it says on stdout what it
//! runs, for the account.

use std::io::Write;
use std::time::Duration;

use lineshaft_client::{Context, Failure, Worker};

use crate::cli::{self, Exit, output};

/// A worker of the demo.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The demo's server.
    #[arg(long, value_name = "URL")]
    server: String,
    /// The worker's name in the account.
    #[arg(long, value_name = "NAME")]
    name: String,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Exit {
        output::finish(self.work().await, false)
    }

    async fn work(self) -> Result<Exit, cli::Failure> {
        let worker = Worker::builder([self.server])
            .name(self.name)
            .concurrency(4)
            .register("add", |context: Context, a: i64, b: i64| {
                begin(&context, &format!("add({a}, {b})"));
                async move { a.checked_add(b).ok_or_else(|| Failure::fatal("the sum is out of range")) }
            })
            .register("divide", |context: Context, a: i64, b: i64| {
                begin(&context, &format!("divide({a}, {b})"));
                async move {
                    match (a.checked_div(b), a.checked_rem(b)) {
                        (Some(quotient), Some(remainder)) => Ok((quotient, remainder)),
                        _ => Err(Failure::fatal("division by zero")),
                    }
                }
            })
            .register("flaky", |context: Context| {
                begin(&context, "flaky()");
                async move {
                    match context.attempt() {
                        attempt @ 1..=2 => Err(Failure::new(format!("attempt {attempt} was unlucky"))),
                        _ => Ok("third time lucky".to_owned()),
                    }
                }
            })
            .register("doomed", |context: Context, account: String| {
                begin(&context, &format!("doomed({account:?})"));
                async move { Err::<(), _>(Failure::fatal(format!("there is no account {account}"))) }
            })
            .register("greet", |context: Context, name: String| {
                begin(&context, &format!("greet({name:?})"));
                async move { Ok::<_, Failure>(format!("hello {name}")) }
            })
            .register("slow", |context: Context, ms: u64| {
                begin(&context, &format!("slow({ms})"));
                async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok::<_, Failure>(format!("done after {ms} ms"))
                }
            })
            .build()
            .map_err(|error| cli::Failure::new(Exit::Usage, error.to_string()))?;
        worker.run().await.map_err(|error| cli::Failure::new(Exit::Other, error.to_string()))?;
        Ok(Exit::Ok)
    }
}

// Before the work begins, in one write: whoever kills this process for it finds it in the middle of the work.
fn begin(context: &Context, call: &str) {
    let line = output::object([
        ("call", call.into()),
        ("task_id", context.task_id().into()),
        ("task_name", context.task_name().into()),
        ("attempt", context.attempt().into()),
        ("fencing_token", context.fencing_token().into()),
    ]);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}
